"""Packs, flows, datastore items and notes: their changes."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from flyteops.model import DataItem, FlowVersion, Note, Pack
from flyteops.storage import rules
from flyteops.storage.row import item_row, pack_row, to_microseconds, version_row
from flyteops.storage.statements import load_statements
from flyteops.transition import ScheduleEntry

SQL = load_statements("flyteops.storage.sqlite", "catalog")


class Catalog:
    """The verbs of the port that change them. Each belongs inside a transaction of the writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ping(self) -> None:
        """Write something, so that a full or read-only disk is noticed."""
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        self._connection.execute(f"PRAGMA user_version = {version}")

    def save_pack(self, pack: Pack) -> None:
        self._connection.execute(SQL.save_pack, pack_row(pack))

    def delete_pack(self, pack_id: str, unless_seen_since: datetime | None) -> None:
        row = self._connection.execute(SQL.pack_last_seen, (pack_id,)).fetchone()
        (seen_at,) = rules.found(row, "pack", pack_id)
        if unless_seen_since is None or seen_at < to_microseconds(unless_seen_since):
            self._connection.execute(SQL.delete_pack, (pack_id,))

    def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        rows = [
            (at, pack_id, at)
            for pack_id, at in ((key, to_microseconds(value)) for key, value in seen.items())
        ]
        self._connection.executemany(SQL.touch_packs, rows)

    def save_flow(self, version: FlowVersion, timetables: Sequence[ScheduleEntry]) -> None:
        flow = version.flow
        self._connection.execute(SQL.create_flow_version, version_row(version))
        self._connection.execute(SQL.set_current_version, (flow.name, version.uuid))
        rows = self._connection.execute(SQL.replace_timetables, (flow.name,)).fetchall()
        kept = {(step_id, rule): next_at for step_id, rule, next_at in rows}
        for entry in timetables:
            row = (
                flow.name,
                entry.step_index,
                entry.step_id,
                entry.rule,
                rules.next_time(entry, kept),
            )
            self._connection.execute(SQL.create_timetable, row)

    def delete_flow(self, name: str) -> None:
        if not self._connection.execute(SQL.delete_flow, (name,)).rowcount:
            raise rules.missing("flow", name)
        self._connection.execute(SQL.delete_timetables, (name,))

    def save_item(self, item: DataItem) -> bool:
        is_new = self._connection.execute(SQL.has_item, (item.key,)).fetchone() is None
        self._connection.execute(SQL.save_item, item_row(item))
        return is_new

    def delete_item(self, key: str) -> None:
        if not self._connection.execute(SQL.delete_item, (key,)).rowcount:
            raise rules.missing("datastore item", key)

    def save_note(self, note: Note, *, replaces: bool) -> None:
        statement = SQL.save_note if replaces else SQL.create_note
        done = self._connection.execute(statement, (note.kind, note.key, note.value))
        if not done.rowcount:
            raise rules.taken(note.kind, note.key)

    def delete_note(self, kind: str, key: str) -> None:
        if not self._connection.execute(SQL.delete_note, (kind, key)).rowcount:
            raise rules.missing(kind, key)

    def delete_notes(self, kind: str, until: str, limit: int) -> int:
        """See `Store.delete_notes`."""
        return self._connection.execute(SQL.delete_notes, (kind, until, limit)).rowcount
