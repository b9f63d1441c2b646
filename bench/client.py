"""A load generator with minimal cost: one process, plain sockets, keep-alive, no HTTP library.

It sends two kinds of traffic: that of clients written for the original, and that of our SDK.
"""

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0 or self._waiting is None:
            return
        head = bytes(self._buffer[:head_end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head_end + 4 + length:
            return
        body = bytes(self._buffer[head_end + 4 : head_end + 4 + length])
        self._buffer.clear()
        waiting, self._waiting = self._waiting, None
        waiting.set_result((int(head[9:12]), body))

    async def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send one request and return status and body of the response."""
        lines = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._exchange(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}".encode() + body
        )

    async def request_like_sdk(
        self, path: str, body: bytes, key: str | None = None
    ) -> tuple[int, bytes]:
        """Send a POST request as our SDK does, with its header lines."""
        key_line = "" if key is None else f"Idempotency-Key: {key}\r\n"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip,"
            " deflate\r\nConnection: keep-alive\r\n"
            f"User-Agent: flyte-sdk/0.1.0\r\nAccept: application/json\r\n{key_line}Content-Type:"
            f" application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return await self._exchange(head.encode() + body)

    async def _exchange(self, data: bytes) -> tuple[int, bytes]:
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiting

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Connection:
    """Open a connection to the server on this machine."""
    _, protocol = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return protocol


@dataclass
class Timings:
    """Durations in seconds, by call."""

    by_call: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, call: str, began: float) -> None:
        self.by_call[call].append(time.perf_counter() - began)

    def percentile(self, call: str, share: float) -> float:
        """Return a percentile in milliseconds; 0 when nothing was measured."""
        values = sorted(self.by_call[call])
        return values[min(len(values) - 1, int(len(values) * share))] * 1000 if values else 0.0


class Worker(ABC):
    """A client that repeats full cycles: it posts an event, takes an action, sends its result."""

    def __init__(
        self, connection: Connection, timings: Timings, event: bytes, tickets: Iterator[int]
    ) -> None:
        self.connection = connection
        self.timings = timings
        self.event = event
        self.tickets = tickets
        self.cycles = 0

    async def run(self, until: float) -> None:
        """Repeat cycles until that time on the performance counter, or the tickets run out."""
        while time.perf_counter() < until and next(self.tickets, None) is not None:
            self.cycles += await self._run_once()

    @abstractmethod
    async def _run_once(self) -> int:
        """Run some cycles; return their number."""

    @abstractmethod
    async def _request(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a POST request; return the status and the body of the response."""

    async def _call(self, name: str, path: str, body: bytes, *expected: int) -> tuple[int, bytes]:
        began = time.perf_counter()
        status, answer = await self._request(path, body)
        self.timings.add(name, began)
        if status not in expected:
            raise RuntimeError(f"{name} answered {status}: {answer[:200]!r}")
        return status, answer

    async def _complete(self, href: str) -> None:
        await self._call(
            "result", href[href.index("/v1/") :], b'{"event":"Done","payload":{"exit_code":0}}', 202
        )


class LegacyWorker(Worker):
    """A client of the original: no keys, and one action for each take, which does not wait."""

    async def _run_once(self) -> int:
        await self._call("event", "/v1/packs/Source/events", self.event, 202)
        while True:
            status, body = await self._call(
                "take", "/v1/packs/Worker/actions/take", b"null", 200, 204
            )
            if status == 200:
                break
        await self._complete(msgspec.json.decode(body)["links"][0]["href"])
        return 1

    async def _request(self, path: str, body: bytes) -> tuple[int, bytes]:
        return await self.connection.request("POST", path, body)


class SdkWorker(Worker):
    """A pack on our SDK: events with a fresh key each, and takes that wait and ask for a list.

    It posts `batch` events and completes as many actions before the next ones. It never takes more
    than it still has to complete, so there is always an action for a worker that waits.
    """

    batch = 1

    async def _run_once(self) -> int:
        for _ in range(self.batch):
            await self._call("event", "/v1/packs/Source/events", self.event, 202)
        missing = self.batch
        while missing:
            _, body = await self._call(
                "take", f"/v1/packs/Worker/actions/take?wait=25&max={missing}", b"null", 200
            )
            actions = msgspec.json.decode(body)["actions"]
            for action in actions:
                await self._complete(action["links"][0]["href"])
            missing -= len(actions)
        return self.batch

    async def _request(self, path: str, body: bytes) -> tuple[int, bytes]:
        key = secrets.token_hex(16) if path.endswith("/events") else None
        return await self.connection.request_like_sdk(path, body, key)


class BatchingSdkWorker(SdkWorker):
    """A pack on our SDK with ten free slots, as many as it has by default."""

    batch = 10


CLIENTS: dict[str, type[Worker]] = {
    "legacy": LegacyWorker,
    "sdk": SdkWorker,
    "sdk x10": BatchingSdkWorker,
}
