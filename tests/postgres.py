"""A place on the PostgreSQL server that FLYTE_TEST_POSTGRES names, for one test alone."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator

import asyncpg

URL = os.environ.get("FLYTE_TEST_POSTGRES", "")


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[str]:
    """Make a schema of its own, give out a URL that leads there, and remove it in the end."""
    schema = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(URL)
    await connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield f"{URL}?search_path={schema}"
    finally:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.close()
