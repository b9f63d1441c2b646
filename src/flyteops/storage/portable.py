"""What a store holds, as values that any other store can take over: the records that backups and moves are made of.

They come in the order of `KINDS`, events and actions oldest first, so that whatever a record names by its id came before it.
"""

from datetime import datetime, timedelta
from hashlib import blake2b
from typing import get_args

import msgspec

from flyteops.model import DataItem, Decision, Event, FlowVersion, NewAction, Note, Pack, Transition
from flyteops.ruling import Timetable


class Portable(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a store holds."""


class StoredPack(Portable, frozen=True, tag="pack"):
    """A pack that has registered."""

    pack: Pack


class StoredVersion(Portable, frozen=True, tag="version"):
    """A flow as it was saved once."""

    version: FlowVersion


class StoredFlow(Portable, frozen=True, tag="flow"):
    """Which version of a flow is the current one, and when its steps are due by themselves."""

    name: str
    uuid: str
    timetables: tuple[Timetable, ...] = ()


class StoredItem(Portable, frozen=True, tag="item"):
    """A datastore item."""

    item: DataItem


class StoredNote(Portable, frozen=True, tag="note"):
    """A note of the servers."""

    note: Note


class StoredEvent(Portable, frozen=True, tag="event"):
    """An event, and what was decided about it."""

    event: Event
    decisions: tuple[Decision, ...] = ()


class StoredAttempt(Portable, frozen=True):
    """One handing out of an action with a time limit: the lease that its result has to show, and the event that came late."""

    number: int
    lease: str
    pack_id: str
    taken_at: datetime
    lost_at: datetime | None = None
    late_id: str | None = None


class StoredAction(Portable, frozen=True, tag="action"):
    """An action as it stands; `action.not_before` is not used, for `due_at` says it.

    `trigger_id` and `result_id` name events. `wait` is how long a delayed one was to wait, `attempt` how often it was handed out.
    """

    action: NewAction
    trigger_id: str
    states: tuple[Transition, ...]
    result_id: str | None = None
    due_at: datetime | None = None
    wait: timedelta | None = None
    attempt: int = 0
    attempts: tuple[StoredAttempt, ...] = ()

    @property
    def result_ids(self) -> list[str]:
        """The ids of the events that came as results of it, in time or too late."""
        return [each for each in (self.result_id, *(attempt.late_id for attempt in self.attempts)) if each is not None]


class StoredKey(Portable, frozen=True, tag="key"):
    """The key that an event came with."""

    key: str
    event_id: str
    kept_at: datetime


Stored = StoredPack | StoredVersion | StoredFlow | StoredItem | StoredNote | StoredEvent | StoredAction | StoredKey

KINDS: tuple[str, ...] = tuple(str(kind.__struct_config__.tag) for kind in get_args(Stored))
"""What there is, in the order in which it comes."""

encode_record = msgspec.json.Encoder(order="deterministic").encode
"""Equal records are equal texts, whichever store they come from."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a sequence of records was read: how many there were, and a checksum over all of them in their order."""

    records: int = 0
    checksum: str = ""


class Tally:
    """Counts records by kind, and chains a checksum over them, so that it can be compared at any record."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self._records = 0
        self._checksum = b""

    def add(self, kind: str, encoded: bytes) -> None:
        """Take the next record into account."""
        self.counts[kind] += 1
        self._records += 1
        self._checksum = blake2b(self._checksum + encoded, digest_size=32).digest()

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self._records, self._checksum.hex())


def kind_of(record: Stored) -> str:
    """Return what kind of record it is, one of `KINDS`."""
    return str(record.__struct_config__.tag)
