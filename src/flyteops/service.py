"""The use cases: what can be done with Flyte, in terms of its nouns. No HTTP above it, no database below it.

Flows and datastore items are kept in memory as well, compiled and parsed once, so that an event is evaluated without asking
the store; changes reach the memory after the store has them and before the caller gets its answer.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b

import msgspec

from flyteops.engine import FlowIndex, Moment, PreparedFlow, Snapshot, evaluate, evaluate_result, prepare
from flyteops.errors import ConflictError, InputError, NotFoundError, Problem, UnavailableError
from flyteops.model import (
    DataItem,
    Event,
    EventRecord,
    Execution,
    Flow,
    FlowVersion,
    Outcome,
    Pack,
    PackDeclaration,
    PackRef,
    Progress,
    has_labels,
)
from flyteops.storage.base import Claimed, EventFilter, ExecutionFilter, Store

OLD_VERSIONS_LENGTH = 1_048_576
"""How many bytes of JSON the flow versions have that stay compiled in memory for the executions that began with them.

Compiled they take some fifty times as much.
"""

PURGE_STEP = 1000


def utc_now() -> datetime:
    """Return the current time; the clock of a service unless another is given."""
    return datetime.now(UTC)


class Seeds:
    """Makes seeds that nobody can guess who does not know the secret: asking the system for each would cost far more."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._made = 0

    def __call__(self) -> bytes:
        self._made += 1
        return blake2b(self._made.to_bytes(8), key=self._secret, digest_size=16).digest()


