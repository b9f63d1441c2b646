"""A server process whose database is dropped under it."""

import asyncpg
import httpx2
import pymongo
import pytest

from tests.e2e.mishap import prepare, send
from tests.e2e.node import Node
from tests.shared import PLACES

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]


async def drop(url):
    if url.startswith("mongodb"):
        async with pymongo.AsyncMongoClient(url) as client:
            await client.drop_database(client.get_default_database().name)
        return
    connection = await asyncpg.connect(url)
    for (name,) in await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    ):
        await connection.execute(f"DROP TABLE {name} CASCADE")
    await connection.close()


@pytest.mark.parametrize("place", PLACES)
async def test_an_event_after_a_drop_is_a_503_until_the_restart_which_begins_anew(place):
    async with place() as store, httpx2.AsyncClient(timeout=40) as client:
        server = Node(store)
        await server.start()
        try:
            await prepare(client, server)
            await send(client, server)
            await drop(store)
            for _ in range(3):
                answer = await client.post(
                    f"{server.url}/packs/Source/events", json={"event": "Asked", "payload": {}}
                )
                assert answer.status_code == 503
            ready = await client.get(f"{server.url.removesuffix('/v1')}/health/ready")
            assert ready.status_code == 503
            assert any(
                word in ready.json()["reasons"][0] for word in ("was dropped", "does not exist")
            )
            await server.end()
            await server.start()
            assert (await client.get(f"{server.url}/flows")).json()["flows"] == []
            await prepare(client, server)
            await send(client, server)
            assert (await client.post(f"{server.url}/packs/Worker/actions/take")).status_code == 200
        finally:
            await server.end()
