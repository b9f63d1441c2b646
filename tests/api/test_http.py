"""HTTP/1.1 to the letter (RFC 9110, RFC 9112), where a proxy or an attacker would profit from
another reading.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.http.connection import Connection
from flyteops.web.http.outlet import Patience
from tests.api.conftest import Server, Wire, running
from tests.api.test_server import is_told, request
from tests.certificate import Certificate, write_pair

Make = Callable[..., Awaitable[dict[str, Any]]]

GET = b"GET /v1 HTTP/1.1\r\n"
HOST = b"Host: flyte.test\r\n"
BODY = b'{"event":"E"}'
EVENT = request("POST", "/v1/packs/P/events", BODY)
POST = b"POST /v1/packs/P/events HTTP/1.1\r\n" + HOST


@pytest.fixture
async def wire(server: Server) -> Wire:
    return await server.connect()


async def ask(server: Server, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return the answer to bytes on a connection of their own."""
    return await (await server.connect()).ask(data)


# ----------------------------------------------------------------------------------------- the host


BAD_HOSTS = [
    [],
    ["flyte.test", "flyte.test"],
    ["flyte.test", "other.test"],
    ["flyte.test, other.test"],
    ["flyte.test,other.test"],
    ["user@flyte.test"],
    ["flyte.test/v1"],
    ["flyte.test#x"],
    ["flyte.test?x"],
    ["flyte.test:80:80"],
    ["flyte.test:port"],
    ["flyte.test:999999"],
    ["fly te.test"],
    ["fl\xffte.test"],
    ["[::1"],
    ["http://flyte.test"],
    ["%zz.test"],
]


@pytest.mark.parametrize(
    "line",
    [b"GET /v1 HTTP/1.1\r\n", b"POST /v1/packs/P/actions/take HTTP/1.1\r\nContent-Length: 0\r\n"],
)
async def test_a_request_names_one_host_and_a_valid_one(server: Server, line: bytes) -> None:
    for hosts in BAD_HOSTS:
        lines = b"".join(b"Host: %b\r\n" % host.encode("latin-1") for host in hosts)
        assert is_told(await ask(server, line + lines + b"\r\n"), 400, "bad-host"), hosts


async def test_every_way_to_write_a_host_is_understood(server: Server) -> None:
    for host in (
        "flyte.test",
        "FLYTE.test.:8088",
        "127.0.0.1:80",
        "[::1]:8088",
        "my_host",
        "flyte.test:",
        "a%20b",
        "",
    ):
        assert (await ask(server, GET + b"Host: %b\r\n\r\n" % host.encode()))[0] == 200, host


async def test_http_1_0_may_leave_the_host_out(wire: Wire) -> None:
    assert (await wire.ask(b"GET /v1 HTTP/1.0\r\n\r\n"))[0] == 200


async def test_http_1_0_may_not_name_it_twice_or_badly(server: Server) -> None:
    for lines in (HOST + HOST, b"Host: a b\r\n"):
        assert is_told(
            await ask(server, b"GET /v1 HTTP/1.0\r\n" + lines + b"\r\n"), 400, "bad-host"
        ), lines


