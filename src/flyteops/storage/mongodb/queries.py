"""Queries for people: executions, actions and events.

The actions of an execution are read from `action`, or, once they are no longer kept there, from
their copies in `audit`.
"""

from collections.abc import Collection, Mapping, Sequence

from bson.raw_bson import RawBSONDocument

from flyteops.errors import UnreadableError
from flyteops.model import Action, EventRecord, Execution
from flyteops.storage import rules
from flyteops.storage.base import ChangeCounters
from flyteops.storage.mongodb.client import OPTIONS, ask_server
from flyteops.storage.mongodb.document import action_of, event_of, extra, pairs_of, status_of
from flyteops.storage.mongodb.driver import Cursor, Database, Document
from flyteops.storage.mongodb.legacy import CREATED, FOREIGN, complete, run_of, supply
from flyteops.storage.query import ActionFilter, ActionStatus, EventFilter, ExecutionFilter, Page
from flyteops.storage.row import (
    DELAYED,
    basis_key,
    filter_keys,
    record_of,
    to_microseconds,
    up_to_page,
)

ENDED = frozenset(["SUCCESS", "FATAL"])

MOST = 2**62

MIN_SEQ = -(2**63)

MERGED_KEYS = 100
"""The number of keys whose events one query merges."""

STATUS_FIELDS = {"trigger": 0, "input": 0, "context": 0, "result": 0}

FLEETING = {"pending": 0}
"""The fields of an execution that are not read."""


async def list_events(
    database: Database, which: EventFilter, start: int, limit: int
) -> Page[EventRecord]:
    """See `Store.list_events`."""
    found = await _newest_events(database, which, start, limit)
    kept = up_to_page(
        [each["seq"] for each in found], {each["seq"]: each["bytes"] for each in found}
    )
    ids = [each["_id"] for each in found[: len(kept)]]
    documents = {
        each["_id"]: each
        async for each in database.flyte_event.find({"_id": {"$in": ids}}, {"todo": 0})
    }
    records = [_record(documents[key], which.flow_name) for key in ids if key in documents]
    return Page(records, is_cut=len(kept) < len(found))


async def _newest_events(
    database: Database, which: EventFilter, start: int, limit: int
) -> list[Document]:
    """Return the newest events that match, with their numbers and sizes.

    The server merges the events of several keys along the index, but sorts those of very many.
    """
    wanted = {"name": which.event_name, "pack.name": which.pack_name}
    query: Document = {field: value for field, value in wanted.items() if value is not None}
    keys = filter_keys(which)
    parts = (
        [query]
        if keys is None
        else [
            query | {"flows": {"$in": list(keys[at : at + MERGED_KEYS])}}
            for at in range(0, len(keys), MERGED_KEYS)
        ]
    )
    fields = {"seq": 1, "bytes": 1}
    if len(parts) == 1:
        return await _page(
            database.flyte_event.find(parts[0], fields).sort("seq", -1), start, limit
        )
    found: dict[str, Document] = {}
    for part in parts:
        cursor = database.flyte_event.find(part, fields).sort("seq", -1)
        found |= {each["_id"]: each for each in await _page(cursor, 0, start + limit)}
    ordered = sorted(found.values(), key=lambda each: int(each["seq"]), reverse=True)
    return ordered[start : start + limit]


async def get_event(database: Database, event_id: str) -> EventRecord:
    """See `Store.get_event`."""
    document = await database.flyte_event.find_one({"_id": event_id}, {"todo": 0})
    document = rules.found(document, "event", event_id)
    return _record(document, None)


async def find_unused_bases(database: Database, numbers: Collection[int]) -> Collection[int]:
    """See `Store.find_unused_bases`."""
    return [
        number
        for number in numbers
        if await database.flyte_event.find_one({"flows": basis_key(number)}, {"_id": 1}) is None
    ]


def _record(document: Document, flow_name: str | None) -> EventRecord:
    event = event_of(document, document["_id"])
    return record_of(event, document.get("decisions"), document.get("action"), flow_name)


async def _page(cursor: Cursor, start: int, limit: int) -> list[Document]:
    if limit <= 0:  # no bound, as the server understands it
        return []
    found: list[Document] = await cursor.skip(start).limit(limit).to_list()
    return found


async def list_executions(
    database: Database, which: ExecutionFilter, start: int, limit: int
) -> Page[Execution]:
    """See `Store.list_executions`."""
    query: Document = {"actions": {"$ne": []}}
    if which.flow_name is not None:
        query["flowName"] = which.flow_name
    wanted = {
        "stepId": which.step_id,
        "name": which.action_name,
        "packName": which.action_pack_name,
    }
    member: Document = {field: value for field, value in wanted.items() if value is not None}
    if which.action_pack_labels:
        member["labels"] = {"$all": pairs_of(which.action_pack_labels)}
    if member:
        query["actions"] = {"$elemMatch": member}
        if which.action_name is not None:
            query["actions.name"] = which.action_name  # which an index leads to
    cursor = database.flyte_execution.find(query, FLEETING).sort([("changedAt", -1), ("seq", -1)])
    runs = await _page(cursor, start, limit)
    sizes = await _sizes(database, runs)
    kept = up_to_page(list(range(len(runs))), dict(enumerate(sizes)))
    return Page(await _executions(database, runs[: len(kept)]), is_cut=len(kept) < len(runs))


