"""Clients of several servers on one store, and what they know in the end."""

import asyncio
import contextlib
import itertools
import random
import time

import httpx2


def flow(name, event="Asked", command="Work", **step):
    first = {
        "id": "first",
        "event": {"packName": "Source", "name": event},
        "command": {"packName": "Worker", "name": command},
    }
    return {"name": name, "steps": [{**first, **step}]}


async def prepare(client, server, *others):
    """Register the packs and save the flow; return when every server knows of it."""
    for name in ("Source", "Worker"):
        assert (await client.post(f"{server.url}/packs", json={"name": name})).status_code == 201
    assert (await client.post(f"{server.url}/flows", json=flow("asked"))).status_code == 201
    for other in others:

        async def knows_flow(url=other.url):
            return (await client.get(f"{url}/flows/asked")).status_code == 200

        await wait_for(knows_flow, 10)


async def send(client, server, name="Asked", **headers):
    answer = await client.post(
        f"{server.url}/packs/Source/events", json={"event": name, "payload": {}}, headers=headers
    )
    assert answer.status_code == 202, answer.text
    return answer


async def wait_for(condition, seconds=5.0):
    """Wait until something is so; return after how many seconds it was."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)
    return time.monotonic() - began


TOLD_WITHIN = 3.0
"""Seconds, of a server that does other things as well; servers that are told look every ten."""


async def is_told_at_once(client, one, two):
    """Tell whether a pack that waits at one server gets what arrives at another sooner than it
    would be found by looking.
    """
    await asyncio.sleep(1)  # what was announced before is over
    waiting = asyncio.create_task(
        client.post(f"{two.url}/packs/Worker/actions/take", params={"wait": 30})
    )
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await send(client, one)
    assert (await waiting).status_code == 200
    return time.monotonic() - began < TOLD_WITHIN


class Mishap:
    """Senders and packs that talk to any of the servers, while somebody does harm."""

    def __init__(self, servers, client):
        self.servers = servers
        self.client = client
        self.chance = random.Random(7)
        self.numbers = itertools.count()
        self.acknowledged, self.taken, self.ended = set(), [], set()
        self.is_calm = self.is_over = False

    async def send(self):
        while not self.is_calm:
            key = str(next(self.numbers))
            answer = await self.insist(lambda key=key: self.post("/packs/Source/events", key))
            self.acknowledged.add(answer.headers["location"].rpartition("/")[2])
            await asyncio.sleep(0.02)

    async def post(self, path, key):
        url = self.chance.choice(self.servers).url
        return await self.client.post(
            f"{url}{path}", json={"event": "Asked", "payload": {}}, headers={"Idempotency-Key": key}
        )

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
                answer = await self.client.post(
                    f"{url}/packs/Worker/actions/take", params={"wait": 1}
                )
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                path = answer.json()["links"][0]["href"].partition("/v1")[2]
                self.taken.append(path)
                await self.insist(lambda path=path: self.post(path, "none"))
                self.ended.add(path)

    async def run(self, harm):
        """Do all of that while harm is done, and let the packs finish what there is to do; then
        look whether all is well.
        """
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self.send()) for _ in range(4)]
            for _ in range(6):
                group.create_task(self.work())
            await harm()
            self.is_calm = True
            await asyncio.wait(senders)
            await wait_for(self.is_done, 30)
            self.is_over = True
        assert len(self.acknowledged) > 20
        assert len(self.taken) == len(set(self.taken)), "something was handed out twice"
        assert self.ended == set(self.taken)
        # What was handed out by a server that could not say so any more stays PENDING, as without a
        # time limit it must.
        pending = len(await self.actions("PENDING"))
        assert len(self.ended) + pending == len(self.acknowledged), (
            len(self.ended),
            pending,
            len(self.acknowledged),
        )

    async def is_done(self):
        return not await self.actions("NEW")

    async def actions(self, state):
        answer = await self.client.get(
            f"{self.servers[0].url}/actions", params={"state": state, "limit": 1000}
        )
        return answer.json()["actions"]
