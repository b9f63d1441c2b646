"""Executions: their actions, and changes to these, each one atomic operation on the execution.

An execution is a document of Flyte's. Its version is increased by every change. A decision about an
action (a result, a loss, a heartbeat) is written into that document, if the version is still the
one that it was based on: from then on it has happened. Carrying it out takes several operations,
each of which may be repeated; a server that finds an unfinished change completes it first. So
nothing is left half done by a server that was killed.
"""

from collections.abc import Iterable, Sequence

import bson
import msgspec
from pymongo import InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import DuplicateKeyError

from flyteops.errors import TooLargeError
from flyteops.model import RoutingKey
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.client import OPTIONS
from flyteops.storage.mongodb.document import extra, member_of
from flyteops.storage.mongodb.driver import Database, Document

MAX_SIZE = 16 * 1024 * 1024 - 128 * 1024
"""The maximum size of a document, with room for later additions."""

EVENT_FIELDS = ("name", "pack", "payload", "createdAt", "receivedAt", "flyte")
"""The fields of its trigger and its result that an action keeps."""


class Change(msgspec.Struct, frozen=True):
    """A pending change of an action, and its consequences.

    `event` is a whole document, which becomes the action's `place` (None: is not kept there).
    `created` are actions without their trigger, which is the event.
    """

    action_id: str
    at: int
    update: Document
    event: Document | None = None
    place: str | None = None
    created: tuple[Document, ...] = ()
    addresses: tuple[RoutingKey, ...] = ()
    is_finished: bool = False


def encoded(change: Change) -> bytes:
    """Return a change as bytes: inside a document, its keys would be taken for operators."""
    body = {
        field: getattr(change, field) for field in ("action_id", "at", "update", "event", "place")
    }
    addresses = [
        [each.pack_name, dict(each.pack_labels), each.command] for each in change.addresses
    ]
    return bson.encode(
        {**body, "created": list(change.created), "addresses": addresses}, codec_options=OPTIONS
    )


def decoded(body: bytes) -> Change:
    """Return the change from its bytes."""
    found = bson.decode(body, codec_options=OPTIONS)
    addresses = tuple([RoutingKey(*each) for each in found.pop("addresses")])
    return Change(**{**found, "created": tuple(found["created"]), "addresses": addresses})


def event_fields(event: Document) -> Document:
    """Return the fields of an event that an action keeps."""
    return {field: event[field] for field in EVENT_FIELDS}


def triggered(created: Iterable[Document], event: Document) -> list[Document]:
    """Return new actions with their trigger."""
    trigger = event_fields(event)
    return [{**document, "trigger": trigger} for document in created]


def size_of(document: Document) -> int:
    """Return the size of a document; raise `TooLargeError` when it cannot be kept."""
    size = document_size(document)
    check_size(size)
    return size


def document_size(document: Document) -> int:
    """Return the size of a document."""
    return len(bson.encode(document, codec_options=OPTIONS))


def check_size(size: int) -> None:
    """Raise `TooLargeError` when a document of this size cannot be kept."""
    if size > MAX_SIZE:
        raise TooLargeError(
            f"That needs {size} bytes in one document, with what belongs to it, and MongoDB keeps"
            f" {MAX_SIZE}; nothing was stored."
        )


async def begin(database: Database, actions: Sequence[Document], at: int) -> list[Document]:
    """Enter new actions into their executions; return those that may be created.

    Those are all, unless a step has an action already.
    """
    runs: dict[str, list[Document]] = {}
    for action in actions:
        runs.setdefault(action["correlationId"], []).append(action)
    if not await write_all(
        database.flyte_execution,
        [UpdateOne(*_beginning(members, at), upsert=True) for members in runs.values()],
    ):
        return list(actions)
    known: set[str] = set()
    async for run in database.flyte_execution.find({"_id": {"$in": list(runs)}}, {"actions.id": 1}):
        known.update(member["id"] for member in run.get("actions", ()))
    return [action for action in actions if action["_id"] in known]


async def begin_only(database: Database, action: Document, at: int) -> Document | None:
    """Enter one new action into its execution.

    Return the execution, as far as that is known; None, with nothing done, if the step has an
    action already.
    """
    try:
        run: Document | None = await database.flyte_execution.find_one_and_update(
            *_beginning([action], at),
            {"version": 1, "actions": 1, "flowName": 1, "flowUUID": 1},
            upsert=True,
            return_document=True,
        )
    except DuplicateKeyError:
        return None
    return run


def _beginning(members: Sequence[Document], at: int) -> tuple[Document, Document]:
    """Return the filter and the update that enter new actions into an execution."""
    first = members[0]
    return (
        {
            "_id": first["correlationId"],
            "actions.index": {"$nin": [extra(member)["stepIndex"] for member in members]},
        },
        {
            "$setOnInsert": {
                "flowName": first["flowName"],
                "flowUUID": first["flowUUID"],
                "seq": extra(first)["seq"],
            },
            "$push": {"actions": {"$each": [member_of(member) for member in members]}},
            "$set": {"isFinished": False},
            "$max": {"changedAt": at},
            "$inc": {
                "version": 1,
                "bytes": sum(extra(member).get("bytes", 0) for member in members),
            },
        },
    )


async def create(database: Database, actions: Sequence[Document]) -> None:
    """Create actions that do not exist yet, and their copies."""
    await write_all(database.action, [InsertOne(action) for action in actions])
    await mirror(database, actions)


async def mirror(database: Database, actions: Sequence[Document]) -> None:
    """Copy actions to the audit, unless the existing copy is newer."""
    copies = [
        ReplaceOne(
            {"_id": action["_id"], f"states.{len(action['states']) - 1}": {"$exists": False}},
            action,
            upsert=True,
        )
        for action in actions
    ]
    await write_all(database.audit, copies)
