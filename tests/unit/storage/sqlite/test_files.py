# ruff: noqa: ASYNC240 - a test may block its loop for a file
"""The files of a SQLite database while a server works with it: locked by whatever name, watched,
and private.
"""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from flyteops.errors import StoreError, UnavailableError
from flyteops.storage import store_faults
from flyteops.storage.query import EventFilter
from flyteops.storage.sqlite import SqliteStore, guard, log
from flyteops.storage.sqlite.store import OTHER
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample


@pytest.fixture(autouse=True)
def early_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "CHECKPOINT_FRAMES", 20)


@pytest.fixture(autouse=True)
def close_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at all of the files each time, not ten times a second."""
    monkeypatch.setattr(guard, "LOOK_EVERY", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "flyte.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path) as store:
        yield store


async def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        await SqliteStore(path).open()
    return caught.value.message


async def record(store: SqliteStore, count: int = 1, size: int = 0) -> list[str]:
    """Store events; return their ids."""
    sample = Sample()
    payload = b'"' + b"x" * size + b'"'
    events = [sample.event(event_id=str(uuid4()), payload=payload) for _ in range(count)]
    return await asyncio.gather(*(store.record(event, NOTHING) for event in events))


async def checkpoint(store: SqliteStore) -> None:
    """Have so much in the log that the writer copies it into the database."""
    before = store._lock.descriptor, os.fstat(store._lock.descriptor).st_mtime_ns
    await record(store, 2, log.CHECKPOINT_FRAMES * 4096)
    await store._write(OTHER, lambda _: None)
    assert os.fstat(before[0]).st_mtime_ns > before[1]


async def ids_in(path: Path) -> set[str]:
    async with SqliteStore(path) as store:
        return {found.event.event_id for found in await store.list_events(EventFilter(), 0, 1000)}


async def refuses_all(store: SqliteStore) -> str:
    """Return why the store refuses all work, after it was seen that it does."""
    reasons = set()
    for ask in (
        lambda: store.record(Sample().event(), NOTHING),
        lambda: store.claim(WORKER, NOON),
        lambda: store.list_events(EventFilter(), 0, 10),
        store.list_packs,
        store.ping,
    ):
        with pytest.raises(UnavailableError) as caught:
            await ask()
        reasons.add(caught.value.message)
    (reason,) = reasons
    return reason


# ----------------------------------------------------------------------------- one server at a time


def by_symbolic_link(path: Path) -> Path:
    path.with_name("link.db").symlink_to(path)
    return path.with_name("link.db")


def by_hard_link(path: Path) -> Path:
    path.with_name("hard.db").hardlink_to(path)
    return path.with_name("hard.db")


def by_linked_directory(path: Path) -> Path:
    (path.parent.parent / "elsewhere").symlink_to(path.parent)
    return path.parent.parent / "elsewhere" / path.name


def by_a_roundabout_path(path: Path) -> Path:
    return path.parent / ".." / "data" / path.name


def without_lock_file(path: Path) -> Path:
    path.with_name(f"{path.name}.lock").unlink()
    return path


NAMES = [
    by_symbolic_link,
    by_hard_link,
    by_linked_directory,
    by_a_roundabout_path,
    without_lock_file,
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_second_server_is_refused_whatever_name_it_uses(
    store: SqliteStore, path: Path, name: Callable[[Path], Path]
) -> None:
    assert "only one server may use it" in await refusal(name(path))
    await store.ping()


LOCKS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
try:
    connection.execute("PRAGMA journal_mode = DELETE")
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [by_hard_link, without_lock_file])
async def test_a_refused_server_leaves_the_locks_of_sqlite_to_the_first(
    store: SqliteStore, path: Path, name: Callable[[Path], Path]
) -> None:
    await refusal(name(path))
    said = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", LOCKS, str(path)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "database is locked\n"


async def test_the_next_server_may_use_another_name(path: Path) -> None:
    async with SqliteStore(path) as store:
        ids = await record(store)
    for name in (by_symbolic_link(path), by_hard_link(path), path):
        assert await ids_in(name) == set(ids)


# ----------------------------------------------------------------------------- removed and replaced


def removed(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("old.db"))


def replaced_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("new.db"))
    path.with_name("new.db").rename(path)


def replaced_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_its_directory_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))


def with_its_directory_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def without_its_log(path: Path) -> None:
    path.with_name("flyte.db-wal").unlink()


def without_the_index_of_its_log(path: Path) -> None:
    path.with_name("flyte.db-shm").unlink()


def with_another_log(path: Path) -> None:
    shutil.copy(path.with_name("flyte.db-wal"), path.with_name("copy"))
    path.with_name("copy").rename(path.with_name("flyte.db-wal"))


GONE = [
    removed,
    renamed,
    replaced_by_a_copy,
    replaced_by_a_directory,
    with_its_directory_renamed,
    with_its_directory_removed,
    without_its_log,
    without_the_index_of_its_log,
    with_another_log,
]


@pytest.mark.parametrize("harm", GONE)
async def test_a_store_whose_file_is_gone_or_replaced_refuses_all_work_at_once(
    store: SqliteStore, path: Path, harm: Callable[[Path], None]
) -> None:
    await record(store)
    harm(path)
    reason = await refuses_all(store)
    assert "flyte.db" in reason
    assert "while the server ran" in reason


@pytest.mark.parametrize("harm", [removed, renamed, replaced_by_a_copy, with_its_directory_renamed])
async def test_nothing_is_acknowledged_between_two_looks(
    path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY", 3600.0)
    async with SqliteStore(path) as store:
        await record(store)
        harm(path)
        with pytest.raises(UnavailableError, match="while the server ran"):
            await record(store)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def with_another_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def with_zeros_at_its_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))


def with_another_database_copied_over_it(path: Path) -> None:
    shutil.copyfile(path.parent.parent / "other.db", path)


def with_text_copied_over_it(path: Path) -> None:
    path.write_text("Dear diary")


OVERWRITTEN = [
    emptied,
    cut_off,
    with_another_header,
    with_zeros_at_its_beginning,
    with_another_database_copied_over_it,
    with_text_copied_over_it,
]


@pytest.mark.parametrize("is_copied", [False, True], ids=["in the log", "in the file"])
@pytest.mark.parametrize("harm", OVERWRITTEN)
async def test_a_store_whose_file_is_overwritten_refuses_all_work_at_once(
    store: SqliteStore, path: Path, harm: Callable[[Path], None], is_copied: bool
) -> None:
    async with SqliteStore(path.parent.parent / "other.db") as other:
        await record(other)
    await record(store)
    if is_copied:
        await checkpoint(store)
    harm(path)
    assert "was overwritten while the server ran" in await refuses_all(store)


async def test_an_older_copy_of_the_same_database_is_noticed_when_it_is_copied_over_it(
    store: SqliteStore, path: Path
) -> None:
    await checkpoint(store)
    shutil.copyfile(path, path.with_name("copy"))
    await checkpoint(store)
    shutil.copyfile(path.with_name("copy"), path)
    assert "was overwritten" in await refuses_all(store)


async def test_what_was_copied_over_a_database_stays_as_it_is_when_the_server_stops(
    path: Path,
) -> None:
    async with SqliteStore(path) as store:
        await checkpoint(store)
        await checkpoint(store)
    content = path.read_bytes()
    async with SqliteStore(path) as store:
        await record(store, 10)
        path.write_bytes(content)
        await refuses_all(store)
    assert path.read_bytes() == content


async def test_a_file_that_is_put_back_is_worked_with_again(store: SqliteStore, path: Path) -> None:
    ids = await record(store)
    path.rename(path.with_name("old.db"))
    await refuses_all(store)
    path.with_name("old.db").rename(path)
    await store.ping()
    ids += await record(store)
    await store.close()
    assert await ids_in(path) == set(ids)


@pytest.mark.parametrize(
    "harm", [renamed, replaced_by_a_copy, without_its_log, without_the_index_of_its_log]
)
async def test_what_was_acknowledged_is_in_the_file_that_the_server_had_opened(
    path: Path, harm: Callable[[Path], None]
) -> None:
    path.with_name("keep.db").touch()
    async with SqliteStore(path) as store:
        ids = await record(store, 10)
        path.with_name("keep.db").unlink()
        path.with_name("keep.db").hardlink_to(path)
        harm(path)
        await refuses_all(store)
        content = sqlite3.connect(f"file:{path.with_name('keep.db')}?immutable=1", uri=True)
        assert {event_id for (event_id,) in content.execute("SELECT event_id FROM event")} == set(
            ids
        )
        content.close()


async def test_the_next_server_works_with_the_file_that_took_the_place_of_the_other(
    path: Path,
) -> None:
    async with SqliteStore(path.with_name("other.db")) as store:
        others = await record(store, 5)
    async with SqliteStore(path) as store:
        await record(store, 30)
        path.with_name("other.db").rename(path)
        await refuses_all(store)
    assert await ids_in(path) == set(others)


async def test_a_link_that_leads_to_another_file_by_now_is_noticed(path: Path) -> None:
    link = by_symbolic_link(path)
    async with SqliteStore(path.with_name("other.db")):
        pass
    async with SqliteStore(link) as store:
        link.unlink()
        link.symlink_to(path.with_name("other.db"))
        assert "another file than the one that the server opened" in await refuses_all(store)


async def test_checkpoints_of_other_programs_and_of_ours_are_no_harm(
    store: SqliteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    for size in (100, 200_000, 100, 300_000):
        await record(store, 3, size)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await record(store)
        await store.ping()
    other.close()
    await checkpoint(store)
    await store.ping()


def log_of(path: Path) -> Path:
    return path.with_name("flyte.db-wal")


def with_its_log_emptied(path: Path) -> None:
    os.truncate(log_of(path), 0)


def with_its_log_cut_off(path: Path) -> None:
    os.truncate(log_of(path), 3000)  # within the first page


def with_zeros_in_its_log(path: Path) -> None:
    size = log_of(path).stat().st_size
    with log_of(path).open("r+b") as file:
        file.write(bytes(size))


def with_an_older_log_copied_over_it(path: Path) -> None:
    shutil.copyfile(path.with_name("copy"), log_of(path))


LOGS = [
    with_its_log_emptied,
    with_its_log_cut_off,
    with_zeros_in_its_log,
    with_an_older_log_copied_over_it,
]


@pytest.mark.parametrize("harm", LOGS)
async def test_a_log_that_is_overwritten_or_cut_off_stops_all_work_and_is_not_copied(
    path: Path, harm: Callable[[Path], None]
) -> None:
    async with SqliteStore(path) as store:
        copied = await record(store)
        shutil.copyfile(log_of(path), path.with_name("copy"))
        await checkpoint(store)
        await record(store, 10)
        harm(path)
        assert "and with it the latest changes" in await refuses_all(store)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    assert set(copied) <= await ids_in(path)
    content = sqlite3.connect(path)
    assert content.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    content.close()


@pytest.mark.parametrize("harm", LOGS)
async def test_a_log_is_looked_at_before_it_is_copied_into_the_database(
    path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY", 3600.0)
    async with SqliteStore(path) as store:
        await record(store)
        shutil.copyfile(log_of(path), path.with_name("copy"))
        await checkpoint(store)
        await record(store, 10)
        harm(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    content = sqlite3.connect(path)
    assert content.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    content.close()


# ------------------------------------------------------------------------------------------ damaged


async def test_damage_that_is_found_while_the_server_runs_stops_it_from_writing(path: Path) -> None:
    async with SqliteStore(path) as store:
        await record(store, 300, 2000)
    with path.open("r+b") as file:
        for offset in range(4096 * 60, path.stat().st_size - 4096, 4096):
            file.seek(offset)
            file.write(b"\xa5" * 4096)
    async with SqliteStore(path) as store:
        with pytest.raises(UnavailableError, match="damaged"):
            await store.list_events(EventFilter(), 0, 1000)
        assert ".recover" in await refuses_all(store)


# ------------------------------------------------------------------------------------------ private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


FILES = ("flyte.db", "flyte.db-wal", "flyte.db-shm", "flyte.db.lock")


async def test_only_its_owner_may_read_a_database(path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with SqliteStore(path) as store:
            await record(store)
            assert [oct(mode_of(path.with_name(name))) for name in FILES] == ["0o600"] * 4
    finally:
        os.umask(before)


async def test_a_database_that_all_could_read_is_made_private(path: Path) -> None:
    async with SqliteStore(path) as store:
        await record(store)
        for name in FILES:
            path.with_name(name).chmod(0o644)
            shutil.copy(path.with_name(name), path.parent.parent / name)
    moved = path.parent.parent / "flyte.db"
    async with SqliteStore(moved):
        assert [oct(mode_of(moved.with_name(name))) for name in FILES] == ["0o600"] * 4


@pytest.mark.parametrize("mode", [0o644, 0o666])
async def test_a_database_that_was_closed_in_order_is_made_private_with_its_log(
    path: Path, mode: int
) -> None:
    async with SqliteStore(path) as store:
        await record(store)
    assert not path.with_name("flyte.db-wal").exists()
    path.chmod(mode)
    async with SqliteStore(path) as store:
        await record(store)
        assert [oct(mode_of(path.with_name(name))) for name in FILES] == ["0o600"] * 4


async def test_the_rights_of_a_group_stay_and_are_reported(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.touch()
    path.chmod(0o640)
    async with SqliteStore(path):
        assert mode_of(path) == mode_of(path.with_name("flyte.db-wal")) == 0o640
    assert "group" in caplog.text


def test_a_path_in_a_missing_directory_is_refused_and_a_relative_one_with_a_hint() -> None:
    assert list(store_faults("sqlite:////nope/nope/flyte.db")) == [
        "cannot be created: there is no directory '/nope'"
    ]
    assert list(store_faults("sqlite:///nope/nope/flyte.db")) == [
        "cannot be created: there is no directory 'nope'; an absolute path has four slashes"
    ]
