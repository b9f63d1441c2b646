"""Tokens for authentication: the issuer's and our own, changed before or after signing."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from flyteops.errors import UnauthorizedError
from flyteops.service import Service, TokenRequest
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.jwt import read_keys
from flyteops.web.auth.oidc import Issuer, OidcVerifier
from flyteops.web.auth.policyfile import read_policy
from fuzz.mutation import mutated, reshaped
from fuzz.server import Ask, opening
from fuzz.target import Target
from tests.provider import PRIVATE, jwk

# No server is there: the keys are known from the start.
ISSUER, AUDIENCE = "http://127.0.0.1:9", "flyte"
POLICY = b"- path: /v1/flows\n  claims: {groups: [ops]}\n"
KEYS = ("RSA", "ES256", "EdDSA")
ALGORITHMS = {"RSA": "RS256", "ES256": "ES256", "EdDSA": "EdDSA"}
PUBLIC = PRIVATE["RSA"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

NOW = int(time.time())
HEADS = [
    json.dumps({"alg": algorithm, "kid": key, "typ": "JWT"}).encode()
    for key, algorithm in ALGORITHMS.items()
]
CLAIMS = [
    json.dumps(
        {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": NOW + 86_400,
            "nbf": NOW,
            "sub": "s",
            "groups": ["ops"],
        }
    ).encode()
]

WORDS = (
    b'"alg":"none"',
    b'"alg":"None"',
    b'"alg":"HS256"',
    b'"alg":["RS256"]',
    b'"kid":null',
    b'"kid":"RSA2"',
    b'"kid":1',
    b'"jwk":{}',
    b'"jku":"http://x"',
    b'"crit":["exp"]',
    b'"b64":false',
    b'"exp":"1"',
    b'"exp":1e308',
    b'"exp":-1',
    b'"exp":true',
    b'"aud":["flyte"]',
    b'"aud":null',
    b'"aud":[[]]',
    b'"iss":""',
    b'"groups":"ops"',
    b'"groups":{}',
    b'"nbf":9999999999',
    b"null",
    b"[]",
    b"{}",
    b",",
)


def base64url(data: bytes) -> str:
    """Return data in the encoding of tokens."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(head: bytes, claims: bytes, signer: str) -> str:
    """Return a token.

    It is signed by one of the issuer's keys, by a holder of the public key, or unsigned.
    """
    text = f"{base64url(head)}.{base64url(claims)}"
    if signer in KEYS:
        algorithm = jwt.get_algorithm_by_name(ALGORITHMS[signer])
        signature = algorithm.sign(text.encode(), PRIVATE[signer])
    else:
        signature = {"hmac": hmac.digest(PUBLIC, text.encode(), hashlib.sha256), "nobody": b""}[
            signer
        ]
    return f"{text}.{base64url(signature)}"


GENUINE = [signed(head, CLAIMS[0], key) for head, key in zip(HEADS, KEYS, strict=True)]


def tokens() -> st.SearchStrategy[tuple[str, str]]:
    """Return tokens and their signers; an empty name means that it was not the issuer."""
    few = 3
    claims = mutated(CLAIMS, WORDS, most_edits=few) | reshaped(
        [json.loads(claims) for claims in CLAIMS]
    )
    made = st.tuples(
        st.sampled_from(HEADS) | mutated(HEADS, WORDS, most_edits=few),
        claims,
        st.sampled_from([*KEYS, "hmac", "nobody"]),
    )
    forged = mutated(
        [token.encode() for token in GENUINE],
        [b".", b"=", b"-", b"_", b"eyJhbGciOiJub25lIn0"],
        most_edits=few,
    )
    own = mutated([b"OWN"], [b"flyte_", b"_", b"OWN"], most_edits=few)
    return st.one_of(
        made.map(lambda parts: (signed(*parts), parts[2] if parts[2] in KEYS else "")),
        st.tuples(forged.map(lambda data: data.decode("latin-1")), st.just("")),
        st.tuples(own.map(lambda data: data.decode("latin-1")), st.just("")),
    )


def may_pass(token: str, signer: str, own: str) -> bool:
    """Return whether a token may be accepted.

    That is one of ours, an unchanged one of the issuer, or a signed one with the required claims.
    """
    if token == own or token.rpartition(".")[0] in {
        genuine.rpartition(".")[0] for genuine in GENUINE
    }:
        return True
    if not signer:
        return False
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    audience = claims["aud"]
    return bool(
        claims["iss"] == ISSUER
        and (audience == AUDIENCE or AUDIENCE in audience)
        and claims["exp"] + 60 > time.time()
    )


@asynccontextmanager
async def standing_at_the_gate(service: Service) -> AsyncIterator[Ask]:
    """Serve authentication with one token of our own and the keys of an issuer."""
    _, own = await service.tokens.create(TokenRequest(is_admin=True, lasts=timedelta(days=1)))
    issuer = Issuer(ISSUER, monotonic=lambda: 0.0)
    issuer.keys = read_keys([jwk(key) for key in KEYS])
    gate = Authenticator(service.tokens, read_policy(POLICY), OidcVerifier(issuer, AUDIENCE))

    async def ask(given: Any) -> str:
        token, signer = given
        token = token.replace("OWN", own)
        headers = {b"authorization": b"Bearer " + token.encode("latin-1", errors="replace")}
        try:
            await gate.authorize("GET", "/v1/flows", headers)
        except UnauthorizedError:
            return "refused"
        assert may_pass(token.strip(), signer, own), token
        return "let in"

    yield ask


ROOMS = (Target("token", 15, tokens(), opening(standing_at_the_gate)),)