async def test_the_host_in_a_whole_url_replaces_the_host_header(server: Server) -> None:
    for url, href in (
        (b"http://other.test:81/v1", "http://other.test:81/v1"),
        (b"HTTP://other.test/v1?x=y", "http://other.test/v1"),
        (b"https://other.test/v1", "http://other.test/v1"),
        (b"http://[::1]:8088/v1", "http://[::1]:8088/v1"),
        (b"http://other.test", "http://other.test/"),
    ):
        status, _, body = await ask(server, b"GET " + url + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (status, json.loads(body)["links"][0]["href"]) == (200, href)


async def test_a_whole_url_that_is_none_of_ours_is_refused(server: Server) -> None:
    for url in (
        b"http://user@flyte.test/v1",
        b"ftp://flyte.test/v1",
        b"http:///v1",
        b"http://a:99999/v1",
        b"http://?x",
    ):
        assert (await ask(server, b"GET " + url + b" HTTP/1.1\r\n" + HOST + b"\r\n"))[0] == 400, url


async def test_the_host_in_a_whole_url_passes_the_guard_like_any_other(service: Service) -> None:
    async with running(create_app(service, Options(is_local=True))) as server:
        for url, host, status in (
            (b"http://evil.test/v1", b"localhost", 403),
            (b"http://localhost/v1", b"evil.test", 200),
            (b"/v1", b"evil.test", 403),
        ):
            wire = await server.connect()
            answer = await wire.ask(b"GET " + url + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert answer[0] == status


# -------------------------------------------------------------------------------------- the version


async def test_other_versions_are_refused_as_such(server: Server) -> None:
    for version in (b"HTTP/2.0", b"HTTP/3", b"HTTP/3.0", b"HTTP/1.2", b"HTTP/0.9"):
        assert is_told(
            await ask(server, b"GET /v1 " + version + b"\r\n" + HOST + b"\r\n"),
            505,
            "other-version",
        ), version
    for beginning in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /v1\r\n\r\n"):
        assert is_told(await ask(server, beginning), 505, "other-version"), beginning


async def test_a_version_that_is_none_is_refused(server: Server) -> None:
    for version in (b"http/1.1", b"HTTP/1.10", b"HTTP/1,1", b"HTTP", b"ICE/1.0", b"HTTP/1.1 x"):
        status, headers, _ = await ask(server, b"GET /v1 " + version + b"\r\n" + HOST + b"\r\n")
        assert (status in (400, 505), headers["connection"]) == (True, "close"), version


async def test_an_asterisk_is_not_a_resource(server: Server) -> None:
    for method in (b"OPTIONS", b"GET", b"DELETE"):
        assert (await ask(server, method + b" * HTTP/1.1\r\n" + HOST + b"\r\n"))[0] == 404, method


# -------------------------------------------------------------------------------- where a body ends


AMBIGUOUS = [
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    (b"Content-Length: 5\r\nContent-Length: 5", 400),
    (b"Content-Length: 5\r\nContent-Length: 6", 400),
    (b"Content-Length: 5, 5", 400),
    (b"Content-Length: +5", 400),
    (b"Content-Length: 0x5", 400),
    (b"Content-Length: -5", 400),
    (b"Content-Length:", 400),
    (b"Content-Length: 99999999999999999999", 400),
    (b"Transfer-Encoding: gzip, chunked", 501),
    (b"Transfer-Encoding: gzip", 501),
    (b"Transfer-Encoding: identity", 501),
    (b"Transfer-Encoding: xchunked", 501),
    (b"Transfer-Encoding: chunked, chunked", 400),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    (b"Transfer-Encoding: \x0bchunked", 400),
    (b"Transfer-Encoding: chunked;q=1", 501),
    (b"Transfer-Encoding : chunked", 400),
    (b"X: y\r\n Transfer-Encoding: chunked", 400),
    (b" X: y", 400),
    (b"X: a\0b", 400),
    (b"X: a\rb", 400),
    (b"X: a\nContent-Length: 3", 400),
    (b"X\0: a", 400),
    (b"X\xff: a", 400),
    (b"X(y): a", 400),
    (b": a", 400),
]


async def test_a_request_that_others_may_read_otherwise_is_refused(server: Server) -> None:
    for lines, status in AMBIGUOUS:
        wire = await server.connect()
        answer = await wire.ask(POST + lines + b"\r\n\r\n0\r\n\r\n")
        assert (answer[0], answer[1]["connection"], await wire.rest()) == (status, "close", b""), (
            lines
        )


async def test_http_1_0_has_no_transfer_codings(wire: Wire) -> None:
    head = POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n"
    assert is_told(await wire.ask(head + b"0\r\n\r\n"), 400, "bad-request")


async def test_a_chunk_without_a_proper_size_is_refused(server: Server) -> None:
    for size in (b"0xd", b"d ", b"+d", b"-1", b"ffffffffffffffffff", b"", b"d\nx"):
        body = size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
        assert is_told(
            await ask(server, POST + b"Transfer-Encoding: chunked\r\n\r\n" + body),
            400,
            "bad-request",
        ), size


async def test_trailers_do_not_change_what_the_head_says(wire: Wire, register: Make) -> None:
    await register("P")
    trailers = (
        b"Host: evil.test\r\nOrigin: http://evil.test\r\nContent-Type: application/x-yaml\r\n\r\n"
    )
    body = b"d;name=value\r\n" + BODY + b"\r\n0\r\n" + trailers
    status, headers, _ = await wire.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert (status, headers["location"].startswith("http://flyte.test/")) == (202, True)


# ------------------------------------------------------------------------------------------- bounds


async def test_many_header_lines_are_refused(wire: Wire) -> None:
    lines = b"".join(b"A%d:\r\n" % number for number in range(300))
    assert is_told(await wire.ask(GET + HOST + lines + b"\r\n"), 431, "head-too-large")


async def test_framing_without_end_is_refused(server: Server) -> None:
    for parts in (
        [b"1;" + b"x" * 1000] + [b"x" * 1000] * 80,  # an extension without end
        [b"1;" + b"x" * 9000 + b"\r\na\r\n"] * 20,  # extensions that dwarf the data
        [b"0\r\n"] + [b"X: " + b"y" * 1000 + b"\r\n"] * 80,  # trailers without end
        [b"0" * 1000] * 80,  # a size without end
    ):
        wire = await server.connect()
        await wire.send(
            b"POST /v1/packs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", *parts
        )
        assert (await wire.answer())[0] in (400, 431), parts[0][:10]


async def test_a_body_of_tiny_chunks_is_accepted(wire: Wire) -> None:
    body = b'{"name":"%b"}' % (b"P" * 400)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert (
        await wire.ask(
            b"POST /v1/packs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        )
    )[0] == 201


async def test_empty_lines_before_a_request_are_few(wire: Wire) -> None:
    assert (await wire.ask(b"\r\n\r\n" + GET + HOST + b"\r\n"))[0] == 200
    await wire.send(*[b"\r\n" * 5000] * 10)
    assert (await wire.answer())[0] in (400, 431)


class Impatient(Connection):
    head_seconds = pause_seconds = 0.05
    body_seconds = 0.2
    patience = Patience(stall=0.05, linger=0.2, linger_pause=0.05)


@pytest.mark.parametrize(
    ("begin", "drip"), [(b"", b"0"), (b"0\r\nX: ", b"y"), (b"", b"1\r\na\r\n")]
)
async def test_a_body_or_trailers_drop_by_drop_are_given_up(
    service: Service, options: Options, begin: bytes, drip: bytes
) -> None:
    async with running(create_app(service, options), http=Impatient) as server:
        wire = await server.connect()
        await wire.send(
            b"POST /v1/packs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + begin
        )
        end = asyncio.create_task(wire.rest())
        while not end.done():
            await wire.try_to_send(drip)
            await asyncio.wait([end], timeout=0.01)
        assert b" 408 " in (await end)[:14]


# ---------------------------------------------------------------------------------- who is answered


async def test_what_cannot_be_read_is_refused_after_the_requests_before_it_are_answered(
    wire: Wire, register: Make
) -> None:
    await register("P")
    await wire.send(EVENT + EVENT + b"nonsense\r\n\r\n" + EVENT)
    assert [(await wire.answer())[0] for _ in range(3)] == [202, 202, 400]
    assert await wire.rest() == b""


async def test_the_fault_of_a_request_is_not_the_answer_to_another(
    server: Server, register: Make
) -> None:
    await register("P")
    for last in (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET /v1 HTT\r\n\r\n"):
        wire = await server.connect()
        await wire.send(EVENT + last)
        assert [(await wire.answer())[0] for _ in range(2)] == [202, 400], last


async def test_wishes_for_another_protocol_without_number_are_ignored(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flyte")
    wish = GET + HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n"
    sending = asyncio.create_task(wire.send(wish * 1_200))
    for _ in range(1_200):
        assert (await wire.answer())[0] == 200
    await sending
    assert caplog.records == []


async def test_a_wish_for_another_protocol_may_close_the_connection(wire: Wire) -> None:
    status, headers, _ = await wire.ask(
        GET + HOST + b"Connection: upgrade, close\r\nUpgrade: x\r\n\r\n"
    )
    assert (status, headers["connection"], await wire.rest()) == (200, "close", b"")


async def test_a_wish_for_another_protocol_does_not_make_http_1_0_modern(wire: Wire) -> None:
    await wire.send(b"GET /v1 HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert (await wire.answer())[0] == 200
    assert await wire.rest() == b""


async def test_http_1_0_is_not_told_to_go_on(wire: Wire, register: Make) -> None:
    await register("P")
    head = POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 13\r\n\r\n"
    await wire.send(head, BODY)
    assert (await wire.answer())[0] == 202


async def test_who_has_sent_the_body_is_not_told_to_go_on(wire: Wire, register: Make) -> None:
    await register("P")
    await wire.send(POST + b"Expect: 100-continue\r\nContent-Length: 13\r\n\r\n" + BODY)
    assert (await wire.answer())[0] == 202


# ----------------------------------------------------------------- refusals before the body is read


@pytest.fixture(params=["plain", "tls"])
async def connect(
    request: pytest.FixtureRequest, service: Service, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Wire]]]:
    """Connects to a server for this computer alone, in plain text or over TLS."""
    certificate = Certificate()
    cert, key = write_pair(tmp_path, certificate)
    files = {"ssl_certfile": cert, "ssl_keyfile": key} if request.param == "tls" else {}
    context = ssl.create_default_context(cadata=certificate.pem.decode()) if files else None
    async with running(
        create_app(service, Options(max_body_bytes=100_000, is_local=True)), **files
    ) as server:
        yield lambda: server.connect(context)


LARGE_EVENT = b"POST /v1/packs/P/events HTTP/1.1\r\nHost: localhost\r\n"
REFUSED = [
    (LARGE_EVENT, 413),
    (LARGE_EVENT.replace(b"localhost", b"evil.test"), 403),
    (LARGE_EVENT + b"Origin: http://evil.test\r\n", 403),
    (LARGE_EVENT.replace(b"/v1/packs/P/events", b"/nowhere"), 404),
    (LARGE_EVENT.replace(b"/v1/packs/P/events", b"/v1"), 405),
    (LARGE_EVENT.replace(b"localhost", b"a b"), 400),
    (LARGE_EVENT + b"Host: localhost\r\n", 400),
    (LARGE_EVENT + b"X: " + b"y" * 70_000 + b"\r\n", 431),
    (LARGE_EVENT.replace(b"1.1", b"2.0"), 505),
]
CHUNK = b"%x\r\n" % 65_536 + b"x" * 65_536 + b"\r\n"


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_refusal_arrives_although_the_body_is_still_being_sent(
    connect: Callable[[], Awaitable[Wire]], is_chunked: bool
) -> None:
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % (40 * 65_536)
    for head, status in REFUSED:
        wire = await connect()
        await wire.send(head + b"Connection: close\r\n" + framing + b"\r\n\r\n")
        await wire.send(*[CHUNK if is_chunked else b"x" * 65_536] * 40)
        if is_chunked:
            await wire.send(b"0\r\n\r\n")
        answer = await wire.answer()
        assert (answer[0], answer[1]["connection"]) == (status, "close"), head
        await wire.close()


async def test_a_refusal_arrives_although_another_request_follows(server: Server) -> None:
    wire = await server.connect()
    await wire.send(request("POST", "/nowhere", b"x" * 3_000_000), request("GET", "/v1") * 100)
    answer = await wire.answer()
    assert (answer[0], answer[1]["connection"]) == (404, "close")
    assert await wire.rest() == b""


async def test_the_rest_of_a_small_body_is_skipped_and_the_connection_kept(wire: Wire) -> None:
    head, body = request("POST", "/nowhere", b"x" * 500_000).split(b"\r\n\r\n")
    assert (await wire.ask(head + b"\r\n\r\n"))[0] == 404
    await wire.send(body, request("GET", "/v1"))
    assert (await wire.answer())[0] == 200


async def test_who_sends_on_without_end_after_a_refusal_is_hung_up_on(
    service: Service, options: Options
) -> None:
    async with running(create_app(service, options), http=Impatient) as server:
        wire = await server.connect()
        await wire.send(
            request("POST", "/nowhere", b"").replace(b"Length: 0", b"Length: 999999999")
        )
        assert (await wire.answer())[0] == 404
        while server.connection_count:
            await wire.try_to_send(b"x" * 100)
            await asyncio.sleep(0.01)


async def test_a_client_that_expected_to_be_told_may_send_the_body_all_the_same(wire: Wire) -> None:
    head = request(
        "POST", "/nowhere", b"x" * 3_000_000, "Expect: 100-continue", "Connection: close"
    )
    await wire.send(head)
    assert (await wire.answer())[0] == 404
