"""The driver's types, as this package uses them."""

from typing import Any, TypeAlias

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase

Value: TypeAlias = Any
"""A JSON or BSON value of any kind, distinguished at run time."""

Document: TypeAlias = dict[str, Any]
"""A document, whose fields may hold anything, as others can write to the database."""

Database: TypeAlias = AsyncDatabase[Document]
MongoCollection: TypeAlias = AsyncCollection[Document]
Cursor: TypeAlias = AsyncCursor[Document]
