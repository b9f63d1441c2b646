"""Packs, flows, datastore items and notes: their changes.

Each function belongs inside a transaction. One that gets `again` may have been carried out before.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from flyteops.model import DataItem, FlowVersion, Note, Pack
from flyteops.storage import rules
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.schema import changed
from flyteops.storage.row import item_row, pack_row, to_microseconds, version_row
from flyteops.storage.statements import load_statements
from flyteops.transition import ScheduleEntry

SQL = load_statements("flyteops.storage.postgres", "catalog")


def _miss(noun: str, key: str, again: bool) -> None:
    """Raise `NotFoundError`, unless the record may have been deleted by the first try."""
    if not again:
        raise rules.missing(noun, key)


# -------------------------------------------------------------------------------------------- packs


async def save_pack(connection: Connection, pack: Pack) -> None:
    """See `Store.save_pack`."""
    await connection.execute(SQL.save_pack, *pack_row(pack))
    await changed(connection, "packs")


async def delete_pack(
    connection: Connection, again: bool, *, pack_id: str, unless_seen_since: datetime | None
) -> None:
    """See `Store.delete_pack`."""
    seen_at = await connection.fetchval(SQL.pack_last_seen, pack_id)
    if seen_at is None:
        _miss("pack", pack_id, again)
    elif unless_seen_since is None or seen_at < to_microseconds(unless_seen_since):
        await connection.execute(SQL.delete_pack, pack_id)
        await changed(connection, "packs")


async def touch_packs(
    connection: Connection, _again: bool, *, seen: Mapping[str, datetime]
) -> None:
    """See `Store.touch_packs`."""
    times = [to_microseconds(at) for at in seen.values()]
    await connection.execute(SQL.touch_packs, list(seen), times)


# -------------------------------------------------------------------------------------------- flows


async def save_flow(
    connection: Connection,
    again: bool,
    *,
    version: FlowVersion,
    timetables: Sequence[ScheduleEntry],
) -> None:
    """See `Store.save_flow`."""
    flow = version.flow
    # First, as concurrent servers that save flows wait for its row.
    await changed(connection, "flows")
    if again and await connection.fetchval(SQL.has_flow_version, version.uuid):
        return
    await connection.execute(SQL.create_flow_version, *version_row(version))
    await connection.execute(SQL.set_current_version, flow.name, version.uuid)
    rows = await connection.fetch(SQL.replace_timetables, flow.name)
    kept = {(step_id, rule): next_at for step_id, rule, next_at in rows}
    for entry in timetables:
        await connection.execute(
            SQL.create_timetable,
            flow.name,
            entry.step_index,
            entry.step_id,
            entry.rule,
            rules.next_time(entry, kept),
        )


async def delete_flow(connection: Connection, again: bool, *, name: str) -> None:
    """See `Store.delete_flow`."""
    if await connection.fetchval(SQL.delete_flow, name) is None:
        _miss("flow", name, again)
    await connection.execute(SQL.delete_timetables, name)
    await changed(connection, "flows")


# ---------------------------------------------------------------------------------------- datastore


async def save_item(connection: Connection, item: DataItem) -> bool:
    """See `Store.save_item`."""
    is_new: bool = await connection.fetchval(SQL.save_item, *item_row(item))
    await changed(connection, "items")
    return is_new


async def delete_item(connection: Connection, again: bool, *, key: str) -> None:
    """See `Store.delete_item`."""
    if await connection.fetchval(SQL.delete_item, key) is None:
        _miss("datastore item", key, again)
    await changed(connection, "items")


# -------------------------------------------------------------------------------------------- notes


async def save_note(connection: Connection, again: bool, *, note: Note, replaces: bool) -> None:
    """See `Store.save_note`."""
    await changed(connection, "notes")
    statement = SQL.save_note if replaces else SQL.create_note
    if await connection.fetchval(statement, note.kind, note.key, note.value) is None:
        kept = await connection.fetchval(SQL.note_value, note.kind, note.key)
        if not again or kept != note.value:
            raise rules.taken(note.kind, note.key)


async def delete_note(connection: Connection, again: bool, *, kind: str, key: str) -> None:
    """See `Store.delete_note`."""
    await changed(connection, "notes")
    if await connection.fetchval(SQL.delete_note, kind, key) is None:
        _miss(kind, key, again)


async def delete_notes(
    connection: Connection, _again: bool, *, kind: str, until: str, limit: int
) -> int:
    """See `Store.delete_notes`."""
    status: str = await connection.execute(SQL.delete_notes, kind, until, limit)
    return int(status.rpartition(" ")[2])
