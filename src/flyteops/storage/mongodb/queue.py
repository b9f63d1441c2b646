"""The queues: one for each combination of pack, labels and command ever requested.

Actions are taken from these.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from pymongo import UpdateOne

from flyteops.model import PackRef, RoutingKey, has_labels
from flyteops.storage import rules
from flyteops.storage.base import Claimed
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.document import address_of as address_of_action
from flyteops.storage.mongodb.document import extra, input_of, revision_of, shown_state
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.later import DeferredWrites
from flyteops.storage.mongodb.recent import RecentActions
from flyteops.storage.row import DELAYED, read_queue, subsets, to_microseconds, to_text
from flyteops.storage.undelivered import ClaimTokens

TOUCHED_FOR = 3600.0
"""The seconds for which a queue is known to exist once it was written."""

KEPT_FOR = timedelta(days=7)
"""The time for which an empty queue is kept."""

AT_ONCE = 150
"""Queues per operation: the server merges as many index scans in order, but at most 200."""


ROUTED_AT_ONCE = 1000

MAX_SUBSETS = 64
"""The maximum of label sets looked up one by one: all that a pack with six labels may serve."""


def queue_id(pack_name: str, labels: str, command: str) -> str:
    """Return the id of a queue."""
    return blake2b(
        "\0".join((pack_name, command, labels)).encode(errors="surrogatepass"), digest_size=12
    ).hexdigest()


def queue_of(address: RoutingKey) -> str:
    """Return the queue of actions for an address."""
    return queue_id(address.pack_name, to_text(address.pack_labels), address.command)


def route_of(address: RoutingKey) -> str:
    """Return the route of actions: their queues, of any command, for packs with these labels."""
    return route_id(address.pack_name, to_text(address.pack_labels))


def route_id(pack_name: str, labels: str) -> str:
    """Return the id of a route."""
    return blake2b(
        "\0".join((pack_name, labels)).encode(errors="surrogatepass"), digest_size=12
    ).hexdigest()


def address_of(queue: Document) -> RoutingKey:
    """Return the packs that a queue is for, and its command.

    Report labels that no pack can have.
    """
    labels = read_queue(queue["packName"], queue["labels"], queue["command"])
    return RoutingKey(queue["packName"], labels, queue["command"])


class ClaimRequest(NamedTuple):
    """The request of a claim; its `tokens` distinguish it from all others."""

    pack: PackRef
    at: datetime
    command: str | None
    limit: int
    seed: bytes
    tokens: ClaimTokens


class Queues:
    """Creates queues, and hands out their actions.

    While `is_converting`, Flyte's indexes may still be missing, and those of the original are used.
    """

    def __init__(self, later: DeferredWrites, recent: RecentActions) -> None:
        self._later = later
        self._recent = recent
        self.is_converting = False
        self._touched: dict[str, float] = {}

    async def ensure(self, database: Database, addresses: Iterable[RoutingKey]) -> None:
        """Create missing queues of the addresses. Must precede any action put there."""
        now = time.time()
        wanted = {queue_of(address): address for address in addresses}
        missing = {
            key: address
            for key, address in wanted.items()
            if self._touched.get(key, 0) < now - TOUCHED_FOR
        }
        if not missing:
            return
        changes = [
            UpdateOne(
                {"_id": key},
                {
                    "$setOnInsert": {
                        "packName": address.pack_name,
                        "labels": to_text(address.pack_labels),
                        "command": address.command,
                        "arrived": 0,
                    },
                    "$max": {"usedAt": int(now)},
                },
                upsert=True,
            )
            for key, address in missing.items()
        ]
        await write_all(database.flyte_queue, changes)
        self._touched.update(dict.fromkeys(missing, now))

    async def restore(self, database: Database) -> None:
        """Have a queue for each action that is not finished, after the queues were dropped."""
        which = {"flyte.state": {"$in": ["NEW", *(state.value for state in rules.UNFINISHED)]}}
        for key in await database.action.distinct("flyte.queue", which):
            found = await database.action.find_one(
                {**which, "flyte.queue": key}, {"packName": 1, "packLabels": 1, "name": 1}
            )
            if found is not None:
                await self.ensure(database, [address_of_action(found)])

    async def add_routes(self, database: Database) -> None:
        """Add the route to waiting actions that a server of an earlier version has created."""
        which = {"flyte.state": {"$in": ["NEW", DELAYED]}, "flyte.route": None}
        fields = {"packName": 1, "packLabels": 1, "name": 1, "flyte.labels": 1}
        while found := await database.action.find(which, fields).limit(ROUTED_AT_ONCE).to_list():
            await write_all(
                database.action,
                [
                    UpdateOne(
                        {"_id": each["_id"]},
                        {"$set": {"flyte.route": route_of(address_of_action(each))}},
                    )
                    for each in found
                ],
            )

    async def remove_unused(self, database: Database) -> None:
        """Remove queues that are empty and were not used for long."""
        before = int(time.time() - KEPT_FOR.total_seconds())
        async for queue in database.flyte_queue.find({"usedAt": {"$lt": before}}, {"_id": 1}).limit(
            100
        ):
            waiting = {"flyte.state": {"$in": ["NEW", DELAYED]}, "flyte.queue": queue["_id"]}
            if await database.action.find_one(waiting, {"_id": 1}) is None:
                await database.flyte_queue.delete_one(
                    {"_id": queue["_id"], "usedAt": {"$lt": before}}
                )
            else:
                await database.flyte_queue.update_one(
                    {"_id": queue["_id"]}, {"$set": {"usedAt": int(time.time())}}
                )

    async def claim(
        self, database: Database, asked: ClaimRequest, *, is_again: bool
    ) -> list[Claimed]:
        """See `Store.claim`."""
        sources = None if self.is_converting else _sources(asked)
        if sources is None:
            sources = [
                {"flyte.queue": {"$in": part}}
                for part in _parts(await matching(database, asked.pack, asked.command))
            ]
        now = to_microseconds(asked.at)
        token, before = asked.tokens.next()
        taken = await _taken_before(database, sources, before, token) if is_again else []
        while sources and len(taken) < asked.limit:
            document = await _take(
                database,
                sources,
                _handing_out(asked, token, now),
                asked.pack.name if self.is_converting else None,
            )
            if document is None:
                break
            taken.append(document)
        self._later.touch(taken, now)
        self._later.copy(taken)
        for document in taken:
            self._recent.taken(document)
        return [_claimed(document, asked.seed, now) for document in taken]


def _sources(asked: ClaimRequest) -> list[Document] | None:
    """Return the filter of the actions that a pack may take; None for one with many labels.

    Without a command it names their routes, else their queues.
    """
    labels = asked.pack.labels
    if 2 ** len(labels) > MAX_SUBSETS:
        return None
    texts = [to_text(each) for each in subsets(labels)]
    name = asked.pack.name
    if asked.command is None:
        return [{"flyte.route": {"$in": [route_id(name, each) for each in texts]}}]
    return [{"flyte.queue": {"$in": [queue_id(name, each, asked.command) for each in texts]}}]


def _parts(queues: Sequence[str]) -> list[Sequence[str]]:
    return [queues[start : start + AT_ONCE] for start in range(0, len(queues), AT_ONCE)]


async def matching(database: Database, pack: PackRef, command: str | None) -> list[str]:
    """Return the queues that the pack may take from."""
    which: Document = {"packName": pack.name}
    if 2 ** len(pack.labels) <= MAX_SUBSETS:
        which["labels"] = {"$in": [to_text(each) for each in subsets(pack.labels)]}
    if command is not None:
        which["command"] = command
    found = await database.flyte_queue.find(which, {"labels": 1, "command": 1}).to_list()
    return [
        queue["_id"]
        for queue in found
        if has_labels(pack.labels, read_queue(pack.name, queue["labels"], queue["command"]))
    ]


def waiting_in(source: Document, pack_name: str | None = None) -> Document:
    """Return the filter of available actions of a source, in the order of an index.

    The state that the original shows must agree: it may have handed the action out itself. A
    `pack_name` allows the original's index as well.
    """
    which: Document = {"flyte.state": "NEW", **source, "state.value": "NEW"}
    return which if pack_name is None else {**which, "packName": pack_name}


async def _take(
    database: Database, sources: Sequence[Document], change: Document, pack_name: str | None
) -> Document | None:
    """Hand out the oldest action of the sources, which are all for the given pack name, if any."""
    while True:
        which = waiting_in(sources[0], pack_name)
        if len(sources) > 1:
            heads = [
                await database.action.find_one(
                    waiting_in(source), {"flyte.seq": 1}, sort=[("flyte.seq", 1)]
                )
                for source in sources
            ]
            oldest = min(
                (head for head in heads if head),
                key=lambda head: int(head["flyte"]["seq"]),
                default=None,
            )
            if oldest is None:
                return None
            which = {"flyte.state": "NEW", "state.value": "NEW", "_id": oldest["_id"]}
        document: Document | None = await database.action.find_one_and_update(
            which, change, sort=[("flyte.seq", 1)], return_document=True
        )
        if document is not None or len(sources) == 1:
            return document


def _handing_out(asked: ClaimRequest, token: str, now: int) -> Document:
    shown = shown_state("PENDING", now)
    return {
        "$set": {
            "state": shown,
            "flyte.state": "PENDING",
            "flyte.since": now,
            "flyte.claim": token,
        },
        "$push": {
            "states": shown,
            "flyte.states": f"PENDING {now}",
            "flyte.attempts": {"seed": asked.seed, "pack": asked.pack.id, "at": now},
        },
        # Its time limit becomes the time when it is lost: without a limit, a time that never comes.
        "$inc": {"flyte.attempt": 1, "flyte.due": now},
    }


async def _taken_before(
    database: Database, sources: Sequence[Document], before: Sequence[str], token: str
) -> list[Document]:
    """Return the actions taken by tries whose answers were lost.

    They get the present token: later takes with an old one are undelivered.
    """
    if not sources:
        return []
    which = {"flyte.state": "PENDING", "$or": list(sources)}
    await database.action.update_many(
        {**which, "flyte.claim": {"$in": list(before)}}, {"$set": {"flyte.claim": token}}
    )
    found: list[Document] = (
        await database.action.find({**which, "flyte.claim": token}).sort("flyte.seq", 1).to_list()
    )
    return found


async def claimed_with(database: Database, tokens: Sequence[str]) -> Sequence[tuple[str, int]]:
    """Return the actions that were claimed with one of these tokens, and their revisions."""
    which = {"flyte.state": "PENDING", "flyte.claim": {"$in": list(tokens)}}
    found = database.action.find(which, {"flyte.states": 1})
    return [(str(each["_id"]), revision_of(each)) async for each in found]


def _claimed(document: Document, seed: bytes, now: int) -> Claimed:
    kept = extra(document)
    claimed = Claimed(
        str(document["_id"]),
        document["name"],
        input_of(document),
        kept["attempt"],
        revision=revision_of(document),
    )
    return rules.with_lease(claimed, kept.get("timeout"), now, seed)
