"""What clients use together: connections, and memory for bodies and answers that are under way."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from flyteops.errors import BusyError
from flyteops.model import DataItem, NewEvent
from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import Application, create_app
from flyteops.web.http.connection import Connection
from flyteops.web.http.outlet import Patience
from flyteops.web.http.traffic import LOG_EVERY, WARNED_FOR, YOUNG, Limit, Traffic
from tests.api.conftest import Server, Wire, running
from tests.api.test_server import request
from tests.support.clock import Stopwatch

Make = Callable[..., Awaitable[dict[str, Any]]]

LARGE = 1_000_000
READY = request("GET", "/health/ready")


# ----------------------------------------------------------------------------------- the sum of all


def test_transfers_have_room_up_to_the_limit_and_give_it_back() -> None:
    traffic = Traffic(max_transfer_bytes=100)
    first, second = traffic.begin(), traffic.begin()
    first.hold(60)
    with pytest.raises(BusyError):
        second.hold(41)
    second.hold(40)
    first.end()
    first.end()
    second.hold(60)
    assert traffic.held_bytes == 100


def test_the_transfer_that_takes_longest_makes_room_unless_it_has_just_begun() -> None:
    clock, broken_off = Stopwatch(1000.0), []
    traffic = Traffic(max_transfer_bytes=100, clock=clock)
    old, older = (
        traffic.begin(lambda: broken_off.append("first")),
        traffic.begin(lambda: broken_off.append("second")),
    )
    old.hold(50)
    older.hold(50)
    with pytest.raises(BusyError):
        traffic.begin().hold(30)
    clock.now += YOUNG
    new = traffic.begin()
    new.hold(30)
    assert (broken_off, traffic.held_bytes) == (["first"], 80)
    with pytest.raises(BusyError):
        old.hold(1)
    old.end()
    assert traffic.held_bytes == 80


def test_a_transfer_does_not_make_room_for_itself() -> None:
    clock, broken_off = Stopwatch(1000.0), []
    traffic = Traffic(max_transfer_bytes=100, clock=clock)
    only = traffic.begin(lambda: broken_off.append("it"))
    clock.now += YOUNG
    with pytest.raises(BusyError):
        only.hold(101)
    assert broken_off == []


def test_an_answer_to_work_that_is_done_is_held_beyond_the_limit_and_makes_room_later() -> None:
    clock, broken_off = Stopwatch(1000.0), []
    traffic = Traffic(max_transfer_bytes=100, clock=clock)
    done = traffic.begin(lambda: broken_off.append("done"))
    done.hold(150, must=True)
    with pytest.raises(BusyError):
        traffic.begin().hold(10)
    clock.now += YOUNG
    traffic.begin().hold(10)
    assert (broken_off, traffic.held_bytes) == (["done"], 10)


def test_a_limit_that_is_reached_often_is_logged_seldom_and_warned_of_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Stopwatch(1000.0)
    limit = Limit("%d clients were sent away", clock)
    assert limit.warning == ""
    for _ in range(1000):
        limit.reached()
    clock.now += LOG_EVERY
    limit.reached()
    assert [record.getMessage() for record in caplog.records] == [
        "1 clients were sent away",
        "1000 clients were sent away",
    ]
    assert limit.warning == "Clients were sent away."
    clock.now += WARNED_FOR + 1
    assert limit.warning == ""


# ------------------------------------------------------------------------- clients that do not read


class Impatient(Connection):
    patience = Patience(stall=0.1, linger=0.2, linger_pause=0.1)


@contextlib.asynccontextmanager
async def serving(
    service: Service, *, http: type[Connection] = Connection, **options: Any
) -> AsyncIterator[tuple[Server, Application]]:
    app = create_app(service, Options(max_body_bytes=100_000, **options))
    assert isinstance(app, Application)
    async with running(app, http=http) as server:
        yield server, app


def small_client(server: Server, data: bytes) -> socket.socket:
    """Return a client that has sent data and of which the kernel takes little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(data)
    return client


