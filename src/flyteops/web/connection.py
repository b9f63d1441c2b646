"""One connection of the HTTP server: uvicorn's, with bounds on what a client may send and how long it may take.

The bounds are there before a request reaches the app: an endless head would fill the memory, and a request that is never
finished would keep its connection for ever.
"""

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flyteops.web.exchange import Reply
from flyteops.web.problem import Fault, problem

MAX_HEAD = 65_536
"""Bytes that the head of a request, or what follows its body, may have."""

MAX_TARGET = 16_384
"""Bytes that a request's target, path and query, may have."""

BAD_REQUEST = Fault(400, "bad-request", "This is no HTTP request.")
TARGET_TOO_LONG = Fault(414, "target-too-long", "The path and query are too long.")
HEAD_TOO_LARGE = Fault(431, "head-too-large", "The headers of the request are too large.")
TOO_SLOW = Fault(408, "too-slow", "The request took too long to come.")
NO_TUNNEL = Fault(405, "method-not-allowed", "This cannot be done with the resource.")

HEAD, BODY = "head", "body"


class Connection(HttpToolsProtocol):
    """Reads requests within bounds, and answers what is none with problem details.

    A subclass may set other bounds, in seconds: `idle_seconds` for a connection on which nothing has come yet, `head_seconds`
    for a whole head, `pause_seconds` between two parts of a body, `body_seconds` for a whole body.
    """

    idle_seconds = 75.0
    head_seconds = 10.0
    pause_seconds = 30.0
    body_seconds = 600.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._stage: str | None = None
        self._unread = 0
        self._fault: Fault | None = None
        self._deadline = 0.0
        self._timer: TimerHandle | None = None
        self._timed_stage: str | None = None

    # ------------------------------------------------------------------------------------------------------- what comes

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.idle_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._fault or BAD_REQUEST)
            return
        is_long = self._unread > MAX_HEAD or (self._stage == HEAD and len(self.url) > MAX_TARGET)
        if is_long and self._fault is None:
            self._fault = self._fault_of_head()
        if self._fault is not None:
            self._refuse(self._fault)
        elif self._stage is not None or self._timer is not None:
            self._mind_the_time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stage = HEAD
        self._unread = 0

    def on_headers_complete(self) -> None:
        self._stage = BODY
        self._unread = 0
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
        if size > MAX_TARGET and (size > MAX_HEAD or len(self.url) > MAX_TARGET):
            self._fault = self._fault_of_head()
        elif not self.parser.should_upgrade():
            super().on_headers_complete()

    def _fault_of_head(self) -> Fault:
        return TARGET_TOO_LONG if len(self.url) > MAX_TARGET else HEAD_TOO_LARGE

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage = None
        if self._fault is None and not self.parser.should_upgrade():
            super().on_message_complete()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request that asks for another protocol as if it did not; only without that is its body read at all."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._fault = NO_TUNNEL
            return
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection", b"http2-settings")]
        head = b"".join([method, b" ", self.url, b" HTTP/1.1\r\n", *(b"%b: %b\r\n" % pair for pair in kept), b"\r\n"])
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)

    # ------------------------------------------------------------------------------------------------- what takes too long

    def _mind_the_time(self) -> None:
        """Have a timer for what is still to come."""
        now = self.loop.time()
        if self._stage is None:
            self._stop_timer()
        elif self._stage == HEAD:
            if self._timed_stage != HEAD:
                self._start_timer(self.head_seconds)
        else:
            if self._timed_stage != BODY:
                self._deadline = now + self.body_seconds
            self._start_timer(min(self.pause_seconds, self._deadline - now))

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timed_stage = self._stage
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        self._timed_stage = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._stage is None:
            self.transport.close()
        elif self.flow.read_paused:
            # It is we who do not read on: the app has not come to it yet.
            self._start_timer(self.pause_seconds)
        else:
            self._refuse(TOO_SLOW)

    # ------------------------------------------------------------------------------------------------------ what is said

    def send_400_response(self, msg: str) -> None:
        self._refuse(BAD_REQUEST)

    def _refuse(self, fault: Fault) -> None:
        """Say why and hang up; an answer that has begun is broken off."""
        self._stop_timer()
        cycle: Any = self.cycle  # None before the first request
        is_open = cycle is not None and not cycle.response_complete
        if not (is_open and cycle.response_started) and not self.transport.is_closing():
            self.transport.write(_written(problem(fault, _DETAILS[fault.code])))
        if is_open:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


_DETAILS = {
    BAD_REQUEST.code: "What came cannot be read as HTTP/1.1; a path must be ASCII, everything else in it percent-encoded.",
    TARGET_TOO_LONG.code: f"At most {MAX_TARGET} bytes are accepted.",
    HEAD_TOO_LARGE.code: f"At most {MAX_HEAD} bytes are accepted.",
    TOO_SLOW.code: "Send the whole request at once; the connection is closed.",
    NO_TUNNEL.code: "CONNECT is for proxies, and this is none.",
}


def _written(reply: Reply) -> bytes:
    body = reply.value if isinstance(reply.value, bytes) else b""
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}".encode(),
        b"content-type: " + reply.content_type,
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join([*lines, b"", body])
