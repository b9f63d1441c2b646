"""The two readers of requests: they make the same request of the same bytes, however these are
split.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flyteops.model import PackDeclaration
from flyteops.service import Service, TokenRequest
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api.request import Options, Request
from flyteops.web.api.response import EncodedResponse
from flyteops.web.api.routes import OPERATIONS
from flyteops.web.app import Application, create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.http.exchange import ClientConnection, Exchange
from flyteops.web.http.reader import WholeRequestReader
from tests.api.conftest import Clock, Server, Wire, Wrapped, running

LIMIT = 20_000


class Seeing(Wrapped):
    """Keeps the requests that it sees, as they were before they were handled."""

    def __init__(self, app: Application, seen: list[Request]) -> None:
        super().__init__(app)
        self._seen = seen

    async def respond(self, request: Request) -> EncodedResponse | None:
        self._seen.append(request)
        return await super().respond(request)


def parts_of(request: Request) -> tuple[object, ...]:
    """Return all that a reader knows of a request."""
    head = request.head
    formats = (head.is_form, head.is_yaml, head.wants_yaml)
    return (
        request.method,
        request.path,
        request.query_string,
        dict(request.all_headers),
        request.variable,
        formats,
    )


FLOW = {
    "event": {"name": "E", "packName": "P"},
    "command": {"name": "C", "packName": "P", "input": "{{ Event.Payload }}"},
}
TIMED = {
    "event": {"name": "T", "packName": "P"},
    "command": {"name": "D", "packName": "P", "timeout": "1h"},
}
GO = "User-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\nAccept-Encoding: gzip"
EVENT = b'{"event":"E","payload":{"a":1}}'
RESULT = b'{"event":"R","payload":"done"}'


def request(
    path: str, body: bytes = b"", headers: str = GO, *, line: str = "POST {} HTTP/1.1"
) -> bytes:
    head = f"{line.format(path)}\r\nHost: flyte.test\r\nContent-Length: {len(body)}\r\n"
    return (head + (headers and headers + "\r\n") + "\r\n").encode() + body


class CountingReader(WholeRequestReader):
    """Keeps the requests that it makes, and counts its attempts."""

    def __init__(
        self, reads_body: Callable[[str, str], bool], longest_body: int, heads_kept: int
    ) -> None:
        super().__init__(reads_body, longest_body, heads_kept)
        self.made: list[Exchange] = []
        self.attempts = 0

    def read(self, data: bytes, connection: ClientConnection) -> Exchange | None:
        found = super().read(data, connection)
        self.attempts += 1
        if found is not None:
            self.made.append(found)
        return found


class Twin:
    """One of two servers that are the same but for their readers: one has the incremental reader
    only.

    It counts the requests of each reader.
    """

    def __init__(
        self, service: Service, *, reads_whole: bool, authenticator: Authenticator | None = None
    ) -> None:
        options = Options(
            max_body_bytes=LIMIT, allowed_origins=frozenset(["https://ops.example.com"])
        )
        self.app = create_app(service, options, authenticator)
        self.reader = CountingReader(self.app.reads_body, LIMIT, heads_kept=5)
        self.seen: list[Request] = []
        app = Seeing(self.app, self.seen)
        app.reader = self.reader if reads_whole else None
        self.wrapped = app
        self.server: Server
        self.wire: Wire

    @property
    def whole(self) -> int:
        """The number of requests that were read as a whole."""
        made = {id(each) for each in self.reader.made}
        return sum(id(each) in made for each in self.seen)

    @property
    def counted(self) -> int:
        """The number of requests that were read incrementally."""
        return len(self.seen) - self.whole

    async def ask(self, *data: bytes) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = await self.wire.ask(*data)
        headers.pop("date", None)  # there is none when what came is no request
        if "location" in headers:
            headers["location"] = headers["location"].replace(str(self.server.port), "PORT")
        return status, headers, body


class Twins:
    """Two servers that are asked the same."""

    def __init__(self, whole: Twin, incremental: Twin) -> None:
        self.whole = whole
        self.incremental = incremental

    async def ask(self, *data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the answer that both have given to the same request."""
        before = len(self.whole.seen), len(self.incremental.seen)
        answer = await self.whole.ask(*data)
        assert answer == await self.incremental.ask(*data)
        seen = self.whole.seen[before[0] :], self.incremental.seen[before[1] :]
        assert [parts_of(each) for each in seen[0]] == [parts_of(each) for each in seen[1]]
        return answer

    async def ask_slowly(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send parts so that the server which reads whole requests sees the first one alone."""
        attempts = self.whole.reader.attempts
        for twin in (self.whole, self.incremental):
            await twin.wire.send(parts[0])
        await until(lambda: self.whole.reader.attempts > attempts)
        return await self.ask(*parts[1:])

    async def reconnect(self) -> None:
        for twin in (self.whole, self.incremental):
            await twin.wire.close()
            twin.wire = await twin.server.connect()

    async def take(self) -> str:
        """Return the path for the result of the next action."""
        status, _, body = await self.ask(request("/v1/packs/P/actions/take"))
        assert status == 200
        href: str = json.loads(body)["links"][0]["href"]
        return href.removeprefix("http://flyte.test")


@asynccontextmanager
async def making_twins(folder: Path) -> AsyncIterator[Twins]:
    async with AsyncExitStack() as stack:
        twins = []
        for number in range(2):
            store = await stack.enter_async_context(SqliteStore(folder / f"{number}.db"))
            seeds = itertools.count()
            service = Service(
                store, clock=Clock(), seeds=lambda seeds=seeds: next(seeds).to_bytes(16)
            )  # type: ignore[misc]
            await service.start()
            twins.append(twin := Twin(service, reads_whole=number == 0))
            twin.server = await stack.enter_async_context(running(twin.wrapped))
            twin.wire = await twin.server.connect()
        both = Twins(*twins)
        await both.ask(request("/v1/packs", b'{"name":"P"}'))
        await both.ask(
            request("/v1/flows", json.dumps({"name": "f", "steps": [FLOW, TIMED]}).encode())
        )
        yield both


@pytest.fixture
async def twins(tmp_path: Path) -> AsyncIterator[Twins]:
    async with making_twins(tmp_path) as twins:
        yield twins


async def test_what_packs_send_all_day_is_read_as_a_whole(twins: Twins) -> None:
    take = "/v1/packs/P/actions/take"
    for _ in range(3):
        assert (await twins.ask(request(take, b"null")))[0] == 204
        assert (await twins.ask(request("/v1/packs/P/events", EVENT)))[0] == 202
        assert (await twins.ask(request(f"{take}?commandName=Other", b"")))[0] == 204
        result = await twins.take()
        assert (await twins.ask(request(result, RESULT)))[0] == 202
        assert (await twins.ask(request(result, RESULT)))[0] == 202  # again
        assert (await twins.ask(request(result, EVENT)))[0] == 409
    assert (await twins.ask(request("/v1/packs/P/events", b'{"event":"T"}')))[0] == 202
    result = await twins.take()
    assert "lease=" in result
    assert (await twins.ask(request(result, RESULT)))[0] == 202
    keyed = f"{GO}\r\nIdempotency-Key: k1"
    first = await twins.ask(request("/v1/packs/P/events", EVENT, keyed))
    assert await twins.ask(request("/v1/packs/P/events", EVENT, keyed)) == first
    assert (await twins.ask(request("/v1/packs/Q/events", EVENT)))[0] == 404
    assert (await twins.ask(request("/v1/packs/Q/actions/take")))[0] == 404
    assert (await twins.ask(request("/v1/packs/P/actions/none/result", RESULT)))[0] == 404
    assert (twins.whole.counted, twins.incremental.counted > 20) == (0, True)
    assert twins.whole.whole == twins.incremental.counted


EVENTS = "/v1/packs/P/events"

SPECIAL: dict[str, tuple[int, Any]] = {
    "YAML comes": (202, request(EVENTS, b"event: E\n", "Content-Type: application/x-yaml")),
    "YAML is asked for": (202, request(EVENTS, EVENT, "Accept: application/x-yaml")),
    "the page of another site asks": (
        403,
        request(EVENTS, EVENT, "Origin: https://evil.example.com"),
    ),
    "a page that may asks": (202, request(EVENTS, EVENT, "Origin: https://ops.example.com")),
    "a browser says so": (403, request(EVENTS, EVENT, "Sec-Fetch-Site: cross-site")),
    "the connection ends": (202, request(EVENTS, EVENT, "Connection: close")),
    "the connection ends with a take": (
        204,
        request("/v1/packs/P/actions/take?actionName=X", headers="Connection: close"),
    ),
    "no action can be named so": (404, request("/v1/packs/P/actions/take/result", RESULT)),
    "an old protocol": (202, request(EVENTS, EVENT, line="POST {} HTTP/1.0")),
    "another method": (405, request(EVENTS, EVENT, line="PUT {} HTTP/1.1")),
    "half a character": (202, request(EVENTS, b'{"event":"E","payload":"\\ud800"}')),
    "no JSON": (400, request(EVENTS, b'{"event":"E"')),
    "no event": (400, request(EVENTS, b"[]")),
    "too long": (413, request(EVENTS, b'{"event":"E","payload":"%b"}' % (b"x" * LIMIT))),
    "a key that is none": (400, request(EVENTS, EVENT, "Idempotency-Key: " + "k" * 300)),
    "more slashes": (202, request(EVENTS + "/", EVENT)),
    "an escaped path": (202, request("/v1/packs/%50/events", EVENT)),
    "a query": (202, request(EVENTS + "?a=b", EVENT)),
    "a list is asked for": (200, request("/v1/packs/P/actions/take?max=2")),
    "a query that is wrong": (400, request("/v1/packs/P/actions/take?wait=x")),
    "two names": (200, request("/v1/packs/P/actions/take?commandName=C&actionName=C")),
    "a padded key": (202, request(EVENTS, EVENT, "Idempotency-Key: padded ")),
    "an odd method": (405, request(EVENTS, EVENT, line="PATCH {} HTTP/1.1")),
    "a long target": (202, request(f"{EVENTS}?a={'b' * 2000}", EVENT)),
    "large headers": (202, request(EVENTS, EVENT, "X-Large: " + "x" * 5000)),
    "chunks": (
        202,
        request(EVENTS, b"1f\r\n" + EVENT + b"\r\n0\r\n\r\n").replace(
            b"Content-Length: 42", b"Transfer-Encoding: chunked"
        ),
    ),
    "no length": (400, request(EVENTS).replace(b"Content-Length: 0\r\n", b"")),
}


INCREMENTAL = {
    "an old protocol",
    "a key that is none",
    "a padded key",
    "large headers",
    "chunks",
    "an odd method",
    "a long target",
}
"""The requests that are left to the incremental reader."""


async def test_special_requests_are_the_same_for_both_readers(twins: Twins) -> None:
    for what, (status, data) in SPECIAL.items():
        before = twins.whole.counted
        for _ in range(2):  # the second time, its head has been seen before
            assert (what, (await twins.ask(data))[0]) == (what, status)
            await twins.reconnect()
        assert (what, twins.whole.counted) == (what, before + (2 if what in INCREMENTAL else 0))


async def test_every_route_is_read_as_a_whole(twins: Twins) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{", "").replace("}", "")
        assert (await twins.ask(request(path, b"[]", line=f"{operation.method} {{}} HTTP/1.1")))[
            0
        ] < 500
    assert (twins.whole.counted, twins.whole.whole > len(OPERATIONS)) == (0, True)


@pytest.mark.parametrize(
    "data",
    [b"no request", request(EVENTS, EVENT, "Content-Length: 1"), request(EVENTS, EVENT, "X y: z")],
)
async def test_malformed_requests_are_refused_by_both_readers(twins: Twins, data: bytes) -> None:
    assert (await twins.ask(data))[0] == 400


async def test_a_client_that_sends_its_body_at_once_gets_no_interim_response(twins: Twins) -> None:
    assert (await twins.ask(request(EVENTS, EVENT, "Expect: 100-continue")))[0] == 202


async def test_what_comes_in_pieces_or_together_is_answered_all_the_same(twins: Twins) -> None:
    event, take = request(EVENTS, EVENT), request("/v1/packs/P/actions/take")
    await twins.ask(event[:-5], event[-5:])
    for twin in (twins.whole, twins.incremental):
        await twin.wire.send(event + take[:20], take[20:] + take + event, take)
        assert [(await twin.wire.answer())[0] for _ in range(5)] == [202, 200, 200, 202, 200]
    assert (await twins.ask(take))[0] == 204


async def test_head_and_body_that_come_apart_are_read_as_a_whole(twins: Twins) -> None:
    for _ in range(2):
        event = request(EVENTS, EVENT)
        assert (await twins.ask_slowly(event[:-31], event[-31:]))[0] == 202
        assert (await twins.ask_slowly(event[:-40], event[-40:-5], event[-5:]))[0] == 202
    assert twins.whole.counted == 2  # a body in many parts is not waited for


async def test_white_space_around_a_header_is_not_part_of_it(twins: Twins) -> None:
    first = await twins.ask(request(EVENTS, EVENT, f"{GO}\r\nIdempotency-Key: once"))
    for line in ("Idempotency-Key: once \t", "IDEMPOTENCY-KEY:  once ", "idempotency-key:once"):
        again = await twins.ask(request(EVENTS, EVENT, f"{GO}\r\n{line}"))
        assert again[1]["location"] == first[1]["location"]


async def test_a_request_without_headers_does_not_borrow_those_of_the_next(twins: Twins) -> None:
    bare = f"POST {EVENTS} HTTP/1.1\r\n\r\n".encode()
    for twin in (twins.whole, twins.incremental):
        await twin.wire.send(bare + request("/v1/packs/Q/events", EVENT))
        # Without a Host, it is the last on its connection.
        assert (await twin.wire.answer())[0] == 400
        assert await twin.wire.rest() == b""


async def test_line_ends_between_requests_do_not_add_up(twins: Twins) -> None:
    for _ in range(5):
        assert (await twins.ask(request(EVENTS, EVENT)))[0] == 202
        for twin in (twins.whole, twins.incremental):
            await twin.wire.send(b"\r\n" * 10_000)
            # What it is answered comes after the line ends have been read.
            other = await twin.server.connect()
            assert (await other.ask(request(EVENTS, EVENT)))[0] == 202
    assert twins.whole.counted == 0


async def test_by_which_name_the_server_is_known_is_heard_for_each_request(twins: Twins) -> None:
    names = ["a.test", "b.test:81"]
    for name in [*names, *names]:
        _, headers, _ = await twins.ask(
            request(EVENTS, EVENT, f"X-Flyte-Host: {name}\r\nX-Forwarded-Proto: https")
        )
        assert headers["location"].startswith(f"https://{name}/v1/audit/events/")
    for name in ("a b", ""):
        nameless = request(EVENTS, EVENT, f"X-Flyte-Host: {name}").replace(
            b"Host: flyte.test\r\n", b"Host:\r\n"
        )
        assert (await twins.ask(nameless))[1]["location"].startswith(
            "http://127.0.0.1:PORT/v1/audit/events/"
        )
    assert twins.whole.counted == 0


async def test_any_number_of_different_headers_is_known(twins: Twins) -> None:
    for number in range(10):
        assert (await twins.ask(request(EVENTS, EVENT, f"X-Request-Id: {number}")))[0] == 202
    assert twins.whole.counted == 0


async def test_whole_requests_are_authorized(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "flyte.db") as store:
        service = Service(store, clock=Clock())
        await service.start()
        for name in ("P", "Q"):
            await service.packs.register(PackDeclaration(name))
        token, text = await service.tokens.create(TokenRequest(pack_name="P"))
        twin = Twin(service, reads_whole=True, authenticator=Authenticator(service.tokens))
        async with running(twin.wrapped) as twin.server:
            twin.wire = await twin.server.connect()

            async def asked(name: str, *headers: str) -> int:
                paths = (
                    f"/v1/packs/{name}/events",
                    f"/v1/packs/{name}/actions/take",
                    f"/v1/packs/{name}/actions/x/result",
                )
                answers = [
                    await twin.ask(request(path, EVENT, "\r\n".join([GO, *headers])))
                    for path in paths
                ]
                statuses = {status for status, _, _ in answers}
                return 401 if statuses == {401} else 202 if statuses == {202, 204, 404} else 0

            bearer = f"Authorization: Bearer {text}"
            assert [await asked("P"), await asked("P", bearer), await asked("Q", bearer)] == [
                401,
                202,
                401,
            ]
            await service.tokens.revoke(token.token_id)
            assert await asked("P", bearer) == 401
            assert twin.counted == 0
            # Without a token, nobody makes the server hold a large first part until the rest comes.
            event = request(EVENTS, b"x" * LIMIT)
            await twin.wire.send(event[:-1])
            assert (await twin.wire.answer())[0] == 401


NAMES = st.sampled_from(["P", "Q", "%50", "P.", ""])
METHODS = st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
PATHS = st.one_of(
    st.sampled_from(
        [
            "/",
            "/v1",
            "/v1/",
            "//v1",
            "/v1/packs?limit=1",
            "/v1/flows/f",
            "/v1/none",
            "/v1?a#b",
            "*",
            "http://a.test/v1",
        ]
    ),
    NAMES.map(lambda name: f"/v1/packs/{name}/events"),
    st.tuples(
        NAMES,
        st.sampled_from(["", "?commandName=C", "?actionName=D", "?max=1", "?", "?commandName="]),
    ).map(lambda parts: f"/v1/packs/{parts[0]}/actions/take{parts[1]}"),
    st.tuples(NAMES, st.sampled_from(["{}", "{}?lease=x", "{}?lease", "x"])).map(
        lambda parts: (
            f"/v1/packs/{parts[0]}/actions/{parts[1].replace('{}', 'LAST').replace('?', '/result?')}"
        )
    ),
)
HEADERS = st.lists(
    st.sampled_from(
        [
            GO,
            "Accept: */*",
            "Accept: application/yaml;q=0.5, application/json;q=0.4",
            "content-type: text/plain",
            "CONTENT-TYPE: text/yaml; charset=utf-8",
            "Origin: http://flyte.test",
            "Host: other.test",
            "Idempotency-Key: one",
            "Idempotency-Key: \xe9",
            "X-Flyte-Host: ops.test",
            "X-Forwarded-Proto: HTTPS",
            "Connection: keep-alive",
            "Connection: Close",
            "Content-Length: 31",
            " folded",
            "Transfer-Encoding: identity",
            "IDEMPOTENCY-KEY: two",
            "Idempotency-key:three",
            "idempotency-key: \t four",
            "content-length: 31",
            "Sec-Fetch-Site: cross-site",
            "Upgrade: h2c",
            "Connection: upgrade",
            "X-Bare: a\nContent-Length: 1",
        ]
    ),
    max_size=4,
)
BODIES = st.one_of(
    st.sampled_from(
        [
            EVENT,
            RESULT,
            b"",
            b"null",
            b'{"event":"T","createdAt":"2026-01-01T00:00:00Z"}',
            b'{"event":"E","createdAt":"x"}',
        ]
    ),
    st.recursive(
        st.none() | st.text(max_size=5) | st.floats(), lambda inner: st.lists(inner, max_size=3)
    ).map(lambda value: json.dumps({"event": "E", "payload": value}).encode()),
    st.binary(max_size=20),
)


async def test_both_readers_make_the_same_request(twins: Twins) -> None:
    loop = asyncio.get_running_loop()

    @settings(max_examples=300, deadline=None)
    @given(METHODS, PATHS, HEADERS, BODIES, st.lists(st.integers(0, 500), max_size=3))
    def same(method: str, path: str, headers: list[str], body: bytes, cuts: list[int]) -> None:
        data = request(path, body, "\r\n".join(headers), line=f"{method} {{}} HTTP/1.1")
        ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
        parts = [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        asyncio.run_coroutine_threadsafe(asked(*parts), loop).result()

    async def asked(*parts: bytes) -> None:
        await twins.reconnect()
        await twins.ask(*parts)

    await asyncio.to_thread(same)
    assert 0 < twins.whole.counted < twins.incremental.counted


class HeldStore(SqliteStore):
    """A store that, once it is held, keeps what it has claimed and recorded to itself until it is
    let go.

    When it `spoils`, what it has claimed has names that cannot be written.
    """

    spoils = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.has_done, self.may_tell = asyncio.Event(), asyncio.Event()
        self.may_tell.set()

    def hold(self) -> None:
        self.has_done.clear()
        self.may_tell.clear()

    async def _told(self, what: Any) -> Any:
        self.has_done.set()
        await self.may_tell.wait()
        return what

    async def claim(self, *args: Any, **more: Any) -> Any:
        claimed = await self._told(await super().claim(*args, **more))
        return [replace(each, name="\ud800") for each in claimed] if self.spoils else claimed

    async def record(self, *args: Any, **more: Any) -> Any:
        return await self._told(await super().record(*args, **more))


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[HeldStore]:
    async with HeldStore(tmp_path / "held.db") as store:
        yield store


@pytest.fixture
async def twin(held: HeldStore) -> AsyncIterator[Twin]:
    service = Service(held, clock=Clock())
    await service.start()
    twin = Twin(service, reads_whole=True)
    async with running(twin.wrapped, timeout_graceful_shutdown=10) as twin.server:
        twin.wire = await twin.server.connect()
        await twin.ask(request("/v1/packs", b'{"name":"P"}'))
        await twin.ask(request("/v1/flows", json.dumps({"name": "f", "steps": [FLOW]}).encode()))
        yield twin


async def test_what_a_client_takes_that_leaves_meanwhile_goes_to_others(
    twin: Twin, held: HeldStore
) -> None:
    await twin.ask(request(EVENTS, EVENT))
    gone = await twin.server.connect()
    held.hold()
    await gone.send(request("/v1/packs/P/actions/take"))
    await held.has_done.wait()
    gone.reset()
    await until(lambda: twin.server.connection_count == 1)
    held.may_tell.set()
    status, _, body = await twin.ask(request("/v1/packs/P/actions/take?wait=30"))
    assert (status, json.loads(body)["command"]) == (200, "C")


async def test_what_a_client_takes_that_closes_meanwhile_goes_to_others(
    twin: Twin, held: HeldStore
) -> None:
    """To the server, it may have closed its sending side only, until it is answered."""
    await twin.ask(request(EVENTS, EVENT))
    gone, other = await twin.server.connect(), await twin.server.connect()
    held.hold()
    await gone.send(request("/v1/packs/P/actions/take"))
    await held.has_done.wait()
    await gone.close()
    for _ in range(3):  # by then the server has seen it
        assert (await other.ask(request("/v1/nowhere")))[0] == 404
    held.may_tell.set()
    status, _, body = await twin.ask(request("/v1/packs/P/actions/take?wait=30"))
    assert (status, json.loads(body)["command"]) == (200, "C")


async def test_what_a_client_takes_that_is_cut_off_meanwhile_goes_to_others(
    twin: Twin, held: HeldStore
) -> None:
    """The action may arrive between the end of the connection and the news of it."""
    await twin.ask(request(EVENTS, EVENT))
    gone = await twin.server.connect()
    held.hold()
    await gone.send(request("/v1/packs/P/actions/take"))
    await held.has_done.wait()
    break_off = twin.seen[-1].break_off
    assert break_off is not None
    held.may_tell.set()
    break_off()
    assert await gone.rest() == b""
    status, _, body = await twin.ask(request("/v1/packs/P/actions/take?wait=30"))
    assert (status, json.loads(body)["command"]) == (200, "C")


async def test_what_has_come_in_part_when_the_server_stops_is_answered_once_it_is_whole(
    twin: Twin,
) -> None:
    event = request(EVENTS, EVENT)
    await twin.wire.send(event[:-31])
    await asyncio.sleep(0.02)
    twin.server.stop()
    await refusing(twin.server)
    status, headers, _ = await twin.wire.ask(event[-31:])
    assert (status, headers["connection"]) == (202, "close")


async def test_what_is_under_way_when_the_server_stops_is_answered(
    twin: Twin, held: HeldStore
) -> None:
    held.hold()
    await twin.wire.send(request(EVENTS, EVENT))
    await held.has_done.wait()
    twin.server.stop()
    await refusing(twin.server)
    held.may_tell.set()
    status, headers, _ = await twin.wire.answer()
    assert (status, headers["connection"], await twin.wire.rest()) == (202, "close", b"")
    assert twin.counted == 0


async def test_what_cannot_be_written_is_an_error_and_no_silence(
    twin: Twin, held: HeldStore
) -> None:
    await twin.ask(request(EVENTS, EVENT))
    held.spoils = True
    status, _, body = await twin.ask(request("/v1/packs/P/actions/take"))
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert (await twin.ask(request(EVENTS, EVENT)))[0] == 202


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0)


async def refusing(server: Server) -> None:
    """Return when the server accepts no more connections."""
    with contextlib.suppress(ConnectionError):
        while True:
            await server.connect()
