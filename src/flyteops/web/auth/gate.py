"""The gate in front of the API: whether a request is let through is decided by its path, its method and its token alone.

That is before anything looks for what is at the path, so that nobody learns that without being let through.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from flyteops.errors import UnauthorizedError
from flyteops.service import Token, TokenBook
from flyteops.service.token import PREFIX, READABLE
from flyteops.web.auth.guest import Guest, Guests
from flyteops.web.auth.own import OWN_POLICY
from flyteops.web.auth.policy import Claims, Match, Policy
from flyteops.web.link import Headers

HOW = "This needs a token, as `Authorization: Bearer TOKEN`; packs and the command `flyte` take it from the variable FLYTE_JWT."


DIRECTLY = " FLYTE_PACKS_WITHOUT_TOKEN does not let in who comes through a proxy: the server sees the address of the proxy alone."


class Admission(NamedTuple):
    """By what a request was let in, and the datastore items that packs may read by it if they declare them."""

    bearer: Token | Claims | Guest | None = None
    items: Sequence[str] = READABLE


class Verifier(Protocol):
    """Knows what a token says."""

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token; raise `UnauthorizedError` when it is not valid."""


class Gate:
    """Lets through what its policy lets through, and what a token of our own lets do. `policy` may be replaced at any time.

    Without a policy and a verifier of other tokens, there are tokens of our own alone.
    """

    def __init__(
        self,
        tokens: TokenBook,
        policy: Policy = OWN_POLICY,
        verifier: Verifier | None = None,
        guests: Guests | None = None,
    ) -> None:
        self.policy = policy
        self._guests = guests
        self._tokens = tokens
        self._verifier = verifier

    async def admit(self, method: str, path: str, headers: Headers, client: tuple[str, int] | None = None) -> Admission:
        """Return by what a request may go on: the token that it needed, what that says, or its peer's address.

        Raise `UnauthorizedError` if it may not.
        """
        match = self.policy.find(method, path)
        if match is not None and match.is_open:
            return Admission(items=match.entry.items)
        text = bearer(headers)
        if text is not None and text.startswith(PREFIX):
            token = self._tokens.check(text)
            _check(OWN_POLICY.find(method, path), token.claims)
            return Admission(token, token.readable)
        guest = None if self._guests is None else await self._guests.find(method, path, headers, client)
        if guest is not None:
            return Admission(guest)
        if match is None:
            raise UnauthorizedError("This is not for anybody: the server's auth policy has no entry for it.")
        if text is None:
            is_behind_proxy = self._guests is not None and self._guests.is_behind_proxy(headers, client)
            raise UnauthorizedError(HOW + (DIRECTLY if is_behind_proxy else ""))
        if self._verifier is None:
            raise UnauthorizedError(f"The token is not one of this server, which begin with {PREFIX}.", error="invalid_token")
        claims = await self._verifier.verify(text)
        _check(match, claims)
        return Admission(claims, match.entry.items)


def _check(match: Match | None, claims: Claims) -> None:
    if match is None or not match.is_satisfied_by(claims):
        raise UnauthorizedError("The token is valid, but does not allow this.", error="insufficient_scope")


def bearer(headers: Headers) -> str | None:
    """Return the token that a request shows, None when it shows none."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip().isascii():
        return None
    return token.strip().decode() or None
