"""One request on a connection and its answer, in terms of ASGI: the app's `receive` and `send`.

Most requests are small and received as a whole when the app begins, and most answers are one write.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from flyteops.errors import BusyError
from flyteops.web.api.problem import reply_to
from flyteops.web.api.request import CLOSE, Scope
from flyteops.web.http.traffic import Traffic

LOGGER = logging.getLogger("flyte.web")

Message = Mapping[str, Any]

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

GO_AHEAD = STATUS_LINES[100] + b"\r\n"

FAILURE: Message = {"status": 500, "headers": ((b"content-length", b"0"), CLOSE)}

PIECE = 65_536
"""Bytes of an answer that are written at once; of a larger one, no more than two such pieces wait
in the transport."""


class Line(Protocol):
    """The connection of a request."""

    transport: asyncio.Transport
    flow: FlowControl
    traffic: Traffic
    is_half_closed: bool
    """Whether the client has closed its sending side, or has gone."""

    @property
    def common(self) -> bytes:
        """The header lines that every answer has."""

    @property
    def may_skip_body(self) -> bool:
        """Whether so little is missing of the request's body that the rest can be skipped."""

    def read_on(self) -> None:
        """Resume reading after a pause."""

    async def has_arrived(self) -> bool:
        """Return whether everything written to a client that has closed its sending side has arrived."""

    def hang_up(self, *, is_whole: bool) -> None:
        """Close the connection after the pending writes.

        Unless the request `is_whole`, let the client finish sending.
        """

    def break_off(self) -> None:
        """Close the connection at once."""

    def end(self) -> None:
        """Go on with the next request, as this one has been answered."""


class Cycle:
    """A request and its answer.

    `is_whole`: the request has been received up to its end. `is_gone`: the client has left.
    `is_begun`: some of the answer has been written; `is_over`: all of it. Without `keep_alive` the
    connection ends with the answer.
    """

    __slots__ = (
        "_awaits_go_ahead",
        "_body",
        "_flow",
        "_has_news",
        "_line",
        "_start",
        "_transport",
        "_waiter",
        "is_begun",
        "is_gone",
        "is_over",
        "is_whole",
        "keep_alive",
        "scope",
    )

    def __init__(self, line: Line, scope: Scope, *, keep_alive: bool, awaits_go_ahead: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.is_whole = self.is_gone = self.is_begun = self.is_over = False
        self._line = line
        self._transport = line.transport
        self._flow = line.flow
        self._awaits_go_ahead = awaits_go_ahead
        self._body = b""
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None
        self._start = FAILURE

    # -------------------------------------------------------------------------------------------------------- receiving

    def add(self, body: bytes) -> None:
        """Add a part of the body; if the app does not keep up, pause reading."""
        self._body = self._body + body if self._body else body
        if len(self._body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self._tell()

    def complete(self) -> None:
        """Note that the request has come to its end."""
        self.is_whole = True
        self._tell()

    def leave(self) -> None:
        """Note that the client has gone."""
        self.is_gone = True
        self._tell()

    def _tell(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """Return the part of the body received since the last call; wait if there is none."""
        if self._awaits_go_ahead and not (self.is_begun or self.is_whole or self._has_news or self._transport.is_closing()):
            self._transport.write(GO_AHEAD)
        self._awaits_go_ahead = False
        while not self._has_news:
            self._line.read_on()
            if not self._has_news:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        if self.is_gone or self.is_over:
            return {"type": "http.disconnect"}
        self._has_news = False
        body, self._body = self._body, b""
        return {"type": "http.request", "body": body, "more_body": not self.is_whole}

    # ----------------------------------------------------------------------------------------------------------- answering

    async def run(self, app: Any) -> None:
        """Run the app.

        Log an exception that it should never raise, and answer with status 500 or break the answer
        off.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except ConnectionError:
            LOGGER.debug("A client went away before its answer was sent")
        except Exception:  # the request boundary of last resort
            LOGGER.exception("A request failed")
        except BaseException:  # the server stops and waits no longer
            self._transport.close()
            raise
        if not (self.is_over or self.is_gone):
            self._fail()

    def _fail(self) -> None:
        if self.is_begun:
            self._line.break_off()
        else:
            self._start = FAILURE
            self._write_first(b"")
            self._end()

    async def send(self, message: Message) -> None:
        """Send an ASGI message.

        The head is held back until the body, or a part of it, can go out with it. Raise
        `ConnectionResetError` if the client has gone, or did not receive the answer.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        if len(body) > PIECE:
            await self._write_large(body)
        else:
            await self._be_ready()
            self._write_first(body)
        if not message.get("more_body", False):
            if self._line.is_half_closed and not await self._line.has_arrived():
                self._line.break_off()
                raise ConnectionResetError
            self._end()

    async def _be_ready(self) -> None:
        """Wait until the client has read enough of the earlier writes.

        Raise `ConnectionResetError` if it has gone.
        """
        if self._flow.write_paused and not self.is_gone:
            await self._flow.drain()
        if self.is_gone:
            raise ConnectionResetError

    async def _write_large(self, body: bytes) -> None:
        transfer = self._line.traffic.begin(self._line.break_off)
        try:
            if self.scope["method"] == "GET":
                transfer.hold(len(body))
        except BusyError as error:
            reply = reply_to(error)
            content_type, body = reply.text()
            self._start = {"status": reply.status, "headers": reply.head(content_type, body)}
        try:
            await self._be_ready()
            self._write_first(body[:PIECE])
            await write_rest(self._line, body, self)
        finally:
            transfer.end()

    def _write_first(self, body: bytes) -> None:
        """Write a part of the body, with the head if it is the first."""
        if not self.is_begun:
            body = self._head(self._start["status"], self._start["headers"]) + body
            self.is_begun = True
        self._transport.write(body)

    def _end(self) -> None:
        self.is_over = True
        self._tell()
        if not self.keep_alive:
            self._line.hang_up(is_whole=self.is_whole)
        self._line.end()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        kept = []
        is_delimited = status == HTTPStatus.NO_CONTENT
        for header in headers:
            if header[0] == b"content-length":
                is_delimited = True
            elif header == CLOSE:
                self.keep_alive = False
                continue
            kept.append(header)
        # Only the end of the connection shows the end of a body of unknown length.
        self.keep_alive = self.keep_alive and is_delimited and (self.is_whole or self._line.may_skip_body)
        return head_of(status, self._line.common, kept, keep_alive=self.keep_alive)


class Recipient(Protocol):
    """The recipient of an answer."""

    is_gone: bool


async def write_rest(line: Line, data: bytes, to: Recipient) -> None:
    """Write the bytes after the first piece, as fast as the client reads.

    Raise `ConnectionResetError` if it has gone.
    """
    for begin in range(PIECE, len(data), PIECE):
        if line.flow.write_paused:
            await line.flow.drain()
        if to.is_gone or line.transport.is_closing():
            raise ConnectionResetError
        line.transport.write(data[begin : begin + PIECE])


def head_of(status: int, common: bytes, headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
    """Return the head of an answer, `common` being header lines.

    Raise `ValueError` for a value with line breaks.
    """
    lines = [STATUS_LINES[status], common]
    for name, value in headers:
        if b"\n" in value or b"\r" in value:
            raise ValueError(f"the header {name.decode()} would be more than one")
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(lines)
