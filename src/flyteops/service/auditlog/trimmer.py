"""The bound of the audit log: its oldest entries make room for new ones."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flyteops.background import BackgroundLoop
from flyteops.errors import StoreError
from flyteops.service.auditlog.entry import (
    BASE,
    KEY,
    KIND,
    AuditBase,
    AuditEntry,
    ChainVerifier,
    key_of,
    open_entry,
)
from flyteops.service.auditlog.log import PAGE_SIZE, AuditLog
from flyteops.storage.base import Store

if TYPE_CHECKING:
    from flyteops.model import Note

LOGGER = logging.getLogger("flyte.service")

PAGES = 40
"""The number of pages of entries measured in one round."""

STEP = 500
"""The number of entries removed in one transaction."""


class AuditLogTrimmer:
    """Keeps the audit log from growing for ever.

    `excess` is the number of bytes above the bound.
    """

    def __init__(
        self, store: Store, changes: AuditLog, loop: Callable[[str, logging.Logger], BackgroundLoop]
    ) -> None:
        self.excess = 0
        self._store = store
        self._changes = changes
        self._loop = loop
        self._from = self._to = self._size = 0
        self._cleared = -1
        self._trusted = AuditBase()

    async def trim(self, limit: int) -> None:
        """Measure the log, and remove its oldest entries when it is longer than `limit` bytes."""
        base = await self._changes.base()
        if not await self._is_trusted(base):
            return
        await self._clear(base)
        if not await self._measure(base):
            return
        self.excess = max(0, self._size - limit)
        if not self.excess:
            return
        too_much = self._size - limit * 9 // 10
        entries, length = await self._oldest(base, too_much)
        # Each trim adds an entry and a base, so do not trim for a few entries if the newest alone
        # exceed the bound.
        if (length >= too_much or len(entries) >= PAGE_SIZE) and await self._changes.trim(entries):
            LOGGER.info(
                "Changes %d to %d are removed, so that the audit log takes no more than %d bytes",
                entries[0].seq,
                entries[-1].seq,
                limit,
            )
            base = await self._changes.base()
            if not await self._is_trusted(base):
                return
            await self._clear(base)
            await self._measure(base)
            self.excess = max(0, self._size - limit)

    async def _is_trusted(self, base: AuditBase) -> bool:
        """Return whether an entry says that a server has written the base; report it if none does.

        With another one nothing is removed: the next base, which an entry of ours would vouch for,
        would hide what is missing.
        """
        if base == self._trusted:
            return True
        loop = self._loop("Trusting the base of the audit log", LOGGER)
        if not await self._changes.has_entry_of(base):
            loop.failed(
                StoreError(
                    f"No entry of the audit log records that those up to {base.seq} were removed."
                    " All entries stay for `flyte audit verify`."
                )
            )
            return False
        loop.succeeded()
        self._trusted = base
        return True

    async def _measure(self, base: AuditBase) -> bool:
        """Add the lengths of entries not measured yet.

        Return whether the end of the log was reached.
        """
        if base.seq != self._from:
            self._from = self._to = base.seq
            self._size = 0
        for _ in range(PAGES):
            notes = await self._page(self._to)
            if not notes:
                return True
            self._size += sum(len(note.value) for note in notes)
            self._to = int(notes[-1].key)
        return False

    async def _page(self, seq: int) -> "Sequence[Note]":
        notes = await self._store.list_notes(KIND, after=key_of(seq), limit=PAGE_SIZE)
        return [note for note in notes if KEY.fullmatch(note.key)]

    async def _oldest(self, base: AuditBase, too_much: int) -> tuple[Sequence[AuditEntry], int]:
        """Return the oldest entries that add up to so many bytes, and their length.

        The newest entries, and entries after a damaged one, are not among them.
        """
        loop = self._loop("Bounding the audit log", LOGGER)
        chain = ChainVerifier()
        chain.begin(base.note)
        entries: list[AuditEntry] = []
        length = 0
        while length < too_much and chain.seq < self._to - PAGE_SIZE:
            page = await self._page(chain.seq)
            if not page:  # another server has removed them
                break
            for note in page:
                chain.add(note)
                if chain.fault is not None:
                    loop.failed(
                        StoreError(
                            f"{chain.fault}. It stays for `flyte audit verify`, with all entries"
                            " behind it."
                        )
                    )
                    return entries, length
                entries.append(open_entry(note))
                length += len(note.value)
                if length >= too_much or chain.seq >= self._to - PAGE_SIZE:
                    break
        loop.succeeded()
        return entries, length

    async def _clear(self, base: AuditBase) -> None:
        """Remove the entries that a base replaces."""
        if base.seq == self._cleared:
            return
        for kind, last in ((KIND, base.seq), (BASE, base.seq - 1)):
            while (
                await self._store.delete_notes(kind, until=key_of(max(last, 0)), limit=STEP) == STEP
            ):
                pass
        self._cleared = base.seq
