"""Writes that no request waits for: gathered, and carried out together a moment later.

They are the copies of actions in `audit`, the events of results, the time of the last activity of
executions, and the removal of the marks of what is done. The marks (`todo` of an event, `pending`
of an execution) are removed after everything else, so that a server that is killed in between
loses nothing: whatever is still marked is carried out again by others, from the marks.
"""

import asyncio
from collections.abc import Iterable, Sequence

import bson
from pymongo import UpdateOne

from flyteops.background import BackgroundLoop
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.client import OPTIONS, DatabaseClient
from flyteops.storage.mongodb.document import extra
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.execution import mirror

INTERVAL = 0.5
"""Seconds between two rounds; less than the time after which others complete marked work."""

MOST = 500
"""The number of gathered writes that begins a round at once."""

VERSION_FIELDS = {"flyte.state": 1, "flyte.since": 1, "flyte.attempt": 1}

WRITING = "Writing copies and activity of commands"
"""The background loop's name in readiness reports."""


class _Part:
    """What was gathered for one round."""

    def __init__(self) -> None:
        self.copies: dict[str, Document] = {}
        self.results: dict[str, Document] = {}
        self.created: dict[str, None] = {}
        self.activity: dict[str, int] = {}
        self.carried_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.copies) + len(self.results) + len(self.created) + len(self.activity)

    def copy(self, action: Document) -> None:
        known = self.copies.get(action["_id"])
        if known is None or len(known["states"]) <= len(action["states"]):
            self.copies[action["_id"]] = action

    def touch(self, run: str, at: int) -> None:
        self.activity[run] = max(self.activity.get(run, at), at)

    def add(self, other: "_Part") -> None:
        for action in other.copies.values():
            self.copy(action)
        for run, at in other.activity.items():
            self.touch(run, at)
        for run, number in other.carried_out.items():
            self.carried_out[run] = max(self.carried_out.get(run, number), number)
        self.results |= other.results
        self.created |= other.created


class DeferredWrites:
    """Gathers writes, and carries them out."""

    def __init__(self) -> None:
        self._part = _Part()
        self._writing = asyncio.Lock()
        self._is_due = asyncio.Event()

    def copy(self, actions: Iterable[Document]) -> None:
        """Copy actions to the audit, unless a newer copy is there."""
        for action in actions:
            self._part.copy(action)
        self._check()

    def touch(self, actions: Iterable[Document], at: int) -> None:
        """Note the activity of the executions of actions."""
        for action in actions:
            self._part.touch(action["correlationId"], at)
        self._check()

    def close_event(self, event_id: str) -> None:
        """Remove the mark of an event whose actions are created and copied."""
        self._part.created[event_id] = None
        self._check()

    def close_change(self, run: str, number: int, event: Document | None) -> None:
        """Store the event of a change that was carried out, and remove the execution's mark."""
        self._part.carried_out[run] = number
        if event is not None:
            self._part.results[event["_id"]] = event
        self._check()

    def _check(self) -> None:
        if len(self._part) >= MOST:
            self._is_due.set()

    def has_change(self, run: str) -> bool:
        """Return whether a change of this execution was carried out and is still marked."""
        return run in self._part.carried_out

    async def write(self, database: Database) -> None:
        """Carry out everything gathered before this call; keep it when that fails."""
        async with self._writing:
            part, self._part = self._part, _Part()
            try:
                await _write(database, part)
            except BaseException:  # on any error, and also when cancelled, for the next round
                part.add(self._part)
                self._part = part
                raise

    @property
    def is_empty(self) -> bool:
        """Whether nothing is gathered or being written."""
        return not self._part and not self._part.carried_out and not self._writing.locked()

    async def run(
        self, client: DatabaseClient, loop: BackgroundLoop, stopping: asyncio.Event
    ) -> None:
        """Write until told to stop; a failed round is repeated."""
        while not stopping.is_set():
            await _first((self._is_due, stopping))
            self._is_due.clear()
            if self.is_empty:
                continue
            try:
                await client.run(self.write)
                loop.succeeded()
            except Exception as error:  # noqa: BLE001 - the loop goes on after any error
                loop.failed(error)


async def _first(events: Sequence[asyncio.Event]) -> None:
    """Wait for one of these, for one interval."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=INTERVAL, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


async def _write(database: Database, part: _Part) -> None:
    await mirror(database, list(part.copies.values()))
    events = [inserting(event) for event in part.results.values()]
    events += [
        UpdateOne({"_id": event_id}, {"$unset": {"open": 1, "todo": 1}})
        for event_id in part.created
    ]
    await write_all(database.flyte_event, events)
    runs = [
        UpdateOne({"_id": run}, {"$max": {"changedAt": at}}) for run, at in part.activity.items()
    ]
    runs += [
        UpdateOne({"_id": run, "change": number}, {"$unset": {"pending": 1, "open": 1}})
        for run, number in part.carried_out.items()
    ]
    await write_all(database.flyte_execution, runs)


def inserting(event: Document) -> UpdateOne:
    """Return the insertion of an event, unless it exists, as an update."""
    rest = {field: value for field, value in event.items() if field != "_id"}
    return UpdateOne({"_id": event["_id"]}, {"$setOnInsert": rest}, upsert=True)


async def store_results(database: Database) -> None:
    """Store the events of results that any server has acknowledged and not yet stored."""
    events = []
    async for run in database.flyte_execution.find({"open": True}, {"pending": 1}):
        if "pending" in run:
            event = bson.decode(run["pending"], codec_options=OPTIONS).get("event")
            events += [] if event is None else [inserting(event)]
    await write_all(database.flyte_event, events)


async def update_copies(database: Database) -> None:
    """Update the copies and the activity of taken actions, for a server that was killed.

    All other changes are marked until they are copied; taking an action marks nothing.
    """
    taken = {"flyte.state": "PENDING"}
    fields = {"correlationId": 1, **VERSION_FIELDS}
    found: list[Document] = []
    async for action in database.action.find(taken, fields):
        found.append(action)
        if len(found) == MOST:
            await _update_copies(database, found)
            found = []
    await _update_copies(database, found)


async def _update_copies(database: Database, actions: Sequence[Document]) -> None:
    ids = [action["_id"] for action in actions]
    copies = {
        each["_id"]: _version_of(each)
        async for each in database.audit.find({"_id": {"$in": ids}}, VERSION_FIELDS)
    }
    old = [each for each in actions if copies.get(each["_id"]) != _version_of(each)]
    part = _Part()
    for each in old:
        part.touch(each["correlationId"], extra(each)["since"])
    async for action in database.action.find({"_id": {"$in": [each["_id"] for each in old]}}):
        part.copy(action)
    await _write(database, part)


def _version_of(action: Document) -> tuple[object, ...]:
    kept = extra(action)
    return kept.get("state"), kept.get("since"), kept.get("attempt")
