"""Packs made with the SDK, run against a real service: what they report at their end, what they
read, and what they give back.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from flyteops.errors import NotFoundError, UnauthorizedError
from flyteops.packs.chat import Room, pack_for
from flyteops.packs.chatops.catalog import DATA_KEY
from flyteops.packs.matrix import create as create_matrix
from flyteops.packs.slack import create as create_slack
from flyteops.sdk import Environment, Event, Pack
from flyteops.service import Service, TokenRequest
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from tests.api.conftest import BASE

Run = Callable[..., contextlib.AbstractAsyncContextManager[asyncio.Event]]


@pytest.fixture
def run(service: Service, options: Options) -> Run:
    """Run a pack for as long as a block lasts; with a token, on a server that has auth."""

    @contextlib.asynccontextmanager
    async def run(
        pack: Pack, token: str | None = None, **labels: str
    ) -> AsyncIterator[asyncio.Event]:
        app = create_app(service, options, None if token is None else Authenticator(service.tokens))
        environment = Environment(
            api=BASE, token=token, labels=labels, health_port=None, poll_interval=0.01
        )
        ready, stop = asyncio.Event(), asyncio.Event()

        @pack.task
        async def note_begin() -> None:
            await pack.others()
            ready.set()

        serving = asyncio.create_task(
            pack.serve(environment, stop=stop, transport=httpx2.ASGITransport(app))
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            yield stop
        finally:
            stop.set()
            await serving

    return run


async def stopped(service: Service) -> dict[str, bool]:
    return {pack.id: pack.stopped_at is not None for pack in await service.packs.list()}


async def test_a_pack_signs_off_at_its_end_and_with_the_last_of_its_instances(
    service: Service, run: Run
) -> None:
    one, two, other = Pack("P"), Pack("P"), Pack("P")
    async with run(one), run(other, env="dev"):
        async with run(two):
            assert await stopped(service) == {"P": False, "P.env.dev": False}
        assert await stopped(service) == {"P": False, "P.env.dev": False}
    assert await stopped(service) == {"P": True, "P.env.dev": True}
    async with run(Pack("P")):
        pass
    assert await stopped(service) == {"P": True, "P.env.dev": True}


async def test_a_pack_that_ends_with_an_error_does_not_sign_off(
    service: Service, options: Options
) -> None:
    pack = Pack("P")

    @pack.task
    async def fail() -> None:
        await pack.others()
        raise NotFoundError("gone")

    transport = httpx2.ASGITransport(create_app(service, options))
    with pytest.raises(NotFoundError):
        await pack.serve(Environment(api=BASE, health_port=None), transport=transport)
    assert await stopped(service) == {"P": False}


async def test_instances_know_how_many_others_there_are(run: Run) -> None:
    packs = [Pack("P"), Pack("P"), Pack("P")]
    counts: list[int] = []
    for pack in packs:

        @pack.task
        async def count(pack: Pack = pack) -> None:
            counts.append(await pack.others())

    async with run(packs[0]), run(packs[1]), run(packs[2]):
        pass
    assert sorted(counts) == [0, 1, 2]


async def read(pack: Pack, run: Run, token: str | None, key: str) -> Any:
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @pack.task
    async def look() -> None:
        try:
            found.set_result(await pack.data(key))
        except (NotFoundError, UnauthorizedError) as error:
            found.set_result(error)

    async with run(pack, token):
        return await found


async def save(api: httpx2.AsyncClient, key: str) -> None:
    await api.put(f"/v1/datastore/{key}", files={"value": (None, b'["x"]', "application/json")})


async def test_a_pack_reads_what_it_declares_and_is_told_to_declare_what_it_does_not(
    service: Service, api: httpx2.AsyncClient, run: Run
) -> None:
    await save(api, "chatops")
    _, token = await service.tokens.create(TokenRequest(pack_name="P"))
    assert await read(Pack("P", items=["chatops"]), run, token, "chatops") == ["x"]
    undeclared = await read(Pack("P"), run, token, "chatops")
    assert isinstance(undeclared, UnauthorizedError)
    assert "Pack('P', items=['chatops'])" in undeclared.message
    unnamed = await read(Pack("P", items=["teams"]), run, token, "teams")
    assert isinstance(unnamed, UnauthorizedError)
    assert "flyte tokens create --item" in unnamed.message


async def test_without_auth_a_pack_reads_every_item_as_before(
    api: httpx2.AsyncClient, run: Run
) -> None:
    await save(api, "a")
    assert await read(Pack("P"), run, None, "a") == ["x"]
    assert await read(Pack("P", items=["a"]), run, None, "a") == ["x"]
    assert isinstance(await read(Pack("P", items=["b"]), run, None, "b"), NotFoundError)


async def test_a_pack_that_was_forgotten_registers_again_before_an_item_counts_as_missing(
    service: Service, api: httpx2.AsyncClient, run: Run
) -> None:
    await save(api, "a")
    pack = Pack("P", items=["a"])
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @pack.task
    async def look() -> None:
        await service.packs.delete("P")
        found.set_result(await pack.data("a"))

    async with run(pack):
        assert await found == ["x"]


def test_every_chat_declares_what_it_reads() -> None:
    matrix = {"FLYTE_MATRIX_HOMESERVER": "http://m.test", "FLYTE_MATRIX_TOKEN": "t"}
    packs = [pack_for(Room()), create_slack({"FLYTE_SLACK_TOKEN": "xoxb-1"}), create_matrix(matrix)]
    assert [pack.declaration().items for pack in packs] == [(DATA_KEY,)] * 3


@pytest.mark.slow
async def test_an_action_that_is_given_back_goes_to_another_instance(
    service: Service, api: httpx2.AsyncClient, run: Run
) -> None:
    done, packs = list[str](), {name: Pack("P") for name in ("one", "two")}
    all_done = asyncio.Event()

    def declare(name: str, pack: Pack) -> None:
        event = pack.event("Done")

        @pack.command("C", events=[event])
        async def c(wanted: str) -> Event:
            if wanted != name and await pack.give_back():
                return event("nobody hears this")
            done.append(f"{wanted} by {name}")
            if len(done) == 4:
                all_done.set()
            return event(name)

    for name, pack in packs.items():
        declare(name, pack)
    command = {"name": "C", "packName": "P", "input": "{{ Event.Payload }}"}
    flow = {
        "name": "f",
        "steps": [{"id": "s", "event": {"name": "E", "packName": "Q"}, "command": command}],
    }
    await api.post("/v1/flows", json=flow)
    await api.post("/v1/packs", json={"name": "Q"})
    async with run(packs["one"]), run(packs["two"]):
        for name in ("one", "two", "one", "two"):
            await api.post("/v1/packs/Q/events", json={"event": "E", "payload": name})
        await all_done.wait()
    assert sorted(done) == ["one by one", "one by one", "two by two", "two by two"]
    actions = [
        each
        for one in (await api.get("/v1/audit/flows")).json()["flows"]
        for each in one["actions"].values()
    ]
    assert {each["result"]["payload"] for each in actions} == {"one", "two"}


class Recorded(httpx2.AsyncBaseTransport):
    """Keep the last part of the path of each request."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self.requests: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request.url.path.rpartition("/")[2])
        return await self._inner.handle_async_request(request)


