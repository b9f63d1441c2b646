"""The MongoDB backend keeps the storage contract, on a real server."""

from collections.abc import AsyncIterator

import pytest

from flyteops.storage.base import Store
from flyteops.storage.mongodb import MongoStore
from flyteops.testing import StoreContract
from tests.mongodb import place

pytestmark = pytest.mark.mongodb


class TestMongodb(StoreContract):
    @pytest.fixture(autouse=True)
    async def place(self) -> AsyncIterator[None]:
        async with place() as self.url:
            yield

    def connect(self) -> Store:
        return MongoStore(self.url)
