"""The PostgreSQL backend keeps the storage contract, on a real server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from flyteops.errors import ConflictError
from flyteops.model import DataItem, Note
from flyteops.storage.base import Store
from flyteops.storage.portable import Tally
from flyteops.storage.postgres import PostgresStore
from flyteops.storage.sqlite import SqliteStore
from flyteops.storage.transfer import move
from flyteops.testing import StoreContract
from flyteops.testing.sample import Sample
from tests.postgres import bouncer, forgetful, place

pytestmark = pytest.mark.postgres


class TestPostgres(StoreContract):
    """As a role that owns nothing but its schema."""

    @pytest.fixture(autouse=True)
    async def place(self) -> AsyncIterator[None]:
        async with place() as self.url:
            yield

    def connect(self) -> Store:
        return PostgresStore(self.url)


class TestPostgresBehindAProxy(TestPostgres):
    @pytest.fixture(autouse=True)
    async def proxy(self, place: None) -> AsyncIterator[None]:
        async with bouncer(self.url) as self.proxy_url:
            yield

    def connect(self) -> Store:
        return PostgresStore(self.proxy_url, direct_url=self.url)


async def test_a_database_that_servers_change_while_it_is_moved_is_noticed(tmp_path: Path) -> None:
    sample = Sample()

    async def save(url: str) -> None:
        async with PostgresStore(url) as store:
            await store.save_pack(sample.pack())

    def change(doing: str, _tally: Tally) -> None:
        if doing == "verifying":
            thread = threading.Thread(target=lambda: asyncio.run(save(url)))
            thread.start()
            thread.join()

    async with place() as url, PostgresStore(url) as source, SqliteStore(tmp_path / "new.db") as target:
        await source.save_pack(sample.pack("First"))
        with pytest.raises(ConflictError, match="changed meanwhile: stop the servers"):
            await move(source, target, change)
        assert (await target.look_around()).is_loading


SAMPLE = Sample()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.save_flow(SAMPLE.flow("New")),
        lambda store: store.delete_flow("Deploy"),
        lambda store: store.delete_pack("Worker"),
        lambda store: store.delete_item("color"),
        lambda store: store.save_note(Note("token", "two", b"2"), replaces=False),
        lambda store: store.delete_note("token", "one"),
    ],
    ids=["save flow", "delete flow", "delete pack", "delete item", "save note", "delete note"],
)
async def test_a_change_whose_answer_is_lost_with_the_connection_is_not_taken_for_somebody_elses(
    change: Callable[[Store], Awaitable[None]],
) -> None:
    async with place() as url, forgetful(url) as (relay_url, forget):
        async with PostgresStore(url) as store:
            await store.save_flow(SAMPLE.flow("Deploy"))
            await store.save_pack(SAMPLE.pack("Worker"))
            await store.save_item(DataItem("color", "text/plain", b"red"))
            await store.save_note(Note("token", "one", b"1"))
        async with PostgresStore(relay_url, direct_url=url) as store:
            forget()
            await change(store)
