"""`flyte health`: what a container engine runs every few seconds."""

import os
import socket
import subprocess
import sys

import pytest

from flyteops.cli.health import local_url
from flyteops.settings import Settings
from tests.certificate import Certificate, write_pair
from tests.e2e.server import READY


def health(*args, **environ):
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "LOG"))
    } | environ
    command = [sys.executable, "-m", "flyteops", "health", *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=20)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_server_is_asked_where_its_settings_say(serve):
    url = serve().read_until(READY)[1]
    port = url.rpartition(":")[2]
    assert health(FLYTE_PORT=port, FLYTE_HOST="0.0.0.0") == (0, f"{url} is alive\n")
    assert health("--ready", FLYTE_PORT=port) == (0, f"{url} is ready\n")
    assert health("--url", url)[0] == 0


def test_a_server_with_tls_is_asked_whoever_issued_its_certificate(serve, tmp_path):
    cert, key = write_pair(tmp_path, Certificate())
    settings = {"FLYTE_TLS_CERT_PATH": cert, "FLYTE_TLS_KEY_PATH": key}
    url = serve(**settings).read_until(READY)[1]
    assert health(**settings, FLYTE_PORT=url.rpartition(":")[2]) == (0, f"{url} is alive\n")


def test_a_server_that_is_not_there_is_not_well():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, said = health(FLYTE_PORT=str(port))
    assert code == 3
    assert f"127.0.0.1:{port} cannot be reached: " in said
    assert said.endswith("; --url selects another server\n")


@pytest.mark.slow
def test_what_listens_but_does_not_answer_is_not_well():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        code, said = health(FLYTE_PORT=str(mute.getsockname()[1]))
    assert (code, "timed out" in said) == (3, True)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Settings(), "http://127.0.0.1:8080"),
        (Settings(host="0.0.0.0", port=1234), "http://127.0.0.1:1234"),
        (Settings(host="::", tls_cert_path="a", tls_key_path="b"), "https://[::1]:8080"),
        (Settings(host="flyte.internal"), "http://flyte.internal:8080"),
    ],
)
def test_where_the_server_is_follows_from_its_settings(settings, url):
    assert local_url(settings) == url
