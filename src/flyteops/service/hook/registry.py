"""The registry of hooks, also in memory, so that a call is verified without the store."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from flyteops.errors import ConflictError, InputError, NotFoundError, UnavailableError
from flyteops.model import EventDeclaration, JsonValue, Note, PackDeclaration
from flyteops.service import aside
from flyteops.service.aside import SetAsideEntries, SetAsideKey
from flyteops.service.auditlog.entry import (
    SERVER,
    UNREADABLE,
    ActionName,
    Author,
    ResourceKey,
    ResourceState,
    resource_key,
)
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.hook.hook import HOOK, Hook, HookSpec, StoredSecret, new_secret, secret_faults
from flyteops.service.hook.record import CallLog
from flyteops.service.pack import PackRegistry
from flyteops.storage.base import Store

if TYPE_CHECKING:  # cryptography takes long to load, and few servers have secrets
    from flyteops.service.encryption import Encryptor

LOGGER = logging.getLogger("flyte.hooks")

PACK = "Webhook"
"""The pack whose events the calls become."""

PAYLOAD_SCHEMA: JsonValue = {
    "type": "object",
    "required": [
        "hook",
        "vendor",
        "event",
        "deliveryId",
        "receivedAt",
        "contentType",
        "headers",
        "query",
        "body",
    ],
    "properties": {
        "hook": {"type": "string", "description": "the name of the hook"},
        "vendor": {"type": "string"},
        "event": {"type": ["string", "null"], "description": "the vendor's name of the event"},
        "deliveryId": {
            "type": ["string", "null"],
            "description": "the vendor's number of the call, the same if it is repeated",
        },
        "resentFrom": {
            "type": "string",
            "description": "the event of the first time, if a person has sent the call again",
        },
        "receivedAt": {"type": "string", "format": "date-time"},
        "contentType": {"type": "string"},
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "names in lower case",
        },
        "query": {"type": "object"},
        "body": {"description": "the JSON, the fields of the form, or the text"},
    },
}


class HookRegistry:
    """All hooks, and their last calls. Without `encryptor`, secrets are stored unencrypted."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that it works with comes from outside
        self,
        store: Store,
        clock: Callable[[], datetime],
        changes: AuditLog,
        packs: PackRegistry,
        set_aside: SetAsideEntries,
        encryptor: "Encryptor | None" = None,
    ) -> None:
        self._aside = set_aside
        self.calls = CallLog(store)
        self._store = store
        self._clock = clock
        self._changes = changes
        self._packs = packs
        self._encryptor = encryptor
        self._hooks: dict[str, Hook] = {}
        self._decrypted: dict[str, str] = {}
        self._is_loaded = False

    # ------------------------------------------------------------------------------------ the store

    async def refresh(self) -> None:
        """Load the hooks from the store."""
        hooks = [
            hook
            for _, hook in self._aside.decode(await self._store.list_notes(HOOK), Hook, aside.HOOK)
        ]
        kept = {each.text: each for hook in hooks for each in hook.secrets}
        decrypted = {
            text: self._decrypted.get(text) or self._decrypt(each) for text, each in kept.items()
        }
        self._decrypted = {text: secret for text, secret in decrypted.items() if secret is not None}
        for hook in hooks:
            if (
                not all(each.text in self._decrypted for each in hook.secrets)
                and self._hooks.get(hook.name) != hook
            ):
                LOGGER.warning(
                    "A secret of the hook %r cannot be decrypted with the keys that this server"
                    " has.",
                    hook.name,
                )
        self._hooks = {hook.name: hook for hook in hooks}
        self.calls.forget_others(self._hooks)
        self._is_loaded = True

    def _decrypt(self, kept: StoredSecret) -> str | None:
        if not kept.is_sealed:
            return kept.text.partition(".")[2]
        decrypted = None if self._encryptor is None else self._encryptor.decrypt(kept.text.encode())
        return None if decrypted is None else decrypted.decode()

    def _encrypt(self, secret: str, now: datetime) -> StoredSecret:
        if self._encryptor is None:
            return StoredSecret(
                text=f"{secrets.token_hex(16)}.{secret}", is_sealed=False, created_at=now
            )
        return StoredSecret(
            text=self._encryptor.encrypt(secret.encode()).decode(), is_sealed=True, created_at=now
        )

    async def start(self) -> None:
        """Encrypt secrets with the newest key if needed, and register the pack if hooks exist."""
        async with self._changes.exclusive():
            for hook in list(self._hooks.values()):
                renewed = tuple(self._reencrypted(each) for each in hook.secrets)
                if renewed != hook.secrets:
                    await self._put(replace(hook, secrets=renewed), SERVER, "rotated")
        if self._hooks:
            await self.register_pack()

    def _reencrypted(self, kept: StoredSecret) -> StoredSecret:
        if self._encryptor is None or kept.text not in self._decrypted:
            return kept
        if kept.is_sealed and self._encryptor.is_current(kept.text.encode()):
            return kept
        return replace(
            self._encrypt(self._decrypted[kept.text], kept.created_at), ends_at=kept.ends_at
        )

    async def _put(
        self, hook: Hook, by: Author, action: ActionName | None = None, *, is_new: bool = False
    ) -> None:
        """Store a hook, within a turn of the audit log."""
        known = self._hooks.get(hook.name)
        async with self._changes.record_change(
            by,
            resource_key("hook", hook.name),
            None if known is None else known.state,
            hook.state,
            action,
        ):
            await self._store.save_note(
                Note(HOOK, hook.name, msgspec.json.encode(hook)), replaces=not is_new
            )
            self._hooks[hook.name] = hook
            for each in hook.secrets:
                self._decrypted[each.text] = (
                    self._decrypted.get(each.text) or self._decrypt(each) or ""
                )

    async def register_pack(self, by: Author = SERVER) -> None:
        """Register the pack with an event for each hook; without hooks, unregister it."""
        events = tuple(
            EventDeclaration(name, payload_schema=PAYLOAD_SCHEMA) for name in sorted(self._hooks)
        )
        await self._packs.register(PackDeclaration(PACK, events=events), by)

    # -------------------------------------------------------------------------------------- changes

    @property
    def states(self) -> Mapping[ResourceKey, ResourceState]:
        """The states of all hooks, as entries of the audit log record them."""
        return {resource_key("hook", hook.name): hook.state for hook in self._hooks.values()}

    async def create(self, spec: HookSpec, by: Author = SERVER) -> tuple[Hook, str | None]:
        """Create a hook.

        Return it, and its secret if it was generated here: it is not shown again.
        """
        now = self._clock()
        hook = spec.hook(now)
        made = (
            new_secret(hook.signing)
            if spec.secret is None and hook.signing.scheme != "none"
            else None
        )
        secret = spec.secret or made
        if secret is not None:
            hook = replace(hook, secrets=(self._encrypt(secret, now),))
        async with self._changes.exclusive():
            if hook.name in self._hooks:
                raise ConflictError(f"The hook {hook.name!r} already exists.")
            await self._put(hook, by, is_new=True)
        await self.register_pack(by)
        return hook, made

    async def update(self, spec: HookSpec, by: Author = SERVER) -> Hook:
        """Change a hook; raise `NotFoundError`.

        It keeps its secrets and, unless a vendor is named, every field left out.
        """
        async with self._changes.exclusive():
            known = self.get(spec.name)
            changed = spec.for_update(known).hook(known.created_at)
            if (changed.signing.scheme == "none") is bool(known.secrets) or spec.secret is not None:
                raise InputError(
                    "Secrets are made when a hook is, and rotated; for or from the scheme none,"
                    " make another hook."
                )
            for secret in (self._decrypted.get(each.text) for each in known.secrets):
                problems = [] if secret is None else list(secret_faults(changed.signing, secret))
                if problems:
                    raise InputError(
                        f"The secret of the hook does not fit: it {problems[0].message}.",
                        problems=problems,
                    )
            hook = replace(changed, secrets=known.secrets)
            if hook != known:
                await self._put(hook, by)
        return hook

    async def rotate(
        self, name: str, secret: str | None, keep_for: timedelta | None, by: Author = SERVER
    ) -> tuple[Hook, str | None]:
        """Give a hook another secret; return it as `create` does.

        The previous secrets stay valid for `keep_for`, without end if that is None; no more are
        kept than the hook may have.
        """
        now = self._clock()
        async with self._changes.exclusive():
            known = self.get(name)
            if not known.secrets:
                raise ConflictError(f"The hook {name!r} accepts all callers; it has no secret.")
            problems = [] if secret is None else list(secret_faults(known.signing, secret))
            if problems:
                raise InputError(f"The secret is not valid: {problems[0]}.", problems=problems)
            made = new_secret(known.signing) if secret is None else None
            limit = known.signing.secret_limit
            before = [each for each in known.secrets if each.is_valid_at(now)]
            if keep_for is None and len(before) >= limit:
                raise ConflictError(
                    f"The hook {name!r} has {len(before)} valid secrets, and may have {limit}"
                    " (secretLimit); raise the limit, or replace the secrets instead of adding"
                    " one."
                )
            if keep_for is not None:
                before = [_ending(each, now + keep_for) for each in before] if keep_for else []
            hook = replace(
                known, secrets=(self._encrypt(secret or made or "", now), *before)[:limit]
            )
            await self._put(hook, by, "rotated")
        return hook, made

    async def delete(self, name: str, by: Author = SERVER) -> None:
        """Delete a hook, even one that cannot be read; raise `NotFoundError`.

        The events of its calls stay in the audit.
        """
        unreadable = SetAsideKey(aside.HOOK, name)
        async with self._changes.exclusive():
            before = UNREADABLE if unreadable in self._aside else self.get(name).state
            async with self._changes.record_change(by, resource_key("hook", name), before, None):
                await self._store.delete_note(HOOK, name)
                self._hooks.pop(name, None)
                self._aside.resolve([unreadable])
        await self.calls.forget(name)
        if self._hooks:
            await self.register_pack(by)
        else:
            await self._forget_pack(by)

    async def _forget_pack(self, by: Author) -> None:
        try:
            await self._packs.delete(PACK, by)
        except NotFoundError:
            LOGGER.debug("The pack of the hooks was removed already")

    # -------------------------------------------------------------------------------------- reading

    def list(self) -> Sequence[Hook]:
        """Return all hooks by name."""
        return sorted(self._hooks.values(), key=lambda hook: hook.name)

    def find(self, name: str) -> Hook | None:
        """Return a hook, None if it does not exist.

        Raise `UnavailableError` before hooks are loaded.
        """
        if not self._is_loaded:
            raise UnavailableError
        return self._hooks.get(name)

    def get(self, name: str) -> Hook:
        """Return a hook; raise `NotFoundError`."""
        hook = self.find(name)
        if hook is None:
            raise NotFoundError(f"There is no hook {name!r}.")
        return hook

    def secrets_of(self, hook: Hook) -> Sequence[str]:
        """Return the secrets that are valid for callers now, except those that no key decrypts."""
        now = self._clock()
        valid = [each.text for each in hook.secrets if each.is_valid_at(now)]
        return [self._decrypted[text] for text in valid if self._decrypted.get(text)]


def _ending(kept: StoredSecret, at: datetime) -> StoredSecret:
    return replace(kept, ends_at=at if kept.ends_at is None else min(at, kept.ends_at))
