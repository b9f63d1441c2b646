"""Datastore items that packs declare, and read with auth on."""

from typing import Any

import httpx2
import pytest

from flyteops.errors import InputError
from flyteops.service import Service, TokenRequest
from flyteops.service.encryption import Encryptor
from flyteops.storage.base import Store
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.policy import Claims
from flyteops.web.auth.policyfile import read_policy
from flyteops.web.auth.tokens import OWN_POLICY
from tests.api.conftest import BASE
from tests.support.clock import Clock


class Claimed:
    """Takes a token for its claims: `pack=Slack`."""

    async def verify(self, token: str) -> Claims:
        name, _, value = token.partition("=")
        return {name: value}


def asking(
    service: Service, options: Options, gate: Authenticator | None, token: str = ""
) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx2.ASGITransport(create_app(service, options, gate))
    return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)


async def fill(service: Service, options: Options, *keys: str) -> None:
    async with asking(service, options, None) as client:
        for key in keys:
            form = {"value": (None, b'{"of": "%s"}' % key.encode(), "application/json")}
            assert (await client.put(f"/v1/datastore/{key}", files=form)).status_code == 201


async def statuses(client: httpx2.AsyncClient, *paths: str) -> list[int]:
    return [(await client.get(path)).status_code for path in paths]


async def test_a_pack_reads_what_it_declares_with_its_token(
    service: Service, options: Options
) -> None:
    await fill(service, options, "chatops", "teams")
    _, token = await service.tokens.create(TokenRequest(pack_name="Slack"))
    async with asking(service, options, Authenticator(service.tokens), token) as client:
        answer = await client.post(
            "/v1/packs", json={"name": "Slack", "items": ["chatops", "chatops"]}
        )
        assert answer.json()["items"] == ["chatops"]
        (link,) = [
            link["href"] for link in answer.json()["links"] if link["rel"].endswith("pack/item")
        ]
        item = await client.get(link)
        assert (item.status_code, item.json(), item.headers["content-type"]) == (
            200,
            {"of": "chatops"},
            "application/json",
        )


async def test_a_pack_that_declares_everything_reads_what_its_token_names(
    service: Service, options: Options
) -> None:
    await fill(service, options, "chatops", "teams", "money")
    items = ["chatops", "teams", "money", "nowhere", "*"]
    paths = [f"/v1/packs/Slack/datastore/{key}" for key in items]
    for allowed, expected in (
        (None, [200, 401, 401, 401, 401]),
        (("teams",), [401, 200, 401, 401, 401]),
        ((), [401, 401, 401, 401, 401]),
        (("*",), [200, 200, 200, 404, 404]),
    ):
        _, token = await service.tokens.create(TokenRequest(pack_name="Slack", items=allowed))
        async with asking(service, options, Authenticator(service.tokens), token) as client:
            assert (
                await client.post("/v1/packs", json={"name": "Slack", "items": items})
            ).status_code == 201
            assert await statuses(client, *paths) == expected


async def test_a_pack_does_not_read_what_it_has_not_declared_or_by_another_address(
    service: Service, options: Options
) -> None:
    await fill(service, options, "chatops")
    _, token = await service.tokens.create(TokenRequest(pack_name="Slack"))
    async with asking(service, options, None) as anybody:
        await anybody.post("/v1/packs", json={"name": "Other", "items": ["chatops"]})
    async with asking(service, options, Authenticator(service.tokens), token) as client:
        await client.post("/v1/packs", json={"name": "Slack"})
        answer = await client.get("/v1/packs/Slack/datastore/chatops")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "has not declared the datastore item 'chatops'" in answer.json()["detail"]
        paths = [
            "/v1/packs/Other/datastore/chatops",
            "/v1/datastore/chatops",
            "/v1/datastore",
            "/v1/packs/Slack/datastore",
        ]
        assert await statuses(client, *paths) == [401, 401, 401, 401]
        for method in ("PUT", "DELETE", "POST"):
            assert (
                await client.request(method, "/v1/packs/Slack/datastore/chatops")
            ).status_code == 401


