"""How callers of hooks prove who they are: by a signature over what they send, or by a secret that they show. Pure.

Compared is in constant time, over the bytes that came. Of two secrets, as there are during a rotation, either will do.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec import Struct

Scheme = Literal["hmac", "standard", "gitlab", "authorization", "header", "none"]
Algorithm = Literal["sha256", "sha512", "sha1"]
Encoding = Literal["hex", "base64"]

STANDARD_PREFIX = "whsec_"
"""What secrets of Standard Webhooks begin with; the rest is the key in base64."""

GITLAB_TOKEN = "X-Gitlab-Token"  # noqa: S105 - the name of a header

WINDOW = timedelta(minutes=5)


class Signing(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How the callers of a hook prove who they are. `window` is how far a time that they sign may be from now."""

    scheme: Scheme
    header: str = ""
    prefix: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    timestamp_header: str = ""
    username: str = ""
    window: timedelta = WINDOW


class Request(NamedTuple):
    """A call as it came: the names of headers in lower case, the body byte for byte."""

    headers: Mapping[str, str]
    query: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header, None if it is not there or empty."""
        return self.headers.get(name.lower()) or None


class Refusal(NamedTuple):
    """Why a call was not accepted: in one word for programs, and in words."""

    code: str
    reason: str


class Proof(NamedTuple):
    """That a call is genuine. `identity` is what is signed and the same only in a call that comes again, if there is such."""

    identity: str | None = None


def verify(signing: Signing, secrets: Sequence[str], request: Request, now: datetime) -> Proof | Refusal:
    """Tell whether whoever calls knows one of the secrets, and says so now."""
    match signing.scheme:
        case "hmac":
            return _verify_hmac(signing, secrets, request, now)
        case "standard":
            return _verify_standard(signing, secrets, request, now)
        case "gitlab":
            return _verify_gitlab(signing, secrets, request, now)
        case "authorization":
            return _verify_authorization(signing, secrets, request)
        case "header":
            return _verify_header(signing.header, signing.prefix, secrets, request)
        case "none":
            return Proof()


def sign(signing: Signing, secret: str, body: bytes, now: datetime, identity: str) -> dict[str, str]:
    """Return the headers by which a caller with this secret proves who it is."""
    stamp = str(int(now.timestamp()))
    match signing.scheme:
        case "hmac":
            times = {signing.timestamp_header: stamp} if signing.timestamp_header else {}
            signed = _signed(signing, stamp, body)
            return {**times, signing.header: signing.prefix + _written(_digest(signing, secret, signed), signing)}
        case "standard" | "gitlab":
            signature = _standard_signature(secret, identity, stamp, body)
            return {"webhook-id": identity, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
        case "authorization":
            if signing.username:
                return {"Authorization": "Basic " + b64encode(f"{signing.username}:{secret}".encode()).decode()}
            return {"Authorization": f"Bearer {secret}"}
        case "header":
            return {signing.header: signing.prefix + secret}
        case "none":
            return {}


# ------------------------------------------------------------------------------------------------------------ signatures


def _verify_hmac(signing: Signing, secrets: Sequence[str], request: Request, now: datetime) -> Proof | Refusal:
    given = request.header(signing.header)
    if given is None:
        return _missing(signing.header)
    stamp = ""
    if signing.timestamp_header:
        stamp = request.header(signing.timestamp_header) or ""
        if not stamp:
            return _missing(signing.timestamp_header)
    if not given.startswith(signing.prefix):
        return Refusal("bad-signature", f"{signing.header} does not begin with {signing.prefix!r}")
    signature = given.removeprefix(signing.prefix)
    if signing.encoding == "hex":
        signature = signature.lower()
    signed = _signed(signing, stamp, request.body)
    if not _is_one_of(signature, [_written(_digest(signing, secret, signed), signing) for secret in secrets]):
        return _wrong(signing.header)
    if not stamp:
        return Proof()
    return _misdated(stamp, now, signing.window) or Proof(signature)


def _signed(signing: Signing, stamp: str, body: bytes) -> bytes:
    return stamp.encode("latin-1") + b":" + body if signing.timestamp_header else body


def _digest(signing: Signing, secret: str, signed: bytes) -> bytes:
    return hmac.digest(secret.encode(), signed, signing.algorithm)


def _written(digest: bytes, signing: Signing) -> str:
    return digest.hex() if signing.encoding == "hex" else b64encode(digest).decode()


def _verify_standard(signing: Signing, secrets: Sequence[str], request: Request, now: datetime) -> Proof | Refusal:
    values = []
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        value = request.header(name)
        if value is None:
            return _missing(name)
        values.append(value)
    identity, stamp, given = values
    if "." in identity:
        # Dots join what is signed: with one in the id, a part of the body could be shown as the time, and the time as the id.
        return Refusal(
            "bad-id", "webhook-id has a dot, so the signature does not say where it ends; Standard Webhooks allow none"
        )
    signatures = [entry.removeprefix("v1,") for entry in given.split(" ") if entry.startswith("v1,")]
    expected = [_standard_signature(secret, identity, stamp, request.body) for secret in secrets]
    if True not in [_is_one_of(signature, expected) for signature in signatures]:
        return _wrong("webhook-signature")
    return _misdated(stamp, now, signing.window) or Proof(identity)


def _verify_gitlab(signing: Signing, secrets: Sequence[str], request: Request, now: datetime) -> Proof | Refusal:
    # GitLab shows what is entered as its secret token, and signs with what is entered as its signing token.
    if request.header("webhook-signature") is not None:
        return _verify_standard(signing, secrets, request, now)
    return _verify_header(GITLAB_TOKEN, "", secrets, request)


def _standard_signature(secret: str, identity: str, stamp: str, body: bytes) -> str:
    signed = b".".join([identity.encode("latin-1"), stamp.encode("latin-1"), body])
    return b64encode(hmac.digest(standard_key(secret) or secret.encode(), signed, "sha256")).decode()


def standard_key(secret: str) -> bytes | None:
    """Return the key in a secret of Standard Webhooks, None when it is not written as one."""
    if not secret.startswith(STANDARD_PREFIX):
        return None
    try:
        return b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True) or None
    except (Base64Error, ValueError):
        return None


def _misdated(stamp: str, now: datetime, window: timedelta) -> Refusal | None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return Refusal("bad-timestamp", "the time that is signed is not a number of seconds since 1970")
    age = now.timestamp() - int(stamp)
    if abs(age) <= window.total_seconds():
        return None
    seconds = f"{window.total_seconds():g}"
    when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
    return Refusal("too-old", f"it was signed {when}, and may be {seconds} s away; if it is not a replay, a clock is wrong")


# ---------------------------------------------------------------------------------------------------------------- secrets


def _verify_header(name: str, prefix: str, secrets: Sequence[str], request: Request) -> Proof | Refusal:
    given = request.header(name)
    if given is None:
        return _missing(name)
    if not _is_one_of(given, [prefix + secret for secret in secrets]):
        return Refusal("bad-signature", f"{name} is not the secret")
    return Proof()


def _verify_authorization(signing: Signing, secrets: Sequence[str], request: Request) -> Proof | Refusal:
    given = request.header("authorization")
    if given is None:
        return _missing("Authorization")
    kind, _, rest = given.partition(" ")
    match kind.lower():
        case "bearer":
            username, shown = "", rest.strip()
        case "basic":
            username, shown = _credentials(rest.strip())
        case _:
            return Refusal("bad-signature", "Authorization is neither Basic nor Bearer")
    is_known = _is_one_of(shown, secrets)
    if signing.username and not _is_one_of(username, [signing.username]):
        return Refusal("bad-signature", f"Authorization is not Basic with the user name {signing.username!r}")
    return Proof() if is_known else Refusal("bad-signature", f"Authorization ({kind.capitalize()}) does not have the secret")


def _credentials(text: str) -> tuple[str, str]:
    try:
        username, _, password = b64decode(text, validate=True).decode("latin-1").partition(":")
    except (Base64Error, ValueError):
        return "", ""
    return username, password


def _is_one_of(given: str, expected: Sequence[str]) -> bool:
    # All are looked at, so that nobody learns by the time that it takes which one it was. What came over the wire is latin-1.
    shown = given.encode("latin-1", "replace")
    return True in [hmac.compare_digest(shown, each.encode()) for each in expected]


def _missing(header: str) -> Refusal:
    return Refusal("no-signature", f"there is no header {header}")


def _wrong(header: str) -> Refusal:
    return Refusal("bad-signature", f"{header} is not what the secret makes of this body: another secret, or a changed body")
