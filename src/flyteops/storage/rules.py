"""The rules of the storage port, written once for all backends.

Preconditions and their messages, the state changes that timers cause, the clock rules of shared
stores, and the selection of due timers and of unused flow versions. Pure: times are arguments, in
microseconds since the epoch as stores keep them unless typed otherwise.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec

from flyteops.errors import BusyError, ConflictError, NotFoundError, StoreError, UnavailableError
from flyteops.model import (
    FATAL,
    ActionSnapshot,
    ActionState,
    Evaluation,
    Event,
    FlowVersion,
    RoutingKey,
)
from flyteops.storage.base import (
    KEPT_KEYS,
    Claimed,
    FailedTimer,
    NotLoadedError,
    TimerKey,
    TimerRules,
    lease_token,
)
from flyteops.storage.query import Purged, Retention, VersionBound
from flyteops.storage.row import DELAYED, MICROSECOND, to_instant, to_microseconds
from flyteops.transition import (
    DueSchedule,
    FailAction,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
    ScheduleEntry,
)

T = TypeVar("T")

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

FOREVER = 2**63 - 1
"""A time after all others."""

UNFINISHED = frozenset([ActionState.PENDING, ActionState.UNKNOWN])
"""The states in which an action may be finished or released."""

CLOCK_SLACK = 1_000_000
"""The microseconds by which a timer on a shared store may be too long without being shortened after
a change of the clock: it may have begun between the reading of the clock and the change, or at a
server whose clock is ahead, and would be over too early otherwise. The same for a lease, on any
store, when all leases are restarted."""

ATTENDED = "attended"
"""The kind of the note with the last server activity on a shared store, by the store's clock."""

# ------------------------------------------------------------------------------------ preconditions


def found(value: T | None, noun: str, key: str) -> T:
    """Return the value; raise `NotFoundError` if it is None."""
    if value is None:
        raise missing(noun, key)
    return value


def missing(noun: str, key: str) -> NotFoundError:
    """Return the error for a record that does not exist."""
    return NotFoundError(f"There is no {noun} {key!r}.")


def taken(noun: str, key: str) -> ConflictError:
    """Return the error for a record that exists already."""
    article = "an" if noun[:1] in "aeiou" else "a"
    return ConflictError(f"There is {article} {noun} {key!r} already; nothing was changed.")


def exists_already(reason: object) -> ConflictError:
    """Return the error for a database's report of a duplicate key."""
    return ConflictError(f"It exists already ({reason}); nothing was changed.")


def require_open(resource: T | None) -> T:
    """Return the resource of an open store; raise `UnavailableError` if it is None."""
    if resource is None:
        raise closed()
    return resource


def closed() -> UnavailableError:
    """Return the error for a verb of a store that is not open."""
    return UnavailableError("The store is closed.")


def require_capacity(waiting: int, limit: int) -> None:
    """Raise `BusyError` when so many requests are waiting already."""
    if waiting >= limit:
        raise BusyError


def require_finishable(action: ActionSnapshot) -> None:
    """Raise `ConflictError` unless the action may be finished with a result."""
    if action.state not in UNFINISHED:
        raise _wrong_state(action, "only a PENDING or UNKNOWN action can be finished")


def require_releasable(action: ActionSnapshot) -> None:
    """Raise `ConflictError` unless the action may be returned to its queue."""
    if action.state not in UNFINISHED:
        raise _wrong_state(action, "only a PENDING or UNKNOWN action can be handed out again")


def require_pending(action: ActionSnapshot) -> None:
    """Raise `ConflictError` unless the lease of the action may be extended."""
    if action.state is not ActionState.PENDING:
        raise _wrong_state(action, "only the lease of a PENDING action can be extended")


def _wrong_state(action: ActionSnapshot, rule: str) -> ConflictError:
    return ConflictError(f"Action {action.action_id!r} is {action.state}; {rule}.")


def require_loading(checkpoint: T | None) -> T:
    """Return the checkpoint of a load; raise `ConflictError` if none has begun."""
    if checkpoint is None:
        raise ConflictError("Nothing is being loaded into this store.")
    return checkpoint


def not_empty(advice: str = "name one that is") -> ConflictError:
    """Return the error for a load into a store that has data."""
    return ConflictError(f"The store is not empty; {advice}.")


# ---------------------------------------------------------------------------- events and their keys


def oldest_valid_key(received_at: int) -> int:
    """Return the time since when keys of events still count, for an event received at this time."""
    return received_at - KEPT_KEYS // MICROSECOND


def available_actions(outcome: Evaluation) -> list[RoutingKey]:
    """Return the addresses of the new actions that may be claimed at once."""
    return [action.routing_key for action in outcome.actions if action.not_before is None]


# -------------------------------------------------------------------------------- states of actions


class StateChange(NamedTuple):
    """The columns that change with an action's state.

    `state` is the stored state, and `entry` the addition to its history, which shows DELAYED as
    NEW. `wait` is the length of a delay, from which a changed clock derives a new `due_at`.
    """

    state: str
    entry: str
    due_at: int | None = None
    wait: int | None = None


def initial_state(due_at: int | None) -> str:
    """Return the stored state of a new action that may be claimed at this time, or at once."""
    return "NEW" if due_at is None else DELAYED


def wait_until(due_at: int | None, now: int) -> int | None:
    """Return the length of a delay that begins now."""
    return None if due_at is None else max(due_at - now, 0)


def final_state(result: Event) -> str:
    """Return the state in which an action ends with this result."""
    return "FATAL" if result.name == FATAL else "SUCCESS"


def released(now: int) -> StateChange:
    """Return the change of an action that is returned to its queue."""
    return StateChange("NEW", f"NEW {now}")


