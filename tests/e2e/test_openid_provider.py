"""Auth with the tokens of a real OpenID provider, whose address is in FLYTE_TEST_OIDC (see
`.ci/oidc`).
"""

import os

import httpx2
import pytest

from flyteops.sdk import Environment
from flyteops.sdk.client import Client
from tests.e2e.server import READY
from tests.e2e.test_auth import POLICY, flyte

pytestmark = pytest.mark.servers


@pytest.fixture
def provider():
    url = os.environ.get("FLYTE_TEST_OIDC")
    assert url, "FLYTE_TEST_OIDC is not set: .ci/oidc start FOLDER prints it"
    return url


@pytest.fixture
def token(provider):
    def token(client):
        answer = httpx2.post(
            f"{provider}/token", auth=(client, "secret"), data={"grant_type": "client_credentials"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    return token


@pytest.fixture
def settings(provider, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    path = str(tmp_path / "policy.yaml")
    return {
        "FLYTE_AUTH_POLICY_PATH": path,
        "FLYTE_OIDC_ISSUER_URL": provider,
        "FLYTE_OIDC_ISSUER_CLIENT_ID": "flyte",
    }


async def test_people_and_packs_get_in_with_their_tokens_and_others_do_not(serve, settings, token):
    server = serve(**settings)
    url = server.read_until(READY)[1]
    for algorithm in ("RS256", "ES256", "EdDSA"):
        person, stranger = token(f"person-ops-{algorithm}"), token(f"stranger-none-{algorithm}")
        assert (
            httpx2.get(f"{url}/v1/flows", headers={"Authorization": f"Bearer {person}"}).status_code
            == 200
        )
        assert (
            httpx2.get(
                f"{url}/v1/flows", headers={"Authorization": f"Bearer {stranger}"}
            ).status_code
            == 401
        )
        assert (
            httpx2.get(
                f"{url}/v1/flows", headers={"Authorization": f"Bearer {person[:-8]}AAAAAAAA"}
            ).status_code
            == 401
        )
        environ = {"FLYTE_API": url, "FLYTE_JWT": token(f"pack-packs-{algorithm}")}
        async with Client.of(Environment.read(environ)) as client:
            registration = await client.register(b'{"name": "Mine"}')
            await client.send(registration, b'{"event": "E"}')
            assert await client.take(registration) == []


def test_a_decision_about_a_real_token_is_explained(settings, token, provider):
    code, out, _ = flyte(
        "auth", "check", "GET", "/v1/flows", FLYTE_JWT=token("person-ops-ES256"), **settings
    )
    assert code == 0
    assert "good, by a key of " + provider in out
