"""Notes of the servers as documents."""

from collections.abc import Sequence

from pymongo.errors import DuplicateKeyError

from flyteops.model import Note
from flyteops.storage import rules
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.schema import changed


def note_document(note: Note) -> Document:
    """Return the document of a note."""
    return {
        "_id": _id(note.kind, note.key),
        "kind": note.kind,
        "key": note.key,
        "value": note.value,
    }


def note_of(document: Document) -> Note:
    """Return the note of a document."""
    return Note(document["kind"], document["key"], bytes(document["value"]))


def _id(kind: str, key: str) -> str:
    return f"{kind}\n{key}"


async def save_note(database: Database, again: bool, *, note: Note, replaces: bool) -> None:
    """See `Store.save_note`."""
    document = note_document(note)
    if replaces:
        await database.flyte_note.replace_one({"_id": document["_id"]}, document, upsert=True)
    else:
        await _create_note(database, document, is_again=again)
    await changed(database, "notes")


async def _create_note(database: Database, document: Document, *, is_again: bool) -> None:
    try:
        await database.flyte_note.insert_one(document)
    except DuplicateKeyError as error:
        if not is_again or await database.flyte_note.find_one(document) is None:
            raise rules.taken(document["kind"], document["key"]) from error


async def list_notes(
    database: Database, kind: str, *, after: str | None, limit: int | None, backwards: bool
) -> Sequence[Note]:
    """See `Store.list_notes`."""
    which: Document = {"kind": kind}
    if after is not None:
        which["key"] = {"$lt" if backwards else "$gt": after}
    if limit == 0:  # no bound, as the server understands it
        return []
    cursor = database.flyte_note.find(which).sort("key", -1 if backwards else 1).limit(limit or 0)
    return [note_of(document) for document in await cursor.to_list()]


async def delete_note(database: Database, again: bool, *, kind: str, key: str) -> None:
    """See `Store.delete_note`."""
    done = await database.flyte_note.delete_one({"_id": _id(kind, key)})
    if not done.deleted_count and not again:
        raise rules.missing(kind, key)
    await changed(database, "notes")


async def delete_notes(database: Database, kind: str, *, until: str, limit: int) -> int:
    """See `Store.delete_notes`."""
    if limit <= 0:  # no bound, as the server understands it
        return 0
    cursor = (
        database.flyte_note.find({"kind": kind, "key": {"$lte": until}}, {"_id": 1})
        .sort("key", 1)
        .limit(limit)
    )
    ids = [document["_id"] for document in await cursor.to_list()]
    if ids:
        await database.flyte_note.delete_many({"_id": {"$in": ids}})
    return len(ids)
