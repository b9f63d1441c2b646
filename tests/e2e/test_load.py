"""A server process under constant load: what must stay small does, and its end loses nothing
that it has answered.
"""

import http.client
import json
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import start_server

MIB = 1024 * 1024
STEP = {
    "id": "a",
    "event": {"packName": "P", "name": "E"},
    "command": {"packName": "P", "name": "C"},
}
EVENT = json.dumps({"event": "E", "payload": "x" * 20_000}).encode()
LISTS = (
    "/v1/audit/flows?limit=200",
    "/v1/audit/events?limit=200",
    "/v1/actions?limit=200",
    "/v1/audit/flows?stepId=a&limit=50",
)


MAX_LOG = 12 * MIB
WRITERS, CYCLES = 4, 150
assert WRITERS * CYCLES * 2 * len(EVENT) > 1.5 * MAX_LOG  # event and result of each

GRACE = 10
"""How many seconds a server takes to stop at most."""


class Client:
    """A keep-alive connection that costs little."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, method, path, body=None):
        """Return status, Location and body of the answer."""
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.headers["location"], answer.read()


def prepare(url):
    with Client(url) as client:
        assert client.ask("POST", "/v1/packs", json.dumps({"name": "P"}))[0] == 201
        assert client.ask("POST", "/v1/flows", json.dumps({"name": "f", "steps": [STEP]}))[0] == 201


def cycle(client):
    """Send an event, take an action and hand in its result; return where the first and the last
    can be asked for.
    """
    status, event, _ = client.ask("POST", "/v1/packs/P/events", EVENT)
    assert status == 202
    yield event
    status, _, body = client.ask("POST", "/v1/packs/P/actions/take")
    if status == 200:
        result = json.loads(body)["links"][0]["href"]
        assert client.ask("POST", result, EVENT)[0] == 202
        yield result


@contextmanager
def running(folder):
    """Run a server; it has to end well when it is told to, in time."""
    process, url = start_server(folder)
    try:
        yield url
        began = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - began < GRACE
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def in_threads(*work):
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_the_write_ahead_log_stays_small_however_much_is_read_meanwhile(tmp_path):
    log, sizes, over = tmp_path / "flyte.db-wal", [], threading.Event()

    def write(url):
        with Client(url) as client:
            for _ in range(CYCLES):
                list(cycle(client))
                sizes.append(log.stat().st_size)

    def read(url, path):
        with Client(url) as client:
            while not over.is_set():
                assert client.ask("GET", path)[0] == 200

    with running(tmp_path) as url:
        prepare(url)
        readers = in_threads(*[partial(read, url, path) for path in LISTS])
        for thread in in_threads(*[partial(write, url)] * WRITERS):
            thread.join()
        over.set()
        for thread in readers:
            thread.join()
    assert len(sizes) == WRITERS * CYCLES
    assert max(sizes) < MAX_LOG


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_server_that_is_told_to_stop_under_load_loses_nothing_that_it_has_answered(tmp_path):
    events, results = [], []

    def work(url):
        # Until the server is gone.
        with Client(url) as client, suppress(OSError, http.client.HTTPException):
            while True:
                for path in cycle(client):
                    (events if "/events/" in path else results).append(path)

    with running(tmp_path) as url:
        prepare(url)
        threads = in_threads(*[partial(work, url)] * 8)
        while len(results) < 100:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    with running(tmp_path) as url, Client(url) as client:
        assert {client.ask("GET", urlsplit(path).path)[0] for path in events} == {200}
        assert {path.split("/")[-2] for path in results} <= set(finished(client))


def finished(client):
    """Yield the ids of all actions that have ended."""
    start, page = 0, [None]
    while page:
        page = json.loads(
            client.ask("GET", f"/v1/actions?state=SUCCESS&limit=1000&start={start}")[2]
        )["actions"]
        start += len(page)
        yield from (action["id"] for action in page)
