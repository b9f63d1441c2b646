"""Export of the database as records, and import of another store's records into an empty one."""

import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, Any

import msgspec
from pymongo import InsertOne, ReplaceOne, UpdateOne

from flyteops.errors import StoreError, UnavailableError
from flyteops.model import NewAction
from flyteops.storage import rules
from flyteops.storage.mongodb.actions import ActionCollection, record_document
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.conversion import Conversion
from flyteops.storage.mongodb.document import (
    NEVER,
    action_document,
    action_of,
    event_of,
    extra,
    lease_of,
    member_of,
    shown_state,
)
from flyteops.storage.mongodb.driver import Database, Document, MongoCollection
from flyteops.storage.mongodb.execution import create, event_fields, size_of
from flyteops.storage.mongodb.flow import current_document, history_document, version_of
from flyteops.storage.mongodb.item import item_document, item_of
from flyteops.storage.mongodb.later import store_results
from flyteops.storage.mongodb.legacy import CREATED, FOREIGN, supply
from flyteops.storage.mongodb.note import note_document, note_of
from flyteops.storage.mongodb.pack import pack_document, pack_of
from flyteops.storage.mongodb.queue import queue_of, route_of
from flyteops.storage.mongodb.schema import NUMBERS, VERSION, changed
from flyteops.storage.query import PAGE_BYTES
from flyteops.storage.record import (
    KINDS,
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
    Tally,
    encode_record,
    kind_of,
)
from flyteops.storage.row import (
    decode_decisions,
    of_length,
    stored_state_of,
    timetable_of,
    to_instant,
    to_instant_or_none,
    to_length,
    to_microseconds,
    to_microseconds_or_none,
)
from flyteops.storage.rules import ATTENDED

ENCODED_BYTES = PAGE_BYTES * 4 // 3 + 4096
"""The maximum size of a part in the file: bytes are longer by a third there."""

READINGS = 5
"""The number of tries to read everything until two reads are the same."""

COLLECTIONS = (
    "pack",
    "flowHistory",
    "flow",
    "datastore",
    "flyte_note",
    "flyte_event",
    "action",
    "audit",
)

decode_records = msgspec.json.Decoder(list[Stored]).decode


# ------------------------------------------------------------------------------------------- export


async def export(
    database: Database, *, conversion: Conversion, partly: bool
) -> AsyncIterator[Sequence[Stored]]:
    """See `Store.export`. The data of the original is converted first.

    A standalone server has no snapshots: everything is read until two consecutive reads are the
    same, which is the state in between.
    """
    await _check_to_read(database, partly=partly)
    await conversion.look(database)
    if not conversion.is_done:
        await conversion.finish(database)
    before = None
    for _ in range(READINGS):
        with tempfile.TemporaryFile() as spool:
            checkpoint = await _spool(database, spool)
            if checkpoint == before:
                for part in _unspooled(spool):
                    yield part
                return
        before = checkpoint
    raise UnavailableError(
        "The database changes faster than it can be read; stop the servers that use it meanwhile."
    )


async def _check_to_read(database: Database, *, partly: bool) -> None:
    found = await database.flyte_number.find_one({"_id": "schema"})
    if found is None:
        raise StoreError(
            "There is nothing of Flyte in the database that this version has opened; start a server"
            " on it first."
        )
    if found["value"] != VERSION:
        raise StoreError(
            f"The database was written by another Flyte (schema {found['value']}, this one knows"
            f" {VERSION})."
        )
    if not partly and await _checkpoint(database) is not None:
        raise StoreError("The database is loaded in part only; end what was begun.")


async def _spool(database: Database, spool: IO[bytes]) -> Checkpoint:
    """Write everything into a file, a part in each line, and return the checkpoint.

    The checkpoint covers all that only changes with work.

    A server that has nothing to do still notes every few seconds that it is running, which must not
    count as a change.
    """
    await store_results(database)
    tally = Tally()
    for kind in KINDS:
        part: list[bytes] = []
        size = 0
        async for record in READERS[kind](database):
            encoded = encode_record(record)
            if not (isinstance(record, StoredNote) and record.note.kind == ATTENDED):
                tally.add(kind, encoded)
            if part and (len(part) == PART_RECORDS or size + len(encoded) > ENCODED_BYTES):
                _write(spool, part)
                part, size = [], 0
            part.append(encoded)
            size += len(encoded)
        _write(spool, part)
    return tally.checkpoint


def _write(spool: IO[bytes], part: Sequence[bytes]) -> None:
    if part:
        spool.write(b"[" + b",".join(part) + b"]\n")


