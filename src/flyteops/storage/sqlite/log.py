"""The write-ahead log: copied (checkpointed) between batches, and bounded during long reads.

SQLite can only copy pages that no reader still needs in an older form, and starts the log over only
once all of it was copied and no reader uses it. A reader that does not end, such as a stopped
program, makes the log grow with every write. Nothing is written while a checkpoint waits for
readers, so it waits only when it can expect to succeed, and briefly.
"""

import logging
import mmap
import os
import sqlite3
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flyteops.storage.sqlite.guard import FileGuard
from flyteops.storage.sqlite.lock import reader_of
from flyteops.storage.sqlite.schema import BUSY_TIMEOUT

LOGGER = logging.getLogger("flyte.store")

MEBIBYTE = 1024 * 1024

LONG = 6 * MEBIBYTE
"""The bytes from which the log is restarted; SQLite does so after a checkpoint without readers."""

CHECKPOINT_FRAMES = 1000
"""The number of pages in the log but not yet in the database at which a checkpoint is made."""

GROWN = 64 * MEBIBYTE
"""The size in bytes from which a reader that keeps the log from starting over is reported."""

MAX_BYTES = 1024 * MEBIBYTE
"""The maximum size of the log while it cannot start over."""

PATIENCE, MAX_PATIENCE = 0.25, 1.0
"""Seconds to wait for current readers, blocking writes; longer for a long log, fully copied."""

TRY = 0.01
"""Seconds that SQLite waits in one go.

It waits for the slot of an old reader, and new readers may join that for ever.
"""

PAUSE, MAX_PAUSE = 1.0, 10.0
"""Seconds until the next wait for readers that prevented a restart, doubled each time."""

HELD_PAUSE = 0.25
"""Seconds until the next try of a checkpoint that an old reader prevented.

Trying costs nothing meanwhile.
"""

FAILED_PAUSE = 1.0
"""Seconds until the next try of a checkpoint that failed on the disk."""

LOG_HEADER, FRAME_HEADER = 32, 24
"""The sizes of the headers of the log and of each page in it; from SQLite's format."""

COPY = 48
"""The size of each of the two copies that the index has of its first part."""

HEADER = 136
"""The size of the part of the index that holds the length of the log."""

NUMBER = struct.Struct("=I")
CHECKSUM, CHECKSUM_IN_LOG = struct.Struct("=II"), struct.Struct(">II")

READ_LOCKS = range(123, 128)
"""The bytes of the index that readers lock, each for a database state; from SQLite's format."""


class Summary(NamedTuple):
    """The number of pages in the log, the checksum of the last one, and the mark of all."""

    frames: int
    checksum: bytes
    salt: bytes


class WalIndex:
    """The shared index of the log, read as SQLite's documented file format.

    The descriptors stay open until all connections are closed: closing one would drop SQLite's
    locks on the file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._descriptor, HEADER, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Close the descriptors; only after all connections are closed."""
        self._memory.close()
        os.close(self._descriptor)

    @property
    def frames(self) -> int:
        """The number of pages in the log."""
        return self._number(16)

    @property
    def copied(self) -> int:
        """The number of them that are in the database as well."""
        return self._number(96)

    def summary(self) -> "Summary | None":
        """Return the description of the log's content, None while it is being written."""
        part: bytes = self._memory[: 2 * COPY]
        if part[:COPY] != part[COPY:]:
            return None
        (frames,) = NUMBER.unpack_from(part, 16)
        checksum = CHECKSUM_IN_LOG.pack(*CHECKSUM.unpack_from(part, 24))
        return Summary(frames, checksum, part[32:40])

    def _number(self, offset: int) -> int:
        found: int = NUMBER.unpack_from(self._memory, offset)[0]
        return found

    def readers(self) -> str:
        """Return a description of the other processes that read."""
        found = {reader_of(self._descriptor, byte, 1) for byte in READ_LOCKS} - {""}
        return ", ".join(sorted(found)) or "a program that cannot be named"


