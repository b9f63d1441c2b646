"""The audit log: a hash chain of entries with author, time, origin, and both states of a change.

An entry is stored as two lines. The second is the entry as JSON: UTF-8, keys sorted, no spaces,
empty fields left out. The first is its hash, the SHA-256 of the bytes of the second in hexadecimal.
Each entry names the hash of the one before it, so that an entry cannot be changed, removed,
inserted or moved without a mismatch in the next one.

The log is bounded: its oldest entries are removed. An `AuditBase` then takes their place, and an
entry of the kind `log` records the base, so that a base that no server has written is detected.

Pure: the clock and the store belong to `service.auditlog.log`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple, Self, cast

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from flyteops.model import Note

KIND = "change"
"""The kind of the notes that hold entries."""

BASE = "audit-base"
"""The kind of the notes that hold bases.

It sorts before that of the entries, so that exports have them first.
"""

STATELESS = ("action", "log")
"""The kinds of resources whose stored state is not compared with the entries."""

NOTHING = "0" * 64
"""The predecessor hash of the first entry."""

KEY = re.compile(r"[0-9]{12}")

MAX_TEXT_LENGTH = 65_536
"""The maximum number of bytes of a value in an entry; longer values have a hash as well."""

MAX_WORD_LENGTH = 1_000
"""The maximum number of characters of a name, a description or a content type."""

ResourceKind = Literal["flow", "datastore", "pack", "token", "hook", "action", "log"]
ResourceKey = tuple[ResourceKind, str]
"""The key of a changed resource: its kind and its name."""

ActionName = Literal[
    "created", "updated", "removed", "revoked", "rotated", "resolved", "failed", "found", "trimmed"
]


class AuditRecord(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the parts of entries."""


class Actor(AuditRecord, frozen=True, kw_only=True):
    """The author of a change.

    The bearer of one of our tokens (by its id) or of a token of an OpenID provider (by its
    subject), or the server itself. An ``address`` is that of a pack which needs no token there; its
    name is that of the packs that are admitted from it.
    """

    kind: Literal["anonymous", "server", "token", "oidc", "address"]
    id: str = ""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.kind, self.id, f"({self.name})" if self.name else ""]))


class Origin(AuditRecord, frozen=True, kw_only=True):
    """The origin of the request. All fields but the address are claims of the client or a proxy."""

    address: str = ""
    forwarded_for: str = ""
    agent: str = ""


class Author(NamedTuple):
    """The author of a requested change, and its origin."""

    who: Actor
    place: Origin = Origin()


SERVER = Author(Actor(kind="server"))


class ResourceState(AuditRecord, frozen=True, kw_only=True):
    """The state of a resource.

    Of a long value, `text` is the beginning only; of a secret and of one that is not text, there is
    none. The hash of a secret is that of its encrypted form, which differs each time it is set,
    even to the same value.
    """

    content_type: str
    sha256: str
    size: Annotated[int, Meta(description="how many bytes the value has")] | None = None
    text: str | None = None
    is_cut: bool = False
    is_secret: bool = False
    description: str = ""

    @classmethod
    def of(cls, content_type: str, value: bytes, description: str = "") -> Self:
        """Return the state of a resource with this value."""
        is_cut = len(value) > MAX_TEXT_LENGTH
        return cls(
            content_type=bounded(content_type),
            sha256=sha256(value).hexdigest(),
            size=len(value),
            text=_text(value[:MAX_TEXT_LENGTH], is_cut=is_cut),
            is_cut=is_cut,
            description=bounded(description),
        )

    @classmethod
    def of_secret(cls, content_type: str, encrypted: bytes, description: str) -> Self:
        """Return the state of a secret, which reveals nothing about its value."""
        digest = sha256(encrypted).hexdigest()
        return cls(
            content_type=bounded(content_type),
            sha256=digest,
            is_secret=True,
            description=bounded(description),
        )


def _text(value: bytes, *, is_cut: bool) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        # The cut may be in the middle of a character.
        return value[: error.start].decode() if is_cut and error.start > len(value) - 4 else None


def bounded(text: str) -> str:
    """Return text that is short enough to be stored.

    Different long texts give different results.
    """
    return (
        text
        if len(text) <= MAX_WORD_LENGTH
        else f"{text[:MAX_WORD_LENGTH]}… (SHA-256 {sha256(text.encode()).hexdigest()})"
    )


UNREADABLE = ResourceState.of("application/json", b"null")
"""The state of an unreadable resource in the store, so that there is an entry about its removal."""


