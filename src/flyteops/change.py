"""What is kept of every change: who changed what, when, from where, from what to what; and whether such entries are whole.

An entry is kept as two lines. The second is the entry as JSON: UTF-8, keys sorted, no spaces, what is empty left out. The first
is its hash, the SHA-256 of the bytes of the second in hexadecimal. Each entry names the hash of the one before it, so that none
can be changed, taken out, put in or moved without the next one telling.

The log is bounded: its oldest entries are removed. A `Base` then takes their place, and an entry of the kind `log` says what the
base is, so that a base that no server has written shows.
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
"""The kind of the notes that entries are."""

BASE = "audit-base"
"""The kind of the notes that bases are; it sorts before that of the entries, so that exports have them first."""

STATELESS = ("action", "log")
"""The kinds of things whose state in the store is not compared with what entries say."""

NOTHING = "0" * 64
"""The hash that the first entry names."""

KEY = re.compile(r"[0-9]{12}")

LONGEST_TEXT = 65_536
"""How many bytes of a thing are kept in an entry; of all that is longer there is the hash."""

LONGEST_WORD = 1_000
"""How many characters of a name, a description or a content type are kept."""

ThingKind = Literal["flow", "datastore", "pack", "token", "hook", "action", "log"]
Thing = tuple[ThingKind, str]
"""What is changed: its kind and its name."""

ActionName = Literal["created", "updated", "removed", "revoked", "rotated", "resolved", "failed", "found", "trimmed"]


class Kept(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what entries are made of."""


class Actor(Kept, frozen=True, kw_only=True):
    """Who did it: the bearer of a token of ours (by its id) or of an OpenID provider (by its subject), or the server itself.

    An ``address`` is that of a pack which needs no token there; its name is that of the packs that are let in from it.
    """

    kind: Literal["anonymous", "server", "token", "oidc", "address"]
    id: str = ""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.kind, self.id, f"({self.name})" if self.name else ""]))


class Place(Kept, frozen=True, kw_only=True):
    """Where the request came from; all but the address is only what the client, or a proxy, says."""

    address: str = ""
    forwarded_for: str = ""
    agent: str = ""


class Author(NamedTuple):
    """Who wants a change, and from where."""

    who: Actor
    place: Place = Place()


SERVER = Author(Actor(kind="server"))


class State(Kept, frozen=True, kw_only=True):
    """How a thing is. Of a value that is long, `text` is the beginning only; of one that is no text or a secret, there is none.

    The hash of a secret is that of its encrypted form, which is another whenever it is set, even to the same value.
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
        """Return the state of something with this value."""
        is_cut = len(value) > LONGEST_TEXT
        return cls(
            content_type=bounded(content_type),
            sha256=sha256(value).hexdigest(),
            size=len(value),
            text=_text(value[:LONGEST_TEXT], is_cut=is_cut),
            is_cut=is_cut,
            description=bounded(description),
        )

    @classmethod
    def of_secret(cls, content_type: str, encrypted: bytes, description: str) -> Self:
        """Return the state of a secret, which says nothing about its value."""
        digest = sha256(encrypted).hexdigest()
        return cls(content_type=bounded(content_type), sha256=digest, is_secret=True, description=bounded(description))


def _text(value: bytes, *, is_cut: bool) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        # What is cut may end in the middle of a character.
        return value[: error.start].decode() if is_cut and error.start > len(value) - 4 else None


def bounded(text: str) -> str:
    """Return text that is not too long to be kept; from longer ones that differ come others that differ."""
    return text if len(text) <= LONGEST_WORD else f"{text[:LONGEST_WORD]}… (SHA-256 {sha256(text.encode()).hexdigest()})"


UNREADABLE = State.of("application/json", b"null")
"""The state of something in the store that cannot be read, so that there is an entry about its removal."""


class Change(Kept, frozen=True, kw_only=True):
    """An entry. `before` and `after` are how the thing was and is, none if it did not or does not exist.

    An entry is written before the change is made. One with the action `failed` says that the change that it is `about` was not
    made; `found` says how a server found a thing of which the entries said something else. `previous` is the hash of the entry
    before.
    """

    seq: int
    time: str
    who: Actor
    place: Place = field(name="from", default=Place())
    kind: ThingKind
    name: str
    action: ActionName
    before: State | None = None
    after: State | None = None
    about: int | None = None
    previous: str
    hash: str = ""

    @property
    def thing(self) -> Thing:
        return self.kind, self.name

    @property
    def head(self) -> str:
        """What names this entry and with it all before: to be noted elsewhere."""
        return f"{self.seq}:{self.hash}"


def thing(kind: ThingKind, name: str) -> Thing:
    """Return what entries name a thing by."""
    return kind, bounded(name)


class Former(NamedTuple):
    """What a removed entry said last of a thing: the entry's number, and a digest of the state."""

    seq: int
    digest: str


