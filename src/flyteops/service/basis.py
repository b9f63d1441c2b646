"""The bases of evaluations: flow versions and datastore items that stored events refer to.

Decisions that follow from an event, its seed and the flows and items of that time are not stored
with each event (`model.Basis`). The flow versions that listened and the items that they read are
stored once, under a number: as a note that names what differs from an earlier basis, so that a
change of one flow among thousands takes little room. Values of items are notes of their own, under
a digest of their content.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from sys import intern
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from flyteops.engine.context import DatastoreSnapshot
from flyteops.engine.subscribers import Subscribers
from flyteops.errors import ConflictError, NotFoundError, TemplateError
from flyteops.model import DataItem, JsonValue, Note
from flyteops.storage.base import NotLoadedError, Store

LOGGER = logging.getLogger("flyte.service")

BASIS = "basis"
"""The kind of the notes with bases; their keys are numbers of 12 digits."""

ITEM_VALUE = "item-value"
"""The kind of the notes with values of datastore items; their keys are digests."""

RECENT = 8
"""The number of bases of which one may be that from which the next is stored as a difference."""

SMALL_DIFFERENCE = 10
"""The number of entries up to which a difference is short enough to look for no shorter one."""

VALUES_AT_ONCE = 10
"""The number of values of items that are read at once to find unused ones."""

LONGEST_CHAIN = 50
"""The number of differences in a row after which a basis is stored in full again."""

ABSENT, HIDDEN = "-", "secret"
"""Instead of the digest of an item: there was none, or it was a secret, which nothing can read."""


class BasisContent(NamedTuple):
    """The flow versions (uuids by flow name) and items (digests by key) of a basis."""

    flows: Mapping[str, str]
    items: Mapping[str, str]


class BasisNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form of a basis: the difference from the basis `base`, or all of it."""

    fingerprint: str
    flows: dict[str, str] = {}
    items: dict[str, str] = {}
    base: int | None = None
    without_flows: tuple[str, ...] = ()
    without_items: tuple[str, ...] = ()


class FormerDatastore(DatastoreSnapshot):
    """The items of a basis; a template that reads one of those in `lost` fails, and says so."""

    def __init__(
        self, items: Mapping[str, DataItem], secrets: Collection[str], lost: Collection[str]
    ) -> None:
        super().__init__(items, secrets)
        self._lost = lost

    def __call__(self, key: str) -> JsonValue:
        """See `DatastoreSnapshot`."""
        if key in self._lost:
            raise TemplateError(
                f"the value that the datastore item {key!r} had then is not in the store any more,"
                " or is damaged, so that this decision cannot be computed again"
            )
        return super().__call__(key)


class NotStoredError(NotLoadedError):
    """A basis is not stored yet: the evaluation ends without any effect, and is to be repeated.

    `versions` are the keys and digests of the items.
    """

    def __init__(
        self,
        subscribers: Subscribers,
        items: Mapping[str, DataItem | None],
        versions: tuple[str, ...],
    ) -> None:
        super().__init__("")
        self.subscribers = subscribers
        self.items = items
        self.versions = versions


