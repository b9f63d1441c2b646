"""A response: as handlers return it, and as the bytes of its head and body."""

import asyncio
from typing import Any, NamedTuple, Protocol

import msgspec

from flyteops.document import to_yaml
from flyteops.service.auditlog.entry import AuditEntry
from flyteops.web.api.media import JSON, YAML
from flyteops.web.api.request import Head, Request
from flyteops.web.api.schemas.wire import ResponseBody

HeaderList = tuple[tuple[bytes, bytes], ...]

LARGE = 64 * 1024
"""Size in bytes from which slow reading and writing is done in a thread, so that others need not
wait."""

encode = msgspec.json.Encoder().encode


class EncodedResponse(NamedTuple):
    """A response in bytes; `head` are its header lines.

    If it `closes`, the connection ends with it.
    """

    status: int
    head: bytes
    body: bytes
    closes: bool


class App(Protocol):
    """The application that handles requests."""

    async def respond(self, request: Request) -> EncodedResponse | None:
        """Return the response; None if the client has gone. Raise nothing."""


class Response(msgspec.Struct, frozen=True):
    """A response to a request.

    `value` is written in the format that the client asks for; bytes go out as they are.
    """

    status: int
    value: ResponseBody | AuditEntry | bytes | dict[str, Any] | None = None
    content_type: bytes = b""
    headers: HeaderList = ()

    async def in_format(self, head: Head) -> "Response":
        """Return the response in the format that this head asks for, if that is not JSON."""
        if not head.wants_yaml or self.value is None or isinstance(self.value, bytes):
            return self
        body = encode(self.value)
        value = msgspec.json.decode(body)
        text = to_yaml(value) if len(body) < LARGE else await asyncio.to_thread(to_yaml, value)
        return msgspec.structs.replace(self, value=text, content_type=YAML)

    def message(self, head: Head, more: bytes = b"") -> EncodedResponse:
        """Return the message for a request with that head; `more` are further header lines.

        Raise `ValueError` for a header of several lines.
        """
        value = self.value
        if value is None and not self.headers and not self.content_type:
            lines = more if self.status == 204 else more + b"content-length: 0\r\n"
            return EncodedResponse(self.status, lines, b"", self._closes(head))
        if value is None or isinstance(value, bytes):
            content_type, body = self.content_type, value or b""
        else:
            content_type, body = JSON, encode(value)
        lines = more if self.status == 204 else b"%bcontent-length: %d\r\n" % (more, len(body))
        for name, field in self.headers:
            lines = b"%b%b: %b\r\n" % (lines, name, _checked(field, name))
        if content_type and self.status != 204:
            lines = b"%bcontent-type: %b\r\nx-content-type-options: nosniff\r\n" % (
                lines,
                _checked(content_type),
            )
        return EncodedResponse(self.status, lines, body, self._closes(head))

    def _closes(self, head: Head) -> bool:
        # The client now holds back the body: it will never arrive.
        return self.status >= 400 and b"expect" in head.fields


def _checked(value: bytes, name: bytes = b"content-type") -> bytes:
    if b"\n" in value or b"\r" in value:
        raise ValueError(f"the header {name.decode()} would be more than one")
    return value