def _unspooled(spool: IO[bytes]) -> Iterator[Sequence[Stored]]:
    spool.seek(0)
    return map(decode_records, spool)


async def _packs(database: Database) -> AsyncIterator[Stored]:
    packs = [pack_of(document) async for document in database.pack.find({})]
    for pack in sorted(packs, key=lambda pack: (pack.name, pack.id)):
        yield StoredPack(pack)


async def _versions(database: Database) -> AsyncIterator[Stored]:
    heads = [each async for each in database.flowHistory.find({}, {"uuid": 1, "flyte.savedAt": 1})]
    for head in sorted(heads, key=lambda each: (extra(each).get("savedAt", 0), each["uuid"])):
        document = await database.flowHistory.find_one({"_id": head["_id"]})
        if document is not None:
            yield StoredVersion(version_of(document))


async def _flows(database: Database) -> AsyncIterator[Stored]:
    documents = [
        each async for each in database.flow.find({}, {"name": 1, "uuid": 1, "flyte.timetables": 1})
    ]
    for each in sorted(documents, key=lambda each: str(each["name"])):
        rows = sorted(extra(each).get("timetables", ()), key=lambda row: int(row["stepIndex"]))
        tables = [
            timetable_of((row["stepIndex"], row["stepId"], row["rule"], row["nextAt"]))
            for row in rows
        ]
        yield StoredFlow(each["name"], each["uuid"], tuple(tables))


async def _items(database: Database) -> AsyncIterator[Stored]:
    for head in sorted([each["_id"] async for each in database.datastore.find({}, {"_id": 1})]):
        document = await database.datastore.find_one({"_id": head})
        if document is not None:
            yield StoredItem(item_of(document))


async def _notes(database: Database) -> AsyncIterator[Stored]:
    async for document in database.flyte_note.find({}).sort([("kind", 1), ("key", 1)]):
        yield StoredNote(note_of(document))


async def _documents(database: Database, which: Document) -> AsyncIterator[Document]:
    """Yield the kept actions, oldest first; the original's copies without an action lead."""
    async for run in database.flyte_execution.find({"isArchived": True}, {"_id": 1}).sort("seq", 1):
        documents = await database.audit.find({"correlationId": run["_id"], **which}).to_list()
        for document in sorted(await supply(database, documents), key=_seq):
            yield document
    ours = database.action.find({"$and": [which, {"flyte.seq": {"$ne": None}}]}).sort(
        "flyte.seq", 1
    )
    foreign = database.action.find({"$and": [which, FOREIGN]}).sort(CREATED).allow_disk_use(True)
    async for document in _merged(ours, _supplied(database, foreign)):
        yield document


async def _supplied(
    database: Database, documents: AsyncIterator[Document]
) -> AsyncIterator[Document]:
    """Yield actions of the original with Flyte's additional data."""
    part: list[Document] = []
    async for document in documents:
        part.append(document)
        if len(part) == PART_RECORDS:
            for each in await supply(database, part):
                yield each
            part = []
    for each in await supply(database, part):
        yield each


async def _merged(
    first: AsyncIterator[Document], second: AsyncIterator[Document]
) -> AsyncIterator[Document]:
    """Yield the actions of two sequences in one order."""
    one, other = await anext(aiter(first), None), await anext(aiter(second), None)
    while one is not None or other is not None:
        if other is None or (one is not None and _seq(one) <= _seq(other)):
            if one is not None:
                yield one
            one = await anext(aiter(first), None)
        else:
            yield other
            other = await anext(aiter(second), None)


def _seq(document: Document) -> int:
    return int(extra(document)["seq"])


async def _events(database: Database) -> AsyncIterator[Stored]:
    # The original keeps events in actions only.
    foreign = {
        "$or": [{"trigger.flyte.id": None}, {"result.name": {"$gt": ""}, "result.flyte.id": None}]
    }
    async for document in _documents(database, foreign):
        action = action_of(document)
        for event, field in ((action.trigger, "trigger"), (action.result, "result")):
            if event is not None and "id" not in extra(document[field]):
                yield StoredEvent(event)
    async for document in database.flyte_event.find({}, {"todo": 0}).sort("seq", 1):
        evaluated = decode_decisions(document.get("decisions"))
        yield StoredEvent(event_of(document, document["_id"]), *evaluated)


async def _actions(database: Database) -> AsyncIterator[Stored]:
    async for document in _documents(database, {}):
        yield _stored_action(document)


