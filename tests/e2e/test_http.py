"""The HTTP side of a server process: what only its own event loop, its sockets and its limits
show.
"""

import resource
import socket
import ssl
import time

import httpx2
import pytest

from tests.certificate import Certificate, write_pair
from tests.e2e.conftest import start_server
from tests.e2e.server import READY

pytestmark = pytest.mark.slow

EVENT = (
    b"POST /v1/packs/P/events HTTP/1.1\r\nHost: localhost\r\nContent-Length:"
    b' 13\r\n\r\n{"event":"E"}'
)


def connect(url):
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    client.settimeout(10)
    return client


def everything(client):
    """Return what the server sends until it hangs up."""
    received = b""
    while more := client.recv(65_536):
        received += more
    return received


def test_a_client_that_closes_its_sending_side_is_answered(server):
    httpx2.post(f"{server}/v1/packs", json={"name": "P"})
    for _ in range(10):
        with connect(server) as client:
            client.sendall(EVENT)
            client.shutdown(socket.SHUT_WR)
            assert everything(client).startswith(b"HTTP/1.1 202 ")
    assert len(httpx2.get(f"{server}/v1/audit/events").json()["events"]) == 10


def test_a_refusal_arrives_although_the_body_is_still_being_sent(server):
    for path, size, status in (("/v1/packs", 12_000_000, 413), ("/nowhere", 5_000_000, 404)):
        with connect(server) as client:
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length:"
                f" {size}\r\n\r\n".encode()
            )
            client.sendall(b"x" * size)
            assert everything(client).startswith(b"HTTP/1.1 %d " % status)


def test_more_clients_than_open_files_allow_are_told_so_and_the_server_recovers(tmp_path):
    limit = 160
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1000), hard))
    process, url = start_server(tmp_path)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    clients = [connect(url) for _ in range(limit + 50)]
    time.sleep(2.5)  # the server looks every second
    for client in clients:
        client.close()
    warnings = httpx2.get(f"{url}/health/ready").json()["warnings"]
    assert any("open files" in warning for warning in warnings)
    process.terminate()
    said = process.stdout.read()
    process.stdout.close()
    assert process.wait(20) == 0
    assert 1 <= said.count("open files") <= 3
    assert "Traceback" not in said


def test_half_a_tls_handshake_is_given_up(serve, tmp_path):
    cert, key = write_pair(tmp_path, Certificate())
    server = serve(FLYTE_TLS_CERT_PATH=cert, FLYTE_TLS_KEY_PATH=key)
    url = server.read_until(READY)[1]
    with connect(url) as client:
        client.settimeout(20)
        client.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        assert client.recv(100) == b""
        assert time.monotonic() - began < 15
    context = ssl.create_default_context(cafile=cert)
    assert httpx2.get(f"{url}/health/live", verify=context).status_code == 200
