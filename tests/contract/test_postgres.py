"""The PostgreSQL backend keeps the storage contract, on a real server."""

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from flyteops.background import BackgroundLoops
from flyteops.errors import ConflictError, InputError, StoreError
from flyteops.model import DataItem, Evaluation, Note
from flyteops.storage.base import Store
from flyteops.storage.dump import move
from flyteops.storage.postgres import PostgresStore
from flyteops.storage.postgres.notify import CHANNEL, SQL, Notification
from flyteops.storage.postgres.schema import MIGRATIONS, STATES
from flyteops.storage.query import ActionFilter, Retention
from flyteops.storage.record import Tally
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing import StoreContract
from flyteops.testing.case import start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, minutes
from tests.postgres import URL, bouncer, execute, forgetful, free_port, place, url_of

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

    async with (
        place() as url,
        PostgresStore(url) as source,
        SqliteStore(tmp_path / "new.db") as target,
    ):
        await source.save_pack(sample.pack("First"))
        with pytest.raises(ConflictError, match="changed meanwhile: stop the servers"):
            await move(source, target, change)
        assert (await target.read_change_counters()).is_loading


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


async def test_labels_that_are_damaged_keep_no_pack_from_other_queues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged, good = SAMPLE.action(name="Damaged"), SAMPLE.action()
    async with place() as url, PostgresStore(url) as store:
        await start(store, damaged)
        await execute("UPDATE flyte_action SET labels = 'damaged'", url=url)
        await start(store, good)
        assert [await take(store), await store.claim(WORKER, NOON)] == [good.action_id, []]
        assert damaged.action_id in [
            one.action_id for one in await store.list_actions(ActionFilter(), 0, 9)
        ]
        # A server looks for queues when it starts.
        async with PostgresStore(url), asyncio.timeout(20):
            # The log is what is waited for.
            while "are set aside" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_an_old_database_with_an_unknown_state_is_refused_and_left_as_it_is() -> None:
    action = SAMPLE.action()
    async with place() as url:
        async with PostgresStore(url) as store:
            await start(store, action)
            with pytest.raises(asyncpg.CheckViolationError):
                await execute("UPDATE flyte_action SET state = 'PAUSED'", url=url)
        await execute(
            "ALTER TABLE flyte_action DROP CONSTRAINT flyte_action_known_state",
            f"UPDATE flyte_number SET value = {MIGRATIONS.index(STATES)} WHERE name = 'schema'",
            "UPDATE flyte_action SET state = 'PAUSED'",
            url=url,
        )
        with pytest.raises(
            StoreError,
            match=f"'{action.action_id}' has the unknown state 'PAUSED'; nothing was changed",
        ):
            await PostgresStore(url).open()
        await execute("UPDATE flyte_action SET state = 'NEW'", url=url)
        async with PostgresStore(url) as store:
            assert await take(store) == action.action_id


async def test_a_constraint_that_was_dropped_is_missed() -> None:
    async with place() as url:
        async with PostgresStore(url):
            pass
        await execute("ALTER TABLE flyte_action DROP CONSTRAINT flyte_action_known_state", url=url)
        with pytest.raises(StoreError, match="constraint flyte_action_known_state is missing"):
            await PostgresStore(url).open()


@pytest.mark.slow
async def test_a_new_database_must_keep_every_character_and_an_old_one_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = f"test_{secrets.token_hex(6)}"
    await execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    url = urlsplit(URL)._replace(path=f"/{name}").geturl()
    try:
        with pytest.raises(StoreError, match="encoding LATIN1, and Flyte needs UTF8"):
            await PostgresStore(url).open()
        await execute(
            "CREATE TABLE flyte_number (name text PRIMARY KEY, value bigint NOT NULL)", url=url
        )
        await execute("INSERT INTO flyte_number VALUES ('schema', 0)", url=url)
        async with PostgresStore(url) as store:
            assert "The database has the encoding LATIN1" in caplog.text
            with pytest.raises(InputError):
                await store.record(SAMPLE.event("snow \u2603"), Evaluation())
            await store.record(SAMPLE.event("plain"), Evaluation())
    finally:
        await execute(f"DROP DATABASE {name}")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["never connected", "cut off"])
async def test_a_command_is_found_by_looking_when_its_notification_is_lost(way: str) -> None:
    arrived = asyncio.Event()
    async with place() as url, PostgresStore(url) as other:
        direct_url = (
            url_of(url, host=f"127.0.0.1:{free_port()}") if way == "never connected" else url
        )
        async with PostgresStore(url, direct_url=direct_url) as store:
            if way == "cut off":
                await until_listening(url, 2)
                await execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LISTENERS}",
                    url=url,
                )
            store.listen(lambda addresses: arrived.set() if addresses else None)
            await start(other, SAMPLE.action())
            async with asyncio.timeout(5):
                await arrived.wait()
            assert await take(store)