class WriteAheadLog:
    """The log of a database, by the connection that writes it.

    All but `problem` and `warning` is for the writer's thread.
    """

    def __init__(
        self, connection: sqlite3.Connection, guard: FileGuard, max_bytes: int = MAX_BYTES
    ) -> None:
        self._connection = connection
        self._guard = guard
        self._max_bytes = max_bytes
        self._index = WalIndex(guard.index)
        self._file = os.open(guard.log, os.O_RDONLY | os.O_CLOEXEC)
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
        guard.is_log_whole = self.is_whole

    def close(self) -> None:
        """Close the log and its index; only after all connections are closed."""
        self._index.close()
        os.close(self._file)

    def is_whole(self) -> bool:
        """Return whether the file has the pages of which the index knows; from any thread.

        SQLite does not check that: it would go on behind the end of a log that was cut off, and
        copy a gap into the database. The beginning and the last page are compared.
        """
        summary = self._index.summary()
        if summary is None or not summary.frames:
            return True
        salt = os.pread(self._file, LOG_HEADER, 0)[16:24]
        last = LOG_HEADER + (summary.frames - 1) * self._frame
        header = os.pread(self._file, FRAME_HEADER, last)
        return (
            salt == summary.salt
            and header[8:] == summary.salt + summary.checksum
            and os.fstat(self._file).st_size >= last + self._frame
        )

    @property
    def due_in(self) -> float | None:
        """Seconds until the next check, with or without writes; None if none is needed."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def bound(self) -> None:
        """Make a checkpoint if there is enough to copy, and restart a long log.

        Call it between transactions. Raise `sqlite3.Error` on failure; it is retried some time
        later. Raise `UnavailableError` if the log must not be copied.
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
        """Copy all of the log into the open file, even if moved, and leave nothing in the log."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _shorten(self) -> bool:
        """Return whether the log is, or has become, as short as it should be."""
        is_long = self._is_long()
        if not is_long and self._index.frames - self._index.copied < CHECKPOINT_FRAMES:
            return True
        self._guard.check(closely=True)
        is_copied = self._checkpoint()
        before, self._copied = self._copied, self._index.copied
        is_moving = before is not None and self._copied != before
        if not is_long:
            return is_copied
        if is_copied:
            return self._start_over(PATIENCE * self._length / LONG)
        # Consecutive reads leave something to copy each time. Current ones are waited for, briefly,
        # unless the checkpoint has come no further than the last one: a read does not end then.
        return is_moving and self._start_over(MAX_PATIENCE)

    def _checkpoint(self) -> bool:
        """Copy as much as possible without waiting; return whether that was all."""
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
        until = now + min(MAX_PATIENCE, patience)
        self._connection.execute(f"PRAGMA busy_timeout = {TRY * 1000:.0f}")
        try:
            while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > until:
                    self._no_restart_before = time.monotonic() + self._pause
                    self._pause = min(self._pause * 2, MAX_PAUSE)
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
        """Return whether the file is long, regardless of the part in use."""
        self._longest = max(self._longest, self._length)
        return self._longest > LONG

    def _report_length(self) -> None:
        length = self._length
        if length < min(GROWN, self._max_bytes):
            return
        name = str(self._guard.log)
        said = (
            f"{name!r} has grown to {length // MEBIBYTE} MiB, since an old state of the database is"
            f" being read by {self._index.readers()}"
        )
        if length >= self._max_bytes:
            if not self.problem:
                LOGGER.error("%s; all writes are refused until that read ends", said)
            self.warning, self.problem = (
                "",
                f"{said}; all writes are refused until that read ends. End that program.",
            )
            return
        self.warning = (
            f"{said}. At {self._max_bytes // MEBIBYTE} MiB all writes are refused until that read"
            " ends."
        )
        if length >= self._reported:
            LOGGER.warning("%s", self.warning)
            self._reported = 2 * length

    def _report_end(self) -> None:
        if self.warning or self.problem:
            LOGGER.info("%r has been shortened again", str(self._guard.log))
        self.warning = self.problem = ""
        self._reported = GROWN
