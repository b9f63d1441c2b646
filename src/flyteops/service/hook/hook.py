"""A hook: an address at which others may call, and how they prove who they are."""

import re
import secrets
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, get_args

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from flyteops.change import State
from flyteops.duration import write_duration
from flyteops.errors import InputError, Problem
from flyteops.model import FATAL
from flyteops.service.hook.scheme import GITLAB_TOKEN, STANDARD_PREFIX, Scheme, Signing, standard_key
from flyteops.service.hook.vendor import GENERIC, VENDORS, Vendor

HOOK = "hook"
"""The kind of the notes that hooks are."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")

SHORTEST_SECRET, LONGEST_SECRET = 8, 1024
LONGEST_TEXT = 255
LONGEST_WINDOW = timedelta(days=1)


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret as the store has it: encrypted, or where the server has no key, as it is behind some random characters.

    One that was replaced is valid until `ends_at`.
    """

    text: str
    is_sealed: bool
    created_at: datetime
    ends_at: datetime | None = None

    def is_valid_at(self, now: datetime) -> bool:
        return self.ends_at is None or now < self.ends_at

    @property
    def fingerprint(self) -> str:
        """What tells it from others, and nothing about the secret, as there is something random in the text."""
        return sha256(self.text.encode()).hexdigest()


class Hook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An address at which others may call; its name is that of the event that a call becomes. The newest secret is the first."""

    name: str
    vendor: str
    signing: Signing
    created_at: datetime
    description: str = ""
    secrets: tuple[Kept, ...] = ()

    @property
    def caller(self) -> Vendor:
        return VENDORS[self.vendor]

    @property
    def secret_headers(self) -> tuple[str, ...]:
        """The header that has the secret, whatever its name is."""
        return (self.signing.header.lower(), GITLAB_TOKEN.lower())

    @property
    def state(self) -> State:
        """How it is, as entries about changes have it."""
        known: dict[str, Any] = {
            "vendor": self.vendor,
            "description": self.description,
            "secrets": [each.fingerprint for each in self.secrets],
            **{name: value for name in Signing.__struct_fields__ if (value := getattr(self.signing, name)) and name != "window"},
            "window": write_duration(self.signing.window),
        }
        return State.of("application/json", encode(known, order="deterministic"))


class Wish(Struct, frozen=True, kw_only=True):
    """A hook that is wanted; what is not said is as its vendor does it. Without a vendor, a new hook is generic."""

    name: str
    vendor: str | None = None
    scheme: Scheme | None = None
    header: str | None = None
    prefix: str | None = None
    algorithm: str | None = None
    encoding: str | None = None
    timestamp_header: str | None = None
    username: str | None = None
    window: timedelta | None = None
    description: str | None = None
    secret: str | None = None

    def for_update(self, known: Hook) -> "Wish":
        """Return the complete definition for an update of a known hook.

        A wish that names a vendor is complete. One that does not keeps everything that it leaves out; with another scheme, the
        other signing fields are the defaults of that scheme.
        """
        if self.vendor is not None:
            return self
        kept: dict[str, Any] = {"vendor": known.vendor, "description": known.description}
        if self.scheme in (None, known.signing.scheme):
            kept |= {name: getattr(known.signing, name) for name in Signing.__struct_fields__}
        return replace(self, **{name: value for name, value in kept.items() if getattr(self, name) is None})

    def hook(self, now: datetime) -> Hook:
        """Return the hook, yet without a secret; raise `InputError` with everything that is wrong."""
        problems = list(self._faults())
        if problems:
            raise InputError(f"There cannot be such a hook: {problems[0]}.", problems=problems)
        return Hook(
            name=self.name,
            vendor=self._vendor_name,
            signing=self._signing(),
            created_at=now,
            description=self.description or "",
        )

    @property
    def _vendor_name(self) -> str:
        return GENERIC if self.vendor is None else self.vendor

    def _signing(self) -> Signing:
        usual = VENDORS[self._vendor_name].signing
        if self.scheme not in (None, usual.scheme):
            usual = Signing(scheme=self.scheme)
        given = {name: getattr(self, name) for name in Signing.__struct_fields__ if name != "scheme"}
        return replace(usual, **{name: value for name, value in given.items() if value is not None})

    def _faults(self) -> Iterable[Problem]:
        if NAME.fullmatch(self.name) is None or self.name == FATAL:
            yield Problem("name", f"must be letters, digits, '-' and '_', a letter first, 63 at most, and not {FATAL}")
        if len(self.description or "") > LONGEST_TEXT:
            yield Problem("description", f"must have at most {LONGEST_TEXT} characters")
        vendor = VENDORS.get(self._vendor_name)
        if vendor is None:
            yield Problem("vendor", f"must be one of {', '.join(VENDORS)}")
            return
        schemes = (vendor.signing.scheme, *vendor.schemes)
        if self.scheme not in (None, *schemes):
            yield Problem("scheme", f"must be one of {', '.join(schemes)} for {self._vendor_name}")
            return
        yield from _signing_faults(self._signing())
        if self.secret is not None:
            yield from secret_faults(self._signing(), self.secret)


def _signing_faults(signing: Signing) -> Iterable[Problem]:
    needs_header = signing.scheme in ("hmac", "header")
    if bool(signing.header) is not needs_header:
        yield Problem("header", "must be said" if needs_header else f"is of no use to the scheme {signing.scheme}")
    if signing.timestamp_header and signing.scheme != "hmac":
        yield Problem("timestampHeader", f"is of no use to the scheme {signing.scheme}")
    for path, name in (("header", signing.header), ("timestampHeader", signing.timestamp_header)):
        if name and HEADER.fullmatch(name) is None:
            yield Problem(path, "must be the name of a header")
    if not timedelta(0) < signing.window <= LONGEST_WINDOW:
        yield Problem("window", f"must be longer than nothing and {write_duration(LONGEST_WINDOW)} at most")
    yield from _word_faults(signing)


def _word_faults(signing: Signing) -> Iterable[Problem]:
    if signing.username and signing.scheme != "authorization":
        yield Problem("username", f"is of no use to the scheme {signing.scheme}")
    for path, text in (("prefix", signing.prefix), ("username", signing.username)):
        if not (text.isascii() and text.isprintable()) or len(text) > LONGEST_TEXT:
            yield Problem(path, f"must be printable ASCII characters, {LONGEST_TEXT} at most")
    for path, value in (("algorithm", signing.algorithm), ("encoding", signing.encoding)):
        known = get_args(Signing.__annotations__[path])
        if value not in known:
            yield Problem(path, f"must be one of {', '.join(known)}")


def secret_faults(signing: Signing, secret: str) -> Iterable[Problem]:
    """Tell what is wrong with a secret that somebody gives."""
    if signing.scheme == "none":
        yield Problem("secret", "is of no use to the scheme none")
    elif not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET or not (secret.isascii() and secret.isprintable()):
        yield Problem("secret", f"must be {SHORTEST_SECRET} to {LONGEST_SECRET} printable ASCII characters")
    elif secret.strip() != secret:
        yield Problem("secret", "must not begin or end with a space")
    elif signing.scheme in ("standard", "gitlab") and secret.startswith(STANDARD_PREFIX) and standard_key(secret) is None:
        yield Problem("secret", f"begins with {STANDARD_PREFIX}, but what follows is not base64")


def new_secret(signing: Signing) -> str:
    """Make a secret as the callers of such a hook take it, of 256 bits."""
    if signing.scheme in ("standard", "gitlab"):
        return STANDARD_PREFIX + b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)
