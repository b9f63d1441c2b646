"""Packs that cannot send a token, let in by their address, as the clients of their time put
their requests on the wire.
"""

import socket

import httpx2
import pytest

from tests.e2e.old_clients import GoClient, OldestGoClient, PythonClient
from tests.e2e.server import READY
from tests.e2e.test_auth import flyte
from tests.e2e.test_old_clients import EVENTS_ONLY, GO_REGISTRATION, PYTHON_REGISTRATION

pytestmark = pytest.mark.slow

FLOW = {
    "name": "f",
    "steps": [
        {
            "id": "s",
            "event": {"name": "Spont", "packName": "T"},
            "command": {"name": "Echo", "packName": "T"},
        }
    ],
}


def start(serve, tmp_path, packs, **settings):
    server = serve(FLYTE_AUTH="tokens", FLYTE_PACKS_WITHOUT_TOKEN=packs, **settings)
    url = server.read_until(READY)[1]
    return (
        server,
        url,
        {"FLYTE_API": url, "FLYTE_JWT": (tmp_path / "flyte.db.admin-token").read_text().strip()},
    )


def test_clients_of_every_year_work_without_a_token_at_their_address_and_nowhere_else(
    serve, tmp_path
):
    server, url, admin = start(serve, tmp_path, "T[env=dev,x=y=z]@127.0.0.1, Ticker@127.0.0.0/8")
    warning = (
        "WARNING .*any client with an address in 127.0.0.1/32 may work as the pack .* without a"
        " token: take its commands"
    )
    server.read_until(warning)
    bearer = {"Authorization": f"Bearer {admin['FLYTE_JWT']}"}
    assert httpx2.post(f"{url}/v1/flows", json=FLOW, headers=bearer).status_code == 201
    for make, registration in (
        (OldestGoClient, GO_REGISTRATION),
        (GoClient, GO_REGISTRATION),
        (PythonClient, PYTHON_REGISTRATION),
        (lambda root: PythonClient(root + "/"), PYTHON_REGISTRATION),
    ):
        client = make(url)
        client.start(registration)
        assert client.send("Spont", '{"a":1}').status == 202
        action = client.take()
        assert action.status == 200
        assert client.complete(action.json(), "Echoed", '{"b":2}').status == 202
        assert client.take().status == 204
    ticker = OldestGoClient(url)
    ticker.start(EVENTS_ONLY)
    assert ticker.send("Tick", "null").status == 202
    ticker.events_url = client.events_url.replace("/T.", "/U.")
    assert ticker.send("Tick", "null").status == 401
    assert httpx2.get(f"{url}/v1/packs").status_code == 401
    code, said, _ = flyte("audit", "changes", "--kind", "pack", **admin)
    assert (code, "address 127.0.0.1" in said) == (0, True)


def test_a_server_for_both_versions_of_ip_knows_an_address_of_ipv4(serve, tmp_path):
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    _, url, _ = start(serve, tmp_path, "T@127.0.0.1, U@::1", FLYTE_HOST="::")
    port = url.rpartition(":")[2].strip("/")
    for host, allowed in (("127.0.0.1", "T"), ("[::1]", "U")):
        for name in ("T", "U"):
            answer = httpx2.post(
                f"http://{host}:{port}/v1/packs", json={"name": name}, headers={"User-Agent": "Go"}
            )
            assert answer.status_code == (201 if name == allowed else 401), (
                host,
                name,
                answer.text,
            )


def test_faults_of_the_setting_stop_the_start_and_without_auth_it_is_said_to_have_no_effect(serve):
    code, _, err = serve(FLYTE_AUTH="tokens", FLYTE_PACKS_WITHOUT_TOKEN="Shell@10.1.2.3/16").end()
    assert (
        code,
        "FLYTE_PACKS_WITHOUT_TOKEN" in err,
        "did you mean 10.1.0.0/16 or 10.1.2.3?" in err,
    ) == (2, True, True)
    serve(FLYTE_PACKS_WITHOUT_TOKEN="Shell@0.0.0.0/0").read_until(
        "FLYTE_PACKS_WITHOUT_TOKEN has no effect: auth is off"
    )
