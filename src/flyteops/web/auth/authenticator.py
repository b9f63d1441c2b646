"""The authenticator in front of the API, which admits requests by path, method and token.

It decides before anything looks up the resource, so that an unauthorized client does not
learn whether it exists.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from flyteops.errors import UnauthorizedError
from flyteops.service import Token, TokenRegistry
from flyteops.service.token import PREFIX, READABLE
from flyteops.web.api.link import Headers
from flyteops.web.auth.guest import TrustedPacks, TrustedSender
from flyteops.web.auth.policy import Claims, Policy, PolicyMatch
from flyteops.web.auth.tokens import OWN_POLICY

HOW = (
    "A token is required, as `Authorization: Bearer TOKEN`; packs and the command `flyte` read it"
    " from the variable FLYTE_JWT."
)


DIRECTLY = (
    " FLYTE_PACKS_WITHOUT_TOKEN does not apply behind a proxy: the server only sees the address of"
    " the proxy."
)


class Authorization(NamedTuple):
    """The credentials that admitted a request.

    `items` are the datastore items that packs may read by it if they declare them.
    """

    bearer: Token | Claims | TrustedSender | None = None
    items: Sequence[str] = READABLE


class TokenVerifier(Protocol):
    """Verifies tokens of an OIDC issuer."""

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token; raise `UnauthorizedError` if it is not valid."""


class Authenticator:
    """Admits the requests that its policy, or a token of our own, allows.

    `policy` may be replaced at any time. Without a policy and a verifier for other tokens, only
    tokens of our own are valid.
    """

    def __init__(
        self,
        tokens: TokenRegistry,
        policy: Policy = OWN_POLICY,
        verifier: TokenVerifier | None = None,
        guests: TrustedPacks | None = None,
    ) -> None:
        self.policy = policy
        self._guests = guests
        self._tokens = tokens
        self._verifier = verifier

    async def authorize(
        self, method: str, path: str, headers: Headers, client: tuple[str, int] | None = None
    ) -> Authorization:
        """Return the credentials of a request: its token if needed, its claims, or its address.

        Raise `UnauthorizedError` if the request is not allowed.
        """
        match = self.policy.find(method, path)
        if match is not None and match.is_open:
            return Authorization(items=match.entry.items)
        text = bearer(headers)
        if text is not None and text.startswith(PREFIX):
            token = self._tokens.check(text)
            _check(OWN_POLICY.find(method, path), token.claims)
            return Authorization(token, token.readable)
        guest = (
            None if self._guests is None else await self._guests.find(method, path, headers, client)
        )
        if guest is not None:
            return Authorization(guest)
        if match is None:
            raise UnauthorizedError(
                "Not allowed: the server's auth policy has no entry for this request."
            )
        if text is None:
            is_behind_proxy = self._guests is not None and self._guests.is_behind_proxy(
                headers, client
            )
            raise UnauthorizedError(HOW + (DIRECTLY if is_behind_proxy else ""))
        if self._verifier is None:
            raise UnauthorizedError(
                f"The token is not one of this server, which begin with {PREFIX}.",
                error="invalid_token",
            )
        claims = await self._verifier.verify(text)
        _check(match, claims)
        return Authorization(claims, match.entry.items)


def _check(match: PolicyMatch | None, claims: Claims) -> None:
    if match is None or not match.is_satisfied_by(claims):
        raise UnauthorizedError(
            "The token is valid, but does not allow this.", error="insufficient_scope"
        )


def bearer(headers: Headers) -> str | None:
    """Return the bearer token of a request, or None if it has none."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip().isascii():
        return None
    return token.strip().decode() or None
