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
from flyteops.storage.postgres.schema import check_to_read
from flyteops.storage.record import (
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
    decode_decisions,
    decode_declaration,
    encode_decisions,
    encode_json,
    event_of,
    execution_row,
    failure_column,
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

PART = 500
"""The number of records passed on at a time."""

TABLES = ("pack", "flow_version", "flow", "data_item", "note", "event", "action", "event_key")

EVENT = "event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure"

ACTIONS = """
SELECT a.seq, a.action_id, e.correlation_id, e.flow_name, e.flow_uuid, a.step_id, a.step_index,
    a.command, a.pack_name, a.labels,
  a.input, a.context, a.timeout, t.event_id, a.states, r.event_id, a.due_at, a.wait, a.attempt
FROM flyte_action a JOIN flyte_execution e ON e.seq = a.execution_seq
JOIN flyte_event t ON t.seq = a.trigger_seq LEFT JOIN flyte_event r ON r.seq = a.result_seq
WHERE a.seq = ANY($1) ORDER BY a.seq
"""

ATTEMPTS = """
SELECT m.action_seq, seed, lease, number, m.pack_id, taken_at, lost_at, v.event_id
FROM flyte_attempt m LEFT JOIN flyte_event v ON v.seq = late_seq
WHERE m.action_seq = ANY($1) ORDER BY m.action_seq, number
"""

LOAD_EVENTS = f"""
WITH loaded AS (
    INSERT INTO flyte_event ({EVENT}, referrers, decisions)
    SELECT n.event_id, n.name, n.pack_id, n.pack_name, n.labels, n.payload, n.received_at,
        n.created_at, n.failure, 0, n.decisions
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[],
        $7::bigint[], $8::text[],
        $9::boolean[], $10::bytea[])
      WITH ORDINALITY AS n (event_id, name, pack_id, pack_name, labels, payload, received_at,
          created_at, failure, decisions,
        place)
    ORDER BY n.place
    RETURNING seq, event_id
  )
INSERT INTO flyte_flow_event
SELECT d.flow_name, loaded.seq FROM unnest($11::text[], $12::text[]) AS d (flow_name, event_id) JOIN
    loaded USING (event_id)
"""  # noqa: S608 - constant SQL

LOAD_EXECUTIONS = """
INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at) VALUES ($1, $2, $3,
    $4)
ON CONFLICT (correlation_id) DO UPDATE SET changed_at = greatest(flyte_execution.changed_at,
    excluded.changed_at)
"""

LOAD_ACTIONS = """
INSERT INTO flyte_action (action_id, execution_seq, step_index, step_id, pack_name, labels, command,
    trigger_seq, result_seq,
  state, since, states, context, input, attempt, timeout, due_at, wait)
SELECT n.action_id, e.seq, n.step_index, n.step_id, n.pack_name, n.labels, n.command, t.seq, r.seq,
  n.state, n.since, n.states, n.context, n.input, n.attempt, n.timeout, n.due_at, n.wait
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[],
    $10::text[], $11::bigint[], $12::text[], $13::bytea[], $14::bytea[], $15::int[], $16::bigint[],
        $17::bigint[], $18::bigint[])
  WITH ORDINALITY AS n (action_id, correlation_id, step_index, step_id, pack_name, labels, command,
      trigger_id, result_id,
    state, since, states, context, input, attempt, timeout, due_at, wait, place)
JOIN flyte_execution e USING (correlation_id) JOIN flyte_event t ON t.event_id = n.trigger_id
LEFT JOIN flyte_event r ON r.event_id = n.result_id
ORDER BY n.place
"""

LOAD_ATTEMPTS = """
INSERT INTO flyte_attempt (action_seq, lease, number, pack_id, taken_at, lost_at, late_seq)
SELECT seq, $2, $3, $4, $5, $6, (SELECT seq FROM flyte_event WHERE event_id = $7) FROM flyte_action
    WHERE action_id = $1
"""

REFER = """
UPDATE flyte_event v SET referrers = v.referrers + referred.times, action_seq = coalesce(a.seq,
    v.action_seq)
FROM (
  SELECT event_id, count(*)::int AS times, max(action_id) AS action_id
  FROM unnest($1::text[], $2::text[]) AS n (event_id, action_id) GROUP BY event_id
) referred LEFT JOIN flyte_action a USING (action_id)
WHERE v.event_id = referred.event_id
"""


# ------------------------------------------------------------------------------------------- export


async def export(connection: Connection, *, partly: bool) -> AsyncIterator[Sequence[Stored]]:
    """See `Store.export`."""
    await check_to_read(connection)
    if not partly and await _checkpoint(connection) is not None:
        raise StoreError("The database is loaded in part only; end what was begun.")
    rows = await connection.fetch(
        "SELECT declaration, last_seen_at FROM flyte_pack ORDER BY name, pack_id"
    )
    yield [
        StoredPack(decode_declaration(declaration).seen(to_instant(at))) for declaration, at in rows
    ]
    for read, length in (
        (_versions, "SELECT uuid, length(flow) FROM flyte_flow_version ORDER BY saved_at, uuid"),
        (_flows, "SELECT name, 0 FROM flyte_flow ORDER BY name"),
        (_items, "SELECT key, length(value) FROM flyte_data_item ORDER BY key"),
        (_notes, "SELECT ROW(kind, key), length(value) FROM flyte_note ORDER BY kind, key"),
        (
            _events,
            (
                "SELECT seq, length(payload) + coalesce(length(decisions), 0) FROM flyte_event"
                " ORDER BY seq"
            ),
        ),
        (_actions, "SELECT seq, length(input) + length(context) FROM flyte_action ORDER BY seq"),
        (_keys, "SELECT key, 0 FROM flyte_event_key ORDER BY key"),
    ):
        async for names in _parts(connection, length):
            yield await read(connection, names)


async def _parts(connection: Connection, statement: str) -> AsyncIterator[list[Any]]:
    """Yield the names of rows, as many at a time as may be read together, given their lengths."""
    cursor = await connection.cursor(statement)
    waiting: list[Row] = []
    while rows := await cursor.fetch(PART):
        waiting += rows
        while len(waiting) >= PART:
            yield _cut(waiting)
    while waiting:
        yield _cut(waiting)


def _cut(waiting: list[Row]) -> list[Any]:
    some = waiting[:PART]
    names = up_to_page([name for name, _ in some], dict(map(tuple, some)))
    del waiting[: len(names)]
    return list(names)


async def _versions(connection: Connection, uuids: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(
        "SELECT uuid, flow, saved_at FROM flyte_flow_version WHERE uuid = ANY($1) ORDER BY"
        " saved_at, uuid",
        uuids,
    )
    return [stored_version_of(row) for row in rows]


async def _flows(connection: Connection, names: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(
        "SELECT flow_name, step_index, step_id, rule, next_at FROM flyte_timetable WHERE flow_name"
        " = ANY($1) ORDER BY 1, 2",
        names,
    )
    timetables = {
        name: [timetable_of(row[1:]) for row in some]
        for name, some in groupby(rows, lambda row: row[0])
    }
    found = await connection.fetch(
        "SELECT name, uuid FROM flyte_flow WHERE name = ANY($1) ORDER BY name", names
    )
    return [StoredFlow(name, uuid, tuple(timetables.get(name, ()))) for name, uuid in found]


async def _items(connection: Connection, keys: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(
        "SELECT key, content_type, value, description FROM flyte_data_item WHERE key = ANY($1)"
        " ORDER BY key",
        keys,
    )
    return [StoredItem(DataItem(*row)) for row in rows]


async def _notes(connection: Connection, names: Sequence[tuple[str, str]]) -> Sequence[Stored]:
    rows = await connection.fetch(
        "SELECT kind, key, value FROM flyte_note JOIN unnest($1::text[], $2::text[]) AS n (kind,"
        " key) USING (kind, key) ORDER BY kind, key",
        *_columns(names, 2),
    )
    return [StoredNote(Note(*row)) for row in rows]


async def _events(connection: Connection, seqs: Sequence[int]) -> Sequence[Stored]:
    query = f"SELECT {EVENT}, decisions FROM flyte_event WHERE seq = ANY($1) ORDER BY seq"  # noqa: S608 - constant SQL
    rows = await connection.fetch(query, seqs)
    return [
        StoredEvent(event_of(event), *decode_decisions(decisions)) for *event, decisions in rows
    ]


async def _actions(connection: Connection, seqs: Sequence[int]) -> Sequence[Stored]:
    attempts: dict[int, list[StoredAttempt]] = {}
    rows = await connection.fetch(ACTIONS, seqs)
    ids = {row[0]: row[1] for row in rows}
    for seq, seed, lease, number, *columns in await connection.fetch(ATTEMPTS, seqs):
        known = lease_of(seed, lease, ids[seq], number)
        attempts.setdefault(seq, []).append(stored_attempt_of((number, *columns), known))
    return [stored_action_of(columns, attempts.get(seq, ())) for seq, *columns in rows]


async def _keys(connection: Connection, keys: Sequence[str]) -> Sequence[Stored]:
    rows = await connection.fetch(
        "SELECT key, event_id, kept_at FROM flyte_event_key WHERE key = ANY($1) ORDER BY key", keys
    )
    return [StoredKey(key, event_id, to_instant(at)) for key, event_id, at in rows]


# --------------------------------------------------------------------------------------------- load


async def begin(connection: Connection) -> Checkpoint:
    """See `Store.begin_load`."""
    await connection.execute("LOCK TABLE flyte_loading IN EXCLUSIVE MODE")
    found = await _checkpoint(connection)
    if found is not None:
        return found
    for table in TABLES:
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM flyte_{table})"):  # noqa: S608 - constant names
            raise rules.not_empty()
    checkpoint = Checkpoint()
    await connection.execute(
        "INSERT INTO flyte_loading VALUES ($1, $2)", checkpoint.records, checkpoint.checksum
    )
    return checkpoint


async def load(connection: Connection, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
    """See `Store.load`."""
    await connection.execute("LOCK TABLE flyte_loading IN EXCLUSIVE MODE")
    found = rules.require_loading(await _checkpoint(connection))
    if found.records >= checkpoint.records:
        return
    for kind, some in groupby(records, kind_of):
        await LOADERS[kind](connection, list(some))
    await connection.execute(
        "UPDATE flyte_loading SET records = $1, checksum = $2",
        checkpoint.records,
        checkpoint.checksum,
    )


async def _checkpoint(connection: Connection) -> Checkpoint | None:
    row = await connection.fetchrow("SELECT records, checksum FROM flyte_loading")
    return None if row is None else Checkpoint(*row)


async def _load_packs(connection: Connection, records: Sequence[StoredPack]) -> None:
    await connection.executemany(
        "INSERT INTO flyte_pack VALUES ($1, $2, $3, $4)",
        [pack_row(record.pack) for record in records],
    )


async def _load_versions(connection: Connection, records: Sequence[StoredVersion]) -> None:
    rows = [version_row(record.version) for record in records]
    await connection.executemany("INSERT INTO flyte_flow_version VALUES ($1, $2, $3, $4)", rows)


async def _load_flows(connection: Connection, records: Sequence[StoredFlow]) -> None:
    await connection.executemany(
        "INSERT INTO flyte_flow VALUES ($1, $2)", [(record.name, record.uuid) for record in records]
    )
    rows = [row for record in records for row in timetable_rows(record)]
    await connection.executemany("INSERT INTO flyte_timetable VALUES ($1, $2, $3, $4, $5)", rows)


async def _load_items(connection: Connection, records: Sequence[StoredItem]) -> None:
    rows = [
        (item.key, item.content_type, item.description, item.value)
        for item in (record.item for record in records)
    ]
    await connection.executemany("INSERT INTO flyte_data_item VALUES ($1, $2, $3, $4)", rows)


async def _load_notes(connection: Connection, records: Sequence[StoredNote]) -> None:
    rows = [msgspec.structs.astuple(record.note) for record in records]
    await connection.executemany("INSERT INTO flyte_note VALUES ($1, $2, $3)", rows)


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
            None if event.created_at is None else event.created_at.isoformat(),
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
    await connection.execute(LOAD_EVENTS, *_columns(events, 10), *_columns(keys, 2))


async def _load_actions(connection: Connection, records: Sequence[StoredAction]) -> None:
    await connection.executemany(LOAD_EXECUTIONS, [execution_row(record) for record in records])
    await connection.execute(
        LOAD_ACTIONS, *_columns([_action_row(record) for record in records], 18)
    )
    attempts = [attempt_row(record, each) for record in records for each in record.attempts]
    await connection.executemany(LOAD_ATTEMPTS, attempts)
    referred: list[tuple[str, str | None]] = [(record.trigger_id, None) for record in records]
    referred += [
        (event_id, record.action.action_id) for record in records for event_id in record.result_ids
    ]
    await connection.execute(REFER, *_columns(referred, 2))


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
    await connection.executemany(
        "INSERT INTO flyte_event_key VALUES ($1, $2, $3)", [key_row(record) for record in records]
    )


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
