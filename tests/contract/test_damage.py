"""Stores that several servers share, in which something cannot be read."""

import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pymongo
import pytest
from bson import ObjectId

from flyteops.errors import UnreadableError
from flyteops.model import (
    ActionState,
    Command,
    DataItem,
    EventPattern,
    Flow,
    NewEvent,
    PackDeclaration,
    Schedule,
    Step,
)
from flyteops.service import Service
from flyteops.storage import open_store
from flyteops.storage.query import ActionFilter, EventFilter
from flyteops.testing.timer import Ruling
from flyteops.transition import NeedsOperator
from tests.mongodb import place as mongodb_place
from tests.postgres import place as postgres_place
from tests.shared import PLACES
from tests.support.clock import Clock


@pytest.fixture(params=PLACES)
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with request.param() as url:
        yield url


async def damage(url: str) -> None:
    """Make unreadable: the current version of a flow, a pack, a datastore item, and an action."""
    if url.startswith("mongodb"):
        await _damage_mongodb(url)
        return
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE flyte_flow_version SET flow = '{' WHERE name = 'broken'")
    await connection.execute("UPDATE flyte_pack SET declaration = 'null' WHERE name = 'Broken'")
    await connection.execute("UPDATE flyte_action SET context = '{' WHERE command = 'Break'")
    await connection.close()


async def _damage_mongodb(url: str) -> None:
    async with pymongo.AsyncMongoClient(url) as client:
        database = client.get_default_database()
        for collection in (database.flow, database.flowHistory):
            await collection.update_many({"name": "broken"}, {"$set": {"steps": 7}})
        await database.pack.update_one({"name": "Broken"}, {"$set": {"commands": 7}})
        await database.datastore.update_one({"_id": "broken"}, {"$set": {"contentType": 7}})
        await database.action.update_one({"name": "Break"}, {"$set": {"flyte.attempts": 7}})


def flow(name: str, command: str) -> Flow:
    pattern = EventPattern(name=command, pack_name="Source")
    work = Command(name=command, pack_name="Worker", timeout="30s")
    return Flow(name, steps=(Step(id="s", event=pattern, command=work),))


async def test_what_cannot_be_read_keeps_no_other_thing_from_working(url: str) -> None:
    clock = Clock(datetime.now(UTC))
    async with open_store(url) as store:
        service = Service(store, clock=clock)
        await service.start()
        for name in ("Source", "Worker", "Broken"):
            await service.packs.register(PackDeclaration(name=name))
        for name, command in (("good", "Do"), ("breaking", "Break"), ("broken", "Miss")):
            await service.flows.save(flow(name, command))
            await service.data.save(DataItem(name, "text/plain", b"v"))
        for command in ("Break", "Do"):
            await service.accept_event("Source", NewEvent(command, b"null"))
        assert len(await service.take("Worker", limit=2)) == 2
        uuid = (await store.list_current())["broken"]
        await damage(url)

        other = Service(store, clock=clock)
        await other.start()
        found = {(each.kind, each.name) for each in other.health.problems()}
        assert {("flow", "broken"), ("pack", "Broken")} <= found
        assert [each.name for each in other.flows.list()] == ["breaking", "good"]
        with pytest.raises(UnreadableError):
            await store.get_flow_version(uuid)

        clock.forward(seconds=60)
        await other.process_due()
        assert [
            each.event.name
            for each in await store.list_events(EventFilter(event_name="FATAL"), 0, 10)
        ] == ["FATAL"]
        assert "action" in {each.kind for each in other.health.problems()}
        await other.accept_event("Source", NewEvent("Do", b"null"))
        assert len(await other.take("Worker")) == 1


async def test_an_action_that_cannot_be_read_keeps_no_other_from_being_returned(url: str) -> None:
    async with open_store(url) as store:
        service = Service(store, clock=Clock(datetime.now(UTC)))
        await service.start()
        for name in ("Source", "Worker"):
            await service.packs.register(PackDeclaration(name=name))
        for command in ("Break", "Do"):
            await service.flows.save(flow(command, command))
        for command in ("Do", "Break", "Do"):
            await service.accept_event("Source", NewEvent(command, b"null"))
        taken = await service.take("Worker", limit=3)
        assert [each.name for each in taken] == ["Do", "Break", "Do"]
        await damage(url)
        with pytest.raises(Exception):  # noqa: B017, PT011 - as the store finds it
            await service.release_claims(taken)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the same one again
            await service.release_claims([])
        assert [each.name for each in await service.take("Worker", limit=3)] == ["Do", "Do"]


