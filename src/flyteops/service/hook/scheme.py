"""Authentication of hook callers: by a signature of the content, or by a secret in a header. Pure.

Comparisons take constant time, over the bytes as received. During a rotation, either of two secrets
is valid.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from datetime import datetime

from flyteops.service.hook.signature import is_one_of, sign_hmac, verify_hmac, wrong_signature
from flyteops.service.hook.signing import (
    HookRequest,
    Proof,
    Rejection,
    Signing,
    check_timestamp,
    missing_header,
)

STANDARD_PREFIX = "whsec_"
"""The prefix of secrets of Standard Webhooks; the rest is the key in base64."""

FAMILIES = ("webhook", "svix")
"""The first parts of the names of their headers: the standard one, and an older one."""

GITLAB_TOKEN = "X-Gitlab-Token"  # noqa: S105 - the name of a header


def verify(
    signing: Signing, secrets: Sequence[str], request: HookRequest, now: datetime
) -> Proof | Rejection:
    """Verify that the caller knows one of the secrets, and that its proof is recent."""
    match signing.scheme:
        case "hmac":
            return verify_hmac(signing, secrets, request, now)
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


def sign(
    signing: Signing, secret: str, body: bytes, now: datetime, identity: str
) -> dict[str, str]:
    """Return the headers by which a caller with this secret authenticates."""
    stamp = str(int(now.timestamp()))
    match signing.scheme:
        case "hmac":
            return sign_hmac(signing, secret, body, now, identity)
        case "standard" | "gitlab":
            signature = _standard_signature(secret, identity, stamp, body)
            return {
                "webhook-id": identity,
                "webhook-timestamp": stamp,
                "webhook-signature": f"v1,{signature}",
            }
        case "authorization":
            if signing.username:
                return {
                    "Authorization": "Basic "
                    + b64encode(f"{signing.username}:{secret}".encode()).decode()
                }
            return {"Authorization": f"Bearer {secret}"}
        case "header":
            return {signing.header: signing.prefix + secret}
        case "none":
            return {}


# --------------------------------------------------------------------------------------- signatures


def _verify_standard(
    signing: Signing, secrets: Sequence[str], request: HookRequest, now: datetime
) -> Proof | Rejection:
    family = next((each for each in FAMILIES if request.header(f"{each}-signature")), FAMILIES[0])
    values = []
    for name in (f"{family}-id", f"{family}-timestamp", f"{family}-signature"):
        value = request.header(name)
        if value is None:
            return missing_header(name)
        values.append(value)
    identity, stamp, given = values
    if "." in identity:
        # Dots join the signed parts: with one in the id, a part of the body could be shown as the
        # time, and the time as the id.
        return Rejection(
            "bad-id",
            f"{family}-id has a dot, so the signature does not say where it ends; Standard Webhooks"
            " allow none",
        )
    signatures = [
        entry.removeprefix("v1,") for entry in given.split(" ") if entry.startswith("v1,")
    ]
    expected = [_standard_signature(secret, identity, stamp, request.body) for secret in secrets]
    if True not in [is_one_of(signature, expected) for signature in signatures]:
        return wrong_signature(f"{family}-signature")
    return check_timestamp(stamp, now, signing) or Proof(identity)


def _verify_gitlab(
    signing: Signing, secrets: Sequence[str], request: HookRequest, now: datetime
) -> Proof | Rejection:
    # GitLab shows its "secret token" setting, and signs with its "signing token" setting.
    if request.header("webhook-signature") is not None:
        return _verify_standard(signing, secrets, request, now)
    return _verify_header(GITLAB_TOKEN, "", secrets, request)


def _standard_signature(secret: str, identity: str, stamp: str, body: bytes) -> str:
    signed = b".".join([identity.encode("latin-1"), stamp.encode("latin-1"), body])
    return b64encode(
        hmac.digest(standard_key(secret) or secret.encode(), signed, "sha256")
    ).decode()


def standard_key(secret: str) -> bytes | None:
    """Return the key in a secret of Standard Webhooks, None if it does not have their format."""
    if not secret.startswith(STANDARD_PREFIX):
        return None
    try:
        return b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True) or None
    except (Base64Error, ValueError):
        return None


# ------------------------------------------------------------------------------------------ secrets


def _verify_header(
    name: str, prefix: str, secrets: Sequence[str], request: HookRequest
) -> Proof | Rejection:
    given = request.header(name)
    if given is None:
        return missing_header(name)
    if not is_one_of(given, [prefix + secret for secret in secrets]):
        return Rejection("bad-signature", f"{name} is not the secret")
    return Proof()


def _verify_authorization(
    signing: Signing, secrets: Sequence[str], request: HookRequest
) -> Proof | Rejection:
    given = request.header("authorization")
    if given is None:
        return missing_header("Authorization")
    kind, _, rest = given.partition(" ")
    match kind.lower():
        case "bearer":
            username, shown = "", rest.strip()
        case "basic":
            username, shown = _credentials(rest.strip())
        case _:
            return Rejection("bad-signature", "Authorization is neither Basic nor Bearer")
    is_known = is_one_of(shown, secrets)
    if signing.username and not is_one_of(username, [signing.username]):
        return Rejection(
            "bad-signature", f"Authorization is not Basic with the user name {signing.username!r}"
        )
    return (
        Proof()
        if is_known
        else Rejection(
            "bad-signature", f"Authorization ({kind.capitalize()}) does not have the secret"
        )
    )


def _credentials(text: str) -> tuple[str, str]:
    try:
        username, _, password = b64decode(text, validate=True).decode("latin-1").partition(":")
    except (Base64Error, ValueError):
        return "", ""
    return username, password