class Versions:
    """Compiled flow versions that are no longer current; those that were not used for longest go when there are too many.

    `length` bounds the JSON of them all, but the last one added always stays.
    """

    def __init__(self, length: int) -> None:
        self._room = length
        self._kept: OrderedDict[str, tuple[PreparedFlow, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, uuid: str) -> PreparedFlow | None:
        """Return a version, None when it is not here (any more). From any thread."""
        found = self._kept.get(uuid)
        if found is None:
            return None
        with suppress(KeyError):  # somebody may have made room meanwhile
            self._kept.move_to_end(uuid)
        return found[0]

    def add(self, prepared: PreparedFlow) -> None:
        """Keep a version."""
        uuid = prepared.version.uuid
        if uuid in self._kept:
            return
        length = len(msgspec.json.encode(prepared.version.flow))
        self._room -= length
        self._kept[uuid] = prepared, length
        while self._room < 0 and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self._room += freed


class Housekeeping:
    """What `Service.sweep` does about things that grow old; durations are `timedelta`, `dead_packs_at` local wall time."""

    def __init__(
        self,
        *,
        keep_for: timedelta = timedelta(seconds=31_557_600),
        delete_dead_packs: bool = False,
        dead_packs_at: str = "23:00",
        dead_after: timedelta = timedelta(weeks=1),
    ) -> None:
        self.keep_for = keep_for
        self.delete_dead_packs = delete_dead_packs
        self.dead_packs_at = dead_packs_at
        self.dead_after = dead_after


class Service:
    """Flyte's use cases on one store. Call `start` before anything else; one instance belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        seeds: Callable[[], bytes] | None = None,
        housekeeping: Housekeeping | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._seeds = seeds or Seeds(os.urandom(32))
        self._housekeeping = housekeeping or Housekeeping()
        self._packs: dict[str, Pack] = {}
        self._senders: dict[str, PackRef] = {}
        self._seen: dict[str, datetime] = {}
        self._flows: dict[str, PreparedFlow] = {}
        self._versions = Versions(OLD_VERSIONS_LENGTH)
        self._index = FlowIndex()
        self._items: dict[str, DataItem] = {}
        self._snapshot = Snapshot({})
        self._dead_packs_checked_on: date | None = None

    async def start(self) -> None:
        """Load what is kept in memory. Flows that no longer compile are loaded too; their faulty steps say why they fail."""
        self._packs = {pack.id: pack for pack in await self._store.list_packs()}
        self._flows = {version.flow.name: prepare(version) for version in await self._store.list_flows()}
        self._items = {item.key: item for item in await self._store.list_items()}
        self._index = FlowIndex(self._flows.values())
        self._snapshot = Snapshot(self._items)

    def now(self) -> datetime:
        """Return the time by the clock that everything here is stamped with."""
        return self._clock()

    async def check_health(self) -> None:
        """Return when the store answers; raise `UnavailableError` otherwise."""
        await self._store.ping()

    # ------------------------------------------------------------------------------------------------------------ packs

    async def register_pack(self, declaration: PackDeclaration) -> Pack:
        """Create the pack, or replace the one with the same name and labels."""
        if not declaration.name.strip():
            raise InputError("A pack needs a name.", problems=[Problem("name", "must not be empty")])
        pack = declaration.seen(self._clock())
        await self._store.save_pack(pack)
        self._forget_pack(pack.id)
        self._packs[pack.id] = pack
        return pack

    async def list_packs(self) -> Sequence[Pack]:
        """Return all packs by name and then id, each with the latest time at which it was seen."""
        return sorted((self._fresh(pack) for pack in self._packs.values()), key=lambda pack: (pack.name, pack.id))

    async def get_pack(self, pack_id: str) -> Pack:
        return self._fresh(await self._pack(pack_id))

    async def delete_pack(self, pack_id: str) -> None:
        """Forget the pack; what it sent and did stays in the audit."""
        await self._store.delete_pack(pack_id)
        self._forget_pack(pack_id)

    async def _pack(self, pack_id: str) -> Pack:
        pack = self._packs.get(pack_id)
        if pack is None:
            pack = await self._store.find_pack(pack_id)
            if pack is None:
                raise NotFoundError(f"There is no pack {pack_id!r}; a pack must register before it does anything else.")
            self._packs[pack_id] = pack
        return pack

    def _forget_pack(self, pack_id: str) -> None:
        for known in (self._packs, self._senders, self._seen):
            known.pop(pack_id, None)

    async def _sender(self, pack_id: str, now: datetime) -> PackRef:
        sender = self._senders.get(pack_id)
        if sender is None:
            sender = self._senders[pack_id] = (await self._pack(pack_id)).ref
        self._seen[pack_id] = now
        return sender

    def _fresh(self, pack: Pack) -> Pack:
        return pack.seen(max(pack.last_seen_at, self._seen.get(pack.id, pack.last_seen_at)))

    # -------------------------------------------------------------------------------------------- events and actions

    async def accept_event(self, pack_id: str, name: str, payload: bytes, created_at: datetime | None = None) -> Event:
        """Take in what a pack says has happened; when this returns, the event and all that follows from it are durable.

        `payload` is JSON text.
        """
        moment = self._moment()
        event = Event(
            event_id=moment.new_id(),
            name=name,
            pack=await self._sender(pack_id, moment.now),
            payload=payload,
            received_at=moment.now,
            created_at=created_at,
        )
        await self._store.record(event, evaluate(event, self._index, moment))
        return event

    async def take(self, pack_id: str, action_name: str | None = None) -> Claimed | None:
        """Hand the pack the oldest action that waits for it; it is handed to nobody else after that."""
        now = self._clock()
        return await self._store.claim(await self._sender(pack_id, now), now, action_name=action_name)

    async def complete(
        self, pack_id: str, action_id: str, name: str, payload: bytes, created_at: datetime | None = None
    ) -> Event:
        """Take in the result of an action: an event like any other, and the continuation of its execution.

        The same result again changes nothing. Raise `ConflictError` when the action is not pending or not this pack's.
        """
        moment = self._moment()
        event = Event(
            event_id=moment.new_id(),
            name=name,
            pack=await self._sender(pack_id, moment.now),
            payload=payload,
            received_at=moment.now,
            created_at=created_at,
        )

        def decide(progress: Progress) -> Outcome | None:
            return self._continue(event, progress, moment)

        while True:
            try:
                await self._store.finish(action_id, event, decide)
            except _VersionNotLoadedError as missing:
                await self._load_version(missing.uuid)
            else:
                return event

    def _continue(self, event: Event, progress: Progress, moment: Moment) -> Outcome | None:
        check_may_complete(event.pack, progress)
        if progress.result is not None:
            if is_same_result(event, progress.result):
                return None
            raise ConflictError(f"Action {progress.action_id!r} has ended with another result already.")
        if progress.state != "PENDING":
            raise ConflictError(f"Action {progress.action_id!r} is {progress.state}; only a PENDING action takes a result.")
        flow = self._version(progress.flow_name, progress.flow_uuid)
        return evaluate_result(event, self._index, flow, progress, moment)

    def _moment(self) -> Moment:
        return Moment(now=self._clock(), seed=self._seeds(), datastore=self._snapshot, monotonic=self._monotonic)

    # ------------------------------------------------------------------------------------------------------------ flows

    async def save_flow(self, flow: Flow) -> FlowVersion:
        """Make this the current version of the flow of its name; executions that run go on with theirs."""
        version = FlowVersion(uuid=self._moment().new_id(), flow=flow, saved_at=self._clock())
        prepared = prepare(version)
        await self._store.save_flow(version)
        self._retire(flow.name)
        self._flows[flow.name] = prepared
        self._index.put(prepared)
        return version

    async def list_flows(self) -> Sequence[Flow]:
        """Return all flows by name."""
        return [self._flows[name].version.flow for name in sorted(self._flows)]

    async def get_flow(self, name: str) -> Flow:
        if name not in self._flows:
            raise NotFoundError(f"There is no flow {name!r}.")
        return self._flows[name].version.flow

    async def get_flow_version(self, uuid: str) -> Flow:
        """Return a version of a flow, also one that has been replaced or deleted."""
        for prepared in self._flows.values():
            if prepared.version.uuid == uuid:
                return prepared.version.flow
        return (await self._store.get_flow_version(uuid)).flow

    async def delete_flow(self, name: str) -> None:
        """Forget the flow; executions of it that run go on with their version."""
        await self._store.delete_flow(name)
        self._retire(name)
        self._index.discard(name)

    def _retire(self, name: str) -> None:
        prepared = self._flows.pop(name, None)
        if prepared is not None:
            self._versions.add(prepared)

    def _version(self, name: str, uuid: str) -> PreparedFlow:
        current = self._flows.get(name)
        if current is not None and current.version.uuid == uuid:
            return current
        old = self._versions.find(uuid)
        if old is None:
            raise _VersionNotLoadedError(uuid)
        return old

    async def _load_version(self, uuid: str) -> None:
        self._versions.add(prepare(await self._store.get_flow_version(uuid)))

    # -------------------------------------------------------------------------------------------------------- datastore

    async def save_item(self, item: DataItem) -> bool:
        """Create or replace a datastore item; return True when it is new."""
        if not item.value:
            raise InputError("A datastore item needs a value.", problems=[Problem("value", "must not be empty")])
        is_new = await self._store.save_item(item)
        self._items = {**self._items, item.key: item}
        self._snapshot = Snapshot(self._items)
        return is_new

    async def list_items(self) -> Sequence[DataItem]:
        """Return all datastore items by key."""
        return [self._items[key] for key in sorted(self._items)]

    async def get_item(self, key: str) -> DataItem:
        if key not in self._items:
            raise NotFoundError(f"There is no datastore item {key!r}.")
        return self._items[key]

    async def delete_item(self, key: str) -> None:
        await self._store.delete_item(key)
        self._items = {other: item for other, item in self._items.items() if other != key}
        self._snapshot = Snapshot(self._items)

    # ------------------------------------------------------------------------------------------------------------ audit

    async def list_executions(self, which: ExecutionFilter, start: int = 0, limit: int = 50) -> Sequence[Execution]:
        """Return executions in which one action satisfies the whole filter, latest activity first."""
        return await self._store.list_executions(which, start, limit)

    async def get_execution(self, correlation_id: str) -> Execution:
        return await self._store.get_execution(correlation_id)

    async def list_events(self, which: EventFilter, start: int = 0, limit: int = 50) -> Sequence[EventRecord]:
        """Return events and why steps did or did not run for them, newest first."""
        return await self._store.list_events(which, start, limit)

    async def get_event(self, event_id: str) -> EventRecord:
        return await self._store.get_event(event_id)

    # ----------------------------------------------------------------------------------------------------- housekeeping

    async def sweep(self) -> None:
        """Do what is due: store when packs were seen, remove dead packs once a day and what is too old. For every few seconds."""
        seen, self._seen = self._seen, {}
        if seen:
            await self._flush_seen(seen)
        now = self._clock()
        await self._delete_dead_packs(now)
        await self._store.purge(now - self._housekeeping.keep_for, limit=PURGE_STEP)

    async def _flush_seen(self, seen: dict[str, datetime]) -> None:
        for pack_id, at in seen.items():
            if pack_id in self._packs:
                self._packs[pack_id] = self._packs[pack_id].seen(at)
        try:
            await self._store.touch_packs(seen)
        except UnavailableError:
            self._seen = {**seen, **self._seen}
            raise

    async def _delete_dead_packs(self, now: datetime) -> None:
        local = now.astimezone()
        due = f"{local:%H:%M}" >= self._housekeeping.dead_packs_at
        if not self._housekeeping.delete_dead_packs or not due or self._dead_packs_checked_on == local.date():
            return
        self._dead_packs_checked_on = local.date()
        alive_since = now - self._housekeeping.dead_after
        for pack in [pack for pack in self._packs.values() if self._fresh(pack).last_seen_at < alive_since]:
            await self._store.delete_pack(pack.id, unless_seen_since=alive_since)
            self._forget_pack(pack.id)


class _VersionNotLoadedError(Exception):
    """The evaluator met an execution on a flow version that is not in memory."""

    def __init__(self, uuid: str) -> None:
        super().__init__(uuid)
        self.uuid = uuid


def check_may_complete(pack: PackRef, progress: Progress) -> None:
    """Raise `ConflictError` unless this pack could have taken the action."""
    if pack.name != progress.pack_name or not has_labels(pack.labels, progress.pack_labels):
        raise ConflictError(f"Action {progress.action_id!r} is not for pack {pack.id!r}.")


def is_same_result(event: Event, earlier: Event) -> bool:
    """Tell whether a result says the same as one that was applied before, as when a client did not get the answer."""
    if event.name != earlier.name:
        return False
    return event.payload == earlier.payload or _canonical(event.payload) == _canonical(earlier.payload)


def _canonical(payload: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
