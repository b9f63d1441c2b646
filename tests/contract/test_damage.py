"""Stores that several servers share, in which something cannot be read."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pymongo
import pytest

from flyteops.errors import UnreadableError
from flyteops.model import Command, DataItem, EventPattern, Flow, NewEvent, PackDeclaration, Step
from flyteops.service import Service
from flyteops.storage import open_store
from flyteops.storage.base import EventFilter
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
