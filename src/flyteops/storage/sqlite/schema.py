"""The tables, their migrations, and the checks before a database file is trusted.

Instants used for sorting are integers, microseconds since the epoch; an event's `created_at` is ISO
8601 text, so that it keeps its offset. Foreign keys are not declared: all writing goes through
`ActionTable`, and the checks would double its reads.
"""

import sqlite3
from pathlib import Path

import msgspec

from flyteops.errors import StoreError, UnavailableError
from flyteops.storage.row import STATES as KNOWN_STATES

APPLICATION_ID = 0x466C7974
"""``Flyt`` in ASCII; identifies the database to Flyte and to `file`."""

OLDEST_SQLITE = (3, 37, 0)
"""The first version with STRICT tables; RETURNING and JSON functions are older."""

UNSTORABLE = (UnicodeEncodeError, OverflowError, sqlite3.DataError)
"""Errors for a value that a column cannot hold: lone surrogates, huge numbers and texts."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another program that holds a lock on the database."""

DAMAGE_ADVICE = "Stop the server, then restore a backup, or try `sqlite3 FILE .recover`."

REASONS = (
    (
        "SQLITE_FULL",
        "database or disk is full: make room, or let FLYTE_MAX_DISK bound what is kept",
    ),
    (
        "SQLITE_READONLY",
        "it cannot be written: its disk is read-only, or the file's permissions have changed",
    ),
    (
        "SQLITE_CANTOPEN",
        (
            "it cannot be opened: see the permissions of file and directory, and the limit of open"
            " files"
        ),
    ),
)
"""Messages for users instead of SQLite's own, by the beginning of the error's name."""

FIRST = (
    """
    CREATE TABLE pack (
      pack_id TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      declaration BLOB NOT NULL, -- JSON
      last_seen_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE flow_version (
      uuid TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      flow BLOB NOT NULL, -- JSON
      saved_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE TABLE flow (name TEXT PRIMARY KEY, uuid TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE data_item (
      key TEXT PRIMARY KEY,
      content_type TEXT NOT NULL,
      description TEXT NOT NULL,
      value BLOB NOT NULL
    ) STRICT
    """,
    # Senders and event names: the few combinations that millions of events repeat.
    """
    CREATE TABLE source (
      source_id INTEGER PRIMARY KEY,
      name TEXT NOT NULL,
      pack_id TEXT NOT NULL,
      pack_name TEXT NOT NULL,
      labels TEXT NOT NULL, -- JSON, keys sorted
      UNIQUE (name, pack_name, pack_id, labels)
    ) STRICT
    """,
    """
    CREATE TABLE event (
      seq INTEGER PRIMARY KEY,
      event_id TEXT NOT NULL UNIQUE,
      source_id INTEGER NOT NULL,
      received_at INTEGER NOT NULL,
      created_at TEXT,
      action_seq INTEGER, -- the action whose result it is
      referrers INTEGER NOT NULL, -- how many actions have it as their trigger or result
      payload BLOB NOT NULL,
      decisions BLOB -- JSON; NULL when there are none
    ) STRICT
    """,
    "CREATE INDEX event_by_source ON event (source_id)",
    "CREATE INDEX event_without_referrer ON event (received_at) WHERE referrers = 0",
    # Events about which a step of the flow was decided.
    """
    CREATE TABLE flow_event (
      flow_name TEXT NOT NULL,
      event_seq INTEGER NOT NULL,
      PRIMARY KEY (flow_name, event_seq)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE execution (
      seq INTEGER PRIMARY KEY,
      correlation_id TEXT NOT NULL UNIQUE,
      flow_name TEXT NOT NULL,
      flow_uuid TEXT NOT NULL,
      changed_at INTEGER NOT NULL -- the latest time of any state of its actions
    ) STRICT
    """,
    "CREATE INDEX execution_by_activity ON execution (changed_at)",
    "CREATE INDEX execution_by_flow ON execution (flow_name, changed_at)",
    # Pack, labels and command: a pack's queues are found in memory, so that claiming is one index
    # seek for each.
    """
    CREATE TABLE queue (
      queue_id INTEGER PRIMARY KEY,
      pack_name TEXT NOT NULL,
      command TEXT NOT NULL,
      labels TEXT NOT NULL, -- JSON, keys sorted
      UNIQUE (pack_name, command, labels)
    ) STRICT
    """,
    """
    CREATE TABLE action (
      seq INTEGER PRIMARY KEY,
      action_id TEXT NOT NULL UNIQUE,
      execution_seq INTEGER NOT NULL,
      step_index INTEGER NOT NULL,
      step_id TEXT NOT NULL,
      queue_id INTEGER NOT NULL,
      trigger_seq INTEGER NOT NULL,
      result_seq INTEGER,
      state TEXT NOT NULL,
      states TEXT NOT NULL, -- "STATE instant" for each, in order, separated by commas
      context BLOB NOT NULL, -- JSON
      input BLOB NOT NULL,
      UNIQUE (execution_seq, step_index)
    ) STRICT
    """,
    "CREATE INDEX action_waiting ON action (queue_id) WHERE state = 'NEW'",
    "CREATE INDEX action_by_queue ON action (queue_id, execution_seq)",
)

