"""Portable records: a store's data in a form that any other can load, for backups and moves.

They come in the order of `KINDS`, events and actions oldest first, so that any record comes after
those that it names by id.
"""

from datetime import datetime, timedelta
from hashlib import blake2b
from typing import get_args

import msgspec

from flyteops.model import (
    Basis,
    DataItem,
    Decision,
    Event,
    FlowVersion,
    NewAction,
    Note,
    Pack,
    Transition,
)
from flyteops.transition import ScheduleEntry

PART_RECORDS = 500
"""The maximum number of records that are exported or loaded at a time."""


class Portable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record of a store."""


class StoredPack(Portable, frozen=True, tag="pack"):
    """A registered pack."""

    pack: Pack


class StoredVersion(Portable, frozen=True, tag="version"):
    """A saved version of a flow."""

    version: FlowVersion


class StoredFlow(Portable, frozen=True, tag="flow"):
    """The current version of a flow, and the timetables of its steps."""

    name: str
    uuid: str
    timetables: tuple[ScheduleEntry, ...] = ()


class StoredItem(Portable, frozen=True, tag="item"):
    """A datastore item."""

    item: DataItem


class StoredNote(Portable, frozen=True, tag="note"):
    """A note of the servers."""

    note: Note


class StoredEvent(Portable, frozen=True, tag="event"):
    """An event, the stored decisions about it, and the basis of the others."""

    event: Event
    decisions: tuple[Decision, ...] = ()
    basis: Basis | None = None


class StoredAttempt(Portable, frozen=True):
    """An attempt at an action with a time limit: the lease for its result, and any late event."""

    number: int
    lease: str
    pack_id: str
    taken_at: datetime
    lost_at: datetime | None = None
    late_id: str | None = None


class StoredAction(Portable, frozen=True, tag="action"):
    """An action in its current state; `action.not_before` is not used, as `due_at` holds it.

    `trigger_id` and `result_id` name events. `wait` is the delay of a delayed one, `attempt` the
    number of times it was handed out.
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
        """The ids of the events that were its results, in time or too late."""
        return [
            each
            for each in (self.result_id, *(attempt.late_id for attempt in self.attempts))
            if each is not None
        ]


class StoredKey(Portable, frozen=True, tag="key"):
    """The key of an event."""

    key: str
    event_id: str
    kept_at: datetime


Stored = (
    StoredPack
    | StoredVersion
    | StoredFlow
    | StoredItem
    | StoredNote
    | StoredEvent
    | StoredAction
    | StoredKey
)

KINDS: tuple[str, ...] = tuple(str(kind.__struct_config__.tag) for kind in get_args(Stored))
"""All kinds of records, in the order of an export."""

encode_record = msgspec.json.Encoder(order="deterministic").encode
"""Equal records have equal encodings, from any store."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The position in a sequence of records: their number, and a checksum over all in order."""

    records: int = 0
    checksum: str = ""


class Tally:
    """Counts records by kind, and chains a checksum over them, comparable at any record."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self._records = 0
        self._checksum = b""

    def add(self, kind: str, encoded: bytes) -> None:
        """Add the next record."""
        self.counts[kind] += 1
        self._records += 1
        self._checksum = blake2b(self._checksum + encoded, digest_size=32).digest()

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self._records, self._checksum.hex())


def kind_of(record: Stored) -> str:
    """Return the kind of a record, one of `KINDS`."""
    return str(record.__struct_config__.tag)
