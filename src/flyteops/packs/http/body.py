"""The body of an answer in the form for flows."""

import base64
import codecs
from typing import Any, Literal

import httpx2
import msgspec

BodyType = Literal["json", "text", "base64"]


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
    """Return the media type, and a charset that Python knows."""
    kind, *parameters = (part.strip() for part in header.split(";"))
    charset = next((value for name, _, value in (each.partition("=") for each in parameters) if name.lower() == "charset"), "")
    try:
        found = codecs.lookup(charset.strip("\"' "))
    except (LookupError, ValueError):
        return kind.lower(), "utf-8"
    return kind.lower(), found.name
