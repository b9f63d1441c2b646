"""`flyte backup`, `restore` and `move` as processes, beside servers that run."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading

import httpx2
import pytest

from flyteops.storage.query import EventFilter
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing.sample import Sample, creating
from flyteops.testing.transfer import records_of
from tests.e2e.conftest import start_server
from tests.postgres import place

pytestmark = pytest.mark.slow

FLYTE = [sys.executable, "-m", "flyteops"]


def flyte(folder, *args, **streams):
    env = {key: value for key, value in os.environ.items() if not key.startswith("FLYTE_")}
    return subprocess.run(
        [*FLYTE, *args],
        cwd=folder,
        env=env,
        capture_output=True,
        timeout=120,
        check=False,
        **streams,
    )


def said(done):
    """Return exit code and what was said to people."""
    return done.returncode, done.stderr.decode()


def start_on_terminal(folder, *args):
    """Start a command whose messages go to a terminal; return the process and the terminal's
    other end.
    """
    parent, child = pty.openpty()
    process = subprocess.Popen([*FLYTE, *args], cwd=folder, stderr=child, stdout=subprocess.DEVNULL)
    os.close(child)
    return process, parent


async def fill(path, count):
    sample = Sample()
    async with SqliteStore(path) as store:
        await asyncio.gather(
            *(store.record(sample.event(), creating(sample.action())) for _ in range(count))
        )


async def content(path):
    return await records_of(SqliteStore(path))


class Senders:
    """Threads that send events to a server for as long as they are let, and remember what was
    acknowledged.
    """

    def __init__(self, url):
        self.url = url
        self.acknowledged = []
        self._is_over = threading.Event()
        self._has_many = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        with httpx2.Client(base_url=self.url) as client:
            while not self._is_over.is_set():
                answer = client.post(
                    "/v1/packs/P/events", json={"event": "E", "payload": {"text": "x" * 500}}
                )
                assert answer.status_code == 202
                self.acknowledged.append(answer.headers["location"].rpartition("/")[2])
                if len(self.acknowledged) >= 300:
                    self._has_many.set()

    def wait_for_many(self):
        assert self._has_many.wait(30)


async def test_a_backup_of_a_server_under_load_holds_all_that_was_acknowledged_before(tmp_path):
    process, url = start_server(tmp_path)
    step = {
        "id": "a",
        "event": {"name": "E", "packName": "P"},
        "command": {"name": "C", "packName": "P"},
    }
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    assert httpx2.post(f"{url}/v1/flows", json={"name": "f", "steps": [step]}).status_code == 201
    with Senders(url) as senders:
        senders.wait_for_many()
        before = list(senders.acknowledged)
        saved = flyte(tmp_path, "backup", "flyte.backup", "--store", "sqlite:///flyte.db")
        assert saved.returncode == 0, saved
    assert len(senders.acknowledged) > len(before), "nothing was sent meanwhile"
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
    assert flyte(tmp_path, "restore", "flyte.backup", "--to", "sqlite:///new.db").returncode == 0
    async with SqliteStore(tmp_path / "new.db") as store:
        records = await store.list_events(EventFilter(), 0, 100_000)
        assert set(before) <= {record.event.event_id for record in records}
        for record in records:  # each came with what followed from it
            (decision,) = record.decisions
            assert (await store.get_action(decision.action_id)).trigger == record.event


async def test_a_backup_goes_through_a_pipe(tmp_path):
    await fill(tmp_path / "flyte.db", 10)
    saved = flyte(tmp_path, "backup", "-")
    assert "saved sqlite:///flyte.db: 10 events, 10 actions" in saved.stderr.decode()
    restored = flyte(tmp_path, "restore", "-", "--to", "sqlite:///new.db", input=saved.stdout)
    assert "restored to sqlite:///new.db: 10 events, 10 actions" in restored.stdout.decode()
    assert await content(tmp_path / "new.db") == await content(tmp_path / "flyte.db")


async def test_a_backup_takes_the_place_of_the_last_one_only_when_it_is_whole(tmp_path):
    await fill(tmp_path / "flyte.db", 1)
    assert flyte(tmp_path, "backup", "kept").returncode == 0
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    (tmp_path / "notes.db").write_text("These are my notes, and no database at all. " * 30)
    before = (tmp_path / "kept").read_bytes()
    code, message = said(flyte(tmp_path, "backup", "kept", "--store", "sqlite:///notes.db"))
    assert code == 1
    assert "is not a Flyte database" in message
    assert (tmp_path / "kept").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if "kept" in path.name) == ["kept"]


async def test_what_cannot_be_written_or_read_is_one_clear_line(tmp_path):
    await fill(tmp_path / "flyte.db", 1)
    assert said(flyte(tmp_path, "backup", "/dev/full")) == (
        1,
        "flyte: '/dev/full' cannot be written: No space left on device\n",
    )
    code, message = said(flyte(tmp_path, "backup", "missing/file"))
    assert (code, message) == (
        1,
        "flyte: 'missing/file' cannot be written: No such file or directory\n",
    )
    code, message = said(flyte(tmp_path, "restore", "missing", "--to", "sqlite:///new.db"))
    assert (code, message) == (1, "flyte: 'missing' cannot be read: No such file or directory\n")
    code, message = said(flyte(tmp_path, "backup", "file", "--store", "sqlite:///missing.db"))
    assert code == 2
    assert "--store: 'sqlite:///missing.db' does not exist" in message
    assert not (tmp_path / "missing.db").exists()


async def test_a_move_that_was_killed_is_gone_on_with(tmp_path):
    await fill(tmp_path / "old.db", 3000)
    command = ["move", "--from", "sqlite:///old.db", "--to", "sqlite:///new.db"]
    process, terminal = start_on_terminal(tmp_path, *command)
    shown = b""
    while b"loading" not in shown:
        shown += os.read(terminal, 1000)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    os.close(terminal)
    code, message = said(flyte(tmp_path, "serve", "--store", "sqlite:///new.db", "--port", "0"))
    assert (code, "only partly loaded" in message) == (1, True)
    code, message = said(flyte(tmp_path, "backup", "half", "--store", "sqlite:///new.db"))
    assert (code, "in part only" in message) == (1, True)
    moved = flyte(tmp_path, *command)
    assert "moved to sqlite:///new.db: 3,000 events, 3,000 actions" in moved.stdout.decode()
    assert await content(tmp_path / "new.db") == await content(tmp_path / "old.db")


async def test_what_a_server_uses_is_not_moved(tmp_path, server):
    code, message = said(
        flyte(tmp_path, "move", "--from", "sqlite:///flyte.db", "--to", "sqlite:///new.db")
    )
    assert code == 1
    assert "in use by process" in message
    assert not (tmp_path / "new.db").exists()


async def test_what_is_not_empty_is_not_moved_to(tmp_path):
    await fill(tmp_path / "old.db", 1)
    await fill(tmp_path / "new.db", 2)
    before = await content(tmp_path / "new.db")
    code, message = said(
        flyte(tmp_path, "move", "--from", "sqlite:///old.db", "--to", "sqlite:///new.db")
    )
    assert (code, message) == (
        1,
        "flyte: the store is not empty; name one that is, or does not exist yet\n",
    )
    assert await content(tmp_path / "new.db") == before


def test_a_move_needs_two_stores(tmp_path):
    code, message = said(flyte(tmp_path, "move", "--from", "redis://x", "--to", "sqlite:///"))
    assert code == 2
    assert "--from: 'redis://x' is not a store" in message
    (tmp_path / "a.db").touch()
    code, message = said(
        flyte(tmp_path, "move", "--from", "sqlite:///a.db", "--to", "sqlite:///a.db")
    )
    assert (code, "name the same store" in message) == (2, True)


@pytest.mark.postgres
async def test_everything_moves_to_postgresql_and_back(tmp_path):
    await fill(tmp_path / "old.db", 1200)
    async with place() as url:
        assert flyte(tmp_path, "move", "--from", "sqlite:///old.db", "--to", url).returncode == 0
        assert flyte(tmp_path, "backup", "flyte.backup", "--store", url).returncode == 0
        assert flyte(tmp_path, "move", "--from", url, "--to", "sqlite:///new.db").returncode == 0
    assert (
        flyte(tmp_path, "restore", "flyte.backup", "--to", "sqlite:///restored.db").returncode == 0
    )
    for name in ("new.db", "restored.db"):
        assert await content(tmp_path / name) == await content(tmp_path / "old.db")
