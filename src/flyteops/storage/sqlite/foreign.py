"""Writes of other programs to the open file: their commits, and tables that went missing."""

import sqlite3
from collections.abc import Mapping, Sequence

from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "file")


class ForeignWrites:
    """Detects commits of other connections, and compares tables and indexes with the initial ones.

    It belongs to the writing connection, the only one of the server that writes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = self._read_version()
        self._objects = self._read_objects()

    def have_happened(self) -> bool:
        """Return whether others have committed since the last call.

        Inside a transaction, none can from then on.
        """
        before, self._version = self._version, self._read_version()
        return self._version != before

    def missing(self) -> Sequence[str]:
        """Return the tables and indexes that were removed or changed."""
        found = self._read_objects()
        return [name for name, made in self._objects.items() if found.get(name) != made]

    def _read_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _read_objects(self) -> Mapping[str, str]:
        return dict(self._connection.execute(SQL.objects))
