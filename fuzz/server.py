"""Inputs of a server: bodies for every route with a body, and bytes on its connections."""

import asyncio
import json
import logging
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import uvicorn
from hypothesis import strategies as st
from uvicorn.server import ServerState

from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api.request import Options
from flyteops.web.app import Application, create_app
from flyteops.web.http.connection import Connection
from fuzz import sample
from fuzz.mutation import mutated, reshaped
from fuzz.target import Check, Target

OPTIONS = Options(max_body_bytes=200_000, max_leftover_bytes=400_000)

Ask = Callable[[Any], Coroutine[Any, Any, str]]
Serve = Callable[[Service], AbstractAsyncContextManager[Ask]]


class _Alarm(logging.Handler):
    """Keeps log messages about unexpected errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def check(self) -> None:
        """Raise the messages since the last check."""
        records, self.records = self.records, []
        for record in records:
            cause = None if record.exc_info is None else record.exc_info[1]
            raise AssertionError(record.getMessage()) from cause


def opening(serve: Serve) -> Callable[[], AbstractContextManager[Check]]:
    """Return the opener of a server on a store of its own, in an event loop of its own."""

    @contextmanager
    def opened() -> Iterator[Check]:
        alarm = _Alarm()
        logging.getLogger().addHandler(alarm)
        try:
            with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
                inside = _serving(folder, serve)
                ask = runner.run(inside.__aenter__())

                def check(given: Any) -> str:
                    word = runner.run(ask(given))
                    alarm.check()
                    return word

                try:
                    yield check
                finally:
                    runner.run(inside.__aexit__(None, None, None))
        finally:
            logging.getLogger().removeHandler(alarm)

    return opened


@asynccontextmanager
async def _serving(folder: str, serve: Serve) -> AsyncIterator[Ask]:
    async with SqliteStore(f"{folder}/flyte.db") as store:
        service = Service(store)
        await service.start()
        async with serve(service) as ask:
            yield ask


# ------------------------------------------------------------------------------------------- bodies

STEP = {
    "event": {"name": "E", "packName": "P"},
    "command": {"name": "C", "packName": "P", "input": "{{ Event.Payload }}"},
}
PLACEHOLDER = re.compile(r"\{(\w+)\}")
KINDS = (
    "application/json",
    "application/x-yaml",
    "text/plain",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "",
)
PATHS = ("P", "f", "k", "..", "%2e%2e", "a%2fb", "%00", "%0d%0a", "%ff", "%", "x" * 10_000, "\xe9")

BODY_WORDS = (
    b'"event": ',
    b'"payload": ',
    b'"name": ',
    b'"steps": ',
    b'"labels": ',
    b'"createdAt": "2026-01-01T00:00:00Z"',
    b'"input": ',
    b"null",
    b"true",
    b"1.5",
    b"{}",
    b"[]",
    b'""',
    b",",
    b":",
    b"event: ",
    b"payload: ",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"--b",
    b"\r\n\r\n",
    b"filename*=",
    b"Content-Type: text/html",
    b"secret",
    b"{{ Event.Payload }}",
    b"{% for %}",
    b'"\\u0000"',
    b'"__proto__": ',
    b"!!binary ",
    b"---\n",
)


def bodies() -> st.SearchStrategy[Any]:
    """Return requests.

    Each has a method, a path, its parameter if not an existing one, a content type, and a body.
    """

    def about(request: tuple[str, str, str, bytes]) -> st.SearchStrategy[Any]:
        method, path, kind, body = request
        other = st.none() | st.none() | st.sampled_from(PATHS)
        text = mutated([body], BODY_WORDS)
        if kind == "application/json":
            text |= reshaped([json.loads(body)])
        return st.tuples(
            st.just(method),
            st.just(path),
            other,
            st.just(kind) | st.just(kind) | st.sampled_from(KINDS),
            text,
        )

    return st.one_of([about(request) for request in sample.requests()])


async def call(
    app: Application, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes = b""
) -> tuple[int, bytes]:
    """Call the app like the server below it; return the checked status and body of its response."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = path.encode("latin-1")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": raw,
        "query_string": b"",
    }
    await app(
        {
            **scope,
            "headers": headers,
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        },
        receive,
        send,
    )
    status, content = sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
    assert status < 500, (status, content)
    if status >= 400:
        told = json.loads(content)
        assert told["status"] == status
        assert told["code"]
        assert b"Traceback" not in content
    return status, content


@asynccontextmanager
async def taking_bodies(service: Service) -> AsyncIterator[Ask]:
    """Serve a pack, a flow and an action in progress."""
    app = create_app(service, OPTIONS)
    json_type = [(b"content-type", b"application/json")]
    known = {"packId": "P", "flowName": "f", "key": "k"}
    await call(app, "POST", "/v1/packs", json_type, b'{"name": "P"}')
    await call(
        app, "POST", "/v1/flows", json_type, json.dumps({"name": "f", "steps": [STEP]}).encode()
    )

    async def ask(given: Any) -> str:
        method, path, other, kind, body = given
        if "{actionId}" in path:
            await call(app, "POST", "/v1/packs/P/events", json_type, b'{"event": "E"}')
            _, action = await call(app, "POST", "/v1/packs/P/actions/take", [])
            known["actionId"] = (
                json.loads(action)["links"][0]["href"].split("/")[-2] if action else "none"
            )
        place = PLACEHOLDER.sub(lambda found: other or known.get(found[1], "1"), path)
        status, _ = await call(app, method, place, [(b"content-type", kind.encode())], body)
        return f"{status // 100}xx"

    yield ask


# -------------------------------------------------------------------------------------------- bytes

WIRE_WORDS = (
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"CONNECT h:1 ",
    b"PRI * ",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b" HTTP/2.0",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"X-Forwarded-Host: a b\r\n",
    b"X-Flyte-Host: \xff\r\n",
    b"Accept: application/yaml;q=nan\r\n",
    b" folded\r\n",
    b"/../..",
    b"?wait=1e9",
    b"?limit=-1&start=99999999999999999999",
    b"#",
    b"http://h/v1",
    b"*",
    b"%",
    b"\x16\x03\x01\x02\x00",
)

SERVER_ERROR = re.compile(rb"HTTP/1\.1 5(?!01|05)\d\d ")  # 501 and 505 are about the request
ANSWER = re.compile(rb"HTTP/1\.1 (\d)\d\d ")


class Impatient(Connection):
    """Shortens waits for data that has already been sent completely."""

    idle_seconds = head_seconds = pause_seconds = 0.02


@asynccontextmanager
async def taking_bytes(service: Service) -> AsyncIterator[Ask]:
    """Serve connections."""
    app = create_app(service, OPTIONS)
    config = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    await call(app, "POST", "/v1/packs", [(b"content-type", b"application/json")], b'{"name": "P"}')
    loop, state = asyncio.get_running_loop(), ServerState()

    async def ask(given: bytes) -> str:
        ours, theirs = socket.socketpair()
        await loop.connect_accepted_socket(lambda: Impatient(config, state), theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(given)
        try:
            answer = await reader.read(-1)
        except ConnectionError:
            answer = b""
        writer.close()
        assert not SERVER_ERROR.search(answer), answer
        assert b"Traceback" not in answer
        if not answer:
            return "hung up"
        found = ANSWER.match(answer)
        assert found is not None, answer
        return f"{found[1].decode()}xx"

    yield ask


ROOMS = (
    Target("body", 20, bodies(), opening(taking_bodies)),
    Target(
        "bytes", 5, mutated(sample.raw_requests(), WIRE_WORDS, most_edits=3), opening(taking_bytes)
    ),
)
