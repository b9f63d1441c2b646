"""Packs as documents."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from pymongo import UpdateOne

from flyteops.model import Pack, PackDeclaration
from flyteops.storage import rules
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.document import extra, microseconds_of
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.schema import changed
from flyteops.storage.mongodb.value import from_bson, to_bson
from flyteops.storage.query import Rows
from flyteops.storage.row import decode_declaration, encode_json, to_instant, to_microseconds


def pack_document(pack: Pack) -> Document:
    """Return the document of a pack, with the exact text of a declaration that BSON would alter."""
    links = [{"href": link.href, "rel": link.rel} for link in pack.links]
    body: Document = {
        "name": pack.name,
        "labels": to_bson(pack.labels),
        "commands": [
            {"name": each.name, "events": list(each.events), "links": []} for each in pack.commands
        ],
        "events": [
            {"name": each.name, "links": to_bson(msgspec.to_builtins(list(each.links)))}
            for each in pack.events
        ],
        "lastSeen": pack.last_seen_at,
        "links": links,
    }
    kept: Document = {"seenAt": to_microseconds(pack.last_seen_at)}
    if _declared(body) != pack.declaration:
        kept["declaration"] = encode_json(pack.declaration).decode()
    return {"_id": pack.id, **body, "flyte": kept}


def _declared(document: Mapping[str, Any]) -> PackDeclaration:
    exact = extra(document).get("declaration")
    if exact is not None:
        return decode_declaration(exact)
    body = {
        key: from_bson(document[key])
        for key in ("labels", "commands", "events", "links")
        if document.get(key)
    }
    for key in ("commands", "events"):
        body[key] = [
            {name: value for name, value in each.items() if value is not None}
            for each in body.get(key, ())
        ]
    return msgspec.convert({"name": document.get("name") or "", **body}, PackDeclaration)


def pack_of(document: Mapping[str, Any]) -> Pack:
    """Return the pack of a document."""
    seen_at = microseconds_of(document.get("lastSeen"), extra(document).get("seenAt"))
    return _declared(document).seen(to_instant(seen_at))


async def save_pack(database: Database, pack: Pack) -> None:
    """See `Store.save_pack`."""
    document = pack_document(pack)
    await database.pack.replace_one({"_id": document["_id"]}, document, upsert=True)
    await changed(database, "packs")


async def find_pack(database: Database, pack_id: str) -> Pack | None:
    """See `Store.find_pack`."""
    document = await database.pack.find_one({"_id": pack_id})
    return None if document is None else pack_of(document)


async def list_packs(database: Database) -> Rows[Pack]:
    """See `Store.list_packs`."""
    rows = Rows.read(
        await database.pack.find({}).to_list(), lambda document: str(document["_id"]), pack_of
    )
    return Rows(sorted(rows, key=lambda pack: (pack.name, pack.id)), rows.unreadable)


async def delete_pack(
    database: Database, again: bool, *, pack_id: str, unless_seen_since: datetime | None
) -> None:
    """See `Store.delete_pack`."""
    while True:
        document = await database.pack.find_one(
            {"_id": pack_id}, {"lastSeen": 1, "flyte.seenAt": 1}
        )
        if document is None:
            if again:
                break
            raise rules.missing("pack", pack_id)
        which: Document = {"_id": pack_id}
        if unless_seen_since is not None:
            seen_at = microseconds_of(document.get("lastSeen"), extra(document).get("seenAt"))
            if seen_at >= to_microseconds(unless_seen_since):
                return
            which["lastSeen"] = document.get("lastSeen")
        if (await database.pack.delete_one(which)).deleted_count:
            break
    await changed(database, "packs")


async def touch_packs(database: Database, seen: Mapping[str, datetime]) -> None:
    """See `Store.touch_packs`."""
    changes = [
        UpdateOne(
            {"_id": key, "lastSeen": {"$lt": at}},
            {"$set": {"lastSeen": at, "flyte.seenAt": to_microseconds(at)}},
        )
        for key, at in seen.items()
    ]
    await write_all(database.pack, changes)
