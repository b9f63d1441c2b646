"""Byte by byte through a real HTTP server: what old clients and broken ones put on the wire."""

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from flyteops.model import DataItem
from flyteops.service import Service
from flyteops.web.api.operation import Operation
from flyteops.web.api.request import Options, Request
from flyteops.web.api.response import EncodedResponse, Response
from flyteops.web.app import Application, create_app
from flyteops.web.http.connection import Connection
from flyteops.web.http.exchange import Exchange
from tests.api.conftest import Server, Wire, Wrapped, running

Make = Callable[..., Awaitable[dict[str, Any]]]


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: flyte.test",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


PACK = (
    b'{"name":"P","commands":[{"name":"C","events":["R"]}],"events":null,'
    b'"links":[{"href":"http://help/","rel":"help"}]}'
)
STEP = {"event": {"name": "E", "packName": "P"}, "command": {"name": "C", "packName": "P"}}
FLOW = json.dumps({"name": "f", "steps": [STEP]}).encode()


@pytest.fixture
async def wire(server: Server) -> Wire:
    return await server.connect()


async def test_the_life_of_an_old_client_on_one_connection(wire: Wire) -> None:
    """Everything that a pack does, as a client written in Go in 2018 sends it."""
    go = ("User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip")
    as_json = "Content-Type: application/json"
    status, headers, body = await wire.ask(
        request("GET", "/v1", b"", "Accept: application/json", *go)
    )
    assert (status, list(json.loads(body))) == (200, ["links"])
    assert all(set(link) == {"href", "rel"} for link in json.loads(body)["links"])
    status, headers, body = await wire.ask(request("POST", "/v1/packs", PACK, as_json, *go))
    assert (status, headers["location"]) == (201, "http://flyte.test/v1/packs/P")
    links = json.loads(body)["links"]
    event = next(link["href"] for link in links if link["rel"].endswith("event")).removeprefix(
        "http://flyte.test"
    )
    take = next(link["href"] for link in links if link["rel"].endswith("takeAction")).removeprefix(
        "http://flyte.test"
    )
    assert (await wire.ask(request("POST", "/v1/flows", FLOW, as_json)))[0] == 201
    assert (await wire.ask(request("POST", take, b"null", as_json)))[::2] == (204, b"")
    created = b'{"event":"E","payload":null,"createdAt":"2026-11-23T14:49:58.493307263+01:00"}'
    assert (await wire.ask(request("POST", event, created, as_json)))[::2] == (202, b"")
    status, _, body = await wire.ask(
        request("POST", take, b"", "Content-Type: application/octet-stream", "Accept: */*")
    )
    action = json.loads(body)
    assert (status, action["command"], action["input"]) == (200, "C", None)
    assert action["links"][0]["rel"].endswith("actionResult")
    result = action["links"][0]["href"].removeprefix("http://flyte.test")
    outcome = b'{"event":"R","payload":{"a":1},"createdAt":"0001-01-01T00:00:00Z"}'
    for _ in range(2):
        assert (
            await wire.ask(
                request("POST", result, outcome, "Content-Type: text/plain; charset=utf-8")
            )
        )[::2] == (202, b"")


async def test_a_body_in_chunks_is_put_together(wire: Wire) -> None:
    head = b"POST /v1/packs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, body = await wire.ask(head, b'9\r\n{"name":"\r\n', b'3\r\nP"}\r\n', b"0\r\n\r\n")
    assert (status, json.loads(body)["id"]) == (201, "P")


async def test_endless_chunks_are_refused_while_they_come(wire: Wire) -> None:
    await wire.send(b"POST /v1/packs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    await wire.send(*[b"4000\r\n" + b"x" * 0x4000 + b"\r\n"] * 7)
    assert (await wire.answer())[0] == 413


async def test_a_length_above_the_limit_is_refused_before_the_body(wire: Wire) -> None:
    await wire.send(b"POST /v1/packs HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999\r\n\r\n")
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["code"]) == (413, "too-large")


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(wire: Wire) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="value";'
        b' filename="x"\r\n\r\nhello\r\n--b--\r\n'
    )
    expect = ("Expect: 100-continue", "Content-Type: multipart/form-data; boundary=b")
    head, _, body = request("PUT", "/v1/datastore/k", form, *expect).partition(b"\r\n\r\n")
    assert (await wire.ask(head + b"\r\n\r\n"))[0] == 100
    assert (await wire.ask(body))[0] == 201


