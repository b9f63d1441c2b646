"""Real processes for end-to-end tests: a server on a free port and a fresh database."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.e2e.server import Server


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let processes take SIGINT, which a shell ignores for what it runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start_server(folder, **environment):
    """Start a server and return its process and URL; it picks a free port and says so."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("FLYTE_")}
    env |= {
        "FLYTE_STORE": f"sqlite:///{folder}/flyte.db",
        "FLYTE_PORT": "0",
        "LOGLEVEL": "info",
    } | environment
    process = subprocess.Popen(
        [sys.executable, "-m", "flyteops", "serve"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, found[0]
    raise AssertionError("the server did not start:\n" + "".join(lines))


@pytest.fixture
def server(tmp_path):
    """The URL of a server process of this test's own."""
    process, url = start_server(tmp_path)
    yield url
    process.terminate()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*args, **environ):
        servers.append(Server(tmp_path, *args, **environ))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()
