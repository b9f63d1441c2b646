"""The clients: senders, and packs that crash, hang and answer late or twice. Each writes down what it was told."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

import httpx2

from flyteops.torture.history import FLOW, LEASE_SECONDS, STEPS, History

PACK = {"name": "Torturer", "commands": [{"name": "Work"}, {"name": "Finish"}], "events": [{"name": "Begun"}]}

PACE = 500
"""How many events the senders may be ahead of the packs."""

PASSING = (httpx2.TransportError, httpx2.TimeoutException)


class Crew:
    """Clients of servers that come and go; each call goes to any. `misbehaves` is how often packs do what they should not."""

    def __init__(self, urls: Sequence[str], history: History, chance: Random, *, misbehaves: float = 0.2) -> None:
        self.history = history
        self.misbehaves = misbehaves
        self._chance = chance
        self._number = 0
        self._urls = urls
        limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
        self.http = httpx2.AsyncClient(timeout=3.0, limits=limits)

    async def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Make one call; raise what httpx2 raises when there is no answer."""
        answer = await self.http.request(method, f"{self._chance.choice(self._urls)}{path}", **options)
        self.history.calls[f"{answer.status_code}"] += 1
        return answer

    async def insist(self, method: str, path: str, *, accept: Callable[[int], bool], **options: Any) -> httpx2.Response:
        """Make a call again and again until the server answers with a status that is accepted."""
        while True:
            try:
                answer = await self.call(method, path, **options)
                if accept(answer.status_code):
                    return answer
            except PASSING:
                self.history.calls["none"] += 1
            await asyncio.sleep(0.05)

    async def prepare(self) -> None:
        """Register the pack and save the flow; return when every server knows of it."""
        await self.insist("POST", "/v1/packs", accept=lambda status: status == 201, json=PACK)
        await self.insist("POST", "/v1/flows", accept=lambda status: status == 201, json={"name": FLOW, "steps": STEPS})
        urls = self._urls
        for url in urls:
            self._urls = [url]
            await self.insist("GET", f"/v1/flows/{FLOW}", accept=lambda status: status == 200)
        self._urls = urls

    async def send(self) -> None:
        """Send events without end, each until it is acknowledged, with one key."""
        while True:
            await self._keep_pace()
            self._number += 1
            number = self._number
            self.history.tried.add(number)
            body = {"event": "Begun", "payload": {"number": number}}
            headers = {"Idempotency-Key": f"event-{number}"}
            path = "/v1/packs/Torturer/events"
            await self.insist("POST", path, accept=lambda status: status == 202, json=body, headers=headers)
            if self._chance.random() < self.misbehaves:  # as if the answer had been lost
                await self.insist("POST", path, accept=lambda status: status == 202, json=body, headers=headers)
            self.history.begun.add(number)
            await asyncio.sleep(self._chance.random() * 0.02)

    async def _keep_pace(self) -> None:
        """Wait while the packs have much to do: a backlog without end would only measure who is faster."""
        while len(self.history.begun) > self.history.calls["taken"] / len(STEPS) + PACE:  # noqa: ASYNC110 - counters wake nobody
            await asyncio.sleep(0.05)

    async def work(self) -> None:
        """Take actions and answer them without end."""
        while True:
            try:
                answer = await self.call("POST", "/v1/packs/Torturer/actions/take?wait=1", timeout=4.0)
            except PASSING:
                self.history.calls["none"] += 1
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 200:
                self.history.calls["taken"] += 1
                await self._answer(answer.json())
            elif answer.status_code != 204:
                await asyncio.sleep(0.05)

    async def _answer(self, action: Mapping[str, Any]) -> None:
        href = httpx2.URL(next(link["href"] for link in action["links"] if link["rel"].endswith("actionResult")))
        action_id = href.path.split("/")[-2]
        self.history.hand_out(action_id, action["command"], action.get("attempt", 1))
        behaviour: Callable[[], Awaitable[bool]] = self._behave if action["command"] == "Work" else self._behave_well
        if not await behaviour():
            return
        event = {"Work": "Worked", "Finish": "Finished"}[action["command"]]
        body = {"event": event, "payload": action["input"]}
        path = href.raw_path.decode()
        answer = await self.insist("POST", path, accept=lambda status: status in (202, 404, 409), json=body)
        if answer.status_code == 202:
            self.history.results[action_id] = event
            if self._chance.random() < self.misbehaves:
                await self.insist("POST", path, accept=lambda status: status in (202, 409), json=body)

    async def _behave_well(self) -> bool:
        return True

    async def _behave(self) -> bool:
        """Behave as packs do; return whether there will be an answer."""
        if self._chance.random() > self.misbehaves:
            return True
        if self._chance.random() < 0.5:
            return False  # it crashed
        await asyncio.sleep(LEASE_SECONDS * (0.5 + 2 * self._chance.random()))  # it hangs, and answers late
        return True

    async def executions(self) -> list[dict[str, Any]]:
        """Return all executions as the audit shows them."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/v1/audit/flows?flowName={FLOW}&start={len(found)}&limit=500"
            page = (await self.insist("GET", path, accept=lambda status: status == 200, timeout=30.0)).json()["flows"]
            found += page
            if not page:
                return found

    async def open_actions(self) -> int:
        """Return how many actions are left that will still come to an end by themselves."""
        path = f"/v1/actions?state=NEW,PENDING&flowName={FLOW}&limit=1000"
        actions = (await self.insist("GET", path, accept=lambda status: status == 200)).json()["actions"]
        return sum(action["state"] == "NEW" or action["name"] == "Work" for action in actions)
