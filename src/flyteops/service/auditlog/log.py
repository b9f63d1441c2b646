"""The audit log: the entry of a change is stored before the change is made.

So nothing changes without an entry, no matter when a server dies. A change that then fails is
followed by an entry that says so; where the server died in between, the next start finds the
resource unchanged, and records that.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from flyteops.errors import BusyError, ConflictError, FlyteError, NotFoundError, OutcomeUnknownError
from flyteops.model import Note
from flyteops.service.auditlog.entry import (
    BASE,
    KEY,
    KIND,
    NOTHING,
    SERVER,
    STATELESS,
    ActionName,
    AuditBase,
    AuditEntry,
    Author,
    ResourceKey,
    ResourceState,
    bounded,
    compare_states,
    key_of,
    open_base,
    open_entry,
    seal_entry,
)
from flyteops.storage.base import Store
from flyteops.storage.query import PAGE_BYTES, Page
from flyteops.timeformat import format_timestamp

LOGGER = logging.getLogger("flyte.changes")

CatchUp = Callable[[], Awaitable[None]]
"""Loads changes made by other servers into memory."""

States = Callable[[], Mapping[ResourceKey, ResourceState]]
"""Returns the states of all resources in memory."""

TRIMMED: ResourceKey = ("log", "changes")
"""The subject of an entry about removed entries."""

PAGE_SIZE = 50
"""The number of entries read at a time."""

MAX_TRIES = 1000
"""The number of times that other servers may win the race to write the next entry."""

SETTLING_TIME = timedelta(minutes=1)
"""The longest time that a change takes.

