"""Bounds on the database's growth: removal of old data."""

import time
from collections.abc import Sequence
from typing import Any

from flyteops.storage import rules
from flyteops.storage.mongodb.document import extra
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.schema import AUDIT_KEPT_FOR
from flyteops.storage.query import Purged, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import MICROSECOND, to_microseconds
from flyteops.storage.rules import surplus

FOREVER = 2**62

UNUSED = "flyte.unusedSince"
"""The field of a flow version with the time since when it is unused."""

MARKED_AT_ONCE = 1000

FOREIGN_BYTES = 1024
"""The assumed size of a version saved by the original."""

FREE: Document = {"executions": []}
"""The filter of unreferenced events."""


async def purge(database: Database, what: Retention, limit: int) -> Purged:
    """Remove at most `limit` executions, events and keys; `more` when there may be more."""
    before, finished_before = to_microseconds(what.before), rules.finished_limit(what)
    keys_before = to_microseconds(what.keys_before)
    # Where the original has kept only copies, they are the sole record, and are kept for as long as
    # it keeps them.
    archived_before = (time.time_ns() // 1000) - AUDIT_KEPT_FOR // MICROSECOND
    executions = 0
    for which in (
        {"changedAt": {"$lt": before}, "isArchived": {"$ne": True}},
        {"changedAt": {"$lt": min(before, archived_before)}, "isArchived": True},
        {"changedAt": {"$lt": finished_before}, "isFinished": True, "isArchived": {"$ne": True}},
    ):
        executions += await _remove(database, await _oldest(database, which, limit - executions))
    events = await _remove_events(database, finished_before, keys_before, limit)
    keys = await _remove_keys(database, keys_before, limit)
    over = 0
    if what.max_bytes is not None and not executions and not events:
        over = max(0, await used_bytes(database) - what.max_bytes)
    if over > what.spared_bytes:
        executions, events = await _remove_oldest(database, keys_before, limit)
    return rules.purged(executions, events, keys, limit=limit, excess=over)


async def purge_versions(database: Database, what: VersionBound, limit: int) -> PurgedVersions:
    """See `Store.purge_versions`."""
    current = {each.get("uuid") async for each in database.flow.find({}, {"uuid": 1})}
    fields = {"uuid": 1, "flyte.bytes": 1, "flyte.savedAt": 1, UNUSED: 1}
    unused, marked, used = [], [], []
    async for version in database.flowHistory.find({}, fields).sort("_id", 1):
        uuid, kept = version.get("uuid"), extra(version)
        is_used = (
            uuid in current
            or uuid in what.kept
            or await database.flyte_execution.find_one({"flowUUID": uuid}, {"_id": 1}) is not None
        )
        since = kept.get("unusedSince")
        if is_used:
            used += [] if since is None else [version["_id"]]
            continue
        if since is None:
            since = to_microseconds(what.at)
            marked.append(version["_id"])
        unused.append(
            (kept.get("savedAt", 0), version["_id"], kept.get("bytes", FOREIGN_BYTES), since)
        )
    await _mark(database, used, {"$unset": {UNUSED: 1}})
    await _mark(database, marked, {"$set": {UNUSED: to_microseconds(what.at)}})
    unused.sort(key=lambda each: each[0])
    chosen, left = surplus([each[1:] for each in unused], what, limit)
    if chosen:
        await database.flowHistory.delete_many({"_id": {"$in": chosen}})
    return PurgedVersions(len(chosen), left)


async def _mark(database: Database, versions: Sequence[Any], change: Document) -> None:
    for start in range(0, len(versions), MARKED_AT_ONCE):
        await database.flowHistory.update_many(
            {"_id": {"$in": versions[start : start + MARKED_AT_ONCE]}}, change
        )


async def used_bytes(database: Database) -> int:
    """Return the size of all documents before compression, which shrinks with each removal."""
    return int((await database.command("dbStats"))["dataSize"])


async def _oldest(database: Database, which: Document, limit: int) -> Sequence[str]:
    if limit <= 0:
        return []
    cursor = (
        database.flyte_execution.find(which, {"_id": 1})
        .sort([("changedAt", 1), ("seq", 1)])
        .limit(limit)
    )
    return [run["_id"] for run in await cursor.to_list()]


async def _remove(database: Database, runs: Sequence[str]) -> int:
    """Remove executions with all their data.

    Their own documents last, so that the rest is found.
    """
    if runs:
        for collection in (database.action, database.audit):
            await collection.delete_many({"correlationId": {"$in": list(runs)}})
        await database.flyte_event.update_many(
            {"executions": {"$in": list(runs)}}, {"$pull": {"executions": {"$in": list(runs)}}}
        )
        await database.flyte_execution.delete_many({"_id": {"$in": list(runs)}})
    return len(runs)


async def _remove_events(database: Database, before: int, keys_before: int, limit: int) -> int:
    which = {**FREE, "at": {"$lt": before}, "$or": [{"key": None}, {"at": {"$lt": keys_before}}]}
    ids = [
        each["_id"]
        for each in await database.flyte_event.find(which, {"_id": 1})
        .sort("at", 1)
        .limit(limit)
        .to_list()
    ]
    if ids:
        await database.flyte_event.delete_many({"_id": {"$in": ids}, **FREE})
    return len(ids)


async def _remove_keys(database: Database, before: int, limit: int) -> int:
    which = {"key": {"$gt": ""}, "at": {"$lt": before}}
    ids = [
        each["_id"]
        for each in await database.flyte_event.find(which, {"_id": 1}).limit(limit).to_list()
    ]
    if ids:
        await database.flyte_event.update_many({"_id": {"$in": ids}}, {"$unset": {"key": 1}})
    return len(ids)


async def _remove_oldest(database: Database, keys_before: int, limit: int) -> tuple[int, int]:
    """Remove the oldest finished executions, or events that led to none.

    Return the number of each.
    """
    over = {"isFinished": True}
    execution = await database.flyte_execution.find_one(
        over, {"changedAt": 1}, sort=[("changedAt", 1)]
    )
    event = await database.flyte_event.find_one(FREE, {"at": 1}, sort=[("at", 1)])
    if execution is None and event is None:
        return 0, 0
    if event is None or (execution is not None and execution["changedAt"] <= event["at"]):
        return await _remove(database, await _oldest(database, over, limit)), 0
    return 0, await _remove_events(database, FOREVER, keys_before, limit)
