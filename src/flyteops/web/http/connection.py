"""One connection of the HTTP server: reads requests within bounds; the app answers them in order.

The bounds apply before a request reaches the app: an endless head would fill the memory, and a
request that is never finished would keep its connection for ever. Uvicorn runs the server around
this; its own protocol costs each request more than everything that Flyte does for it.
"""

import asyncio
from asyncio import TimerHandle, Transport
from collections import deque

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from flyteops.errors import BusyError
from flyteops.web.api.problem import RETRY_AFTER_SECONDS, ProblemType, problem
from flyteops.web.api.request import Head, normal_path, split_fields
from flyteops.web.http.exchange import STATUS_LINES, Exchange
from flyteops.web.http.outlet import Outlet, Patience
from flyteops.web.http.peer import bound_unsent
from flyteops.web.http.reader import WholeRequestReader
from flyteops.web.http.request_head import (
    DETAILS,
    HEAD_TOO_LARGE,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_TARGET,
    NO_TUNNEL,
    TARGET_TOO_LONG,
    TOO_SLOW,
    TURNED_AWAY,
    HeaderLines,
    HeadError,
    Refusal,
    fault_of,
    field_of,
    read_head,
    without_upgrade,
)
from flyteops.web.http.traffic import Traffic, Transfer

HEAD, BODY = "head", "body"

PIECE = 4_096
"""Bytes that are parsed at once, unless they are all of one body: so few that they hold few
requests that have to wait.
"""

PIECE_IN_CHUNKS = 16_384

FRAMING_PER_BYTE = 8
"""Bytes of framing that a chunked body may have for each byte of its own, beyond what a head may
have.
"""

RETRY = b"retry-after: %b\r\n" % RETRY_AFTER_SECONDS

MAX_TURNED_AWAY = 64
"""Maximum number of connections beyond the limit that are answered with the reason before they
are closed.
"""


