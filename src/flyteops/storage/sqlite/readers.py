"""The threads that read, beside the one that writes."""

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from flyteops.errors import InputError
from flyteops.storage.rules import require_capacity
from flyteops.storage.sqlite.guard import LOOK_EVERY, FileGuard
from flyteops.storage.sqlite.queries import Queries
from flyteops.storage.sqlite.schema import UNSTORABLE, connect, is_damage, unavailable

T = TypeVar("T")


class Readers:
    """A few threads, each with a connection that cannot write. Every read sees one snapshot.

    The connections are opened at the start: later, another file may have this name.
    """

    def __init__(self, path: Path, guard: FileGuard, count: int) -> None:
        self.guard = guard
        self._path = path
        self._count = count
        self._limit = 250 * count
        self._under_way = 0
        self._connections: list[sqlite3.Connection] = []
        self._free: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._pool: ThreadPoolExecutor | None = None

    def open(self, file: Path) -> None:
        """Be ready to read; the threads start with the first reads."""
        for _ in range(self._count):
            connection = connect(file, query_only=True)
            self._connections.append(connection)
            connection.execute("PRAGMA user_version").fetchone()  # opens the log and its index, too
            self._free.put(connection)
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="flyte-sqlite-reader")

    def close(self) -> None:
        """Wait for current reads, then close the connections."""
        if self._pool is not None:
            self._pool.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._free = queue.LifoQueue()

    async def read(self, run: Callable[[Queries], T]) -> T:
        """Run a function in a reading thread."""
        require_capacity(self._under_way, self._limit)
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, run)
        finally:
            self._under_way -= 1

    def _read(self, run: Callable[[Queries], T]) -> T:
        self.guard.check(max_age=LOOK_EVERY)
        connection = self._free.get()
        try:
            return _run(connection, run)
        except sqlite3.Error as error:
            if is_damage(error):
                self.guard.note_damage(error)
            raise unavailable(error, self._path) from error
        except UNSTORABLE as error:
            raise InputError(f"The store cannot look for that: {error}.") from error
        finally:
            self._free.put(connection)


def _run(connection: sqlite3.Connection, run: Callable[[Queries], T]) -> T:
    """Run a function on one snapshot.

    Bytes that are not UTF-8 are replaced, so that one text does not hide all others.
    """
    try:
        return _run_once(connection, run)
    except sqlite3.OperationalError as error:
        if "decode to UTF-8" not in str(error):
            raise
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        return _run_once(connection, run)
    finally:
        connection.text_factory = str


def _run_once(connection: sqlite3.Connection, run: Callable[[Queries], T]) -> T:
    connection.execute("BEGIN")
    try:
        return run(Queries(connection))
    finally:
        connection.execute("ROLLBACK")