ROW = "flyte.timetables.0"
DAMAGED_ROWS = [
    {"$set": {f"{ROW}.nextAt": -(2**62)}},
    {"$unset": {f"{ROW}.rule": 1}},
    {"$unset": {f"{ROW}.stepIndex": 1}},
    {"$set": {f"{ROW}.stepIndex": "first"}},
    {"$unset": {"uuid": 1}},
    {"$push": {"flyte.timetables": {"$each": [7, None], "$position": 1}}},
]


@pytest.mark.mongodb
@pytest.mark.parametrize("change", DAMAGED_ROWS, ids=str)
@pytest.mark.parametrize("limit", [None, "1m", -(2**62)])
async def test_no_timer_that_cannot_be_read_stops_the_others(
    change: dict[str, Any], limit: object
) -> None:
    clock = Clock(datetime.now(UTC))
    async with mongodb_place() as url, open_store(url) as store:
        service = Service(store, clock=clock)
        await service.start()
        for name in ("Source", "Worker"):
            await service.packs.register(PackDeclaration(name=name))
        for name in ("bad", "good"):
            work = Command(name=name, pack_name="Worker")
            step = Step(id="s", command=work, schedule=Schedule("* * * * *", "UTC"))
            await service.flows.save(Flow(name, steps=(step,)))
        await service.flows.save(flow("leased", "Do"))
        for _ in range(2):
            await service.accept_event("Source", NewEvent("Do", b"null"))
        lost, kept = await service.take("Worker", limit=2)
        async with pymongo.AsyncMongoClient(url) as client:
            database = client.get_default_database()
            await database.flow.update_one({"name": "bad"}, change)
            which = {"_id": ObjectId(lost.action_id)}
            await database.action.update_one(which, {"$set": {"flyte.timeout": limit}})

        other = Service(store, clock=clock)
        await other.start()
        assert await store.renew_leases(clock())
        clock.forward(seconds=90)
        await other.process_due()
        assert "good" in {each.name for each in await other.take("Worker", limit=100)}
        states = {
            each.action_id: each.state for each in await other.audit.list_actions(ActionFilter())
        }
        assert states[kept.action_id] is ActionState.FATAL


@contextlib.asynccontextmanager
async def sqlite_place() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/flyte.db"


async def execute(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(statement)
            connection.commit()
        return
    connection = await asyncpg.connect(url)
    await connection.execute(statement.replace("UPDATE ", "UPDATE flyte_"))
    await connection.close()


LAST = 2**63 - 1


@pytest.mark.parametrize(
    "place", [sqlite_place, pytest.param(postgres_place, marks=pytest.mark.postgres)]
)
@pytest.mark.parametrize(
    "change",
    [f"timeout = {LAST}", f"due_at = {LAST}", f"timeout = {-LAST}, due_at = {-LAST}"],
)
async def test_no_number_at_the_end_of_its_range_stops_the_others(
    place: Callable[[], AbstractAsyncContextManager[str]], change: str
) -> None:
    clock = Clock(datetime.now(UTC))
    async with place() as url, open_store(url) as store:
        service = Service(store, clock=clock)
        await service.start()
        for name in ("Source", "Worker"):
            await service.packs.register(PackDeclaration(name=name))
        await service.flows.save(flow("leased", "Do"))
        for _ in range(2):
            await service.accept_event("Source", NewEvent("Do", b"null"))
        damaged, kept = await service.take("Worker", limit=2)
        await store.renew_leases(clock())
        await execute(url, f"UPDATE action SET {change} WHERE action_id = '{damaged.action_id}'")
        for seconds in (5, -5):
            shift = timedelta(seconds=seconds)
            await store.process_due(clock(), Ruling(NeedsOperator()), shift=shift)
        await store.renew_leases(clock())
        clock.forward(seconds=60)
        await service.process_due()
        states = {each.action_id: each.state for each in await service.audit.list_actions(ANY)}
        assert states[kept.action_id] is ActionState.FATAL


ANY = ActionFilter()