class BasisRegistry:
    """All bases in memory, as they are stored; those of current evaluations by their content."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notes: dict[int, BasisNote] = {}
        self._last = 0
        self._by_content: dict[str, int] = {}
        self._unused_values: dict[str, datetime] = {}
        self._may_have_unused_values = True
        self._known: WeakKeyDictionary[Subscribers, dict[tuple[str, ...], int]]
        self._known = WeakKeyDictionary()
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._digests: WeakKeyDictionary[DatastoreSnapshot, dict[str, str]] = WeakKeyDictionary()
        self._is_loaded = False
        self._lock = asyncio.Lock()

    # -------------------------------------------------------------------------------- evaluation

    def number(
        self, datastore: DatastoreSnapshot, subscribers: Subscribers, keys: Iterable[str]
    ) -> int:
        """Return the number of the basis of an evaluation with this datastore, see `BasisNumber`.

        May be called in the writer's thread. Raise `NotStoredError` if there is none yet.
        """
        ordered = sorted(keys)
        versions = (*ordered, *[self._digest(datastore, key) for key in ordered])
        known = self._known.get(subscribers)
        number = None if known is None else known.get(versions)
        if number is None:
            items = {key: datastore.find(key) for key in ordered}
            raise NotStoredError(subscribers, items, versions)
        return number

    def _digest(self, datastore: DatastoreSnapshot, key: str) -> str:
        digests = self._digests.setdefault(datastore, {})
        if key not in digests:
            digests[key] = digest_of(datastore.find(key))
        return digests[key]

    async def store(self, missing: NotStoredError) -> None:
        """Store the basis that an evaluation needs, and the values of its items."""
        async with self._lock:
            # All events that come after a flow was saved need the same one.
            if missing.versions not in self._known.get(missing.subscribers, {}):
                await self._store_missing(missing)

    async def _store_missing(self, missing: NotStoredError) -> None:
        await self.refresh()
        # In the order of their names, as the fingerprint wants them.
        digests = {key: digest_of(missing.items[key]) for key in sorted(missing.items)}
        flows = {
            flow.version.flow.name: flow.version.uuid for flow, _ in missing.subscribers.entries
        }
        content = BasisContent(flows, digests)
        fingerprint = _fingerprint(content)
        number = self._by_content.get(fingerprint)
        if number is None or not await self._is_usable(number):
            values = [item for item in missing.items.values() if item and not item.is_secret]
            await self._store_values(values)
            number = await self._add(content, fingerprint)
            if self._store.is_shared:
                # Another server that took them for unused may have removed them in between.
                await self._store_values([each for each in values if not await self._value(each)])
        self._known.setdefault(missing.subscribers, {})[missing.versions] = number

    async def _is_usable(self, number: int) -> bool:
        """Return whether a basis can be read, and no other server has removed it."""
        try:
            self.content(number)
        except NotFoundError:
            return False
        return not self._store.is_shared or bool(await self._find(BASIS, f"{number:012}"))

    async def _find(self, kind: str, key: str) -> bytes | None:
        """Return the value of a note whose key is a number of any base; None if it is no number."""
        try:
            before = f"{int(key, 16) - 1:0{len(key)}x}"
        except ValueError:
            return None
        found = await self._store.list_notes(kind, after=before, limit=1)
        return found[0].value if found and found[0].key == key else None

    async def _value(self, item: DataItem) -> bytes | None:
        return await self._find(ITEM_VALUE, digest_of(item))

    async def _store_values(self, items: Iterable[DataItem]) -> None:
        for item in items:
            await self._store.save_note(Note(ITEM_VALUE, digest_of(item), _content_of(item)))

    async def _add(self, content: BasisContent, fingerprint: str) -> int:
        """Store a basis under the next number, which another server may take first."""
        note = self._difference(content, fingerprint)
        while True:
            number = self._last + 1
            encoded = msgspec.json.encode(note)
            try:
                await self._store.save_note(Note(BASIS, f"{number:012}", encoded), replaces=False)
            except ConflictError:
                await self._load_after(number - 1)
                continue
            self._put(number, note)
            self._recent.append(number)
            return number

    def _difference(self, content: BasisContent, fingerprint: str) -> BasisNote:
        """Return the stored form: the difference from a recent basis, if that is much shorter."""
        best = BasisNote(fingerprint, dict(content.flows), dict(content.items))
        least = (len(content.flows) + len(content.items)) // 2
        for base in reversed(self._recent):
            if self._chain(base) >= LONGEST_CHAIN:
                continue
            former = self.content(base)
            flows, without_flows = _changes(former.flows, content.flows)
            items, without_items = _changes(former.items, content.items)
            length = sum(map(len, (flows, without_flows, items, without_items)))
            if length < least:
                best = BasisNote(fingerprint, flows, items, base, without_flows, without_items)
                least = length
            if length <= SMALL_DIFFERENCE:
                break
        return best

    def _chain(self, number: int) -> int:
        length = 0
        while (base := self._notes[number].base) is not None:
            number, length = base, length + 1
        return length

    # ------------------------------------------------------------------------------------ reading

    async def refresh(self) -> None:
        """Load the bases that other servers have stored."""
        if not self._is_loaded or self._store.is_shared:
            await self._load_after(self._last)
            self._is_loaded = True

    async def _load_after(self, number: int) -> None:
        for note in await self._store.list_notes(BASIS, after=f"{number:012}"):
            try:
                self._put(int(note.key), _decoded(note))
            except (msgspec.MsgspecError, UnicodeError) as error:
                self._last = max(self._last, int(note.key))
                LOGGER.error(
                    "The basis %s of decisions cannot be read: %s. Decisions about its events that"
                    " are not stored cannot be computed again.",
                    note.key,
                    error,
                )

    def _put(self, number: int, note: BasisNote) -> None:
        self._last = max(self._last, number)
        self._notes[number] = note
        self._by_content[note.fingerprint] = number

    def content(self, number: int) -> BasisContent:
        """Return a basis in full; raise `NotFoundError` if it is not known."""
        chain: list[BasisNote] = []
        at: int | None = number
        while at is not None:
            if at not in self._notes:
                raise NotFoundError(f"There is no basis {at} of decisions in the store.")
            chain.append(self._notes[at])
            at = chain[-1].base
        flows: dict[str, str] = {}
        items: dict[str, str] = {}
        for note in reversed(chain):
            for name in note.without_flows:
                flows.pop(name, None)
            for key in note.without_items:
                items.pop(key, None)
            flows |= note.flows
            items |= note.items
        return BasisContent(flows, items)

    async def with_flow(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the bases that have a version of a flow, newest first."""
        await self.refresh()
        found: dict[int, bool] = {}
        for number, note in sorted(self._notes.items()):
            former = note.base is not None and found.get(note.base, False)
            found[number] = name in note.flows or (former and name not in note.without_flows)
        return tuple(sorted((number for number, has in found.items() if has), reverse=True))

    async def snapshot(self, content: BasisContent) -> DatastoreSnapshot:
        """Return the items of a basis as templates saw them."""
        items: dict[str, DataItem] = {}
        lost: set[str] = set()
        secrets = {key for key, value_id in content.items.items() if value_id == HIDDEN}
        for key, value_id in content.items.items():
            if value_id in (ABSENT, HIDDEN):
                continue
            stored = await self._find(ITEM_VALUE, value_id)
            if stored is None or _value_id(stored) != value_id:
                lost.add(key)
            else:
                content_type, _, value = stored.partition(b"\0")
                items[key] = DataItem(key, content_type.decode(), value)
        return FormerDatastore(items, secrets, lost)

    # ---------------------------------------------------------------------------------- retention

    @property
    def numbers(self) -> Collection[int]:
        """The numbers of all known bases."""
        return tuple(self._notes)

    @property
    def flow_uuids(self) -> frozenset[str]:
        """The flow versions of all known bases."""
        return frozenset(uuid for note in self._notes.values() for uuid in note.flows.values())

    def forget(self, numbers: Collection[int]) -> None:
        """Use these bases no more for evaluations; each is stored again when one needs it."""
        gone = set(numbers)
        for known in self._known.values():
            for content in [each for each, number in known.items() if number in gone]:
                del known[content]
        self._by_content = {
            content: number for content, number in self._by_content.items() if number not in gone
        }
        self._recent = deque([each for each in self._recent if each not in gone], maxlen=RECENT)

    async def remove(self, numbers: Collection[int]) -> None:
        """Remove bases that no event has, except those that others differ from, and the last.

        Without the last, its number would be given to another basis, and other servers would take
        the one for the other.
        """
        needed = {note.base for note in self._notes.values()} | {self._last}
        removed = {}
        for number in sorted(set(numbers) - needed, reverse=True):
            await _delete(self._store, BASIS, f"{number:012}")
            if (note := self._notes.pop(number, None)) is not None:
                removed[number] = note
        if removed:
            self._may_have_unused_values = True
            # Another server that has just started may have used one in between.
            unused = await self._store.find_unused_bases(removed)
            for number in removed.keys() - set(unused):
                encoded = msgspec.json.encode(removed[number])
                await self._store.save_note(Note(BASIS, f"{number:012}", encoded))
                self._put(number, removed[number])

    async def remove_values(self, now: datetime, grace: timedelta) -> None:
        """Remove values of items that no basis has, at the second look after `grace`.

        Another server may be about to store the basis of one.
        """
        if not self._may_have_unused_values:
            return
        former, self._unused_values = self._unused_values, {}
        after: str | None = None
        while page := await self._store.list_notes(ITEM_VALUE, after=after, limit=VALUES_AT_ONCE):
            after = page[-1].key
            async with self._lock:  # an evaluation may need a value again
                await self._remove_values([each.key for each in page], former, now, grace)
        self._may_have_unused_values = bool(self._unused_values)

    async def _remove_values(
        self,
        digests: Iterable[str],
        former: Mapping[str, datetime],
        now: datetime,
        grace: timedelta,
    ) -> None:
        await self.refresh()
        used = {digest for note in self._notes.values() for digest in note.items.values()}
        for digest in digests:
            since = former.get(digest, now)
            if digest in used:
                continue
            if since <= now - grace:
                await _delete(self._store, ITEM_VALUE, digest)
            else:
                self._unused_values[digest] = since