class Difference(NamedTuple):
    """A thing that is not as the last entry about it says, if there is one; `state` is how it is, None if it is not there.

    `former` is that entry if it was removed.
    """

    thing: Thing
    entry: Change | None
    state: State | None
    former: Former | None = None


def differences(
    said: Mapping[Thing, Change], states: Mapping[Thing, State], removed: Mapping[Thing, Former] | None = None
) -> Iterator[Difference]:
    """Compare what entries say last of each thing with how the things are; `removed` is what removed entries said."""
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
_decode = msgspec.json.Decoder(Change).decode


def key_of(seq: int) -> str:
    """Return the key under which an entry is kept, so that they are in order."""
    return f"{seq:012d}"


def seal(change: Change) -> tuple[Change, Note]:
    """Return the entry with its hash, and as it is kept."""
    text = _encode(replace(change, hash=""))
    digest = sha256(text).hexdigest()
    return replace(change, hash=digest), Note(KIND, key_of(change.seq), f"{digest}\n".encode() + text)


def digest_of(state: State) -> str:
    """Return what tells a state from all others."""
    return sha256(_encode(state)).hexdigest()[:32]


class Base(Struct, frozen=True, kw_only=True):
    """What takes the place of the entries up to number `seq`, which had that hash, once they are removed.

    `last` is what they said last of the things that were there: by kind and name, the entry's number and a digest of the state.
    """

    seq: int = 0
    hash: str = NOTHING
    last: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)

    def behind(self, entries: Iterable[Change]) -> "Base":
        """Return the base that takes the place of these entries, too; they are the next ones, in order."""
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
        return Base(seq=seq, hash=digest, last=last)

    @property
    def head(self) -> str:
        """The name of the last entry that it stands for."""
        return f"{self.seq}:{self.hash}"

    @property
    def things(self) -> dict[Thing, Former]:
        """What the removed entries said last of each thing."""
        return {
            (cast("ThingKind", kind), name): Former(*found) for kind, names in self.last.items() for name, found in names.items()
        }

    @property
    def note(self) -> Note:
        """The base as it is kept."""
        return Note(BASE, key_of(self.seq), _encode(self))

    @property
    def state(self) -> State:
        """The base as an entry has it: in words, with the hash of what is kept."""
        value = self.note.value
        text = f"changes 1 to {self.seq} were removed; the last of them was {self.seq}:{self.hash}"
        return State(content_type="text/plain", sha256=sha256(value).hexdigest(), size=len(value), text=text)


_decode_base = msgspec.json.Decoder(Base).decode


