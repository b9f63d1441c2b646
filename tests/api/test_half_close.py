"""Clients that close their sending side and wait for the answer, and clients that have really
gone; both look alike at first.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.http.connection import Connection
from flyteops.web.http.outlet import Patience
from tests.api.conftest import Server, Wire, running
from tests.api.test_server import FLOW, STEP, request

Make = Callable[..., Awaitable[dict[str, Any]]]

TAKE = "/v1/packs/P/actions/take"
EVENT = request("POST", "/v1/packs/P/events", b'{"event":"E"}')


class Observant(Connection):
    patience = Patience(half_close=0.02)


@pytest.fixture
async def server(service: Service, options: Options) -> AsyncIterator[Server]:
    async with running(create_app(service, options), http=Observant) as server:
        yield server


@pytest.fixture
async def wire(server: Server, register: Make, save_flow: Make) -> Wire:
    await register("P")
    await save_flow("f", STEP)
    return await server.connect()


CHUNKED = (
    b"POST /v1/packs/P/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n"
    + EVENT[-13:]
    + b"\r\n0\r\n\r\n"
)


ANSWERED = [
    ([request("POST", TAKE)], 204),
    ([request("POST", f"{TAKE}?wait=0")], 204),
    ([EVENT], 202),
    ([EVENT[:-13], EVENT[-13:]], 202),
    ([CHUNKED], 202),
    ([request("POST", "/v1/packs/P/actions/none/result", b'{"event":"R"}')], 404),
    ([request("POST", "/v1/flows", FLOW)], 201),
    ([request("GET", "/v1/audit/events")], 200),
    ([request("DELETE", "/v1/flows/f")], 204),
    ([request("POST", "/nowhere", b"x" * 500)], 404),
    ([request("POST", "/v1/packs/P/events", b"{")], 400),
    ([b"nonsense\r\n\r\n"], 400),
    ([EVENT.replace(b"HTTP/1.1", b"HTTP/1.0")], 202),
]


@pytest.mark.usefixtures("wire")
async def test_a_client_that_closes_its_sending_side_is_answered(server: Server) -> None:
    for parts, status in ANSWERED:
        wire = await server.connect()
        await wire.send(*parts)
        wire.end_sending()
        assert ((await wire.answer())[0], await wire.rest()) == (status, b""), parts


async def test_all_requests_before_the_end_of_sending_are_answered(wire: Wire) -> None:
    await wire.send(EVENT * 60)
    wire.end_sending()
    assert [(await wire.answer())[0] for _ in range(60)] == [202] * 60
    assert await wire.rest() == b""


async def test_requests_before_one_that_was_cut_off_are_answered(
    wire: Wire, server: Server, api: httpx2.AsyncClient
) -> None:
    for cut in (EVENT[:-1], EVENT[:-13], EVENT[:30], EVENT[:3], b"\r\n"):
        wire = await server.connect()
        await wire.send(EVENT + EVENT + cut)
        wire.end_sending()
        assert (await wire.rest()).count(b"HTTP/1.1 202 ") == 2, cut
    assert len((await api.get("/v1/audit/events")).json()["events"]) == 10


async def waits(service: Service, count: int) -> None:
    """Return once so many callers wait; they come over a network, so there is nothing else to
    wait on.
    """
    async with asyncio.timeout(10):
        while service.waiting_count != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_client_that_closes_its_sending_side_still_waits_for_an_action(
    wire: Wire, api: httpx2.AsyncClient, service: Service, version: str
) -> None:
    await wire.send(
        request("POST", f"{TAKE}?wait=30").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    )
    wire.end_sending()
    await waits(service, 1)
    if version == "1.1":
        assert (await wire.answer())[0] == 100  # the server looks whether somebody is there
    await api.post("/v1/packs/P/events", json={"event": "E"})
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["command"]) == (200, "C")


async def test_a_client_that_goes_away_no_longer_waits(wire: Wire, service: Service) -> None:
    await wire.send(request("POST", f"{TAKE}?wait=30"))
    await waits(service, 1)
    await wire.close()
    await waits(service, 0)


@pytest.mark.parametrize("path", [TAKE, f"{TAKE}?max=2", f"{TAKE}?wait=5"])
async def test_an_action_for_a_client_that_has_gone_goes_to_others(
    wire: Wire, api: httpx2.AsyncClient, server: Server, service: Service, path: str
) -> None:
    await api.post("/v1/packs/P/events", json={"event": "E"})
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request("POST", path))
    async with asyncio.timeout(5):
        for has_gone in (False, True):  # the server sees it come, and go
            while (server.connection_count == 1) != has_gone:  # noqa: ASYNC110
                await asyncio.sleep(0)
        while (await wire.ask(request("POST", TAKE)))[0] != 200:
            pass


async def test_an_action_for_a_client_that_shut_its_socket_down_goes_to_others(
    wire: Wire, server: Server, service: Service
) -> None:
    """As a pack does whose socket lives on in a forked child."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request("POST", f"{TAKE}?wait=30"))
        await waits(service, 1)
        client.shutdown(socket.SHUT_RDWR)
        await waits(service, 0)
