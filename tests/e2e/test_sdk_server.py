"""Packs and the real server in one process; and the server of `flyteops.sdk.testing` held
against the real one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flyteops.packs import shell
from flyteops.packs.chat import Room, pack_for
from flyteops.sdk import Environment, Event, Pack
from flyteops.sdk.clock import Clock
from flyteops.sdk.testing import FakeServer
from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api.request import Options
from flyteops.web.app import create_app

BASE = "http://flyte.test"


class Hasty(Clock):
    """Ask for work again almost at once."""

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(0.01)


class Counting(httpx2.AsyncBaseTransport):
    """Pass calls on to the server, and tell when one of a kind was answered."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self.registered = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._inner.handle_async_request(request)
        if request.url.path == "/v1/packs" and answer.status_code == 201:
            self.registered.set()
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[httpx2.AsyncBaseTransport]:
    async with SqliteStore(tmp_path / "flyte.db") as store:
        service = Service(store, clock=lambda: datetime.now(UTC))
        await service.start()
        keeping = asyncio.create_task(service.run_scheduler())
        yield httpx2.ASGITransport(create_app(service, Options()))
        keeping.cancel()


def step(
    step_id: str, pack: str, event: str, command: str, to: str, given: Any, **more: Any
) -> dict[str, Any]:
    return {
        "id": step_id,
        "event": {"name": event, "packName": pack},
        "command": {"name": command, "packName": to, "input": given},
        **more,
    }


async def test_a_chat_command_runs_a_script_and_its_output_is_said(
    server: httpx2.AsyncBaseTransport,
) -> None:
    room, environment, stop = Room(), Environment(api=BASE, health_port=None), asyncio.Event()
    steps = [
        step(
            "ask",
            "Chat",
            "ReceivedMessage",
            "Shell",
            "Shell",
            "printf 'hello from %s' {{ Event.Payload.user.name }}",
            criteria="{{ Event.Payload.message == 'flyte hello' }}",
            context={"Channel": "{{ Event.Payload.channelId }}"},
        ),
        step(
            "tell",
            "Shell",
            "Output",
            "SendMessage",
            "Chat",
            {"channelId": "{{ Context.Channel }}", "message": "{{ Event.Payload.stdout }}"},
            dependsOn=["ask"],
        ),
    ]
    async with httpx2.AsyncClient(transport=server, base_url=BASE) as http:
        answer = await http.post("/v1/flows", json={"name": "hello", "steps": steps})
        assert answer.status_code == 201, answer.text
    transports = [Counting(server), Counting(server)]
    packs = [pack_for(room), shell.create({})]
    running = [
        asyncio.create_task(pack.serve(environment, stop=stop, transport=transport, clock=Hasty()))
        for pack, transport in zip(packs, transports, strict=True)
    ]
    for transport in transports:
        await transport.registered.wait()
    posted = room.posted()
    await room.say("something else")
    await room.say("flyte hello")
    message = await anext(posted)
    stop.set()
    await asyncio.gather(*running)
    assert (message.text, message.channel.name) == (f"hello from {room.user.name}", "general")


async def dialogue(transport: httpx2.AsyncBaseTransport, fake: FakeServer | None) -> list[Any]:
    """Say what a pack says, and return what the server answers, without ids."""
    seen: list[Any] = []
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:

        async def post(url: str, body: Any = None) -> httpx2.Response:
            answer = await http.post(url, json=body)
            seen.append(
                (
                    answer.status_code,
                    answer.headers.get("Content-Type", "").split(";")[0] if answer.content else "",
                )
            )
            return answer

        def link(answer: httpx2.Response, rel: str) -> str:
            return next(
                str(link["href"]) for link in answer.json()["links"] if link["rel"].endswith(rel)
            )

        root = await http.get("/v1")
        pack = {
            "name": "P",
            "labels": {"b": "2", "a": "1"},
            "events": [{"name": "E"}],
            "commands": [],
            "links": [],
        }
        registered = await post(link(root, "pack/listPacks"), pack)
        take, events = link(registered, "takeAction"), link(registered, "event")
        seen += [registered.json()["id"], take, events]
        await post(take)
        await post(events, {"event": "E", "payload": {"x": "1"}})
        if fake is not None:
            fake.ask("Do", {"x": "1"})
        taken = await post(take)
        seen += [taken.json()["command"], taken.json()["input"], sorted(taken.json())]
        result = link(taken, "actionResult")
        first, other = {"event": "Done", "payload": 1}, {"event": "Done", "payload": 2}
        for body in (first, first, other):
            await post(result, body)
        await post(result.replace("/actions/", "/actions/unknown"), first)
        for lost in (take, events, result):
            await post(lost.replace("/P.a.1.b.2/", "/Lost/"), first)
        await post(take)
    return seen


