"""Several server processes on one database."""

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
import time

import httpx2
import pytest

from tests.shared import PLACES

SERVERS = 3
EVENTS = 150


class Server:
    """A server process, on a port that it picks at its first start and keeps."""

    def __init__(self, store):
        self.store = store
        self.port = 0
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "LOG"))}
        env |= {"FLYTE_STORE": self.store, "FLYTE_PORT": str(self.port)}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flyteops", "serve", env=env, stderr=asyncio.subprocess.PIPE
        )
        said = b""
        async for line in self.process.stderr:
            said += line
            if found := re.search(rb"listens on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                self.drain = asyncio.create_task(self.process.stderr.read())
                return
        raise AssertionError(said.decode())

    async def end(self, number=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await self.process.wait()
        await self.drain
        return code


@pytest.fixture(params=PLACES)
async def servers(request):
    async with request.param() as store, contextlib.AsyncExitStack() as stack:
        started = [Server(store) for _ in range(SERVERS)]
        for server in started:
            await server.start()
            stack.push_async_callback(server.end)
        yield started


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=40) as client:
        yield client


def flow(name, event="Asked", command="Work", **step):
    first = {"id": "first", "event": {"packName": "Source", "name": event}, "command": {"packName": "Worker", "name": command}}
    return {"name": name, "steps": [{**first, **step}]}


async def prepare(client, server):
    for name in ("Source", "Worker"):
        assert (await client.post(f"{server.url}/packs", json={"name": name})).status_code == 201
    assert (await client.post(f"{server.url}/flows", json=flow("asked"))).status_code == 201


async def send(client, server, name="Asked", **headers):
    answer = await client.post(f"{server.url}/packs/Source/events", json={"event": name, "payload": {}}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


async def wait_for(condition, seconds=1.0):
    """Wait until something is so; return after how many seconds it was."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)
    return time.monotonic() - began


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


async def test_a_pack_that_waits_at_one_server_gets_what_arrives_at_another_at_once(servers, client):
    one, two, _ = servers
    await prepare(client, one)
    await asyncio.sleep(1)
    waiting = asyncio.create_task(client.post(f"{two.url}/packs/Worker/actions/take", params={"wait": 30}))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await send(client, one)
    assert (await waiting).status_code == 200
    assert time.monotonic() - began < 0.9, "it was found by looking, not told"


class Mishap:
    """Senders and packs that talk to any of the servers, and somebody who kills those."""

    def __init__(self, servers, client):
        self.servers = servers
        self.client = client
        self.chance = random.Random(7)
        self.acknowledged, self.taken, self.ended = set(), [], set()
        self.is_over = False

    async def send(self, number):
        for count in range(EVENTS // 5):
            location = await self.insist(lambda count=count: self.post("/packs/Source/events", f"{number}-{count}"))
            self.acknowledged.add(location.headers["location"].rpartition("/")[2])

    async def post(self, path, key):
        url = self.chance.choice(self.servers).url
        return await self.client.post(f"{url}{path}", json={"event": "Asked", "payload": {}}, headers={"Idempotency-Key": key})

    async def insist(self, request):
        """Ask until it is accepted."""
        while True:
            with contextlib.suppress(httpx2.TransportError):
                answer = await request()
                if answer.status_code == 202:
                    return answer
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.02)

    async def work(self):
        while not self.is_over:
            url = self.chance.choice(self.servers).url
            try:
                answer = await self.client.post(f"{url}/packs/Worker/actions/take", params={"wait": 1})
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                path = answer.json()["links"][0]["href"].partition("/v1")[2]
                self.taken.append(path)
                await self.insist(lambda path=path: self.post(path, "none"))
                self.ended.add(path)

    async def kill(self):
        while True:
            await asyncio.sleep(0.7)
            for victim in self.chance.sample(self.servers, 2):
                await victim.end(signal.SIGKILL)
                await victim.start()

    async def run(self):
        """Do all of that until every event is acknowledged; then let the packs finish what there is to do."""
        killing = asyncio.create_task(self.kill())
        workers = [asyncio.create_task(self.work()) for _ in range(6)]
        await asyncio.gather(*(self.send(number) for number in range(5)))
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        for server in self.servers:
            if server.process.returncode is not None:
                await server.start()

        async def is_done():
            return not await self.actions("NEW")

        await wait_for(is_done, 20)
        await asyncio.sleep(1.5)
        self.is_over = True
        await asyncio.gather(*workers)

    async def actions(self, state):
        answer = await self.client.get(f"{self.servers[0].url}/actions", params={"state": state, "limit": 1000})
        return answer.json()["actions"]


async def test_nothing_that_was_acknowledged_is_lost_when_servers_are_killed(servers, client):
    await prepare(client, servers[0])
    await asyncio.sleep(1)
    mishap = Mishap(servers, client)
    await mishap.run()
    assert len(mishap.acknowledged) == EVENTS
    assert len(mishap.taken) == len(set(mishap.taken)), "something was handed out twice"
    assert mishap.ended == set(mishap.taken)
    # What was handed out by a server that was killed before it could say so stays PENDING, as without a time limit it must.
    assert len(mishap.ended) + len(await mishap.actions("PENDING")) == EVENTS
