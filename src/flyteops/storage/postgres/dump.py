"""Export of the database as records, in one snapshot, and import of records into an empty one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from flyteops.errors import StoreError
from flyteops.model import DataItem, Note
from flyteops.storage import rules
from flyteops.storage.postgres.actions import lease_of
from flyteops.storage.postgres.driver import Connection, Row
from flyteops.storage.postgres.schema import changed, check_to_read
from flyteops.storage.record import (
    PART_RECORDS,
    Checkpoint,
    Stored,
    StoredAction,
    StoredAttempt,
    StoredEvent,
    StoredFlow,
    StoredItem,
    StoredKey,
    StoredNote,
    StoredPack,
    StoredVersion,
    kind_of,
)
from flyteops.storage.row import (
    attempt_row,
    created_column,
    decode_decisions,
    decode_declaration,
    encode_decisions,
    encode_json,
    event_of,
    execution_row,
    failure_column,
    item_row,
    key_row,
    listing_keys,
    of_length,
    pack_row,
    stored_action_of,
    stored_attempt_of,
    stored_state_of,
    stored_version_of,
    timetable_of,
    timetable_rows,
    to_instant,
    to_microseconds,
    to_microseconds_or_none,
    to_states,
    to_text,
    up_to_page,
    version_row,
)
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.postgres", "dump")


# ------------------------------------------------------------------------------------------- export


async def export(connection: Connection, *, partly: bool) -> AsyncIterator[Sequence[Stored]]:
    """See `Store.export`."""
    await check_to_read(connection)
    if not partly and await _checkpoint(connection) is not None:
        raise StoreError("The database is loaded in part only; end what was begun.")
    rows = await connection.fetch(SQL.packs)
    yield [
        StoredPack(decode_declaration(declaration).seen(to_instant(at))) for declaration, at in rows
    ]
    for read, length in (
        (_versions, SQL.version_lengths),
        (_flows, SQL.flow_lengths),
        (_items, SQL.item_lengths),
        (_notes, SQL.note_lengths),
        (_events, SQL.event_lengths),
        (_actions, SQL.action_lengths),
        (_keys, SQL.key_lengths),
    ):
        async for names in _parts(connection, length):
            yield await read(connection, names)


async def _parts(connection: Connection, statement: str) -> AsyncIterator[list[Any]]:
    """Yield the names of rows, as many at a time as may be read together, given their lengths."""
    cursor = await connection.cursor(statement)
    waiting: list[Row] = []
    while rows := await cursor.fetch(PART_RECORDS):
        waiting += rows
        while len(waiting) >= PART_RECORDS:
            yield _cut(waiting)
    while waiting:
        yield _cut(waiting)


def _cut(waiting: list[Row]) -> list[Any]:
    some = waiting[:PART_RECORDS]
    names = up_to_page([name for name, _ in some], dict(map(tuple, some)))
    del waiting[: len(names)]
    return list(names)


async def _versions(connection: Connection, uuids: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.versions, uuids)
    return [stored_version_of(row) for row in rows]


async def _flows(connection: Connection, names: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.timetables, names)
    timetables = {
        name: [timetable_of(row[1:]) for row in some]
        for name, some in groupby(rows, lambda row: row[0])
    }
    found = await connection.fetch(SQL.flows, names)
    return [StoredFlow(name, uuid, tuple(timetables.get(name, ()))) for name, uuid in found]


async def _items(connection: Connection, keys: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.items, keys)
    return [StoredItem(DataItem(*row)) for row in rows]


async def _notes(connection: Connection, names: Sequence[tuple[str, str]]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.notes, *_columns(names, 2))
    return [StoredNote(Note(*row)) for row in rows]


async def _events(connection: Connection, seqs: Sequence[int]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.events, seqs)
    return [
        StoredEvent(event_of(event), *decode_decisions(decisions)) for *event, decisions in rows
    ]


async def _actions(connection: Connection, seqs: Sequence[int]) -> Sequence[Stored]:
    attempts: dict[int, list[StoredAttempt]] = {}
    rows = await connection.fetch(SQL.actions, seqs)
    ids = {row[0]: row[1] for row in rows}
    for seq, seed, lease, number, *columns in await connection.fetch(SQL.attempts, seqs):
        known = lease_of(seed, lease, ids[seq], number)
        attempts.setdefault(seq, []).append(stored_attempt_of((number, *columns), known))
    return [stored_action_of(columns, attempts.get(seq, ())) for seq, *columns in rows]


async def _keys(connection: Connection, keys: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(SQL.keys, keys)
    return [StoredKey(key, event_id, to_instant(at)) for key, event_id, at in rows]


# --------------------------------------------------------------------------------------------- load


async def begin(connection: Connection) -> Checkpoint:
    """See `Store.begin_load`."""
    await connection.execute(SQL.lock)
    found = await _checkpoint(connection)
    if found is not None:
        return found
    if await connection.fetchval(SQL.has_records):
        raise rules.not_empty()
    checkpoint = Checkpoint()
    await connection.execute(SQL.begin, checkpoint.records, checkpoint.checksum)
    return checkpoint


async def load(connection: Connection, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
    """See `Store.load`."""
    await connection.execute(SQL.lock)
    found = rules.require_loading(await _checkpoint(connection))
    if found.records >= checkpoint.records:
        return
    for kind, some in groupby(records, kind_of):
        await LOADERS[kind](connection, list(some))
    await connection.execute(SQL.advance, checkpoint.records, checkpoint.checksum)


async def end(connection: Connection) -> None:
    """See `Store.end_load`."""
    await connection.execute(SQL.end)
    for kind in ("flows", "items", "packs"):
        await changed(connection, kind)


async def _checkpoint(connection: Connection) -> Checkpoint | None:
    row = await connection.fetchrow(SQL.checkpoint)
    return None if row is None else Checkpoint(*row)


async def _load_packs(connection: Connection, records: Sequence[StoredPack]) -> None:
    await connection.executemany(SQL.load_pack, [pack_row(record.pack) for record in records])


async def _load_versions(connection: Connection, records: Sequence[StoredVersion]) -> None:
    rows = [version_row(record.version) for record in records]
    await connection.executemany(SQL.load_version, rows)


async def _load_flows(connection: Connection, records: Sequence[StoredFlow]) -> None:
    await connection.executemany(SQL.load_flow, [(record.name, record.uuid) for record in records])
    rows = [row for record in records for row in timetable_rows(record)]
    await connection.executemany(SQL.load_timetable, rows)


async def _load_items(connection: Connection, records: Sequence[StoredItem]) -> None:
    rows = [item_row(record.item) for record in records]
    await connection.executemany(SQL.load_item, rows)


async def _load_notes(connection: Connection, records: Sequence[StoredNote]) -> None:
    rows = [msgspec.structs.astuple(record.note) for record in records]
    await connection.executemany(SQL.load_note, rows)


async def _load_events(connection: Connection, records: Sequence[StoredEvent]) -> None:
    events = [
        (
            event.event_id,
            event.name,
            event.pack.id,
            event.pack.name,
            to_text(event.pack.labels),
            event.payload,
            to_microseconds(event.received_at),
            created_column(event),
            failure_column(event),
            encode_decisions(record.decisions, record.basis),
        )
        for event, record in ((record.event, record) for record in records)
    ]
    keys = [
        (key, record.event.event_id)
        for record in records
        for key in listing_keys(record.decisions, record.basis)
    ]
    await connection.execute(SQL.load_events, *_columns(events, 10), *_columns(keys, 2))


async def _load_actions(connection: Connection, records: Sequence[StoredAction]) -> None:
    await connection.executemany(SQL.load_execution, [execution_row(record) for record in records])
    await connection.execute(
        SQL.load_actions, *_columns([_action_row(record) for record in records], 18)
    )
    attempts = [attempt_row(record, each) for record in records for each in record.attempts]
    await connection.executemany(SQL.load_attempt, attempts)
    referred: list[tuple[str, str | None]] = [(record.trigger_id, None) for record in records]
    referred += [
        (event_id, record.action.action_id) for record in records for event_id in record.result_ids
    ]
    await connection.execute(SQL.add_referrers, *_columns(referred, 2))


def _action_row(record: StoredAction) -> tuple[object, ...]:
    action = record.action
    return (
        action.action_id,
        action.correlation_id,
        action.step_index,
        action.step_id,
        action.pack_name,
        to_text(action.pack_labels),
        action.name,
        record.trigger_id,
        record.result_id,
        stored_state_of(record),
        to_microseconds(record.states[-1].at),
        to_states(record.states),
        encode_json(action.context),
        action.input,
        record.attempt,
        of_length(action.timeout),
        to_microseconds_or_none(record.due_at),
        of_length(record.wait),
    )


async def _load_keys(connection: Connection, records: Sequence[StoredKey]) -> None:
    await connection.executemany(SQL.load_key, [key_row(record) for record in records])


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Row]]:
    return [[row[index] for row in rows] for index in range(width)]


LOADERS: Mapping[str, Callable[[Connection, Sequence[Any]], Awaitable[None]]] = {
    "pack": _load_packs,
    "version": _load_versions,
    "flow": _load_flows,
    "item": _load_items,
    "note": _load_notes,
    "event": _load_events,
    "action": _load_actions,
    "key": _load_keys,
}
