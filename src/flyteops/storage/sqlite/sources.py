"""The sources of events: the few senders and names that millions of events repeat."""

import sqlite3
from collections.abc import Iterable

from flyteops.model import Event
from flyteops.storage.row import to_text
from flyteops.storage.sqlite.queues import SQL, Key, labels_key

MAX_SOURCES = 10_000
"""The number of cached sources, as packs may invent names; beyond it, all are dropped."""


class SourceCache:
    """The ids of sources.

    Invariant: each entry is a row of the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._ids: dict[tuple[str, str, str, Key], int] = {}

    def clear(self) -> None:
        """Drop all entries."""
        self._ids.clear()

    def source_id(self, event: Event) -> int:
        """Return the id of an event's source; create it at need."""
        pack = event.pack
        key = (event.name, pack.name, pack.id, labels_key(pack.labels))
        source_id = self._ids.get(key)
        if source_id is None:
            source_id = self._find(event) or self._create(event)
            if len(self._ids) >= MAX_SOURCES:
                self._ids.clear()
            self._ids[key] = source_id
        return source_id

    def drop_unused(self, source_ids: Iterable[int]) -> None:
        """Delete those of the sources without events; buffered rows must be written before."""
        for source_id in source_ids:
            if self._execute(SQL.has_events, (source_id,)).fetchone() is None:
                self._execute(SQL.delete_source, (source_id,))
                self._ids.clear()

    def _find(self, event: Event) -> int | None:
        pack = event.pack
        row = self._execute(
            SQL.find_source, (event.name, pack.name, pack.id, to_text(pack.labels))
        ).fetchone()
        return None if row is None else row[0]

    def _create(self, event: Event) -> int:
        pack = event.pack
        row = self._execute(
            SQL.insert_source, (event.name, pack.name, pack.id, to_text(pack.labels))
        ).fetchone()
        return int(row[0])
