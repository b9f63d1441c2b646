"""Secrets: datastore items that are encrypted in the store, and given to packs only.

Templates put a reference in place of a secret; the value replaces it when a pack takes the action.
So data that is stored, shown or decided on never holds a value. A reference has a code that only
servers on this store can make, so that a reference written into an event does not reveal the
secret.
"""

import json
import logging
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from flyteops.errors import ConflictError, InputError, Problem, UnavailableError
from flyteops.model import DataItem, Note
from flyteops.service.aside import ITEM, SetAsideEntries
from flyteops.service.auditlog.entry import (
    SERVER,
    ActionName,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.storage.base import Store
from flyteops.template import SECRET_FORMS

if TYPE_CHECKING:  # cryptography takes long to load, and few servers have secrets
    from flyteops.service.encryption import Encryptor

LOGGER = logging.getLogger("flyte.service")

KIND = "secret"
CODE_KIND = "secret-code"
CODE = "1"

REFERENCE = re.compile(rb"@secret:([A-Za-z0-9_-]+):([a-z]+):([A-Za-z0-9_-]{22})@")
"""The reference to a secret in a JSON text: the name in base64, the form, and the code."""

MIN_MASKED_LENGTH = 6
"""Shorter values are not masked in output: they would be found everywhere."""

MASK = b"***"


class EncryptedSecret(msgspec.Struct, frozen=True):
    """The stored form of a secret: its value as a Fernet token."""

    content_type: str
    description: str
    token: str

    @property
    def state(self) -> ResourceState:
        """The state, as entries of the audit log record it."""
        return ResourceState.of_secret(self.content_type, self.token.encode(), self.description)


class Secret(NamedTuple):
    """A secret with a known value."""

    item: DataItem
    value: str
    token: str
    writings: tuple[bytes, ...]

    @classmethod
    def of(cls, item: DataItem, value: str, token: str) -> Self:
        """Return a secret with its JSON spellings; none for one that is too short to be masked."""
        shown = value.strip()
        writings = (
            {json.dumps(shown).encode(), msgspec.json.encode(shown)}
            if len(shown) >= MIN_MASKED_LENGTH
            else set()
        )
        return cls(item, value, token, tuple(sorted(written[1:-1] for written in writings)))


class Vault:
    """All secrets of a store. Without `encryptor`, there can be none."""

    def __init__(
        self,
        store: Store,
        changes: AuditLog,
        aside: SetAsideEntries,
        encryptor: "Encryptor | None" = None,
    ) -> None:
        self._store = store
        self._aside = aside
        self._changes = changes
        self._encryptor = encryptor
        self._code_key = b""
        self._states: dict[str, ResourceState] = {}
        self._secrets: dict[str, Secret] = {}
        self._locked: dict[str, DataItem] = {}

    # ------------------------------------------------------------------------------------ the store

    async def load(self) -> None:
        """Load the secrets from the store.

        For those that no key decrypts, only the name is known.
        """
        states: dict[str, ResourceState] = {}
        secrets: dict[str, Secret] = {}
        locked: dict[str, DataItem] = {}
        for key, sealed in self._aside.decode(
            await self._store.list_notes(KIND), EncryptedSecret, ITEM, KIND
        ):
            item = DataItem(key, sealed.content_type, b"", sealed.description, is_secret=True)
            states[key] = sealed.state
            value = self._decrypt(key, sealed.token)
            if value is None:
                locked[key] = item
            else:
                secrets[key] = Secret.of(item, value, sealed.token)
        for key in sorted(locked.keys() - self._locked.keys()):
            LOGGER.warning(
                "The secret %r cannot be decrypted with the keys that this server has; steps that"
                " need it fail.",
                key,
            )
        self._states, self._secrets, self._locked = states, secrets, locked
        if self._encryptor is not None:
            await self._load_code_key(self._encryptor)

    def _decrypt(self, key: str, token: str) -> str | None:
        known = self._secrets.get(key)
        if known is not None and known.token == token:
            return known.value
        decrypted = None if self._encryptor is None else self._encryptor.decrypt(token.encode())
        return None if decrypted is None else decrypted.decode()

    async def _load_code_key(self, encryptor: "Encryptor") -> None:
        if self._code_key:
            return
        with suppress(ConflictError):  # it exists already
            await self._store.save_note(
                Note(CODE_KIND, CODE, encryptor.encrypt(os.urandom(32))), replaces=False
            )
        [note] = await self._store.list_notes(CODE_KIND)
        self._code_key = encryptor.decrypt(note.value) or b""
        if not self._code_key:
            LOGGER.warning(
                "The keys for secrets are not those that this store was used with before; no secret"
                " can be used."
            )

    async def reencrypt(self) -> None:
        """Re-encrypt secrets under older keys with the first key, so that these can be retired."""
        encryptor = self._encryptor
        if encryptor is None:
            return
        async with self._changes.exclusive():
            for secret in list(self._secrets.values()):
                if not encryptor.is_current(secret.token.encode()):
                    await self._save_encrypted(
                        encryptor, secret.item, secret.value, SERVER, "rotated"
                    )
        for note in await self._store.list_notes(CODE_KIND):
            if self._code_key and not encryptor.is_current(note.value):
                await self._store.save_note(
                    Note(CODE_KIND, CODE, encryptor.encrypt(self._code_key))
                )

    async def save(self, item: DataItem, by: Author, *, keeps_description: bool = False) -> bool:
        """Create or replace a secret; return True if it is new.

        It may keep its present description. Call this in a turn of the audit log. Raise
        `InputError` if it cannot be kept as a secret.
        """
        if self._encryptor is None or not self._code_key:
            message = f"cannot be kept secret: {self._why_unusable}"
            raise InputError(f"The item {message}.", problems=[Problem("secret", message)])
        try:
            value = item.value.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "A secret must be UTF-8 text.", problems=[Problem("value", "must be UTF-8 text")]
            ) from error
        known = self._find(item.key)
        item = msgspec.structs.replace(item, value=b"", is_secret=True)
        if known is not None and keeps_description:
            item = msgspec.structs.replace(item, description=known.description)
        # Also if nothing has changed: otherwise a reader of the audit log could find out a value
        # by guessing it.
        await self._save_encrypted(self._encryptor, item, value, by)
        return known is None

    def _find(self, key: str) -> DataItem | None:
        """Return a secret without its value, even one that no key decrypts."""
        return self._secrets[key].item if key in self._secrets else self._locked.get(key)

    async def _save_encrypted(
        self,
        encryptor: "Encryptor",
        item: DataItem,
        value: str,
        by: Author,
        action: ActionName | None = None,
    ) -> None:
        token = encryptor.encrypt(value.encode()).decode()
        sealed = EncryptedSecret(item.content_type, item.description, token)
        before = self._states.get(item.key)
        async with self._changes.record_change(
            by, resource_key("datastore", item.key), before, sealed.state, action
        ):
            await self._store.save_note(Note(KIND, item.key, msgspec.json.encode(sealed)))
            self._states[item.key] = sealed.state
            self._secrets[item.key] = Secret.of(item, value, token)
            self._locked.pop(item.key, None)

    async def delete(self, key: str, by: Author) -> None:
        """Delete a secret, within a turn of the audit log."""
        async with self._changes.record_change(
            by, resource_key("datastore", key), self._states.get(key), None
        ):
            await self._store.delete_note(KIND, key)
            for known in (self._states, self._secrets, self._locked):
                known.pop(key, None)

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all secrets, as entries of the audit log record them."""
        return {resource_key("datastore", key): state for key, state in self._states.items()}

    def __contains__(self, key: object) -> bool:
        return key in self._secrets or key in self._locked

    @property
    def items(self) -> Sequence[DataItem]:
        """All secrets, without their values."""
        return [*(secret.item for secret in self._secrets.values()), *self._locked.values()]

    # ----------------------------------------------------------------------------------- references

    def placeholder_for(self, name: str, form: str) -> str:
        """Return the reference to a secret for the input of an action.

        Raise `KeyError` if there is no such secret, and another `LookupError` if it cannot be
        decrypted.
        """
        if name in self._locked:
            raise LookupError(self._why_locked)
        if name not in self._secrets:
            raise KeyError(name)
        encoded = _base64(name.encode())
        return f"@secret:{encoded}:{form}:{self._code(encoded, form)}@"

    @property
    def _why_locked(self) -> str:
        if self._encryptor is None:
            return "it is encrypted, and this server has no keys; set FLYTE_SECRETS_KEY_FILE"
        return (
            "none of the keys in FLYTE_SECRETS_KEY_FILE decrypts it; add the key that it was"
            " encrypted with"
        )

    @property
    def _why_unusable(self) -> str:
        if self._encryptor is None:
            return "this server has no key for secrets; set FLYTE_SECRETS_KEY_FILE"
        return (
            "the keys in FLYTE_SECRETS_KEY_FILE are not those that this store was used with before;"
            " add one of these"
        )

    def _code(self, encoded: str, form: str) -> str:
        return _base64(
            blake2b(f"{encoded}:{form}".encode(), key=self._code_key, digest_size=16).digest()
        )

    def reveal(self, text: bytes) -> bytes:
        """Return a JSON text with values in place of references.

        Raise `UnavailableError` for a missing one.
        """
        if b"@secret:" not in text:
            return text
        if not self._code_key:
            self._check_locked(text)
            return text
        return REFERENCE.sub(self._value, text)

    def _check_locked(self, text: bytes) -> None:
        """Raise `UnavailableError` for a reference to a locked secret, which no key can verify."""
        locked = {_base64(name.encode()): name for name in self._locked}
        for found in REFERENCE.finditer(text):
            name = locked.get(found[1].decode())
            if name is not None:
                raise UnavailableError(f"The secret {name!r} cannot be used: {self._why_locked}.")

    def _value(self, found: re.Match[bytes]) -> bytes:
        if not self._is_ours(found):
            return found[0]
        name = _name(found)
        if name in self._locked:
            raise UnavailableError(f"The secret {name!r} cannot be used: {self._why_locked}.")
        if name not in self._secrets:
            raise UnavailableError(f"The secret {name!r} is no longer available.")
        written = SECRET_FORMS[found[2].decode()](self._secrets[name].value)
        return msgspec.json.encode(written)[1:-1]

    def _is_ours(self, found: re.Match[bytes]) -> bool:
        return compare_digest(self._code(found[1].decode(), found[2].decode()).encode(), found[3])

    def mask(self, text: bytes) -> bytes:
        """Return a JSON text without references to secrets and without their values."""
        if b"@secret:" in text:
            text = REFERENCE.sub(MASK, text)
        for secret in self._secrets.values():
            for written in secret.writings:
                text = text.replace(written, MASK)
        return text

    def mask_text(self, text: str) -> str:
        """Mask a text that is not JSON in the same way."""
        if not self._secrets and "@secret:" not in text:
            return text
        masked: str = msgspec.json.decode(self.mask(msgspec.json.encode(text)))
        return masked


def _name(found: re.Match[bytes]) -> str:
    encoded = found[1]
    return urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)).decode()


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
