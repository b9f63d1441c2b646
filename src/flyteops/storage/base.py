"""The storage port: what every backend does, and the only specification of it.

Each verb is atomic and durable: when it returns, the change survives a crash; when it raises, nothing has changed. The
contract suite in `flyteops.testing` holds every backend to what is said here.

Errors of every verb: `UnavailableError` when the store cannot be reached or written just now (nothing was changed, the caller
may try again), `BusyError` when too much is waiting already, and `OutcomeUnknownError` when a change was sent and its answer
lost: it is made as a whole, now or a little later, or not at all. `open` raises `StoreError` when a person must look: a
foreign, corrupt or newer database, or one that another server holds.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import blake2b
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeVar

import msgspec

from flyteops.background import BackgroundLoops
from flyteops.errors import UnreadableError
from flyteops.model import (
    Action,
    ActionState,
    Address,
    DataItem,
    Event,
    EventRecord,
    Execution,
    FlowVersion,
    Note,
    Outcome,
    Pack,
    PackRef,
    Progress,
)
from flyteops.ruling import Ask, DueStep, Fail, Firing, Late, Repeat, Timetable
from flyteops.storage.portable import Checkpoint, Stored

T = TypeVar("T")
R = TypeVar("R")

PAGE_BYTES = 16 * 1024 * 1024
"""How long what is on one page may be, unless it is a single item."""

KEPT_KEYS = timedelta(days=1)
"""How long the key of an event is kept."""


Decide = Callable[[Progress], Outcome | Late | None]
"""Says what follows from a result, given how things stand; None means: nothing to do, the same result was applied before.

Pure, and called again if another server was faster, so that it always sees the state that it decides upon. What it raises
ends the verb and goes to the caller.
"""

Check = Callable[[Progress], None]
"""Raises unless something may be done with an action, given how things stand. Pure, and may be called again."""


class Claimed(msgspec.Struct, frozen=True):
    """What a pack needs to execute an action.

    With a time limit (`timeout`) there is a `lease`, the token that the result has to show, and `expires_at`, until when.
    The `revision` tells this claim from all others of the action, see `Progress`; the attempt does not.
    """

    action_id: str
    name: str
    input: bytes
    attempt: int = 1
    lease: str | None = None
    timeout: timedelta | None = None
    expires_at: datetime | None = None
    revision: int = 0


def lease_token(seed: bytes, action_id: str, attempt: int) -> str:
    """Return a lease's token: the attempt, and what nobody can guess who does not know the seed."""
    return f"{attempt}-{blake2b(action_id.encode() + attempt.to_bytes(4), key=seed, digest_size=9).hexdigest()}"


class NotLoadedError(Exception):
    """A rule needs something that must be loaded first: the verb ends, and nothing of that call has happened."""


class Rules(Protocol):
    """What is done when time has passed. Pure.

    A rule that raises `NotLoadedError` ends the verb. Whatever else it raises concerns the one timer that it was asked about.
    """

    def lost(self, progress: Progress) -> Repeat | Ask | Fail:
        """Rule on an action whose pack was silent for too long."""

    def due(self, step: DueStep) -> Firing:
        """Rule on a step whose time has come."""


class TimerKey(NamedTuple):
    """Identifies a timer: that of an action by its id, that of a step by its flow's name and version, and its index."""

    name: str
    flow_uuid: str = ""
    step_index: int = -1

    @property
    def is_action(self) -> bool:
        return self.step_index < 0


class FailedTimer(msgspec.Struct, frozen=True):
    """A timer that is due and cannot be dealt with. It is as it was, and still due."""

    key: TimerKey
    error: Exception


class Advanced(msgspec.Struct, frozen=True):
    """What time has brought: how much was done, when the next timer is due, and whom there are actions for now.

    Timers that failed, or were left out, do not count for `next_at`.
    """

    done: int
    next_at: datetime | None
    arrived: tuple[Address, ...] = ()
    failed: tuple[FailedTimer, ...] = ()


class ExecutionFilter(msgspec.Struct, frozen=True):
    """What one and the same action of an execution must satisfy; None asks for nothing. Labels must be contained."""

    flow_name: str | None = None
    step_id: str | None = None
    action_name: str | None = None
    action_pack_name: str | None = None
    action_pack_labels: Mapping[str, str] | None = None


class EventFilter(msgspec.Struct, frozen=True):
    """Which events to list; None asks for nothing. `flow_name` asks for events about which a step of that flow was decided."""

    flow_name: str | None = None
    event_name: str | None = None
    pack_name: str | None = None


