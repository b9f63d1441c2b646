"""The write-ahead log of SQLite while others read an old state, and the copy that a backup is
made from.
"""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from flyteops.errors import StoreError, UnavailableError
from flyteops.storage.query import EventFilter
from flyteops.storage.sqlite import SqliteStore, log, snapshot
from flyteops.testing.sample import NOTHING, Sample
from flyteops.testing.transfer import records_of

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flyte.db"


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "CHECKPOINT_FRAMES", 10)
    monkeypatch.setattr(log, "LONG", 20 * PAGE)
    monkeypatch.setattr(log, "GROWN", 40 * PAGE)
    monkeypatch.setattr(log, "HELD_PAUSE", 0.001)
    monkeypatch.setattr(log, "PAUSE", 0.001)


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path, max_log_bytes=400 * PAGE) as store:
        yield store


async def record(store: SqliteStore, pages: int) -> str:
    payload = b'"' + b"x" * pages * PAGE + b'"'
    return await store.record(Sample().event(event_id=str(uuid4()), payload=payload), NOTHING)


async def settle(store: SqliteStore) -> None:
    """Return when the writer has looked after the log, as it does after each batch."""
    for _ in range(3):
        await store.ping()


async def record_often(store: SqliteStore, ids: list[str]) -> None:
    for _ in range(100):
        ids.append(await record(store, 5))  # noqa: PERF401 - what was stored before an error counts


async def accepts_again(store: SqliteStore) -> None:
    """Return when the store takes writes again."""
    while True:
        try:
            await store.ping()
        except UnavailableError:
            await asyncio.sleep(0.001)
        else:
            break


@contextmanager
def read(path: Path) -> Iterator[None]:
    """Read the state that is there now, and go on with that."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM event").fetchone()
        yield


async def test_a_log_that_nobody_reads_stays_short(store: SqliteStore, path: Path) -> None:
    for _ in range(30):
        await record(store, 5)
    assert path.with_name("flyte.db-wal").stat().st_size < 60 * PAGE
    assert list(store.warnings()) == []


async def test_a_log_that_an_old_read_makes_long_is_reported(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await record(store, 1)
    with read(path):
        while not store.warnings():
            await record(store, 5)
        (warning,) = store.warnings()
        assert "flyte.db-wal" in warning
        assert "old state of the database is being read" in warning
        await store.ping()
    while store.warnings():
        await store.ping()
    said = [message for message in caplog.messages if "flyte.db-wal" in message]
    assert len(said) == 2
    assert "has been shortened again" in said[1]


async def test_writes_are_refused_before_the_log_fills_the_disk_and_accepted_after_the_read(
    store: SqliteStore, path: Path
) -> None:
    ids = [await record(store, 1)]
    with read(path):
        with pytest.raises(
            UnavailableError, match="all writes are refused until that read ends"
        ) as caught:
            await record_often(store, ids)
        assert "Nothing was changed" in caught.value.message
        assert path.with_name("flyte.db-wal").stat().st_size < 430 * PAGE
        with pytest.raises(UnavailableError, match="all writes are refused"):
            await store.ping()
        assert {
            found.event.event_id for found in await store.list_events(EventFilter(), 0, 100)
        } == set(ids)
    await accepts_again(store)
    ids.append(await record(store, 5))
    assert {
        found.event.event_id for found in await store.list_events(EventFilter(), 0, 100)
    } == set(ids)


async def test_a_bound_below_the_size_that_is_reported_holds_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "GROWN", 400 * PAGE)
    async with SqliteStore(path, max_log_bytes=30 * PAGE) as store:
        await record(store, 1)
        with read(path), pytest.raises(UnavailableError, match="all writes are refused"):
            await record_often(store, [])
        assert path.with_name("flyte.db-wal").stat().st_size < 60 * PAGE
        await accepts_again(store)


async def test_nothing_waits_for_a_read_that_does_not_end(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PATIENCE", 3600.0)
    monkeypatch.setattr(log, "MAX_PATIENCE", 3600.0)
    await record(store, 1)
    await settle(store)
    with read(path):
        async with asyncio.timeout(20):
            for _ in range(8):
                await record(store, 5)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM event").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
async def test_the_process_that_reads_is_named(store: SqliteStore, path: Path) -> None:
    await record(store, 1)
    reader = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"reads\n"
    while not store.warnings():
        await record(store, 5)
    assert f"process {reader.pid} (" in store.warnings()[0]
    reader.communicate()
    await store.ping()


# ----------------------------------------------------------------------------------------- the copy


async def test_a_copy_holds_what_the_database_holds_and_leaves_nothing_behind(
    store: SqliteStore, path: Path
) -> None:
    for _ in range(5):
        await record(store, 5)
    scratch = path.with_name("scratch")
    scratch.mkdir()
    assert await records_of(SqliteStore(path, scratch=scratch)) == await records_of(store)
    assert list(scratch.iterdir()) == []


async def test_who_reads_a_copy_does_not_make_the_log_grow(store: SqliteStore, path: Path) -> None:
    first = await record(store, 5)
    export = SqliteStore(path, scratch=path.parent).export()
    part = await anext(export)
    for _ in range(30):
        await record(store, 5)
    # Of the one kind that is here.
    assert [getattr(each, "event").event_id for each in part] == [first]  # noqa: B009
    assert path.with_name("flyte.db-wal").stat().st_size < 60 * PAGE
    await export.aclose()


async def test_a_read_in_place_is_given_up_when_it_makes_the_log_grow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_GROWTH", 20 * PAGE)
    monkeypatch.setattr(snapshot, "_has_room", lambda *_: False)
    async with SqliteStore(path) as store:
        await record(store, 5)
        export = SqliteStore(path, scratch=path.parent).export()
        await anext(export)
        await record(store, 120)
        with pytest.raises(StoreError, match="was given up"):
            await anext(export)
        await store.ping()


async def test_a_copy_without_room_is_not_begun(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert snapshot._has_room(connection, path.parent)
        assert not snapshot._has_room(connection, Path("/proc"))
    assert "no room for a copy" in caplog.text