async def _sizes(database: Database, runs: Sequence[Document]) -> list[int]:
    uuids = list({run["flowUUID"] for run in runs})
    flows = database.flowHistory.find({"uuid": {"$in": uuids}}, {"uuid": 1, "flyte.bytes": 1})
    of_flow = {each["uuid"]: extra(each).get("bytes", 0) async for each in flows}
    unsized = await _actual_sizes(database, [run for run in runs if run.get("isUnsized")])
    return [
        run.get("bytes", 0) + unsized.get(run["_id"], 0) + of_flow.get(run["flowUUID"], 0)
        for run in runs
    ]


async def _actual_sizes(database: Database, runs: Sequence[Document]) -> Mapping[str, int]:
    """Return the actual sizes of executions ended by the original, without decoding them."""
    sizes: dict[str, int] = {}
    for collection, is_archived in ((database.action, False), (database.audit, True)):
        ids = [run["_id"] for run in runs if bool(run.get("isArchived")) == is_archived]
        if not ids:
            continue
        raw = collection.with_options(OPTIONS.with_options(document_class=RawBSONDocument))
        async for each in raw.find({"correlationId": {"$in": ids}}):
            sizes[run_of(each)] = sizes.get(run_of(each), 0) + len(each.raw)
    return sizes


async def get_execution(database: Database, correlation_id: str) -> Execution:
    """See `Store.get_execution`."""
    run = await database.flyte_execution.find_one({"_id": correlation_id}, FLEETING)
    found = [] if run is None else await _executions(database, [run])
    if not found:
        raise rules.missing("execution", correlation_id)
    return found[0]


async def get_action(database: Database, action_id: str) -> Action:
    """See `Store.get_action`."""
    for collection in (database.action, database.audit):
        document = await collection.find_one({"_id": action_id})
        if document is not None:
            if not await supply(database, [document]):
                raise UnreadableError(f"The action {action_id!r} in the store cannot be read.")
            return action_of(document)
    raise rules.missing("action", action_id)


async def _executions(database: Database, runs: Sequence[Document]) -> list[Execution]:
    """Return these executions, in this order, with all of their actions that are kept."""
    which = {"correlationId": {"$in": [run["_id"] for run in runs]}}
    documents = {each["_id"]: each async for each in database.action.find(which)}
    missing = [
        member["id"] for run in runs for member in run["actions"] if member["id"] not in documents
    ]
    if missing:
        async for each in database.audit.find({"_id": {"$in": missing}}):
            documents[each["_id"]] = each
    return [run for run in (_execution(run, documents) for run in runs) if run.actions]


def _execution(run: Document, documents: Mapping[str, Document]) -> Execution:
    members = sorted(run["actions"], key=lambda member: int(member["seq"]))
    for member in members:
        if member["id"] in documents:
            complete([documents[member["id"]]], [member], None)
    actions = [
        action_of(documents[member["id"]]) for member in members if member["id"] in documents
    ]
    return Execution(run["_id"], run["flowName"], run["flowUUID"], tuple(actions))


async def list_actions(
    database: Database, which: ActionFilter, start: int, limit: int, *, has_foreign: bool
) -> Sequence[ActionStatus]:
    """See `Store.list_actions`. `has_foreign`: there may be actions that the original has ended."""
    query, reach = _query(which), min(start + max(limit, 0), MOST)
    if not has_foreign:
        cursor = database.action.find(query, STATUS_FIELDS).sort("flyte.seq", 1)
        return [status_of(document) for document in await _page(cursor, start, limit)]
    cursor = database.action.find({**query, "flyte.seq": {"$gt": MIN_SEQ}}, STATUS_FIELDS).sort(
        "flyte.seq", 1
    )
    found = await _page(cursor, 0, reach)
    ended = (
        ENDED if which.states is None else ENDED.intersection(state.value for state in which.states)
    )
    if ended and which.overdue_since is None:
        query = {**query, **FOREIGN, "state.value": {"$in": sorted(ended)}}
        query.pop("flyte.state", None)
        cursor = database.action.find(query, STATUS_FIELDS).sort(CREATED).allow_disk_use(True)
        foreign = await supply(database, await _page(cursor, 0, reach))
        found = sorted([*found, *foreign], key=lambda document: int(extra(document)["seq"]))
    return [status_of(document) for document in found[start : start + limit]]


def _query(which: ActionFilter) -> Document:
    query: Document = {}
    if which.states is not None:
        stored = [state.value for state in which.states] + (
            [DELAYED] if "NEW" in which.states else []
        )
        query["flyte.state"] = {"$in": stored}
    for field, value in (("flowName", which.flow_name), ("packName", which.pack_name)):
        if value is not None:
            query[field] = value
    if which.overdue_since is not None:
        now = 0 if which.now is None else to_microseconds(which.now)
        waiting = {
            "$or": [
                {"flyte.due": {"$lte": now}},
                {"flyte.since": {"$lt": to_microseconds(which.overdue_since)}},
            ]
        }
        query["$or"] = [{"flyte.state": "UNKNOWN"}, {"flyte.state": "PENDING", **waiting}]
    return query


async def has_open_executions(database: Database) -> bool:
    """Return whether an execution has not finished."""
    return await database.flyte_execution.find_one({"isFinished": False}, {"_id": 1}) is not None


async def read_change_counters(database: Database) -> ChangeCounters:
    """See `Store.read_change_counters`."""
    numbers = {each["_id"]: each async for each in database.flyte_number.find({})}
    status = await ask_server(database)
    known = {
        name: numbers[name]["value"]
        for name in ("flows", "items", "packs", "notes")
        if name in numbers
    }
    return ChangeCounters(**known, now=status.get("localTime"), is_loading="loading" in numbers)
