"""HMAC signatures with configurable headers, prefixes, timestamps and encodings. Pure.

Most vendors sign like this. A header may hold several signatures, one for each secret of its
sender, and its timestamp as well, between commas, semicolons or spaces:
`t=1772368200,v1=5257a8...,v1=6ffbb5...`.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from flyteops.service.hook.signing import (
    HookRequest,
    Proof,
    Rejection,
    Signing,
    check_timestamp,
    key_bytes,
    missing_header,
)

SEPARATORS = re.compile(r"[,;\s]+")

MAX_SIGNATURES = 20

PLACEHOLDER = re.compile(r"\{([a-z]*)\}")

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""The ids that may be signed: without characters that separate them from other signed parts."""


class _Signed(NamedTuple):
    stamp: str
    identity: str
    content: bytes


def verify_hmac(
    signing: Signing, secrets: Sequence[str], request: HookRequest, now: datetime
) -> Proof | Rejection:
    """Verify the signature, then the age of its timestamp if there is one."""
    given = request.header(signing.header)
    if given is None:
        return missing_header(signing.header)
    signed = _signed_parts(signing, request)
    if isinstance(signed, Rejection):
        return signed
    signatures = list(_signatures(signing, given))
    if not signatures:
        return Rejection(
            "bad-signature", f"{signing.header} does not begin with {signing.prefix!r}"
        )
    # A secret that is not in the configured encoding makes no signature, so no call is genuine by
    # it.
    keys = [
        key for secret in secrets if (key := key_bytes(secret, signing.secret_encoding)) is not None
    ]
    expected = [_signature(signing, key, signed.content) for key in keys]
    if True not in [is_one_of(signature, expected) for signature in signatures]:
        return wrong_signature(signing.header)
    if not signed.stamp:
        return Proof(signed.identity or None)
    too_old = check_timestamp(signed.stamp, now, signing)
    return too_old or Proof(signed.identity or None, sha256(signed.content).hexdigest())


def sign_hmac(
    signing: Signing, secret: str, body: bytes, now: datetime, identity: str
) -> dict[str, str]:
    """Return the headers of a signed call."""
    stamp = _stamp_of(signing, now) if signing.timestamp_header else ""
    key = key_bytes(secret, signing.secret_encoding) or b""
    signature = signing.prefix + _signature(signing, key, _content(signing, stamp, identity, body))
    headers = {signing.delivery_header: identity} if signing.delivery_header else {}
    if not stamp:
        return {**headers, signing.header: signature}
    written = signing.timestamp_prefix + stamp
    if signing.timestamp_header.lower() == signing.header.lower():
        return {**headers, signing.header: f"{written},{signature}"}
    return {**headers, signing.timestamp_header: written, signing.header: signature}


def pattern_faults(signing: Signing) -> Iterable[str]:
    """Yield the faults in the pattern of the signed bytes."""
    pattern = signing.pattern
    names = PLACEHOLDER.findall(pattern)
    rest = PLACEHOLDER.sub("", pattern)
    if "{" in rest or "}" in rest or not set(names) <= {"timestamp", "id", "body"}:
        yield "has other placeholders than {timestamp}, {id} and {body}"
    if names.count("body") != 1:
        yield "must have {body} once, since only signed content can be trusted"
    if names.count("timestamp") != bool(signing.timestamp_header):
        yield "must have {timestamp} once if there is a timestampHeader, and only then"
    if names.count("id") > bool(signing.delivery_header):
        yield "may have {id} once, and only if there is a deliveryHeader"
    if re.search(r"[A-Za-z0-9_}-]\{id\}|\{id\}[A-Za-z0-9_{-]", pattern):
        yield (
            "must have a separator such as '.' on both sides of {id}: ids have letters, digits, '-'"
            " and '_'"
        )


def is_one_of(given: str, expected: Sequence[str]) -> bool:
    """Return whether a text is among those expected, in a time independent of the match."""
    # All are compared, so that the time does not reveal which one matched. Header values arrive as
    # latin-1.
    shown = given.encode("latin-1", "replace")
    return True in [hmac.compare_digest(shown, each.encode()) for each in expected]


def wrong_signature(header: str) -> Rejection:
    """Return the refusal of a signature that no secret makes."""
    return Rejection(
        "bad-signature",
        f"{header} does not match the body: the secret differs, or the body was changed",
    )


def _signed_parts(signing: Signing, request: HookRequest) -> _Signed | Rejection:
    stamp = _stamp(signing, request) if signing.timestamp_header else ""
    if isinstance(stamp, Rejection):
        return stamp
    identity = ""
    if "{id}" in signing.pattern:
        identity = request.header(signing.delivery_header) or ""
        if not identity:
            return missing_header(signing.delivery_header)
        if CALL_ID.fullmatch(identity) is None:
            return Rejection(
                "bad-id",
                f"{signing.delivery_header} has other characters than letters, digits, '-' and '_'",
            )
    return _Signed(stamp, identity, _content(signing, stamp, identity, request.body))


def _stamp(signing: Signing, request: HookRequest) -> str | Rejection:
    header, prefix = signing.timestamp_header, signing.timestamp_prefix
    given = request.header(header)
    if given is None:
        return missing_header(header)
    if not prefix:
        return given
    stamps = [
        entry.removeprefix(prefix) for entry in SEPARATORS.split(given) if entry.startswith(prefix)
    ]
    if len(stamps) != 1 or not stamps[0]:
        return Rejection(
            "bad-timestamp", f"{header} does not have exactly one time behind {prefix!r}"
        )
    return stamps[0]


def _signatures(signing: Signing, given: str) -> Iterable[str]:
    # A prefix may itself end with a comma, as in `v1,K5oZ... v1,bm9l...`.
    entries = dict.fromkeys(
        [given, *given.split()[:MAX_SIGNATURES], *SEPARATORS.split(given)[:MAX_SIGNATURES]]
    )
    for entry in entries:
        if entry and entry.startswith(signing.prefix):
            signature = entry.removeprefix(signing.prefix)
            yield signature.lower() if signing.encoding == "hex" else _standard_base64(signature)


def _standard_base64(signature: str) -> str:
    """Return base64 in the standard alphabet, with its padding; some senders write the other."""
    text = signature.rstrip("=").replace("-", "+").replace("_", "/")
    return text + "=" * (-len(text) % 4)


def _content(signing: Signing, stamp: str, identity: str, body: bytes) -> bytes:
    values = {"timestamp": stamp.encode("latin-1"), "id": identity.encode("latin-1"), "body": body}
    parts = PLACEHOLDER.split(signing.pattern)  # texts and names alternate
    return b"".join(
        values[part] if index % 2 else part.encode() for index, part in enumerate(parts)
    )


def _stamp_of(signing: Signing, now: datetime) -> str:
    match signing.timestamp_format:
        case "seconds":
            return str(int(now.timestamp()))
        case "milliseconds":
            return str(int(now.timestamp() * 1000))
        case "iso8601":
            return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _signature(signing: Signing, key: bytes, content: bytes) -> str:
    digest = hmac.digest(key, content, signing.algorithm)
    return digest.hex() if signing.encoding == "hex" else b64encode(digest).decode()
