"""Tokens of this server: shown once when they are made, and identified by their hash afterwards."""

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from flyteops.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    Problem,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.model import Note, PackDeclaration, pack_id
from flyteops.name import name_problems
from flyteops.service import aside
from flyteops.service.aside import SetAsideEntries, SetAsideKey
from flyteops.service.auditlog.entry import (
    SERVER,
    UNREADABLE,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.storage.base import Store

PREFIX = "flyte_"
"""The prefix of every token, by which searches for leaked secrets identify it."""

TOKEN, USE = "token", "token-use"
"""The kinds of notes.

A use has its own, so that storing it cannot restore a token revoked meanwhile.
"""

USE_KEPT_EVERY = timedelta(minutes=1)
"""The precision of the stored time at which a token was last used."""

MAX_TEXT_LENGTH = 255

READABLE = ("chatops",)
"""The datastore items that every pack may read if it declares them.

Its token or the policy may name others.
"""

EVERY_ITEM = "*"

UNKNOWN = sha256(b"").hexdigest()


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The rights of a bearer: all, or those of one pack, identified by its name and labels."""

    token_id: str
    hash: str
    created_at: datetime
    expires_at: datetime | None = None
    description: str = ""
    is_admin: bool = False
    pack_name: str = ""
    labels: dict[str, str] = {}
    items: tuple[str, ...] | None = None
    """The keys of the datastore items that the pack may read if it declares them.

    None for `READABLE`.
    """

    def is_valid_at(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at

    @property
    def state(self) -> ResourceState:
        """The state, as entries of the audit log record it, with a hash of the token's hash."""
        known = {name: value for name, value in msgspec.to_builtins(self).items() if name != "hash"}
        if self.items is None:  # as in the entries about tokens made before `items` existed
            del known["items"]
        known["fingerprint"] = sha256(self.hash.encode()).hexdigest()
        return ResourceState.of(
            "application/json", msgspec.json.encode(known, order="deterministic")
        )

    @property
    def claims(self) -> Mapping[str, str]:
        """The claims that an OIDC token for this bearer would carry."""
        return (
            {"role": "admin"}
            if self.is_admin
            else {"role": "pack", "pack": pack_id(self.pack_name, self.labels)}
        )

    @property
    def readable(self) -> tuple[str, ...]:
        """The keys of the datastore items that the bearer may read as a pack that declares them."""
        if self.is_admin:
            return (EVERY_ITEM,)
        return READABLE if self.items is None else self.items

    def check_may_register(self, declaration: PackDeclaration) -> None:
        """Raise `UnauthorizedError` unless the bearer is this pack, or may do everything."""
        if not self.is_admin and (declaration.name, declaration.labels) != (
            self.pack_name,
            self.labels,
        ):
            own = pack_id(self.pack_name, self.labels)
            raise UnauthorizedError(
                f"The token is for the pack {own!r}, which registers with exactly that name and"
                " those labels.",
                error="insufficient_scope",
            )


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A requested token; it is valid for some time, or without end."""

    is_admin: bool = False
    pack_name: str = ""
    labels: dict[str, str] = {}
    items: tuple[str, ...] | None = None
    lasts: timedelta | None = None
    description: str = ""


class TokenRegistry:
    """All tokens, in memory as well, so that a request with a token does not wait for the store."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        changes: AuditLog,
        set_aside: SetAsideEntries,
    ) -> None:
        self._store = store
        self._aside = set_aside
        self._changes = changes
        self._clock = clock
        self._is_loaded = False
        self._tokens: dict[str, Token] = {}
        self._uses: dict[str, datetime] = {}
        self._stored_uses: dict[str, datetime] = {}

    async def refresh(self) -> None:
        """Load the tokens from the store."""
        tokens = self._aside.decode(await self._store.list_notes(TOKEN), Token, aside.TOKEN)
        self._tokens = {token.token_id: token for _, token in tokens}
        for key, at in self._aside.decode(
            await self._store.list_notes(USE), datetime, aside.TOKEN, USE
        ):
            self._stored_uses[key] = at
            self._uses[key] = max(at, self._uses.get(key, at))
        self._is_loaded = True

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all tokens, as entries of the audit log record them."""
        return {
            resource_key("token", token.token_id): token.state for token in self._tokens.values()
        }

    def make(self, order: TokenRequest, token_id: str | None = None) -> tuple[Token, str]:
        """Return a token and its text, which is not kept anywhere.

        Raise `InputError` for invalid orders.
        """
        problems = list(_faults(order))
        if problems:
            raise InputError("The token cannot be made.", problems=problems)
        token_id = token_id or secrets.token_hex(6)
        text = f"{PREFIX}{token_id}_{secrets.token_urlsafe(32)}"
        now = self._clock()
        token = Token(
            token_id=token_id,
            hash=sha256(text.encode()).hexdigest(),
            created_at=now,
            expires_at=None if order.lasts is None else now + order.lasts,
            description=order.description,
            is_admin=order.is_admin,
            pack_name=order.pack_name,
            labels=order.labels,
            items=order.items,
        )
        return token, text

    async def add(self, token: Token, by: Author = SERVER) -> None:
        """Store a token, valid from now on; raise `ConflictError` if its id exists."""
        note = Note(TOKEN, token.token_id, msgspec.json.encode(token))
        async with self._changes.exclusive():
            if token.token_id in self._tokens:
                raise ConflictError(f"The token {token.token_id!r} already exists.")
            async with self._changes.record_change(
                by, resource_key("token", token.token_id), None, token.state
            ):
                await self._store.save_note(note, replaces=False)
                self._tokens[token.token_id] = token

    async def create(self, order: TokenRequest, by: Author = SERVER) -> tuple[Token, str]:
        """Create a token, valid from now on.

        Return it and its text, which cannot be retrieved again.
        """
        token, text = self.make(order)
        await self.add(token, by)
        return token, text

    def list(self) -> Sequence[Token]:
        """Return all tokens, the oldest first."""
        return sorted(self._tokens.values(), key=lambda token: (token.created_at, token.token_id))

    def get(self, token_id: str) -> Token:
        """Return a token; raise `NotFoundError`."""
        token = self._tokens.get(token_id)
        if token is None:
            raise NotFoundError(f"There is no token {token_id!r}.")
        return token

    def last_used_at(self, token_id: str) -> datetime | None:
        """Return the time when a token was last used, None if it never was."""
        return self._uses.get(token_id)

    async def revoke(self, token_id: str, by: Author = SERVER) -> None:
        """Revoke a token, even one that cannot be read; raise `NotFoundError`."""
        unreadable = SetAsideKey(aside.TOKEN, token_id)
        async with self._changes.exclusive():
            state = UNREADABLE if unreadable in self._aside else self.get(token_id).state
            async with self._changes.record_change(
                by, resource_key("token", token_id), state, None, "revoked"
            ):
                await self._store.delete_note(TOKEN, token_id)
                self._tokens.pop(token_id, None)
        self._aside.resolve([unreadable, SetAsideKey(aside.TOKEN, token_id, USE)])
        self._uses.pop(token_id, None)
        self._stored_uses.pop(token_id, None)
        with suppress(NotFoundError):
            await self._store.delete_note(USE, token_id)

    def has_admin(self) -> bool:
        """Return whether there is a valid token that allows everything."""
        now = self._clock()
        return any(token.is_admin and token.is_valid_at(now) for token in self._tokens.values())

    def check(self, text: str) -> Token:
        """Return the token with this text; raise `UnauthorizedError` if it is unknown or expired.

        Before tokens are loaded, raise `UnavailableError`.
        """
        if not self._is_loaded:
            raise UnavailableError
        token = self._tokens.get(text.removeprefix(PREFIX).partition("_")[0])
        # Compared in constant time, also for an unknown id.
        is_known = hmac.compare_digest(
            UNKNOWN if token is None else token.hash, sha256(text.encode()).hexdigest()
        )
        if token is None or not is_known:
            raise UnauthorizedError(
                "The token is unknown; it may have been revoked.", error="invalid_token"
            )
        now = self._clock()
        if not token.is_valid_at(now):
            raise UnauthorizedError("The token has expired.", error="invalid_token")
        self._uses[token.token_id] = now
        return token

    async def store_uses(self) -> None:
        """Store the times when tokens were last used, if they have changed by much."""
        for token_id, at in list(self._uses.items()):
            stored = self._stored_uses.get(token_id)
            if token_id in self._tokens and (stored is None or at >= stored + USE_KEPT_EVERY):
                await self._store.save_note(Note(USE, token_id, msgspec.json.encode(at)))
                self._stored_uses[token_id] = at


def _faults(order: TokenRequest) -> Iterable[Problem]:
    if order.is_admin == bool(order.pack_name.strip()):
        yield Problem("pack", "give either the name of a pack, or admin; not both")
    if order.labels and order.is_admin:
        yield Problem("labels", "are for a pack token; an admin token has none")
    if order.items is not None and order.is_admin:
        yield Problem("items", "are for a pack token; an admin may read every item")
    yield from name_problems(
        {f"items[{index}]": key for index, key in enumerate(order.items or ())}
    )
    if len(order.description) > MAX_TEXT_LENGTH:
        yield Problem("description", f"must have at most {MAX_TEXT_LENGTH} characters")
    if order.lasts is not None and order.lasts <= timedelta(0):
        yield Problem("expiresIn", "must be a time from now on, such as 90d")
