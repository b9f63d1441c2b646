"""Access control: the authenticator of a server, made from its settings and kept up to date."""

import logging
import os
import shlex
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flyteops.background import BackgroundLoops
from flyteops.errors import ConflictError, InputError, Problem, StoreError
from flyteops.server.watch import FileWatch
from flyteops.service import TokenRegistry, TokenRequest
from flyteops.settings import Settings
from flyteops.storage import path_of
from flyteops.web.api.routes import OPERATIONS
from flyteops.web.app import about
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.guest import Find, TrustedPacks
from flyteops.web.auth.oidc import Issuer, OidcVerifier
from flyteops.web.auth.policy import Policy, uncovered
from flyteops.web.auth.policyfile import read_policy

LOGGER = logging.getLogger("flyte.auth")

POLICY = "FLYTE_AUTH_POLICY_PATH"

FIRST = "first"
"""The id of the token that a server creates by itself.

It is the same everywhere, so that only one of several servers creates it.
"""

LOCAL = ("localhost", "127.0.0.1", "::1")


def load_policy(path: str) -> Policy:
    """Return the policy in a file; raise `InputError` with every fault."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        fault = Problem("", f"cannot be read: {error.strerror}; give a YAML file")
        raise InputError("The auth policy cannot be read.", problems=[fault]) from error
    return read_policy(data)


def policy_faults(path: str) -> Iterator[Problem]:
    """Yield the faults of a policy file, as faults of the setting that names it."""
    try:
        load_policy(path)
    except InputError as error:
        for problem in error.problems:
            yield Problem(POLICY, f"{path!r} {problem}")


def default_path(store: str) -> str:
    """Return the path of the first admin's token: beside the store, if that is a file."""
    return f"{path_of(store)}.admin-token" if store.startswith("sqlite:") else "flyte.admin-token"


