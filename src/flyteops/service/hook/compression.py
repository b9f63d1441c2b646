"""Bounded decompression of bodies, so that a small call cannot fill the memory. Pure."""

import zlib

from flyteops.errors import InputError, TooLargeError
from flyteops.service.hook.signing import HookRequest

WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""The codings, and the zlib window sizes of their formats."""

RAW_DEFLATE = -15


MOST_PARTS = 100
"""The number of parts that a body may have.

Each is searched for in all that follows, so many parts cost a lot.
"""


def is_compressed(request: HookRequest) -> bool:
    """Return whether the body of a call is compressed."""
    return _coding(request) not in ("", "identity")


def decompressed(request: HookRequest) -> HookRequest:
    """Return a call with its body decompressed.

    Raise `InputError`, or `TooLargeError` beyond its bound.
    """
    coding = _coding(request)
    if coding not in WINDOWS:
        raise InputError(f"The body is compressed ({coding[:40]}); hooks read gzip and deflate.")
    try:
        body = _inflate(request.body, WINDOWS[coding], request.max_bytes)
    except zlib.error:
        if coding != "deflate":
            raise _broken(coding) from None
        body = _raw_inflate(request)
    return request._replace(body=body)


def _coding(request: HookRequest) -> str:
    return (request.header("content-encoding") or "").strip().lower()


def _raw_inflate(request: HookRequest) -> bytes:
    # Some clients leave out the header of the coding "deflate".
    try:
        return _inflate(request.body, RAW_DEFLATE, request.max_bytes)
    except zlib.error as error:
        raise _broken("deflate") from error


def _inflate(data: bytes, window: int, limit: int) -> bytes:
    """Decompress all parts of the data; gzip allows several, one after another."""
    parts: list[bytes] = []
    room = limit
    while data:
        if len(parts) == MOST_PARTS:
            raise InputError(f"The body has more than {MOST_PARTS} compressed parts.")
        stream = zlib.decompressobj(window)
        part = stream.decompress(data, room + 1)
        if len(part) > room:
            raise TooLargeError(f"The body is larger than {limit} bytes once it is decompressed.")
        if not stream.eof:
            raise zlib.error("incomplete")
        parts.append(part)
        room -= len(part)
        data = stream.unused_data
    return b"".join(parts)


def _broken(coding: str) -> InputError:
    return InputError(f"The compressed body is not valid {coding}, or is incomplete.")
