"""A load generator with minimal cost: one process, plain sockets, keep-alive, no HTTP library."""

import asyncio
import time
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
        self._waiting = asyncio.get_running_loop().create_future()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
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


class Worker:
    """A client that repeats full cycles: it posts an event, takes an action and sends its result."""

    def __init__(self, connection: Connection, timings: Timings, event: bytes, tickets: Iterator[int]) -> None:
        self.connection = connection
        self.timings = timings
        self.event = event
        self.tickets = tickets
        self.cycles = 0

    async def run(self, until: float) -> None:
        """Repeat cycles until that time on the performance counter, or until the tickets run out."""
        while time.perf_counter() < until and next(self.tickets, None) is not None:
            await self._call("event", "/v1/packs/Source/events", self.event, 202)
            while not await self._work():
                pass
            self.cycles += 1

    async def _work(self) -> bool:
        began = time.perf_counter()
        status, body = await self.connection.request("POST", "/v1/packs/Worker/actions/take", b"null")
        self.timings.add("take", began)
        if status == 204:
            return False
        href: str = msgspec.json.decode(body)["links"][0]["href"]
        await self._call("result", href[href.index("/v1/") :], b'{"event":"Done","payload":{"exit_code":0}}', 202)
        return True

    async def _call(self, name: str, path: str, body: bytes, expected: int) -> None:
        began = time.perf_counter()
        status, answer = await self.connection.request("POST", path, body)
        self.timings.add(name, began)
        if status != expected:
            raise RuntimeError(f"{name} answered {status}: {answer[:200]!r}")
