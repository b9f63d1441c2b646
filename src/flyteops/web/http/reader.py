"""The reader of whole requests: those whose bytes are in the buffer from the first to the last.

Nearly all requests are. Their header lines are given to the parser once, and known when a client
repeats them; lines that differ from request to request are read apart from the rest. Everything
that is split, chunked or unusual is left to the incremental reader, which makes the same requests.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import httptools

from flyteops.web.api.request import Head, Server, Variable, normal_path
from flyteops.web.http.exchange import ClientConnection, Exchange
from flyteops.web.http.request_head import HOST, MAX_FIELDS, field_of

REQUEST_LINE = re.compile(
    rb"(GET|POST|PUT|DELETE|HEAD|OPTIONS) (/(?!/)[\w.~!$&'()*+,;=:@%/-]{0,1000})"
    rb"(?:\?([\w.~!$&'()*+,;=:@%/?-]{0,1000}))? HTTP/1\.1\r\n"
)

VARIABLE_LINE = re.compile(
    rb"\r\n(?:[Ii]dempotency-[Kk]ey: ([!-~]{1,255})|[Cc]ontent-[Ll]ength: ([0-9]{1,9}))(?=\r\n(?!["
    rb" \t]))"
)

MAX_HEADERS = 4096
"""Maximum number of bytes of header lines that this reader reads."""

MAX_BODY_LENGTH = 64 * 1024

SLASH = ord("/")

HEADS_KEPT = 1_000
"""Number of different heads that are remembered before all are forgotten."""

UNUSUAL = frozenset(
    [b"transfer-encoding", b"expect", b"upgrade", b"content-length", b"idempotency-key"]
)
"""Header fields that leave a request to the incremental reader; the last two if they are not in the
usual form."""


class _Known(NamedTuple):
    """The contents of header lines."""

    head: Head
    keep_alive: bool
    variable: Variable
    length: int


class WholeRequestReader:
    """Reads requests that have been received as a whole."""

    def __init__(
        self,
        reads_body: Callable[[str, str], bool],
        longest_body: int = MAX_BODY_LENGTH,
        heads_kept: int = HEADS_KEPT,
    ) -> None:
        """`reads_body`: a method and a path are handled once the whole body has been received."""
        self._reads_body = reads_body
        self._longest_body = min(longest_body, MAX_BODY_LENGTH)
        self._heads_kept = heads_kept
        # Contents of lines: of all that a head has, and of those that do not vary. None is for the
        # incremental reader.
        self._whole: dict[tuple[bytes, Server], _Known | None] = {}
        self._constant: dict[tuple[bytes, Server], tuple[Head, bool] | None] = {}

    def read(self, data: bytes, connection: ClientConnection) -> Exchange | None:
        """Return the request that the data are, or one whose body is `missing` some bytes.

        None if the data have to be read incrementally.
        """
        first = REQUEST_LINE.match(data)
        if first is None:
            return None
        # With the line break, since a head without fields ends with the first line.
        begin = first.end() - 2
        end = data.find(b"\r\n\r\n", begin, begin + MAX_HEADERS)
        if end < 0:
            return None
        lines = (data[begin : end + 2], connection.local)
        known = self._whole.get(lines)
        if known is None:
            known = None if lines in self._whole else self._read_lines(*lines)
        if known is None:
            return None
        head, keep_alive, variable, length = known
        body = data[end + 4 :]
        method, target, query = first.groups()
        path = target.decode() if target[-1] != SLASH else normal_path(target.decode())
        missing = length - len(body)
        if missing < 0 or length > MAX_BODY_LENGTH:
            return None
        if missing and (length > self._longest_body or not self._reads_body(method.decode(), path)):
            return None  # it may be answered before its body has been received
        exchange = Exchange(
            connection,
            method.decode(),
            path,
            query or b"",
            head,
            variable,
            body,
            keep_alive=keep_alive,
        )
        exchange.missing = missing
        return exchange

    def _read_lines(self, lines: bytes, server: Server) -> _Known | None:
        """Return the contents of header lines; None if the incremental reader has to read them."""
        parts = VARIABLE_LINE.split(lines)
        variable = variable_of(parts)
        name = (b"".join(parts[::3]), server)
        if name not in self._constant:
            _make_room(self._constant, self._heads_kept)
            self._constant[name] = read_head_lines(*name)
        constant = self._constant[name]
        known = (
            None
            if variable is None or constant is None
            else _Known(*constant, variable, int(variable.length or b"0"))
        )
        if variable is not None and variable.key is None:  # keys are not repeated
            _make_room(self._whole, self._heads_kept)
            self._whole[lines, server] = known
        return known


def _make_room(known: dict[tuple[bytes, Server], Any], most: int) -> None:
    if len(known) >= most:
        known.clear()


def variable_of(parts: Sequence[bytes | None]) -> Variable | None:
    """Return the variable fields of a split head; None if there is one more than once.

    Each of them is split off as a pair of a key and a length, of which one is None.
    """
    if len(parts) == 1:
        return Variable()
    if len(parts) == 4:
        return Variable(parts[2], parts[1])
    if len(parts) == 7 and (parts[1] is None) != (parts[4] is None):
        return Variable(parts[2] or parts[5], parts[1] or parts[4])
    return None


def read_head_lines(lines: bytes, server: Server) -> tuple[Head, bool] | None:
    """Return the head with these lines, and whether its connection goes on.

    None if the incremental reader has to read it.
    """
    found = _Fields()
    try:
        found.parser.feed_data(b"POST / HTTP/1.1" + lines + b"\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    finally:
        del found.parser  # they refer to each other
    fields = dict(found.fields)
    hosts = [value for name, value in found.fields if name == b"host"]
    has_one_host = len(hosts) == 1 and HOST.fullmatch(hosts[0]) is not None
    if not has_one_host or len(found.fields) > MAX_FIELDS - 2 or not UNUSUAL.isdisjoint(fields):
        return None
    return Head(fields, server), found.keep_alive


class _Fields:
    """Collects the parser's callbacks."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append(field_of(name, value))

    def on_headers_complete(self) -> None:
        # After the end of a request without a body, the parser would not know.
        self.keep_alive = self.parser.should_keep_alive()