def open_base(note: Note) -> Base:
    """Return the base that is kept in a note; raise `ValueError` if it is none."""
    try:
        base = _decode_base(note.value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if base.note != note:
        raise ValueError("it is not as a server writes it")
    return base


def open_note(note: Note) -> Change:
    """Return the entry that is kept in a note, whether it is as it was written or not; raise `ValueError` if it is none."""
    digest, _, text = note.value.partition(b"\n")
    try:
        return replace(_decode(text), hash=digest.decode())
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


# ------------------------------------------------------------------------------------------------------------ the chain


class Fault(NamedTuple):
    """What is wrong with an entry: modified, removed, inserted or reordered, and how that shows."""

    seq: int
    how: Literal["modified", "removed", "inserted", "reordered"]
    detail: str

    def __str__(self) -> str:
        return f"entry {self.seq} was {self.how}: {self.detail}"


class Chain:
    """Takes entries in the order of their keys; `fault` is the first that is not as it was written.

    `anchors` are hashes by number that somebody has noted, against which entries are held. `last` is what the entries say last of
    each thing, and which says it; `found` are those by which a server says that a thing was not as entries said. The `base` is
    what takes the place of removed entries.
    """

    def __init__(self, anchors: Mapping[int, str] | None = None) -> None:
        self.base = Base()
        self.seq = 0
        self.hash = NOTHING
        self._bases: set[str] = set()
        self.fault: Fault | None = None
        self.last: dict[Thing, Change] = {}
        self.found: list[Change] = []
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
        """Begin behind a base, unless it is older than the one that was taken before; before all entries."""
        try:
            base = open_base(note)
        except ValueError as error:
            self.fault = Fault(1, "modified", f"the note {note.key!r} about removed entries cannot be understood: {error}")
            return
        if base.seq >= self.seq:
            self.base, self.seq, self.hash = base, base.seq, base.hash
            noted = self._anchors.get(base.seq, base.hash)
            if noted != base.hash:
                self.fault = Fault(base.seq, "modified", "its hash is another than the one that was expected")

    def add(self, note: Note) -> None:
        """Take the next entry; those behind one that is wrong are not looked at, nor those that are being removed."""
        if self.fault is not None or (KEY.fullmatch(note.key) and 0 < int(note.key) <= self.base.seq):
            return
        self.fault = self._fault_of(note)
        if self.fault is None:
            change = open_note(note)
            self.seq, self.hash = change.seq, change.hash
            if change.kind not in STATELESS:
                self.last[change.thing] = change
            if change.action == "trimmed" and change.kind == "log" and change.after is not None:
                self._bases.add(change.after.sha256)
            if change.action == "found" and change.before is not None:
                self.found.append(change)

    def end(self) -> Fault | None:
        """Return the fault, also that the newest entries are missing, as far as anchors tell, or the oldest without an entry."""
        if self.fault is None and self.base.seq and self.base.state.sha256 not in self._bases:
            detail = f"entries 1 to {self.base.seq} are missing, and no entry says that a server has removed them"
            self.fault = Fault(1, "removed", detail)
        newest = max(self._anchors, default=0)
        if self.fault is None and newest > self.seq:
            self.fault = Fault(self.seq + 1, "removed", f"entry {newest} is known from elsewhere, but the last is {self.seq}")
        return self.fault

    def _fault_of(self, note: Note) -> Fault | None:
        here = self.seq + 1
        if KEY.fullmatch(note.key) is None or int(note.key) < here:
            return Fault(here, "inserted", f"there is a note {note.key!r} among the entries, which no server has written")
        if int(note.key) > here:
            last = int(note.key) - 1
            return Fault(here, "removed", f"{'it is' if last == here else f'entries {here} to {last} are'} missing")
        digest, _, text = note.value.partition(b"\n")
        if sha256(text).hexdigest().encode() != digest:
            return Fault(here, "modified", "its hash is not that of what it says")
        try:
            change = open_note(note)
        except ValueError as error:
            return Fault(here, "modified", f"it cannot be understood: {error}")
        return self._misfit(change, here)

    def _misfit(self, change: Change, here: int) -> Fault | None:
        if change.seq != here:
            return Fault(here, "reordered", f"what is there was written as entry {change.seq}")
        if change.previous != self.hash:
            if here == 1:
                return Fault(here, "inserted", "it follows another entry, which is not there")
            return Fault(here - 1, "modified", f"it is whole, but not the one that entry {here} was written after")
        if self._anchors.get(here, change.hash) != change.hash:
            return Fault(here, "modified", "its hash is another than the one that was expected")
        return None
