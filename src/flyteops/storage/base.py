"""The storage port: the contract of every backend, and its only specification.

Each verb is atomic and durable: when it returns, the change survives a crash; when it raises,
nothing has changed. The contract suite in `flyteops.testing` holds every backend to these
docstrings.

Errors of every verb: `UnavailableError` when the store cannot be reached or written at the moment
(nothing was changed, the caller may retry), `BusyError` when too many requests are waiting already,
and `OutcomeUnknownError` when a change was sent and its answer lost: it is applied as a whole, now
or a little later, or not at all. `open` raises `StoreError` when an operator must step in: a
foreign, corrupt or newer database, or one that another server holds.
"""

from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from datetime import datetime, timedelta
from hashlib import blake2b
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import msgspec

from flyteops.background import BackgroundLoops
from flyteops.errors import UnavailableError
from flyteops.model import (
    Action,
    ActionSnapshot,
    DataItem,
    Evaluation,
    Event,
    EventRecord,
    Execution,
    FlowVersion,
    Note,
    Pack,
    PackRef,
    RoutingKey,
)
from flyteops.storage.query import (
    ActionFilter,
    ActionStatus,
    EventFilter,
    ExecutionFilter,
    Page,
    Purged,
    PurgedVersions,
    Retention,
    Rows,
    VersionBound,
)
from flyteops.storage.record import Checkpoint, Stored
from flyteops.transition import (
    DueSchedule,
    FailAction,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
    ScheduleEntry,
)

KEPT_KEYS = timedelta(days=1)
"""How long the key of an event is kept."""


Decide = Callable[[ActionSnapshot], Evaluation | LateResult | None]
"""Decides the consequences of a result from the current progress; None if it was applied before.

Pure, and called again if another server was faster, so that it always sees the state that it
decides upon. It may run in another thread than the caller. An exception, such as `NotLoadedError`,
ends the verb and is passed to the caller.
"""

Check = Callable[[ActionSnapshot], None]
"""Raises unless an operation on an action is allowed at its progress. Pure, may be called again."""


class Claimed(msgspec.Struct, frozen=True):
    """A claimed action, as a pack needs it for executing.

    With a time limit (`timeout`) there is a `lease`, the token that the result has to show, and its
    end `expires_at`. The `revision` distinguishes this claim from all others of the action, see
    `ActionSnapshot`; the attempt does not.
    """

    action_id: str
    name: str
    input: bytes
    attempt: int = 1
    lease: str | None = None
    timeout: timedelta | None = None
    expires_at: datetime | None = None
    revision: int = 0


class ClaimOrder(NamedTuple):
    """The arguments of a claim, see `Store.claim`."""

    pack: PackRef
    at: datetime
    limit: int = 1
    seed: bytes = b""


def lease_token(seed: bytes, action_id: str, attempt: int) -> str:
    """Return a lease's token: the attempt, and a part that cannot be guessed without the seed."""
    text = action_id.encode() + attempt.to_bytes(4)
    return f"{attempt}-{blake2b(text, key=seed, digest_size=9).hexdigest()}"


class NotLoadedError(Exception):
    """A decision needs a flow version that is not in memory: the verb ends without any effect.

    The caller loads the version and repeats the verb.
    """

    def __init__(self, flow_uuid: str) -> None:
        super().__init__(f"The flow version {flow_uuid!r} is not in memory.")
        self.flow_uuid = flow_uuid


