"""The packs in memory, with the time at which each was last seen."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta

import msgspec

from flyteops.errors import ConflictError, InputError, NotFoundError, Problem, UnavailableError
from flyteops.model import Pack, PackDeclaration, PackRef
from flyteops.name import check, label_problems, name_problems
from flyteops.service.aside import PACK, SetAsideEntries, SetAsideKey
from flyteops.service.auditlog.entry import (
    SERVER,
    UNREADABLE,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.auditlog.snapshot import pack_state
from flyteops.service.maintenance import MaintenanceSettings
from flyteops.service.presence import PresenceTracker
from flyteops.storage.base import Store
from flyteops.storage.query import Rows

SHOWING_UP = timedelta(minutes=1)
"""The time that packs have to be seen after the start of the server.

Before that, none counts as dead, as none could be seen while the server was down.
"""


class PackRegistry:
    """All packs. Their last-seen times are kept in memory, and stored periodically."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime], changes: AuditLog, aside: SetAsideEntries
    ) -> None:
        self._store = store
        self._clock = clock
        self._aside = aside
        self._changes = changes
        self._packs: dict[str, Pack] = {}
        self._senders: dict[str, PackRef] = {}
        self._seen: dict[str, datetime] = {}
        self._presence = PresenceTracker(store)
        self._dead_checked_on: date | None = None
        self._served_since: datetime | None = None

    def __len__(self) -> int:
        return len(self._packs)

    async def load(self) -> None:
        """Load the packs from the store when the server starts."""
        await self.refresh()
        self._served_since = self._clock()

    async def refresh(self) -> None:
        """Load the packs from the store."""
        self._load(await self._store.list_packs())
        await self._presence.load(self._packs)

    def _load(self, packs: Rows[Pack]) -> None:
        """Replace the packs in memory with these from the store.

        Set aside those that cannot be read.
        """
        self._aside.replace(PACK, {each.name: each.error for each in packs.unreadable})
        self._packs = {pack.id: pack for pack in packs}
        self._senders = {
            pack_id: sender for pack_id, sender in self._senders.items() if pack_id in self._packs
        }

    async def register(
        self, declaration: PackDeclaration, by: Author = SERVER, *, takes_over: bool = True
    ) -> Pack:
        """Create the pack, or replace the one with the same id.

        Different names and labels can make the same id. Unless it `takes_over`, raise
        `ConflictError` for such a pack.
        """
        if not declaration.name.strip():
            raise InputError(
                "A pack needs a name.", problems=[Problem("name", "must not be empty")]
            )
        items = name_problems(
            {f"items[{index}]": key for index, key in enumerate(declaration.items)}
        )
        check(
            "The pack",
            (
                *name_problems({"name": declaration.name}),
                *label_problems("labels", declaration.labels),
                *items,
            ),
        )
        now = self._clock()
        pack = declaration.seen(now)
        async with self._changes.exclusive():
            if not takes_over:
                await self._expect_same(pack)
            known = self._packs.get(pack.id)
            if known is not None and _text(known) == _text(pack):
                self._seen[pack.id] = now  # many do this at once after a restart of the server
                return pack
            before = None if known is None else pack_state(known)
            async with self._changes.record_change(
                by, resource_key("pack", pack.id), before, pack_state(pack)
            ):
                await self._store.save_pack(pack)
                self._forget(pack.id)
                self._packs[pack.id] = pack
        return pack

    async def _expect_same(self, pack: Pack) -> None:
        known = await self._store.find_pack(pack.id)
        if known is not None and known.ref != pack.ref:
            raise ConflictError(
                f"Another pack, whose name and labels are others, has the id {pack.id!r}."
            )

    async def list(self) -> Sequence[Pack]:
        """Return all packs by name and then id, each with the latest time at which it was seen."""
        if self._store.is_shared:
            await self.refresh()
        return sorted(
            (self._fresh(pack) for pack in self._packs.values()),
            key=lambda pack: (pack.name, pack.id),
        )

    async def get(self, pack_id: str) -> Pack:
        """Return a pack; raise `NotFoundError`."""
        return self._fresh(await self._pack(pack_id))

    async def known(self, pack_id: str) -> Pack:
        """Return a pack as it registered, without a fresh last-seen time; raise `NotFoundError`."""
        return await self._pack(pack_id)

    async def reads_item(self, pack_id: str, key: str) -> bool:
        """Return whether a pack declares a datastore item, also since a moment at another server.

        Raise `NotFoundError` for a pack that is not known.
        """
        pack = await self._pack(pack_id)
        if key in pack.items or not self._store.is_shared:
            return key in pack.items
        stored = await self._store.find_pack(pack_id)
        return stored is not None and key in stored.items

    async def delete(self, pack_id: str, by: Author = SERVER) -> None:
        """Delete the pack, even one that cannot be read.

        Its events and actions stay in the audit.
        """
        async with self._changes.exclusive():
            unreadable = SetAsideKey(PACK, pack_id)
            before = (
                UNREADABLE if unreadable in self._aside else pack_state(await self._pack(pack_id))
            )
            async with self._changes.record_change(by, resource_key("pack", pack_id), before, None):
                await self._store.delete_pack(pack_id)
                self._forget(pack_id)
                await self._presence.forget(pack_id)
                self._aside.resolve([unreadable])

    async def sender(self, pack_id: str, now: datetime) -> PackRef:
        """Return a pack that is active now, and record that; raise `NotFoundError`."""
        sender = self._senders.get(pack_id)
        if sender is None:
            sender = self._senders[pack_id] = (await self._pack(pack_id)).ref
        self._seen[pack_id] = now
        return sender

    async def report_presence(self, pack_id: str, instance: str, *, stops: bool) -> int:
        """Record that an instance is connected, or stops; return the number of others connected.

        Raise `NotFoundError` for an unknown pack.
        """
        now = self._clock()
        await self.sender(pack_id, now)
        if stops:
            return await self._presence.sign_off(pack_id, instance, now)
        return self._presence.report(pack_id, instance, now)

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all packs, as entries of the audit log record them."""
        return {resource_key("pack", pack.id): pack_state(pack) for pack in self._packs.values()}

    async def _pack(self, pack_id: str) -> Pack:
        pack = self._packs.get(pack_id)
        if pack is None:
            pack = await self._store.find_pack(pack_id)
            if pack is None:
                raise NotFoundError(
                    f"There is no pack {pack_id!r}; a pack must register before it does anything"
                    " else."
                )
            self._packs[pack_id] = pack
        return pack

    def _forget(self, pack_id: str) -> None:
        for known in (self._packs, self._senders, self._seen):
            known.pop(pack_id, None)

    def _fresh(self, pack: Pack) -> Pack:
        return self._presence.of(
            pack.seen(max(pack.last_seen_at, self._seen.get(pack.id, pack.last_seen_at)))
        )

    async def store_seen(self) -> None:
        """Store the last-seen times of packs."""
        seen, self._seen = self._seen, {}
        for pack_id, at in seen.items():
            if pack_id in self._packs:
                self._packs[pack_id] = self._packs[pack_id].seen(at)
        try:
            if seen:
                await self._store.touch_packs(seen)
        except UnavailableError:
            self._seen = {**seen, **self._seen}
            raise

    async def delete_dead(self, maintenance: MaintenanceSettings) -> None:
        """Remove packs that were not seen for long, once a day."""
        now = self._clock()
        local = now.astimezone()
        due = f"{local:%H:%M}" >= maintenance.dead_packs_at
        if not maintenance.delete_dead_packs or not due or self._dead_checked_on == local.date():
            return
        if self._served_since is not None and now - self._served_since < SHOWING_UP:
            return
        self._dead_checked_on = local.date()
        alive_since = now - maintenance.dead_after
        async with self._changes.exclusive():
            if self._store.is_shared:
                await self.refresh()
            for pack in [
                pack
                for pack in self._packs.values()
                if self._fresh(pack).last_seen_at < alive_since
            ]:
                # Another server was faster, or has seen it.
                with suppress(NotFoundError, ConflictError):
                    await self._delete_dead(pack, alive_since)
                self._forget(pack.id)

    async def _delete_dead(self, pack: Pack, alive_since: datetime) -> None:
        async with self._changes.record_change(
            SERVER, resource_key("pack", pack.id), pack_state(pack), None
        ):
            await self._store.delete_pack(pack.id, unless_seen_since=alive_since)
            await self._presence.forget(pack.id)
            if self._store.is_shared and await self._store.find_pack(pack.id) is not None:
                raise ConflictError(f"The pack {pack.id!r} was seen by another server.")


def _text(pack: Pack) -> bytes:
    """Return the declaration for comparison: to Python, 1 and true in a schema are equal."""
    return msgspec.json.encode(pack.declaration)
