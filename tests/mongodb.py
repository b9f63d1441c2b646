"""A place on the MongoDB server that FLYTE_TEST_MONGODB names, for one test alone."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator

from pymongo import AsyncMongoClient

URL = os.environ.get("FLYTE_TEST_MONGODB", "")


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[str]:
    """Give out the URL of a database of its own, and remove it in the end."""
    name = f"test_{secrets.token_hex(6)}"
    try:
        yield f"{URL}/{name}"
    finally:
        async with AsyncMongoClient(URL) as client:
            await client.drop_database(name)
