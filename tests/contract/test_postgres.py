"""The PostgreSQL backend keeps the storage contract, on a real server."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flyteops.errors import ConflictError, InputError, StoreError
from flyteops.model import DataItem, Note, Outcome
from flyteops.storage.base import ActionFilter, Store
from flyteops.storage.portable import Tally
from flyteops.storage.postgres import PostgresStore
from flyteops.storage.sqlite import SqliteStore
from flyteops.storage.transfer import move
from flyteops.testing import StoreContract
from flyteops.testing.case import start, take
from flyteops.testing.sample import NOON, WORKER, Sample
from tests.postgres import URL, bouncer, execute, forgetful, place

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


async def test_labels_that_are_damaged_keep_no_pack_from_other_queues(caplog: pytest.LogCaptureFixture) -> None:
    damaged, good = SAMPLE.action(name="Damaged"), SAMPLE.action()
    async with place() as url, PostgresStore(url) as store:
        await start(store, damaged)
        await execute("UPDATE flyte_action SET labels = 'damaged'", url=url)
        await start(store, good)
        assert [await take(store), await store.claim(WORKER, NOON)] == [good.action_id, []]
        assert damaged.action_id in [one.action_id for one in await store.list_actions(ActionFilter(), 0, 9)]
        assert "are set aside" in caplog.text


@pytest.mark.slow
async def test_a_new_database_must_keep_every_character_and_an_old_one_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    name = f"test_{secrets.token_hex(6)}"
    await execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = urlsplit(URL)._replace(path=f"/{name}").geturl()
    try:
        with pytest.raises(StoreError, match="encoding LATIN1, and Flyte needs UTF8"):
            await PostgresStore(url).open()
        await execute("CREATE TABLE flyte_number (name text PRIMARY KEY, value bigint NOT NULL)", url=url)
        await execute("INSERT INTO flyte_number VALUES ('schema', 0)", url=url)
        async with PostgresStore(url) as store:
            assert "The database has the encoding LATIN1" in caplog.text
            with pytest.raises(InputError):
                await store.record(SAMPLE.event("snow \u2603"), Outcome())
            await store.record(SAMPLE.event("plain"), Outcome())
    finally:
        await execute(f"DROP DATABASE {name}")
