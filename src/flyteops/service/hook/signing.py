"""Data types of authentication: signing settings, requests and results of verification. Pure."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec import Struct

from flyteops.errors import InputError
from flyteops.timeformat import parse_timestamp

Scheme = Literal["hmac", "standard", "gitlab", "authorization", "header", "none"]
Algorithm = Literal["sha256", "sha512", "sha1"]
Encoding = Literal["hex", "base64"]
TimestampFormat = Literal["seconds", "milliseconds", "iso8601"]
SecretEncoding = Literal["text", "hex", "base64"]

WINDOW = timedelta(minutes=5)

DEFAULT_SECRET_LIMIT = 2

MAX_BODY_LENGTH = 10 * 1024 * 1024


class Signing(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The authentication of the callers of a hook, and the place of their call ids.

    `window` is the largest difference between a signed time and now. `signed` is the pattern of the
    signed bytes, with the placeholders `{timestamp}`, `{id}` and `{body}`; left empty, it is the
    body, or the timestamp, a colon and the body.
    """

    scheme: Scheme
    header: str = ""
    prefix: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    timestamp_header: str = ""
    username: str = ""
    window: timedelta = WINDOW
    signed: str = ""
    timestamp_prefix: str = ""
    timestamp_field: str = ""
    timestamp_format: TimestampFormat = "seconds"
    secret_encoding: SecretEncoding = "text"  # noqa: S105 - a setting
    delivery_header: str = ""
    delivery_field: str = ""
    secret_limit: int = DEFAULT_SECRET_LIMIT

    @property
    def pattern(self) -> str:
        """The pattern of the signed bytes."""
        return self.signed or ("{timestamp}:{body}" if self.timestamp_header else "{body}")


SETTINGS = tuple(name for name in Signing.__struct_fields__ if name != "window")
"""The settings that clients write in the stored form."""


class HookRequest(NamedTuple):
    """A call as received: header names in lower case, the body byte for byte.

    `max_bytes` bounds a body.
    """

    headers: Mapping[str, str]
    query: bytes
    body: bytes
    max_bytes: int = MAX_BODY_LENGTH

    def header(self, name: str) -> str | None:
        """Return a header, None if it is missing or empty."""
        return self.headers.get(name.lower()) or None


class Rejection(NamedTuple):
    """The reason why a call was not accepted: as a code for programs, and in words."""

    code: str
    reason: str


class Proof(NamedTuple):
    """The proof that a call is genuine.

    `identity` is a signed id of the call; `digest` is of signed bytes with a timestamp, and the
    same only in a replay.
    """

    identity: str | None = None
    digest: str | None = None


def missing_header(header: str) -> Rejection:
    """Return the refusal of a call without a header."""
    return Rejection("no-signature", f"there is no header {header}")


def check_timestamp(stamp: str, now: datetime, signing: Signing) -> Rejection | None:
    """Return the refusal of a signed time that is unreadable or outside the window, else None."""
    at = _seconds(stamp, signing.timestamp_format)
    if at is None:
        return Rejection(
            "bad-timestamp",
            f"the time that is signed is not {TIMESTAMPS[signing.timestamp_format]}",
        )
    age = now.timestamp() - at
    if abs(age) <= signing.window.total_seconds():
        return None
    seconds = f"{signing.window.total_seconds():g}"
    when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
    return Rejection(
        "too-old",
        f"it was signed {when}; the limit is {seconds} s; unless it is a replay, a clock is wrong",
    )


TIMESTAMPS: Mapping[str, str] = {
    "seconds": "a number of seconds since 1970",
    "milliseconds": "a number of milliseconds since 1970",
    "iso8601": "a time such as 2026-03-01T12:30:00Z",
}


def _seconds(stamp: str, written: TimestampFormat) -> float | None:
    if written == "iso8601":
        try:
            at = parse_timestamp(stamp, "timestamp")
        except InputError:
            return None
        return None if at is None else at.timestamp()
    if not (
        stamp.isascii() and stamp.isdigit() and len(stamp) <= (12 if written == "seconds" else 15)
    ):
        return None
    return int(stamp) / (1 if written == "seconds" else 1000)


def key_bytes(secret: str, written: SecretEncoding) -> bytes | None:
    """Return the HMAC key that a secret encodes, None if the secret is not in that encoding."""
    if written == "text":
        return secret.encode()
    try:
        return (
            bytes.fromhex(secret) if written == "hex" else b64decode(secret, validate=True)
        ) or None
    except (Base64Error, ValueError):
        return None