class Connection(asyncio.Protocol):
    """Reads requests within bounds, has the app answer them in order, and refuses malformed ones.

    A subclass may set other bounds, in seconds: `idle_seconds` for a connection on which no request
    is under way, `head_seconds` for a whole head, `pause_seconds` between two parts of a body,
    `body_seconds` for a whole body; and a `patience`.
    """

    # Attribute lookup in a dictionary would be slower: with so many attributes, it costs a request
    # some percent.
    __slots__ = (
        "_answered",
        "_app",
        "_awaits_go_ahead",
        "_common",
        "_common_of",
        "_deadline",
        "_fault",
        "_framing",
        "_half",
        "_held",
        "_idle_since",
        "_idle_timer",
        "_kept",
        "_missing",
        "_outlet",
        "_read",
        "_reader",
        "_reads_no_more",
        "_rest",
        "_server",
        "_stage",
        "_timed_stage",
        "_timer",
        "_unread",
        "_waiting",
        "flow",
        "headers",
        "is_half_closed",
        "local",
        "loop",
        "parser",
        "peer",
        "traffic",
        "transport",
        "url",
    )

    idle_seconds = 75.0
    head_seconds = 10.0
    pause_seconds = 30.0
    body_seconds = 600.0
    patience = Patience()
    most_skipped = 1024 * 1024
    """Bytes of a body that are read after its request was answered, to keep the connection."""

    transport: Transport
    flow: FlowControl
    local: tuple[str, tuple[str, int | None] | None]
    """The scheme, and the address of this end."""
    peer: tuple[str, int] | None
    """The address of the other end; None if that is a Unix socket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: object = None,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Prepare for a connection; called by uvicorn's server, with these names."""
        self.loop = _loop or asyncio.get_running_loop()
        self._app = config.loaded_app
        self._reader: WholeRequestReader | None = self._app.reader
        self.traffic: Traffic = self._app.traffic
        # A request without the second part of its body, and its bytes.
        self._half: Exchange | None = None
        self._held = b""
        self._server = server_state
        self._common_of: list[tuple[bytes, bytes]] = []
        self._common = b""
        # The request that is being read.
        self.parser = _parser_of(self)
        self.url = b""
        self.headers: HeaderLines = []
        self._awaits_go_ahead = False
        self._stage: str | None = None
        self._unread = 0
        self._missing: int | None = 0
        self._framing = 0
        self._fault: ProblemType | None = None
        self._rest = b""
        self._kept: Transfer | None = None
        self._reads_no_more = False
        self.is_half_closed = False
        # The request whose body is being read, the one being answered, and those that wait.
        self._read: Exchange | None = None
        self._answered: Exchange | None = None
        self._waiting: deque[Exchange | Refusal] = deque()
        # Times and timers.
        self._idle_since = 0.0
        self._idle_timer: TimerHandle | None = None
        self._deadline = 0.0
        self._timer: TimerHandle | None = None
        self._timed_stage: str | None = None

    # ------------------------------------------------------------------------------------ receiving

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = FlowControl(transport)
        self._outlet = Outlet(transport, self.flow, self.loop, self.patience)
        bound_unsent(transport)
        self._server.connections.add(self)  # type: ignore[arg-type]
        self.peer = get_remote_addr(transport)
        self.local = "https" if is_ssl(transport) else "http", get_local_addr(transport)
        self._idle_since = self.loop.time()
        self._idle_timer = self.loop.call_later(self.idle_seconds, self._close_if_idle)
        if len(self._server.connections) > self.traffic.max_connections:
            self._turn_away()

    def _turn_away(self) -> None:
        self.traffic.connections.reached()
        self._reads_no_more = True
        self._write_problem(TURNED_AWAY, "The server has reached its limit of connections.", RETRY)
        if len(self._server.connections) > self.traffic.max_connections + MAX_TURNED_AWAY:
            self._outlet.close()
        else:
            self._outlet.linger(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._stop_timer()
        self._outlet.end()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._answered is not None:
            self._answered.leave()
        self._waiting.clear()
        self._let_go()
        self._keep(b"")
        self.flow.resume_writing()
        del self.parser  # they refer to each other

    def eof_received(self) -> bool | None:
        """Keep answering a client that has closed its sending side only.

        It waits for the answers to its whole requests.
        """
        if self._half is not None:
            self._parse(self._let_go())
        if self._read is not None and self._waiting and self._read is self._waiting[-1]:
            self._waiting.pop()  # the rest of this request will never arrive
            self._read = self._stage = None
        elif self._stage == HEAD and not self._rest:
            self._stage = None
        last = self._waiting[-1] if self._waiting else self._answered
        is_incomplete = self._stage is not None and not self._rest
        if last is None or is_incomplete or self._outlet.is_lingering or is_ssl(self.transport):
            return None
        self.is_half_closed = True
        self._reads_no_more = True
        self._stop_timer()
        if not self._rest:
            last.keep_alive = False
        self._outlet.watch_client(self._may_probe)
        return True

    def _may_probe(self) -> bool:
        """Whether an interim response may be written now.

        It may only while a request waits, so no others must expect one.
        """
        request = self._answered
        return request is not None and request.is_waiting and request.accepts_interim

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._outlet.watch_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._reads_no_more:
            self._outlet.discard(len(data))
            return
        if self._rest:
            self._keep(self._rest + data)
            return
        if not (self._read_second_part(data) if self._half is not None else self._read_whole(data)):
            self._parse(self._let_go() + data)
        elif self._stage is not None or self._timer is not None:
            self._mind_the_time()

    def _read_whole(self, data: bytes) -> bool:
        """Begin a request that is here as a whole; wait for its second part.

        Many clients send head and body apart. A first part is held before the request is
        authorized, and not counted, so it must be small.
        """
        if (
            self._reader is None
            or self._stage is not None
            or self._answered is not None
            or self.flow.write_paused
        ):
            return False
        found = self._reader.read(data, self)
        if found is None or (found.missing and len(data) > PIECE):
            return False
        if found.missing:
            self._half, self._held, self._stage = found, data, BODY
        else:
            self._unread = self._framing = self._missing = 0
            self._answer(found)
        return True

    def _read_second_part(self, data: bytes) -> bool:
        request = self._half
        if request is None or request.missing != len(data):
            return False
        self._let_go()
        request.supply(data)
        self._unread = self._framing = self._missing = 0
        self._answer(request)
        return True

    def _let_go(self) -> bytes:
        """Return the bytes that were held until the rest of their request arrived."""
        held = self._held
        if self._half is not None:
            self._half, self._held, self._stage = None, b"", None
        return held

    def read_on(self) -> None:
        """Resume reading after a pause."""
        self.flow.resume_reading()
        if self._rest:
            rest = self._rest
            self._keep(b"")
            self._parse(rest)

    def _parse(self, data: bytes) -> None:
        """Parse the received bytes, piece by piece.

        Those behind a request that has to wait are kept unparsed for now.
        """
        at = 0
        while at < len(data) and not (self.flow.read_paused or self._fault):
            end = at + self._piece_size()
            at += self._feed(data if at == 0 and end >= len(data) else data[at:end])
        if self._fault is not None:
            self._refuse(self._fault)
            return
        self._keep(data[at:])
        if self._stage is not None or self._timer is not None:
            self._mind_the_time()

    def _keep(self, rest: bytes) -> None:
        """Keep unparsed bytes.

        Refuse them if they exceed the limit together with the transfers of others.
        """
        self._rest = rest
        if self._kept is not None:
            self._kept.end()
            self._kept = None
        if len(rest) > PIECE:
            self._kept = self.traffic.begin(self.break_off)
            try:
                self._kept.hold(len(rest))
            except BusyError:
                self._refuse(TURNED_AWAY)

    def _piece_size(self) -> int:
        if self._stage != BODY:
            return PIECE
        return PIECE_IN_CHUNKS if self._missing is None else max(self._missing, 1)

    def _feed(self, piece: bytes) -> int:
        """Parse a piece, and return the number of bytes parsed."""
        self._unread += len(piece)
        self._framing += len(piece)
        size = len(piece)
        try:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                size = upgrade.args[0]
                self._ignore_upgrade()
        except httptools.HttpParserError as error:
            self._fault = self._fault or fault_of(error)
        is_long = self._unread > MAX_HEAD or (self._stage == HEAD and len(self.url) > MAX_TARGET)
        if (is_long or self._framing > MAX_HEAD) and self._fault is None:
            self._fault = TARGET_TOO_LONG if len(self.url) > MAX_TARGET else HEAD_TOO_LARGE
        return size

    def _ignore_upgrade(self) -> None:
        """Read a request for another protocol as if it did not ask for one.

        Only then is its body read at all.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._fault = NO_TUNNEL
            return
        head = without_upgrade(method, self.url, self.parser.get_http_version(), self.headers)
        self.parser = _parser_of(self)
        self.parser.feed_data(head)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._awaits_go_ahead = False
        self._stage = HEAD
        self._unread = self._framing = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage != HEAD:
            return  # a trailer, which must not change the header fields
        name, value = field_of(name, value)
        if name == b"expect" and value.lower() == b"100-continue":
            self._awaits_go_ahead = True
        self.headers.append((name, value))
        if len(self.headers) > MAX_FIELDS:
            self._fault = HEAD_TOO_LARGE
            raise HeadError(self._fault)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._stage = BODY
        self._unread = self._framing = 0
        self._read = self._begun()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        self._framing -= len(body) * FRAMING_PER_BYTE
        if self._missing is not None:
            self._missing -= len(body)
        if self._read is not None and not self._read.is_over:
            self._read.add(body)

    def on_message_complete(self) -> None:
        self._unread = self._framing = 0
        if self.parser.should_upgrade():
            return
        self._stage = None
        if self._read is not None:
            self._read.complete()
            self._read = None

    # ------------------------------------------------------------------------------------ answering

    def _begun(self) -> Exchange:
        """Return the request whose head has been read; it is handled now, or in its turn."""
        version = self.parser.get_http_version()
        try:
            target = read_head(version, self.url, self.headers)
        except HeadError as error:
            self._fault = error.fault
            raise
        self._missing = _body_length(self.headers)
        fields, variable = split_fields(self.headers)
        is_modern = version != "1.0"
        exchange = Exchange(
            self,
            self.parser.get_method().decode("ascii"),
            normal_path(target.path.decode("ascii")),
            target.query,
            Head(fields, self.local),
            variable,
            None,
            keep_alive=is_modern and self.parser.should_keep_alive(),
        )
        exchange.accepts_interim = is_modern
        if self._awaits_go_ahead and is_modern:
            exchange.expect_go_ahead()
        if self._answered is None:
            self._answer(exchange)
        else:
            self.flow.pause_reading()
            self._waiting.append(exchange)
        return exchange

    @property
    def common(self) -> bytes:
        """The header lines that every answer has; the server renews them once a second."""
        headers = self._server.default_headers
        if headers is not self._common_of:
            self._common_of = headers
            self._common = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common

    @property
    def may_skip_body(self) -> bool:
        """Whether so little is missing of the body being read that the rest can be skipped."""
        return self._missing is not None and self._missing <= self.most_skipped

    def _answer(self, request: Exchange) -> None:
        self._answered = request
        task = self.loop.create_task(request.run(self._app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def end(self) -> None:
        """Answer the next waiting request after one has been answered."""
        self._server.total_requests += 1
        self._answered = None
        self._idle_since = self.loop.time()
        if self.transport.is_closing() or self._outlet.is_lingering:
            return
        if not self._waiting:  # more is read only when everything received is answered
            self.read_on()
        elif isinstance(following := self._waiting.popleft(), Refusal):
            self._answer_fault(following.fault)
        else:
            self._answer(following)
        if self.is_half_closed and self._answered is None:
            self._outlet.close()

    def shutdown(self) -> None:
        """Close the connection after the requests received so far are answered.

        Uvicorn's server calls this.
        """
        if self._half is not None:
            self._parse(self._let_go())
        last = self._waiting[-1] if self._waiting else self._answered
        if last is None:
            self._outlet.close()
        else:
            last.keep_alive = False

    # ---------------------------------------------------------------------------------- time limits

    def _close_if_idle(self) -> None:
        """Close the connection if it has been idle too long.

        Otherwise check again when that may next be so.
        """
        rest = self._idle_since + self.idle_seconds - self.loop.time()
        is_idle = self._stage is None and self._answered is None
        if is_idle and rest <= 0:
            self._outlet.close()
        else:
            self._idle_timer = self.loop.call_later(
                rest if is_idle else self.idle_seconds, self._close_if_idle
            )

    def _mind_the_time(self) -> None:
        """Set a timer for the part of the request that is still to arrive."""
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
            # Reading is paused on our side: the app has not come to this request yet.
            self._start_timer(self.pause_seconds)
        else:
            self._refuse(TOO_SLOW)

    # -------------------------------------------------------------------------------------- closing

    def _refuse(self, fault: ProblemType) -> None:
        """Stop reading, and send the fault after the answers to earlier requests.

        An answer that has begun is broken off.
        """
        self._stop_timer()
        self._reads_no_more = True
        self._let_go()
        self._keep(b"")
        self._stage = self._missing = None
        unfinished, self._read = self._read, None
        if unfinished is not None and unfinished is self._answered:
            unfinished.leave()
            self._answered = None
            if unfinished.is_begun:
                self._outlet.close()
                return
        elif unfinished is not None and unfinished.is_over:
            self._outlet.linger(None)
            return
        elif unfinished is not None:
            self._waiting.pop()
        if self._answered is None and not self._waiting:
            self._answer_fault(fault)
        else:
            self._waiting.append(Refusal(fault))

    def _answer_fault(self, fault: ProblemType) -> None:
        if not self.transport.is_closing():
            self._write_problem(fault, DETAILS[fault.code], RETRY if fault.status == 503 else b"")
            self._outlet.linger(None)

    def _write_problem(self, fault: ProblemType, detail: str, more: bytes = b"") -> None:
        reply = problem(fault, detail)
        body = reply.value if isinstance(reply.value, bytes) else b""
        lines = [
            STATUS_LINES[reply.status],
            b"content-type: %b\r\n" % reply.content_type,
            b"content-length: %d\r\n" % len(body),
            more,
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*lines, body]))

    def hang_up(self, *, is_whole: bool) -> None:
        """Close the connection after the pending writes.

        Unless the request `is_whole`, let the client finish sending.
        """
        self._stop_timer()
        is_all = is_whole and not (self._rest or self._waiting or self.flow.read_paused)
        if is_all or self.is_half_closed:
            self._outlet.close()
            return
        self._reads_no_more = True
        self._stage = None
        missing = None if self._missing is None else max(self._missing - len(self._rest), 0)
        self._keep(b"")
        self._waiting.clear()
        self._outlet.linger(missing if not is_whole else None)

    def break_off(self) -> None:
        """Close the connection at once, with everything under way on it."""
        self.transport.abort()

    def break_off_if_read(self) -> None:
        """Break off a connection that is being closed and waits for the client's end of TLS."""
        if self.transport.is_closing() and self._outlet.is_read:
            self.transport.abort()

    async def has_arrived(self) -> bool:
        """Return whether all that was written to a client that closed its sending side arrived."""
        return await self._outlet.has_arrived()


def _body_length(headers: HeaderLines) -> int | None:
    """Return the length of a body, or None if only its end will show it."""
    length: int | None = 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            length = None
    return length


def _parser_of(connection: Connection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    # A client that announces that it will close may have sent more requests before that: they are
    # answered.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
