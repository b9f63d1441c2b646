"""The datastore in memory: visible items and secrets, under keys that they share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from flyteops.engine.context import DatastoreSnapshot
from flyteops.errors import ConflictError, ForbiddenError, InputError, NotFoundError, Problem
from flyteops.model import DataItem
from flyteops.name import check, fault_of_text, name_problems
from flyteops.service.aside import ITEM, SetAsideEntries, SetAsideKey
from flyteops.service.auditlog.entry import (
    SERVER,
    UNREADABLE,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.auditlog.snapshot import item_state
from flyteops.service.vault import Vault
from flyteops.storage.base import Store


class DataRegistry:
    """All datastore items; `snapshot` is the view for templates."""

    def __init__(
        self, store: Store, vault: Vault, changes: AuditLog, aside: SetAsideEntries
    ) -> None:
        self._store = store
        self._aside = aside
        self._vault = vault
        self._changes = changes
        self._items: dict[str, DataItem] = {}
        self.snapshot = DatastoreSnapshot({}, vault)

    async def refresh(self) -> None:
        """Load the items from the store; secrets belong to the vault.

        Set aside those that cannot be read.
        """
        items = await self._store.list_items()
        self._aside.replace(ITEM, {each.name: each.error for each in items.unreadable})
        self._put(items)

    def _put(self, items: Iterable[DataItem]) -> None:
        self._items = {item.key: item for item in items}
        self.snapshot = DatastoreSnapshot(self._items, self._vault)

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all items except secrets, as entries of the audit log record them."""
        return {
            resource_key("datastore", key): item_state(item) for key, item in self._items.items()
        }

    async def save(
        self, item: DataItem, by: Author = SERVER, *, keeps_description: bool = False
    ) -> bool:
        """Create or replace a datastore item; return True if it is new.

        It may keep its present description. An item that would not change is not written again.
        """
        if not item.value:
            raise InputError(
                "A datastore item needs a value.", problems=[Problem("value", "must not be empty")]
            )
        check("The datastore item", _faults(item))
        async with self._changes.exclusive():
            if item.key in (self._items if item.is_secret else self._vault):
                raise ConflictError(
                    f"Delete {item.key!r} first: an item cannot change between secret and readable."
                )
            if item.is_secret:
                return await self._vault.save(item, by, keeps_description=keeps_description)
            known = self._items.get(item.key)
            if known is not None and keeps_description:
                item = replace(item, description=known.description)
            if item == known:
                return False
            before = None if known is None else item_state(known)
            async with self._changes.record_change(
                by, resource_key("datastore", item.key), before, item_state(item)
            ):
                is_new = await self._store.save_item(item)
                self._put([*self._items.values(), item])
        return is_new

    def list(self) -> Sequence[DataItem]:
        """Return all datastore items by key; secret ones have no value."""
        return sorted([*self._items.values(), *self._vault.items], key=lambda item: item.key)

    def get(self, key: str) -> DataItem:
        """Return an item; raise `ForbiddenError` for a secret, and `NotFoundError`."""
        if key in self._vault:
            raise ForbiddenError(
                f"The datastore item {key!r} is a secret: only packs receive its value, in inputs."
            )
        if key not in self._items:
            raise NotFoundError(f"There is no datastore item {key!r}.")
        return self._items[key]

    async def delete(self, key: str, by: Author = SERVER) -> None:
        """Delete an item, secret or not; raise `NotFoundError`."""
        async with self._changes.exclusive():
            if key in self._vault:
                await self._vault.delete(key, by)
                return
            unreadable = SetAsideKey(ITEM, key)
            before = UNREADABLE if unreadable in self._aside else item_state(self.get(key))
            async with self._changes.record_change(
                by, resource_key("datastore", key), before, None
            ):
                await self._store.delete_item(key)
                self._aside.resolve([unreadable])
                self._put([item for item in self._items.values() if item.key != key])


def _faults(item: DataItem) -> Iterator[Problem]:
    yield from name_problems({"key": item.key})
    for path, text in (("description", item.description), ("contentType", item.content_type)):
        fault = fault_of_text(text)
        if fault is not None:
            yield Problem(path, fault)
