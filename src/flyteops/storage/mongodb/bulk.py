"""Bulk writes: several changes at once."""

from collections.abc import Sequence
from typing import Any

from pymongo import InsertOne
from pymongo.errors import BulkWriteError

from flyteops.storage.mongodb.driver import MongoCollection

DUPLICATE = 11000
"""The server's code for a duplicate key."""


async def write_all(collection: MongoCollection, changes: Sequence[Any]) -> bool:
    """Carry out all of the changes, except inserts of existing documents.

    Return whether there were any of these.
    """
    if not changes:
        return False
    try:
        await collection.bulk_write(changes, ordered=False)
    except BulkWriteError as error:
        if any(
            each.get("code") != DUPLICATE for each in (error.details or {}).get("writeErrors", [{}])
        ):
            raise
        return True
    return False


async def insert_new(collection: MongoCollection, documents: Sequence[dict[str, Any]]) -> set[str]:
    """Insert documents, except existing ones; return the ids of these."""
    if not documents:
        return set()
    try:
        await collection.bulk_write([InsertOne(each) for each in documents], ordered=False)
    except BulkWriteError as error:
        faults = (error.details or {}).get("writeErrors", [{}])
        if any(each.get("code") != DUPLICATE for each in faults):
            raise
        return {str(documents[each["index"]]["_id"]) for each in faults}
    return set()
