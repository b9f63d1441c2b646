"""A snapshot copy of a database, so that a full read keeps no old state alive in the original.

While an old state is read, a server's write-ahead log cannot start over. Copying pages takes a
small part of the time of reading them as records, and a stalled reader of the copy affects no
server.
"""

import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flyteops.errors import StoreError
from flyteops.storage.sqlite.schema import prepare_to_read

LOGGER = logging.getLogger("flyte.store")

STEP = 2000
"""The number of pages copied between two checks of the log's size."""

MAX_GROWTH = 512 * 1024 * 1024
"""The log's maximum growth in bytes, half of its limit for refusing writes; then reading stops."""


class LogGrowth:
    """The growth of the log since the beginning of a read."""

    def __init__(self, database: Path) -> None:
        self._database = database
        file = database.resolve()
        self._log = file.with_name(f"{file.name}-wal")
        self._before = self._length()

    def check(self) -> None:
        """Raise `StoreError` when it is so large that the read has to be given up."""
        if self._length() - self._before > MAX_GROWTH:
            raise StoreError(
                f"Reading {str(self._database)!r} was given up: it took so long that"
                f" {self._log.name!r} grew by more than {MAX_GROWTH // 1024**2} MiB. Do it on a"
                " faster disk, with room for a copy of the database, or when less is written."
            )

    def _length(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:  # no server has written since the last one ended
            return 0


@contextmanager
def reading(
    path: Path, scratch: Path | None
) -> Iterator[tuple[sqlite3.Connection, Callable[[], None]]]:
    """Yield a connection to a snapshot: a copy in `scratch` if it has room, else the database.

    The second value is to be called from time to time, and raises `StoreError` when the read has to
    be given up.
    """
    growth = LogGrowth(path)
    with closing(prepare_to_read(path)) as connection:
        connection.execute("BEGIN")
        if scratch is None or not _has_room(connection, scratch):
            yield connection, _go_on if scratch is None else growth.check
            return
        copy = _copy(connection, scratch, growth)
    with closing(copy):
        copy.execute("BEGIN")
        yield copy, _go_on


def _go_on() -> None:
    pass


def _has_room(connection: sqlite3.Connection, scratch: Path) -> bool:
    pages, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    free = shutil.disk_usage(scratch).free
    if pages * size < free / 2:  # a server may need room on the same disk meanwhile
        return True
    LOGGER.warning(
        "%r has no room for a copy of the database (%d MB; %d MB are free): it is read in place,"
        " which takes longer, and the server's log grows meanwhile",
        str(scratch),
        pages * size // 10**6,
        free // 10**6,
    )
    return False


def _copy(connection: sqlite3.Connection, scratch: Path, growth: LogGrowth) -> sqlite3.Connection:
    """Return a connection to a nameless copy, so that nothing is left of it in any case."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".flyte-copy-") as folder:
        file = Path(folder) / "copy.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as target:
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            connection.backup(target, pages=STEP, progress=lambda *_: growth.check())
        # Immutable: without a log, which the header requires, and whose file cannot be created next
        # to a nameless file.
        copy = sqlite3.connect(
            f"{file.resolve().as_uri()}?immutable=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            copy.execute("PRAGMA temp_store = MEMORY")
            copy.execute("PRAGMA user_version").fetchone()
        except BaseException:  # on any error, release the file
            copy.close()
            raise
        return copy
