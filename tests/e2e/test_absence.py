"""What a pack has done while no server was at work is accepted: servers that are killed, frozen,
or lose their database.
"""

import asyncio
import contextlib
import signal

import httpx2
import pytest

from tests.e2e.node import Node
from tests.shared import PLACES

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(180)]

TIMEOUT, AWAY = 3, 5
FLOW = {
    "name": "leased",
    "steps": [
        {
            "id": "work",
            "event": {"packName": "P", "name": "E"},
            "command": {
                "packName": "P",
                "name": "C",
                "timeout": f"{TIMEOUT}s",
                "retry": {"attempts": 5, "backoff": "0s"},
            },
        }
    ],
}


@contextlib.asynccontextmanager
async def file_place(tmp_path):
    yield f"sqlite:///{tmp_path}/flyte.db"


@pytest.fixture(params=["sqlite", *PLACES])
async def place(request, tmp_path):
    context = file_place(tmp_path) if request.param == "sqlite" else request.param()
    async with context as store:
        yield store


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=40) as client:
        yield client


async def begin(client, server):
    """Begin an action, and take it; return the address for its result."""
    await client.post(
        f"{server.url}/packs",
        json={"name": "P", "commands": [{"name": "C", "events": ["D"]}], "events": []},
    )
    await client.post(f"{server.url}/flows", json=FLOW)
    await client.post(f"{server.url}/packs/P/events", json={"event": "E"})
    taken = await client.post(f"{server.url}/packs/P/actions/take?actionName=C")
    assert taken.status_code == 200
    return next(
        link["href"] for link in taken.json()["links"] if link["rel"].endswith("actionResult")
    )


async def check_accepted(client, server, result):
    """Check that nobody else is given the action, and that its result counts."""
    again = await client.post(f"{server.url}/packs/P/actions/take?actionName=C&wait=1")
    assert again.status_code == 204
    answer = await client.post(result, json={"event": "D", "payload": None})
    assert answer.status_code == 202, answer.text
    (action,) = (await client.get(f"{server.url}/actions")).json()["actions"]
    assert (action["state"], action["attempt"]) == ("SUCCESS", 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_was_down_accepts_what_was_done_meanwhile(place, client, number):
    server = Node(place)
    await server.start()
    result = await begin(client, server)
    await server.end(number)
    await asyncio.sleep(AWAY)
    await server.start()
    await check_accepted(client, server, result)
    await server.end()


async def test_a_server_that_was_frozen_accepts_what_was_done_meanwhile(place, client):
    server = Node(place)
    await server.start()
    result = await begin(client, server)
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(AWAY)
    server.process.send_signal(signal.SIGCONT)
    await check_accepted(client, server, result)
    await server.end()


@pytest.mark.parametrize("place", PLACES, indirect=True)
async def test_a_lease_ends_while_another_server_is_at_work(place, client):
    first, second = Node(place), Node(place)
    await first.start()
    await second.start()
    result = await begin(client, first)
    await first.end(signal.SIGKILL)
    again = await client.post(f"{second.url}/packs/P/actions/take?actionName=C&wait=20")
    assert again.status_code == 200
    await first.start()
    answer = await client.post(result, json={"event": "D", "payload": None})
    assert answer.status_code == 409
    await first.end()
    await second.end()
