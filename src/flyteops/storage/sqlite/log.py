"""The write-ahead log, which starts over only when nobody reads from it: somebody always may."""

import sqlite3
import time
from pathlib import Path

from flyteops.storage.sqlite.schema import BUSY_TIMEOUT

LONG = 6 * 1024 * 1024
"""Bytes from which on the log is made to start over; SQLite does so by itself at four mebibytes if nobody reads."""

PATIENCE = 2.0
"""How many seconds the reads that are under way are waited for, with which nothing is written."""

TRY = 0.1
"""How many seconds SQLite waits in one go: it waits for a place that an old read has, and new reads may join there for ever."""

LOOK_EVERY = 0.05
"""How many seconds pass at least between two looks at how long it is: there may be a thousand transactions in one."""

PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""How many seconds pass until it is tried again after that was not enough: twice as many each time, for a backup reads long."""


class Log:
    """The log of a database, by the connection that writes it."""

    def __init__(self, connection: sqlite3.Connection, database: Path) -> None:
        self._connection = connection
        self._file = database.with_name(f"{database.name}-wal")
        self._not_before = 0.0
        self._again_at: float | None = None
        self._pause = PAUSE

    @property
    def due_in(self) -> float | None:
        """Seconds until it should be looked at (again), written or not; None when it need not be."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def bound(self) -> None:
        """Make the log start over if it is long; between two transactions. Reads that begin meanwhile are not waited for."""
        now = time.monotonic()
        if now < self._not_before:
            self._again_at = self._not_before
            return
        self._not_before, self._again_at = now + LOOK_EVERY, None
        if not self._is_long():
            return
        is_over = self._start_over()
        if not is_over:
            self._not_before = self._again_at = time.monotonic() + self._pause
        self._pause = PAUSE if is_over else min(self._pause * 2, LONGEST_PAUSE)

    def _start_over(self) -> bool:
        until = time.monotonic() + PATIENCE
        self._connection.execute(f"PRAGMA busy_timeout = {TRY * 1000:.0f}")
        try:
            while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > until:
                    return False
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
        return True

    def _is_long(self) -> bool:
        try:
            return self._file.stat().st_size > LONG
        except OSError:
            return False
