"""Several server processes on one database."""

import asyncio
import contextlib
import signal

import httpx2
import pytest

from tests.e2e.mishap import Mishap, is_told_at_once, prepare, send, wait_for
from tests.e2e.node import Node
from tests.shared import PLACES

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

SERVERS = 3


@pytest.fixture(params=PLACES)
async def servers(request):
    async with request.param() as store, contextlib.AsyncExitStack() as stack:
        started = [Node(store) for _ in range(SERVERS)]
        for server in started:
            await server.start()
            stack.push_async_callback(server.end)
        yield started


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=40) as client:
        yield client


async def test_what_is_changed_at_one_server_holds_at_the_others_within_a_second(servers, client):
    one, two, three = servers
    await prepare(client, one)

    async def knows_flow():
        return (await client.get(f"{two.url}/flows/asked")).status_code == 200

    await wait_for(knows_flow)
    await send(client, two)
    assert (await client.post(f"{three.url}/packs/Worker/actions/take")).status_code == 200
    assert (await client.delete(f"{three.url}/flows/asked")).status_code == 204

    async def knows_no_flow():
        return (await client.get(f"{one.url}/flows/asked")).status_code == 404

    await wait_for(knows_no_flow)
    files = {"value": ("value", b"prod", "text/plain")}
    assert (await client.put(f"{one.url}/datastore/env", files=files)).status_code == 201

    async def knows_item():
        return (await client.get(f"{two.url}/datastore/env")).text == "prod"

    await wait_for(knows_item)
    assert (await client.delete(f"{one.url}/packs/Worker")).status_code == 204

    async def knows_no_pack():
        return (await client.post(f"{two.url}/packs/Worker/actions/take")).status_code == 404

    await wait_for(knows_no_pack)


async def test_a_pack_that_waits_at_one_server_gets_what_arrives_at_another_at_once(
    servers, client
):
    await prepare(client, servers[0])
    assert await is_told_at_once(client, servers[0], servers[1]), (
        "it was found by looking, not told"
    )


async def test_nothing_that_was_acknowledged_is_lost_when_servers_are_killed(servers, client):
    await prepare(client, *servers)
    mishap = Mishap(servers, client)

    async def kill():
        for _ in range(3):
            await asyncio.sleep(1)
            victims = mishap.chance.sample(servers, 2)
            await asyncio.gather(*(victim.end(signal.SIGKILL) for victim in victims))
            await asyncio.gather(*(victim.start() for victim in victims))

    await mishap.run(kill)