async def test_a_key_with_a_slash_is_one_key(service: Service, options: Options) -> None:
    async with asking(service, options, None) as client:
        form = {"value": (None, b"1", "application/json")}
        await client.put("/v1/datastore/a%2Fb", files=form)
    _, token = await service.tokens.create(TokenRequest(pack_name="P", items=("a/b",)))
    async with asking(service, options, Authenticator(service.tokens), token) as client:
        answer = await client.post("/v1/packs", json={"name": "P", "items": ["a/b"]})
        (link,) = [
            link["href"] for link in answer.json()["links"] if link["rel"].endswith("pack/item")
        ]
        assert (await client.get(link)).json() == 1
        assert await statuses(client, "/v1/packs/P/datastore/a", "/v1/packs/P/datastore/a/b") == [
            401,
            401,
        ]


async def test_a_secret_is_not_given_to_a_pack_that_declares_it(
    store: Store, clock: Clock, options: Options
) -> None:
    service = Service(store, clock=clock, encryptor=Encryptor([new_key()]))
    await service.start()
    async with asking(service, options, None) as client:
        form: Any = {"value": (None, b"hush", "text/plain"), "secret": (None, b"true")}
        assert (await client.put("/v1/datastore/chatops", files=form)).status_code == 201
    _, token = await service.tokens.create(TokenRequest(pack_name="Slack", items=("*",)))
    async with asking(service, options, Authenticator(service.tokens), token) as client:
        await client.post("/v1/packs", json={"name": "Slack", "items": ["chatops"]})
        answer = await client.get("/v1/packs/Slack/datastore/chatops")
        assert (answer.status_code, b"hush" in answer.content) == (403, False)


def new_key() -> str:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - slow to load

    return Fernet.generate_key().decode()


POLICY = b"""
- path: /v1/packs
- path: /v1/packs/:pack/*
  claims: {pack: [":pack"]}
- path: /v1/packs/Deployer/*
  claims: {pack: [Deployer]}
  items: [teams]
- path: /v1/packs/Auditor/*
  claims: {pack: [Auditor]}
  items: ["*"]
"""


@pytest.mark.parametrize(
    ("pack", "expected"),
    [
        ("Slack", [200, 401]),
        ("Deployer", [401, 200]),
        ("Auditor", [200, 200]),
        ("Other", [401, 401]),
    ],
)
async def test_the_policy_says_which_items_packs_may_declare(
    service: Service, options: Options, pack: str, expected: list[int]
) -> None:
    await fill(service, options, "chatops", "teams")
    gate = Authenticator(service.tokens, read_policy(POLICY), Claimed())
    async with asking(
        service, options, gate, f"pack={pack}" if pack != "Other" else "pack=Slack"
    ) as client:
        await client.post("/v1/packs", json={"name": pack, "items": ["chatops", "teams"]})
        paths = [f"/v1/packs/{pack}/datastore/{key}" for key in ("chatops", "teams")]
        assert await statuses(client, *paths) == expected


@pytest.mark.parametrize("items", ["chatops", "[1]", "{}", "[[x]]"])
def test_items_of_a_policy_that_are_not_keys_are_faults_with_their_line(items: str) -> None:
    with pytest.raises(InputError) as caught:
        read_policy(f"- path: /v1\n  items: {items}\n".encode())
    (problem,) = caught.value.problems
    assert "must be a list of keys of datastore items" in problem.message
    assert problem.line == 2


async def test_an_old_registration_and_its_answer_are_as_before(
    service: Service, options: Options
) -> None:
    async with asking(service, options, None) as client:
        answer = await client.post(
            "/v1/packs",
            json={"name": "T", "events": None, "links": [{"href": "http://h/", "rel": "help"}]},
        )
        assert answer.status_code == 201
        assert "items" not in answer.json()
        assert [link["rel"].rpartition("/")[2] for link in answer.json()["links"]] == [
            "help",
            "self",
            "up",
            "takeAction",
            "event",
        ]


@pytest.mark.parametrize("items", [["a\0b"], ["x" * 501], "chatops", [1]])
async def test_items_that_cannot_be_keys_are_refused(
    service: Service, options: Options, items: Any
) -> None:
    async with asking(service, options, None) as client:
        answer = await client.post("/v1/packs", json={"name": "T", "items": items})
        assert (answer.status_code, "items" in answer.text) == (400, True)


def test_every_request_of_a_pack_is_in_the_policy_of_tokens() -> None:
    for method, path in (
        ("GET", "/v1/packs/P/datastore/k"),
        ("POST", "/v1/packs/P/presence"),
        ("HEAD", "/v1/packs/P"),
    ):
        match = OWN_POLICY.find(method, path)
        assert match is not None
        assert match.is_satisfied_by({"role": "pack", "pack": "P"})
        assert not match.is_satisfied_by({"role": "pack", "pack": "Q"})
