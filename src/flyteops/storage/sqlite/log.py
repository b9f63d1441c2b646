"""The write-ahead log: copied into the database (a checkpoint) between batches, and bounded while somebody reads an old state.

SQLite can only copy what no reader still needs in its older form, and starts the log over only once all of it was copied and
nobody reads from it. A reader that does not end, such as a stopped program, makes the log grow with all that is written.
Nothing is written while a checkpoint waits for readers, so it waits only when it can expect to succeed, and briefly.
"""

import logging
import mmap
import os
import sqlite3
import struct
import time
from contextlib import suppress
from pathlib import Path

from flyteops.storage.sqlite.guard import Guard
from flyteops.storage.sqlite.lock import reader_of
from flyteops.storage.sqlite.schema import BUSY_TIMEOUT

LOGGER = logging.getLogger("flyte.store")

MEBIBYTE = 1024 * 1024

LONG = 6 * MEBIBYTE
"""Bytes from which on the log is made to start over; by itself it does so after a checkpoint if nobody reads."""

CHECKPOINT_FRAMES = 1000
"""How many pages are in the log that are not in the database yet when a checkpoint is made."""

GROWN = 64 * MEBIBYTE
"""Bytes from which on a reader that keeps the log from starting over is reported."""

MAX_BYTES = 1024 * MEBIBYTE
"""How long the log may get while it cannot start over."""

PATIENCE, MOST_PATIENCE = 0.25, 1.0
"""Seconds to wait for the reads under way, with which nothing is written; longer for a long log of which all was copied."""

TRY = 0.01
"""Seconds SQLite waits in one go: it waits for a place that an old read has, and new reads may join there for ever."""

PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds until it is waited again for readers that prevented a restart, doubled each time."""

HELD_PAUSE = 0.25
"""Seconds until a checkpoint is tried again that an old read prevented. Trying costs nothing while that goes on."""

FAILED_PAUSE = 1.0
"""Seconds until a checkpoint is tried again that the disk prevented."""

FRAME_HEADER = 24

HEADER = 136
"""How long the part of the index is that says how long the log is."""

NUMBER = struct.Struct("=I")

READ_LOCKS = range(123, 128)
"""The bytes of the index that readers lock, each for a state of the database; from the file format of SQLite."""


class Index:
    """The shared index of the log, read as SQLite's documented file format.

    The descriptors stay open until all connections are closed: closing one would drop SQLite's locks on the file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._descriptor, HEADER, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Let go; only after all connections are closed."""
        self._memory.close()
        os.close(self._descriptor)

    @property
    def frames(self) -> int:
        """How many pages are in the log."""
        return self._number(16)

    @property
    def copied(self) -> int:
        """How many of them are in the database as well."""
        return self._number(96)

    def _number(self, offset: int) -> int:
        found: int = NUMBER.unpack_from(self._memory, offset)[0]
        return found

    def readers(self) -> str:
        """Return which other processes read, in words."""
        found = {reader_of(self._descriptor, byte, 1) for byte in READ_LOCKS} - {""}
        return ", ".join(sorted(found)) or "a program that cannot be named"


class Log:
    """The log of a database, by the connection that writes it. All but `problem` and `warning` is for the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, guard: Guard, max_bytes: int = MAX_BYTES) -> None:
        self._connection = connection
        self._guard = guard
        self._max_bytes = max_bytes
        self._index = Index(guard.index)
        self._frame = FRAME_HEADER + int(connection.execute("PRAGMA page_size").fetchone()[0])
        self._is_held = False
        self._copied: int | None = None
        self._not_before = self._no_restart_before = 0.0
        self._again_at: float | None = None
        self._pause = PAUSE
        self._reported = GROWN
        self._longest = guard.log.stat().st_size
        self.problem = ""
        self.warning = ""

    def close(self) -> None:
        """Let go of the index; only after all connections are closed."""
        self._index.close()

    @property
    def due_in(self) -> float | None:
        """Seconds until it should be looked at again, written or not; None when it need not be."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def bound(self) -> None:
        """Make a checkpoint if there is enough to copy, and start the log over if it is long; between two transactions.

        Raise `sqlite3.Error` when that fails; it is tried again some time later.
        """
        if time.monotonic() < self._not_before:
            self._again_at = self._not_before
            if self._is_held and not self.problem and self._length >= self._max_bytes:
                self._report_length()
            return
        self._again_at = None
        try:
            is_short = self._shorten()
        except sqlite3.Error:  # most often a full disk; the log stays as it is
            self._try_again(FAILED_PAUSE)
            raise
        self._is_held = not is_short
        if is_short:
            self._report_end()
        else:
            self._try_again(HELD_PAUSE)
            self._report_length()

    def save(self) -> None:
        """Copy all of the log into the file that is open, wherever that is now, and leave nothing in the log."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _shorten(self) -> bool:
        """Return whether the log is as short as it should be, or is so now."""
        is_long = self._is_long()
        if not is_long and self._index.frames - self._index.copied < CHECKPOINT_FRAMES:
            return True
        is_copied = self._checkpoint()
        before, self._copied = self._copied, self._index.copied
        is_moving = before is not None and self._copied != before
        if not is_long:
            return is_copied
        if is_copied:
            return self._start_over(PATIENCE * self._length / LONG)
        # Reads that follow each other leave something to copy each time. Those under way are waited for, briefly, unless the
        # checkpoint has come no further than the last one: a read does not end then.
        return is_moving and self._start_over(MOST_PATIENCE)

    def _checkpoint(self) -> bool:
        """Copy what can be copied without waiting; return whether that was all."""
        with suppress(sqlite3.Error):  # on a full disk, room is what the checkpoint may make
            self._guard.renew(self._connection)
        _, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._guard.confirm(self._connection)
        return bool(copied >= frames)

    def _try_again(self, pause: float) -> None:
        self._not_before = self._again_at = time.monotonic() + pause

    def _start_over(self, patience: float) -> bool:
        now = time.monotonic()
        if now < self._no_restart_before:
            return False
        until = now + min(MOST_PATIENCE, patience)
        self._connection.execute(f"PRAGMA busy_timeout = {TRY * 1000:.0f}")
        try:
            while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > until:
                    self._no_restart_before = time.monotonic() + self._pause
                    self._pause = min(self._pause * 2, LONGEST_PAUSE)
                    return False
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
        self._longest = 0
        self._pause = PAUSE
        self._guard.confirm(self._connection)
        return True

    @property
    def _length(self) -> int:
        return self._index.frames * self._frame

    def _is_long(self) -> bool:
        """Tell whether the file is long, whatever part of it is in use."""
        self._longest = max(self._longest, self._length)
        return self._longest > LONG

    def _report_length(self) -> None:
        length = self._length
        if length < GROWN:
            return
        name = str(self._guard.log)
        said = (
            f"{name!r} has grown to {length // MEBIBYTE} MiB, since an old state of the database is being read by"
            f" {self._index.readers()}"
        )
        if length >= self._max_bytes:
            if not self.problem:
                LOGGER.error("%s; all writes are refused until that read ends", said)
            self.warning, self.problem = "", f"{said}; all writes are refused until that read ends. End that program."
            return
        self.warning = f"{said}. At {self._max_bytes // MEBIBYTE} MiB all writes are refused until that read ends."
        if length >= self._reported:
            LOGGER.warning("%s", self.warning)
            self._reported = 2 * length

    def _report_end(self) -> None:
        if self.warning or self.problem:
            LOGGER.info("%r has been shortened again", str(self._guard.log))
        self.warning = self.problem = ""
        self._reported = GROWN
