"""Flows as documents: the current version of each with its timetables, and earlier versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from flyteops.errors import BusyError, UnreadableError
from flyteops.model import Command, EventPattern, Flow, FlowVersion, Step
from flyteops.storage import rules
from flyteops.storage.mongodb.document import extra
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.schema import changed
from flyteops.storage.mongodb.value import from_bson, to_bson
from flyteops.storage.query import Rows, readable
from flyteops.storage.row import EPOCH, decode_flow, encode_json, to_instant, to_microseconds
from flyteops.transition import ScheduleEntry

FASTER = 100
"""The number of tries to make a flow current while others save it."""


def object_id(text: str) -> ObjectId:
    """Return the `_id` of the document for this name, so that there is only one."""
    return ObjectId(blake2b(text.encode(), digest_size=12).digest())


def version_document(version: FlowVersion) -> Document:
    """Return the document of a flow version.

    Data without a field in the original is kept as exact text in addition.
    """
    flow = version.flow
    body = {
        "name": flow.name,
        "description": flow.description,
        "steps": [_step_document(step) for step in flow.steps],
    }
    kept: Document = {"savedAt": to_microseconds(version.saved_at)}
    text = encode_json(flow)
    if read_flow(body) != flow:
        kept["flow"] = text.decode()
    return {"uuid": version.uuid, **body, "flyte": {**kept, "bytes": len(text)}}


def _step_document(step: Step) -> Document:
    body: Document = {
        "id": step.id,
        "event": _part(step.event),
        **msgspec.to_builtins(step),
        "command": _part(step.command),
    }
    if step.depends_on is not None:
        # The original knows "any of these" only.
        body["dependsOn"] = [*step.dependencies.all, *step.dependencies.any]
    found: Document = to_bson(body)
    return found


def _part(part: EventPattern | Command) -> Document:
    found: Document = msgspec.to_builtins(part)
    return found


def read_flow(document: Mapping[str, Any]) -> Flow:
    """Return the flow of a document; raise `msgspec.ValidationError` when it is not a flow."""
    exact = extra(document).get("flow")
    if exact is not None:
        return decode_flow(exact)
    steps = [_read_step(step) for step in document.get("steps") or () if isinstance(step, dict)]
    head = {
        "name": document.get("name"),
        "description": document.get("description") or "",
        "steps": steps,
    }
    return msgspec.convert(head, Flow)


def _read_step(step: Mapping[str, Any]) -> Document:
    """Return a step as in a flow file: with the field names used there, and without empty ones."""
    found = _named(step, Step)
    for field, kind in (("event", EventPattern), ("command", Command)):
        if isinstance(found.get(field), dict):
            found[field] = _named(found[field], kind)
    return found


def _named(part: Mapping[str, Any], kind: type[msgspec.Struct]) -> Document:
    names = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    found = {names.get(key.lower(), key): from_bson(value) for key, value in part.items()}
    return {
        key: value
        for key, value in found.items()
        if key == "input" or value not in (None, "", [], {})
    }


def version_of(document: Mapping[str, Any]) -> FlowVersion:
    """Return the flow version of a document."""
    saved_at = extra(document).get("savedAt")
    at = EPOCH if saved_at is None else to_instant(saved_at)
    if saved_at is None and isinstance(document.get("_id"), ObjectId):
        at = document["_id"].generation_time
    return FlowVersion(document.get("uuid") or "", read_flow(document), at)


def history_document(version: FlowVersion) -> Document:
    """Return a flow version's document for the history."""
    return {"_id": object_id(version.uuid), **version_document(version)}


def current_document(version: Document, timetables: Sequence[ScheduleEntry]) -> Document:
    """Return the document of a flow with this current version."""
    rows = [timetable_document(each, {}) for each in timetables]
    return {
        **version,
        "_id": object_id(version["name"]),
        "flyte": {**extra(version), "timetables": rows},
    }


