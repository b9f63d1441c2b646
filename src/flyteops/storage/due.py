"""Due timers: their selection, and checks of the rulings on them. The same for all backends."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from flyteops.errors import StoreError
from flyteops.model import FlowVersion, Progress
from flyteops.ruling import Ask, DueStep, Fail, Firing, Repeat, Timetable
from flyteops.storage.base import FailedTimer, NotLoadedError, Rules, TimerKey
from flyteops.storage.row import MICROSECOND, to_instant

T = TypeVar("T")

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

CLOCK_SLACK = 1_000_000
"""The microseconds by which a timer on a shared store may be too long without being shortened after
a change of the clock: it may have begun between the reading of the clock and the change, or at a
server whose clock is ahead, and would be over too early otherwise. The same for a lease, on any
store, when all leases are restarted."""

ATTENDED = "attended"
"""The kind of the note with the last server activity on a shared store, by the store's clock."""


def check_timetables(version: FlowVersion, timetables: Iterable[Timetable]) -> None:
    """Raise `StoreError` for a step that would be due as soon as its flow is saved."""
    for each in timetables:
        if each.next_at is not None and each.next_at <= version.saved_at:
            raise StoreError(
                f"The step {each.step_id!r} of the flow {version.flow.name!r}, saved at {version.saved_at.isoformat()}, would be"
                f" due at {each.next_at.isoformat()} already; nothing was changed."
            )


def step_key(step: DueStep) -> TimerKey:
    """Return the key of a due step."""
    return TimerKey(step.flow_name, step.flow_uuid, step.step_index)


def actions_of(keys: Collection[TimerKey]) -> frozenset[str]:
    """Return the ids of those that are timers of actions."""
    return frozenset(key.name for key in keys if key.is_action)


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


class Desk:
    """Applies rules to timers, one by one, and notes those that fail.

    `is_general` returns whether an error is about the store, and so about every timer.
    """

    def __init__(
        self, rules: Rules, limit: int, leave_out: Collection[TimerKey], is_general: Callable[[Exception], bool]
    ) -> None:
        self._rules = rules
        self._is_general = is_general
        self.limit = limit
        self.left_out = frozenset(leave_out)
        self.failed: list[FailedTimer] = []

    @property
    def reach(self) -> int:
        """The number of timers to read so that enough of them are left."""
        return self.limit + len(self.passed_over)

    @property
    def passed_over(self) -> frozenset[TimerKey]:
        """The timers that do not count: those to leave out, and those that have failed."""
        return self.left_out | {each.key for each in self.failed}

    def chosen(self, rows: Iterable[T], key_of: Callable[[T], TimerKey]) -> Sequence[T]:
        """Return the rows to process."""
        return [row for row in rows if key_of(row) not in self.left_out][: self.limit]

    def fail(self, key: TimerKey, error: Exception) -> None:
        """Note that a timer has failed; raise an error that does not concern it alone."""
        if isinstance(error, NotLoadedError) or self._is_general(error):
            raise error
        self.failed.append(FailedTimer(key, error))

    def lost(self, progress: Progress) -> Repeat | Ask | Fail:
        """Rule on a lost action."""
        return self._rules.lost(progress)

    def due(self, step: DueStep) -> Firing:
        """Rule on a due step.

        Raise `StoreError` for a ruling that would make it due again at once.
        """
        firing = self._rules.due(step)
        if firing.next_at is not None and firing.next_at <= step.due_at:
            raise StoreError(
                f"the next time of a schedule must be later than the last, but {firing.next_at.isoformat()} would follow"
                f" {step.due_at.isoformat()}"
            )
        return firing
