"""Export of the file as records, in one snapshot, and import of records into an empty file."""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from flyteops.errors import StoreError
from flyteops.model import DataItem, Note
from flyteops.storage import rules
from flyteops.storage.query import PAGE_BYTES
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
    version_row,
)
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.sqlite.queries import Queries
from flyteops.storage.sqlite.schema import refusal
from flyteops.storage.sqlite.snapshot import reading
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "dump")

Sized = tuple[Stored, int]
"""A record and its approximate length."""


def export(
    path: Path, *, partly: bool, scratch: Path | None = None
) -> Generator[Sequence[Stored], None, None]:
    """See `Store.export`.

    A database in use by a server is read from a copy, made in the directory `scratch`.
    """
    try:
        with reading(path, scratch) as (connection, check):
            if not partly and find_checkpoint(connection) is not None:
                raise StoreError(f"{str(path)!r} is loaded in part only; end what was begun.")
            for part in _parts(_records(connection)):
                yield part
                check()
    except sqlite3.Error as error:
        raise refusal(error, path) from error
    except OSError as error:
        raise StoreError(
            f"{str(path)!r} cannot be copied to {str(scratch)!r}: {error.strerror}."
        ) from error


def find_checkpoint(connection: sqlite3.Connection) -> Checkpoint | None:
    """Return the checkpoint of the current load, None if there is none."""
    row = connection.execute(SQL.checkpoint).fetchone()
    return None if row is None else Checkpoint(*row)


def _parts(records: Iterable[Sized]) -> Iterator[Sequence[Stored]]:
    part: list[Stored] = []
    length = 0
    for record, size in records:
        if part and (len(part) == PART_RECORDS or length + size > PAGE_BYTES):
            yield part
            part, length = [], 0
        part.append(record)
        length += size
    if part:
        yield part


def _records(connection: sqlite3.Connection) -> Iterator[Sized]:
    for pack in Queries(connection).list_packs():
        yield StoredPack(pack), 0
    for row in connection.execute(SQL.versions):
        yield stored_version_of(row), len(row[1])
    for name, uuid in connection.execute(SQL.flows):
        yield (
            StoredFlow(
                name,
                uuid,
                tuple(timetable_of(row) for row in connection.execute(SQL.timetables, (name,))),
            ),
            0,
        )
    for row in connection.execute(SQL.items):
        yield StoredItem(DataItem(*row)), len(row[2])
    for row in connection.execute(SQL.notes):
        yield StoredNote(Note(*row)), len(row[2])
    for *event, decisions in connection.execute(SQL.events):
        evaluated = decode_decisions(decisions)
        yield StoredEvent(event_of(event), *evaluated), len(event[5]) + len(decisions or b"")
    for seq, *row in connection.execute(SQL.actions):
        yield (
            stored_action_of(row, () if row[11] is None else _attempts(connection, seq)),
            len(row[9]) + len(row[10]),
        )
    for key, event_id, at in connection.execute(SQL.keys):
        yield StoredKey(key, event_id, to_instant(at)), 0


def _attempts(connection: sqlite3.Connection, action_seq: int) -> list[StoredAttempt]:
    return [
        stored_attempt_of(columns, lease)
        for lease, *columns in connection.execute(SQL.attempts, (action_seq,))
    ]


# --------------------------------------------------------------------------------------------- load


def begin(table: ActionTable) -> Checkpoint:
    """See `Store.begin_load`."""
    table.flush()
    found = find_checkpoint(table.connection)
    if found is not None:
        return found
    if table.execute(SQL.has_records).fetchone()[0]:
        raise rules.not_empty("name one that is, or does not exist yet")
    checkpoint = Checkpoint()
    table.execute(SQL.begin, (checkpoint.records, checkpoint.checksum))
    return checkpoint