During it, another server may still be about to apply an entry; the entry is compared with the state
afterwards.
"""


class LogHead(NamedTuple):
    """The newest entry: its number and hash.

    For an empty log, the values that the first entry refers to.
    """

    seq: int
    hash: str


class AuditFilter(Struct, frozen=True):
    """A filter for entries; None matches all. `who` is a kind of actor, an id or a name."""

    kind: str | None = None
    name: str | None = None
    who: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def accepts(self, change: AuditEntry) -> bool:
        """Return whether an entry matches."""
        at = datetime.fromisoformat(change.time)
        return (
            self.kind in (None, change.kind)
            and (self.name is None or bounded(self.name) == change.name)
            and self.who in (None, change.who.kind, change.who.id, change.who.name)
            and (self.since is None or self.since <= at)
            and (self.until is None or at < self.until)
        )


class AuditLog:
    """Writes and reads entries.

    A caller that changes the memory holds `lock`, so that one resource changes at a time on this
    server.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        catch_up: CatchUp,
        states: States,
        is_unreadable: Callable[[ResourceKey], bool] = lambda _: False,
    ) -> None:
        self._is_unreadable = is_unreadable
        self.lock = asyncio.Lock()
        self._store = store
        self._clock = clock
        self._catch_up = catch_up
        self._states = states
        self._head: LogHead | None = None
        self._pending: list[AuditEntry] = []
        self._reconcile_at: datetime | None = None

    # -------------------------------------------------------------------------------------- writing

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Wait for the exclusive right to change resources here, and load the changes of others."""
        async with self.lock:
            await self._catch_up_if_shared()
            yield

    async def _catch_up_if_shared(self) -> None:
        if self._store.is_shared:
            await self._catch_up()

    @asynccontextmanager
    async def record_change(
        self,
        by: Author,
        thing: ResourceKey,
        before: ResourceState | None,
        after: ResourceState | None,
        action: ActionName | None = None,
    ) -> AsyncIterator[None]:
        """Write an entry on the change made inside, within `exclusive`; none without change."""
        if before == after:
            yield
            return
        await self._write_pending()
        change = await self._append(
            self._change(by, thing, action or _action(before, after), before, after)
        )
        try:
            yield
        except OutcomeUnknownError:  # the next check compares the entry with the state at that time
            self._reconcile_at = self._clock() + SETTLING_TIME
            raise
        except Exception:  # any failure means that the change was not made
            await self._record_failure(change)
            raise
        await self._reconcile(change)

    def _change(
        self,
        by: Author,
        thing: ResourceKey,
        action: ActionName,
        before: ResourceState | None,
        after: ResourceState | None,
    ) -> AuditEntry:
        kind, name = thing
        return AuditEntry(
            seq=0,
            time=format_timestamp(self._clock()),
            who=by.who,
            place=by.place,
            kind=kind,
            name=name,
            action=action,
            before=before,
            after=after,
            previous=NOTHING,
        )

    async def _append(self, change: AuditEntry) -> AuditEntry:
        """Write an entry after the newest one, no matter which server wrote that."""
        for _ in range(MAX_TRIES):
            try:
                return await self._put(change)
            except ConflictError:
                self._head = None
        raise BusyError("Too many servers write the audit log at once; nothing was changed.")

    async def _put(self, change: AuditEntry) -> AuditEntry:
        """Write an entry after the newest one known here.

        Raise `ConflictError` if there is a newer one.
        """
        head = self._head or await self._newest()
        sealed, note = seal_entry(replace(change, seq=head.seq + 1, previous=head.hash))
        await self._store.save_note(note, replaces=False)
        self._head = LogHead(sealed.seq, sealed.hash)
        LOGGER.info(
            "Change %s: %s %r %s by %s from %s",
            sealed.head,
            sealed.kind,
            sealed.name,
            sealed.action,
            sealed.who,
            sealed.place.address or "here",
        )
        return sealed

    async def base(self) -> AuditBase:
        """Return the record that replaces removed entries."""
        for note in await self._store.list_notes(BASE, limit=PAGE_SIZE, backwards=True):
            try:
                return open_base(note)
            # With an older base, or none, nothing is removed: the first entry does not follow it.
            except ValueError:
                LOGGER.warning(
                    "The base %r of the audit log is damaged; check it with `flyte audit verify`",
                    note.key,
                )
        return AuditBase()

    async def has_entry_of(self, base: AuditBase) -> bool:
        """Return whether an entry says that the base has taken the place of others."""
        after = None
        while notes := await self._store.list_notes(
            KIND, after=after, limit=PAGE_SIZE, backwards=True
        ):
            if any(
                change.resource == TRIMMED and change.after == base.state for change in _read(notes)
            ):
                return True
            after = notes[-1].key
            if after <= key_of(base.seq):
                return False
        return False

    async def trim(self, entries: Sequence[AuditEntry]) -> bool:
        """Replace the oldest entries with a base; return False, with no effect, if others did so.

        An entry records this first. The entries themselves may be removed afterwards.
        """
        async with self.exclusive():
            base = await self.base()
            if entries[0].seq != base.seq + 1:
                return False
            wider = base.behind(entries)
            await self._append(self._change(SERVER, TRIMMED, "trimmed", None, wider.state))
            await self._store.save_note(wider.note)
        return True

    async def _newest(self) -> LogHead:
        for note in await self._store.list_notes(KIND, limit=PAGE_SIZE, backwards=True):
            if KEY.fullmatch(note.key):  # otherwise the note was not written by a server
                return LogHead(
                    int(note.key), note.value.partition(b"\n")[0].decode(errors="replace")
                )
        return LogHead(0, NOTHING)

    async def _record_failure(self, change: AuditEntry) -> None:
        """Record that a change was not made, now or as soon as the store can be written again."""
        failed = replace(
            change, action="failed", before=None, after=change.before, about=change.seq
        )
        self._pending.append(replace(failed, time=format_timestamp(self._clock())))
        try:
            await self._write_pending()
        except FlyteError:
            LOGGER.warning(
                "Change %s was not made; recording that as soon as the store can be", change.head
            )
        else:
            await self._reconcile(change)

    async def _write_pending(self) -> None:
        while self._pending:
            await self._append(self._pending[0])
            del self._pending[0]

    # ------------------------------------------------------------------------------- reconciliation

    async def start(self) -> None:
        """Record the states that differ from the newest entries.

        In an empty log, record all states.
        """
        while True:
            try:
                await self._record_differences()
            except ConflictError:  # another server has written an entry meanwhile, perhaps the same
                self._head = None
            else:
                return

    async def run_maintenance(self) -> None:
        """Write postponed entries, and regularly record changes that a dead server did not make."""
        async with self.exclusive():
            await self._write_pending()
            if (
                self._store.is_shared
                and self._reconcile_at is not None
                and self._clock() >= self._reconcile_at
            ):
                await self.start()

    async def _record_differences(self) -> None:
        self._reconcile_at = self._clock() + SETTLING_TIME
        self._head = await self._newest()
        await self._catch_up_if_shared()
        states = self._states()
        recorded: dict[ResourceKey, AuditEntry] = {}
        for change in _read(await self._store.list_notes(KIND, limit=PAGE_SIZE, backwards=True)):
            recorded.setdefault(change.resource, change)
        if recorded:
            recorded = {
                thing: change
                for thing, change in recorded.items()
                if change.kind not in STATELESS and not self._is_under_way(change)
            }
            recorded = {
                thing: change
                for thing, change in recorded.items()
                if not self._is_unreadable(thing)
            }
            states = {thing: state for thing, state in states.items() if thing in recorded}
        for thing, entry, state, _ in compare_states(recorded, states):
            if entry is not None:
                LOGGER.warning(
                    "The %s %r does not match change %s, its last audit entry", *thing, entry.head
                )
            await self._put(
                self._change(SERVER, thing, "found", None if entry is None else entry.after, state)
            )

    def _is_under_way(self, change: AuditEntry) -> bool:
        return (
            self._store.is_shared
            and self._clock() < datetime.fromisoformat(change.time) + SETTLING_TIME
        )

    async def _reconcile(self, change: AuditEntry) -> None:
        """Reconcile the last entry with the state if another server changed it at the same time."""
        if not self._store.is_shared:
            return
        try:
            await self._compare(change)
        except FlyteError as error:
            LOGGER.warning(
                "Whether another server has changed the %s %r as well cannot be seen: %s",
                *change.resource,
                error.message,
            )

    async def _compare(self, change: AuditEntry) -> None:
        last = change
        while True:
            newer = _read(await self._store.list_notes(KIND, after=key_of(last.seq)))
            others = [each for each in newer if each.resource == change.resource]
            if not others and last is change:
                return
            last = others[-1] if others else last
            await self._catch_up_if_shared()
            state = self._states().get(change.resource)
            if state == last.after:
                return
            last = await self._append(
                self._change(SERVER, change.resource, "found", last.after, state)
            )

    # -------------------------------------------------------------------------------------- reading

    async def find(self, which: AuditFilter, start: int, limit: int) -> Page[AuditEntry]:
        """Return entries, newest first.

        A page is cut when it is longer than `PAGE_BYTES`, but never before the first entry.
        """
        found: list[AuditEntry] = []
        length, after = 0, None
        first = key_of((await self.base()).seq + 1)
        while notes := await self._store.list_notes(
            KIND, after=after, limit=PAGE_SIZE, backwards=True
        ):
            for note in notes:
                if note.key < first:  # it is being removed
                    return Page(found)
                changes = [change for change in _read([note]) if which.accepts(change)]
                if changes and start:
                    start -= 1
                    continue
                length += len(note.value) if changes else 0
                if found and length > PAGE_BYTES:
                    return Page(found, is_cut=True)
                found += changes
                if len(found) == limit:
                    return Page(found)
            after = notes[-1].key
        return Page(found)

    async def get(self, seq: int) -> AuditEntry:
        """Return an entry; raise `NotFoundError`."""
        base = await self.base()
        if 0 < seq <= base.seq:
            raise NotFoundError(
                f"Change {seq} was removed, as all up to {base.seq} were: see FLYTE_MAX_CHANGE_LOG."
            )
        before = key_of(seq - 1) if seq > 0 else ""
        for change in _read(await self._store.list_notes(KIND, after=before, limit=1)):
            if change.seq == seq:
                return change
        raise NotFoundError(f"There is no change {seq}.")


def _action(before: ResourceState | None, after: ResourceState | None) -> ActionName:
    if before is None:
        return "created"
    return "removed" if after is None else "updated"


def _read(notes: Iterable[Note]) -> list[AuditEntry]:
    """Return the readable entries.

    Damaged ones are left to `flyte audit verify`, which reports them.
    """
    changes = []
    for note in notes:
        try:
            changes.append(open_entry(note))
        except ValueError:
            LOGGER.warning(
                "Entry %r of the audit log cannot be read; check it with `flyte audit verify`",
                note.key,
            )
    return changes