class AuditEntry(AuditRecord, frozen=True, kw_only=True):
    """An entry. `before` and `after` are the states of the resource, None where it does not exist.

    An entry is written before the change is made. One with the action `failed` records that the
    change that it is `about` was not made; `found` records the state that a server found where it
    differed from the entries. `previous` is the hash of the entry before.
    """

    seq: int
    time: str
    who: Actor
    place: Origin = field(name="from", default=Origin())
    kind: ResourceKind
    name: str
    action: ActionName
    before: ResourceState | None = None
    after: ResourceState | None = None
    about: int | None = None
    previous: str
    hash: str = ""

    @property
    def resource(self) -> ResourceKey:
        return self.kind, self.name

    @property
    def head(self) -> str:
        """The name of this entry and of all before it, through the chain: to be noted elsewhere."""
        return f"{self.seq}:{self.hash}"


def resource_key(kind: ResourceKind, name: str) -> ResourceKey:
    """Return the key of a resource in entries."""
    return kind, bounded(name)


class LastState(NamedTuple):
    """The last state of a resource in removed entries: the entry's number, the state's digest."""

    seq: int
    digest: str


class Difference(NamedTuple):
    """A resource that differs from its last entry, if any; `state` is None if it no longer exists.

    `former` is that entry if it was removed.
    """

    resource: ResourceKey
    entry: AuditEntry | None
    state: ResourceState | None
    former: LastState | None = None


def compare_states(
    said: Mapping[ResourceKey, AuditEntry],
    states: Mapping[ResourceKey, ResourceState],
    removed: Mapping[ResourceKey, LastState] | None = None,
) -> Iterator[Difference]:
    """Compare the last entry about each resource with its stored state.

    `removed` holds the last states in removed entries.
    """
    removed = removed or {}
    for each in sorted({*said, *states, *removed}):
        entry, state = said.get(each), states.get(each)
        former = removed.get(each) if entry is None else None
        if former is not None:
            is_as_said = state is not None and digest_of(state) == former.digest
        else:
            is_as_said = state == (None if entry is None else entry.after)
        if not is_as_said:
            yield Difference(each, entry, state, former)


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(AuditEntry).decode


def key_of(seq: int) -> str:
    """Return the key under which an entry is stored, so that keys sort in order."""
    return f"{seq:012d}"


def seal_entry(change: AuditEntry) -> tuple[AuditEntry, Note]:
    """Return the entry with its hash, and its stored form."""
    text = _encode(replace(change, hash=""))
    digest = sha256(text).hexdigest()
    return replace(change, hash=digest), Note(
        KIND, key_of(change.seq), f"{digest}\n".encode() + text
    )


def digest_of(state: ResourceState) -> str:
    """Return a digest of a state, different for different states."""
    return sha256(_encode(state)).hexdigest()[:32]


class AuditBase(Struct, frozen=True, kw_only=True):
    """The replacement for the removed entries up to number `seq`, which had that hash.

    `last` holds their last states of the resources that existed: by kind and name, the entry's
    number and a digest of the state.
    """

    seq: int = 0
    hash: str = NOTHING
    last: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)

    def behind(self, entries: Iterable[AuditEntry]) -> "AuditBase":
        """Return the base that also replaces these entries, which are the next ones, in order."""
        seq, digest = self.seq, self.hash
        last = {kind: dict(names) for kind, names in self.last.items()}
        for change in entries:
            seq, digest = change.seq, change.hash
            if change.kind in STATELESS:
                continue
            names = last.setdefault(change.kind, {})
            names.pop(change.name, None)
            if change.after is not None:
                names[change.name] = change.seq, digest_of(change.after)
        return AuditBase(seq=seq, hash=digest, last=last)

    @property
    def head(self) -> str:
        """The name of the last entry that it replaces."""
        return f"{self.seq}:{self.hash}"

    @property
    def resources(self) -> dict[ResourceKey, LastState]:
        """The last state of each resource in the removed entries."""
        return {
            (cast("ResourceKind", kind), name): LastState(*found)
            for kind, names in self.last.items()
            for name, found in names.items()
        }

    @property
    def note(self) -> Note:
        """The stored form of the base."""
        return Note(BASE, key_of(self.seq), _encode(self))

    @property
    def state(self) -> ResourceState:
        """The base as the state of an entry: in words, with the hash of the stored form."""
        value = self.note.value
        text = f"changes 1 to {self.seq} were removed; the last of them was {self.seq}:{self.hash}"
        return ResourceState(
            content_type="text/plain", sha256=sha256(value).hexdigest(), size=len(value), text=text
        )


_decode_base = msgspec.json.Decoder(AuditBase).decode


