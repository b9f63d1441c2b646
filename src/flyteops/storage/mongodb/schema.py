"""The collections, their indexes, and the retention of their documents by the server.

`pack`, `flow`, `flowHistory`, `action`, `audit` and `datastore` are those of the original. All
others are Flyte's, and begin with ``flyte_``.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pymongo.errors import OperationFailure

from flyteops.errors import StoreError
from flyteops.storage.mongodb.driver import Database, MongoCollection

LOGGER = logging.getLogger("flyte.store")

VERSION = 2
"""The version of Flyte's fields and collections; a server refuses a database with a larger one.

Since version 2, events may have a basis in the field `decisions`.
"""

AUDIT_KEPT_FOR = timedelta(days=183)
"""How long the original keeps copies of actions."""

TTL = "expireAfterSeconds"

CHOICES = ("unique", "sparse", TTL, "partialFilterExpression", "collation")
"""The options that affect the use of an index."""

LARGE = ("action", "audit")
"""The collections of the original in which creating an index may take minutes."""

NUMBERS = ("flows", "items", "packs", "notes", "arrived")
"""The change counters that other servers watch."""


class IndexSpec(NamedTuple):
    """A required index; `expires` is the number of seconds after which documents are removed."""

    collection: str
    keys: Sequence[tuple[str, int]]
    is_unique: bool = False
    is_sparse: bool = False
    expires: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        chosen = {"unique": self.is_unique, "sparse": self.is_sparse, TTL: self.expires}
        return {name: value for name, value in chosen.items() if value not in (False, None)}


def indexes(keep_for: timedelta) -> Sequence[IndexSpec]:
    """Return the indexes: first those of the original, then Flyte's."""
    return (
        IndexSpec("action", [("correlationId", 1)]),
        IndexSpec("action", [("packName", 1), ("state.value", 1), ("name", 1), ("state.time", 1)]),
        IndexSpec("action", [("state.time", 1)], expires=int(keep_for.total_seconds())),
        IndexSpec("audit", [("correlationId", 1)]),
        IndexSpec("audit", [("state.time", 1)], expires=int(AUDIT_KEPT_FOR.total_seconds())),
        IndexSpec("flow", [("name", 1)]),
        IndexSpec("flowHistory", [("uuid", 1)]),
        # Waiting actions, in the order in which they are handed out; due ones; and those that were
        # not taken over yet.
        IndexSpec("action", [("flyte.state", 1), ("flyte.queue", 1), ("flyte.seq", 1)]),
        IndexSpec("action", [("flyte.state", 1), ("flyte.route", 1), ("flyte.seq", 1)]),
        IndexSpec("action", [("flyte.state", 1), ("flyte.due", 1)]),
        IndexSpec("action", [("flyte.seq", 1), ("states.time", 1), ("_id", 1)]),
        IndexSpec("audit", [("flyte.seq", 1), ("states.time", 1)]),
        IndexSpec("flyte_queue", [("packName", 1), ("command", 1)]),
        IndexSpec("flyte_queue", [("packName", 1), ("labels", 1), ("command", 1)]),
        IndexSpec("flyte_note", [("kind", 1), ("key", 1)]),
        IndexSpec("flyte_execution", [("changedAt", -1), ("seq", -1)]),
        IndexSpec("flyte_execution", [("flowName", 1), ("changedAt", -1), ("seq", -1)]),
        IndexSpec("flyte_execution", [("actions.name", 1), ("changedAt", -1), ("seq", -1)]),
        IndexSpec("flyte_execution", [("isFinished", 1), ("changedAt", 1)]),
        IndexSpec("flyte_execution", [("flowUUID", 1)]),
        IndexSpec("flyte_execution", [("open", 1)], is_sparse=True),
        IndexSpec("flyte_event", [("seq", -1)]),
        IndexSpec("flyte_event", [("name", 1), ("seq", -1)]),
        IndexSpec("flyte_event", [("pack.name", 1), ("seq", -1)]),
        IndexSpec("flyte_event", [("flows", 1), ("seq", -1)]),
        IndexSpec("flyte_event", [("executions", 1), ("at", 1)]),
        IndexSpec("flyte_event", [("key", 1)], is_unique=True, is_sparse=True),
        IndexSpec("flyte_event", [("open", 1)], is_sparse=True),
    )


async def prepare(database: Database, keep_for: timedelta, *, is_large: bool = False) -> None:
    """Create all indexes, and check the version.

    Raise `StoreError` if it was used by a newer Flyte. When the collections of the original are
    large, their indexes are left to `make_indexes`.
    """
    found = await database.flyte_number.find_one({"_id": "schema"})
    if found is not None and found["value"] > VERSION:
        raise StoreError(
            f"The database was written by a newer Flyte (schema {found['value']}, this one knows"
            f" {VERSION}). Install that version, or name another database."
        )
    await make_indexes(database, keep_for, without=LARGE if is_large else ())
    for name in NUMBERS:
        # A server that was killed may have changed something without reporting it: others read
        # everything again.
        await changed(database, name)
    await database.flyte_number.update_one(
        {"_id": "schema"}, {"$max": {"value": VERSION}}, upsert=True
    )


async def make_indexes(
    database: Database, keep_for: timedelta, *, without: Collection[str] = ()
) -> None:
    """Create all indexes, except those of some collections."""
    known: dict[str, Mapping[str, Any]] = {}
    for index in indexes(keep_for):
        if index.collection in without:
            continue
        if index.collection not in known:
            known[index.collection] = await _known(database[index.collection])
        await _ensure(database, index, known[index.collection])


async def _known(collection: MongoCollection) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = await collection.index_information()
    except OperationFailure:
        return {}  # the collection does not exist yet
    return found


async def _ensure(database: Database, index: IndexSpec, known: Mapping[str, Any]) -> None:
    collection = database[index.collection]
    wanted = list(index.keys)
    for name, options in known.items():
        if list(options["key"]) == wanted:  # 1 equals 1.0
            await _adjust(database, index, name, options)
            return
    await collection.create_index(wanted, **index.options)


async def _adjust(
    database: Database, index: IndexSpec, name: str, options: Mapping[str, Any]
) -> None:
    """Update an existing index to its declared options."""
    found = {
        option: options[option] for option in CHOICES if options.get(option) not in (False, None)
    }
    if found == index.options:
        return
    place = f"index {name!r} of {index.collection!r}"
    if (
        index.expires is not None
        and TTL in found
        and {**found, TTL: index.expires} == index.options
    ):
        command = {"name": name, TTL: index.expires}
        try:
            await database.command("collMod", index.collection, index=command)
        except OperationFailure as error:
            LOGGER.info(
                "The %s is made anew, as the server cannot change it: %s", place, error.code
            )
        else:
            LOGGER.info("The %s keeps for %d s now; it was %s s", place, index.expires, found[TTL])
            return
    LOGGER.warning(
        "The %s has other options (%s) than are needed (%s); it is made anew.",
        place,
        found,
        index.options,
    )
    await database[index.collection].drop_index(name)
    await database[index.collection].create_index(list(index.keys), **index.options)


async def changed(database: Database, what: str) -> None:
    """Note changes of flows, items, packs or notes, or arrived actions, for other servers."""
    await database.flyte_number.update_one({"_id": what}, {"$inc": {"value": 1}}, upsert=True)
