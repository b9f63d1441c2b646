"""Compiled flows in memory, so that an event is evaluated without reading the store."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import msgspec

from flyteops.engine.compiled import CompiledFlow, FlowIndex, compile_flow
from flyteops.engine.evaluation import schedule_entries
from flyteops.errors import NotFoundError, UnavailableError, UnreadableError
from flyteops.model import Flow, FlowVersion
from flyteops.service.aside import FLOW, VERSION, SetAsideEntries, SetAsideKey
from flyteops.service.auditlog.entry import (
    SERVER,
    UNREADABLE,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.auditlog.snapshot import flow_state
from flyteops.service.basis import BasisRegistry, NotStoredError
from flyteops.storage.base import NotLoadedError, Store

LOGGER = logging.getLogger("flyte.service")

T = TypeVar("T")

OLD_VERSIONS_LENGTH = 1_048_576
"""The bytes of JSON of the old flow versions that stay compiled for running executions.

These began with them. Compiled they take some fifty times as much.
"""


class VersionCache:
    """Compiled flow versions that are no longer current; the least recently used are evicted first.

    `length` bounds the JSON of them all, but the last one added always stays.
    """

    def __init__(self, length: int) -> None:
        self._room = length
        self._kept: OrderedDict[str, tuple[CompiledFlow, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, uuid: str) -> CompiledFlow | None:
        """Return a version, None if it is not in memory (any more). From any thread."""
        found = self._kept.get(uuid)
        if found is None:
            return None
        with suppress(KeyError):  # another thread may have evicted it meanwhile
            self._kept.move_to_end(uuid)
        return found[0]

    def add(self, prepared: CompiledFlow) -> None:
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


def is_same(current: CompiledFlow, saved: CompiledFlow) -> bool:
    """Return whether a saved flow is the current version, to the letter, and compiles as it did.

    Whether it compiles depends on the machine, too, such as on the time zones that it knows.
    """
    # Compared as text: to Python, 1, 1.0 and True are equal, and so are objects with another order
    # of keys.
    return msgspec.json.encode(current.version.flow) == msgspec.json.encode(
        saved.version.flow
    ) and [step.fault is None for step in current.steps] == [
        step.fault is None for step in saved.steps
    ]


class FlowRegistry:
    """The current versions of all flows, and the versions that executions began with."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that is not pure comes from outside
        self,
        store: Store,
        changes: AuditLog,
        aside: SetAsideEntries,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        expect: Callable[[Iterable[datetime]], None],
        bases: BasisRegistry,
    ) -> None:
        self._store = store
        self._bases = bases
        self._changes = changes
        self._aside = aside
        self._clock = clock
        self._new_id = new_id
        self._expect = expect
        self._current: dict[str, CompiledFlow] = {}
        self._old = VersionCache(OLD_VERSIONS_LENGTH)
        self._gone: set[str] = set()
        self.index = FlowIndex()

    def __len__(self) -> int:
        return len(self._current)

    async def load(self) -> None:
        """Load the current versions of all flows; set aside those that cannot be read.

        The faulty steps of a flow report why they fail.
        """
        versions = await self._store.list_flows()
        failures = {each.name: each.error for each in versions.unreadable}
        self._current = {}
        for version in versions:
            try:
                self._current[version.flow.name] = compile_flow(version)
            # A fault of any kind in one flow must not affect the others.
            except Exception as error:  # noqa: BLE001
                failures[version.flow.name] = error
        self.index = FlowIndex(self._current.values())
        self._aside.replace(FLOW, failures)

    async def refresh(self) -> None:
        """Load current versions that other servers have saved, and drop deleted flows."""
        current = await self._store.list_current()
        failures: dict[str, Exception] = {}
        for name in self._current.keys() - current.keys():
            self.discard(name)
        for name, uuid in current.items():
            known = self._current.get(name)
            if known is None or known.version.uuid != uuid:
                await self._take_over(name, uuid, failures)
        self._aside.replace(FLOW, failures)

    async def _take_over(self, name: str, uuid: str, failures: dict[str, Exception]) -> None:
        try:
            self.put(compile_flow(await self._store.get_flow_version(uuid)))
        except UnavailableError:
            raise
        # A fault of any kind in one flow must not affect the others.
        except Exception as error:  # noqa: BLE001
            self.discard(name)
            failures[name] = error

    def list(self) -> Sequence[Flow]:
        """Return all flows by name."""
        return [self._current[name].version.flow for name in sorted(self._current)]

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all flows, as entries of the audit log record them."""
        return {
            resource_key("flow", name): flow_state(prepared.version.flow)
            for name, prepared in self._current.items()
        }

    def state(self, name: str) -> ResourceState | None:
        """Return the state of a flow, None if it does not exist."""
        found = self._current.get(name)
        return None if found is None else flow_state(found.version.flow)

    def find_current(self, name: str) -> CompiledFlow | None:
        """Return the current version of a flow."""
        return self._current.get(name)

    def get(self, name: str) -> Flow:
        """Return a flow; raise `NotFoundError`."""
        found = self.find_current(name)
        if found is None:
            raise NotFoundError(f"There is no flow {name!r}.")
        return found.version.flow

    async def save(self, flow: Flow, by: Author = SERVER) -> FlowVersion:
        """Make this the current version of the flow of its name; running executions keep theirs.

        A flow that is the current version already is not stored again. Two servers that save the
        same change at the same moment may store a version each.
        """
        prepared = compile_flow(FlowVersion(uuid=self._new_id(), flow=flow, saved_at=self._clock()))
        tables = schedule_entries(prepared, prepared.version.saved_at)
        async with self._changes.exclusive():
            current = self.find_current(flow.name)
            if current is not None and is_same(current, prepared):
                return current.version
            async with self._changes.record_change(
                by, resource_key("flow", flow.name), self.state(flow.name), flow_state(flow)
            ):
                await self._store.save_flow(prepared.version, tables)
                self.put(prepared)
        self._expect(table.next_at for table in tables if table.next_at is not None)
        return prepared.version

    async def delete(self, name: str, by: Author = SERVER) -> None:
        """Delete a flow, even one that cannot be read.

        Its running executions go on with their version.
        """
        async with self._changes.exclusive():
            unreadable = SetAsideKey(FLOW, name)
            before = UNREADABLE if unreadable in self._aside else flow_state(self.get(name))
            async with self._changes.record_change(by, resource_key("flow", name), before, None):
                await self._store.delete_flow(name)
                self.discard(name)
                self._aside.resolve([unreadable])

    def put(self, prepared: CompiledFlow) -> None:
        """Make this the current version of its flow."""
        name = prepared.version.flow.name
        self._retire(name)
        self._current[name] = prepared
        self.index.put(prepared)

    def discard(self, name: str) -> None:
        """Leave the flow without a current version."""
        self._retire(name)
        self.index.discard(name)

    def _retire(self, name: str) -> None:
        prepared = self._current.pop(name, None)
        if prepared is not None:
            self._old.add(prepared)

    async def get_version(self, uuid: str) -> Flow:
        """Return a version of a flow, even one that has been replaced or deleted."""
        for prepared in self._current.values():
            if prepared.version.uuid == uuid:
                return prepared.version.flow
        return (await self._store.get_flow_version(uuid)).flow

    def version(self, name: str, uuid: str) -> CompiledFlow | None:
        """Return the version that an execution began with, None if the store no longer has it.

        Raise `UnreadableError` if it cannot be read, and `NotLoadedError` if it is not in memory,
        upon which `with_versions` loads it. May be called in the writer's thread.
        """
        current = self._current.get(name)
        if current is not None and current.version.uuid == uuid:
            return current
        old = self._old.find(uuid)
        if old is None and uuid not in self._gone:
            key = SetAsideKey(VERSION, uuid)
            if self._aside.is_waiting(key):
                raise UnreadableError(
                    f"The version {uuid!r} of the flow {name!r} cannot be read:"
                    f" {self._aside.reason_of(key)}"
                )
            raise NotLoadedError(uuid)
        return old

    async def load_version(self, name: str, uuid: str) -> CompiledFlow:
        """Return any version of a flow that the store has.

        Raise `NotFoundError`, and `UnreadableError` if it cannot be read.
        """
        while True:
            try:
                found = self.version(name, uuid)
            except NotLoadedError:
                await self._load(uuid)
                continue
            if found is None:
                raise NotFoundError(f"There is no version {uuid!r} of the flow {name!r}.")
            return found

    async def with_versions(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Run a store operation.

        Load the versions that it needs and that are not in memory, store the basis that its
        decision needs, and repeat it.
        """
        while True:
            try:
                return await verb()
            except NotStoredError as missing:
                await self._bases.store(missing)
            except NotLoadedError as missing:
                await self._load(missing.flow_uuid)

    async def _load(self, uuid: str) -> None:
        key = SetAsideKey(VERSION, uuid)
        try:
            self._old.add(compile_flow(await self._store.get_flow_version(uuid)))
        except NotFoundError:
            LOGGER.warning(
                "There is no version %r of a flow that an execution began with; it cannot"
                " continue.",
                uuid,
            )
            self._gone.add(uuid)
        except UnavailableError:
            raise
        # A fault of any kind in one version must not affect executions of others.
        except Exception as error:  # noqa: BLE001
            self._aside.report({key: error})
            return
        self._aside.resolve([key])