@pytest.fixture
async def _item(service: Service) -> None:
    await service.data.save(DataItem("large", "text/plain", b"x" * LARGE))


GET_LARGE = request("GET", "/v1/datastore/large")


@pytest.mark.usefixtures("_item")
async def test_answers_that_nobody_reads_take_no_more_memory_than_they_may(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(service, max_transfer_bytes=4 * LARGE) as (server, app),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [small_client(server, GET_LARGE) for _ in range(8)]
        for client in clients:
            stack.callback(client.close)
        wire = await server.connect()
        async with asyncio.timeout(10):
            while app.traffic.held_bytes < 4 * LARGE:
                assert (await wire.ask(request("GET", "/v1")))[0] == 200
        status, headers, body = await wire.ask(GET_LARGE)
        assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "busy")
        assert app.traffic.held_bytes == 4 * LARGE
        warnings = json.loads((await wire.ask(READY))[2])["warnings"]
        assert "FLYTE_MAX_TRANSFER_BYTES" in "".join(warnings)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert app.traffic.held_bytes == 0


async def test_answers_to_changes_count_against_the_limit_and_are_never_refused(
    service: Service,
) -> None:
    commands = [{"name": f"C{number}", "events": []} for number in range(2_000)]
    pack = request("POST", "/v1/packs", json.dumps({"name": "P", "commands": commands}).encode())
    async with (
        serving(service, max_transfer_bytes=300_000) as (server, app),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(4):
            client = small_client(server, pack)
            stack.callback(client.close)
        async with asyncio.timeout(10):
            while app.traffic.held_bytes <= 300_000:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.001)
        wire = await server.connect()
        status, _, body = await wire.ask(pack)
        assert (status, json.loads(body)["name"]) == (201, "P")
        assert app.traffic.held_bytes > 300_000
        assert (await wire.ask(request("GET", "/v1/packs/P")))[0] == 503
    assert app.traffic.held_bytes == 0


@pytest.mark.usefixtures("_item")
@pytest.mark.parametrize("more", [b"", GET_LARGE * 3])
@pytest.mark.parametrize("closing", [(), ("Connection: close",)])
async def test_a_client_that_does_not_read_is_given_up(
    service: Service, more: bytes, closing: tuple[str, ...]
) -> None:
    async with serving(service, http=Impatient) as (server, app):
        with small_client(server, request("GET", "/v1/datastore/large", b"", *closing) + more):
            await count_reaches(server, 1)
            await count_reaches(server, 0)
    assert app.traffic.held_bytes == 0


