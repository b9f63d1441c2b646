"""Auth by tokens of an OpenID provider, with a server process, packs and the command line."""

import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import httpx2
import pytest

from tests.e2e.server import READY, Server
from tests.provider import Provider, serving

pytestmark = pytest.mark.slow

POLICY = dedent(
    """
    - path: /v1
      methods: [GET]
    - path: /health
    - path: /v1/packs
      claims: {groups: [packs, ops]}
    - path: /v1/packs/:pack/*
      claims: {pack: [":pack"]}
    - path: /v1/flows/*
      claims: {groups: [ops]}
    - path: /v1/flows
      claims: {groups: [ops]}
    """
)


@pytest.fixture(scope="module")
def provider():
    with serving(Provider()) as provider:
        yield provider


@pytest.fixture(scope="module")
def settings(provider, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(POLICY)
    return {
        "FLYTE_AUTH_POLICY_PATH": str(path),
        "FLYTE_OIDC_ISSUER_URL": provider.url,
        "FLYTE_OIDC_ISSUER_CLIENT_ID": "flyte",
    }


@pytest.fixture(scope="module")
def server(settings, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("auth"), LOGLEVEL="debug", **settings)
    server.url = server.read_until(READY)[1]
    server.read_until("The issuer .* has 2 keys")
    yield server
    server.process.terminate()
    server.end()


def flyte(*args, given="", **environ):
    """Run the command line, and return its exit code and output."""
    command = [sys.executable, "-m", "flyteops", *args]
    env = {
        key: value for key, value in os.environ.items() if not key.startswith("FLYTE_")
    } | environ
    done = subprocess.run(
        command, env=env, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_start_says_who_is_let_in_and_what_is_closed_to_all(server, settings):
    said = "".join(server.lines)
    assert (
        f"authorized by the policy in {settings['FLYTE_AUTH_POLICY_PATH']!r} and tokens of http"
        in said
    )
    assert "has no entry for " in said
    assert "GET /v1/datastore, PUT /v1/datastore/{key}" in said
    assert "POST /v1/packs/{packId}/events" not in said
    assert "Auth is off" not in said


def test_people_are_told_in_one_line_that_they_need_a_token_and_get_in_with_one(server, provider):
    environ = {"FLYTE_API": server.url}
    code, out, err = flyte("flows", "list", **environ)
    assert (code, out) == (1, "")
    assert err.startswith("flyte: a token is required")
    assert "FLYTE_JWT" in err
    assert err.count("\n") == 1
    code, _, err = flyte("flows", "list", FLYTE_JWT=provider.token(exp=1), **environ)
    assert (code, err) == (1, "flyte: the token is not valid: it has expired\n")
    assert flyte("flows", "list", FLYTE_JWT=provider.token(), **environ)[0] == 0


def test_a_pack_works_with_its_token_and_not_as_another(server, provider):
    bearer = {"Authorization": f"Bearer {provider.token(groups=['packs'], pack='Mine')}"}
    with httpx2.Client(base_url=server.url, headers=bearer) as client:
        assert client.get("/v1").status_code == 200
        assert client.post("/v1/packs", json={"name": "Mine"}).status_code == 201
        assert client.post("/v1/packs/Mine/events", json={"event": "E"}).status_code == 202
        assert client.post("/v1/packs/Mine/actions/take").status_code == 204
        assert client.post("/v1/packs/Other/events", json={"event": "E"}).status_code == 401
        assert client.get("/v1/flows").status_code == 401


def test_no_token_gets_into_the_log(serve, provider, settings):
    token = provider.token(groups=["other"])
    server = serve(LOGLEVEL="debug", **settings)
    url = server.read_until(READY)[1]
    httpx2.get(f"{url}/v1/flows", headers={"Authorization": f"Bearer {token}"})
    httpx2.get(f"{url}/v1/flows", headers={"Authorization": f"Bearer {token[:-9]}"})
    server.process.terminate()
    _, _, said = server.end()
    assert "DEBUG" in said
    for part in token.split("."):
        assert part[:20] not in said


def test_every_fault_of_the_policy_stops_the_start_with_its_line(serve, settings, tmp_path):
    (tmp_path / "bad.yaml").write_text("- path: v1\n- path: /v1\n  methods: [GETT]\n  claim: {}\n")
    code, _, err = serve(**settings | {"FLYTE_AUTH_POLICY_PATH": str(tmp_path / "bad.yaml")}).end()
    assert code == 2
    assert [line.partition(" (line ")[2][:1] for line in err.splitlines()[1:]] == ["1", "4", "3"]
    assert "'GETT' is not a method of HTTP; did you mean GET?" in err
    code, _, err = serve(
        **settings | {"FLYTE_AUTH_POLICY_PATH": str(tmp_path / "missing.yaml")}
    ).end()
    assert code == 2
    assert "cannot be read: No such file or directory" in err


@pytest.mark.slow
def test_a_server_whose_provider_is_away_starts_and_lets_people_in_once_it_is_back(
    serve, provider, settings
):
    provider.is_away = True
    try:
        server = serve(**settings)
        url = server.read_until(READY)[1]
        server.read_until(
            "WARNING .*The keys of the issuer cannot be fetched: .* answers 503; no token can be"
            " verified"
        )
        bearer = {"Authorization": f"Bearer {provider.token()}"}
        assert httpx2.get(f"{url}/v1").status_code == 200
        assert httpx2.get(f"{url}/v1/flows", headers=bearer).status_code == 503
        assert httpx2.get(f"{url}/v1/flows").status_code == 401
    finally:
        provider.is_away = False
    server.read_until("INFO .*The issuer .* has")
    assert httpx2.get(f"{url}/v1/flows", headers=bearer).status_code == 200


@pytest.mark.slow
def test_hup_looks_again_at_the_policy_and_the_keys(serve, provider, settings):
    server = serve(**settings)
    server.read_until_all(READY, "The issuer .* has 2 keys")
    server.process.send_signal(signal.SIGHUP)
    server.read_until_all("The new auth policy is in use", "The issuer .* has 2 keys")
    server.read_until("SIGHUP: reloaded the auth policy and the keys of the issuer")
    server.process.terminate()
    assert server.end()[0] == 0


def test_a_changed_policy_is_taken_over_and_a_bad_one_is_not(serve, provider, settings, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    server = serve(**settings | {"FLYTE_AUTH_POLICY_PATH": str(policy)})
    url = server.read_until(READY)[1]
    assert httpx2.get(f"{url}/v1/datastore").status_code == 401
    policy.write_text("- path: /v1/datastore\n  method: [GET]\n")
    server.read_until(
        "ERROR .*The new auth policy is not used: .*line 2, .* 'method' is not known; did you mean"
        " 'methods'"
    )
    assert httpx2.get(f"{url}/v1").status_code == 200
    policy.write_text("- path: /v1/datastore\n")
    server.read_until("The new auth policy is in use")
    assert httpx2.get(f"{url}/v1/datastore").status_code == 200
    assert httpx2.get(f"{url}/v1").status_code == 401


# --------------------------------------------------------------------------------- flyte auth check


def test_a_decision_is_explained_line_by_line(provider, settings):
    token = provider.token(pack="Jira", exp=int(time.time()) + 7200)
    code, out, err = flyte(
        "auth",
        "check",
        "POST",
        "/v1/packs/Slack/events",
        "--token",
        "-",
        given=token + "\n",
        **settings,
    )
    assert code == 1
    assert err == "flyte: refused, with 401: the token has none of the claims\n"
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:3] == [
        "entry /v1/packs/:pack/*, in line 7",
        'needs pack = "Slack"',
        "token RS256, key RSA",
    ]
    assert 'pack "Jira"' in lines
    assert any(line.startswith("exp 1") and line.endswith("UTC") for line in lines)
    assert lines[-2:] == [
        f"signature good, by a key of {provider.url}",
        'pack has "Jira"; wanted is "Slack"',
    ]
    assert token.rpartition(".")[2] not in out + err
    code, out, _ = flyte(
        "auth", "check", "get", "//v1/flows/x?y=z", FLYTE_JWT=provider.token(), **settings
    )
    assert (code, out.splitlines()[-1]) == (0, "let through")


@pytest.mark.parametrize(
    ("request_line", "said"),
    [
        ("GET /v1", "let through"),
        ("POST /v1", "the policy has no entry for it"),
        ("GET /v1/flows", "it has no token"),
    ],
)
def test_a_decision_without_a_token_is_explained(settings, request_line, said):
    code, out, err = flyte("auth", "check", *request_line.split(), **settings)
    assert said in out + err
    assert code == (0 if said == "let through" else 1)


def test_a_decision_can_be_looked_at_without_the_provider(provider, settings):
    offline = settings | {"FLYTE_OIDC_ISSUER_URL": "https://127.0.0.1:1"}
    token = provider.token(iss="https://127.0.0.1:1")
    code, out, _ = flyte(
        "auth", "check", "GET", "/v1/flows", "--offline", FLYTE_JWT=token, **offline
    )
    assert (code, out.splitlines()[-1]) == (0, "let through, if the issuer has signed the token")
    code, _, err = flyte("auth", "check", "GET", "/v1/flows", FLYTE_JWT=token, **offline)
    assert (code, "no token can be verified" in err.lower()) == (3, True)
    code, _, err = flyte("auth", "check", "GET", "/v1/flows", FLYTE_JWT="nonsense", **offline)
    why = "the token is not valid: it is not a JSON Web Token, which has three parts"
    assert (code, err) == (1, f"flyte: refused, with 401: {why}\n")
    code, _, err = flyte("auth", "check", "GET", "/v1/flows", FLYTE_JWT="flyte_a_b", **offline)
    assert (code, "`flyte tokens list` shows its validity" in err) == (1, True)
