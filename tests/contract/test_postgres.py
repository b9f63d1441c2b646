"""The PostgreSQL backend keeps the storage contract, on a real server."""

import os
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from flyteops.storage.base import Store
from flyteops.storage.postgres import PostgresStore
from flyteops.testing import StoreContract

URL = os.environ.get("FLYTE_TEST_POSTGRES", "")

pytestmark = pytest.mark.postgres


class TestPostgres(StoreContract):
    @pytest.fixture(autouse=True)
    async def place(self) -> AsyncIterator[None]:
        self.schema = f"test_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(URL)
        await connection.execute(f"CREATE SCHEMA {self.schema}")
        yield
        await connection.execute(f"DROP SCHEMA {self.schema} CASCADE")
        await connection.close()

    def connect(self) -> Store:
        return PostgresStore(f"{URL}?search_path={self.schema}")
