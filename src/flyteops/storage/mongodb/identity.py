"""The identity of the database: a check that it is still the one that the store was opened on.

MongoDB creates databases and collections on the first write. So when they are dropped, a server
continues without an error, in empty collections without indexes, and with flows, queues and packs
in memory that are no longer stored. Actions in a queue that the server remembers but that no longer
exists would never be handed out. To notice that, the collections are marked: that of the queues by
a document, that of the events by an index with a random name, since for servers of other versions
it holds nothing but events. The mark of the queues is checked after each commit that may have put
something into a queue, and before it is acknowledged; everything is checked once a second.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from flyteops.errors import UnavailableError
from flyteops.storage.mongodb.client import FORBIDDEN, DatabaseClient
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.dump import COLLECTIONS

LOGGER = logging.getLogger("flyte.store")

MARK = "flyte.mark"
"""The `_id` of the mark among the queues, and with a random number, the name of the events'
index.
"""

LOOKS_AT_ONCE = 2
"""The number of concurrent checks; requests that arrive meanwhile share the next one."""

NAMES = (*COLLECTIONS, "flyte_execution", "flyte_queue", "flyte_number")
"""The collections that must not disappear."""

NO_COLLECTION = 26
"""The server's code for an operation on a collection that does not exist."""

CONFLICTS = (85, 86)
"""The server's codes for an index just created by another server under another name."""


class Identity:
    """Checks the marks. Once one is missing the store refuses all work: only a restart helps."""

    def __init__(
        self,
        client: DatabaseClient,
        name: str,
        announcing: Callable[[], AbstractContextManager[Sequence[UpdateOne]]],
    ) -> None:
        self._client = client
        self._announcing = announcing
        self._name = name
        self._fault = ""
        self._mark_of_queues = ""
        self._marks_of_events: frozenset[str] = frozenset()
        self._collections: dict[str, Any] = {}
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._next: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Start again, as another store."""
        self._fault = ""

    async def has_marked_queues(self, database: Database) -> bool:
        """Return whether the queues are those of an earlier start."""
        return bool(await _mark_of_queues(database))

    async def begin(self, database: Database) -> None:
        """Mark the collections, unless they are marked, and remember their marks."""
        if not await _marks_of_events(database):
            try:
                await database.flyte_event.create_index(
                    [("mark", 1)], name=f"{MARK}.{secrets.token_hex(12)}", sparse=True
                )
            except OperationFailure as error:
                if error.code not in CONFLICTS:
                    raise
        await database.flyte_queue.update_one(
            {"_id": MARK}, {"$setOnInsert": {"mark": secrets.token_hex(12)}}, upsert=True
        )
        self._mark_of_queues = await _mark_of_queues(database)
        # Servers that begin at the same time may each leave one.
        self._marks_of_events = await _marks_of_events(database)
        self._collections = dict(await _collections(database))

    def check(self) -> None:
        """Raise `UnavailableError` if the database was found to be another one."""
        if self._fault:
            raise UnavailableError(self._fault)

    async def confirm(self) -> None:
        """Return when a check that has begun after this call has found the queues.

        Raise `UnavailableError` if it has not.
        """
        self.check()
        if self._next is None:
            self._next = asyncio.ensure_future(self._look())
            self._next.add_done_callback(_retrieve)
        await asyncio.shield(self._next)

    async def _look(self) -> None:
        async with self._turns:
            self._next = None  # it begins now: later callers need another one
            if not await self._client.read(self._announce) and (
                await self._client.read(_mark_of_queues) != self._mark_of_queues
            ):
                self._lose()

    async def _announce(self, database: Database) -> bool:
        """Announce new arrivals in the queues; return whether that has found the mark."""
        with self._announcing() as changes:
            if not changes:
                return False
            # It matches and changes nothing.
            mark = UpdateOne(
                {"_id": MARK, "mark": self._mark_of_queues},
                {"$set": {"mark": self._mark_of_queues}},
            )
            queues = database.flyte_queue.with_options(write_concern=WriteConcern(w=1))
            found = await queues.bulk_write([*changes, mark], ordered=False)
            return found.matched_count == len(changes) + 1

    async def look_at_all(self, database: Database) -> None:
        """Check all marks and collections, also those without writes; raise as `confirm` does."""
        found, events, queues = await asyncio.gather(
            _collections(database), _marks_of_events(database), _mark_of_queues(database)
        )
        if not self._marks_of_events <= events or queues != self._mark_of_queues:
            self._lose()
        for name, uuid in self._collections.items() if found else ():
            if name not in found or found[name] != uuid:
                self._lose()
        self._collections.update(found)

    def _lose(self) -> None:
        if not self._fault:
            self._fault = (
                f"{self._name} was dropped, or collections in it were, while the server ran. All"
                " work is refused, so that nothing is accepted that would be lost. Restore a"
                " backup if there is one, then restart the server; it begins with what is in the"
                " database by then."
            )
            LOGGER.error("%s", self._fault)
        self.check()


def _retrieve(look: "asyncio.Task[None]") -> None:
    """Retrieve the result of a check, also when its callers are gone."""
    if not look.cancelled():
        look.exception()


# Both are sent as commands, which go to the primary regardless of the URL's read preference.


async def _marks_of_events(database: Database) -> frozenset[str]:
    try:
        told: Document = await database.command("listIndexes", "flyte_event")
    except OperationFailure as error:
        if error.code == NO_COLLECTION:
            return frozenset()
        raise
    names = [str(index["name"]) for index in told["cursor"]["firstBatch"]]
    return frozenset(name for name in names if name.startswith(MARK))


async def _mark_of_queues(database: Database) -> str:
    told: Document = await database.command("find", "flyte_queue", filter={"_id": MARK}, limit=1)
    return "".join(str(each["mark"]) for each in told["cursor"]["firstBatch"])


async def _collections(database: Database) -> Mapping[str, Any]:
    """Return the collections by name, with an id that differs after re-creation, if available."""
    try:
        told: Document = await database.command(
            "listCollections", filter={"name": {"$in": list(NAMES)}}
        )
    except OperationFailure as error:
        # A role made by hand may lack it; the marks are checked all the same.
        if error.code in FORBIDDEN:
            return {}
        raise
    return {each["name"]: each.get("info", {}).get("uuid") for each in told["cursor"]["firstBatch"]}