async def count_reaches(server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while server.connection_count != count:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("_item")
async def test_a_client_that_reads_slowly_gets_everything(service: Service) -> None:
    async with serving(service, http=Impatient) as (server, _):
        loop = asyncio.get_running_loop()
        with small_client(server, GET_LARGE) as client:
            client.setblocking(False)
            size, begin = 0, loop.time()
            while size < LARGE:
                size += len(await loop.sock_recv(client, 300_000))
                if loop.time() - begin < 0.4:
                    await asyncio.sleep(0.02)


async def test_an_action_that_was_not_read_to_its_end_goes_to_others(
    service: Service, register: Make, save_flow: Make
) -> None:
    await register("P")
    step = {
        "event": {"name": "E", "packName": "P"},
        "command": {"name": "C", "packName": "P", "input": "{{ Event.Payload }}"},
    }
    await save_flow("f", step)
    await service.accept_event("P", NewEvent("E", b'"%b"' % (b"x" * LARGE), None))
    async with serving(service, http=Impatient) as (server, _):
        wire = await server.connect()
        for path in ("/v1/packs/P/actions/take", "/v1/packs/P/actions/take?max=1"):
            with small_client(server, request("POST", path)):
                await count_reaches(server, 2)
                await count_reaches(server, 1)
            async with asyncio.timeout(5):
                while (answer := await wire.ask(request("POST", "/v1/packs/P/actions/take")))[
                    0
                ] != 200:
                    pass
            result = json.loads(answer[2])["links"][0]["href"].removeprefix("http://flyte.test")
            assert (await wire.ask(request("POST", result, b'{"event":"R"}')))[0] == 202
            await service.accept_event("P", NewEvent("E", b'"%b"' % (b"x" * LARGE), None))


# --------------------------------------------------------------------------- bodies of many clients


async def test_bodies_of_many_clients_take_no_more_memory_than_they_may(
    service: Service, register: Make
) -> None:
    await register("P")
    head, body = request(
        "POST", "/v1/packs/P/events", b'{"event":"E","payload":"%b"}' % (b"x" * 90_000)
    ).split(b"\r\n\r\n")
    async with serving(service, max_transfer_bytes=200_000) as (server, app):
        wires = [await server.connect() for _ in range(8)]
        for wire in wires:
            await wire.send(head + b"\r\n\r\n" + body[:60_000])
        statuses = await asyncio.gather(*(wire.ask(body[60_000:]) for wire in wires))
        assert {status for status, _, _ in statuses} <= {202, 503}
        assert [status for status, _, _ in statuses].count(202) >= 1
        assert app.traffic.held_bytes == 0


async def test_a_slow_body_makes_room_for_others(service: Service) -> None:
    head, body = request("POST", "/v1/packs", b'{"name":"P","links":[%b]}' % (b" " * 90_000)).split(
        b"\r\n\r\n"
    )
    async with serving(service, max_transfer_bytes=1) as (server, app):  # at least two bodies
        clock = app.traffic.clock = Stopwatch(1000.0)
        slow = [await server.connect() for _ in range(2)]
        for wire in slow:
            await wire.send(head + b"\r\n\r\n" + body[:80_000])
        async with asyncio.timeout(5):
            while app.traffic.held_bytes < 160_000:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.001)
        clock.now += YOUNG
        other = await server.connect()
        await other.send(head + b"\r\n\r\n" + body[:80_000])
        ends = [asyncio.create_task(ended(wire)) for wire in slow]
        _, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert (await other.ask(body[80_000:]))[0] == 201
        for end in waiting:
            end.cancel()
        assert len(waiting) == 1


async def ended(wire: Wire) -> None:
    """Wait until the server has hung up."""
    with contextlib.suppress(ConnectionError):
        await wire.rest()


async def test_requests_that_wait_on_their_connections_take_no_more_memory_than_they_may(
    service: Service,
) -> None:
    async with serving(service, max_transfer_bytes=1) as (server, app):
        wires = [await server.connect() for _ in range(4)]
        data = b"POST /v1/packs/P/actions/take HTTP/1.1\r\nHost: h\r\n\r\n" * 2_000
        sending = [asyncio.create_task(wire.try_to_send(data)) for wire in wires]
        most = 0
        for wire in wires:
            statuses = set()
            while True:
                status, headers, _ = await wire.answer()
                statuses.add(status)
                most = max(most, app.traffic.held_bytes)
                if headers.get("connection") == "close" or len(statuses) == 2:
                    break
                if status == 404 and not any(not task.done() for task in sending) and most:
                    break
        await asyncio.gather(*sending)
        assert 0 < most <= 200_000


# -------------------------------------------------------------------------------------- connections


async def test_connections_beyond_the_limit_are_told_so_and_warned_of(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(service, max_connections=3) as (server, _):
        wires = [await server.connect() for _ in range(3)]
        for _ in range(20):
            refused = await server.connect()
            await refused.send(request("POST", "/v1/packs", b'{"name":"P"}'))
            status, headers, body = await refused.answer()
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "busy")
            await refused.close()
        warnings = json.loads((await wires[0].ask(READY))[2])["warnings"]
        assert "FLYTE_MAX_CONNECTIONS" in "".join(warnings)
        await wires[0].close()
        await count_reaches(server, 2)
        assert (await (await server.connect()).ask(request("GET", "/v1")))[0] == 200
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
