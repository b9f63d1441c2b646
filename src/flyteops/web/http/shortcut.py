"""A shorter way for nearly all of the load: an event, a take that does not wait, and a result.

It is open to a request in the most common form that arrives in one piece or two. Everything special
about a request, or wrong with it, is left to the general way, which does the same for all others.
The parser decides what is HTTP: it reads the header lines of a client once, and they are known when
they are repeated.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol

import httptools

from flyteops.errors import InputError
from flyteops.model import Happening
from flyteops.service import Service
from flyteops.web.api.body import idempotency_key, told_plainly
from flyteops.web.api.guard import Guard
from flyteops.web.api.handlers import ACCEPTED, DONE, accepted_event
from flyteops.web.api.link import Headers, Site, base_of
from flyteops.web.api.problem import reply_to
from flyteops.web.api.request import LARGE, Options, Reply, is_yaml, wants_yaml
from flyteops.web.api.schemas.wire import ActionView
from flyteops.web.auth.gate import Gate
from flyteops.web.http.exchange import PIECE, Line, head_of, write_rest
from flyteops.web.http.request_head import HOST

SEGMENT = rb"[\w.~-]{1,500}"

REQUEST_LINE = re.compile(
    rb"POST (?P<path>/v1/packs/(?P<pack>%b)/(?:(?P<event>events)|actions/(?:take|(?P<action>(?!take/)%b)/result)))"
    rb"(?:\?(?:(?:actionName|commandName)=(?P<command>%b)|lease=(?P<lease>%b)))? HTTP/1\.1\r\n" % ((SEGMENT,) * 4)
)

LONGEST_HEADERS = 4096
"""Maximum number of bytes of header lines on this way."""

HEADS_KEPT = 1_000
"""Number of different header lines that are remembered before all are forgotten: a client repeats
its own."""

FOR_THE_GENERAL_WAY = frozenset([b"transfer-encoding", b"expect", b"upgrade", b"origin", b"sec-fetch-site"])
"""Headers that make a request special, with any value."""


class LocatedLine(Line, Protocol):
    """A connection that knows its scheme, and the addresses of both ends."""

    local: tuple[str, tuple[str, int | None] | None]
    peer: tuple[str, int] | None


class Head(NamedTuple):
    """The contents of header lines.

    `length` is that of the body, `site` has the server's address as the client knows it, and `key`
    is the idempotency key.
    """

    headers: Headers
    length: int
    site: Site
    key: str | None


Work = Callable[["Errand"], Awaitable[Reply | None]]
"""Does the work of a request, and returns the reply; None if there is no client left to answer."""


class Errand:
    """A request on the shortcut, and its answer: the counterpart of a `Cycle` for all others."""

    __slots__ = ("_line", "_more", "_work", "is_begun", "is_gone", "keep_alive", "undo")

    def __init__(self, line: Line, work: Work, more: bytes) -> None:
        """Prepare to `run`; `more` are the header lines that every answer of the app has."""
        self.is_begun = self.is_gone = False
        self.keep_alive = True
        self.undo: Callable[[], Awaitable[None]] | None = None
        self._line = line
        self._work = work
        self._more = more

    def leave(self) -> None:
        """Note that the client has gone."""
        self.is_gone = True

    async def run(self) -> None:
        """Do the work of the request, and answer."""
        line = self._line
        try:
            reply = await self._work(self)
            answer = None if reply is None else self._written(reply)
        except Exception as error:  # the request boundary: nothing may pass it
            answer = self._written(reply_to(error))
        except BaseException:  # the server stops and waits no longer
            line.transport.close()
            raise
        if answer is None or self.is_gone:
            return
        self.is_begun = True
        if len(answer) <= PIECE and not line.is_half_closed:
            line.transport.write(answer)
        elif not await self._has_got(answer):
            return
        if not self.keep_alive:
            line.hang_up(is_whole=True)
        line.end()

    async def _has_got(self, answer: bytes) -> bool:
        """Write an answer that is large, or whose client may have gone.

        If it does not arrive, undo the work. Return whether it has arrived.
        """
        line = self._line
        transfer = line.traffic.begin(line.break_off)
        try:
            line.transport.write(answer[:PIECE])
            await write_rest(line, answer, self)
            if not line.is_half_closed or await line.has_arrived():
                return True
        except ConnectionResetError:
            pass
        finally:
            transfer.end()
        if self.undo is not None:
            await self.undo()
        line.break_off()
        return False

    def _written(self, reply: Reply) -> bytes:
        content_type, body = reply.text()
        headers = reply.head(content_type, body)
        return head_of(reply.status, self._line.common + self._more, headers, keep_alive=self.keep_alive) + body


class Shortcut:
    """Recognizes the requests for the shortcut, and does their work."""

    def __init__(self, service: Service, options: Options, guard: Guard, gate: Gate | None) -> None:
        self._service = service
        self._guard = guard
        self._gate = gate
        self._longest_body = min(options.max_body_bytes, LARGE)
        self._more = b"vary: Origin\r\n" if options.allowed_origins else b""  # as of an app that pages of other sites may use
        self._heads: dict[object, Head | None] = {}

    def find(self, data: bytes, line: LocatedLine) -> Errand | bool:
        """Return the request at the start of the data.

        If it is not complete, return whether the bytes may be the start of one for the shortcut.
        """
        asked = REQUEST_LINE.match(data)
        if asked is None:
            return False
        begin = asked.end()
        end = data.find(b"\r\n\r\n", begin - 2, begin + LONGEST_HEADERS)  # a head without headers ends with the first line
        if end < 0 or not self._service.is_started:
            return False
        head = self._head(data[begin:end], line)
        body = data[end + 4 :]
        if head is None or head.length != len(body):
            return head is not None and len(body) < head.length <= self._longest_body
        work = None if len(body) > self._longest_body else self._work(asked, head, body)
        if work is None:
            return False
        if self._gate is not None:
            admission = partial(self._gate.admit, "POST", asked["path"].decode(), head.headers, line.peer)
            work = partial(admitted, admission, work)
        return Errand(line, work, self._more)

    def _head(self, headers: bytes, line: LocatedLine) -> Head | None:
        known = (headers, line.local)
        if known in self._heads:
            return self._heads[known]
        head = read_headers(headers, line, self._guard)
        if head is None or head.key is None:  # a head with an idempotency key is not repeated
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[known] = head
        return head

    def _work(self, asked: re.Match[bytes], head: Head, body: bytes) -> Work | None:
        pack_id, is_event, action_id = asked["pack"].decode(), asked["event"] is not None, asked["action"]
        if not is_event and action_id is None:
            return partial(self._take, head.site, pack_id, _text(asked["command"]))
        told = told_plainly(body)
        if told is None:
            return None
        if is_event:
            return partial(self._accept, head, pack_id, told)
        return partial(self._complete, pack_id, action_id.decode(), told, _text(asked["lease"]))

    async def _accept(self, head: Head, pack_id: str, told: Happening, _errand: Errand) -> Reply:
        return accepted_event(await self._service.accept_event(pack_id, told, key=head.key), head.site)

    async def _take(self, site: Site, pack_id: str, command: str | None, errand: Errand) -> Reply | None:
        claimed = await self._service.take(pack_id, command)
        if not claimed:
            return DONE
        if errand.is_gone:
            await self._service.hand_back(claimed)
            return None
        errand.undo = partial(self._service.hand_back, claimed)
        return Reply(200, ActionView.of(pack_id, claimed[0], site))

    async def _complete(self, pack_id: str, action_id: str, told: Happening, lease: str | None, _errand: Errand) -> Reply:
        await self._service.complete(pack_id, action_id, told, lease=lease)
        return ACCEPTED


async def admitted(admission: Callable[[], Awaitable[object]], work: Work, errand: Errand) -> Reply | None:
    """Do the work if the gate admits the request; else raise `UnauthorizedError`."""
    await admission()
    return await work(errand)


def _text(part: bytes | None) -> str | None:
    return None if part is None else part.decode()


class _Headers:
    """Collects the parser's callbacks."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}
        self.hosts: list[bytes] = []
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.found[name] = value
        if name == b"host":
            self.hosts.append(value)

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()  # after the end of a request without a body, the parser would not know


def read_headers(lines: bytes, line: LocatedLine, guard: Guard) -> Head | None:
    """Return the contents of header lines, or None if they are left to the general way."""
    headers = _Headers()
    try:
        headers.parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    finally:
        del headers.parser  # they refer to each other
    found = headers.found
    length = found.get(b"content-length", b"")
    has_one_host = len(headers.hosts) == 1 and HOST.fullmatch(headers.hosts[0]) is not None
    is_special = is_yaml(found) or wants_yaml(found.get(b"accept", b"")) or not FOR_THE_GENERAL_WAY.isdisjoint(found)
    if not has_one_host or is_special or guard.misses(found) or not (length.isdigit() and headers.keep_alive):
        return None
    try:
        return Head(found, int(length), Site(base_of(found, *line.local)), idempotency_key(found))
    except InputError:
        return None
