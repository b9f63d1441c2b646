"""Packs, flows, datastore items and notes: their changes."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from flyteops.model import DataItem, FlowVersion, Note, Pack
from flyteops.storage import rules
from flyteops.storage.row import pack_row, to_microseconds, version_row
from flyteops.transition import ScheduleEntry


class Catalog:
    """The verbs of the port that change them. Each belongs inside a transaction of the writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ping(self) -> None:
        """Write something, so that a full or read-only disk is noticed."""
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        self._connection.execute(f"PRAGMA user_version = {version}")

    def save_pack(self, pack: Pack) -> None:
        self._connection.execute("INSERT OR REPLACE INTO pack VALUES (?,?,?,?)", pack_row(pack))

    def delete_pack(self, pack_id: str, unless_seen_since: datetime | None) -> None:
        row = self._connection.execute(
            "SELECT last_seen_at FROM pack WHERE pack_id = ?", (pack_id,)
        ).fetchone()
        (seen_at,) = rules.found(row, "pack", pack_id)
        if unless_seen_since is None or seen_at < to_microseconds(unless_seen_since):
            self._connection.execute("DELETE FROM pack WHERE pack_id = ?", (pack_id,))

    def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        rows = [
            (at, pack_id, at)
            for pack_id, at in ((key, to_microseconds(value)) for key, value in seen.items())
        ]
        self._connection.executemany(
            "UPDATE pack SET last_seen_at = ? WHERE pack_id = ? AND last_seen_at < ?", rows
        )

    def save_flow(self, version: FlowVersion, timetables: Sequence[ScheduleEntry]) -> None:
        flow = version.flow
        self._connection.execute(
            "INSERT INTO flow_version (uuid, name, flow, saved_at) VALUES (?,?,?,?)",
            version_row(version),
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO flow VALUES (?,?)", (flow.name, version.uuid)
        )
        kept = {
            (step_id, rule): next_at
            for step_id, rule, next_at in self._connection.execute(
                "DELETE FROM timetable WHERE flow_name = ? RETURNING step_id, rule, next_at",
                (flow.name,),
            ).fetchall()
        }
        for entry in timetables:
            row = (
                flow.name,
                entry.step_index,
                entry.step_id,
                entry.rule,
                rules.next_time(entry, kept),
            )
            self._connection.execute("INSERT INTO timetable VALUES (?,?,?,?,?)", row)

    def delete_flow(self, name: str) -> None:
        if not self._connection.execute("DELETE FROM flow WHERE name = ?", (name,)).rowcount:
            raise rules.missing("flow", name)
        self._connection.execute("DELETE FROM timetable WHERE flow_name = ?", (name,))

    def save_item(self, item: DataItem) -> bool:
        is_new = (
            self._connection.execute(
                "SELECT 1 FROM data_item WHERE key = ?", (item.key,)
            ).fetchone()
            is None
        )
        self._connection.execute(
            "INSERT INTO data_item VALUES (?,?,?,?) ON CONFLICT (key) DO UPDATE SET content_type ="
            " excluded.content_type, description = excluded.description, value = excluded.value",
            (item.key, item.content_type, item.description, item.value),
        )
        return is_new

    def delete_item(self, key: str) -> None:
        if not self._connection.execute("DELETE FROM data_item WHERE key = ?", (key,)).rowcount:
            raise rules.missing("datastore item", key)

    def save_note(self, note: Note, *, replaces: bool) -> None:
        conflict = "DO UPDATE SET value = excluded.value" if replaces else "DO NOTHING"
        row = (note.kind, note.key, note.value)
        statement = f"INSERT INTO note VALUES (?,?,?) ON CONFLICT (kind, key) {conflict}"  # noqa: S608 - constant SQL
        done = self._connection.execute(statement, row)
        if not done.rowcount:
            raise rules.taken(note.kind, note.key)

    def delete_note(self, kind: str, key: str) -> None:
        if not self._connection.execute(
            "DELETE FROM note WHERE kind = ? AND key = ?", (kind, key)
        ).rowcount:
            raise rules.missing(kind, key)

    def delete_notes(self, kind: str, until: str, limit: int) -> int:
        """See `Store.delete_notes`."""
        return self._connection.execute(
            "DELETE FROM note WHERE kind = ?1 AND key IN"
            " (SELECT key FROM note WHERE kind = ?1 AND key <= ?2 ORDER BY key LIMIT ?3)",
            (kind, until, limit),
        ).rowcount