async def test_a_pack_takes_the_steps_of_a_chain_with_its_results(
    api: httpx2.AsyncClient, service: Service, options: Options
) -> None:
    pack, stop = Pack("P", concurrency=1), asyncio.Event()
    done = pack.event("Done", int)

    @pack.command(events=[done])
    async def work(*, number: int) -> Event:
        if number == 4:
            stop.set()
        return done(number)

    steps = [
        {
            "id": str(number),
            **({"dependsOn": [str(number - 1)]} if number else {}),
            "event": {"packName": "P", "name": "Done" if number else "Begin"},
            "command": {"packName": "P", "name": "Work", "input": {"number": number}},
        }
        for number in range(5)
    ]
    await api.post("/v1/packs", json={"name": "P"})
    await api.post("/v1/flows", json={"name": "chain", "steps": steps})
    await api.post("/v1/packs/P/events", json={"event": "Begin"})
    transport = Recorded(httpx2.ASGITransport(create_app(service, options)))
    await pack.serve(Environment(api=BASE, health_port=None), stop=stop, transport=transport)
    assert [each for each in transport.requests if each in ("take", "result")] == [
        "take",
        *["result"] * 5,
    ]


async def test_an_action_is_given_back_in_its_command_only(run: Run) -> None:
    pack, given = Pack("P"), asyncio.Event()

    @pack.task
    async def give() -> None:
        with pytest.raises(RuntimeError, match="in its command only"):
            await pack.give_back()
        given.set()

    async with run(pack):
        await given.wait()


class SlowReturns(httpx2.AsyncBaseTransport):
    """Deliver the answer to an action that is given back only when the action has been handed
    out again.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self._taken_again = asyncio.Event()
        self._taken = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if request.url.path.endswith("/return"):
            await self._taken_again.wait()
            for _ in range(100):  # whatever the pack begins to do with what it has taken goes first
                await asyncio.sleep(0)
        elif request.url.path.endswith("/take") and response.status_code == 200:
            self._taken += 1
            if self._taken == 2:
                self._taken_again.set()
        return response


async def test_an_action_that_comes_again_before_its_return_is_answered_is_done(
    service: Service, options: Options, api: httpx2.AsyncClient
) -> None:
    pack, calls, is_done = Pack("P", concurrency=2), list[int](), asyncio.Event()
    event = pack.event("Done")

    @pack.command("C", events=[event])
    async def c(_: Any) -> Event:
        calls.append(len(calls))
        if len(calls) == 1 and await pack.give_back():
            return event("nobody hears this")
        is_done.set()
        return event("done")

    command = {"name": "C", "packName": "P"}
    flow = {
        "name": "f",
        "steps": [{"id": "s", "event": {"name": "E", "packName": "Q"}, "command": command}],
    }
    await api.post("/v1/flows", json=flow)
    await api.post("/v1/packs", json={"name": "Q"})
    stop, transport = (
        asyncio.Event(),
        SlowReturns(httpx2.ASGITransport(create_app(service, options))),
    )
    environment = Environment(api=BASE, health_port=None, poll_interval=0.01)
    serving = asyncio.create_task(pack.serve(environment, stop=stop, transport=transport))
    await api.post("/v1/packs/Q/events", json={"event": "E"})
    async with asyncio.timeout(5):
        await is_done.wait()
    stop.set()
    await serving
    (execution,) = (await api.get("/v1/audit/flows")).json()["flows"]
    (action,) = execution["actions"].values()
    assert action["result"]["payload"] == "done"