class TimerRules(Protocol):
    """Rules for timers that are due. Pure.

    A rule that raises `NotLoadedError` ends the verb. Any other exception concerns only the timer
    being ruled on.
    """

    def on_timeout(self, snapshot: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        """Rule on an action whose pack was silent for too long."""

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        """Rule on a step that is due."""


class TimerKey(NamedTuple):
    """Identifies a timer: an action by its id, a step by its flow's name, version and its index."""

    name: str
    flow_uuid: str = ""
    step_index: int = -1

    @property
    def is_action(self) -> bool:
        return self.step_index < 0


class FailedTimer(msgspec.Struct, frozen=True):
    """A due timer that cannot be processed. It is unchanged, and still due."""

    key: TimerKey
    error: Exception


class ProcessedTimers(msgspec.Struct, frozen=True):
    """The result of `process_due`: the number of timers, and the addresses with new actions.

    `next_at` is the next due time; timers that failed, or were left out, do not count for it.
    """

    done: int
    next_at: datetime | None
    arrived: tuple[RoutingKey, ...] = ()
    failed: tuple[FailedTimer, ...] = ()


class ChangeCounters(msgspec.Struct, frozen=True):
    """Change counters per kind of data (not the last contact of packs), and the store's clock.

    `is_loading` while the store is being loaded and must not be used.
    """

    flows: int = 0
    items: int = 0
    packs: int = 0
    notes: int = 0
    now: datetime | None = None
    is_loading: bool = False


class Store(ABC):
    """A store of Flyte's data. Use as an async context manager, or `open` and `close`.

    `is_shared` if several servers may use it at the same time.
    """

    is_shared = False
    loops: BackgroundLoops
    """The health of the store's own background loops; a service replaces it with its own."""

    def __new__(cls, *_values: object, **_options: object) -> Self:
        """Return a store whose loops report to a registry of its own."""
        store = super().__new__(cls)
        store.loops = BackgroundLoops()
        return store

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @abstractmethod
    async def open(self) -> None:
        """Connect, create or migrate the schema, and be ready."""

    @abstractmethod
    async def close(self) -> None:
        """Finish pending work and release all resources; may be called twice.

        Later verbs raise `UnavailableError`.
        """

    @abstractmethod
    def listen(self, tell: Callable[[Sequence[RoutingKey]], None]) -> None:
        """Call `tell` in the event loop for actions that became available by no verb awaited here.

        Examples are those of a cancelled claim, and those of other servers. The call may come late,
        or after others have taken the actions.
        """

    @abstractmethod
    async def read_change_counters(self) -> ChangeCounters:
        """Return counters that show changes by any server to data that servers keep in memory."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the store can be read and written."""

    def warnings(self) -> Sequence[str]:
        """Return problems that need attention although the store is working; costs nothing."""
        return ()

    # ---------------------------------------------------------------------------------------- packs

    @abstractmethod
    async def save_pack(self, pack: Pack) -> None:
        """Create the pack, or replace the one with the same id."""

    @abstractmethod
    async def find_pack(self, pack_id: str) -> Pack | None:
        """Return the pack, None if it does not exist."""

    @abstractmethod
    async def list_packs(self) -> Rows[Pack]:
        """Return all packs, by name and then id."""

    @abstractmethod
    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        """Remove the pack; its events and actions stay. Raise `NotFoundError` if it does not exist.

        With `unless_seen_since`, do nothing when the pack was seen at that time or later.
        """

    @abstractmethod
    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        """Move `last_seen_at` of these packs forward, never back; unknown ids are ignored."""

    # ---------------------------------------------------------------------------------------- flows

    @abstractmethod
    async def save_flow(
        self, version: FlowVersion, timetables: Sequence[ScheduleEntry] = ()
    ) -> None:
        """Make this the current version of the flow of its name; earlier versions are kept.

        Its timetables replace those of the previous version, but one with the same step id and rule
        keeps its next time. Raise `StoreError` for one that is due when the version is saved, or
        before.
        """

    @abstractmethod
    async def list_flows(self) -> Rows[FlowVersion]:
        """Return the current version of every flow, by name."""

    @abstractmethod
    async def list_current(self) -> Mapping[str, str]:
        """Return the uuid of the current version of every flow, by name."""

    @abstractmethod
    async def delete_flow(self, name: str) -> None:
        """Remove the flow's current version and timetables; versions are kept.

        Raise `NotFoundError` if it has no current version.
        """

    @abstractmethod
    async def get_flow_version(self, uuid: str) -> FlowVersion:
        """Return a version, also of a replaced or deleted flow, unless `purge_versions` removed it.

        Raise `NotFoundError`, and `UnreadableError` when it exists and cannot be read.
        """

    # ------------------------------------------------------------------------------------ datastore

    @abstractmethod
    async def save_item(self, item: DataItem) -> bool:
        """Create the item or replace the one with the same key; return True when it is new."""

    @abstractmethod
    async def list_items(self) -> Rows[DataItem]:
        """Return all items with their values, by key."""

    @abstractmethod
    async def delete_item(self, key: str) -> None:
        """Remove the item; raise `NotFoundError` if it does not exist."""

    # ---------------------------------------------------------------------------------------- notes

    @abstractmethod
    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        """Create the note, or replace the one of its kind and key.

        Raise `ConflictError` if it exists, unless `replaces`.
        """

    @abstractmethod
    async def list_notes(
        self,
        kind: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Sequence[Note]:
        """Return notes of a kind by key, those that follow `after` in that order."""

    @abstractmethod
    async def delete_note(self, kind: str, key: str) -> None:
        """Remove the note; raise `NotFoundError` if it does not exist."""

    @abstractmethod
    async def delete_notes(self, kind: str, *, until: str, limit: int) -> int:
        """Remove the first notes of a kind by key, up to `until`, at most `limit`.

        Return their number. When this raises, some of them may have been removed.
        """

    # ------------------------------------------------------------------------- the life of an event

    @abstractmethod
    async def record(self, event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        """Store an event with all its consequences: decisions, executions and NEW actions.

        The actions are NEW at `event.received_at`. One with `not_before` is NEW as well, but not
        handed out until `process_due` has reached that time. With a `key` under which an event of
        the last day (`KEPT_KEYS`) was recorded, do nothing. Return the id of the event that is
        recorded now or was then. Raise `ConflictError` when an id is taken or a step of an
        execution has its action already.
        """

    @abstractmethod
    async def claim(
        self,
        pack: PackRef,
        at: datetime,
        *,
        action_name: str | None = None,
        limit: int = 1,
        seed: bytes = b"",
    ) -> Sequence[Claimed]:
        """Hand out the oldest NEW actions that this pack may execute, making them PENDING.

        Oldest is by creation over all matching actions; the result is empty if there are none. An
        action is handed out once at a time, to any number of concurrent callers. One with a time
        limit gets a lease that ends that long after `at`, with a token derived from `seed`. When
        the caller is cancelled or gets an error, the claimed actions are made NEW again, as soon as
        the store answers. The cost does not depend on the number of actions that wait for others.
        """

    @abstractmethod
    async def finish(
        self, action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        """Apply a result: store its event with all consequences that `decide` returns.

        The action becomes FATAL when the event is named so, else SUCCESS, at `result.received_at`.
        When `decide` returns `LateResult`, the event is kept with that attempt, the first one of
        each, and nothing else changes; when it returns None, nothing changes. Return the decision
        that was carried out. Raise `NotFoundError` for an unknown action, and `ConflictError` when
        `decide` finishes one that is neither PENDING nor UNKNOWN. No two results are decided upon
        the same state of an execution, so only one of the actions that they request per step is
        created.
        """

    async def finish_and_claim(
        self, action_id: str, result: Event, decide: Decide, claim: ClaimOrder
    ) -> tuple[Evaluation | LateResult | None, Sequence[Claimed]]:
        """Apply a result as `finish` does, then hand out actions as `claim` does.

        What the result has created can be handed out. If only the claim fails, the result is
        applied and nothing is handed out.
        """
        ruling = await self.finish(action_id, result, decide)
        try:
            return ruling, await self.claim(
                claim.pack, claim.at, limit=claim.limit, seed=claim.seed
            )
        except UnavailableError:
            return ruling, ()

    @abstractmethod
    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        """Extend a PENDING action's lease to its time limit after `at`.

        Return the new end, None without a limit. Raise `NotFoundError` for an unknown action, and
        `ConflictError` for one that is not PENDING.
        """

    @abstractmethod
    async def release(
        self, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey:
        """Make a PENDING or UNKNOWN action NEW again; return its address.

        Unless it `counts`, the last attempt is forgotten, as it never reached a pack. Raise as
        `extend` does.
        """

    @abstractmethod
    async def process_due(
        self,
        at: datetime,
        rules: TimerRules,
        *,
        limit: int = 100,
        shift: timedelta | None = None,
        leave_out: Collection[TimerKey] = (),
    ) -> ProcessedTimers:
        """Process due timers: release delayed actions, rule on lost actions and due steps.

        At most `limit` of each are processed. Each ruling and all its consequences are one
        transaction with their timer, so that nothing is done twice by any number of servers. A
        timer that cannot be read, that has no rule, or whose ruling cannot be carried out, such as
        one that would make a step due again at the same time or before, stays unchanged; those in
        `leave_out` are skipped. `shift` moves the timers of all actions first, for a clock that has
        jumped, or may have while no server ran: no lease then lasts longer than its time limit from
        `at`.
        """

    @abstractmethod
    async def renew_leases(
        self, at: datetime, *, if_unattended_for: timedelta | None = None
    ) -> bool:
        """Record that a server is using the store, and restart all leases at a time.

        Return whether they were restarted. With `if_unattended_for`, restart them only when no
        server has been active for longer than that, by the store's own clock. A store that is not
        shared counts as unattended from its opening on. A lease that began less than a second
        after `at` is not shortened.
        """

    # ---------------------------------------------------------------------------------------- audit

    @abstractmethod
    async def list_executions(
        self, which: ExecutionFilter, start: int, limit: int
    ) -> Page[Execution]:
        """Return executions in which one action satisfies the whole filter, latest activity first.

        Activity is the latest time of any state of an action; later created ones come first where
        it is equal. The page is cut when their inputs, contexts and payloads are longer than
        `PAGE_BYTES`, but never before the first.
        """

    @abstractmethod
    async def get_execution(self, correlation_id: str) -> Execution:
        """Return the execution with all its actions, oldest first; raise `NotFoundError`."""

    @abstractmethod
    async def get_action(self, action_id: str) -> Action:
        """Return the action; raise `NotFoundError`."""

    @abstractmethod
    async def list_actions(
        self, which: ActionFilter, start: int, limit: int
    ) -> Sequence[ActionStatus]:
        """Return actions, oldest first."""

    @abstractmethod
    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        """Return events with the decisions about them, newest first; cut as `list_executions` cuts.

        With `flow_name`, only the stored decisions about steps of that flow.
        """

    @abstractmethod
    async def get_event(self, event_id: str) -> EventRecord:
        """Return the event with all stored decisions about it; raise `NotFoundError`."""

    @abstractmethod
    async def find_unused_bases(self, numbers: Collection[int]) -> Collection[int]:
        """Return those of the numbers that no event has as its basis."""

    # --------------------------------------------------------------------------------------- growth

    @abstractmethod
    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        """Remove old executions, unreferenced events of that age, and keys past their retention.

        Finished data is never removed before older data, and for lack of space only finished data.
        At most `limit` of each are removed in one call, so that other requests get their turn. Each
        execution is removed as a whole; but when this raises, some may have been removed.
        """

    @abstractmethod
    async def purge_versions(self, what: VersionBound, *, limit: int = 100) -> PurgedVersions:
        """Remove unused flow versions, at most `limit`; record since when the others are unused."""

    # ---------------------------------------------------------------------------- moving and backup

    @abstractmethod
    def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        """Yield all data as of one moment, in the order defined in `record`, a part at a time.

        The moment comes after the call. Meanwhile servers may keep using the store, which need not
        be open here. A part is no longer than `PAGE_BYTES`, unless it is a single record. Raise
        `StoreError` when the store does not exist, or when it is being loaded (unless `partly`).
        """

    @abstractmethod
    async def begin_load(self) -> Checkpoint:
        """Begin to load the export of another store, or resume it: return the checkpoint reached.

        Raise `ConflictError` when the store holds anything else.
        """

    @abstractmethod
    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        """Store the next records as they were in the other store, with the checkpoint reached.

        Do nothing when that checkpoint was reached already. Raise `ConflictError` unless a load has
        begun.
        """

    @abstractmethod
    async def end_load(self) -> None:
        """Open the loaded data to servers; may be called twice."""
