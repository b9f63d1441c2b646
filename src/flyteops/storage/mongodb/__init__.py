"""MongoDB: the database of an existing installation, taken over as it is, or a new one."""

from flyteops.storage.mongodb.store import MongoStore

__all__ = ["MongoStore"]