async def test_a_client_that_asks_before_it_sends_too_much_is_told_not_to(server: Server) -> None:
    wire = await server.connect()
    head = request("PUT", "/v1/datastore/k", b"x" * 500_000, "Expect: 100-continue").partition(
        b"\r\n\r\n"
    )[0]
    status, headers, _ = await wire.ask(head + b"\r\n\r\n")
    assert (status, headers["connection"]) == (413, "close")


async def test_a_client_that_asks_before_it_sends_to_nowhere_is_told_not_to(server: Server) -> None:
    wire = await server.connect()
    head = request("PUT", "/v1/nowhere", b"x" * 5000, "Expect: 100-continue").partition(
        b"\r\n\r\n"
    )[0]
    status, headers, _ = await wire.ask(head + b"\r\n\r\n")
    assert (status, headers["connection"]) == (404, "close")


async def test_a_client_that_leaves_in_the_middle_of_an_event_leaves_nothing_behind(
    api: httpx2.AsyncClient, register: Make, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await register("P")
    left = asyncio.Event()
    app_is_done(server, left)
    wire = await server.connect()
    await wire.send(
        request("POST", "/v1/packs/P/events", b'{"event":"E"}').replace(
            b"Length: 13", b"Length: 14"
        )
    )
    await wire.close()
    await left.wait()
    assert (await api.get("/v1/audit/events")).json()["events"] == []
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_a_client_that_leaves_in_the_middle_of_a_take_gets_no_action(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, server: Server
) -> None:
    await register("P")
    await save_flow("f", STEP)
    await api.post("/v1/packs/P/events", json={"event": "E"})
    left = asyncio.Event()
    app_is_done(server, left)
    wire = await server.connect()
    await wire.send(
        request("POST", "/v1/packs/P/actions/take", b"nul").replace(b"Length: 3", b"Length: 4")
    )
    await wire.close()
    await left.wait()
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 200


def app_is_done(server: Server, left: asyncio.Event) -> None:
    """Set the event when the app has dealt with the next request."""

    class Watched(Wrapped):
        async def respond(self, request: Request) -> EncodedResponse | None:
            try:
                return await super().respond(request)
            finally:
                left.set()

    server.config.loaded_app = Watched(server.config.app)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/\xff HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET /v1/packs/%zz HTTP/1.1",
        b"GET /v1/packs/% HTTP/1.1",
        b"GET /%2e%2e/%2e%2e HTTP/1.1",
    ],
)
async def test_strange_targets_are_no_error_of_the_server(wire: Wire, line: bytes) -> None:
    status, _, _ = await wire.ask(line + b"\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    assert status in (400, 404)


async def test_an_absolute_target_and_doubled_slashes_are_understood(wire: Wire) -> None:
    assert (await wire.ask(b"GET http://flyte.test/v1 HTTP/1.1\r\nHost: flyte.test\r\n\r\n"))[
        0
    ] == 200
    assert (await wire.ask(b"GET //v1 HTTP/1.1\r\nHost: flyte.test\r\n\r\n"))[0] == 200


async def test_a_percent_encoded_slash_is_part_of_a_name(wire: Wire, service: Service) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="value"\r\n\r\nhello\r\n--b--\r\n'
    put = request(
        "PUT", "/v1/datastore/a%2Fb%252F", form, "Content-Type: multipart/form-data; boundary=b"
    )
    assert (await wire.ask(put))[0] == 201
    assert [item.key for item in service.data.list()] == ["a/b%2F"]
    assert (await wire.ask(request("GET", "/v1/datastore/a%2fb%252F")))[::2] == (200, b"hello")


async def test_a_stored_content_type_cannot_add_headers(wire: Wire) -> None:
    head = (
        b'Content-Disposition: form-data; name="value"\r\nContent-Type: text/plain\rSet-Cookie: a=b'
    )
    part = b"--b\r\n" + head + b"\r\n\r\nhello\r\n--b--\r\n"
    put = request("PUT", "/v1/datastore/k", part, "Content-Type: multipart/form-data; boundary=b")
    assert (await wire.ask(put))[0] == 400


async def test_a_head_is_what_the_answer_would_begin_with(wire: Wire) -> None:
    _, whole, body = await wire.ask(request("GET", "/v1"))
    await wire.send(request("HEAD", "/v1"))
    status, headers, _ = await wire.answer(to_head=True)
    assert (status, headers["content-length"], headers["content-type"]) == (
        200,
        str(len(body)),
        whole["content-type"],
    )
    assert (await wire.ask(request("GET", "/v1")))[2] == body


async def test_a_client_that_wants_to_close_is_hung_up_on_after_the_answer(wire: Wire) -> None:
    status, headers, _ = await wire.ask(request("GET", "/v1", b"", "Connection: close"))
    assert (status, headers["connection"], await wire.rest()) == (200, "close", b"")


async def test_clients_that_speak_http_1_0_get_links_too(wire: Wire) -> None:
    status, _, body = await wire.ask(b"GET /v1 HTTP/1.0\r\n\r\n")
    assert status == 200
    assert json.loads(body)["links"][0]["href"].startswith("http://")


async def test_requests_sent_in_one_go_are_answered_in_order(wire: Wire, register: Make) -> None:
    await register("P")
    await wire.send(
        b"".join(request("POST", "/v1/packs/P/events", b'{"event":"E%d"}' % n) for n in range(20))
    )
    locations = [(await wire.answer())[1]["location"] for _ in range(20)]
    assert len(set(locations)) == 20


async def test_head_tells_the_length_and_sends_no_body(wire: Wire) -> None:
    await wire.send(request("HEAD", "/v1"), request("GET", "/v1"))
    head = await wire.answer(to_head=True)
    status, headers, body = await wire.answer()
    assert (
        (head[0], head[1]["content-length"])
        == (status, headers["content-length"])
        == (200, str(len(body)))
    )


# ------------------------------------------------------------------------ what is no request at all


def is_told(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> bool:
    """Tell whether an answer is problem details, and the last on its connection."""
    told = json.loads(answer[2])
    headers = answer[1]
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    return (answer[0], told["status"], told["code"]) == (status, status, code)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v1/\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"FETCH /v1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1 HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_with_problem_details(wire: Wire, data: bytes) -> None:
    assert is_told(await wire.ask(data), 400, "bad-request")


async def test_a_path_without_end_is_refused(wire: Wire) -> None:
    await wire.send(b"GET /v1/", *[b"x" * 1000] * 20)
    assert is_told(await wire.answer(), 414, "target-too-long")


@pytest.mark.parametrize("line", [b"X-%d: " + b"x" * 900 + b"\r\n", b"x" * 900 + b"%d"])
async def test_headers_without_end_are_refused_while_they_come(wire: Wire, line: bytes) -> None:
    lines = [line.replace(b"%d", b"%d" % number) for number in range(800)]
    end = asyncio.create_task(wire.rest())
    with contextlib.suppress(ConnectionError):
        await wire.send(b"GET /v1 HTTP/1.1\r\nHost: h\r\nX-First: ", *lines)
    with contextlib.suppress(ConnectionError):  # the server hangs up with something unread
        assert b"HTTP/1.1 431 " in await end


async def test_large_headers_sent_at_once_are_refused_too(wire: Wire) -> None:
    await wire.send(b"GET /v1 HTTP/1.1\r\nHost: h\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n")
    assert is_told(await wire.answer(), 431, "head-too-large")


async def test_many_requests_on_one_connection_may_have_large_headers_together(wire: Wire) -> None:
    for _ in range(5):
        assert (await wire.ask(request("GET", "/v1", b"", "X-Large: " + "x" * 30_000)))[0] == 200


@pytest.mark.parametrize("kind", ["h2c", "websocket", "TLS/1.3"])
async def test_a_wish_for_another_protocol_is_ignored(wire: Wire, kind: str) -> None:
    wish = (
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {kind}",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    )
    data = request("POST", "/v1/packs", PACK, *wish)
    assert (await wire.ask(data))[0] == 201
    assert (await wire.ask(data[:-20], data[-20:]))[0] == 201
    assert (await wire.ask(request("GET", "/v1")))[0] == 200


async def test_nothing_is_tunnelled(wire: Wire) -> None:
    assert is_told(
        await wire.ask(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        405,
        "method-not-allowed",
    )


async def test_who_does_not_read_takes_neither_time_nor_memory_from_others(
    server: Server, service: Service
) -> None:
    await service.data.save(DataItem("large", "text/plain", b"x" * 90_000))
    answers = count_answers(server)
    wire = await server.connect()
    await wire.send(request("GET", "/v1/datastore/large") * 500)
    assert await rested(server, answers) < 300  # what the sockets hold, and no more
    for _ in range(500):
        assert len((await wire.answer())[2]) == 90_000


async def test_who_sends_byte_by_byte_is_answered_and_keeps_nobody_waiting(server: Server) -> None:
    slow, other = await server.connect(), await server.connect()
    for number in range(len(data := request("POST", "/v1/packs", PACK))):
        await slow.send(data[number : number + 1])
        assert (await other.ask(request("GET", "/v1")))[0] == 200
    assert (await slow.answer())[0] == 201


async def test_nothing_is_made_for_who_has_left(server: Server, service: Service) -> None:
    await service.data.save(DataItem("large", "text/plain", b"x" * 90_000))
    answers = count_answers(server)
    wire = await server.connect()
    await wire.send(request("GET", "/v1/datastore/large") * 500)
    await rested(server, answers)
    wire.abort()
    assert await rested(server, answers) < 300


async def rested(server: Server, answers: list[str]) -> int:
    """Return how many large answers there are once there are no more while others are answered."""
    wire, before = await server.connect(), -1
    while before != (before := answers.count("/v1/datastore/large")):
        for _ in range(30):
            assert (await wire.ask(request("GET", "/v1")))[0] == 200
    return before


def count_answers(server: Server) -> list[str]:
    """Return a list that grows by the path of each request that the app begins to answer."""
    paths = []

    class Counted(Wrapped):
        async def respond(self, request: Request) -> EncodedResponse | None:
            paths.append(request.path)
            return await super().respond(request)

    server.config.loaded_app = Counted(server.config.app)
    return paths


def app_of(service: Service, response: Response | Exception) -> Application:
    """Return an application whose only operation returns that response, or fails with that
    error.
    """

    async def handler(request: Request) -> Response:
        if isinstance(response, Exception):
            raise response
        return response

    operation = Operation(
        method="GET", path="/v1", handler=handler, name="it", tag="it", outcomes={}
    )
    return Application(service, Options(), [operation])


async def test_a_handler_that_fails_is_an_error_of_the_server(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(app_of(service, RuntimeError("oh"))) as server:
        wire = await server.connect()
        for _ in range(2):  # the connection goes on
            status, _, body = await wire.ask(request("GET", "/v1"))
            assert (status, json.loads(body)["code"], b"oh" in body) == (500, "internal", False)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "A request failed"
    ] * 2
    assert "RuntimeError: oh" in caplog.text


async def test_a_header_of_two_lines_is_not_sent(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(
        app_of(service, Response(200, headers=((b"location", b"/\r\nset-cookie: a=b"),)))
    ) as server:
        wire = await server.connect()
        status, headers, _ = await wire.ask(request("GET", "/v1"))
    assert (status, "set-cookie" in headers) == (500, False)
    assert "the header location would be more than one" in caplog.text


class Impatient(Connection):
    idle_seconds = head_seconds = pause_seconds = 0.05


@pytest.fixture
async def impatient(service: Service, options: Options) -> AsyncIterator[Server]:
    async with running(create_app(service, options), http=Impatient) as server:
        yield server


EVENT = request("POST", "/v1/packs/P/events", b'{"event":"E"}')


@pytest.mark.parametrize(
    "data", [b"GET /v1 HTT", request("POST", "/v1/packs", PACK)[:-1], EVENT[:-13], EVENT[:-1]]
)
async def test_a_request_that_does_not_go_on_is_given_up(impatient: Server, data: bytes) -> None:
    wire = await impatient.connect()
    await wire.send(data)
    assert is_told(await wire.answer(), 408, "too-slow")


async def test_a_head_that_comes_drop_by_drop_is_given_up(impatient: Server) -> None:
    wire = await impatient.connect()
    await wire.send(b"GET /v1 HTTP/1.1\r\nX-Slow: ")
    end = asyncio.create_task(wire.rest())
    while not end.done():
        with contextlib.suppress(ConnectionError):
            await wire.send(b"x")
        await asyncio.wait([end], timeout=0.01)
    with contextlib.suppress(ConnectionError):
        assert b" 408 " in await end


async def test_a_connection_on_which_nothing_comes_is_closed(impatient: Server) -> None:
    wire = await impatient.connect()
    assert await wire.rest() == b""


async def test_a_connection_that_rests_after_an_answer_is_closed(impatient: Server) -> None:
    wire = await impatient.connect()
    assert (await wire.ask(request("GET", "/v1")))[0] == 200
    assert await wire.rest() == b""


async def test_a_connection_that_is_used_is_not_closed(impatient: Server) -> None:
    wire = await impatient.connect()
    loop = asyncio.get_running_loop()
    until = loop.time() + 4 * Impatient.idle_seconds
    while loop.time() < until:
        assert (await wire.ask(request("GET", "/v1")))[0] == 200


async def test_a_request_that_takes_its_time_after_it_came_is_not_given_up(
    impatient: Server,
) -> None:
    wire = await impatient.connect()
    app_waits(impatient, 0.2)
    assert (await wire.ask(request("POST", "/v1/packs", PACK)))[0] == 201


def app_waits(server: Server, seconds: float) -> None:
    """Let the app take longer than a client may."""

    class Slow(Wrapped):
        async def respond(self, request: Request) -> EncodedResponse | None:
            await asyncio.sleep(seconds)
            return await super().respond(request)

    server.config.loaded_app = Slow(server.config.app)


async def test_requests_leave_nothing_to_the_collector_of_garbage(
    server: Server, register: Make, save_flow: Make
) -> None:
    """The server lets it come seldom, so what only it could free would pile up."""
    await register("P")
    await save_flow("f", STEP)
    wire = await server.connect()
    take = request("POST", "/v1/packs/P/actions/take")

    async def cycle() -> None:
        assert (await wire.ask(request("POST", "/v1/packs/P/events", b'{"event":"E"}')))[0] == 202
        action = json.loads((await wire.ask(take))[2])
        result = action["links"][0]["href"].removeprefix("http://flyte.test")
        assert (await wire.ask(request("POST", result, b'{"event":"R"}')))[0] == 202
        assert (await wire.ask(take))[0] == 204
        assert (await wire.ask(request("POST", "/v1/packs/P/events", b"{")))[0] == 400

    await cycle()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await cycle()
        assert gc.collect() == 0
        for _ in range(5):
            await ask_once(server)
        assert sum(isinstance(each, Connection) for each in gc.get_objects()) == 1
    finally:
        gc.enable()


async def ask_once(server: Server) -> None:
    """Ask on a connection of its own, up to its end."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, request("GET", "/v1", b"", "Connection: close"))
        while await loop.sock_recv(client, 65_536):
            pass


async def test_a_flood_of_requests_is_not_read_faster_than_it_is_answered(service: Service) -> None:
    most = answered = 0

    class Counting(Wrapped):
        async def respond(self, request: Request) -> EncodedResponse | None:
            nonlocal most, answered
            answered += 1
            if answered % 1_000 == 1:
                most = max(most, sum(isinstance(each, Exchange) for each in gc.get_objects()))
            return EncodedResponse(204, b"", b"", closes=False)

    async with running(Counting(create_app(service))) as server:
        wire = await server.connect()
        await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 50_000)
        for _ in range(500):
            assert (await wire.answer())[0] == 204
        wire.abort()
    assert 0 < most < 300  # as many as are parsed at once
