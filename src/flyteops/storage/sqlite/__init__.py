"""The SQLite backend.

Hot path: `store` → `writer` (threads, group commit) → `ledger` (what a transaction does); `audit` reads, `schema` makes
and checks the file, `row` converts.
"""

from flyteops.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
