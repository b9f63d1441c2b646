"""Auth by the server's own tokens, with a server process, packs and the command line."""

import re
import shlex
import stat

import httpx2
import pytest

from tests.certificate import Certificate, write_pair
from tests.e2e.old_clients import GoClient, OldestGoClient
from tests.e2e.server import READY
from tests.e2e.test_auth import flyte
from tests.e2e.test_old_clients import GO_REGISTRATION

pytestmark = pytest.mark.slow


@pytest.fixture
def server(serve):
    server = serve(FLYTE_AUTH="tokens", LOGLEVEL="debug")
    server.url = server.read_until(READY)[1]
    return server


def test_from_the_first_start_to_a_pack_that_works_and_a_token_that_is_revoked(
    server, serve, tmp_path
):
    said = "".join(server.lines)
    file = tmp_path / "flyte.db.admin-token"
    assert f'export FLYTE_JWT="$(cat {shlex.quote(str(file))})"' in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob("*.admin-token.*")) == []
    admin = {"FLYTE_API": server.url, "FLYTE_JWT": file.read_text().strip()}

    code, ann, err = flyte("tokens", "create", "--admin", "--description", "Ann", **admin)
    assert (code, ann.count("\n")) == (0, 1)
    assert "It is not shown again" in err
    code, text, _ = flyte(
        "tokens", "create", "--pack", "Mine", "--label", "env=dev", "--expires", "90d", **admin
    )
    assert code == 0
    pack = {"FLYTE_API": server.url, "FLYTE_JWT": text.strip()}
    assert flyte("tokens", "revoke", "first", **admin) == (0, "revoked token first\n", "")
    assert flyte("tokens", "list", **admin) == (
        1,
        "",
        "flyte: the token is unknown; it may have been revoked\n",
    )
    admin["FLYTE_JWT"] = ann.strip()

    with httpx2.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {text.strip()}"}
    ) as client:
        assert (
            client.post("/v1/packs", json={"name": "Mine", "labels": {"env": "dev"}}).status_code
            == 201
        )
        assert client.post("/v1/packs/Mine.env.dev/events", json={"event": "E"}).status_code == 202
    assert flyte("flows", "list", **pack) == (
        1,
        "",
        "flyte: the token is valid, but does not allow this\n",
    )
    code, listed, _ = flyte("tokens", "list", **admin)
    assert re.search(r"^\w+ +admin +0 s ago +never +Ann$", listed, re.MULTILINE)
    found = re.search(
        r"^(\w+) +pack Mine env=dev +\d+ s ago +20\d\d-\S+ \S+$", listed, re.MULTILINE
    )

    server.process.terminate()
    code, _, said = server.end()
    assert code == 0
    assert all(
        secret.strip().split("_", 2)[2] not in said for secret in (ann, text, file.read_text())
    )

    again = serve(FLYTE_AUTH="tokens")
    admin["FLYTE_API"] = pack["FLYTE_API"] = again.read_until(READY)[1]
    assert "admin's token" not in "".join(again.lines)  # there is one, Ann's
    assert flyte("tokens", "revoke", found[1], **admin)[0] == 0
    code, _, err = flyte("packs", "show", "Mine.env.dev", **pack)
    assert (code, err) == (1, "flyte: the token is unknown; it may have been revoked\n")


def test_packs_of_2022_work_over_tls_with_a_token_and_older_ones_are_told_why_not(serve, tmp_path):
    cert, key = write_pair(tmp_path, Certificate())
    server = serve(FLYTE_AUTH="tokens", FLYTE_TLS_CERT_PATH=cert, FLYTE_TLS_KEY_PATH=key)
    url = server.read_until(READY)[1]
    admin = {
        "FLYTE_API": url,
        "FLYTE_CA_CERT_FILE": cert,
        "FLYTE_JWT": (tmp_path / "flyte.db.admin-token").read_text().strip(),
    }
    code, text, err = flyte(
        "tokens", "create", "--pack", "T", "--label", "env=dev", "--label", "x=y=z", **admin
    )
    assert (code, text[:6]) == (0, "flyte_"), err
    client = GoClient(url, text.strip())
    client.start(GO_REGISTRATION)
    assert client.take_url.startswith("https://")
    assert client.take().status == 204
    assert client.send("Spont", '{"a":1}').status == 202
    old = OldestGoClient(url)
    # What it logs, before it tries again.
    with pytest.raises(AssertionError, match="Answer\\(status=401"):
        old.start(GO_REGISTRATION)


def test_a_first_token_that_cannot_be_written_stops_the_start(serve, tmp_path):
    (tmp_path / "there").mkdir()
    code, _, err = serve(
        FLYTE_AUTH="tokens", FLYTE_ADMIN_TOKEN_PATH=str(tmp_path / "missing/token")
    ).end()
    assert code == 1
    assert "No such file or directory. Name another file in FLYTE_ADMIN_TOKEN_PATH" in err
    serve(FLYTE_AUTH="tokens", FLYTE_ADMIN_TOKEN_PATH=str(tmp_path / "there/token")).read_until(
        READY
    )
    assert (tmp_path / "there/token").read_text().startswith("flyte_first_")


def test_what_is_wanted_must_be_said(serve):
    for args in ((), ("--pack", "P", "--admin")):
        code, _, err = flyte("tokens", "create", *args)
        assert (code, "give either --pack NAME or --admin" in err) == (2, True)
    code, _, err = flyte("tokens", "create", "--pack", "P", "--label", "x")
    assert (code, "--label" in err) == (2, True)
    code, _, err = serve(FLYTE_AUTH="passwords").end()
    assert (code, "'passwords' is not known; give tokens, or leave it out" in err) == (2, True)