async def _keys(database: Database) -> AsyncIterator[Stored]:
    keys = [
        each async for each in database.flyte_event.find({"key": {"$gt": ""}}, {"key": 1, "at": 1})
    ]
    for each in sorted(keys, key=lambda each: str(each["key"])):
        yield StoredKey(each["key"], each["_id"], to_instant(each["at"]))


READERS = dict(
    zip(KINDS, (_packs, _versions, _flows, _items, _notes, _events, _actions, _keys), strict=True)
)


def _stored_action(document: Document) -> StoredAction:
    action, kept = action_of(document), extra(document)
    attempts = () if kept.get("timeout") is None else kept["attempts"]
    new = NewAction(
        action_id=action.action_id,
        correlation_id=action.correlation_id,
        flow_name=action.flow_name,
        flow_uuid=action.flow_uuid,
        step_id=action.step_id,
        step_index=action.step_index,
        name=action.name,
        pack_name=action.pack_name,
        pack_labels=action.pack_labels,
        input=action.input,
        context=action.context,
        timeout=to_length(kept.get("timeout")),
    )
    return StoredAction(
        action=new,
        trigger_id=action.trigger.event_id,
        states=action.states,
        result_id=None if action.result is None else action.result.event_id,
        due_at=action.due_at,
        wait=to_length(kept.get("wait")),
        attempt=kept["attempt"],
        attempts=tuple(
            [
                _stored_attempt(action.action_id, number, each)
                for number, each in enumerate(attempts, 1)
            ]
        ),
    )


def _stored_attempt(action_id: str, number: int, each: Mapping[str, Any]) -> StoredAttempt:
    late_id = extra(each["late"])["id"] if "late" in each else None
    lease, lost_at = lease_of(each, action_id, number), to_instant_or_none(each.get("lost"))
    return StoredAttempt(number, lease, each["pack"], to_instant(each["at"]), lost_at, late_id)


# --------------------------------------------------------------------------------------------- load


async def _checkpoint(database: Database) -> Checkpoint | None:
    found = await database.flyte_number.find_one({"_id": "loading"})
    return None if found is None else Checkpoint(found["records"], found["checksum"])


async def begin(database: Database) -> Checkpoint:
    """See `Store.begin_load`."""
    found = await _checkpoint(database)
    if found is not None:
        return found
    for name in COLLECTIONS:
        if await database[name].find_one({}, {"_id": 1}) is not None:
            raise rules.not_empty()
    checkpoint = Checkpoint()
    await database.flyte_number.insert_one(
        {"_id": "loading", "records": 0, "checksum": checkpoint.checksum}
    )
    return checkpoint


async def load(
    database: Database, actions: ActionCollection, records: Sequence[Stored], checkpoint: Checkpoint
) -> None:
    """See `Store.load`.

    Records stored before an unwritten checkpoint are stored again, over themselves.
    """
    found = rules.require_loading(await _checkpoint(database))
    if found.records >= checkpoint.records:
        return
    for kind, some in groupby(records, kind_of):
        await WRITERS[kind](database, actions, list(some))
    await database.flyte_number.update_one(
        {"_id": "loading", "records": found.records},
        {"$set": {"records": checkpoint.records, "checksum": checkpoint.checksum}},
    )


async def end(database: Database) -> None:
    """See `Store.end_load`."""
    await database.flyte_number.delete_one({"_id": "loading"})
    for name in NUMBERS:
        await changed(database, name)


async def _replace_all(collection: MongoCollection, documents: Sequence[Document]) -> None:
    await write_all(
        collection, [ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in documents]
    )


async def _load_packs(
    database: Database, _actions: ActionCollection, records: Sequence[StoredPack]
) -> None:
    await _replace_all(database.pack, [pack_document(each.pack) for each in records])


async def _load_versions(
    database: Database, _actions: ActionCollection, records: Sequence[StoredVersion]
) -> None:
    await _replace_all(database.flowHistory, [history_document(each.version) for each in records])


async def _load_flows(
    database: Database, _actions: ActionCollection, records: Sequence[StoredFlow]
) -> None:
    uuids = [each.uuid for each in records]
    versions = {
        each["uuid"]: each async for each in database.flowHistory.find({"uuid": {"$in": uuids}})
    }
    await _replace_all(
        database.flow, [current_document(versions[each.uuid], each.timetables) for each in records]
    )


async def _load_items(
    database: Database, _actions: ActionCollection, records: Sequence[StoredItem]
) -> None:
    await _replace_all(database.datastore, [item_document(each.item) for each in records])


async def _load_notes(
    database: Database, _actions: ActionCollection, records: Sequence[StoredNote]
) -> None:
    await _replace_all(database.flyte_note, [note_document(each.note) for each in records])


