"""The registries of a service together: the data that it keeps in memory."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from flyteops.errors import StoreError
from flyteops.service.aside import READ, VERSION, SetAsideEntries
from flyteops.service.auditlog.entry import ResourceKey, ResourceState
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.basis import BasisRegistry
from flyteops.service.data import DataRegistry
from flyteops.service.flow import FlowRegistry
from flyteops.service.hook.registry import HookRegistry
from flyteops.service.pack import PackRegistry
from flyteops.service.token import TokenRegistry
from flyteops.service.vault import Vault
from flyteops.storage.base import ChangeCounters, Store

if TYPE_CHECKING:  # cryptography takes long to load, and few servers have secrets
    from flyteops.service.encryption import Encryptor

UNKNOWN = ChangeCounters(-1, -1, -1, -1)
"""Counters that differ from all others, so that everything is loaded again."""


class Registries:
    """All registries on one store, and the audit log of their changes.

    Changes reach the memory after the store has them and before the caller gets its answer; those
    of other servers reach it by `refresh`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that is not pure comes from outside
        self,
        store: Store,
        clock: Callable[[], datetime],
        aside: SetAsideEntries,
        encryptor: "Encryptor | None",
        new_id: Callable[[], str],
        expect: Callable[[Iterable[datetime]], None],
    ) -> None:
        self._store = store
        self._aside = aside
        self._counters = ChangeCounters()
        self.log = AuditLog(store, clock, self._catch_up, self._states, aside.is_unreadable)
        self.bases = BasisRegistry(store)
        self.flows = FlowRegistry(store, self.log, aside, clock, new_id, expect, self.bases)
        self.packs = PackRegistry(store, clock, self.log, aside)
        self.vault = Vault(store, self.log, aside, encryptor)
        self.data = DataRegistry(store, self.vault, self.log, aside)
        self.tokens = TokenRegistry(store, clock, self.log, aside)
        self.hooks = HookRegistry(store, clock, self.log, self.packs, aside, encryptor)

    async def load(self) -> None:
        """Load all data; raise `StoreError` if the store is not ready for use."""
        self._counters = await self._store.read_change_counters()
        if self._counters.is_loading:
            raise StoreError(
                "The store is only partly loaded. Wait for `flyte move` or `flyte restore` to"
                " finish, or run it again."
            )
        await self.packs.load()
        await self.flows.load()
        await self.data.refresh()
        await self.vault.load()
        await self.tokens.refresh()
        await self.hooks.refresh()
        await self.log.start()
        await self.vault.reencrypt()
        await self.hooks.start()

    async def refresh(self) -> datetime | None:
        """Load changes that other servers made; return the time of the store's clock, if known."""
        # Not during changes made here: data read before them would undo them.
        async with self.log.lock:
            await self._catch_up()
            return self._counters.now

    async def retry_reading(self) -> None:
        """Read unreadable data again if its next try is due."""
        if any(
            not self._aside.is_waiting(key) for key in self._aside.keys(READ) if key.kind != VERSION
        ):
            async with self.log.lock:
                self._counters = UNKNOWN
                await self._catch_up()

    async def _catch_up(self) -> None:
        counters = await self._store.read_change_counters()
        before, self._counters = self._counters, counters
        try:
            if counters.packs != before.packs:
                await self.packs.refresh()
            if counters.flows != before.flows:
                await self.flows.refresh()
            if counters.items != before.items:
                await self.data.refresh()
            if counters.notes != before.notes:
                await self.vault.load()
                await self.tokens.refresh()
                await self.hooks.refresh()
        except BaseException:  # on any failure, everything is checked again next time
            self._counters = UNKNOWN
            raise

    def _states(self) -> Mapping[ResourceKey, ResourceState]:
        """Return the states of all resources that the audit log covers."""
        registries = (self.flows, self.data, self.vault, self.packs, self.tokens, self.hooks)
        return {thing: state for registry in registries for thing, state in registry.states.items()}
