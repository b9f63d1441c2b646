"""TLS with real certificates and real clients."""

import http.client
import re
import signal
import socket
import ssl
import time

import httpx2
import pytest

from flyteops.sdk import Environment
from flyteops.sdk.client import Client
from tests.certificate import Certificate, write_pair
from tests.e2e.server import READY, Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root():
    return Certificate("Our root", is_ca=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def trusting(root, folder):
    """The file with the root that clients trust."""
    (folder / "root.pem").write_bytes(root.pem)
    return str(folder / "root.pem")


@pytest.fixture(scope="module")
def server(root, folder):
    cert, key = write_pair(folder, Certificate(issuer=root))
    server = Server(folder, FLYTE_TLS_CERT_PATH=cert, FLYTE_TLS_KEY_PATH=key)
    server.url = server.read_until(READY)[1]
    server.port = int(server.url.rpartition(":")[2])
    yield server
    server.process.terminate()
    code, _, said = server.end()
    assert code == 0
    assert "Traceback" not in said


def test_links_lead_back_over_tls(server, trusting):
    assert server.url.startswith("https://")
    links = httpx2.get(
        f"{server.url}/v1", verify=ssl.create_default_context(cafile=trusting)
    ).json()["links"]
    assert links[0]["href"] == f"{server.url}/v1"


def test_a_client_that_speaks_http_1_1_only_works_with_or_without_a_name(server, trusting):
    context = ssl.create_default_context(cafile=trusting)
    for host in ("127.0.0.1", "localhost"):
        connection = http.client.HTTPSConnection(host, server.port, context=context)
        for _ in range(2):  # on one connection, as old clients do
            connection.request(
                "POST",
                "/v1/packs",
                b'{"name":"Old","events":null}',
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            assert (answer.status, answer.version, answer.read()[:9]) == (201, 11, b'{"id":"Ol')
        connection.close()


@pytest.mark.parametrize(
    ("version", "works"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_tls_1_2_is_the_least(server, trusting, version, works):
    context = ssl.create_default_context(cafile=trusting)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        if not works:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="localhost")
            return
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"


def test_a_client_without_tls_is_turned_away_and_the_others_go_on(server, trusting):
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)
    assert (
        httpx2.get(
            f"{server.url}/v1", verify=ssl.create_default_context(cafile=trusting)
        ).status_code
        == 200
    )


async def test_packs_and_the_command_line_trust_what_they_are_told_to(server, trusting):
    environ = {"FLYTE_API": server.url, "FLYTE_CA_CERT_FILE": trusting}
    async with Client.of(Environment.read(environ)) as client:
        assert await client.link("pack/listPacks") == f"{server.url}/v1/packs"


@pytest.mark.slow
def test_a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not(
    server, root, trusting, folder
):
    context = ssl.create_default_context(cafile=trusting)

    def shown():
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            connection = context.wrap_socket(plain, server_hostname="localhost")
            subject = connection.getpeercert()["subject"]
            connection.close()
        return subject[0][0][1]

    with httpx2.Client(verify=context) as kept:
        assert kept.get(f"{server.url}/v1").status_code == 200
        assert shown() == "localhost"
        write_pair(folder, Certificate("renewed", issuer=root))
        server.read_until("New connections get the new TLS certificate")
        assert shown() == "renewed"
        write_pair(folder, Certificate("wrong", issuer=root), key=root)
        server.read_until(
            "ERROR .*The new TLS certificate is not used: FLYTE_TLS_KEY_PATH: .* is not the key of"
        )
        assert shown() == "renewed"
        write_pair(folder, Certificate("ending", issuer=root, ends=5))
        server.read_until("WARNING .*ends in [45] days")
        assert shown() == "ending"
        assert kept.get(f"{server.url}/v1").status_code == 200


def test_every_fault_of_the_pair_stops_the_start(serve, tmp_path):
    cert, key = write_pair(tmp_path, Certificate(ends=0, begins=-2), key=Certificate())
    code, _, err = serve("--tls-cert-path", cert, "--tls-key-path", key).end()
    assert code == 2
    assert "  --tls-cert-path: " in err
    assert "has expired" in err
    assert "  --tls-key-path: " in err
    code, _, err = serve("--tls-cert-path", cert).end()
    assert code == 2
    assert "FLYTE_TLS_KEY_PATH: is not set, but --tls-cert-path is" in err


def test_hup_loads_the_certificate_again_and_says_so(serve, root, tmp_path):
    cert, key = write_pair(tmp_path, Certificate(issuer=root))
    server = serve(FLYTE_TLS_CERT_PATH=cert, FLYTE_TLS_KEY_PATH=key)
    url = server.read_until(READY)[1]
    write_pair(tmp_path, Certificate(issuer=root))
    server.process.send_signal(signal.SIGHUP)
    server.read_until("New connections get the new TLS certificate")
    server.read_until("SIGHUP: reloaded the TLS certificate")
    (tmp_path / "root.pem").write_bytes(root.pem)
    assert (
        httpx2.get(
            f"{url}/health", verify=ssl.create_default_context(cafile=tmp_path / "root.pem")
        ).status_code
        == 200
    )
    server.process.terminate()
    assert server.end()[0] == 0


def test_idle_clients_do_not_delay_the_stop_and_an_answer_under_way_arrives(
    serve, root, trusting, tmp_path
):
    cert, key = write_pair(tmp_path, Certificate(issuer=root))
    server = serve(FLYTE_TLS_CERT_PATH=cert, FLYTE_TLS_KEY_PATH=key)
    port = int(server.read_until(READY)[1].rpartition(":")[2])
    context = ssl.create_default_context(cafile=trusting)

    def connect():
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
        )

    silent = socket.create_connection(("127.0.0.1", port))  # never begins the handshake
    idle, used, reading = connect(), connect(), connect()
    used.sendall(b"GET /v1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert used.recv(1) == b"H"
    reading.sendall(b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += reading.recv(1)
    began = time.monotonic()
    server.process.terminate()
    server.read_until("stopping: requests in progress")
    length = int(re.search(rb"content-length: ([0-9]+)", head.lower())[1])
    got = 0
    while got < length:
        chunk = reading.recv(65536)
        assert chunk, f"only {got} of {length} bytes arrived"
        got += len(chunk)
    assert server.process.wait(20) == 0
    took = time.monotonic() - began
    for client in (silent, idle, used, reading):
        client.close()
    assert took < 4
