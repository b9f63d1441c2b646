"""The storage port: what every backend does, and the only specification of it.

Each verb is atomic and durable: when it returns, the change survives a crash; when it raises, nothing has changed. The
contract suite in `flyteops.testing` holds every backend to what is said here.

Errors of every verb: `UnavailableError` when the store cannot be reached or written just now (nothing was changed, the caller
may try again), `BusyError` when too much is waiting already. `open` raises `StoreError` when a person must look: a
foreign, corrupt or newer database, or one that another server holds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import msgspec

from flyteops.model import (
    Action,
    DataItem,
    Event,
    EventRecord,
    Execution,
    FlowVersion,
    Outcome,
    Pack,
    PackRef,
    Progress,
)

Decide = Callable[[Progress], Outcome | None]
"""Says what follows from a result, given how things stand; None means: nothing to do, the same result was applied before.

Pure, and called again if another server was faster, so that it always sees the state that it decides upon. What it raises
ends the verb and goes to the caller.
"""


class Claimed(msgspec.Struct, frozen=True):
    """What a pack needs to execute an action."""

    action_id: str
    name: str
    input: bytes


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


class Purged(msgspec.Struct, frozen=True):
    """How much `purge` has removed; `more` when it stopped at its bound."""

    executions: int
    events: int
    more: bool


class Store(ABC):
    """A place where Flyte keeps what it was told. Use as an async context manager, or `open` and `close`."""

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
    async def ping(self) -> None:
        """Return when the store can be read and written."""

    # ------------------------------------------------------------------------------------------------------------ packs

    @abstractmethod
    async def save_pack(self, pack: Pack) -> None:
        """Create the pack, or replace the one with the same id."""

    @abstractmethod
    async def find_pack(self, pack_id: str) -> Pack | None:
        """Return the pack, None when there is none."""

    @abstractmethod
    async def list_packs(self) -> Sequence[Pack]:
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
    async def save_flow(self, version: FlowVersion) -> None:
        """Make this the current version of the flow of its name; earlier versions are kept."""

    @abstractmethod
    async def list_flows(self) -> Sequence[FlowVersion]:
        """Return the current version of every flow, by name."""

    @abstractmethod
    async def delete_flow(self, name: str) -> None:
        """Make the flow have no current version; versions are kept. Raise `NotFoundError` when it has none."""

    @abstractmethod
    async def get_flow_version(self, uuid: str) -> FlowVersion:
        """Return a version, also of a flow that is replaced or deleted; raise `NotFoundError`."""

    # -------------------------------------------------------------------------------------------------------- datastore

    @abstractmethod
    async def save_item(self, item: DataItem) -> bool:
        """Create the item or replace the one with the same key; return True when it is new."""

    @abstractmethod
    async def list_items(self) -> Sequence[DataItem]:
        """Return all items with their values, by key."""

    @abstractmethod
    async def delete_item(self, key: str) -> None:
        """Remove the item; raise `NotFoundError` when there is none."""

    # --------------------------------------------------------------------------------------------- the life of an event

    @abstractmethod
    async def record(self, event: Event, outcome: Outcome) -> None:
        """Store an event with all that follows from it: decisions, executions, actions in state NEW at `event.received_at`.

        Raise `ConflictError` when an id is taken or a step of an execution has its action already.
        """

    @abstractmethod
    async def claim(self, pack: PackRef, at: datetime, *, action_name: str | None = None) -> Claimed | None:
        """Hand the oldest NEW action that this pack may execute to it, making it PENDING; None when there is none.

        Oldest is by creation over all matching actions. An action is handed out once, however many ask at a time. The cost
        does not depend on how many actions wait for others.
        """

    @abstractmethod
    async def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        """Apply a result: ask `decide` what follows, then store the event as the action's result with all of that.

        The action becomes FATAL when the event is named so, else SUCCESS, at `result.received_at`. Return False when `decide`
        returned None. Raise `NotFoundError` for an unknown action, and `ConflictError` when `decide` finishes one that is not
        PENDING. No two results are decided upon the same state of an execution, so of the actions that they ask for one
        per step is created.
        """

    # ------------------------------------------------------------------------------------------------------------ audit

    @abstractmethod
    async def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> Sequence[Execution]:
        """Return executions in which one action satisfies the whole filter, latest activity first.

        Activity is the latest time of any state of an action; later created ones come first where it is equal.
        """

    @abstractmethod
    async def get_execution(self, correlation_id: str) -> Execution:
        """Return the execution with all its actions, oldest first; raise `NotFoundError`."""

    @abstractmethod
    async def get_action(self, action_id: str) -> Action:
        """Return the action; raise `NotFoundError`."""

    @abstractmethod
    async def list_events(self, which: EventFilter, start: int, limit: int) -> Sequence[EventRecord]:
        """Return events with the decisions about them, newest first.

        With `flow_name`, only the decisions about steps of that flow.
        """

    @abstractmethod
    async def get_event(self, event_id: str) -> EventRecord:
        """Return the event with all decisions about it; raise `NotFoundError`."""

    # ---------------------------------------------------------------------------------------------------------- growth

    @abstractmethod
    async def purge(self, before: datetime, *, limit: int = 1000) -> Purged:
        """Remove executions without activity since `before`, and events received before it that nothing refers to.

        At most `limit` of each in one call, so that others get their turn. Each execution goes as a whole; but when this raises,
        some may be gone.
        """
