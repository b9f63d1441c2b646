"""The issuer of tokens (OpenID Connect): its keys, and the verification of its tokens."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from flyteops.background import BackgroundLoops
from flyteops.errors import UnavailableError
from flyteops.service import utc_now
from flyteops.web.auth.jwt import (
    MAX_TRIES,
    PublicKey,
    TokenParts,
    check_claims,
    has_too_many_keys,
    invalid_token,
    is_signed_by,
    read_keys,
    read_token,
)
from flyteops.web.auth.policy import Claims

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.auth")

PATIENCE = 5.0
"""Seconds that the issuer has to answer."""

MAX_SIZE = 1024 * 1024
"""Largest answer of the issuer, in bytes."""

MIN_PAUSE = 10.0
"""Least number of seconds between two fetches of new keys, however many tokens with unknown keys
arrive."""

REFRESH_EVERY = 900.0
FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0
"""Seconds between requests to the issuer after failures: longer each time, up to a minute."""

KEPT_TOKENS = 2000
"""Number of verified tokens that are remembered, since packs send the same one again and again."""


class IssuerUnavailableError(UnavailableError):
    """The issuer of tokens cannot be reached at the moment; nothing was changed."""


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[Any]


class Issuer:
    """The keys of an issuer.

    Only requests whose token none of the known keys has signed wait for it.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.keys: list[PublicKey] | None = None
        self.fault = "not fetched yet"
        self._monotonic = monotonic
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def keep(self, loops: BackgroundLoops) -> None:
        """Fetch the keys now, and then at intervals, for ever."""
        loop = loops.loop("Fetching the keys of the issuer", LOGGER)
        pause = FIRST_PAUSE
        while True:
            try:
                await self._ask()
            except Exception as error:  # noqa: BLE001 - the loop goes on after any error
                self.fault = f"{type(error).__name__}: {error}"
                loop.failed(error)
            else:
                if self.fault:
                    loop.failed(IssuerUnavailableError(self.fault), is_logged=True)
                else:
                    loop.succeeded()
            if self.fault:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
            else:
                pause = FIRST_PAUSE
                await asyncio.sleep(REFRESH_EVERY)

    async def look_again(self) -> bool:
        """Fetch the keys again unless that was done just now; return whether it was done."""
        if (
            self._asking is None
            and self._asked_at is not None
            and self._monotonic() < self._asked_at + MIN_PAUSE
        ):
            return False
        await self._ask()
        return True

    async def fetch(self) -> None:
        """Fetch the keys now; a failure is logged, and the keys known so far stay in use."""
        await self._ask()
        if not self.fault:
            LOGGER.info("The issuer %s has %d keys", self.url, len(self.keys or ()))

    async def _ask(self) -> None:
        """Fetch the keys; concurrent callers share one request."""
        if self._asking is None:
            self._asked_at = self._monotonic()
            self._asking = asyncio.create_task(self._fetch())
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    def _asked(self, _task: "asyncio.Task[None]") -> None:
        self._asking = None

    async def _fetch(self) -> None:
        try:
            keys = await fetch_keys(self.url)
        except IssuerUnavailableError as error:
            if not self.fault or self.keys is None:
                kept = (
                    "no token can be verified"
                    if self.keys is None
                    else "the keys known so far stay in use"
                )
                LOGGER.warning(
                    "The keys of the issuer cannot be fetched: %s; %s. Retrying.",
                    error.message,
                    kept,
                )
            self.fault = error.message
        else:
            if self.fault:
                LOGGER.info("The issuer %s has %d keys", self.url, len(keys))
            self.keys, self.fault = keys, ""


async def fetch_keys(url: str) -> list[PublicKey]:
    """Return the keys that an issuer publishes; raise `IssuerUnavailableError` with the reason."""
    try:
        async with asyncio.timeout(2 * PATIENCE), httpx2.AsyncClient(timeout=PATIENCE) as client:
            discovery = await _get(
                client, url.rstrip("/") + "/.well-known/openid-configuration", _Discovery
            )
            if discovery.issuer != url:
                raise IssuerUnavailableError(
                    f"{url} calls itself {discovery.issuer!r}; FLYTE_OIDC_ISSUER_URL must be"
                    " exactly that"
                )
            if urlsplit(discovery.jwks_uri).scheme not in ("https", urlsplit(url).scheme):
                raise IssuerUnavailableError(
                    f"{url} has its keys at {discovery.jwks_uri!r}, which is less secure than the"
                    " issuer"
                )
            keys = read_keys((await _get(client, discovery.jwks_uri, _KeySet)).keys)
    except TimeoutError as error:
        raise IssuerUnavailableError(f"{url} has not answered within {2 * PATIENCE:g} s") from error
    if not keys:
        raise IssuerUnavailableError(
            f"{discovery.jwks_uri} has no key that signatures can be verified with"
        )
    return keys


async def _get(client: httpx2.AsyncClient, url: str, kind: type[T]) -> T:
    try:
        async with client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != 200:
                raise IssuerUnavailableError(f"{url} answers {answer.status_code}")
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_SIZE:
                    raise IssuerUnavailableError(f"{url} answers with more than {MAX_SIZE} bytes")
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise IssuerUnavailableError(
            f"{url}: unexpected response; is this an OpenID provider? {error}"
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise IssuerUnavailableError(f"{url}: {str(error) or type(error).__name__}") from error


class OidcVerifier:
    """Returns the claims of verified tokens.

    It verifies the signature, the issuer, the audience and the validity.
    """

    def __init__(
        self, issuer: Issuer, audience: str, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self._clock = clock
        self._signed: dict[str, Claims] = {}
        self._signed_by: list[PublicKey] | None = None

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token.

        Raise `UnauthorizedError`, or `IssuerUnavailableError` as long as no keys are known.
        """
        claims = await self._signed_claims(token)
        check_claims(claims, self.issuer.url, self.audience, self._clock())
        return claims

    async def _signed_claims(self, token: str) -> Claims:
        if self._signed_by is not self.issuer.keys:
            self._signed_by = self.issuer.keys
            self._signed = {}
        found = self._signed.get(token)
        if found is not None:
            return found
        parts = read_token(token)
        # A token that is for another audience or has expired is not a reason to fetch new keys.
        check_claims(parts.claims, self.issuer.url, self.audience, self._clock())
        while not is_signed_by(token, parts, self.issuer.keys or ()):
            if not await self.issuer.look_again():
                if self.issuer.keys is None:
                    raise IssuerUnavailableError(f"No token can be verified: {self.issuer.fault}.")
                raise invalid_token(_why_unsigned(parts, self.issuer.keys))
        if len(self._signed) >= KEPT_TOKENS:
            del self._signed[next(iter(self._signed))]
        self._signed[token] = parts.claims
        return parts.claims


def _why_unsigned(parts: TokenParts, keys: list[PublicKey]) -> str:
    if has_too_many_keys(parts, keys):
        return (
            f"none of the first {MAX_TRIES} of the issuer's keys that may have signed it did; it"
            " should name its key (kid)"
        )
    return "none of the issuer's keys has signed it"
