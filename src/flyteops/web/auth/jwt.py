"""JSON Web Tokens: parsing, key sets, signatures, and the checks of audience and validity."""

import base64
import binascii
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from flyteops.errors import UnauthorizedError
from flyteops.web.auth.policy import Claims

LOGGER = logging.getLogger("flyte.auth")

MAX_LENGTH = 16_384
"""Maximum number of characters that a token may have."""

MAX_KEYS = 1000
"""Maximum number of keys of an issuer that are kept."""

MAX_TRIES = 64
"""Maximum number of keys that are tried for one token: with a key id, those of that id; without,
any. Each try costs as much as a signature."""

SHOWN_IDS = 10
"""Maximum number of ids of unused keys in a log line."""

LEEWAY = timedelta(seconds=60)
"""Greatest difference allowed between the issuer's clock and ours."""

MIN_RSA_BITS = 2048

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_jws = jwt.PyJWS()
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class TokenParts(NamedTuple):
    """The parts of a token, not yet verified."""

    header: Mapping[str, Any]
    claims: Claims

    @property
    def algorithm(self) -> str:
        return str(self.header.get("alg", ""))

    @property
    def key_id(self) -> str | None:
        found = self.header.get("kid")
        return found if isinstance(found, str) else None


def invalid_token(why: str) -> UnauthorizedError:
    """Return the error about a token that is not valid."""
    return UnauthorizedError(f"The token is not valid: {why}.", error="invalid_token")


def read_token(token: str) -> TokenParts:
    """Return the parts of a token; raise `UnauthorizedError` if it cannot be parsed."""
    if len(token) > MAX_LENGTH:
        raise invalid_token(f"it is longer than {MAX_LENGTH} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise invalid_token("it is not a JSON Web Token, which has three parts")
    try:
        header, claims = (
            _decode_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in parts[:2]
        )
    except (msgspec.MsgspecError, ValueError, RecursionError, binascii.Error) as error:
        raise invalid_token("its parts are not JSON") from error
    return TokenParts(header, claims)


class PublicKey(NamedTuple):
    """A public key of an issuer, and the algorithms that it may be used with."""

    key_id: str | None
    algorithms: Sequence[str]
    key: Any


def read_keys(entries: Sequence[Any]) -> list[PublicKey]:
    """Return the keys of a key set (RFC 7517) that can verify signatures; others are left out.

    Of more than `MAX_KEYS`, the first are returned; the log has the ids of the others.
    """
    keys = [key for entry in entries if isinstance(entry, dict) for key in _key_of(entry)]
    dropped = keys[MAX_KEYS:]
    if dropped:
        ids = ", ".join(str(key.key_id) for key in dropped[:SHOWN_IDS])
        more = ", ..." if len(dropped) > SHOWN_IDS else ""
        LOGGER.warning(
            "The issuer publishes %d keys; only the first %d are used, and tokens signed with the"
            " others are refused: %s%s",
            len(keys),
            MAX_KEYS,
            ids,
            more,
        )
    return keys[:MAX_KEYS]


def _key_of(entry: dict[str, Any]) -> Iterator[PublicKey]:
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            key: Any = jwt.PyJWK(_public(entry), "EdDSA" if entry.get("kty") == "OKP" else None).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return
    known = tuple(_algorithms_of(key))
    algorithms = (
        known if entry.get("alg") is None else tuple(name for name in known if name == entry["alg"])
    )
    if algorithms:
        key_id = entry.get("kid")
        yield PublicKey(key_id if isinstance(key_id, str) else None, algorithms, key)


def _public(entry: dict[str, Any]) -> dict[str, Any]:
    # The algorithm follows from the key itself, and a private part does not belong here.
    return {
        name: value for name, value in entry.items() if name in ("kty", "n", "e", "crv", "x", "y")
    }


def _algorithms_of(key: object) -> Iterator[str]:
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            yield from RSA
        case ec.EllipticCurvePublicKey() if key.curve.name in CURVES:
            yield CURVES[key.curve.name]
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            yield "EdDSA"


def is_signed_by(token: str, parts: TokenParts, keys: Sequence[PublicKey]) -> bool:
    """Return whether one of these keys has signed a token.

    The key must have the token's key id, unless one of the two has no id.
    """
    return any(_verifies(token, parts, key) for key in _candidates(parts, keys)[:MAX_TRIES])


def has_too_many_keys(parts: TokenParts, keys: Sequence[PublicKey]) -> bool:
    """Return whether more keys may have signed a token than are tried."""
    return len(_candidates(parts, keys)) > MAX_TRIES


def _candidates(parts: TokenParts, keys: Sequence[PublicKey]) -> list[PublicKey]:
    """Return the keys that may have signed a token, those of its key id first."""
    usable = [key for key in keys if parts.algorithm in key.algorithms]
    if parts.key_id is None:
        return usable
    named = [key for key in usable if key.key_id == parts.key_id]
    return named + [key for key in usable if key.key_id is None]


def _verifies(token: str, parts: TokenParts, key: PublicKey) -> bool:
    try:
        _jws.decode(token, key.key, algorithms=[parts.algorithm])
    except (jwt.PyJWTError, ValueError):
        return False
    return True


def check_claims(claims: Claims, issuer: str, audience: str, now: datetime) -> None:
    """Raise `UnauthorizedError` unless a token is for this issuer and audience, and valid then."""
    if claims.get("iss") != issuer:
        raise invalid_token("it is from another issuer")
    given = claims.get("aud")
    if audience not in (given if isinstance(given, list) else [given]):
        raise invalid_token("it is for another audience")
    ends, begins = _number(claims, "exp"), _number(claims, "nbf")
    leeway = int(LEEWAY.total_seconds())  # a whole number, since the others may be of any size
    if ends is None:
        raise invalid_token("it has no expiry (exp)")
    if ends + leeway <= now.timestamp():
        raise invalid_token("it has expired")
    if begins is not None and begins - leeway > now.timestamp():
        raise invalid_token("it is not valid yet (nbf)")


def _number(claims: Claims, name: str) -> float | None:
    found = claims.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise invalid_token(f"its {name} is not a time")
    return found
