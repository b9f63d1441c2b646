"""What keeps the database from growing for ever: removing what is old."""

import time
from collections.abc import Sequence
from typing import Any

from flyteops.storage.base import Purged, Retention
from flyteops.storage.mongodb.document import Document
from flyteops.storage.mongodb.schema import AUDIT_KEPT_FOR
from flyteops.storage.row import MICROSECOND, to_microseconds

FOREVER = 2**62

FREE: Document = {"executions": []}
"""The filter of events that nothing refers to."""


async def purge(database: Any, what: Retention, limit: int) -> Purged:
    """Remove at most `limit` executions, events and keys; `more` when there may be more."""
    before, finished_before = to_microseconds(what.before), to_microseconds(max(what.before, what.finished_before))
    keys_before = to_microseconds(what.keys_before)
    # Of what the original has kept as copies only, they are all there is, and kept for as long as it does.
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
    if what.max_bytes is not None and not executions and not events and await used_bytes(database) > what.max_bytes:
        executions, events = await _remove_oldest(database, keys_before, limit)
    return Purged(executions, events, more=limit in (executions, events, keys))


async def used_bytes(database: Any) -> int:
    """Return how much all documents are, before the server compresses them: what shrinks when something is removed."""
    return int((await database.command("dbStats"))["dataSize"])


async def _oldest(database: Any, which: Document, limit: int) -> Sequence[str]:
    if limit <= 0:
        return []
    cursor = database.flyte_execution.find(which, {"_id": 1}).sort([("changedAt", 1), ("seq", 1)]).limit(limit)
    return [run["_id"] for run in await cursor.to_list()]


async def _remove(database: Any, runs: Sequence[str]) -> int:
    """Remove executions with all that belongs to them; they themselves go last, so that the rest is not forgotten."""
    if runs:
        for collection in (database.action, database.audit):
            await collection.delete_many({"correlationId": {"$in": list(runs)}})
        await database.flyte_event.update_many(
            {"executions": {"$in": list(runs)}}, {"$pull": {"executions": {"$in": list(runs)}}}
        )
        await database.flyte_execution.delete_many({"_id": {"$in": list(runs)}})
    return len(runs)


async def _remove_events(database: Any, before: int, keys_before: int, limit: int) -> int:
    which = {**FREE, "at": {"$lt": before}, "$or": [{"key": None}, {"at": {"$lt": keys_before}}]}
    ids = [each["_id"] for each in await database.flyte_event.find(which, {"_id": 1}).sort("at", 1).limit(limit).to_list()]
    if ids:
        await database.flyte_event.delete_many({"_id": {"$in": ids}, **FREE})
    return len(ids)


async def _remove_keys(database: Any, before: int, limit: int) -> int:
    which = {"key": {"$gt": ""}, "at": {"$lt": before}}
    ids = [each["_id"] for each in await database.flyte_event.find(which, {"_id": 1}).limit(limit).to_list()]
    if ids:
        await database.flyte_event.update_many({"_id": {"$in": ids}}, {"$unset": {"key": 1}})
    return len(ids)


async def _remove_oldest(database: Any, keys_before: int, limit: int) -> tuple[int, int]:
    """Remove what is oldest, executions that are finished or events that led to none; how many of each."""
    over = {"isFinished": True}
    execution = await database.flyte_execution.find_one(over, {"changedAt": 1}, sort=[("changedAt", 1)])
    event = await database.flyte_event.find_one(FREE, {"at": 1}, sort=[("at", 1)])
    if execution is None and event is None:
        return 0, 0
    if event is None or (execution is not None and execution["changedAt"] <= event["at"]):
        return await _remove(database, await _oldest(database, over, limit)), 0
    return 0, await _remove_events(database, FOREVER, keys_before, limit)
