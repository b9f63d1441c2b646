"""The guard of the database files: a check that they are still those that were opened.

SQLite does not notice when its files are removed, replaced or overwritten: it continues with its
open files, and later commits are not in the file that the next server opens. So the writer checks
before each transaction, and again before it answers.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from flyteops.errors import UnavailableError
from flyteops.storage.sqlite.lock import Lock
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "file")

LOGGER = logging.getLogger("flyte.store")

LOOK_EVERY = 0.1
"""Seconds between two checks of all files and the token.

In between, the database file's status is compared.
"""

TOKEN_LENGTH = 16

CELL = b"\x24\x01\x04\x00\x2c\x2c"
"""The beginning of the only row of `generation` in a page.

Two blobs of 16 bytes follow, `token` and `former`.
"""

MAGIC = b"SQLite format 3\0"

DOUBTS = (0.0, 0.005, 0.05)
"""Seconds before each check that must find other content: a page may be half written."""

Identity = tuple[int, int]


class Fault(NamedTuple):
    """A fault of the files. `is_final` if only a restart helps.

    `has_own_file` if our connections still have the database open, so that the log can be saved
    into it.
    """

    message: str
    is_final: bool = False
    has_own_file: bool = True


class FileGuard:
    """Compares the files of a database with those opened, by identity and by a token in the file.

    The token is renewed around each checkpoint, to detect a file that was copied over this one and
    has its identity: the contents of the log would not fit such a copy.
    """

    def __init__(self, named: Path, lock: Lock) -> None:
        self._named = named
        self._lock = lock
        self._fault: Fault | None = None
        self._noting = threading.Lock()
        self._identities: dict[Path, Identity] = {}
        self._tokens: frozenset[bytes | None] = frozenset()
        self._token: bytes | None = None
        self._least_size = 0
        self._page_size = self._root = 0
        self._signature: tuple[int, int, int, int] | None = None
        self._looked_at = self._glanced_at = 0.0
        self.is_log_whole: Callable[[], bool] = lambda: True
        """Returns whether the log has the content that its index describes; from any thread."""

    @property
    def log(self) -> Path:
        """The write-ahead log."""
        return self._beside("-wal")

    @property
    def index(self) -> Path:
        """The index of the log, which all connections share."""
        return self._beside("-shm")

    @property
    def fault(self) -> Fault | None:
        """The fault, as far as it was detected."""
        return self._fault

    def watch(self, connection: sqlite3.Connection) -> None:
        """Remember the files' state; on the writing connection, between two transactions."""
        self._page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        (self._root,) = connection.execute(SQL.token_page).fetchone()
        row = connection.execute(SQL.token).fetchone()
        self._tokens = frozenset((self._token_in_file(), None if row is None else row[0]))
        self.renew(connection)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._identities = {
            path: _signature(path)[:2] for path in (self._named, self.log, self.index)
        }
        self.confirm(connection)

    def renew(self, connection: sqlite3.Connection) -> None:
        """Give the content a new token."""
        self._token = os.urandom(TOKEN_LENGTH)
        former = self._token_in_file()
        self._tokens |= {former, self._token}
        # Not synced by itself: any later commit in the log is, and a checkpoint syncs the log
        # first.
        (mode,) = connection.execute("PRAGMA synchronous").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            connection.execute(
                SQL.renew_token,
                (self._token, former or bytes(TOKEN_LENGTH)),
            )
        finally:
            connection.execute(f"PRAGMA synchronous = {mode}")

    def confirm(self, connection: sqlite3.Connection) -> None:
        """Note that a checkpoint has ended.

        If it has copied the whole log, the file has the last token, and gets a new one.
        """
        if self._token_in_file() != self._token:
            return
        self._tokens = frozenset((self._token,))
        self._least_size = os.fstat(self._lock.descriptor).st_size
        self.renew(connection)

    def check(self, max_age: float = 0.0, *, closely: bool = False) -> None:
        """Raise `UnavailableError` unless the files are those that were opened. From any thread.

        A check within the last `max_age` seconds is enough, but not if it must look `closely`, at
        all files and their content.
        """
        if self._fault is None or not self._fault.is_final:
            now = time.monotonic()
            is_due = closely or self._fault is not None or now - self._looked_at >= LOOK_EVERY
            if is_due or (now - self._glanced_at >= max_age and not self._is_unchanged(now)):
                self._note(self._look(now))
        if self._fault is not None:
            raise UnavailableError(self._fault.message)

    def note_damage(self, error: sqlite3.Error) -> None:
        """Refuse all work from now on, since SQLite has found the file damaged."""
        self._note(
            Fault(
                f"The database {str(self._named)!r} is damaged ({error}). Stop the server, and"
                " restore a backup or try `sqlite3 FILE .recover`.",
                is_final=True,
            )
        )

    def note_missing(self, names: Sequence[str]) -> None:
        """Refuse all work from now on, as another program has changed tables or indexes."""
        self._note(
            Fault(
                f"Another program has changed the tables of the database {str(self._named)!r} while"
                f" the server ran: {', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
                " or not as before. Stop the server, and restore a backup.",
                is_final=True,
            )
        )

    def _note(self, fault: Fault | None) -> None:
        with self._noting:
            before = self._fault
            if before == fault or (before is not None and before.is_final):
                return
            self._fault = fault
            if fault is None:
                LOGGER.warning(
                    "The files of the database %r are back; the server works with them again",
                    str(self._named),
                )
                return
            LOGGER.error("%s All work is refused.", fault.message)
            if not fault.has_own_file:
                self._lock.keep_log()

    def _is_unchanged(self, now: float) -> bool:
        """Return whether the file of this name is unchanged.

        One system call, since each lets other threads go first.
        """
        try:
            is_same = _signature(self._named) == self._signature
        except OSError:
            return False
        if is_same:
            self._glanced_at = now
        return is_same

    def _look(self, now: float) -> Fault | None:
        signature = None
        for path, identity in self._identities.items():
            try:
                found = _signature(path)
            except OSError as error:
                return self._gone(path, error)
            if found[:2] != identity:
                return self._replaced(path)
            signature = signature or found
        if not any(self._has_own_content(after) for after in DOUBTS):
            return self._overwritten()
        if not any(self._has_whole_log(after) for after in DOUBTS):
            return self._overwritten_log()
        self._signature = signature
        self._looked_at = self._glanced_at = now
        return None

    def _has_own_content(self, after: float) -> bool:
        if after:
            time.sleep(after)
        try:
            header = os.pread(self._lock.descriptor, 100, 0)
            return self._token_in_file() in self._tokens and self._is_whole(header)
        except OSError:
            return False

    def _has_whole_log(self, after: float) -> bool:
        if after:
            time.sleep(after)
        return self.is_log_whole()

    def _is_whole(self, header: bytes) -> bool:
        if self._least_size == 0:  # nothing was copied into the file yet
            return True
        if not header.startswith(MAGIC) or _page_size(header) != self._page_size:
            return False
        size = os.fstat(self._lock.descriptor).st_size
        if size >= self._least_size:
            return True
        # It may be shorter after a checkpoint of another program; then it has fewer pages as well.
        if int.from_bytes(header[28:32]) * self._page_size > size:
            return False
        self._least_size = size
        return True

    def _token_in_file(self) -> bytes | None:
        page = os.pread(self._lock.descriptor, self._page_size, (self._root - 1) * self._page_size)
        if len(page) < self._page_size:
            return None
        cell = page[int.from_bytes(page[8:10]) :]
        return cell[len(CELL) : len(CELL) + TOKEN_LENGTH] if cell.startswith(CELL) else None

    def _gone(self, path: Path, error: OSError) -> Fault:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            what = (
                f"{str(path)!r} is gone: it was removed or renamed, or its disk was unmounted,"
                " while the server ran."
            )
        else:
            what = f"{str(path)!r} cannot be reached ({error.strerror})."
        if path == self._named:
            return Fault(
                f"The database {what} Put it back, or stop the server and restore a backup."
            )
        return Fault(
            f"The file {what} It belongs to the database {str(self._named)!r}; restart the server."
        )

    def _replaced(self, path: Path) -> Fault:
        what = (
            f"{str(path)!r} is another file than the one that the server opened: it was replaced"
            " while the server ran."
        )
        if path == self._named:
            return Fault(
                f"The database {what} Restart the server to work with the new file, or put the"
                " former one back."
            )
        return Fault(
            f"The file {what} It belongs to the database {str(self._named)!r}; restart the server."
        )

    def _overwritten(self) -> Fault:
        return Fault(
            f"The content of the database {str(self._named)!r} was overwritten while the server"
            f" ran. Stop the server, remove {self.log.name!r} and {self.index.name!r}, put a whole"
            " database or a restored backup in place, and start again.",
            is_final=True,
            has_own_file=False,
        )

    def _overwritten_log(self) -> Fault:
        return Fault(
            f"The file {str(self.log)!r} was overwritten or cut off while the server ran, and with"
            f" it the latest changes. It belongs to the database {str(self._named)!r}. Stop the"
            f" server, remove {self.log.name!r} and {self.index.name!r}, and start again with what"
            " the database has, or restore a backup.",
            is_final=True,
            has_own_file=False,
        )

    def _beside(self, suffix: str) -> Path:
        return self._lock.file.with_name(f"{self._lock.file.name}{suffix}")


def _signature(path: Path) -> tuple[int, int, int, int]:
    found = os.stat(path)  # noqa: PTH116 - for each commit, and so the quicker one
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18])
    return 65536 if size == 1 else size
