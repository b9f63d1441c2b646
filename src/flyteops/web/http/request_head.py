"""Rules for request heads that the parser does not check (RFC 9110, 9112), and faults as bytes."""

import re
from typing import NamedTuple

import httptools

from flyteops.web.api.problem import ProblemType

HeaderLines = list[tuple[bytes, bytes]]

MAX_HEAD = 65_536
"""Maximum number of bytes of the head of a request, or of its trailers."""

MAX_TARGET = 16_384
"""Maximum number of bytes of a request's target, path and query."""

MAX_FIELDS = 256
"""Maximum number of header lines of a request."""

BAD_REQUEST = ProblemType(400, "bad-request", "This is not an HTTP request.")
BAD_HOST = ProblemType(400, "bad-host", "The request does not name its host as HTTP requires.")
NO_TUNNEL = ProblemType(405, "method-not-allowed", "Method not allowed.")
TOO_SLOW = ProblemType(408, "too-slow", "The request took too long to arrive.")
TARGET_TOO_LONG = ProblemType(414, "target-too-long", "The path and query are too long.")
HEAD_TOO_LARGE = ProblemType(431, "head-too-large", "The headers of the request are too large.")
UNKNOWN_CODING = ProblemType(
    501, "unknown-coding", "The transfer coding of the body is not supported."
)
TURNED_AWAY = ProblemType(503, "busy", "The server is too busy; nothing was changed.")
OTHER_VERSION = ProblemType(505, "other-version", "This version of HTTP is not supported.")

DETAILS = {
    BAD_REQUEST.code: (
        "The request cannot be parsed as HTTP/1.1; a path must be ASCII, everything else in it"
        " percent-encoded."
    ),
    BAD_HOST.code: (
        "HTTP/1.1 requires exactly one Host header: a name or an address, and a port if it is not"
        " the usual one."
    ),
    NO_TUNNEL.code: "CONNECT is not supported: this server is not a proxy.",
    TOO_SLOW.code: "Send the whole request at once; the connection is closed.",
    TARGET_TOO_LONG.code: f"At most {MAX_TARGET} bytes are accepted.",
    HEAD_TOO_LARGE.code: f"At most {MAX_HEAD} bytes in {MAX_FIELDS} lines are accepted.",
    UNKNOWN_CODING.code: (
        "Send the body with Content-Length, or with Transfer-Encoding: chunked and no other coding."
    ),
    TURNED_AWAY.code: "The server is busy with other clients.",
    OTHER_VERSION.code: "This server speaks HTTP/1.1 and HTTP/1.0.",
}

HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?", re.ASCII
)
"""Host and port as in RFC 3986, except for the comma: a proxy that joins two lines to one would put
it there."""

VERSION_ERRORS = ("Invalid HTTP version", "Expected dot", "Pause on PRI/Upgrade")
"""Messages of the parser (llhttp) about the version, or about the first bytes of HTTP/2."""


class Refusal:
    """The place in the queue of a request that cannot be read.

    Its fault is sent once those before it are answered.
    """

    __slots__ = ("fault", "keep_alive")

    def __init__(self, fault: ProblemType) -> None:
        self.fault = fault
        self.keep_alive = False


class HeadError(Exception):
    """A head that the parser accepts and HTTP does not."""

    def __init__(self, fault: ProblemType) -> None:
        super().__init__(fault.title)
        self.fault = fault


class Target(NamedTuple):
    """The target of a request: the path and query as they were sent."""

    path: bytes
    query: bytes


def fault_of(error: httptools.HttpParserError) -> ProblemType:
    """Return the fault that the parser has found."""
    return OTHER_VERSION if str(error).startswith(VERSION_ERRORS) else BAD_REQUEST


def field_of(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header field: the parser keeps white space after a value (RFC 9112, 5)."""
    return name.lower(), value.rstrip(b" \t")


def read_head(version: str, url: bytes, headers: HeaderLines) -> Target:
    """Return the target of a request, and let an authority in its URL replace the Host header.

    Raise `HeadError`.
    """
    if version not in ("1.1", "1.0"):
        raise HeadError(OTHER_VERSION)
    check_size(url, headers)
    check_body_framing(version, headers)
    check_host(version, headers)
    return target_of(url, headers)


def check_size(url: bytes, headers: HeaderLines) -> None:
    """Bound the target, the header lines and their number."""
    size = len(url)
    for name, value in headers:
        size += len(name) + len(value)
    if len(url) > MAX_TARGET:
        raise HeadError(TARGET_TOO_LONG)
    if size > MAX_HEAD or len(headers) > MAX_FIELDS:
        raise HeadError(HEAD_TOO_LARGE)


def check_body_framing(version: str, headers: HeaderLines) -> None:
    """Accept no transfer coding but chunked, and none in HTTP/1.0.

    The parser refuses one beside a length.
    """
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and version == "1.0":
        raise HeadError(BAD_REQUEST)  # a proxy in front may have found another end of the body
    if codings and codings != [b"chunked"]:
        raise HeadError(UNKNOWN_CODING)


def check_host(version: str, headers: HeaderLines) -> None:
    """Require one valid Host header, which HTTP/1.0 may leave out."""
    hosts = [value for name, value in headers if name == b"host"]
    is_missing = not hosts and version == "1.1"
    if is_missing or len(hosts) > 1 or not all(HOST.fullmatch(host) for host in hosts):
        raise HeadError(BAD_HOST)


def target_of(url: bytes, headers: HeaderLines) -> Target:
    """Return path and query.

    A whole URL names the host, whatever the Host header is (RFC 9112, 3.2.2).
    """
    if url == b"*":
        return Target(b"*", b"")
    try:
        parts = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise HeadError(BAD_REQUEST) from error
    if parts.schema:
        if parts.schema.lower() not in (b"http", b"https") or parts.userinfo:
            raise HeadError(BAD_REQUEST)
        authority = re.split(rb"[/?#]", url.partition(b"://")[2], maxsplit=1)[0]
        if not authority or not HOST.fullmatch(authority):
            raise HeadError(BAD_HOST)
        headers[:] = [(b"host", authority), *(line for line in headers if line[0] != b"host")]
    return Target(parts.path or b"/", parts.query or b"")


def without_upgrade(method: bytes, url: bytes, version: str, headers: HeaderLines) -> bytes:
    """Return the head of a request without its upgrade to another protocol, otherwise the same."""
    lines = [b"%b %b HTTP/%b\r\n" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            options = (option.strip() for option in value.split(b","))
            kept = b", ".join(
                each for each in options if each.lower() not in (b"upgrade", b"http2-settings")
            )
            lines.append(b"connection: %b\r\n" % kept)
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join([*lines, b"\r\n"])


def body_length(headers: HeaderLines) -> int | None:
    """Return the length of a body, or None if only its end will show it."""
    length: int | None = 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            length = None
    return length