def load(table: ActionTable, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
    """See `Store.load`."""
    table.flush()
    found = rules.require_loading(find_checkpoint(table.connection))
    if found.records >= checkpoint.records:
        return
    for kind, some in groupby(records, kind_of):
        LOADERS[kind](table.connection, list(some))
    table.execute(SQL.advance, (checkpoint.records, checkpoint.checksum))
    table.reload()  # its knowledge of queues and sequence numbers


def end(table: ActionTable) -> None:
    """See `Store.end_load`."""
    table.flush()
    table.execute(SQL.end)


def _load_packs(connection: sqlite3.Connection, records: Sequence[StoredPack]) -> None:
    connection.executemany(SQL.load_pack, [pack_row(record.pack) for record in records])


def _load_versions(connection: sqlite3.Connection, records: Sequence[StoredVersion]) -> None:
    connection.executemany(
        SQL.load_version,
        [version_row(record.version) for record in records],
    )


def _load_flows(connection: sqlite3.Connection, records: Sequence[StoredFlow]) -> None:
    connection.executemany(SQL.load_flow, [(record.name, record.uuid) for record in records])
    rows = [row for record in records for row in timetable_rows(record)]
    connection.executemany(SQL.load_timetable, rows)


def _load_items(connection: sqlite3.Connection, records: Sequence[StoredItem]) -> None:
    rows = [item_row(record.item) for record in records]
    connection.executemany(SQL.load_item, rows)


def _load_notes(connection: sqlite3.Connection, records: Sequence[StoredNote]) -> None:
    connection.executemany(
        SQL.load_note,
        [msgspec.structs.astuple(record.note) for record in records],
    )


def _load_events(connection: sqlite3.Connection, records: Sequence[StoredEvent]) -> None:
    many = connection.executemany
    sources = [
        (event.name, event.pack.id, event.pack.name, to_text(event.pack.labels))
        for event in (record.event for record in records)
    ]
    many(
        SQL.load_source,
        set(sources),
    )
    many(
        SQL.load_event,
        [(*_event_row(record), *source) for record, source in zip(records, sources, strict=True)],
    )
    many(
        SQL.load_flow_event,
        [
            (name, record.event.event_id)
            for record in records
            for name in listing_keys(record.decisions, record.basis)
        ],
    )


def _event_row(record: StoredEvent) -> tuple[object, ...]:
    event = record.event
    return (
        event.event_id,
        to_microseconds(event.received_at),
        created_column(event),
        event.payload,
        failure_column(event),
        encode_decisions(record.decisions, record.basis),
    )


def _load_actions(connection: sqlite3.Connection, records: Sequence[StoredAction]) -> None:
    many = connection.executemany
    queues = [
        (action.pack_name, action.name, to_text(action.pack_labels))
        for action in (record.action for record in records)
    ]
    many(SQL.load_queue, set(queues))
    many(
        SQL.load_execution,
        [execution_row(record) for record in records],
    )
    many(
        SQL.load_action,
        [(*_action_row(record), *queue) for record, queue in zip(records, queues, strict=True)],
    )
    many(
        SQL.load_attempt,
        [attempt_row(record, each) for record in records for each in record.attempts],
    )
    many(
        SQL.add_referrer,
        [(record.trigger_id,) for record in records],
    )
    many(
        SQL.add_referring_action,
        [
            (record.action.action_id, event_id)
            for record in records
            for event_id in record.result_ids
        ],
    )


def _action_row(record: StoredAction) -> tuple[object, ...]:
    action = record.action
    return (
        action.action_id,
        action.step_index,
        action.step_id,
        stored_state_of(record),
        to_states(record.states),
        encode_json(action.context),
        action.input,
        record.attempt,
        of_length(action.timeout),
        to_microseconds_or_none(record.due_at),
        of_length(record.wait),
        action.correlation_id,
        record.trigger_id,
        record.result_id,
    )


def _load_keys(connection: sqlite3.Connection, records: Sequence[StoredKey]) -> None:
    connection.executemany(SQL.load_key, [key_row(record) for record in records])


LOADERS: Mapping[str, Callable[[sqlite3.Connection, Sequence[Any]], None]] = {
    "pack": _load_packs,
    "version": _load_versions,
    "flow": _load_flows,
    "item": _load_items,
    "note": _load_notes,
    "event": _load_events,
    "action": _load_actions,
    "key": _load_keys,
}
