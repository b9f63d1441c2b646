"""Packs that need no token at their address: what they may do, and what nobody else may."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from flyteops.network import parse_pack_networks
from flyteops.service import Service, TokenRequest
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.guest import TrustedPacks
from flyteops.web.auth.policy import Policy, PolicyEntry
from flyteops.web.auth.tokens import OWN_POLICY
from tests.api.conftest import BASE

PACKS = "Shell@10.1.0.0/16, Ticker[env=dev]@10.1.2.3, Ldap[*]@fd00::/8, Shell@10.9.0.0/16"

Ask = Callable[..., httpx2.AsyncClient]


@pytest.fixture
def ask(service: Service, options: Options) -> Ask:
    """Return a client that is at an address; without one, an admin."""

    def ask(
        address: str | None = None, policy: Policy = OWN_POLICY, packs: str = PACKS, **headers: str
    ) -> httpx2.AsyncClient:
        guests = TrustedPacks(parse_pack_networks(packs), service.packs.get)
        app = create_app(
            service,
            options,
            Authenticator(service.tokens, policy, guests=guests) if address else None,
        )
        transport = httpx2.ASGITransport(app, client=(address or "127.0.0.1", 1))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.AsyncClient(
            transport=transport, base_url=BASE, headers={"User-Agent": "Go-http-client/1.1"} | named
        )

    return ask


async def register(client: httpx2.AsyncClient, name: str, **more: Any) -> int:
    body = {
        "name": name,
        "events": None,
        "links": [{"href": "http://help/", "rel": "help"}],
        **more,
    }
    return (await client.post("/v1/packs", json=body)).status_code


async def test_an_old_pack_works_from_its_registration_to_its_results(ask: Ask) -> None:
    step = {
        "event": {"name": "E", "packName": "Shell"},
        "command": {"name": "Shell", "packName": "Shell", "timeout": "1m"},
    }
    async with ask() as admin, ask("10.1.7.7") as pack:
        assert (
            await admin.post("/v1/flows", json={"name": "f", "steps": [step]})
        ).status_code == 201
        assert (await pack.get("/v1", headers={"Accept": "application/json"})).status_code == 200
        answer = await pack.post("/v1/packs", json={"name": "Shell", "events": None, "links": []})
        assert answer.status_code == 201
        links = (await pack.get(answer.headers["location"])).json()["links"]
        take, event = [
            next(link["href"] for link in links if link["rel"].endswith(rel))
            for rel in ("takeAction", "event")
        ]
        assert (await pack.post(event, json={"event": "E", "payload": None})).status_code == 202
        action = await pack.post(take, content=b"null")
        assert action.status_code == 200
        result, heartbeat = [link["href"] for link in action.json()["links"]]
        assert (await pack.post(heartbeat)).status_code == 200
        assert (await pack.post(result, json={"event": "Output", "payload": {}})).status_code == 202
        assert (await pack.post(take, content=b"null")).status_code == 204


async def test_a_pack_reads_what_it_declares_if_every_pack_may(ask: Ask) -> None:
    async with ask() as admin, ask("10.1.7.7") as pack:
        for key in ("chatops", "teams"):
            await admin.put(
                f"/v1/datastore/{key}", files={"value": (None, b"{}", "application/json")}
            )
        assert await register(pack, "Shell", items=["chatops", "teams"]) == 201
        assert (await pack.get("/v1/packs/Shell/datastore/chatops")).status_code == 200
        assert (await pack.get("/v1/packs/Shell/datastore/teams")).status_code == 401


async def test_a_pack_does_nothing_else(ask: Ask) -> None:
    async with ask() as admin, ask("10.1.7.7") as pack:
        await register(admin, "Other")
        await register(pack, "Shell")
        own, other = "/v1/packs/Shell", "/v1/packs/Other"
        for method, path in (
            ("DELETE", own),
            ("GET", other),
            ("POST", f"{other}/events"),
            ("POST", f"{other}/actions/take"),
            ("POST", f"{other}/actions/1/result"),
            ("GET", "/v1/packs"),
            ("GET", "/v1/flows"),
            ("POST", "/v1/flows"),
            ("GET", "/v1/tokens"),
            ("POST", "/v1/tokens"),
            ("GET", "/v1/datastore"),
            ("GET", "/v1/datastore/chatops"),
            ("PUT", f"{own}/datastore/chatops"),
            ("GET", "/v1/audit/events"),
            ("GET", "/v1/actions"),
            ("GET", "/x"),
            ("POST", "/v1/packs/Shell%2f..%2fOther/events"),
            ("POST", "/v1/packs/shell/events"),
            ("POST", "/v1/packs/Shell.env.dev/events"),
            ("POST", "/v1/packs//events"),
        ):
            assert (await pack.request(method, path, json={})).status_code == 401, (method, path)


@pytest.mark.parametrize(
    ("address", "name", "labels", "status"),
    [
        ("10.1.7.7", "Shell", {}, 201),
        ("10.9.0.1", "Shell", {}, 201),  # the same pack in another network
        ("10.1.7.7", "Shell", {"env": "prod"}, 401),
        ("10.1.7.7", "shell", {}, 401),
        ("10.1.7.7", "Slack", {}, 401),
        ("10.1.7.7", "Ticker", {"env": "dev"}, 401),
        ("10.1.2.3", "Ticker", {"env": "dev"}, 201),
        ("10.1.2.3", "Ticker.env.dev", {}, 401),
        ("10.1.2.3", "Ticker", {}, 401),
        ("10.1.2.3", "Shell", {}, 201),  # two packs at one address
        ("fd00::7", "Ldap", {"a": "b"}, 201),
        ("fd00::7", "Shell", {}, 401),
        ("::ffff:10.1.7.7", "Shell", {}, 201),
        ("::10.1.7.7", "Shell", {}, 401),
        ("10.2.0.1", "Shell", {}, 401),
        ("192.168.0.1", "Shell", {}, 401),
        ("", "Shell", {}, 401),
        ("/run/flyte.sock", "Shell", {}, 401),
    ],
)
async def test_a_pack_registers_as_what_is_admitted_at_its_address(
    ask: Ask, address: str, name: str, labels: dict[str, str], status: int
) -> None:
    async with ask(address or "-") as pack:
        assert await register(pack, name, labels=labels) == status


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "10.1.7.7"},
        {"Forwarded": "for=10.1.7.7"},
        {"Via": "1.1 proxy"},
        {"X_Real_IP": "10.1.7.7"},
        {"X_Forwarded_Host": "flyte.example.com"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic QTpC"},
        {"Accept_Language": "en"},
        {"Referer": "http://evil.example/"},
        {"Origin": "http://flyte.test"},
    ],
)
async def test_who_comes_through_a_proxy_or_browser_or_shows_a_token_is_not_let_in_by_an_address(
    ask: Ask, headers: dict[str, str]
) -> None:
    for address in ("10.1.7.7", "127.0.0.1"):
        async with ask(address, **headers) as pack:
            assert await register(pack, "Shell") == 401
            assert (await pack.post("/v1/packs/Shell/actions/take")).status_code == 401


async def test_a_refusal_behind_a_proxy_says_why(ask: Ask) -> None:
    async with ask("10.1.7.7", X_Forwarded_For="192.168.0.1") as pack:
        answer = await pack.post("/v1/packs", json={"name": "Shell"})
        assert "FLYTE_PACKS_WITHOUT_TOKEN does not apply behind a proxy" in answer.json()["detail"]


async def test_a_pack_with_a_valid_token_is_judged_by_it(ask: Ask, service: Service) -> None:
    _, token = await service.tokens.create(TokenRequest(pack_name="Slack"))
    async with ask("10.1.7.7", Authorization=f"Bearer {token}") as pack:
        assert await register(pack, "Slack") == 201
        assert await register(pack, "Shell") == 401


async def test_another_pack_whose_name_makes_the_same_id_is_safe(ask: Ask) -> None:
    async with ask() as admin, ask("10.1.2.3") as ticker, ask("fd00::7") as ldap:
        for name, guest, labels in (
            ("Ticker.env.dev", ticker, {"env": "dev"}),
            ("Ldap.a.b", ldap, {"a": "b"}),
        ):
            assert await register(admin, name) == 201
            assert await register(guest, name.partition(".")[0], labels=labels) == 409
            assert (await guest.post(f"/v1/packs/{name}/actions/take")).status_code == 401
            assert (
                await guest.post(f"/v1/packs/{name}/events", json={"event": "E"})
            ).status_code == 401
        assert (await ldap.get("/v1/packs/Ldap.a.b")).status_code == 401
        assert await register(ldap, "Ldap", labels={"c": "d"}) == 201
        assert (await ldap.post("/v1/packs/Ldap.c.d/actions/take")).status_code == 204


async def test_a_pack_that_is_not_known_is_told_to_register(ask: Ask) -> None:
    async with ask("10.1.7.7") as pack:
        assert (await pack.post("/v1/packs/Shell/actions/take")).status_code == 404
        assert (await pack.post("/v1/packs/Other/actions/take")).status_code == 401


async def test_the_index_is_there_although_the_policy_opens_it_to_nobody(ask: Ask) -> None:
    policy = Policy([PolicyEntry("/*", claims={"role": ["admin"]})])
    async with ask("10.1.7.7", policy) as pack, ask("10.2.7.7", policy) as other:
        for path, expected in (("/v1", 200), ("//v1", 200), ("/v1/swagger", 401), ("/", 401)):
            assert (await pack.get(f"{BASE}{path}")).status_code == expected, path
        assert (await other.get("/v1")).status_code == 401


async def test_the_log_of_changes_says_who_registered_and_from_where(ask: Ask) -> None:
    async with ask() as admin, ask("::ffff:10.1.7.7") as pack:
        await register(pack, "Shell")
        (change,) = (await admin.get("/v1/audit/changes?kind=pack")).json()["changes"]
        assert change["who"] == {"kind": "address", "id": "10.1.7.7", "name": "Shell"}


async def test_without_the_setting_nobody_is_let_in_by_an_address(ask: Ask) -> None:
    async with ask("10.1.7.7", packs="") as pack:
        assert await register(pack, "Shell") == 401