class ActionFilter(msgspec.Struct, frozen=True):
    """Which actions to list; None asks for nothing.

    `overdue_since` asks for those that wait for a person, and those that are PENDING since before that time or longer than they
    may be at `now`.
    """

    states: frozenset[ActionState] | None = None
    flow_name: str | None = None
    pack_name: str | None = None
    overdue_since: datetime | None = None
    now: datetime | None = None


class ActionStatus(msgspec.Struct, frozen=True):
    """An action as it stands; `since` is when it came to its state."""

    action_id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    correlation_id: str
    flow_name: str
    step_id: str
    state: ActionState
    since: datetime
    created_at: datetime
    attempt: int
    due_at: datetime | None = None


class Surroundings(msgspec.Struct, frozen=True):
    """Numbers that grow when what they are named for is changed (last seen of packs is no change), and the store's own time.

    `is_loading` while the store is being loaded and must not be worked with.
    """

    flows: int = 0
    items: int = 0
    packs: int = 0
    notes: int = 0
    now: datetime | None = None
    is_loading: bool = False


class Page(tuple[T, ...]):
    """Some of what was asked for, in order. `is_cut` when there would be too much of it for one answer: ask on behind its end."""

    is_cut: bool

    def __new__(cls, items: Iterable[T], *, is_cut: bool = False) -> Self:
        """Return the page."""
        page = super().__new__(cls, items)
        page.is_cut = is_cut
        return page


class Unreadable(NamedTuple):
    """Something in the store that cannot be read: its name, and why not."""

    name: str
    error: Exception