def open_base(note: Note) -> AuditBase:
    """Return the base in a note; raise `ValueError` if the note does not hold one."""
    try:
        base = _decode_base(note.value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if base.note != note:
        raise ValueError("it is not as a server writes it")
    return base


def open_entry(note: Note) -> AuditEntry:
    """Return the entry in a note, intact or not.

    Raise `ValueError` if the note does not hold one.
    """
    digest, _, text = note.value.partition(b"\n")
    try:
        return replace(_decode(text), hash=digest.decode())
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


# ---------------------------------------------------------------------------------------- the chain


class ChainFault(NamedTuple):
    """A fault of an entry: modified, removed, inserted or reordered, with the evidence."""

    seq: int
    how: Literal["modified", "removed", "inserted", "reordered"]
    detail: str

    def __str__(self) -> str:
        return f"entry {self.seq} was {self.how}: {self.detail}"


class ChainVerifier:
    """Verifies entries in the order of their keys; `fault` is the first that was changed.

    `anchors` are hashes that were noted elsewhere, by number, against which entries are checked.
    `last` is the last entry about each resource; `found` are the entries by which a server recorded
    a resource that differed from its entries. The `base` replaces removed entries.
    """

    def __init__(self, anchors: Mapping[int, str] | None = None) -> None:
        self.base = AuditBase()
        self.seq = 0
        self.hash = NOTHING
        self._bases: set[str] = set()
        self.fault: ChainFault | None = None
        self.last: dict[ResourceKey, AuditEntry] = {}
        self.found: list[AuditEntry] = []
        self._anchors = anchors or {}

    @property
    def head(self) -> str:
        """The name of the newest entry."""
        return f"{self.seq}:{self.hash}"

    @property
    def unverifiable(self) -> list[int]:
        """The numbers of anchors whose entries were removed."""
        return sorted(number for number in self._anchors if number < self.base.seq)

    def begin(self, note: Note) -> None:
        """Begin behind a base, unless it is older than the previous one.

        Call it before all entries.
        """
        try:
            base = open_base(note)
        except ValueError as error:
            self.fault = ChainFault(
                1,
                "modified",
                f"the note {note.key!r} about removed entries cannot be understood: {error}",
            )
            return
        if base.seq >= self.seq:
            self.base, self.seq, self.hash = base, base.seq, base.hash
            noted = self._anchors.get(base.seq, base.hash)
            if noted != base.hash:
                self.fault = ChainFault(
                    base.seq, "modified", "its hash is another than the one that was expected"
                )

    def add(self, note: Note) -> None:
        """Take the next entry.

        Entries after a faulty one and entries being removed are not checked.
        """
        if self.fault is not None or (
            KEY.fullmatch(note.key) and 0 < int(note.key) <= self.base.seq
        ):
            return
        self.fault = self._fault_of(note)
        if self.fault is None:
            change = open_entry(note)
            self.seq, self.hash = change.seq, change.hash
            if change.kind not in STATELESS:
                self.last[change.resource] = change
            if change.action == "trimmed" and change.kind == "log" and change.after is not None:
                self._bases.add(change.after.sha256)
            if change.action == "found" and change.before is not None:
                self.found.append(change)

    def end(self) -> ChainFault | None:
        """Return the fault.

        This includes missing newest entries, as far as anchors show, and missing oldest ones
        without an entry.
        """
        if self.fault is None and self.base.seq and self.base.state.sha256 not in self._bases:
            detail = (
                f"entries 1 to {self.base.seq} are missing, and no entry says that a server has"
                " removed them"
            )
            self.fault = ChainFault(1, "removed", detail)
        newest = max(self._anchors, default=0)
        if self.fault is None and newest > self.seq:
            self.fault = ChainFault(
                self.seq + 1,
                "removed",
                f"entry {newest} is known from elsewhere, but the last is {self.seq}",
            )
        return self.fault

    def _fault_of(self, note: Note) -> ChainFault | None:
        here = self.seq + 1
        if KEY.fullmatch(note.key) is None or int(note.key) < here:
            return ChainFault(
                here,
                "inserted",
                f"there is a note {note.key!r} among the entries, which no server has written",
            )
        if int(note.key) > here:
            last = int(note.key) - 1
            return ChainFault(
                here,
                "removed",
                f"{'it is' if last == here else f'entries {here} to {last} are'} missing",
            )
        digest, _, text = note.value.partition(b"\n")
        if sha256(text).hexdigest().encode() != digest:
            return ChainFault(here, "modified", "its hash is not that of what it says")
        try:
            change = open_entry(note)
        except ValueError as error:
            return ChainFault(here, "modified", f"it cannot be understood: {error}")
        return self._misfit(change, here)

    def _misfit(self, change: AuditEntry, here: int) -> ChainFault | None:
        if change.seq != here:
            return ChainFault(here, "reordered", f"what is there was written as entry {change.seq}")
        if change.previous != self.hash:
            if here == 1:
                return ChainFault(here, "inserted", "it follows another entry, which is not there")
            return ChainFault(
                here - 1,
                "modified",
                f"it is whole, but not the one that entry {here} was written after",
            )
        if self._anchors.get(here, change.hash) != change.hash:
            return ChainFault(
                here, "modified", "its hash is another than the one that was expected"
            )
        return None