class SecretFile:
    """A file that only this user can read.

    It gets its name when complete, so it is never seen in part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._part = self.path.with_name(f"{self.path.name}.{os.getpid()}")

    def write(self, text: str) -> None:
        """Write the text to the disk; raise `StoreError`."""
        try:
            self._part.unlink(missing_ok=True)
            with open(self._part, "x", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            where = f"{str(self.path)!r}: {error.strerror}"
            raise StoreError(
                f"Cannot write an admin's token to {where}. Name another file in"
                " FLYTE_ADMIN_TOKEN_PATH."
            ) from error

    def keep(self) -> None:
        """Rename the temporary file over the target."""
        self._part.replace(self.path)

    def drop(self) -> None:
        """Remove the temporary file."""
        self._part.unlink(missing_ok=True)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)


class AccessControl:
    """The authenticator, and the tasks that keep its policy and keys up to date.

    Without an OpenID provider there are neither.
    """

    def __init__(
        self, settings: Settings, tokens: TokenRegistry, loops: BackgroundLoops, find_pack: Find
    ) -> None:
        self._loops = loops
        self._settings = settings
        self._tokens = tokens
        self._issuer = (
            None if settings.oidc_issuer_url is None else Issuer(settings.oidc_issuer_url)
        )
        self._path = settings.auth_policy_path
        self._secret = SecretFile(Path(settings.admin_token_path or default_path(settings.store)))
        guests = (
            TrustedPacks(settings.packs_without_token, find_pack)
            if settings.packs_without_token
            else None
        )
        self.authenticator = Authenticator(tokens, guests=guests)
        if self._issuer is not None and self._path is not None:
            self._watch = FileWatch(self._path)
            verifier = OidcVerifier(self._issuer, settings.oidc_issuer_client_id or "")
            self.authenticator = Authenticator(tokens, load_policy(self._path), verifier, guests)

    async def make_first_token(self) -> None:
        """Write an admin's token to the configured path if auth is by tokens without an admin."""
        if self._settings.auth is None or self._tokens.has_admin():
            tokens = self._tokens.list()
            LOGGER.info(
                "This server has %d tokens, %d of them for admins",
                len(tokens),
                sum(each.is_admin for each in tokens),
            )
            return
        token, text = self._tokens.make(
            TokenRequest(is_admin=True, description="made at a start without an admin"), FIRST
        )
        # The file comes first: a stored token that is written nowhere would lock everybody out for
        # good.
        self._secret.write(f"{text}\n")
        try:
            await self._tokens.add(token)
        except ConflictError:
            self._secret.drop()
            LOGGER.info(
                "Another server is creating the first admin token; its log says where it is"
            )
            return
        self._secret.keep()
        LOGGER.warning(
            "No admin token existed, so one was written to %s, readable by this user only. To use"
            " it:"
            ' export FLYTE_JWT="$(cat %s)". Then make one for each person with `flyte tokens create'
            " --admin`, and revoke %r.",
            self._secret.path,
            shlex.quote(str(self._secret.path)),
            FIRST,
        )

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return the background tasks of the server."""
        return [] if self._issuer is None else [self._issuer.keep(self._loops), self._keep_policy()]

    async def reload(self) -> list[str]:
        """Load the policy and the issuer's keys again, or log why they stay; return their names.

        Without an issuer, the list is empty.
        """
        if self._issuer is None:
            return []
        self._load_policy()
        await self._issuer.fetch()
        return ["the auth policy", "the keys of the issuer"]

    async def _keep_policy(self) -> None:
        async for is_new in self._watch.changes():
            if is_new:
                self._load_policy()

    def _load_policy(self) -> None:
        loop = self._loops.loop("Loading the auth policy", LOGGER)
        try:
            self.authenticator.policy = load_policy(self._path or "")
        except InputError as error:
            reason = "; ".join(map(str, error.problems))
            LOGGER.error("The new auth policy is not used: %s", reason)
            loop.failed(InputError(reason), is_logged=True)
        else:
            loop.succeeded()
            LOGGER.info("The new auth policy is in use")
            warn_of_gaps(self.authenticator.policy)


def announce_access(settings: Settings, *, is_local: bool) -> None:
    """Log the ways of access, and warnings about them."""
    if not is_local and not settings.has_tls:
        LOGGER.warning(
            "Tokens are sent unencrypted: set FLYTE_TLS_CERT_PATH, or put a proxy with TLS in"
            " front."
        )
    if settings.auth is not None:
        LOGGER.info(
            "Requests are authorized by tokens of this server: `flyte tokens` creates, lists and"
            " revokes them"
        )
    warn_of_guests(settings)
    if settings.oidc_issuer_url is None or settings.auth_policy_path is None:
        return
    LOGGER.info(
        "Requests are authorized by the policy in %r and tokens of %s",
        settings.auth_policy_path,
        settings.oidc_issuer_url,
    )
    issuer = urlsplit(settings.oidc_issuer_url)
    if issuer.scheme == "http" and issuer.hostname not in LOCAL:
        LOGGER.warning(
            "The keys of the issuer are fetched unencrypted, so tokens can be forged on the way;"
            " use https."
        )
    warn_of_gaps(load_policy(settings.auth_policy_path))


def warn_of_guests(settings: Settings) -> None:
    """Log the packs that are admitted without a token, with the networks of their addresses."""
    for pack in settings.packs_without_token:
        reach = (
            "everybody"
            if pack.network.prefixlen == 0
            else f"any client with an address in {pack.network}"
        )
        LOGGER.warning(
            "FLYTE_PACKS_WITHOUT_TOKEN: %s may work as the pack %s without a token: take its"
            " commands, with the secrets in them, and send its events.",
            reach,
            str(pack).rpartition("@")[0],
        )


def warn_of_gaps(policy: Policy) -> None:
    """Log requests that no policy entry allows, and requests that are open but should not be."""
    routes = [(operation.method, operation.path) for operation in (*OPERATIONS, *about())]
    gaps = uncovered(policy, routes)
    if gaps:
        missing = ", ".join(gaps)
        LOGGER.warning(
            "The auth policy has no entry for %d of %d requests, which are refused: %s",
            len(gaps),
            len(routes),
            missing,
        )
    maker = policy.find("POST", "/v1/tokens")
    if maker is not None and maker.is_open:
        LOGGER.warning(
            "The auth policy lets anyone create admin tokens (POST /v1/tokens); add claims to that"
            " entry."
        )
