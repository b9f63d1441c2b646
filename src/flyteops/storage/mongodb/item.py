"""Datastore items as documents."""

from collections.abc import Mapping
from typing import Any

from flyteops.model import DataItem
from flyteops.storage import rules
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.schema import changed
from flyteops.storage.query import Rows
from flyteops.storage.row import item_of as read_item


def item_document(item: DataItem) -> Document:
    """Return the document of an item."""
    return {
        "_id": item.key,
        "contentType": item.content_type,
        "description": item.description,
        "value": item.value,
    }


def item_of(document: Mapping[str, Any]) -> DataItem:
    """Return the item of a document."""
    value, description = bytes(document.get("value") or b""), document.get("description") or ""
    return read_item((document["_id"], document.get("contentType") or "", value, description))


def _key_of(document: Mapping[str, Any]) -> str:
    return str(document["_id"])


async def save_item(database: Database, item: DataItem) -> bool:
    """See `Store.save_item`."""
    document = item_document(item)
    done = await database.datastore.replace_one({"_id": item.key}, document, upsert=True)
    await changed(database, "items")
    return done.upserted_id is not None


async def list_items(database: Database) -> Rows[DataItem]:
    """See `Store.list_items`."""
    documents = await database.datastore.find({}).to_list()
    return Rows.read(sorted(documents, key=_key_of), _key_of, item_of)


async def delete_item(database: Database, again: bool, *, key: str) -> None:
    """See `Store.delete_item`."""
    done = await database.datastore.delete_one({"_id": key})
    if not done.deleted_count and not again:
        raise rules.missing("datastore item", key)
    await changed(database, "items")