async def test_the_server_for_tests_answers_as_the_real_one(
    server: httpx2.AsyncBaseTransport,
) -> None:
    async with httpx2.AsyncClient(transport=server, base_url=BASE) as http:
        steps = [step("s", "P", "E", "Do", "P", {"x": "{{ Event.Payload.x }}"})]
        await http.post("/v1/flows", json={"name": "f", "steps": steps})
    fake = FakeServer()
    assert await dialogue(fake, fake) == await dialogue(server, None)


async def run_slow_pack(
    server: httpx2.AsyncBaseTransport, limit: str, work: Callable[[], Any]
) -> dict[str, Any]:
    """Run a command that takes a while in a step with a time limit; return its action as the
    audit shows it in the end.
    """
    pack, environment, stop = Pack("Slow"), Environment(api=BASE, health_port=None), asyncio.Event()

    pack.command("Work", events=[pack.event("Worked")])(work)
    transport = Counting(server)
    running = asyncio.create_task(
        pack.serve(environment, stop=stop, transport=transport, clock=Hasty())
    )
    await transport.registered.wait()
    async with httpx2.AsyncClient(transport=server, base_url=BASE) as http:
        limited = step("slow", "Slow", "Asked", "Work", "Slow", None)
        limited["command"]["timeout"] = limit
        assert (
            await http.post("/v1/flows", json={"name": "slow", "steps": [limited]})
        ).status_code == 201
        await http.post("/v1/packs/Slow/events", json={"event": "Asked"})
        action: dict[str, Any] = {"state": {"value": "NEW"}}
        while action["state"]["value"] in ("NEW", "PENDING"):
            await asyncio.sleep(0.02)
            (execution,) = (await http.get("/v1/audit/flows")).json()["flows"]
            action = execution["actions"]["slow"]
    stop.set()
    await running
    return action


def block() -> Event:
    time.sleep(2)
    return Event("Worked")


async def sleep() -> Event:
    await asyncio.sleep(2)
    return Event("Worked")


@pytest.mark.parametrize("work", [block, sleep])
async def test_a_pack_keeps_alive_what_it_has_in_hand(
    server: httpx2.AsyncBaseTransport, work: Callable[[], Any]
) -> None:
    action = await run_slow_pack(server, "800ms", work)
    assert action["state"]["value"] == "SUCCESS"
    assert [attempt.get("lostAt") for attempt in action["attempts"]] == [None]


async def test_a_command_that_was_given_to_others_is_broken_off(
    server: httpx2.AsyncBaseTransport,
) -> None:
    pack, environment, stop = Pack("Slow"), Environment(api=BASE, health_port=None), asyncio.Event()
    begun, broken_off = asyncio.Event(), asyncio.Event()

    @pack.command()
    async def work() -> Event:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            broken_off.set()
        raise AssertionError

    transport = Counting(server)
    running = asyncio.create_task(
        pack.serve(environment, stop=stop, transport=transport, clock=Hasty())
    )
    await transport.registered.wait()
    async with httpx2.AsyncClient(transport=server, base_url=BASE) as http:
        limited = step("slow", "Slow", "Asked", "Work", "Slow", None)
        limited["command"]["timeout"] = "300ms"
        assert (
            await http.post("/v1/flows", json={"name": "slow", "steps": [limited]})
        ).status_code == 201
        await http.post("/v1/packs/Slow/events", json={"event": "Asked"})
        await begun.wait()
        (action,) = (await http.get("/v1/actions")).json()["actions"]
        answer = await http.post(
            f"/v1/actions/{action['id']}/resolution", json={"resolution": "failed"}
        )
        assert answer.status_code == 204
    async with asyncio.timeout(10):
        await broken_off.wait()
    stop.set()
    await running
