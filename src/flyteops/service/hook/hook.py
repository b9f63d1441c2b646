"""The definition of a hook: an address for calls, and the way in which callers authenticate."""

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

from flyteops.errors import InputError, Problem
from flyteops.model import FATAL
from flyteops.service.auditlog.entry import ResourceState
from flyteops.service.hook.scheme import GITLAB_TOKEN, STANDARD_PREFIX, standard_key
from flyteops.service.hook.signature import pattern_faults
from flyteops.service.hook.signing import SETTINGS, Scheme, Signing, key_bytes
from flyteops.service.hook.vendor import GENERIC, VENDORS, Vendor
from flyteops.timeformat import format_duration

HOOK = "hook"
"""The kind of the notes that store hooks."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")

MIN_SECRET_LENGTH, MAX_SECRET_LENGTH = 8, 1024
MAX_TEXT_LENGTH = 255
MAX_WINDOW = timedelta(days=1)
MAX_SECRETS = 10

FIELD = re.compile(r"[^.\x00-\x1f]{1,100}(\.[^.\x00-\x1f]{1,100}){0,9}")
"""The path of a field in a JSON body: names with dots between them."""

FIRST_SETTINGS = frozenset(
    ["scheme", "header", "prefix", "algorithm", "encoding", "timestamp_header", "username"]
)
DEFAULTS = Signing(scheme="none")


class StoredSecret(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret as stored: encrypted or, on a server without a key, in plain text.

    Plain text stands behind random characters. A replaced secret is valid until `ends_at`.
    """

    text: str
    is_sealed: bool
    created_at: datetime
    ends_at: datetime | None = None

    def is_valid_at(self, now: datetime) -> bool:
        return self.ends_at is None or now < self.ends_at

    @property
    def fingerprint(self) -> str:
        """An identifier that reveals nothing about the secret, as the text has a random part."""
        return sha256(self.text.encode()).hexdigest()


