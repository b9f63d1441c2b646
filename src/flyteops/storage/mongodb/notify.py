"""Wake-ups between the servers on one database: change counters that all servers poll.

Where the server keeps a log of changes (in a replica set), a change stream reports them at once.
A counter is changed after the actions that it announces, so it may not be if a server is killed:
all servers also search now and then.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from flyteops.background import BackgroundLoop
from flyteops.model import RoutingKey
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.client import DatabaseClient
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.queue import address_of, queue_of
from flyteops.storage.mongodb.schema import changed

LOGGER = logging.getLogger("flyte.store")

NOTIFYING = "Notifying other servers"
SEARCHING = "Searching for commands of other servers"
LOOKING_FOR_MISSED = "Searching for commands of which no notification came"
WATCHING = "Watching the changes of other servers"
"""The background loops' names in readiness reports."""

LOOKING = 0.5
"""Seconds between two polls."""

LOOKING_ANYWAY = 10.0
"""Seconds between two searches for actions that nobody has announced."""

MOST_QUEUES = 1000
"""The maximum number of queues with waiting actions to report by one search, others each time."""

WATCHING_AGAIN = 15.0
"""Seconds before a change stream is requested again, where it was missing or has ended."""

MOST = 100
"""The maximum number of waiting actions of one kind to report at a time."""


class Notifier:
    """Notifies other servers of available actions, and receives their notifications.

    `name` is that of this server.
    """

    def __init__(
        self,
        client: DatabaseClient,
        tell: Callable[[Sequence[RoutingKey]], None],
        loop: Callable[[str], BackgroundLoop],
    ) -> None:
        self._loop = loop
        self._client = client
        self._tell = tell
        self._arrived: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._number = -1
        self._has_no_streams = False
        self._has_arrived = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start polling and notifying."""
        self._is_stopping.clear()
        self._tasks = [
            asyncio.ensure_future(work())
            for work in (self._announce, self._look, self._search, self._watch)
        ]

    async def stop(self) -> None:
        """Stop polling and notifying.

        Nothing is cancelled, as the driver would lose its connections over it.
        """
        self._is_stopping.set()
        self._has_arrived.set()
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    def announce(self, addresses: Iterable[RoutingKey]) -> None:
        """Schedule a notification to other servers."""
        for address in addresses:
            self._arrived[queue_of(address)] += 1
            self._has_arrived.set()

    @contextlib.contextmanager
    def announcing(self) -> Iterator[Sequence[UpdateOne]]:
        """Return the changes that announce all new arrivals; the block carries them out.

        If it fails, they are announced later. If they have been written nevertheless, some wake-ups
        are for nothing.
        """
        arrived, self._arrived = self._arrived, Counter()
        self._told.update(arrived)
        try:
            yield [
                UpdateOne({"_id": key}, {"$inc": {"arrived": count}})
                for key, count in arrived.items()
            ]
        except BaseException:  # also if the block is cancelled
            self._told.subtract(arrived)
            self._arrived.update(arrived)
            self._has_arrived.set()
            raise

    async def _announce(self) -> None:
        while not self._is_stopping.is_set():
            await self._has_arrived.wait()
            # Others look at the number now and then, and most changes are sent by others.
            await self._rest(LOOKING / 2)
            self._has_arrived.clear()
            if not await self._round(NOTIFYING, self._announce_once):
                await self._rest(LOOKING)

    async def _announce_once(self, database: Database) -> None:
        with self.announcing() as changes:
            await write_all(database.flyte_queue, changes)
            await changed(database, "arrived")

    async def _round(self, name: str, work: Callable[[Database], Awaitable[None]]) -> bool:
        """Run one round of a loop, and report its outcome; return whether it succeeded."""
        try:
            await self._client.run(work)
        except Exception as error:  # noqa: BLE001 - the loop goes on after any error
            self._loop(name).failed(error)
            return False
        self._loop(name).succeeded()
        return True

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()

    async def _look(self) -> None:
        while not self._is_stopping.is_set():
            await self._round(SEARCHING, self._look_once)
            await self._rest(LOOKING)

    async def _look_once(self, database: Database) -> None:
        found = await database.flyte_number.find_one({"_id": "arrived"})
        number = 0 if found is None else found["value"]
        if number != self._number:
            is_first, self._number = self._number < 0, number
            async for queue in database.flyte_queue.find({}):
                self._notice(queue, is_first=is_first)

    async def _search(self) -> None:
        while not self._is_stopping.is_set():
            await self._rest(LOOKING_ANYWAY)
            await self._round(LOOKING_FOR_MISSED, self._search_once)

    async def _search_once(self, database: Database) -> None:
        """Wake one pack for each queue with waiting actions; it takes one after the other."""
        waiting = await database.action.distinct("flyte.queue", {"flyte.state": "NEW"})
        some = random.sample(waiting, min(len(waiting), MOST_QUEUES))  # which ones is no secret
        async for queue in database.flyte_queue.find({"_id": {"$in": some}}):
            self._tell([address_of(queue)])

    def _notice(self, queue: Document, *, is_first: bool = False) -> None:
        """Report the actions that have arrived in a queue, except those announced from here."""
        key, arrived = queue["_id"], queue.get("arrived", 0)
        count = arrived - self._seen.get(key, 0) - self._told.pop(key, 0)
        self._seen[key] = arrived
        if count > 0 and not is_first:
            self._tell([address_of(queue)] * min(count, MOST))

    async def _watch(self) -> None:
        """Poll at once when a change is reported, where the server supports it."""
        while not self._is_stopping.is_set():
            await self._round(WATCHING, self._watch_once)
            await self._rest(WATCHING_AGAIN)

    async def _watch_once(self, database: Database) -> None:
        changes = [{"$match": {"operationType": {"$in": ["insert", "update"]}}}]
        try:
            opened = await database.flyte_queue.watch(
                changes, full_document="updateLookup", max_await_time_ms=int(LOOKING * 1000)
            )
        except OperationFailure as error:
            if not self._has_no_streams:
                LOGGER.info(
                    "The database offers no change streams (%s); it is looked at every %g s.",
                    error.code,
                    LOOKING,
                )
            self._has_no_streams = True
            return
        async with opened as stream:
            self._loop(WATCHING).succeeded()
            while not self._is_stopping.is_set():
                change = await stream.try_next()
                if change is not None and change.get("fullDocument"):
                    self._notice(change["fullDocument"])
