"""One connection of the HTTP server: reads requests within bounds, and lets the app answer them one after the other.

The bounds are there before a request reaches the app: an endless head would fill the memory, and a request that is never
finished would keep its connection for ever. Uvicorn runs the server around this; its own protocol costs each request more than
everything that Flyte does for it.
"""

import asyncio
from asyncio import TimerHandle, Transport
from collections import deque
from collections.abc import Coroutine
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from flyteops.web.cycle import STATUS_LINES, Cycle
from flyteops.web.exchange import Reply
from flyteops.web.problem import Fault, problem
from flyteops.web.shortcut import Errand, Shortcut

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

ASGI = {"version": "3.0", "spec_version": "2.3"}


class Connection(asyncio.Protocol):
    """Reads requests within bounds, has the app answer them in order, and answers itself what is none, with problem details.

    A subclass may set other bounds, in seconds: `idle_seconds` for a connection on which no request is under way, `head_seconds`
    for a whole head, `pause_seconds` between two parts of a body, `body_seconds` for a whole body.
    """

    idle_seconds = 75.0
    head_seconds = 10.0
    pause_seconds = 30.0
    body_seconds = 600.0

    transport: Transport
    flow: FlowControl
    local: tuple[str, tuple[str, int | None] | None]
    """The scheme, and the address of this end."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: object = None, _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Be ready for a connection; called by uvicorn's server, with these names."""
        self.loop = _loop or asyncio.get_running_loop()
        self._app = config.loaded_app
        self._shortcut: Shortcut | None = getattr(self._app, "shortcut", None)
        self._held = b""
        self._server = server_state
        self._common_of: list[tuple[bytes, bytes]] = []
        self._common = b""
        # What is being read.
        self.parser = _parser_of(self)
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._awaits_go_ahead = False
        self._stage: str | None = None
        self._unread = 0
        self._fault: Fault | None = None
        # Whose body is being read, who is being answered, and who has to wait for that.
        self._read: Cycle | None = None
        self._answered: Cycle | Errand | None = None
        self._waiting: deque[Cycle] = deque()
        # How long it may take.
        self._idle_since = 0.0
        self._idle_timer: TimerHandle | None = None
        self._deadline = 0.0
        self._timer: TimerHandle | None = None
        self._timed_stage: str | None = None

    # ------------------------------------------------------------------------------------------------------- what comes

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = FlowControl(transport)
        self._server.connections.add(self)  # type: ignore[arg-type]
        self.local = scheme, server = "https" if is_ssl(transport) else "http", get_local_addr(transport)
        self._about = {
            "type": "http",
            "asgi": ASGI,
            "http_version": "1.1",
            "server": server,
            "client": get_remote_addr(transport),
            "scheme": scheme,
            "root_path": "",
        }
        self._idle_since = self.loop.time()
        self._idle_timer = self.loop.call_later(self.idle_seconds, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._stop_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._answered is not None:
            self._answered.leave()
        self._waiting.clear()
        self.flow.resume_writing()
        del self.parser  # it refers back to here

    def eof_received(self) -> None:
        """Let the connection be closed."""

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        held, self._held = self._held, b""
        if held:
            data, self._stage = held + data, None
        if not self._goes_the_short_way(data, is_second=bool(held)):
            self._read_on(data)
        elif self._stage is not None or self._timer is not None:
            self._mind_the_time()

    def _goes_the_short_way(self, data: bytes, *, is_second: bool) -> bool:
        """Begin with a request that goes the short way; wait for its second part, as many clients send head and body apart."""
        if self._shortcut is None or self._stage is not None or self._answered is not None or self.flow.write_paused:
            return False
        found = self._shortcut.find(data, self)
        if isinstance(found, Errand):
            self._unread = 0
            self._answered = found
            self._start(found.run())
        elif found and not is_second:
            self._held, self._stage = data, BODY
        else:
            return False
        return True

    def _read_on(self, data: bytes) -> None:
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
        self.url = b""
        self.headers = []
        self._awaits_go_ahead = False
        self._stage = HEAD
        self._unread = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._awaits_go_ahead = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._stage = BODY
        self._unread = 0
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
        if size > MAX_TARGET and (size > MAX_HEAD or len(self.url) > MAX_TARGET):
            self._fault = self._fault_of_head()
        elif not self.parser.should_upgrade():
            self._read = self._begun()

    def _fault_of_head(self) -> Fault:
        return TARGET_TOO_LONG if len(self.url) > MAX_TARGET else HEAD_TOO_LARGE

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if self._read is not None and not self._read.is_over:
            self._read.add(body)

    def on_message_complete(self) -> None:
        self._stage = None
        if self._read is not None:
            self._read.complete()
            self._read = None

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request that asks for another protocol as if it did not; only without that is its body read at all."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._fault = NO_TUNNEL
            return
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection", b"http2-settings")]
        head = b"".join([method, b" ", self.url, b" HTTP/1.1\r\n", *(b"%b: %b\r\n" % pair for pair in kept), b"\r\n"])
        self.parser = _parser_of(self)
        self.data_received(head + rest)

    # ----------------------------------------------------------------------------------------------------- who is answered

    def _begun(self) -> Cycle:
        """Return the request whose head has been read; it is answered now, or after those before it."""
        target = httptools.parse_url(self.url)
        version = self.parser.get_http_version()
        scope = {
            **self._about,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "path": target.path.decode("ascii"),
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
        }
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        cycle = Cycle(self, scope, keep_alive=keep_alive, awaits_go_ahead=self._awaits_go_ahead)
        if self._answered is None:
            self._answer(cycle)
        else:
            self.flow.pause_reading()
            self._waiting.append(cycle)
        return cycle

    @property
    def common(self) -> bytes:
        """The header lines that every answer has; the server makes them anew once a second."""
        headers = self._server.default_headers
        if headers is not self._common_of:
            self._common_of = headers
            self._common = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common

    def _answer(self, cycle: Cycle) -> None:
        self._answered = cycle
        self._start(cycle.run(self._app))

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(answering)
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def end(self) -> None:
        """Answer who comes next, as one has been answered."""
        self._server.total_requests += 1
        self._answered = None
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        if self._waiting:  # more is read only when all that has come is answered
            self._answer(self._waiting.popleft())
        else:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Hang up, after those requests have been answered that have come; called by uvicorn's server."""
        if self._held:
            data, self._held, self._stage = self._held, b"", None
            self._read_on(data)
        last = self._waiting[-1] if self._waiting else self._answered
        if last is None:
            self.transport.close()
        else:
            last.keep_alive = False

    # ------------------------------------------------------------------------------------------------- what takes too long

    def _close_if_idle(self) -> None:
        """Close the connection if nothing has happened on it for long, and look again when that may be so next."""
        rest = self._idle_since + self.idle_seconds - self.loop.time()
        is_idle = self._stage is None and self._answered is None
        if is_idle and rest <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(rest if is_idle else self.idle_seconds, self._close_if_idle)

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
        if self.flow.read_paused:
            # It is we who do not read on: the app has not come to it yet.
            self._start_timer(self.pause_seconds)
        else:
            self._refuse(TOO_SLOW)

    # ------------------------------------------------------------------------------------------------------ what is said

    def _refuse(self, fault: Fault) -> None:
        """Say why and hang up; an answer that has begun is broken off."""
        self._stop_timer()
        cycle = self._answered
        if not (cycle is not None and cycle.is_begun) and not self.transport.is_closing():
            self.transport.write(_written(problem(fault, _DETAILS[fault.code])))
        if cycle is not None:
            cycle.leave()
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
        STATUS_LINES[reply.status],
        b"content-type: %b\r\n" % reply.content_type,
        b"content-length: %d\r\n" % len(body),
        b"connection: close\r\n\r\n",
    ]
    return b"".join([*lines, body])


def _parser_of(connection: Connection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    # A client that says that it will close may have sent more requests before: those before that are answered.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
