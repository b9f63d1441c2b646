"""Three servers on one database behind HAProxy, with the configuration that we ship."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import READY
from tests.postgres import place
from tests.support.wait import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(180)]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "postgres" / "haproxy.cfg"
SERVERS = 3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
async def servers(serve):
    async with place() as store:
        started = [serve(FLYTE_STORE=store, FLYTE_PORT=str(free_port())) for _ in range(SERVERS)]
        for server in started:
            server.url = server.read_until(READY)[1]
        yield started


@pytest.fixture
def proxy(servers):
    """The address of the proxy, when it lets requests through to all of them."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "haproxy is not installed; .ci/run installs it"
    listen = f"127.0.0.1:{free_port()}"
    environment = {"LISTEN": listen}
    environment |= {
        f"SERVER_{number}": server.url.partition("://")[2]
        for number, server in enumerate(servers, 1)
    }
    process = subprocess.Popen(
        [program, "-W", "-f", CONFIGURATION], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        with httpx2.Client(base_url=f"http://{listen}", timeout=5) as client:
            wait_until(lambda: process.poll() is not None or status_of(client) == 200)
        assert process.poll() is None, "it does not start with this configuration"
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(20)


def status_of(client):
    with contextlib.suppress(httpx2.TransportError):
        return client.get("/health/ready").status_code
    return None


class Senders:
    """Threads that send events through the proxy and count what came of it."""

    def __init__(self, url):
        self.url = url
        self.acknowledged, self.failed = [], []
        self._is_over = threading.Event()
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
        with httpx2.Client(base_url=self.url, timeout=30) as client:
            while not self._is_over.is_set():
                try:
                    answer = client.post("/v1/packs/P/events", json={"event": "E"})
                except httpx2.TransportError as error:
                    self.failed.append(error)
                    continue
                if answer.status_code == 202:
                    self.acknowledged.append(answer.headers["location"])
                else:
                    self.failed.append(answer)

    def wait_for_more(self, count=50):
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted)


def check_all(locations):
    with httpx2.Client() as client:
        assert all(client.get(location).status_code == 200 for location in locations)


def register(url, servers):
    assert httpx2.post(f"{url}/v1/packs", json={"name": "P"}).status_code == 201
    for server in servers:
        wait_until(lambda url=server.url: httpx2.get(f"{url}/v1/packs/P").status_code == 200)


def test_a_server_that_is_stopped_is_not_missed_by_anybody(servers, proxy):
    register(proxy, servers)
    with Senders(proxy) as senders:
        senders.wait_for_more()
        servers[0].process.terminate()
        assert servers[0].end()[0] == 0
        senders.wait_for_more()
    assert not senders.failed
    assert all(location.startswith(proxy) for location in senders.acknowledged)
    check_all(senders.acknowledged)


def test_a_server_that_is_killed_costs_what_it_had_in_hand_and_no_more(servers, proxy):
    register(proxy, servers)
    with Senders(proxy) as senders:
        senders.wait_for_more()
        servers[1].process.send_signal(signal.SIGKILL)
        servers[1].process.wait()
        senders.wait_for_more()
        failed = len(senders.failed)
        senders.wait_for_more()
        assert len(senders.failed) == failed <= 4
    check_all(senders.acknowledged)


def test_a_pack_may_wait_as_long_as_it_likes(servers, proxy):
    register(proxy, servers)
    began = time.monotonic()
    answer = httpx2.post(f"{proxy}/v1/packs/P/actions/take", params={"wait": 35}, timeout=60)
    assert answer.status_code == 204
    assert time.monotonic() - began > 34
