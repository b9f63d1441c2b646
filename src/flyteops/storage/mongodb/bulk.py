"""Several changes at once."""

from collections.abc import Sequence
from typing import Any

from pymongo.errors import BulkWriteError

DUPLICATE = 11000
"""The server's code for what is there already."""


async def write_all(collection: Any, changes: Sequence[Any]) -> bool:
    """Carry out all of the changes, but for inserting what is there already; return whether some of it was."""
    if not changes:
        return False
    try:
        await collection.bulk_write(changes, ordered=False)
    except BulkWriteError as error:
        if any(each.get("code") != DUPLICATE for each in (error.details or {}).get("writeErrors", [{}])):
            raise
        return True
    return False
