"""Datastore items as documents."""

from collections.abc import Mapping
from typing import Any

from flyteops.model import DataItem
from flyteops.storage.mongodb.driver import Document
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
