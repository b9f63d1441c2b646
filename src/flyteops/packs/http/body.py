"""The body of an answer in the form for flows."""

import base64
import codecs
from typing import Any, Literal

import httpx2
import msgspec

BodyType = Literal["json", "text", "base64"]

_PROBE = b"+2AA-\\ud800\xff\0"
"""Bytes of which UTF-7 and the escapes of Python make half of a surrogate pair, and which are
not text in most charsets.
"""


def read_body(headers: httpx2.Headers, content: bytes) -> tuple[BodyType, Any]:
    """Return a body and its kind: JSON where declared, text where possible, else base64.

    Invalid JSON is returned as text.
    """
    kind, charset = _content_type(headers.get("Content-Type", ""))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return "json", msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    if kind.startswith("text/"):
        return "text", content.decode(charset, "replace")
    if b"\0" not in content:
        try:
            return "text", content.decode(charset)
        except UnicodeError:
            pass
    return "base64", base64.b64encode(content).decode()


def _content_type(header: str) -> tuple[str, str]:
    """Return the media type, and a charset that any bytes can be decoded with."""
    kind, *parameters = (part.strip() for part in header.split(";"))
    charset = next(
        (
            value
            for name, _, value in (each.partition("=") for each in parameters)
            if name.lower() == "charset"
        ),
        "",
    )
    name = charset.strip("\"' ")
    return kind.lower(), name if _is_charset(name) else "utf-8"


def _is_charset(name: str) -> bool:
    """Return whether Python decodes any bytes by this name into text that can be sent.

    Its codecs are more than charsets.
    """
    try:
        codecs.lookup(name)
        _PROBE.decode(name, "replace").encode()
    except (LookupError, ValueError):
        return False
    return True