TIME = (
    # The number of attempts, the time limit, and when it may be taken (state LATER) or is lost
    # (PENDING).
    "ALTER TABLE action ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE action ADD COLUMN timeout INTEGER",
    "ALTER TABLE action ADD COLUMN due_at INTEGER",
    "CREATE INDEX action_due ON action (due_at) WHERE due_at IS NOT NULL",
    """
    CREATE TABLE attempt (
      action_seq INTEGER NOT NULL,
      number INTEGER NOT NULL,
      lease TEXT NOT NULL,
      pack_id TEXT NOT NULL,
      taken_at INTEGER NOT NULL,
      lost_at INTEGER,
      late_seq INTEGER, -- the event that came after it was lost
      PRIMARY KEY (action_seq, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE timetable (
      flow_name TEXT NOT NULL,
      step_index INTEGER NOT NULL,
      step_id TEXT NOT NULL,
      rule TEXT NOT NULL,
      next_at INTEGER, -- NULL when it is never due again
      PRIMARY KEY (flow_name, step_index)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX timetable_due ON timetable (next_at) WHERE next_at IS NOT NULL",
    (
        "CREATE TABLE event_key (key TEXT PRIMARY KEY, event_id TEXT NOT NULL, kept_at INTEGER NOT"
        " NULL) STRICT, WITHOUT ROWID"
    ),
    "CREATE INDEX event_key_by_age ON event_key (kept_at)",
)

# The delay of a NEW action that may not be taken yet, which a clock that was set back must not make
# longer.
WAIT = ("ALTER TABLE action ADD COLUMN wait INTEGER",)

# A row while the records of another store are being loaded: the number so far, and their checksum.
LOADING = ("CREATE TABLE loading (records INTEGER NOT NULL, checksum TEXT NOT NULL) STRICT",)

NOTES = (
    """
    CREATE TABLE note (
      kind TEXT NOT NULL,
      key TEXT NOT NULL,
      value BLOB NOT NULL,
      PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID
    """,
)

# One row: a random token that changes around each checkpoint, and the one that was in the file
# before. See `guard`.
GENERATION = (
    """
    CREATE TABLE generation (
      id INTEGER PRIMARY KEY,
      token BLOB NOT NULL,
      former BLOB NOT NULL
    ) STRICT
    """,
)

# Whether the command has failed, of which the event is the result; NULL for other events.
FAILURE = ("ALTER TABLE event ADD COLUMN failure INTEGER",)

# The versions of flows that are referred to, and since when others are not.
UNUSED_VERSIONS = (
    "ALTER TABLE flow_version ADD COLUMN unused_since INTEGER",
    "CREATE INDEX execution_by_version ON execution (flow_uuid)",
)

# The known states of an action. SQLite adds a constraint to an existing table only with a column,
# which stays NULL, and then checks all rows. With IN instead of OR, or with a generated column,
# each write of a row would take longer.
STATES = (
    """
    ALTER TABLE action ADD COLUMN state_check INTEGER CONSTRAINT known_state CHECK (
      state = 'SUCCESS' OR state = 'PENDING' OR state = 'NEW' OR state = 'LATER' OR state = 'FATAL'
          OR state = 'UNKNOWN'
    )
    """,
)

# From here on, events may have a basis in the column `decisions`, which earlier versions cannot
# read.
BASES = ()

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    FIRST,
    TIME,
    WAIT,
    LOADING,
    NOTES,
    GENERATION,
    FAILURE,
    UNUSED_VERSIONS,
    STATES,
    BASES,
)
"""The statements that lead from version n to n + 1.

They are never changed once released, only appended to.
"""


def prepare(path: Path) -> sqlite3.Connection:
    """Return the connection to write with; create and migrate the file as needed.

    Raise `StoreError` if an operator must step in.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(
            f"This Python comes with SQLite {sqlite3.sqlite_version}; at least {wanted} is needed."
        )
    connection = None
    try:
        connection = connect(path)
        _check(connection, path)
        _configure(connection, path)
        _migrate(connection, path)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _refusal_to_open(error, path) from error
    except BaseException:  # on any error, release the file
        if connection is not None:
            connection.close()
        raise
    return connection


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode that any thread may use, one at a time."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection to a database that a server may be using.

    Raise `StoreError` if it does not exist.
    """
    if not path.is_file():
        raise StoreError(f"There is no database {str(path)!r}.")
    connection = connect(path, query_only=True)
    try:
        _check(connection, path)
        if _pragma(connection, "user_version") != len(MIGRATIONS):
            # The file is released on any error.
            raise StoreError(  # noqa: TRY301
                f"{str(path)!r} is empty or was written by an older Flyte. Start this one's server"
                " on it once."
            )
    except BaseException:  # on any error, release the file
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether SQLite has found the file damaged."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))


def refusal(error: sqlite3.Error, path: Path) -> StoreError | UnavailableError:
    """Translate SQLite's error when a transaction fails as a whole."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return StoreError(
            f"{str(path)!r} is not a Flyte database, or it is encrypted. Name another file, or"
            " restore a backup."
        )
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(f"{str(path)!r} is damaged ({error}). {DAMAGE_ADVICE}")
    return unavailable(error, path)


def unavailable(error: sqlite3.Error, path: Path) -> UnavailableError:
    """Return the error of a server that cannot use its database, with the transaction's state."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC")):
        # All of it was written, commit included; it may be found by the next start after a crash.
        return UnavailableError(
            f"The disk of the database {str(path)!r} did not confirm a write ({error}). Whether"
            " anything was changed is not known; repeat it with the same Idempotency-Key."
        )
    if is_damage(error):
        return UnavailableError(
            f"The database {str(path)!r} is damaged ({error}); nothing was changed. {DAMAGE_ADVICE}"
        )
    reason = next((text for prefix, text in REASONS if name.startswith(prefix)), str(error))
    return UnavailableError(
        f"The database {str(path)!r} cannot be used at the moment ({reason}); nothing was changed."
    )


def _refusal_to_open(error: sqlite3.Error, path: Path) -> StoreError | UnavailableError:
    if getattr(error, "sqlite_errorname", "").startswith(
        ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")
    ):
        return StoreError(
            f"Cannot open {str(path)!r} for writing ({error}). Check that the server may write file"
            " and directory."
        )
    return refusal(error, path)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application_id = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    is_new = application_id == 0 and version == 0 and tables == 0
    if application_id != APPLICATION_ID and not is_new:
        raise StoreError(f"{str(path)!r} is the database of another program. Name another file.")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{str(path)!r} was written by a newer Flyte (schema {version}, this one knows"
            f" {len(MIGRATIONS)}). Install that version, or name another file."
        )


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    # The order matters: auto_vacuum takes effect only before the file has its first page.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError(
            f"The file system of {str(path)!r} does not support SQLite's WAL mode. Use a local"
            " disk."
        )
    connection.execute("PRAGMA synchronous = FULL")
    # The writer does it, between two batches: see `log`.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -16384")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to date; all of it is done, or nothing."""
    version = _pragma(connection, "user_version")
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if str(error).startswith("CHECK constraint failed"):
            raise _unknown_state(connection, path) from error
        raise


def _unknown_state(connection: sqlite3.Connection, path: Path) -> StoreError:
    known = msgspec.json.encode(list(KNOWN_STATES)).decode()
    action_id, state = connection.execute(
        "SELECT action_id, state FROM action WHERE state NOT IN (SELECT value FROM json_each(?))"
        " LIMIT 1",
        (known,),
    ).fetchone()
    return StoreError(
        f"The action {action_id!r} in {str(path)!r} has the unknown state {state!r}; nothing was"
        " changed. Another program has written it: correct it there, or restore a backup."
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