async def save_flow(
    database: Database, again: bool, *, version: FlowVersion, timetables: Sequence[ScheduleEntry]
) -> None:
    """See `Store.save_flow`.

    First the version is stored, and then made current with its timetables in one operation.
    """
    body = version_document(version)
    known = await database.flowHistory.find_one(
        {"uuid": version.uuid}, {"name": 1, "flyte.savedAt": 1}
    )
    if known is not None and not again:
        raise rules.taken("flow version", version.uuid)
    try:
        await database.flowHistory.insert_one(history_document(version))
    except DuplicateKeyError:
        if not again:
            raise
    for _ in range(FASTER):
        if await _make_current(database, body, timetables):
            await changed(database, "flows")
            return
    raise BusyError


async def _make_current(
    database: Database, body: Document, timetables: Sequence[ScheduleEntry]
) -> bool:
    name = body["name"]
    current = await database.flow.find_one({"name": name}, {"uuid": 1, "flyte.timetables": 1})
    before = [] if current is None else extra(current).get("timetables", [])
    kept = {(each["stepId"], each["rule"]): each["nextAt"] for each in before}
    rows = [timetable_document(each, kept) for each in timetables]
    body = {**body, "flyte": {**body["flyte"], "timetables": rows}}
    which: Document = {"name": name}
    if current is not None:
        which = {"_id": current["_id"], "uuid": current.get("uuid")}
        if before:
            which["flyte.timetables"] = before
        done = await database.flow.update_one(which, {"$set": body})
        return bool(done.matched_count)
    try:
        await database.flow.insert_one({"_id": object_id(name), **body})
    except DuplicateKeyError:
        return False
    return True


def timetable_document(
    table: ScheduleEntry, kept: Mapping[tuple[str, str], int | None]
) -> Document:
    """Return a step's due time as kept in its flow; `kept` are those of the previous version."""
    return {
        "stepIndex": table.step_index,
        "stepId": table.step_id,
        "rule": table.rule,
        "nextAt": rules.next_time(table, kept),
    }


async def list_flows(database: Database) -> Rows[FlowVersion]:
    """See `Store.list_flows`."""
    documents = await database.flow.find({}).to_list()
    return Rows.read(sorted(documents, key=_name_of), _name_of, version_of)


def _name_of(document: Mapping[str, Any]) -> str:
    return str(document.get("name"))


async def list_current(database: Database) -> Mapping[str, str]:
    """See `Store.list_current`."""
    flows = database.flow.find({}, {"name": 1, "uuid": 1})
    return {_name_of(each): str(each.get("uuid")) async for each in flows}


async def find_version(database: Database, uuid: str) -> FlowVersion | None:
    """Return a version of a flow, None without a readable one."""
    for collection in (database.flowHistory, database.flow):
        document = await collection.find_one({"uuid": uuid})
        if document is not None:
            try:
                with readable(f"The flow version {uuid!r}"):
                    return version_of(document)
            except UnreadableError:
                return None
    return None


async def get_version(database: Database, uuid: str) -> FlowVersion:
    """See `Store.get_flow_version`."""
    for collection in (database.flowHistory, database.flow):
        document = await collection.find_one({"uuid": uuid})
        if document is not None:
            with readable(f"The flow version {uuid!r}"):
                return version_of(document)
    raise rules.missing("flow version", uuid)


async def delete_flow(database: Database, again: bool, *, name: str) -> None:
    """See `Store.delete_flow`."""
    done = await database.flow.delete_many({"name": name})
    if not done.deleted_count and not again:
        raise rules.missing("flow", name)
    await changed(database, "flows")


async def set_next(
    database: Database, flow: ObjectId, uuid: str, row: Document, next_at: datetime | None
) -> bool:
    """Set the next due time of a step, unless another server has."""
    done = await database.flow.update_one(
        {"_id": flow, "uuid": uuid, "flyte.timetables": row},
        {
            "$set": {
                "flyte.timetables.$.nextAt": None if next_at is None else to_microseconds(next_at)
            }
        },
    )
    return bool(done.modified_count)
