"""A real service on a real store, asked in process; `server` asks it through a real HTTP server.

The modules that tell whole stories run on every backend; those that need a server have a marker of
its name.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from flyteops.service import Service
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops.web.api.request import Head, Options, Request, Variable
from flyteops.web.api.response import EncodedResponse
from flyteops.web.app import Application, create_app
from flyteops.web.http.connection import Connection
from tests.shared import PLACES
from tests.support.clock import Clock

BASE = "http://flyte.test"

Place = Callable[[], contextlib.AbstractAsyncContextManager[str]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


STORIES = (
    "test_scenario",
    "test_waiting",
    "test_actions",
    "test_audit",
    "test_flows",
    "test_datastore",
    "test_packs",
    "test_names",
    "test_changes",
    "test_hook_flows",
    "test_numbers",
    "test_presence",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        is_story = metafunc.module.__name__.rpartition(".")[2] in STORIES
        metafunc.parametrize(
            "place", [pytest.param(None, id="sqlite"), *(PLACES if is_story else [])]
        )


@pytest.fixture
async def store(place: Place | None, tmp_path: Path) -> AsyncIterator[Store]:
    async with contextlib.AsyncExitStack() as stack:
        url = (
            f"sqlite:///{tmp_path}/flyte.db"
            if place is None
            else await stack.enter_async_context(place())
        )
        yield await stack.enter_async_context(open_store(url))


@pytest.fixture
async def service(store: Store, clock: Clock) -> Service:
    service = Service(store, clock=clock)
    await service.start()
    return service


@pytest.fixture
def options() -> Options:
    return Options(
        max_body_bytes=100_000,
        max_leftover_bytes=400_000,
        allowed_origins=frozenset(["https://ops.example.com"]),
    )


@pytest.fixture
async def api(service: Service, options: Options) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(service, options))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


@pytest.fixture
def register(api: httpx2.AsyncClient) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def register(name: str, **more: Any) -> dict[str, Any]:
        answer = await api.post("/v1/packs", json={"name": name, **more})
        assert answer.status_code == 201, answer.text
        pack: dict[str, Any] = answer.json()
        return pack

    return register


@pytest.fixture
def save_flow(api: httpx2.AsyncClient) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def save_flow(name: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = await api.post("/v1/flows", json={"name": name, "steps": steps, **more})
        assert answer.status_code == 201, answer.text
        flow: dict[str, Any] = answer.json()
        return flow

    return save_flow


@pytest.fixture
def step() -> Callable[..., dict[str, Any]]:
    def step(event: str, command: str, **more: Any) -> dict[str, Any]:
        """Return a step from "Pack/Event" to "Pack/Command"; `input` and `labels` go to the
        command, the rest to the step.
        """
        from_pack, event_name = event.split("/")
        to_pack, command_name = command.split("/")
        what: dict[str, Any] = {"name": command_name, "packName": to_pack}
        if "input" in more:
            what["input"] = more.pop("input")
        if "labels" in more:
            what["packLabels"] = more.pop("labels")
        return {"event": {"name": event_name, "packName": from_pack}, "command": what, **more}

    return step


class Wire:
    """A connection on which bytes are written and read as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._writer.write(chunk)
            await self._writer.drain()

    async def try_to_send(self, data: bytes) -> None:
        """Send, though the server may have hung up."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    async def answer(self, *, to_head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: its status, headers and body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        status = int(first.split()[1])
        body = (
            b""
            if status < 200 or to_head
            else await self._reader.readexactly(int(headers.get("content-length", "0")))
        )
        return status, headers, body

    async def ask(self, *chunks: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(*chunks)
        return await self.answer()

    async def rest(self) -> bytes:
        """Read until the server hangs up."""
        return await self._reader.read()

    def end_sending(self) -> None:
        """Close the sending side, as `nc -N` does."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Break the connection off with a reset, which tells the server at once that nobody is
        there any more.
        """
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Server:
    """A running HTTP server."""

    def __init__(self, port: int, uvicorn_server: uvicorn.Server) -> None:
        self.port = port
        self.config = uvicorn_server.config
        self._uvicorn = uvicorn_server
        self._wires: list[Wire] = []

    @property
    def connection_count(self) -> int:
        return len(self._uvicorn.server_state.connections)

    def stop(self) -> None:
        """Begin to stop."""
        self._uvicorn.should_exit = True

    async def connect(self, tls: ssl.SSLContext | None = None) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls))
        self._wires.append(wire)
        return wire

    async def hang_up(self) -> None:
        """Close all wires, and return when the server has noticed."""
        for wire in self._wires:
            await wire.close()
        if self._wires:
            with contextlib.suppress(TimeoutError):  # others may be connected, too
                async with asyncio.timeout(5):
                    while self.connection_count:  # noqa: ASYNC110 - nothing tells it
                        await asyncio.sleep(0.001)


class Asked(Request):
    """A request without a body or a connection."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            method, path, b"", Head({}, ("http", ("flyte.test", 80))), Variable(), None, b""
        )

    async def receive(self) -> bytes:
        raise NotImplementedError

    def watch_client(self) -> None:
        pass


class Wrapped:
    """An application inside another, which sees each request."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.reader = app.reader
        self.traffic = app.traffic

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As uvicorn expects of an application; the server itself calls `respond`."""
        raise NotImplementedError

    async def respond(self, request: Request) -> EncodedResponse | None:
        return await self._app.respond(request)


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextlib.asynccontextmanager
async def running(app: Any, **settings: Any) -> AsyncIterator[Server]:
    """Run the app in a real HTTP server for a while."""
    settings = {
        "lifespan": "off",
        "log_config": None,
        "http": Connection,
        "proxy_headers": False,
        "timeout_graceful_shutdown": 1,
        **settings,
    }
    uvicorn_server = _Uvicorn(uvicorn.Config(app, **settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(uvicorn_server._serve([listener]))
        await uvicorn_server.ready.wait()
        server = Server(listener.getsockname()[1], uvicorn_server)
        yield server
        await server.hang_up()
        server.stop()
        await task


@pytest.fixture
async def server(service: Service, options: Options) -> AsyncIterator[Server]:
    async with running(create_app(service, options)) as server:
        yield server
