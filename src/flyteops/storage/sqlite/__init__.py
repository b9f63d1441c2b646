"""The SQLite backend.

Hot path: `store` → `writer` (threads, group commit) → `table` (the contents of a transaction);
`audit` reads, `schema` creates and checks the file, `row` converts.
"""

from flyteops.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
