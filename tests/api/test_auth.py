"""With auth: what is let through, and that nothing else is."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from textwrap import dedent
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flyteops.model import Command, EventPattern, Flow, NewEvent, PackDeclaration, Step
from flyteops.service import Service, TokenRequest
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.oidc import Issuer, OidcVerifier
from flyteops.web.auth.policyfile import read_policy
from tests.api.conftest import BASE, running
from tests.provider import PRIVATE, Provider, jwk
from tests.support.clock import Clock

POLICY = dedent(
    """
    - path: /v1
    - path: /health
    - path: /v1/flows
      methods: [GET]
      claims: {groups: [ops, dev]}
    - path: /v1/packs/:pack/*
      claims: {pack: [":pack"]}
    - path: /v1/audit/*
      claims: {superuser: [true]}
    - path: /v1/datastore/:key
      claims: {superuser: [true]}
    """
).encode()


class Stopwatch:
    """A monotonic clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    async with running(provider, http="httptools") as server:
        provider.url = f"http://127.0.0.1:{server.port}"
        yield provider


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def issuer(provider: Provider, stopwatch: Stopwatch) -> Issuer:
    return Issuer(provider.url, monotonic=stopwatch)


@pytest.fixture
def now() -> Clock:
    clock = Clock()
    clock.now = datetime.now(UTC)
    return clock


@pytest.fixture
async def api(
    service: Service, issuer: Issuer, options: Options, now: Clock
) -> AsyncIterator[httpx2.AsyncClient]:
    gate = Authenticator(
        service.tokens, read_policy(POLICY), OidcVerifier(issuer, "flyte", clock=now)
    )
    transport = httpx2.ASGITransport(create_app(service, options, gate))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


async def ask(
    api: httpx2.AsyncClient, token: str | None, path: str = "/v1/flows", method: str = "GET"
) -> httpx2.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await api.request(
        method, httpx2.URL(BASE).copy_with(raw_path=path.encode()), headers=headers
    )


async def refusal(
    api: httpx2.AsyncClient, token: str | None, path: str = "/v1/flows", method: str = "GET"
) -> str:
    """Return why a request is refused."""
    answer = await ask(api, token, path, method)
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"
    assert answer.headers["www-authenticate"].startswith('Bearer realm="flyte"')
    detail: str = answer.json()["detail"]
    return detail


# -------------------------------------------------------------------------------------- who gets in


async def test_what_needs_no_claims_needs_no_token_whatever_the_provider_does(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    provider.is_away = True
    assert (await ask(api, None, "/v1")).status_code == 200
    assert (await ask(api, "nonsense", "/health")).status_code == 200
    assert (await ask(api, None, "//v1/")).status_code == 200


async def test_a_token_with_one_of_the_claims_gets_in(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    assert (await ask(api, provider.token())).status_code == 200
    assert (await ask(api, provider.token(groups=["dev", "other"]))).status_code == 200
    answer = await ask(api, provider.token(groups=["other"]))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="flyte", error="insufficient_scope"'


async def test_a_claim_may_be_bound_to_the_path(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    token = provider.token(pack="My Pack")
    assert (await ask(api, token, "/v1/packs/My%20Pack/actions/take", "POST")).status_code == 404
    assert "does not allow this" in await refusal(
        api, token, "/v1/packs/Other/actions/take", "POST"
    )
    assert (await ask(api, provider.token(superuser=True), "/v1/audit/flows")).status_code == 200


async def test_a_result_brings_no_actions_to_a_token_that_may_not_take_them(
    service: Service, issuer: Issuer, provider: Provider, options: Options, now: Clock
) -> None:
    policy = """
    - path: /v1/packs/:pack/actions/take
      claims: {groups: [takers]}
    - path: /v1/packs/:pack/actions/:action/result
      claims: {pack: [":pack"]}
    """
    verifier = OidcVerifier(issuer, "flyte", clock=now)
    gate = Authenticator(service.tokens, read_policy(dedent(policy).encode()), verifier)
    transport = httpx2.ASGITransport(create_app(service, options, gate))
    await service.packs.register(PackDeclaration("P"))
    command = Command(pack_name="P", name="Work")
    step = Step(id="s", event=EventPattern(pack_name="P", name="E"), command=command)
    await service.flows.save(Flow("f", steps=(step,)))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        for groups, status in (([], 202), (["takers"], 200)):
            for _ in range(2):
                await service.accept_event("P", NewEvent("E", b"null"))
            (action,) = await service.take("P")
            answer = await client.post(
                f"/v1/packs/P/actions/{action.action_id}/result?take=1",
                json={"event": "Done"},
                headers={"Authorization": f"Bearer {provider.token(pack='P', groups=groups)}"},
            )
            assert answer.status_code == status


async def test_a_request_without_a_token_is_told_how_to_show_one(api: httpx2.AsyncClient) -> None:
    answer = await ask(api, None)
    assert answer.headers["www-authenticate"] == 'Bearer realm="flyte"'
    assert "FLYTE_JWT" in answer.json()["detail"]


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer ", "bearer  ", "Token x", "", "Bearer \xe4"]
)
async def test_what_is_no_bearer_token_counts_as_none(api: httpx2.AsyncClient, header: str) -> None:
    answer = await api.get("/v1/flows", headers=[(b"Authorization", header.encode("latin-1"))])
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="flyte"')


async def test_the_word_bearer_may_be_written_in_any_case(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    answer = await api.get("/v1/flows", headers={"Authorization": f"bEARER   {provider.token()}"})
    assert answer.status_code == 200


async def test_the_policy_is_asked_before_anybody_looks_what_is_there(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    for path, method in (
        ("/nowhere", "GET"),
        ("/v1/flows", "POST"),
        ("/v1/flows", "FETCH"),
        ("/v1/flows", "OPTIONS"),
        ("/", "GET"),
    ):
        assert "no entry" in await refusal(api, provider.token(), path, method)
    # Let through, and then there is no such method.
    assert (await ask(api, None, "/v1", "DELETE")).status_code == 405


SPELLINGS = (
    "//v1/flows /v1/flows/ /v1/%66lows /v1//flows /v1/./flows /v1/x/../flows /V1/flows /v1%2fflows"
    " /v1/flows;x /v1/flows?x=/v1 /v1/flows%3f /v1/packs/x/../../flows /v1/health"
    " /health/../v1/flows /health%2f..%2fv1%2fflows /v1/flows%00 /v1/flows%ff"
)


@pytest.mark.parametrize("path", SPELLINGS.split())
async def test_no_spelling_of_a_path_leads_past_the_policy(
    api: httpx2.AsyncClient, path: str
) -> None:
    assert (await ask(api, None, path)).status_code == 401


async def test_a_foreign_page_is_still_turned_away_first_and_an_allowed_one_may_ask_what_it_may_send(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {provider.token()}"}
    assert (await api.get("/v1/flows", headers=headers)).status_code == 403
    origin = {"Origin": "https://ops.example.com"}
    wish = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await api.options("/v1/flows", headers=origin | wish)
    assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (
        200,
        "authorization",
    )
    answer = await api.get("/v1/flows", headers=origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
        401,
        "https://ops.example.com",
    )


async def test_the_body_of_a_refused_request_is_not_read(api: httpx2.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    assert (await api.post("/v1/flows", content=body())).status_code == 401


async def test_tokens_of_our_own_work_besides_whatever_the_policy_says(
    api: httpx2.AsyncClient, service: Service, provider: Provider
) -> None:
    provider.is_away = True
    _, admin = await service.tokens.create(TokenRequest(is_admin=True))
    _, pack = await service.tokens.create(TokenRequest(pack_name="Mine"))
    # About which the policy has no entry.
    assert (await ask(api, admin, "/v1/datastore")).status_code == 200
    assert (await ask(api, admin, "/v1/flows")).status_code == 200
    assert (await ask(api, pack, "/v1/packs/Mine/actions/take", "POST")).status_code == 404
    assert "does not allow this" in await refusal(api, pack, "/v1/flows")
    assert "does not allow this" in await refusal(api, pack, "/v1/packs/Other/actions/take", "POST")
    assert "token is unknown" in await refusal(api, admin[:-1])
    assert (await ask(api, admin[:-1], "/v1")).status_code == 200


# -------------------------------------------------------------------------------- whose token it is


ALGORITHMS = [("RSA", f"{kind}{size}") for kind in ("RS", "PS") for size in (256, 384, 512)]
ALGORITHMS += [
    ("ES256", "ES256"),
    ("ES384", "ES384"),
    ("ES512", "ES512"),
    ("EdDSA", "EdDSA"),
    ("Ed448", "EdDSA"),
]


@pytest.mark.parametrize(("key", "algorithm"), ALGORITHMS)
async def test_every_algorithm_with_two_keys_is_understood(
    api: httpx2.AsyncClient, provider: Provider, key: str, algorithm: str
) -> None:
    provider.keys = [jwk("RSA2"), jwk(key)]
    assert (await ask(api, provider.token(key, algorithm))).status_code == 200
    forged = provider.token(key, algorithm)[:-6] + "AAAAAA"
    assert "none of the issuer's keys" in await refusal(api, forged)


async def test_a_token_without_key_id_is_valid_if_any_key_has_signed_it(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    provider.keys = [jwk("RSA2"), jwk("ES256"), jwk("RSA", kid=None)]
    for key in ("RSA", "ES256"):
        assert (await ask(api, provider.token(key, headers={"kid": None}))).status_code == 200
    assert (await ask(api, provider.token("RSA", headers={"kid": "whatever"}))).status_code == 200
    assert "none of the issuer's keys" in await refusal(
        api, provider.token("ES384", headers={"kid": None})
    )
    assert "none of the issuer's keys" in await refusal(
        api, provider.token("ES256", headers={"kid": "RSA2"})
    )


async def test_a_key_is_found_by_its_id_however_many_there_are_and_the_log_names_those_that_are_left_out(
    api: httpx2.AsyncClient, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    many = [jwk("EdDSA", kid=f"k{number}") for number in range(998)]
    provider.keys = [
        {"kty": "unknown", "kid": "no key"},
        *many,
        jwk("Ed448"),
        jwk("RSA"),
        jwk("RSA2"),
        jwk("ES256", kid=None),
    ]
    assert (await ask(api, provider.token("RSA"))).status_code == 200
    assert (await ask(api, provider.token("EdDSA", headers={"kid": "k997"}))).status_code == 200
    assert "none of the issuer's keys" in await refusal(api, provider.token("RSA2"))
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "publishes 1002 keys; only the first 1000 are used" in record.message
    assert record.message.endswith("refused: RSA2, None")


async def test_a_token_without_key_id_is_tried_with_few_of_many_keys_and_is_told_so(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    provider.keys = [
        jwk("RSA"),
        *(jwk("EdDSA", kid=f"k{number}") for number in range(64)),
        jwk("Ed448"),
        jwk("ES256"),
    ]
    for key in ("RSA", "EdDSA", "ES256"):
        assert (await ask(api, provider.token(key, headers={"kid": None}))).status_code == 200
    assert (await ask(api, provider.token("Ed448"))).status_code == 200
    assert "it should name its key (kid)" in await refusal(
        api, provider.token("Ed448", headers={"kid": None})
    )


def unsigned(provider: Provider, header: dict[str, Any]) -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in (header, provider.claims())
    )
    return ".".join((*parts, ""))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, ["RS256"], 1, "HS256"])
async def test_a_token_that_nobody_has_signed_is_refused(
    api: httpx2.AsyncClient, provider: Provider, algorithm: Any
) -> None:
    for header in ({"alg": algorithm}, {"alg": algorithm, "kid": "RSA"}):
        assert "none of the issuer's keys" in await refusal(api, unsigned(provider, header))


async def test_a_public_key_is_no_secret(api: httpx2.AsyncClient, provider: Provider) -> None:
    public = PRIVATE["RSA"].public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk("RSA")).encode(),
        jwk("RSA")["n"].encode(),
    ]
    for secret in secrets:
        signer = jwt.api_jws.PyJWS()
        # The attacker's library does not mind.
        signer._algorithms["HS256"].prepare_key = lambda key: key
        token = signer.encode(
            json.dumps(provider.claims()).encode(), secret, "HS256", {"kid": "RSA"}
        )
        assert "none of the issuer's keys" in await refusal(api, token)


async def test_a_symmetric_key_in_the_key_set_is_not_used(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    provider.keys = [
        {"kty": "oct", "kid": "x", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")},
        jwk("RSA"),
    ]
    token = jwt.encode(provider.claims(), secret, "HS256", {"kid": "x"})
    assert "none of the issuer's keys" in await refusal(api, token)


async def test_a_key_that_a_token_brings_along_is_not_trusted(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    for more in (
        {"jwk": jwk("RSA2")},
        {"jku": "http://evil.example/keys"},
        {"x5u": "http://evil.example"},
        {"crit": ["x"], "x": 1},
    ):
        key = "RSA" if "crit" in more else "RSA2"
        assert "none of the issuer's keys" in await refusal(
            api, provider.token(key, headers={"kid": "RSA", **more})
        )


async def test_a_key_is_used_only_for_what_it_is_for(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    for more in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}):
        provider.keys = [jwk("RSA", **more), jwk("ES256")]
        issuer = Issuer(provider.url)
        with pytest.raises(Exception, match="none of the issuer's keys"):
            await OidcVerifier(issuer, "flyte").verify(provider.token("RSA", "RS256"))


async def test_keys_that_are_weak_or_nonsense_are_left_out(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    published = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(weak.public_key())) | {
        "kid": "weak",
        "key_ops": ["verify"],
    }
    strange = [
        {},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-256", "x": "", "y": ""},
        "text",
        None,
        {"kty": ["RSA"]},
        {"kty": "X"},
    ]
    provider.keys = [published, *strange, jwk("ES256")]
    assert (await ask(api, provider.token("ES256"))).status_code == 200
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = jwt.encode(provider.claims(), weak, "RS256", {"kid": "weak"})
    assert "none of the issuer's keys" in await refusal(api, token)


# ------------------------------------------------------------------------------- for whom, and when


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "http://evil.example"}, "from another issuer"),
        ({"iss": None}, "from another issuer"),
        ({"aud": "other"}, "for another audience"),
        ({"aud": None}, "for another audience"),
        ({"aud": ["other", "flytes"]}, "for another audience"),
        ({"aud": {"flyte": 1}}, "for another audience"),
        ({"exp": None}, "has no expiry"),
        ({"exp": int(time.time()) - 120}, "has expired"),
        ({"exp": "2099-01-01"}, "its exp is not a time"),
        ({"exp": True}, "its exp is not a time"),
        ({"nbf": int(time.time()) + 600}, "not valid yet"),
        ({"nbf": "x"}, "its nbf is not a time"),
    ],
)
async def test_a_token_for_others_or_other_times_is_refused(
    api: httpx2.AsyncClient, provider: Provider, claims: dict[str, Any], reason: str
) -> None:
    assert reason in await refusal(
        api,
        jwt.api_jws.encode(json.dumps(provider.claims(**claims)).encode(), PRIVATE["RSA"], "RS256"),
    )


@pytest.mark.parametrize(
    "claims",
    [{"aud": ["other", "flyte"]}, {"exp": 4e9}, {"exp": 10**18}, {"iat": "x", "sub": 7, "jti": 3}],
)
async def test_what_does_not_matter_about_a_token_does_not_matter(
    api: httpx2.AsyncClient, provider: Provider, claims: dict[str, Any]
) -> None:
    token = jwt.api_jws.encode(
        json.dumps(provider.claims(**claims)).encode(), PRIVATE["RSA"], "RS256"
    )
    assert (await ask(api, token)).status_code == 200


async def test_a_token_is_valid_until_its_end_with_a_minute_for_clocks_that_differ(
    api: httpx2.AsyncClient, provider: Provider, now: Clock
) -> None:
    token = provider.token()
    assert (await ask(api, token)).status_code == 200
    now.move(timedelta(seconds=350))
    assert (await ask(api, token)).status_code == 200
    now.move(timedelta(seconds=20))
    # Although it is remembered that its signature is good.
    assert "has expired" in await refusal(api, token)


DEEP = base64.urlsafe_b64encode(b"[" * 9000).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b",
        "a.b.c",
        "..",
        "e30.e30.",
        "W10.W10.x",
        "a" * 20_000,
        f"e30.{DEEP}.x",
        "\x7f.\x7f.\x7f",
    ],
)
async def test_what_is_no_token_is_refused(api: httpx2.AsyncClient, token: str) -> None:
    answer = await ask(api, token)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="flyte", error="invalid_token"',
    )


# ----------------------------------------------------------------------------- where keys come from


async def test_new_keys_are_found_when_a_token_shows_one_and_old_ones_are_forgotten(
    api: httpx2.AsyncClient, provider: Provider, stopwatch: Stopwatch
) -> None:
    old = provider.token("RSA")
    assert (await ask(api, old)).status_code == 200
    provider.keys = [jwk("RSA2")]
    stopwatch.now += 11
    assert (await ask(api, provider.token("RSA2"))).status_code == 200
    assert "none of the issuer's keys" in await refusal(api, old)


async def test_unknown_keys_do_not_make_us_ask_again_and_again(
    api: httpx2.AsyncClient, provider: Provider, stopwatch: Stopwatch
) -> None:
    for number in range(5):
        await refusal(api, provider.token("RSA2", headers={"kid": f"unknown-{number}"}))
    assert provider.asked == 1
    stopwatch.now += 11
    await asyncio.gather(
        *(
            refusal(api, provider.token("RSA2", headers={"kid": f"other-{number}"}))
            for number in range(5)
        )
    )
    assert provider.asked == 2


async def test_the_keys_that_are_known_stay_in_use_while_the_provider_is_away(
    api: httpx2.AsyncClient,
    provider: Provider,
    stopwatch: Stopwatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert (await ask(api, provider.token())).status_code == 200
    provider.is_away = True
    stopwatch.now += 11
    assert "none of the issuer's keys" in await refusal(api, provider.token("RSA2"))
    assert (await ask(api, provider.token())).status_code == 200
    assert "answers 503; the keys known so far stay in use" in caplog.text


async def test_as_long_as_no_keys_are_known_nobody_can_tell_and_that_is_said(
    api: httpx2.AsyncClient, provider: Provider, stopwatch: Stopwatch
) -> None:
    provider.is_away = True
    answer = await ask(api, provider.token())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "answers 503" in answer.json()["detail"]
    assert "issuer" in answer.json()["title"]
    await refusal(api, None)
    provider.is_away = False
    assert (await ask(api, provider.token())).status_code == 503
    stopwatch.now += 11
    assert (await ask(api, provider.token())).status_code == 200


async def test_others_do_not_wait_while_the_provider_takes_its_time(
    api: httpx2.AsyncClient, provider: Provider, stopwatch: Stopwatch
) -> None:
    assert (await ask(api, provider.token())).status_code == 200
    stopwatch.now += 11
    arrived, go_on = asyncio.Event(), asyncio.Event()
    answer = provider.__class__.__call__

    async def slow(self: Provider, *arguments: Any) -> None:
        arrived.set()
        await go_on.wait()
        await answer(self, *arguments)

    provider.__class__ = type("Slow", (Provider,), {"__call__": slow})
    waiting = asyncio.create_task(ask(api, provider.token("RSA2", headers={"kid": "new"})))
    await arrived.wait()
    assert (await ask(api, provider.token())).status_code == 200
    assert not waiting.done()
    provider.keys.append(jwk("RSA2", kid="new"))
    go_on.set()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    ("discovery", "fault"),
    [
        (
            {"issuer": "http://other"},
            "calls itself 'http://other'; FLYTE_OIDC_ISSUER_URL must be exactly that",
        ),
        ({"jwks_uri": "file:///etc/passwd"}, "which is less secure than the issuer"),
        ({"jwks_uri": 7}, "unexpected response; is this an OpenID provider?"),
        ({"jwks_uri": "http://127.0.0.1:1/"}, "http://127.0.0.1:1/: "),
        ({"padding": "x" * 2_000_000}, "answers with more than"),
    ],
)
async def test_a_provider_that_is_not_what_it_should_be_is_told_in_one_line(
    issuer: Issuer,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    discovery: dict[str, Any],
    fault: str,
) -> None:
    provider.discovery = discovery
    await issuer.look_again()
    assert fault in issuer.fault
    assert issuer.keys is None
    assert fault in caplog.text


async def test_a_provider_without_usable_keys_is_none(issuer: Issuer, provider: Provider) -> None:
    provider.keys = []
    await issuer.look_again()
    assert "has no key that signatures can be verified with" in issuer.fault


async def test_who_changed_something_is_kept_by_the_subject_of_the_token(
    api: httpx2.AsyncClient, provider: Provider
) -> None:
    token = provider.token(
        superuser=True, sub="248289", email="ann@example.com", name=["no", "text"]
    )
    headers = {"Authorization": f"Bearer {token}"}
    assert (
        await api.put("/v1/datastore/k", files={"value": b"v"}, headers=headers)
    ).status_code == 201
    (entry,) = (await api.get("/v1/audit/changes", headers=headers)).json()["changes"]
    assert entry["who"] == {"kind": "oidc", "id": "248289", "name": "ann@example.com"}
    assert token not in str(entry)