@pytest.fixture
async def own_database() -> AsyncIterator[str]:
    """Give out the URL of a database of its own: notifications reach a whole database."""
    name = f"test_{secrets.token_hex(6)}"
    await execute(f"CREATE DATABASE {name}")
    yield urlsplit(URL)._replace(path=f"/{name}").geturl()
    await execute(f"DROP DATABASE {name}")


async def test_a_server_alone_notifies_nobody_until_another_one_listens(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteops.storage.postgres.notify.ANSWERING", 0.0)
    heard: asyncio.Queue[Notification] = asyncio.Queue()
    connection = await asyncpg.connect(own_database)
    await connection.add_listener(
        CHANNEL, lambda *call: heard.put_nowait(msgspec.json.decode(call[3], type=Notification))
    )
    async with PostgresStore(own_database) as store:
        while not store._notifier._is_alone():  # noqa: ASYNC110 - a state of the store
            await asyncio.sleep(0.01)
        await start(store, SAMPLE.action())
        while not store._notifier._kept_back:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with PostgresStore(own_database) as other, asyncio.timeout(20):
            senders = set()
            while not (message := await heard.get()).arrived:
                senders.add(message.sender)
            assert message.sender == store._name
            assert senders == {store._name, other._name}
    await connection.close()


LISTENERS = "usename = current_user AND query LIKE 'LISTEN%'"


async def until_listening(url: str, count: int) -> None:
    connection = await asyncpg.connect(url)
    # The server says so.
    while (  # noqa: ASYNC110
        await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {LISTENERS}")
        < count
    ):
        await asyncio.sleep(0.01)
    await connection.close()


async def test_loops_of_the_store_that_keep_failing_are_named_with_their_reason() -> None:
    async with place() as url:
        direct_url = url_of(url, host=f"127.0.0.1:{free_port()}")
        async with PostgresStore(url, direct_url=direct_url) as store:
            now = [0.0]
            store.loops = BackgroundLoops(lambda: now[0])
            loop = store.loops.loop("Listening to other servers", logging.getLogger("flyte.store"))
            while not loop.failures:  # noqa: ASYNC110 - a number
                await asyncio.sleep(0.01)
            now[0] = 60.0
            (problem,) = store.loops.problems(essential=False)
            assert problem.startswith("Listening to other servers has failed")
            assert "cannot be used at the moment" in problem


async def test_the_search_for_waiting_commands_is_understood_by_the_server() -> None:
    wanted = [
        SAMPLE.action(),
        SAMPLE.action(),
        SAMPLE.action(name="Other", pack_labels={"zone": "eu"}),
    ]
    async with place() as url, PostgresStore(url) as store:
        for action in wanted:
            await start(store, action)
        connection = await asyncpg.connect(url)
        found = [tuple(row) for row in await connection.fetch(SQL.waiting_queues)]
        await connection.close()
    assert found == [("Worker", '{"zone":"eu"}', "Other", 1), ("Worker", "{}", "Deploy", 2)]


@pytest.mark.slow
@pytest.mark.alone
async def test_a_store_that_is_too_large_forgets_what_is_too_much_and_not_everything() -> None:
    """PostgreSQL makes no table smaller when rows are removed; their room is used again."""
    sample = Sample()
    tables = (
        "FROM pg_class WHERE relkind = 'r' AND starts_with(relname, 'flyte_') AND"
        " pg_table_is_visible(oid)"
    )
    async with place() as url, PostgresStore(url) as store:

        async def value(statement: str) -> int:
            connection = await asyncpg.connect(url)
            try:
                return int(await connection.fetchval(statement))
            finally:
                await connection.close()

        async def fill(minute: int) -> None:
            payloads = [b'"' + secrets.token_bytes(4000).hex().encode() + b'"' for _ in range(100)]
            await asyncio.gather(
                *(
                    store.record(sample.event(at=minutes(minute), payload=text), NOTHING)
                    for text in payloads
                )
            )

        async def purge() -> int:
            removed = 0
            while (purged := await store.purge(what, limit=20)).more:
                removed += purged.events
            await execute("VACUUM flyte_event", url=url)
            return removed + purged.events

        for minute in range(4):
            await fill(minute)
        size = await value(f"SELECT sum(pg_total_relation_size(oid)) {tables}")
        early = minutes(-1000)
        what = Retention(early, early, early, max_bytes=size * 3 // 4)
        first = await purge()
        assert 80 <= first <= 240
        assert await purge() == 0
        # What comes next takes the room of what went, and once the tables grow, only so much goes
        # again.
        removed = 0
        for minute in range(4, 8):
            await fill(minute)
            removed += await purge()
        left = await value("SELECT count(*) FROM flyte_event")
        assert left == 800 - first - removed
        assert left >= 150
