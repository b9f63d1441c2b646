"""A request on a connection, and its response.

Most requests are small and received as a whole when they are handled, and most responses are one
write.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from flyteops.errors import BusyError
from flyteops.web.api.problem import response_to
from flyteops.web.api.request import DisconnectedError, Head, Request, Server, Variable
from flyteops.web.api.response import App, EncodedResponse
from flyteops.web.http.traffic import Traffic

LOGGER = logging.getLogger("flyte.web")

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}

GO_AHEAD = STATUS_LINES[100] + b"\r\n"

PIECE = 65_536
"""Bytes of a response that are written at once; of a larger one, no more than two such pieces wait
in the transport."""


class ClientConnection(Protocol):
    """The connection of a request."""

    transport: asyncio.Transport
    flow: FlowControl
    traffic: Traffic
    peer: tuple[str, int] | None
    local: Server
    is_half_closed: bool
    """Whether the client has closed its sending side, or has gone."""

    @property
    def common(self) -> bytes:
        """The header lines that every response has."""

    @property
    def may_skip_body(self) -> bool:
        """Whether so little is missing of the request's body that the rest can be skipped."""

    def read_on(self) -> None:
        """Resume reading after a pause."""

    async def has_arrived(self) -> bool:
        """Return whether all that was written to a client that closed its sending side arrived."""

    def hang_up(self, *, is_whole: bool) -> None:
        """Close the connection after the pending writes.

        Unless the request `is_whole`, let the client finish sending.
        """

    def break_off(self) -> None:
        """Close the connection at once."""

    def end(self) -> None:
        """Go on with the next request, as this one has been answered."""


class Exchange(Request):
    """A request on a connection, and its response.

    `is_begun`: some of the response has been written; `is_over`: all of it. Without `keep_alive`
    the connection ends with the response. `accepts_interim`: the client reads interim responses
    (1xx) at any time. `missing`: the bytes of the body that have not been received by the time the
    request is made as a whole.
    """

    accepts_interim = True
    missing = 0
    is_begun = False
    is_over = False
    _awaits_go_ahead = False
    _has_news = False
    _waiter: asyncio.Future[None] | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        connection: ClientConnection,
        method: str,
        path: str,
        query_string: bytes,
        head: Head,
        variable: Variable,
        body: bytes | None,
        *,
        keep_alive: bool,
    ) -> None:
        """`body` is given if all of it has been received."""
        super().__init__(method, path, query_string, head, variable, connection.peer, body)
        self.keep_alive = keep_alive
        self._connection = connection

    # ------------------------------------------------------------------------------------ receiving

    def expect_go_ahead(self) -> None:
        """Send an interim response before the body is received: the client waits for it."""
        self._awaits_go_ahead = True

    def supply(self, body: bytes) -> None:
        """Add the missing part of the body, before the request is handled."""
        self._received += body
        self.missing = 0

    def add(self, body: bytes) -> None:
        """Add a part of the body; if the handler does not keep up, pause reading."""
        self._received = self._received + body if self._received else body
        if len(self._received) > HIGH_WATER_LIMIT:
            self._connection.flow.pause_reading()
        self._notify()

    def complete(self) -> None:
        """Note that the request has come to its end."""
        self.is_whole = True
        self._notify()

    def leave(self) -> None:
        super().leave()
        self._notify()

    def _notify(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        connection = self._connection
        if self._awaits_go_ahead and not (
            self.is_begun or self.is_whole or self._has_news or connection.transport.is_closing()
        ):
            connection.transport.write(GO_AHEAD)
        self._awaits_go_ahead = False
        while not (self._has_news or self.is_gone):
            connection.read_on()
            if not self._has_news:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        if self.is_gone:
            raise DisconnectedError
        self._has_news = False
        body, self._received = self._received, b""
        return body

    def watch_client(self) -> None:
        self._connection.read_on()

    @property
    def break_off(self) -> Callable[[], None]:
        return self._connection.break_off

    # ------------------------------------------------------------------------------------ answering

    async def run(self, app: App) -> None:
        """Have the request handled, and write the response; undo the work if it does not arrive."""
        is_lost = True
        try:
            response = await app.respond(self)
            if response is not None:
                if not self._send_at_once(response):
                    await self._send_in_pieces(response)
                is_lost = False
        except ConnectionError:
            LOGGER.debug("A client went away before its answer was sent")
        except BaseException:  # the server stops and waits no longer, or has an error of its own
            self._connection.transport.close()
            raise
        finally:
            if is_lost:
                await self.undo()

    def _send_at_once(self, response: EncodedResponse) -> bool:
        """Write a small response to a client that reads; return False if that is not enough."""
        connection = self._connection
        if (
            self.is_gone
            or connection.transport.is_closing()
            or connection.flow.write_paused
            or connection.is_half_closed
            or len(response.body) > PIECE
        ):
            return False
        self._write_first(response, b"" if self.method == "HEAD" else response.body)
        self._end()
        return True

    async def _send_in_pieces(self, response: EncodedResponse) -> None:
        """Write a response as fast as the client reads.

        Raise `ConnectionResetError` if it has gone, or did not receive the response.
        """
        connection = self._connection
        transfer = connection.traffic.begin(connection.break_off)
        try:
            if self.method != "HEAD" and len(response.body) > PIECE:
                transfer.hold(len(response.body), must=self.method != "GET")
        except BusyError as error:
            response = response_to(error).message(self.head)
        body = b"" if self.method == "HEAD" else response.body
        try:
            await self._wait_for_reader()
            self._write_first(response, body[:PIECE])
            for begin in range(PIECE, len(body), PIECE):
                await self._wait_for_reader()
                connection.transport.write(body[begin : begin + PIECE])
        finally:
            transfer.end()
        if connection.is_half_closed and not await connection.has_arrived():
            connection.break_off()
            raise ConnectionResetError
        self._end()

    async def _wait_for_reader(self) -> None:
        """Wait until the client has read enough of the earlier writes.

        Raise `ConnectionResetError` if it has gone.
        """
        if self._connection.flow.write_paused and not self.is_gone:
            await self._connection.flow.drain()
        if self.is_gone or self._connection.transport.is_closing():
            raise ConnectionResetError

    def _write_first(self, response: EncodedResponse, body: bytes) -> None:
        """Write the head, with the first part of the body."""
        connection = self._connection
        self.keep_alive = (
            self.keep_alive and not response.closes and (self.is_whole or connection.may_skip_body)
        )
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.is_begun = True
        connection.transport.write(
            b"".join((STATUS_LINES[response.status], connection.common, response.head, end, body))
        )

    def _end(self) -> None:
        self.is_over = True
        if not self.keep_alive:
            self._connection.hang_up(is_whole=self.is_whole)
        self._connection.end()
