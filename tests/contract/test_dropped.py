"""What a store says when somebody drops the database, or what is in it, while it is open."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import AsyncMongoClient

from flyteops.errors import OutcomeUnknownError, StoreError, UnavailableError, UnreadableError
from flyteops.model import DataItem
from flyteops.storage.base import Store
from flyteops.storage.mongodb import MongoStore
from flyteops.storage.postgres import PostgresStore
from flyteops.storage.query import EventFilter
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing.case import start, take
from flyteops.testing.sample import NOTHING, Sample, always, creating
from tests.mongodb import place
from tests.postgres import place as postgres_place

mongodb = pytest.mark.mongodb


@pytest.fixture
async def database() -> AsyncIterator[tuple[str, Any]]:
    async with place() as url, AsyncMongoClient(url) as client:
        yield url, client.get_default_database()


async def check_refuses_all(store: Store, sample: Sample, action_id: str) -> None:
    """Fail unless the store acknowledges nothing, and says why."""
    for verb in (
        store.read_change_counters,
        lambda: store.record(sample.event(), creating(sample.action())),
        lambda: store.finish(action_id, sample.event("Done"), always(NOTHING)),
        lambda: store.save_item(DataItem("a", "text/plain", b"b")),
        lambda: store.get_action(action_id),
        store.ping,
    ):
        with pytest.raises(UnavailableError, match="was dropped"):
            await verb()


async def drop_database(raw: Any) -> None:
    await raw.client.drop_database(raw.name)


async def drop_queues(raw: Any) -> None:
    await raw.flyte_queue.drop()


async def empty_queues(raw: Any) -> None:
    await raw.flyte_queue.delete_many({})


@mongodb
@pytest.mark.parametrize("drop", [drop_database, drop_queues, empty_queues])
async def test_no_event_is_acknowledged_once_the_database_was_dropped(
    database: tuple[str, Any], drop: Any
) -> None:
    url, raw = database
    sample = Sample()
    async with MongoStore(url) as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        await drop(raw)
        with pytest.raises(OutcomeUnknownError, match="was dropped"):
            await store.record(sample.event(), creating(sample.action()))
        await check_refuses_all(store, sample, action.action_id)


@mongodb
@pytest.mark.parametrize("drop", [drop_queues, empty_queues])
async def test_actions_whose_queues_were_dropped_are_handed_out_after_a_restart(
    database: tuple[str, Any], drop: Any
) -> None:
    url, raw = database
    sample = Sample()
    taken, waiting = sample.action(), sample.action()
    async with MongoStore(url) as store:
        await start(store, taken)
        assert await take(store) == taken.action_id
        await start(store, waiting)
        await drop(raw)
        with pytest.raises(UnavailableError, match="was dropped"):
            await store.read_change_counters()
    async with MongoStore(url) as store:
        assert await take(store) == waiting.action_id


@mongodb
async def test_a_result_for_a_dropped_database_is_not_answered_with_not_found(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    async with MongoStore(url) as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        await drop_database(raw)
        with pytest.raises(UnavailableError, match="was dropped"):
            await store.finish(action.action_id, sample.event("Done"), always(NOTHING))
        await check_refuses_all(store, sample, action.action_id)


@mongodb
async def test_any_collection_that_is_missing_is_noticed_by_the_next_look(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    for name in (
        "flow",
        "flowHistory",
        "flyte_event",
        "flyte_queue",
        "action",
        "audit",
        "flyte_execution",
        "flyte_note",
        "flyte_number",
    ):
        async with MongoStore(url) as store:
            await store.read_change_counters()
            await raw[name].drop()
            with pytest.raises(UnavailableError, match="was dropped"):
                await store.read_change_counters()


@mongodb
async def test_an_event_for_a_collection_that_was_dropped_is_handed_out_and_the_next_look_notices(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    async with MongoStore(url) as store:
        await store.read_change_counters()
        await raw.flyte_event.drop()
        action = sample.action()
        await start(store, action)
        assert await take(store) == action.action_id
        await check_refuses_all(store, sample, action.action_id)


@mongodb
async def test_a_result_that_creates_actions_in_a_dropped_queue_is_not_acknowledged(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    async with MongoStore(url) as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        await raw.flyte_queue.drop()
        with pytest.raises(OutcomeUnknownError, match="was dropped"):
            await store.finish(
                action.action_id, sample.event("Done"), always(creating(sample.action()))
            )


@mongodb
async def test_of_many_events_during_a_drop_only_those_before_it_are_acknowledged(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    events = [sample.event() for _ in range(60)]
    done: list[str] = []
    async with MongoStore(url) as store:

        async def send(number: int) -> None:
            await store.record(events[number], creating(sample.action()))
            done.append(events[number].event_id)

        first = [asyncio.ensure_future(send(number)) for number in range(20)]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(
            drop_database(raw), *(send(number) for number in range(20, 40)), return_exceptions=True
        )
        await asyncio.gather(*first, return_exceptions=True)
        acknowledged = len(done)
        await asyncio.gather(*(send(number) for number in range(40, 60)), return_exceptions=True)
        assert len(done) == acknowledged


@mongodb
async def test_a_restart_begins_with_what_is_there_and_a_server_from_before_does_not_join_it(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    async with MongoStore(url) as before:
        await start(before, sample.action())
        await drop_database(raw)
        async with MongoStore(url) as restarted:
            action = sample.action()
            await start(restarted, action)
            with pytest.raises(UnavailableError, match="was dropped"):
                await before.record(sample.event(), creating(sample.action()))
            assert await take(restarted) == action.action_id
            await before.close()
            await before.open()
            await before.ping()


@mongodb
async def test_servers_that_open_an_empty_database_at_once_agree_on_its_marks(
    database: tuple[str, Any],
) -> None:
    stores = [MongoStore(database[0]) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    try:
        for store in stores:
            await store.ping()
            await store.read_change_counters()
    finally:
        for store in stores:
            await store.close()


# --------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture
async def tables() -> AsyncIterator[tuple[str, Any]]:
    async with postgres_place() as url:
        connection = await asyncpg.connect(url)
        try:
            yield url, connection
        finally:
            await connection.close()


async def drop_tables(connection: Any) -> None:
    for (name,) in await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    ):
        await connection.execute(f"DROP TABLE {name} CASCADE")


async def check_refused(store: Store, sample: Sample, action_id: str, reason: str) -> None:
    """Fail unless nothing is acknowledged and the store says for which reason it is not ready."""
    for verb in (
        lambda: store.record(sample.event(), creating(sample.action())),
        lambda: store.record(sample.event(), NOTHING, key="a key"),
        lambda: store.finish(action_id, sample.event("Done"), always(NOTHING)),
    ):
        with pytest.raises(UnavailableError):
            await verb()
    with pytest.raises(UnavailableError, match=reason):
        await store.ping()


@pytest.mark.postgres
async def test_a_table_that_was_dropped_is_the_reason_not_to_be_ready(
    tables: tuple[str, Any],
) -> None:
    url, connection = tables
    sample = Sample()
    async with PostgresStore(url) as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        await connection.execute("DROP TABLE flyte_event")
        await check_refused(
            store, sample, action.action_id, "dropped from the database: flyte_event"
        )
        await drop_tables(connection)
        await check_refused(store, sample, action.action_id, "flyte_number")


@pytest.mark.postgres
async def test_tables_that_another_server_has_made_anew_are_not_taken_for_the_former_ones(
    tables: tuple[str, Any],
) -> None:
    url, connection = tables
    sample = Sample()
    async with PostgresStore(url) as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        await drop_tables(connection)
        async with PostgresStore(url) as other:
            await check_refused(store, sample, action.action_id, "holds another store")
            for look in (
                store.read_change_counters,
                lambda: store.get_action(action.action_id),
                lambda: store.get_event("e"),
            ):
                with pytest.raises(UnavailableError, match="holds another store"):
                    await look()
            await other.ping()
            assert not await other.list_events(EventFilter(), 0, 10)


@pytest.mark.postgres
async def test_a_store_that_was_truncated_acknowledges_nothing_and_is_not_opened_again(
    tables: tuple[str, Any],
) -> None:
    url, connection = tables
    sample = Sample()
    async with PostgresStore(url) as store:
        action = sample.action()
        await start(store, action)
        names = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        await connection.execute(f"TRUNCATE {', '.join(name for (name,) in names)}")
        await check_refused(store, sample, action.action_id, "was emptied")
        with pytest.raises(UnavailableError, match="was emptied"):
            await store.read_change_counters()
    with pytest.raises(StoreError, match="emptied the table flyte_number"):
        await PostgresStore(url).open()


# ------------------------------------------------------------------------------------------- SQLite


def run_elsewhere(path: Path, statement: str) -> None:
    """Run a statement as another program does."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "what", ["TABLE event", "TABLE queue", "TABLE note", "TABLE execution", "INDEX action_waiting"]
)
async def test_a_table_that_another_program_drops_from_the_file_stops_all_work(
    tmp_path: Path, what: str
) -> None:
    sample = Sample()
    async with SqliteStore(tmp_path / "flyte.db") as store:
        action = sample.action()
        await start(store, action)
        await take(store)
        run_elsewhere(tmp_path / "flyte.db", f"DROP {what}")
        with pytest.raises(UnavailableError, match=what.lower()):
            await store.record(sample.event(), creating(sample.action()))
        await check_refused(store, sample, action.action_id, what.lower())


async def test_rows_that_another_program_removes_are_not_taken_for_granted(tmp_path: Path) -> None:
    sample = Sample()
    path = tmp_path / "flyte.db"
    async with SqliteStore(path) as store:
        first, second = sample.action(), sample.action()
        await start(store, first)
        run_elsewhere(path, "DELETE FROM queue")
        with pytest.raises(UnreadableError):
            await store.get_action(first.action_id)
        await start(store, second)
    async with SqliteStore(path) as store:
        assert second.action_id in [await take(store), await take(store)]


async def test_what_other_programs_add_to_the_file_does_no_harm(tmp_path: Path) -> None:
    sample = Sample()
    path = tmp_path / "flyte.db"
    async with SqliteStore(path) as store:
        for statement in (
            "CREATE TABLE mine (x)",
            "CREATE INDEX mine_by_x ON mine (x)",
            "ANALYZE",
            "VACUUM",
        ):
            await start(store, action := sample.action())
            run_elsewhere(path, statement)
            assert await take(store) == action.action_id
        await store.ping()
