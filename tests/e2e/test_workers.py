"""`flyte serve --workers N`: several server processes on one port."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import READY
from tests.postgres import URL, place
from tests.support.wait import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(180)]

AT_WORK = r"worker \(process (\d+)\) is ready with"


@pytest.fixture
async def store():
    async with place() as url:
        yield url


def start(serve, store, count=3, **environ):
    """Start workers; return the parent, its URL and the processes of the workers."""
    parent = serve("--workers", str(count), FLYTE_STORE=store, **environ)
    workers = [int(parent.read_until(AT_WORK)[1]) for _ in range(count)]
    url = READY.search("".join(parent.lines))[1]
    return parent, url, workers


def sockets(process):
    """Return what tells the sockets apart that a process has open."""
    inodes = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    return inodes


def ask(connection, verb):
    connection.sendall(f"POST /v1/packs/P/actions/{verb} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection.recv(10_000)


def is_there(process):
    return Path(f"/proc/{process}").exists()


def test_every_worker_gets_its_part_of_the_connections(serve, store):
    parent, url, workers = start(serve, store)
    assert len({parent.process.pid, *workers}) == 4
    before = {worker: sockets(worker) for worker in workers}
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(httpx2.Client(base_url=url))
            assert client.get("/health").status_code == 200
        assert all(sockets(worker) - before[worker] for worker in workers)


def test_a_worker_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(serve, store):
    parent, url, workers = start(serve, store)
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    acknowledged, is_over = [], threading.Event()

    def send():
        with httpx2.Client(base_url=url) as client:
            while not is_over.is_set():
                with contextlib.suppress(httpx2.TransportError):
                    answer = client.post("/v1/packs/P/events", json={"event": "E"})
                    # The others learn of the pack within a second.
                    assert answer.status_code in (202, 404), answer.text
                    if answer.status_code == 202:
                        acknowledged.append(answer.headers["location"])

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) > 50)
    os.kill(workers[0], signal.SIGKILL)
    parent.read_until(rf"worker \(process {workers[0]}\) exited by SIGKILL; restarting in 0.5 s")
    successor = int(parent.read_until(AT_WORK)[1])
    assert successor not in workers
    os.kill(successor, signal.SIGKILL)
    parent.read_until(rf"worker \(process {successor}\) exited by SIGKILL; restarting in 1 s")
    parent.read_until(AT_WORK)
    is_over.set()
    for thread in threads:
        thread.join()
    with httpx2.Client() as client:
        assert all(client.get(location).status_code == 200 for location in acknowledged)
    parent.process.terminate()
    assert parent.end()[0] == 0


def test_told_to_stop_all_of_them_end_in_time(serve, store):
    parent, url, workers = start(serve, store)
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        # Its worker knows the pack now.
        wait_until(lambda: ask(connection, "take").startswith(b"HTTP/1.1 204 "))
        connection.sendall(b"POST /v1/packs/P/actions/take?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        parent.process.terminate()
        # Empty if it was told before it had read that.
        assert connection.recv(10_000)[:13] in (b"HTTP/1.1 204 ", b"")
        code, _, err = parent.end()
    assert code == 0
    assert time.monotonic() - began < 15
    assert err.rstrip().endswith("stopped, with all workers")
    assert not any(is_there(worker) for worker in workers)


def test_workers_end_when_their_parent_is_killed(serve, store):
    parent, _, workers = start(serve, store, count=2)
    parent.process.kill()
    wait_until(lambda: not any(is_there(worker) for worker in workers))


def test_what_keeps_servers_from_starting_is_said_once(serve):
    missing = f"{URL.rpartition('/')[0]}/nothing"
    code, _, err = serve("--workers", "3", FLYTE_STORE=missing).end()
    assert code == 1
    assert err.count("flyte: ") == 1
    assert "nothing" in err


def test_the_port_of_others_is_not_shared_with_them(serve, store):
    _, url, _ = start(serve, store, count=2)
    port = url.rpartition(":")[2]
    for count in ("1", "2"):
        code, _, err = serve("--workers", count, "--port", port, FLYTE_STORE=store).end()
        assert (code, f"port {port} of 127.0.0.1 is in use by another program" in err) == (1, True)


def replacement(parent, worker):
    """Return the process that replaces a worker, once the parent has noticed that it must be
    replaced.
    """
    parent.read_until(rf"worker \(process {worker}\) has not responded for 10 s; killing it")
    parent.read_until(rf"worker \(process {worker}\) exited by SIGKILL; restarting")
    return int(parent.read_until(AT_WORK)[1])


def test_a_worker_that_is_frozen_is_noticed_and_replaced(serve, store):
    parent, url, workers = start(serve, store, count=2)
    began = time.monotonic()
    os.kill(workers[1], signal.SIGSTOP)
    assert replacement(parent, workers[1]) not in workers
    assert time.monotonic() - began < 30
    assert is_there(workers[0])
    assert all(httpx2.get(f"{url}/health/ready").status_code == 200 for _ in range(20))
    parent.process.terminate()
    assert parent.end()[0] == 0


def test_a_parent_that_was_frozen_itself_kills_no_worker(serve, store):
    parent, _, workers = start(serve, store, count=2)
    parent.process.send_signal(signal.SIGSTOP)
    time.sleep(12)
    parent.process.send_signal(signal.SIGCONT)
    time.sleep(2)
    assert all(is_there(worker) for worker in workers)
    parent.process.terminate()
    code, _, err = parent.end()
    assert (code, "killed" in err) == (0, False)


def test_signals_reach_the_workers_and_end_none(serve, store, tmp_path):
    log = tmp_path / "flyte.log"
    parent = serve("--workers", "2", FLYTE_STORE=store, LOGFILE=str(log))
    wait_until(lambda: log.exists() and len(re.findall(AT_WORK, log.read_text())) == 2)
    workers = [int(found) for found in re.findall(AT_WORK, log.read_text())]
    log.rename(tmp_path / "flyte.log.1")
    parent.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: log.exists() and log.read_text().count("The log file was reopened") == 3)
    parent.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: (
            log.read_text().count("SIGHUP: no TLS certificate, auth policy or issuer to reload")
            == 2
        )
    )
    parent.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "SIGUSR2 has no meaning here" in log.read_text())
    assert all(is_there(worker) for worker in workers)
    parent.process.terminate()
    assert parent.end()[0] == 0
    assert "stopped, with all workers" in log.read_text()
