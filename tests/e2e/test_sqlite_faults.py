"""A server whose database file, disk or lock is taken away while it runs: what it answers is
true, and so is its readiness.
"""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from tests.e2e.conftest import start_server
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

FLYTE = [sys.executable, "-m", "flyteops"]


@pytest.fixture
def server(tmp_path):
    process, url = start_server(tmp_path)
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    yield process, url
    process.terminate()
    process.wait(20)
    process.stdout.close()


def send(url, size=10):
    """Send an event that cannot be compressed."""
    return httpx2.post(
        f"{url}/v1/packs/P/events", json={"event": "E", "payload": os.urandom(size // 2).hex()}
    )


def readiness(url):
    answer = httpx2.get(f"{url}/health/ready")
    return (
        answer.status_code,
        " ".join(answer.json().get("reasons", [])),
        answer.json().get("warnings", []),
    )


def events_in(path):
    connection = sqlite3.connect(path)
    found = {event_id for (event_id,) in connection.execute("SELECT event_id FROM event")}
    connection.close()
    return found


class Senders:
    """Threads that send events.

    They keep the ids of those that were acknowledged, the time when the last of these was sent, and
    all status codes.
    """

    def __init__(self, url):
        self.url, self.ids, self.codes, self.last_accepted_at = url, [], set(), 0.0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.ids) > 50)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        with httpx2.Client(base_url=self.url) as client:
            while not self._is_over.is_set():
                sent_at = time.monotonic()
                answer = client.post(
                    "/v1/packs/P/events", json={"event": "E", "payload": "x" * 500}
                )
                self.codes.add(answer.status_code)
                if answer.status_code == 202:
                    self.ids.append(answer.headers["location"].rpartition("/")[2])
                    self.last_accepted_at = max(self.last_accepted_at, sent_at)


def removed(path):
    path.unlink()


def renamed(path):
    path.rename(path.with_name("old.db"))


def replaced(path):
    shutil.copy(path, path.with_name("new.db"))
    path.with_name("new.db").rename(path)


def without_log(path):
    path.with_name("flyte.db-wal").unlink()


@pytest.mark.parametrize("harm", [removed, renamed, replaced, without_log])
def test_a_server_under_load_refuses_all_once_its_file_is_gone(tmp_path, server, harm):
    _, url = server
    path = tmp_path / "flyte.db"
    path.with_name("keep.db").hardlink_to(path)
    with Senders(url) as senders:
        harm(path)
        wait_until(lambda: readiness(url)[0] == 503)
        gone_at = time.monotonic()
        time.sleep(0.5)
    assert senders.last_accepted_at < gone_at
    assert senders.codes == {202, 503}
    code, reason, _ = readiness(url)
    assert code == 503
    assert "while the server ran" in reason
    assert set(senders.ids) <= events_in(path.with_name("keep.db"))


def test_a_server_is_killed_after_its_log_was_removed_and_nothing_is_lost(tmp_path):
    process, url = start_server(tmp_path)
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    with Senders(url) as senders:
        (tmp_path / "flyte.db-wal").unlink()
        wait_until(lambda: readiness(url)[0] == 503)
    process.kill()
    process.wait()
    process.stdout.close()
    assert set(senders.ids) <= events_in(tmp_path / "flyte.db")


def test_readiness_says_that_the_disk_is_full_until_there_is_room(tmp_path, server):
    process, url = server
    ids = []
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    while (answer := send(url, 4000)).status_code == 202:
        ids.append(answer.headers["location"].rpartition("/")[2])
    assert answer.status_code == 503
    assert "nothing was changed" in answer.json()["detail"]
    for _ in range(5):
        assert readiness(url)[0] == 503
    assert httpx2.get(f"{url}/v1/audit/events").status_code == 200
    resource.prlimit(
        process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert readiness(url)[0] == 200
    answer = send(url, 4000)
    assert answer.status_code == 202
    ids.append(answer.headers["location"].rpartition("/")[2])
    assert events_in(tmp_path / "flyte.db") == set(ids)


def test_a_second_server_is_refused_by_another_name_of_the_file(tmp_path, server):
    _, url = server
    (tmp_path / "hard.db").hardlink_to(tmp_path / "flyte.db")
    (tmp_path / "link.db").symlink_to("flyte.db")
    (tmp_path / "flyte.db.lock").unlink()
    for name in ("hard.db", "link.db", "flyte.db"):
        command = [*FLYTE, "serve", "--store", f"sqlite:///{name}", "--port", "0"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode != 0
        assert "only one server may use it" in done.stderr
        assert "Traceback" not in done.stderr
    assert send(url).status_code == 202


def test_writes_go_on_while_a_backup_is_stopped(tmp_path, server):
    """A backup reads from a copy; stopped behind that, it holds nobody up and leaves the log
    short.
    """
    _, url = server
    for _ in range(20):
        assert send(url, 100_000).status_code == 202
    # Nobody reads any further: the backup stands still as soon as it is full.
    reader, writer = os.pipe()
    backup = subprocess.Popen(
        [*FLYTE, "backup", "-", "--store", "sqlite:///flyte.db"], cwd=tmp_path, stdout=writer
    )
    os.close(writer)
    read = 0
    while read < 20_000:  # the first line may come before the copy is made
        read += len(os.read(reader, 20_000))
    os.kill(backup.pid, signal.SIGSTOP)
    try:
        for _ in range(40):
            assert send(url, 800_000).status_code == 202
        assert (tmp_path / "flyte.db-wal").stat().st_size < 20 * 2**20
        assert readiness(url)[0] == 200
        assert readiness(url)[2] == []
    finally:
        os.close(reader)
        backup.kill()
        backup.wait()