async def _load_events(
    database: Database, actions: ActionCollection, records: Sequence[StoredEvent]
) -> None:
    numbers = actions.numbers(len(records))
    documents = [
        record_document(each.event, each.decisions, each.basis, seq)
        for each, seq in zip(records, numbers, strict=True)
    ]
    await write_all(database.flyte_event, [InsertOne(each) for each in documents])


async def _load_actions(
    database: Database, actions: ActionCollection, records: Sequence[StoredAction]
) -> None:
    ids = {each.trigger_id for each in records} | {
        event_id for each in records for event_id in each.result_ids
    }
    events = {
        each["_id"]: event_fields(each)
        async for each in database.flyte_event.find({"_id": {"$in": sorted(ids)}})
    }
    numbers = actions.numbers(len(records))
    documents = [_loaded(each, events, seq) for each, seq in zip(records, numbers, strict=True)]
    await actions.queues.ensure(database, [each.action.routing_key for each in records])
    await create(database, documents)
    for record, document in zip(records, documents, strict=True):
        await write_all(database.flyte_execution, [_entering(record, document)])
        await write_all(database.flyte_event, list(_referring(record)))


def _loaded(record: StoredAction, events: Mapping[str, Document], seq: int) -> Document:
    """Return an action as it was in the other store."""
    action, states = (
        record.action,
        [(each.state.value, to_microseconds(each.at)) for each in record.states],
    )
    document = action_document(action, events[record.trigger_id], states[0][1], seq)
    state, due = stored_state_of(record), to_microseconds_or_none(record.due_at)
    if state == "NEW":
        due = of_length(action.timeout)
    document["state"] = shown_state(*states[-1])
    document["states"] = [shown_state(*each) for each in states]
    kept = document.pop("flyte") | {
        "state": state,
        "since": states[-1][1],
        "states": [f"{value} {at}" for value, at in states],
        "queue": queue_of(action.routing_key),
        "route": route_of(action.routing_key),
        "due": NEVER if due is None else due,
        "attempt": record.attempt,
        "attempts": [_loaded_attempt(each, events) for each in record.attempts],
    }
    if record.wait is not None:
        kept["wait"] = of_length(record.wait)
    if record.result_id is not None:
        document["result"] = events[record.result_id]
    return {**document, "flyte": {**kept, "bytes": size_of(document)}}


def _loaded_attempt(attempt: StoredAttempt, events: Mapping[str, Document]) -> Document:
    kept = {
        "lease": attempt.lease,
        "pack": attempt.pack_id,
        "at": to_microseconds(attempt.taken_at),
        "lost": to_microseconds_or_none(attempt.lost_at),
        "late": None if attempt.late_id is None else events[attempt.late_id],
    }
    return {key: value for key, value in kept.items() if value is not None}


def _entering(record: StoredAction, document: Document) -> UpdateOne:
    action = record.action
    rest: Document = {"isFinished": True} if record.states[-1].state.is_finished else {}
    update: Document = {
        "$setOnInsert": {
            "flowName": action.flow_name,
            "flowUUID": action.flow_uuid,
            "seq": extra(document)["seq"],
            **rest,
        },
        "$push": {"actions": member_of(document)},
        "$max": {"changedAt": max(to_microseconds(each.at) for each in record.states)},
        "$inc": {"version": 1, "bytes": extra(document)["bytes"]},
    }
    if not rest:
        update["$set"] = {"isFinished": False}
    return UpdateOne(
        {"_id": action.correlation_id, "actions.id": {"$ne": action.action_id}}, update, upsert=True
    )


def _referring(record: StoredAction) -> Sequence[UpdateOne]:
    run = {"$addToSet": {"executions": record.action.correlation_id}}
    results = [
        UpdateOne({"_id": key}, {**run, "$set": {"action": record.action.action_id}})
        for key in record.result_ids
    ]
    return [UpdateOne({"_id": record.trigger_id}, run), *results]


async def _load_keys(
    database: Database, _actions: ActionCollection, records: Sequence[StoredKey]
) -> None:
    await write_all(
        database.flyte_event,
        [UpdateOne({"_id": each.event_id}, {"$set": {"key": each.key}}) for each in records],
    )


WRITERS: Mapping[str, Any] = dict(
    zip(
        KINDS,
        (
            _load_packs,
            _load_versions,
            _load_flows,
            _load_items,
            _load_notes,
            _load_events,
            _load_actions,
            _load_keys,
        ),
        strict=True,
    )
)
