"""Tokens of the server's own: who gets one, what it lets do, and when it does not any more."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from flyteops.errors import UnavailableError
from flyteops.model import Note
from flyteops.service import Service, TokenRequest
from flyteops.storage.base import Store
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.policy import uncovered
from flyteops.web.auth.tokens import OWN_POLICY
from tests.api.conftest import BASE
from tests.support.clock import Clock

LABELS = {"env": "staging"}


def asking(service: Service, options: Options, token: str | None) -> httpx2.AsyncClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx2.ASGITransport(create_app(service, options, Authenticator(service.tokens)))
    return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)


@pytest.fixture
async def nobody(service: Service, options: Options) -> AsyncIterator[httpx2.AsyncClient]:
    async with asking(service, options, None) as client:
        yield client


@pytest.fixture
async def admin(service: Service, options: Options) -> AsyncIterator[httpx2.AsyncClient]:
    _, text = await service.tokens.create(TokenRequest(is_admin=True))
    async with asking(service, options, text) as client:
        yield client


async def made(admin: httpx2.AsyncClient, **order: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/tokens", json=order)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{BASE}/v1/tokens/{token['id']}"
    return token


@pytest.fixture
async def pack(
    service: Service, options: Options, admin: httpx2.AsyncClient
) -> AsyncIterator[httpx2.AsyncClient]:
    token = await made(admin, pack="Deployer", labels=LABELS)
    async with asking(service, options, token["token"]) as client:
        yield client


async def test_without_a_token_there_is_only_what_tells_of_the_server(
    nobody: httpx2.AsyncClient,
) -> None:
    for path in (
        "/",
        "/v1",
        "/health",
        "/health/live",
        "/health/ready",
        "/swagger",
        "/swagger/swagger.js",
        "/v1/swagger",
    ):
        assert (await nobody.get(path)).status_code == 200, path
    for method, path in (
        ("GET", "/v1/packs"),
        ("POST", "/v1/packs"),
        ("GET", "/v1/tokens"),
        ("POST", "/v1/tokens"),
        ("GET", "/x"),
    ):
        answer = await nobody.request(method, path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (
            401,
            'Bearer realm="flyte"',
        )


async def test_an_admin_may_do_everything(admin: httpx2.AsyncClient) -> None:
    assert (await admin.get("/v1/tokens")).status_code == 200
    assert (await admin.post("/v1/packs", json={"name": "Any"})).status_code == 201
    assert (await admin.post("/v1/packs/Any/events", json={"event": "E"})).status_code == 202
    assert (await admin.delete("/v1/packs/Any")).status_code == 204
    assert (await admin.get("/nowhere")).status_code == 404


async def test_a_pack_works_as_itself_from_its_registration_to_its_results(
    pack: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    assert (await pack.get("/v1")).status_code == 200
    answer = await pack.post(
        "/v1/packs", json={"name": "Deployer", "labels": LABELS, "events": None}
    )
    assert answer.status_code == 201
    assert (await pack.get(answer.headers["location"])).status_code == 200
    step = {
        "event": {"name": "E", "packName": "Deployer"},
        "command": {"name": "C", "packName": "Deployer", "timeout": "1m"},
    }
    assert (await admin.post("/v1/flows", json={"name": "f", "steps": [step]})).status_code == 201
    path = "/v1/packs/Deployer.env.staging"
    assert (await pack.post(f"{path}/events", json={"event": "E"})).status_code == 202
    action = (await pack.post(f"{path}/actions/take")).json()
    result, heartbeat = (link["href"] for link in action["links"])
    assert (await pack.post(heartbeat)).status_code == 200
    assert (await pack.post(result, json={"event": "Done"})).status_code == 202


@pytest.mark.parametrize(
    "declaration",
    [
        {"name": "Deployer"},
        {"name": "Deployer", "labels": {"env": "prod"}},
        {"name": "Deployer", "labels": {**LABELS, "more": "x"}},
        {"name": "Deployer.env.staging"},  # which would have the same id
        {"name": "deployer", "labels": LABELS},
    ],
)
async def test_a_pack_does_not_register_as_another(
    pack: httpx2.AsyncClient, declaration: dict[str, Any]
) -> None:
    answer = await pack.post("/v1/packs", json=declaration)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="flyte", error="insufficient_scope"',
    )
    assert "Deployer.env.staging" in answer.json()["detail"]


async def test_a_pack_does_nothing_else(
    pack: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    await admin.post("/v1/packs", json={"name": "Other"})
    own, other = "/v1/packs/Deployer.env.staging", "/v1/packs/Other"
    refused = [
        ("POST", f"{other}/events"),
        ("POST", f"{other}/actions/take"),
        ("POST", f"{other}/actions/1/result"),
    ]
    refused += [
        ("GET", other),
        ("DELETE", own),
        ("GET", "/v1/packs"),
        ("GET", "/v1/flows"),
        ("POST", "/v1/flows"),
    ]
    refused += [
        ("GET", "/v1/tokens"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/audit/events"),
        ("GET", "/v1/datastore"),
        ("GET", "/x"),
    ]
    for method, path in refused:
        answer = await pack.request(method, path, json={})
        assert answer.status_code == 401, (method, path)
        assert "insufficient_scope" in answer.headers["www-authenticate"]


async def test_every_request_that_the_server_knows_is_decided_about() -> None:
    from tests.docs.test_auth_docs import ROUTES  # noqa: PLC0415

    assert uncovered(OWN_POLICY, ROUTES) == []


async def test_a_token_is_shown_once_and_kept_as_a_hash(
    admin: httpx2.AsyncClient, store: SqliteStore, clock: Clock
) -> None:
    clock.move(timedelta(seconds=1))
    token = await made(admin, pack="Slack", description="chat")
    text = token["token"]
    assert text.startswith(f"flyte_{token['id']}_")
    assert len(text.split("_", 2)[2]) == 43  # 256 bits
    listed = (await admin.get("/v1/tokens")).json()["tokens"]
    assert [each.get("description") for each in listed] == [None, "chat"]
    assert all("token" not in each for each in listed)
    shown = (await admin.get(f"/v1/tokens/{token['id']}")).json()
    assert (shown["pack"], "token" in shown, "admin" in shown) == ("Slack", False, False)
    secret = text.split("_", 2)[2].encode()
    assert not any(secret in note.value for note in await store.list_notes("token"))


async def test_a_revoked_token_is_refused_at_once(
    admin: httpx2.AsyncClient, pack: httpx2.AsyncClient
) -> None:
    (token,) = [each for each in (await admin.get("/v1/tokens")).json()["tokens"] if "pack" in each]
    path = "/v1/packs/Deployer.env.staging"
    assert (await pack.get(path)).status_code == 404
    assert (await admin.delete(f"/v1/tokens/{token['id']}")).status_code == 204
    answer = await pack.get(path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="flyte", error="invalid_token"',
    )
    assert (await admin.delete(f"/v1/tokens/{token['id']}")).status_code == 404
    assert (await admin.get(f"/v1/tokens/{token['id']}")).status_code == 404


async def test_a_token_ends_when_it_was_to_end(
    service: Service, options: Options, admin: httpx2.AsyncClient, clock: Clock
) -> None:
    token = await made(admin, pack="P", expiresIn="90d")
    assert token["expiresAt"] == "2026-05-30T12:30:00.25Z"
    async with asking(service, options, token["token"]) as client:
        clock.move(timedelta(days=90) - timedelta(seconds=1))
        assert (await client.get("/v1/packs/P")).status_code == 404
        clock.move(timedelta(seconds=1))
        answer = await client.get("/v1/packs/P")
        assert (answer.status_code, answer.json()["detail"]) == (401, "The token has expired.")


@pytest.mark.parametrize(
    ("order", "paths"),
    [
        ({}, ["pack"]),
        ({"pack": " "}, ["pack"]),
        ({"pack": "P", "admin": True}, ["pack"]),
        ({"admin": True, "labels": LABELS}, ["labels"]),
        ({"pack": "P", "expiresIn": "soon"}, ["expiresIn"]),
        ({"pack": "P", "expiresIn": "0s"}, ["expiresIn"]),
        ({"pack": "P", "description": "x" * 300}, ["description"]),
        ({"pack": 7, "labels": {"a": 1}}, ["pack", "labels.a"]),
    ],
)
async def test_an_order_that_cannot_be_is_refused(
    admin: httpx2.AsyncClient, order: dict[str, Any], paths: list[str]
) -> None:
    answer = await admin.post("/v1/tokens", json=order)
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["problems"]] == paths


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "x",
        lambda text: text.upper(),
        lambda text: text[:18],
    ],
)
async def test_what_is_nearly_a_token_is_none(
    service: Service, options: Options, change: Any
) -> None:
    _, text = await service.tokens.create(TokenRequest(is_admin=True))
    for wrong in (change(text), "flyte_", "flyte__", "flyte_x_y"):
        async with asking(service, options, wrong) as client:
            assert (await client.get("/v1/flows")).status_code == 401


async def test_it_is_kept_when_a_token_was_last_used_and_that_brings_back_no_revoked_one(
    service: Service, store: SqliteStore, admin: httpx2.AsyncClient, clock: Clock
) -> None:
    unused = await made(admin, pack="P")
    clock.move(timedelta(minutes=5))
    tokens = {each["id"]: each for each in (await admin.get("/v1/tokens")).json()["tokens"]}
    assert "lastUsedAt" not in tokens.pop(unused["id"])
    ((token_id, used),) = tokens.items()
    assert used["lastUsedAt"] == "2026-03-01T12:35:00.25Z"
    await service.run_maintenance()
    later = Service(store, clock=clock)
    await later.start()
    assert later.tokens.last_used_at(token_id) == clock.now
    await later.tokens.revoke(token_id)
    await admin.get("/v1/tokens")
    await service.run_maintenance()
    again = Service(store, clock=clock)
    await again.start()
    assert [token.token_id for token in again.tokens.list()] == [unused["id"]]


async def test_who_made_and_revoked_a_token_is_kept_and_nothing_that_lets_in(
    service: Service, admin: httpx2.AsyncClient, pack: httpx2.AsyncClient
) -> None:
    await pack.post("/v1/packs", json={"name": "Deployer", "labels": LABELS})
    ann = (await admin.post("/v1/tokens", json={"admin": True, "description": "Ann"})).json()
    (first,) = [
        token for token in service.tokens.list() if token.is_admin and token.token_id != ann["id"]
    ]
    (packs,) = [token for token in service.tokens.list() if not token.is_admin]
    await admin.delete(f"/v1/tokens/{ann['id']}")
    found = (await admin.get("/v1/audit/changes")).json()["changes"]
    assert [(each["kind"], each["name"], each["action"]) for each in found] == [
        ("token", ann["id"], "revoked"),
        ("token", ann["id"], "created"),
        ("pack", "Deployer.env.staging", "created"),
        ("token", packs.token_id, "created"),
        ("token", first.token_id, "created"),
    ]
    assert [each["who"] for each in found] == [
        {"kind": "token", "id": first.token_id},
        {"kind": "token", "id": first.token_id},
        {"kind": "token", "id": packs.token_id, "name": "Deployer.env.staging"},
        {"kind": "token", "id": first.token_id},
        {"kind": "server"},
    ]
    told = str(found)
    assert "Ann" in told
    assert ann["token"] not in told
    assert not any(token.hash in told for token in (*service.tokens.list(), first))


async def test_a_pack_does_not_learn_who_changed_what(pack: httpx2.AsyncClient) -> None:
    for path in ("/v1/audit/changes", "/v1/audit/changes/1"):
        assert (await pack.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("kind", "path", "thing"), [("token", "tokens", "token"), ("hook", "hooks", "hook")]
)
async def test_a_token_or_hook_that_cannot_be_read_can_be_removed(
    admin: httpx2.AsyncClient, service: Service, store: Store, kind: str, path: str, thing: str
) -> None:
    await store.save_note(Note(kind, "damaged", b"not to be read"))
    await service.tokens.refresh()
    await service.hooks.refresh()
    assert "damaged" in (await admin.get("/v1/health/problems")).text
    assert (await admin.get(f"/v1/{path}/damaged")).status_code == 404
    assert (await admin.delete(f"/v1/{path}/damaged")).status_code == 204
    assert (await admin.delete(f"/v1/{path}/damaged")).status_code == 404
    assert "damaged" not in (await admin.get("/v1/health/problems")).text
    assert [note.key for note in await store.list_notes(kind)] != ["damaged"]
    change = (await admin.get("/v1/audit/changes")).json()["changes"][0]
    assert (change["kind"], change["name"]) == (thing, "damaged")


@pytest.mark.parametrize("is_essential", [False, True])
async def test_readiness_tells_those_without_a_token_what_fails_and_not_why(
    store: Store, clock: Clock, options: Options, is_essential: bool
) -> None:
    seconds = [0.0]
    service = Service(store, clock=clock, monotonic=lambda: seconds[0])
    await service.start()
    loop = service.loops.loop(
        "Loading the auth policy", logging.getLogger("test"), is_essential=is_essential
    )
    for _ in range(2):
        loop.failed(UnavailableError("/etc/flyte/policy.yaml on db.internal"), is_logged=True)
        seconds[0] += 3600
    async with asking(service, options, None) as client:
        answer = await client.get("/health/ready")
    assert answer.status_code == (503 if is_essential else 200)
    said = answer.json()["reasons" if is_essential else "warnings"]
    assert said == [
        "Loading the auth policy has failed 2 times in a row; the log of the server says why."
    ]
    transport = httpx2.ASGITransport(create_app(service, options))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        assert "db.internal" in (await client.get("/health/ready")).text


async def test_readiness_does_not_name_the_place_of_a_store_to_those_without_a_token(
    store: Store, options: Options
) -> None:
    service = Service(store)
    service.wait_for_store("Cannot connect to db.internal:5432.")
    async with asking(service, options, None) as client:
        answer = await client.get("/health/ready")
    assert answer.json()["reasons"] == [
        "The store cannot be used now; the log of the server says why."
    ]


async def test_readiness_names_nothing_that_is_set_aside_to_those_without_a_token(
    nobody: httpx2.AsyncClient, admin: httpx2.AsyncClient, service: Service, store: Store
) -> None:
    await store.save_note(Note("hook", "a-secret-name", b"not to be read"))
    await service.hooks.refresh()
    answer = await nobody.get("/health/ready")
    assert answer.json() == {
        "status": "ready",
        "warnings": ["1 problem; see GET /v1/health/problems"],
    }
    assert (await nobody.get("/v1/health/problems")).status_code == 401
    assert "a-secret-name" in (await admin.get("/v1/health/problems")).text