class Hook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An address for calls; its name is that of the event that a call becomes.

    The newest secret comes first.
    """

    name: str
    vendor: str
    signing: Signing
    created_at: datetime
    description: str = ""
    secrets: tuple[StoredSecret, ...] = ()

    @property
    def caller(self) -> Vendor:
        return VENDORS[self.vendor]

    @property
    def secret_headers(self) -> tuple[str, ...]:
        """The headers that carry the secret, under any name."""
        return (self.signing.header.lower(), GITLAB_TOKEN.lower())

    @property
    def state(self) -> ResourceState:
        """The state, as entries of the audit log record it."""
        known: dict[str, Any] = {
            "vendor": self.vendor,
            "description": self.description,
            "secrets": [each.fingerprint for each in self.secrets],
            **{
                name: value
                for name in SETTINGS
                if (value := getattr(self.signing, name)) and not self._is_left_out(name)
            },
            "window": format_duration(self.signing.window),
        }
        return ResourceState.of("application/json", encode(known, order="deterministic"))

    def _is_left_out(self, name: str) -> bool:
        """Return whether the state omits a setting.

        This is a default that older versions did not have, so that their states stay equal.
        """
        return name not in FIRST_SETTINGS and getattr(self.signing, name) == getattr(DEFAULTS, name)


class HookSpec(Struct, frozen=True, kw_only=True):
    """A requested hook; settings left out follow its vendor.

    Without a vendor, a new hook is generic.
    """

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
    signed: str | None = None
    timestamp_prefix: str | None = None
    timestamp_field: str | None = None
    timestamp_format: str | None = None
    secret_encoding: str | None = None
    delivery_header: str | None = None
    delivery_field: str | None = None
    secret_limit: int | None = None
    description: str | None = None
    secret: str | None = None

    def for_update(self, known: Hook) -> "HookSpec":
        """Return the complete definition for an update of a known hook.

        A request that names a vendor is complete. One that does not keeps every field left out;
        with another scheme, the other signing fields are the defaults of that scheme.
        """
        if self.vendor is not None:
            return self
        kept: dict[str, Any] = {"vendor": known.vendor, "description": known.description}
        if self.scheme in (None, known.signing.scheme):
            kept |= {name: getattr(known.signing, name) for name in Signing.__struct_fields__}
        return replace(
            self, **{name: value for name, value in kept.items() if getattr(self, name) is None}
        )

    def hook(self, now: datetime) -> Hook:
        """Return the hook, yet without a secret; raise `InputError` with every fault."""
        problems = list(self._faults())
        if problems:
            raise InputError(f"The hook is not valid: {problems[0]}.", problems=problems)
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
        given = {
            name: getattr(self, name) for name in Signing.__struct_fields__ if name != "scheme"
        }
        return replace(usual, **{name: value for name, value in given.items() if value is not None})

    def _faults(self) -> Iterable[Problem]:
        if NAME.fullmatch(self.name) is None or self.name == FATAL:
            yield Problem(
                "name",
                "must be letters, digits, '-' and '_', a letter first, 63 at most, and not"
                f" {FATAL}",
            )
        if len(self.description or "") > MAX_TEXT_LENGTH:
            yield Problem("description", f"must have at most {MAX_TEXT_LENGTH} characters")
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
        yield Problem(
            "header",
            "is required" if needs_header else f"does not apply to the scheme {signing.scheme}",
        )
    for path, name in (
        ("header", signing.header),
        ("timestampHeader", signing.timestamp_header),
        ("deliveryHeader", signing.delivery_header),
    ):
        if name and HEADER.fullmatch(name) is None:
            yield Problem(path, "must be the name of a header")
    for path, field in (
        ("timestampField", signing.timestamp_field),
        ("deliveryField", signing.delivery_field),
    ):
        if field and FIELD.fullmatch(field) is None:
            yield Problem(path, "must be the path of a field in a JSON body, such as event.id")
    if not timedelta(0) < signing.window <= MAX_WINDOW:
        yield Problem(
            "window", f"must be more than 0 and at most {format_duration(MAX_WINDOW)} at most"
        )
    if not 1 <= signing.secret_limit <= MAX_SECRETS:
        yield Problem("secretLimit", f"must be 1 to {MAX_SECRETS}")
    yield from _useless_settings(signing)
    yield from _word_faults(signing)
    if signing.scheme == "hmac":
        yield from (Problem("signed", fault) for fault in pattern_faults(signing))


def _useless_settings(signing: Signing) -> Iterable[Problem]:
    if signing.scheme != "hmac":
        for name in (
            "timestamp_header",
            "signed",
            "timestamp_prefix",
            "timestamp_field",
            "timestamp_format",
            "secret_encoding",
        ):
            if getattr(signing, name) != getattr(DEFAULTS, name):
                yield Problem(_camel(name), f"does not apply to the scheme {signing.scheme}")
    elif signing.timestamp_prefix and not signing.timestamp_header:
        yield Problem("timestampPrefix", "requires timestampHeader")
    if signing.username and signing.scheme != "authorization":
        yield Problem("username", f"does not apply to the scheme {signing.scheme}")
    if signing.scheme == "standard":
        for name in ("delivery_header", "delivery_field"):
            if getattr(signing, name):
                yield Problem(
                    _camel(name),
                    "does not apply to the scheme standard, whose webhook-id is signed",
                )


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _word_faults(signing: Signing) -> Iterable[Problem]:
    for name in ("prefix", "username", "signed", "timestamp_prefix"):
        text = getattr(signing, name)
        if not (text.isascii() and text.isprintable()) or len(text) > MAX_TEXT_LENGTH:
            yield Problem(
                _camel(name), f"must be printable ASCII characters, {MAX_TEXT_LENGTH} at most"
            )
    for name in ("algorithm", "encoding", "timestamp_format", "secret_encoding"):
        known = get_args(Signing.__annotations__[name])
        if getattr(signing, name) not in known:
            yield Problem(_camel(name), f"must be one of {', '.join(known)}")


def secret_faults(signing: Signing, secret: str) -> Iterable[Problem]:
    """Yield the faults of a given secret."""
    if signing.scheme == "none":
        yield Problem("secret", "does not apply to the scheme none")
    elif not MIN_SECRET_LENGTH <= len(secret) <= MAX_SECRET_LENGTH or not (
        secret.isascii() and secret.isprintable()
    ):
        yield Problem(
            "secret",
            f"must be {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH} printable ASCII characters",
        )
    elif secret.strip() != secret:
        yield Problem("secret", "must not begin or end with a space")
    elif (
        signing.scheme in ("standard", "gitlab")
        and secret.startswith(STANDARD_PREFIX)
        and standard_key(secret) is None
    ):
        yield Problem("secret", f"begins with {STANDARD_PREFIX}, but the rest is not base64")
    elif key_bytes(secret, signing.secret_encoding) is None:
        yield Problem("secret", f"is not written in {signing.secret_encoding}")


def new_secret(signing: Signing) -> str:
    """Generate a secret of 256 bits in the format that callers of such a hook use."""
    if signing.scheme in ("standard", "gitlab"):
        return STANDARD_PREFIX + b64encode(secrets.token_bytes(32)).decode()
    match signing.secret_encoding:
        case "text":
            return secrets.token_urlsafe(32)
        case "hex":
            return secrets.token_hex(32)
        case "base64":
            return b64encode(secrets.token_bytes(32)).decode()
