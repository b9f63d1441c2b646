"""HTTP/1.1 on plain connections, in few steps: requests in one write, responses read as a whole.

A pack makes a request for each action, and the general transport of the HTTP library took most of
its CPU. This one leaves all that is rare to that transport: TLS, large bodies, and connections that
cannot be made, with the reasons.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

import httpx2

from flyteops.sdk.fork import PrivateSocket, forks

MAX_BODY = 65_536
"""The largest body of a request in bytes that is sent in one write with its head."""

MAX_HEAD = 262_144
"""The maximum length of the head of a response, and of a line between two chunks."""

_NO_BODY = (204, 304)

_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The characters of header names, RFC 9110 section 5.6.2."""

_HEX_DIGITS = b"0123456789abcdefABCDEF"

Origin = tuple[str, int]
Fields = list[tuple[bytes, bytes]]


class PlainTransport(httpx2.AsyncBaseTransport):
    """Sends requests on connections that are kept for the next ones.

    `protect` receives each new socket, and the mark of the forks before it was made.
    """

    def __init__(
        self,
        general: httpx2.AsyncBaseTransport,
        protect: Callable[[PrivateSocket, int], None],
        *,
        keep_alive: float,
        max_idle: int,
    ) -> None:
        self._general = general
        self._protect = protect
        self._keep_alive = keep_alive
        self._max_idle = max_idle
        self._idle: list[tuple[float, Origin, _Connection]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        message = _message(request) if _is_plain(request) else None
        if message is None:
            return await self._general.handle_async_request(request)
        timeouts = request.extensions.get("timeout", {})
        origin = request.url.host, request.url.port or 80
        connection = self._kept(origin)
        if connection is None:
            try:
                connection = await self._connect(origin, timeouts.get("connect"))
            except OSError:  # nothing was sent; the general one finds the reason, or another way
                return await self._general.handle_async_request(request)
        try:
            response = await connection.exchange(
                message, timeouts.get("read"), is_head=request.method == "HEAD"
            )
        except BaseException:  # after any failure, a response may still be on its way
            connection.close()
            raise
        if connection.is_reusable:
            self._keep(origin, connection)
        else:
            connection.close()
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()
        await self._general.aclose()

    def _kept(self, origin: Origin) -> "_Connection | None":
        """Return the connection to an origin that was used last, and close outdated ones."""
        oldest, loop = time.monotonic() - self._keep_alive, asyncio.get_running_loop()
        found: _Connection | None = None
        left: list[tuple[float, Origin, _Connection]] = []
        for entry in reversed(self._idle):
            since, to, connection = entry
            if since < oldest or not connection.is_reusable or connection.loop is not loop:
                connection.close()
            elif to == origin and found is None:
                found = connection
            else:
                left.append(entry)
        left.reverse()
        self._idle = left
        return found

    def _keep(self, origin: Origin, connection: "_Connection") -> None:
        self._idle.append((time.monotonic(), origin, connection))
        if len(self._idle) > self._max_idle:
            self._idle.pop(0)[2].close()

    async def _connect(self, origin: Origin, patience: float | None) -> "_Connection":
        loop, begun = asyncio.get_running_loop(), forks.mark()
        try:
            async with asyncio.timeout(patience):
                transport, connection = await loop.create_connection(
                    lambda: _Connection(loop), *origin, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("timed out") from error
        self._protect(PrivateSocket(transport.get_extra_info("socket")), begun)
        return connection


class _Connection(asyncio.Protocol):
    """A connection, on which one request at a time is sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.is_reusable = True
        self._buffer = bytearray()
        self._is_at_end = False
        self._arrived: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._arrived is None:
            self.is_reusable = False  # nothing was asked for
        else:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable, self._is_at_end = False, True
        self._wake()

    def close(self) -> None:
        self.is_reusable = False
        if self._transport is not None:
            self._transport.close()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def exchange(
        self, message: bytes, patience: float | None, *, is_head: bool
    ) -> httpx2.Response:
        """Send a request and return its response.

        The patience in seconds applies to each wait for data.
        """
        if self._transport is None or self._is_at_end:
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        self._arrived = self.loop.create_future()
        self._transport.write(message)
        try:
            status, fields = await self._read_head(patience)
            while status < 200:  # more follows
                status, fields = await self._read_head(patience)
            content = b""
            if not is_head and status not in _NO_BODY:
                content = await self._read_body(fields, patience)
        finally:
            self._arrived = None
        if self._buffer:
            self.is_reusable = False
        return httpx2.Response(status, headers=fields, content=content)

    async def _more(self, patience: float | None) -> None:
        """Wait for more data; raise `RemoteProtocolError` at the end of it."""
        if self._is_at_end:
            began = "in the middle of" if self._buffer else "without sending"
            raise httpx2.RemoteProtocolError(f"Server disconnected {began} a response.")
        if self._arrived is None or self._arrived.done():
            self._arrived = self.loop.create_future()
        arrived = self._arrived
        timer = None if patience is None else self.loop.call_later(patience, _expire, arrived)
        try:
            await arrived
        finally:
            if timer is not None:
                timer.cancel()

    async def _read_head(self, patience: float | None) -> tuple[int, Fields]:
        lines = (await self._take_until(b"\r\n\r\n", patience)).split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            raise httpx2.RemoteProtocolError(f"not an HTTP response: {lines[0][:100]!r}")
        fields: Fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name[-1:].isspace() or name[:1].isspace():
                raise httpx2.RemoteProtocolError(f"not a header line: {line[:100]!r}")
            fields.append((name, value.strip(b" \t")))
        asked = b",".join(_values(fields, b"connection")).lower()
        if version != b"HTTP/1.1" or b"close" in asked:
            self.is_reusable = False
        return int(code), fields

    async def _read_body(self, fields: Fields, patience: float | None) -> bytes:
        codings, lengths = _values(fields, b"transfer-encoding"), _values(fields, b"content-length")
        if codings:
            if [each.lower() for each in codings] != [b"chunked"]:
                raise httpx2.RemoteProtocolError(f"unknown transfer encoding {codings[0]!r}")
            return await self._read_chunks(patience)
        if lengths:
            if len(set(lengths)) > 1 or not lengths[0].isdigit():
                raise httpx2.RemoteProtocolError(f"not a length: {lengths[0][:100]!r}")
            return await self._take(int(lengths[0]), patience)
        self.is_reusable = False
        while not self._is_at_end:
            await self._more(patience)
        return await self._take(len(self._buffer), patience)

    async def _read_chunks(self, patience: float | None) -> bytes:
        parts: list[bytes] = []
        while True:
            line = (await self._take_until(b"\r\n", patience)).partition(b";")[0].strip()
            if not line or line.translate(None, _HEX_DIGITS):
                raise httpx2.RemoteProtocolError(f"not a chunk: {line[:100]!r}")
            size = int(line, 16)
            if not size:
                break
            parts.append(await self._take(size, patience))
            if await self._take(2, patience) != b"\r\n":
                raise httpx2.RemoteProtocolError("a chunk is longer than announced")
        while await self._take_until(b"\r\n", patience):
            pass  # fields after the body
        return b"".join(parts)

    async def _take(self, size: int, patience: float | None) -> bytes:
        while len(self._buffer) < size:
            await self._more(patience)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _take_until(self, end: bytes, patience: float | None) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise httpx2.RemoteProtocolError("the head of the response is too long")
            await self._more(patience)
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken


def _expire(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_exception(httpx2.ReadTimeout("timed out"))


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _is_plain(request: httpx2.Request) -> bool:
    """Return whether this transport can send a request."""
    length = request.headers.get("Content-Length", "0")
    return (
        request.url.scheme == "http"
        and "Transfer-Encoding" not in request.headers
        and int(length) <= MAX_BODY
        and isinstance(request.stream, httpx2.ByteStream)
    )


def _message(request: httpx2.Request) -> bytes | None:
    """Return head and body of a request as they are sent; None if the head is not valid."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % field for field in request.headers.raw]
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head:
        return None
    if _NAMES.fullmatch(b"".join([name for name, _ in request.headers.raw])) is None:
        return None
    return b"%b\r\n\r\n%b" % (head, request.content)
