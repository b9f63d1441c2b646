"""The PostgreSQL backend keeps the storage contract, on a real server."""

from collections.abc import AsyncIterator

import pytest

from flyteops.storage.base import Store
from flyteops.storage.postgres import PostgresStore
from flyteops.testing import StoreContract
from tests.postgres import place

pytestmark = pytest.mark.postgres


class TestPostgres(StoreContract):
    @pytest.fixture(autouse=True)
    async def place(self) -> AsyncIterator[None]:
        async with place() as self.url:
            yield

    def connect(self) -> Store:
        return PostgresStore(self.url)


class TestPostgresBehindAProxy(TestPostgres):
    """As it is used behind a proxy that pools transactions: nothing is prepared."""

    def connect(self) -> Store:
        return PostgresStore(self.url, listen_url=self.url)
