"""The gate in front of the API: whether a request is let through is decided by its path, its method and its token alone.

That is before anything looks for what is at the path, so that nobody learns that without being let through.
"""

from typing import Protocol

from flyteops.errors import UnauthorizedError
from flyteops.service import Token, TokenBook
from flyteops.service.token import PREFIX
from flyteops.web.auth.own import OWN_POLICY
from flyteops.web.auth.policy import Claims, Match, Policy
from flyteops.web.link import Headers

HOW = "This needs a token, as `Authorization: Bearer TOKEN`; packs and the command `flyte` take it from the variable FLYTE_JWT."


class Verifier(Protocol):
    """Knows what a token says."""

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token; raise `UnauthorizedError` when it is not valid."""


class Gate:
    """Lets through what its policy lets through, and what a token of our own lets do. `policy` may be replaced at any time.

    Without a policy and a verifier of other tokens, there are tokens of our own alone.
    """

    def __init__(self, tokens: TokenBook, policy: Policy = OWN_POLICY, verifier: Verifier | None = None) -> None:
        self.policy = policy
        self._tokens = tokens
        self._verifier = verifier

    async def admit(self, method: str, path: str, headers: Headers) -> Token | Claims | None:
        """Return when a request may go on, with the token that it needed or what that says; else raise `UnauthorizedError`."""
        match = self.policy.find(method, path)
        if match is not None and match.is_open:
            return None
        text = bearer(headers)
        if text is not None and text.startswith(PREFIX):
            token = self._tokens.check(text)
            _check(OWN_POLICY.find(method, path), token.claims)
            return token
        if match is None:
            raise UnauthorizedError("This is not for anybody: the server's auth policy has no entry for it.")
        if text is None:
            raise UnauthorizedError(HOW)
        if self._verifier is None:
            raise UnauthorizedError(f"The token is not one of this server, which begin with {PREFIX}.", error="invalid_token")
        claims = await self._verifier.verify(text)
        _check(match, claims)
        return claims


def _check(match: Match | None, claims: Claims) -> None:
    if match is None or not match.is_satisfied_by(claims):
        raise UnauthorizedError("The token is valid, but does not allow this.", error="insufficient_scope")


def bearer(headers: Headers) -> str | None:
    """Return the token that a request shows, None when it shows none."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip().isascii():
        return None
    return token.strip().decode() or None