class Rows(tuple[T, ...]):
    """All of what was asked for that can be read, in order, and what cannot be read."""

    unreadable: tuple[Unreadable, ...]

    def __new__(cls, items: Iterable[T], unreadable: Iterable[Unreadable] = ()) -> Self:
        """Return the rows."""
        rows = super().__new__(cls, items)
        rows.unreadable = tuple(unreadable)
        return rows

    @classmethod
    def read(cls, rows: Iterable[R], name_of: Callable[[R], str], read: Callable[[R], T]) -> Self:
        """Read each row; whatever is wrong with one concerns that one alone."""
        items: list[T] = []
        unreadable: list[Unreadable] = []
        for row in rows:
            try:
                items.append(read(row))
            except Exception as error:  # whatever it is that somebody has put there
                unreadable.append(Unreadable(name_of(row), error))
        return cls(items, unreadable)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raise `UnreadableError` when something from the store that is read inside cannot be."""
    try:
        yield
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise UnreadableError(f"{what} in the store cannot be read: {type(error).__name__}: {error}.") from error


class Retention(msgspec.Struct, frozen=True):
    """What may be removed.

    Executions without activity since `before`, those finished since `finished_before` with the events of that age that nothing
    refers to, and keys of events from before `keys_before`; and, when the store takes more than `max_bytes`, the oldest that is
    finished. It makes no room for `spared_bytes`, which something else takes too much.
    """

    before: datetime
    finished_before: datetime
    keys_before: datetime
    max_bytes: int | None = None
    spared_bytes: int = 0


class Purged(msgspec.Struct, frozen=True):
    """How much `purge` has removed; `more` when it stopped at its bound.

    `over_bytes` is by how much the store exceeds its size when nothing is left that may be removed.
    """

    executions: int
    events: int
    more: bool
    over_bytes: int = 0


class VersionBound(msgspec.Struct, frozen=True):
    """Which flow versions `purge_versions` removes.

    Unused ones are those that are not current and that no execution began with. Of these, the oldest go as long as all take more
    than `max_bytes`, but only those that were found unused before `unused_before`. `at` is the present time.
    """

    at: datetime
    unused_before: datetime
    max_bytes: int


class PurgedVersions(msgspec.Struct, frozen=True):
    """How many flow versions `purge_versions` has removed, and how many bytes those that are unused take now."""

    removed: int
    unused_bytes: int


class Store(ABC):
    """A place where Flyte keeps what it was told. Use as an async context manager, or `open` and `close`.

    `is_shared` says whether several servers may use it at the same time.
    """

    is_shared = False
    loops: BackgroundLoops
    """Where the store's own background loops report their health; a service puts its own here."""

    def __new__(cls, *_values: object, **_options: object) -> Self:
        """Return a store whose loops report to nobody yet."""
        store = super().__new__(cls)
        store.loops = BackgroundLoops()
        return store

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @abstractmethod
    async def open(self) -> None:
        """Connect, create or migrate the schema, and be ready."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun and let go; may be called twice. Verbs after it raise `UnavailableError`."""

    @abstractmethod
    def listen(self, tell: Callable[[Sequence[Address]], None]) -> None:
        """Have it told, in the event loop, whom there are actions for that became available by no verb that was awaited here.

        Such as those of a claim that was cancelled, and of other servers. Of these some may be told late, or when others have
        taken them by then.
        """

    @abstractmethod
    async def look_around(self) -> Surroundings:
        """Return what tells whether this or another server has changed something that servers keep in memory."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the store can be read and written."""

    def warnings(self) -> Sequence[str]:
        """Return what somebody should look at although the store does its work; costs nothing."""
        return ()

    # ------------------------------------------------------------------------------------------------------------ packs

    @abstractmethod
    async def save_pack(self, pack: Pack) -> None:
        """Create the pack, or replace the one with the same id."""

    @abstractmethod
    async def find_pack(self, pack_id: str) -> Pack | None:
        """Return the pack, None when there is none."""

    @abstractmethod
    async def list_packs(self) -> Rows[Pack]:
        """Return all packs, by name and then id."""

    @abstractmethod
    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        """Remove the pack; its events and actions stay. Raise `NotFoundError` when there is none.

        With `unless_seen_since`, do nothing when the pack was seen at that time or later.
        """

    @abstractmethod
    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        """Move `last_seen_at` of these packs forward, never back; unknown ids are ignored."""

    # ------------------------------------------------------------------------------------------------------------ flows

    @abstractmethod
    async def save_flow(self, version: FlowVersion, timetables: Sequence[Timetable] = ()) -> None:
        """Make this the current version of the flow of its name; earlier versions are kept.

        Its timetables replace those of the version before, but one with the same step id and rule keeps its next time. Raise
        `StoreError` for one that is due when the version is saved, or before.
        """

    @abstractmethod
    async def list_flows(self) -> Rows[FlowVersion]:
        """Return the current version of every flow, by name."""

    @abstractmethod
    async def list_current(self) -> Mapping[str, str]:
        """Return the uuid of the current version of every flow, by name."""

    @abstractmethod
    async def delete_flow(self, name: str) -> None:
        """Make the flow have no current version and no timetable; versions are kept. Raise `NotFoundError` when it has none."""

    @abstractmethod
    async def get_flow_version(self, uuid: str) -> FlowVersion:
        """Return a version, also of a flow that is replaced or deleted, unless `purge_versions` has removed it.

        Raise `NotFoundError`, and `UnreadableError` when it is there and cannot be read.
        """

    # -------------------------------------------------------------------------------------------------------- datastore

    @abstractmethod
    async def save_item(self, item: DataItem) -> bool:
        """Create the item or replace the one with the same key; return True when it is new."""

    @abstractmethod
    async def list_items(self) -> Rows[DataItem]:
        """Return all items with their values, by key."""

    @abstractmethod
    async def delete_item(self, key: str) -> None:
        """Remove the item; raise `NotFoundError` when there is none."""

    # ---------------------------------------------------------------------------------------------------------- notes

    @abstractmethod
    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        """Create the note, or replace the one of its kind and key; unless it `replaces`, raise `ConflictError` for that."""

    @abstractmethod
    async def list_notes(
        self, kind: str, *, after: str | None = None, limit: int | None = None, backwards: bool = False
    ) -> Sequence[Note]:
        """Return notes of a kind by key, those that come behind `after` in that order."""

    @abstractmethod
    async def delete_note(self, kind: str, key: str) -> None:
        """Remove the note; raise `NotFoundError` when there is none."""

    @abstractmethod
    async def delete_notes(self, kind: str, *, until: str, limit: int) -> int:
        """Remove the first notes of a kind, at most `limit`, by key, and none behind the key `until`; return how many.

        When this raises, some of them may be gone.
        """

    # --------------------------------------------------------------------------------------------- the life of an event

    @abstractmethod
    async def record(self, event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        """Store an event with all that follows from it: decisions, executions, actions in state NEW at `event.received_at`.

        An action with `not_before` is NEW as well, but not handed out until `advance` has come to that time. With a `key` that an
        event of the last day (`KEPT_KEYS`) was recorded with, do nothing. Return the id of the event that is recorded now or
        was then. Raise `ConflictError` when an id is taken or a step of an execution has its action already.
        """

    @abstractmethod
    async def claim(
        self, pack: PackRef, at: datetime, *, action_name: str | None = None, limit: int = 1, seed: bytes = b""
    ) -> Sequence[Claimed]:
        """Hand the oldest NEW actions that this pack may execute to it, making them PENDING; nothing when there are none.

        Oldest is by creation over all matching actions. An action is handed out once at a time, however many ask. One with
        a time limit gets a lease that ends so long after `at`, its token made of `seed`. When the caller is cancelled or
        gets an error, what was claimed is made NEW again, as soon as the store answers. The cost does not depend on how many
        actions wait for others.
        """

    @abstractmethod
    async def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        """Apply a result: ask `decide` what follows, then store the event as the action's result with all of that.

        The action becomes FATAL when the event is named so, else SUCCESS, at `result.received_at`. When `decide` says `Late`, the
        event is kept with that attempt, the first one of each, and nothing else changes. Return False when `decide`
        returned None. Raise `NotFoundError` for an unknown action, and `ConflictError` when `decide` finishes one that is neither
        PENDING nor UNKNOWN. No two results are decided upon the same state of an execution, so of the actions that they
        ask for one per step is created.
        """

    @abstractmethod
    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        """Let a PENDING action's lease end as long after `at` as its time limit says; return when, None if it has no limit.

        Raise `NotFoundError` for an unknown action, and `ConflictError` for one that is not PENDING.
        """

    @abstractmethod
    async def release(self, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
        """Make a PENDING or UNKNOWN action NEW again; return whom it is for.

        Unless it `counts`, the last attempt is forgotten, as it never reached a pack. Raise as `extend` does.
        """

    @abstractmethod
    async def advance(
        self,
        at: datetime,
        rules: Rules,
        *,
        limit: int = 100,
        shift: timedelta | None = None,
        leave_out: Collection[TimerKey] = (),
    ) -> Advanced:
        """Do what is due at a time: make delayed actions available, rule on lost actions and due steps; at most `limit` of each.

        Each ruling and all that follows from it is one with what it rules on, so that nothing is done twice, however many servers
        do this. A timer that cannot be read, that no rule can be found for, or whose ruling cannot be carried out, as one that
        would let a step be due again at the same time or before, is left as it is; those to `leave_out` are not looked at.
        `shift` moves the timers of all actions first, for a clock that has jumped, or may have while no server ran: no
        lease lasts longer than its time limit from `at` then.
        """

    @abstractmethod
    async def renew_leases(self, at: datetime, *, if_unattended_for: timedelta | None = None) -> bool:
        """Note that a server is at work on the store, and let all leases begin anew at a time; return whether they did.

        With `if_unattended_for`, they do only when no server has been at work for longer than that, by the store's own clock.
        A store that is not shared counts as unattended from its opening on.
        """

    # ------------------------------------------------------------------------------------------------------------ audit

    @abstractmethod
    async def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> Page[Execution]:
        """Return executions in which one action satisfies the whole filter, latest activity first.

        Activity is the latest time of any state of an action; later created ones come first where it is equal. The page is cut
        when their inputs, contexts and payloads are longer than `PAGE_BYTES`, but never before the first.
        """

    @abstractmethod
    async def get_execution(self, correlation_id: str) -> Execution:
        """Return the execution with all its actions, oldest first; raise `NotFoundError`."""

    @abstractmethod
    async def get_action(self, action_id: str) -> Action:
        """Return the action; raise `NotFoundError`."""

    @abstractmethod
    async def list_actions(self, which: ActionFilter, start: int, limit: int) -> Sequence[ActionStatus]:
        """Return actions, oldest first."""

    @abstractmethod
    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        """Return events with the decisions about them, newest first; cut as `list_executions` cuts.

        With `flow_name`, only the decisions about steps of that flow.
        """

    @abstractmethod
    async def get_event(self, event_id: str) -> EventRecord:
        """Return the event with all decisions about it; raise `NotFoundError`."""

    # ---------------------------------------------------------------------------------------------------------- growth

    @abstractmethod
    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        """Remove executions that are too old, events of that age that nothing refers to, and keys that are no longer kept.

        What is finished is never removed before what is older, and for want of space only what is finished. At most `limit` of
        each in one call, so that others get their turn. Each execution goes as a whole; but when this raises, some may be gone.
        """

    @abstractmethod
    async def purge_versions(self, what: VersionBound, *, limit: int = 100) -> PurgedVersions:
        """Remove flow versions that nothing uses, at most `limit`; note of the others since when they are unused."""

    # ------------------------------------------------------------------------------------------------- moving and backup

    @abstractmethod
    def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        """Give all that the store holds as it is at one moment, in the order that `portable` tells, a part at a time.

        The moment comes after the call. Meanwhile servers may go on working with the store, which need not be open here. A part
        is no longer than `PAGE_BYTES`, unless it is a single record. Raise `StoreError` when there is no store, or when it
        is being loaded (unless `partly`).
        """

    @abstractmethod
    async def begin_load(self) -> Checkpoint:
        """Begin to load what another store exported, or go on with it: return how far that had come.

        Raise `ConflictError` when the store holds anything else.
        """

    @abstractmethod
    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        """Store the next records as they were in the other store, and how far the load has come with them.

        Do nothing when it has come so far already. Raise `ConflictError` unless a load has begun.
        """

    @abstractmethod
    async def end_load(self) -> None:
        """Let servers work with what was loaded; may be called twice."""