async def _delete(store: Store, kind: str, key: str) -> None:
    try:
        await store.delete_note(kind, key)
    except NotFoundError:  # another server was faster
        return


def _changes(
    former: Mapping[str, str], present: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the entries that are new or different, and the keys that are gone."""
    changed = {key: value for key, value in present.items() if former.get(key) != value}
    return changed, tuple(sorted(former.keys() - present.keys()))


def digest_of(item: DataItem | None) -> str:
    """Return the digest of an item's content, or the word for one that templates cannot read."""
    if item is None:
        return ABSENT
    if item.is_secret:
        return HIDDEN
    return _value_id(_content_of(item))


def _content_of(item: DataItem) -> bytes:
    """Return the stored form of an item's value."""
    return item.content_type.encode() + b"\0" + item.value


def _value_id(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _decoded(stored: Note) -> BasisNote:
    """Read a note; equal names and ids of all notes share their memory."""
    note = msgspec.json.decode(stored.value, type=BasisNote)
    if note.base is not None and note.base >= int(stored.key):
        raise msgspec.ValidationError(f"it differs from {note.base}, which is not an earlier one")
    flows = {intern(name): intern(uuid) for name, uuid in note.flows.items()}
    items = {intern(key): intern(digest) for key, digest in note.items.items()}
    return msgspec.structs.replace(note, flows=flows, items=items)


def _fingerprint(content: BasisContent) -> str:
    text = msgspec.json.encode((list(content.flows.items()), list(content.items.items())))
    return blake2b(text, digest_size=12).hexdigest()
