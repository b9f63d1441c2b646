"""The locks that keep a second server off a database file, opened by any of its names."""

import errno
import fcntl
import logging
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from flyteops.errors import StoreError

LOGGER = logging.getLogger("flyte.store")

PRIVATE = 0o600

SERVER_BYTE = 1 << 62
"""The byte of the file that a server locks: far beyond all that SQLite locks or a file can hold."""

SHARED_FIRST, SHARED_SIZE = 0x40000002, 510
"""The bytes that SQLite's connections lock to read, and exclusively to copy the log at the end."""

RECORD = "hhqqi0q"
"""The layout of `struct flock` on Linux."""

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

TAKEN = (errno.EACCES, errno.EAGAIN)


class Lock:
    """A lock file beside the database, for its message, and a lock on the database file itself.

    The kernel drops both when the process ends. `file` is the database with all symbolic links
    followed. Closing any descriptor of a file drops the locks that SQLite holds on it in this
    process: `release` only after all connections are closed.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self.file = database
        self._lock_file: int | None = None
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The descriptor of the database file."""
        if self._descriptor is None:
            raise StoreError("The database is not locked.")
        return self._descriptor

    def acquire(self) -> None:
        """Take both locks, creating an empty database if none exists.

        Raise `StoreError` naming the process that holds them.
        """
        self.file = Path(os.path.realpath(self._database))
        self._lock_file = self._acquire_lock_file()
        try:
            self._descriptor = self._acquire_database()
        except BaseException:  # after any error, another server may try
            self.release()
            raise

    def release(self) -> None:
        """Release the locks; may be called twice.

        The lock file stays: removing it would race with the next server.
        """
        for descriptor in (self._descriptor, self._lock_file):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._lock_file = None

    def keep_log(self) -> None:
        """Keep SQLite from copying its log into the file when the last connection is closed."""
        # A lock of the process would not keep off its own connections.
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return
        record = struct.pack(RECORD, fcntl.F_RDLCK, os.SEEK_SET, SHARED_FIRST, SHARED_SIZE, 0)
        with suppress(OSError):
            fcntl.fcntl(self.descriptor, fcntl.F_OFD_SETLK, record)

    def _acquire_lock_file(self) -> int:
        path = self.file.with_name(f"{self.file.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise StoreError(
                f"Cannot write {str(path)!r}: {error.strerror}. The server needs to write there."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno in TAKEN:
                raise self._in_use(f"process {owner or '(unknown)'}") from error
            raise StoreError(
                f"Cannot lock {str(path)!r}: {error.strerror}. Local disks can be locked, some"
                " network disks not."
            ) from error
        _make_private(path)
        return descriptor

    def _acquire_database(self) -> int:
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise StoreError(
                f"Cannot open {str(self._database)!r} for writing ({error.strerror})."
                " Check that the server may write file and directory."
            ) from error
        # On a refusal the descriptor stays open: closing it would drop SQLite's locks if this very
        # process has the file open.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{str(self._database)!r} is not a regular file. Name another file.")
        try:
            lock_server_byte(descriptor)
        except OSError as error:
            if error.errno not in TAKEN:
                raise StoreError(
                    f"Cannot lock {str(self._database)!r}: {error.strerror}. Use a local disk."
                ) from error
            raise self._in_use(
                reader_of(descriptor, SHARED_FIRST, SHARED_SIZE) or "another process"
            ) from error
        return descriptor

    def make_private(self) -> None:
        """Remove others' permissions on the database, once it is known to be Flyte's.

        By then SQLite has made its log and its index, with the permissions of the database.
        """
        for suffix in ("", "-wal", "-shm"):
            _make_private(self.file.with_name(f"{self.file.name}{suffix}"))

    def _in_use(self, owner: str) -> StoreError:
        return StoreError(
            f"The database {str(self._database)!r} is in use by {owner}; only one server may use"
            " it."
        )


def lock_server_byte(descriptor: int) -> None:
    """Lock the byte that only one server may have; raise `OSError`.

    The lock belongs to the descriptor where the system supports such locks. Elsewhere it belongs to
    the process, and the lock file alone keeps two stores of one process apart.
    """
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is not None:
        try:
            fcntl.fcntl(
                descriptor,
                command,
                struct.pack(RECORD, fcntl.F_WRLCK, os.SEEK_SET, SERVER_BYTE, 1, 0),
            )
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            return
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, SERVER_BYTE)


def reader_of(descriptor: int, start: int, length: int) -> str:
    """Return the other process that locked one of these bytes.

    In the form "process 4711 (sqlite3)"; "" if unknown.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):  # the layout of the record is that of Linux
        return ""
    record = struct.pack(RECORD, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    try:
        kind, _, _, _, process_id = struct.unpack(
            RECORD, fcntl.fcntl(descriptor, fcntl.F_GETLK, record)
        )
    except OSError:
        return ""
    if kind == fcntl.F_UNLCK or process_id <= 0:
        return ""
    try:
        name = Path(f"/proc/{process_id}/comm").read_text().strip()
    except OSError:
        return f"process {process_id}"
    return f"process {process_id} ({name})"


def _make_private(path: Path) -> None:
    """Remove the permissions of others on a file that earlier versions made world-readable.

    The group's may be on purpose.
    """
    try:
        found = path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode) or not mode & 0o077:
            return
        if mode & 0o007:
            path.chmod(mode & 0o700)
            LOGGER.info(
                "%r was open to all users of this computer; now only its owner has access",
                str(path),
            )
        else:
            LOGGER.warning(
                "The group of %r has access to it; unless that is intended: chmod 600", str(path)
            )
    except FileNotFoundError:
        return
    except OSError as error:
        LOGGER.warning(
            "Other users have access to %r, which cannot be changed: %s", str(path), error.strerror
        )