def after_loss(decision: RetryAction | NeedsOperator, now: int) -> StateChange:
    """Return the change of a lost action that does not end: a delayed retry, or an operator's."""
    if isinstance(decision, NeedsOperator):
        return StateChange("UNKNOWN", f"UNKNOWN {now}")
    due_at = to_microseconds(decision.at)
    return StateChange(DELAYED, f"NEW {now}", due_at, wait_until(due_at, now))


def with_lease(claimed: Claimed, timeout: int | None, now: int, seed: bytes) -> Claimed:
    """Return a claimed action with its lease, if it has a timeout."""
    if timeout is None:
        return claimed
    return msgspec.structs.replace(
        claimed,
        lease=lease_token(seed, claimed.action_id, claimed.attempt),
        timeout=timedelta(microseconds=timeout),
        expires_at=to_instant(now + timeout),
    )


# -------------------------------------------------------------------------------- clocks and timers


def check_timetables(version: FlowVersion, timetables: Iterable[ScheduleEntry]) -> None:
    """Raise `StoreError` for a step that would be due as soon as its flow is saved."""
    for each in timetables:
        if each.next_at is not None and each.next_at <= version.saved_at:
            raise StoreError(
                f"The step {each.step_id!r} of the flow {version.flow.name!r}, saved at"
                f" {version.saved_at.isoformat()}, would be due at {each.next_at.isoformat()}"
                " already; nothing was changed."
            )


def next_time(table: ScheduleEntry, kept: Mapping[tuple[str, str], int | None]) -> int | None:
    """Return a step's due time in a new version, given those `kept` from the previous version."""
    next_at = None if table.next_at is None else to_microseconds(table.next_at)
    return kept.get((table.step_id, table.rule), next_at)


def step_key(step: DueSchedule) -> TimerKey:
    """Return the key of a due step."""
    return TimerKey(step.flow_name, step.flow_uuid, step.step_index)


def instant_of(microseconds: object) -> datetime | None:
    """Return when a timer is due, None if it is not a time; clamped to the representable range."""
    if not isinstance(microseconds, int):
        return None
    try:
        return to_instant(microseconds)
    except OverflowError:
        return LAST if microseconds > 0 else FIRST


def first_of(times: Iterable[object]) -> datetime | None:
    """Return the earliest due time of some columns."""
    return min((at for each in times if (at := instant_of(each)) is not None), default=None)


def has_been_away(known: bytes | None, now: int, longest: timedelta) -> bool:
    """Return whether the noted last server activity is too long before `now`, by the store's clock.

    True also for a note that is unreadable, or as far ahead because the store's clock was set back.
    """
    if known is None or not known.isdigit():
        return True
    return abs(now - int(known)) > longest // MICROSECOND


class TimerBatch:
    """Applies rules to due timers, one by one, and collects those that fail.

    `is_general` returns whether an error is about the store, and so about every timer.
    """

    def __init__(
        self,
        rules: TimerRules,
        limit: int,
        leave_out: Collection[TimerKey],
        is_general: Callable[[Exception], bool],
    ) -> None:
        self._rules = rules
        self._is_general = is_general
        self.limit = limit
        self.left_out = frozenset(leave_out)
        self.failed: list[FailedTimer] = []

    @property
    def read_limit(self) -> int:
        """The number of timers to read so that enough of them are left."""
        return self.limit + len(self.excluded)

    @property
    def excluded(self) -> frozenset[TimerKey]:
        """The timers that do not count: those to leave out, and those that have failed."""
        return self.left_out | {each.key for each in self.failed}

    def select(self, rows: Iterable[T], key_of: Callable[[T], TimerKey]) -> Sequence[T]:
        """Return the rows to process."""
        return [row for row in rows if key_of(row) not in self.left_out][: self.limit]

    def fail(self, key: TimerKey, error: Exception) -> None:
        """Note that a timer has failed; raise an error that does not concern it alone."""
        if isinstance(error, NotLoadedError) or self._is_general(error):
            raise error
        self.failed.append(FailedTimer(key, error))

    def on_timeout(self, snapshot: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        """Decide about a lost action."""
        return self._rules.on_timeout(snapshot)

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        """Decide about a due step.

        Raise `StoreError` for a decision that would make it due again at once.
        """
        firing = self._rules.on_due(step)
        if firing.next_at is not None and firing.next_at <= step.due_at:
            raise StoreError(
                "the next time of a schedule must be later than the last, but"
                f" {firing.next_at.isoformat()} would follow {step.due_at.isoformat()}"
            )
        return firing


# ---------------------------------------------------------------------------------------- retention


def finished_limit(what: Retention) -> int:
    """Return the time before which finished executions and unreferenced events are removed."""
    return to_microseconds(max(what.before, what.finished_before))


def is_execution_older(execution: int | None, event: int | None) -> bool:
    """Return whether the oldest finished execution is removed before the oldest free event."""
    return event is None or (execution is not None and execution <= event)


def purged(executions: int, events: int, keys: int, *, limit: int, excess: int) -> Purged:
    """Return the result of a step of `purge`; `excess` are the bytes over the limit before it."""
    over = 0 if executions or events else excess
    return Purged(executions, events, more=limit in (executions, events, keys), over_bytes=over)


def surplus(
    unused: Iterable[tuple[T, int, int]], what: VersionBound, limit: int
) -> tuple[list[T], int]:
    """Choose the flow versions to remove; return them, and the bytes of unused ones left.

    `unused` are all unused versions, the oldest first: each with its length, and the time since
    when it is unused.
    """
    rows = list(unused)
    left = sum(length for _, length, _ in rows)
    before = to_microseconds(what.unused_before)
    chosen: list[T] = []
    for version, length, since in rows:
        if left <= what.max_bytes or len(chosen) == limit:
            break
        if since < before:
            chosen.append(version)
            left -= length
    return chosen, left
