"""Who changed what: every change is kept, with who, from where, and how it was before; and
nothing that is no change.
"""

import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from cryptography.fernet import Fernet

from flyteops.service import Service
from flyteops.service.auditlog.entry import MAX_TEXT_LENGTH, NOTHING, ChainVerifier
from flyteops.service.auditlog.snapshot import take_snapshot
from flyteops.service.encryption import Encryptor
from flyteops.storage.base import Store
from flyteops.web.app import create_app
from tests.api.conftest import BASE, running
from tests.support.clock import Clock

VALUE = 'hun"ter\\2ä'


@pytest.fixture
async def service(store: Store, clock: Clock) -> Service:
    service = Service(store, clock=clock, encryptor=Encryptor([Fernet.generate_key().decode()]))
    await service.start()
    return service


async def changes(api: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await api.get("/v1/audit/changes", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["changes"]
    return found


async def said(api: httpx2.AsyncClient, **query: Any) -> list[str]:
    """Return what was done, the oldest first."""
    return [
        f"{each['kind']} {each['name']} {each['action']}"
        for each in reversed(await changes(api, **query))
    ]


async def put(api: httpx2.AsyncClient, key: str, value: bytes, **fields: str) -> None:
    answer = await api.put(
        f"/v1/datastore/{key}", files={"value": ("v", value, "text/plain")}, data=fields
    )
    assert answer.status_code in (201, 204), answer.text


async def check_whole(store: Store) -> ChainVerifier:
    """Look whether all entries are as they were written, and all things as they say."""
    found = await take_snapshot(store)
    assert (found.chain.fault, found.differences()) == (None, [])
    return found.chain


FLOW: dict[str, Any] = {"name": "deploy", "steps": []}


async def test_a_flow_that_is_made_changed_and_deleted_is_kept_as_it_was_and_became(
    api: httpx2.AsyncClient, store: Store, clock: Clock
) -> None:
    await api.post("/v1/flows", json=FLOW)
    clock.move(timedelta(hours=1))
    await api.post("/v1/flows", json={**FLOW, "description": "Deploys."})
    await api.delete("/v1/flows/deploy")
    removed, updated, created = await changes(api)
    assert [each["action"] for each in (created, updated, removed)] == [
        "created",
        "updated",
        "removed",
    ]
    assert [each["seq"] for each in (created, updated, removed)] == [1, 2, 3]
    assert (created["time"], updated["time"]) == (
        "2026-03-01T12:30:00.25Z",
        "2026-03-01T13:30:00.25Z",
    )
    assert "before" not in created
    assert json.loads(created["after"]["text"]) == {"name": "deploy"}
    assert updated["before"] == created["after"]
    assert json.loads(updated["after"]["text"]) == {"name": "deploy", "description": "Deploys."}
    assert removed["before"] == updated["after"]
    assert "after" not in removed
    assert (await check_whole(store)).seq == 3


async def test_what_changes_nothing_is_not_kept(
    api: httpx2.AsyncClient, register: Any, clock: Clock
) -> None:
    for _ in range(3):
        clock.move(timedelta(minutes=1))
        await register("Slack", labels={"env": "prod"}, commands=[{"name": "Send"}])
        await api.post("/v1/flows", json=FLOW)
        await put(api, "motto", b"go")
        await api.post("/v1/packs/Slack.env.prod/events", json={"event": "E"})
        await api.post("/v1/packs/Slack.env.prod/actions/take")
    for path in ("flows/none", "packs/none", "datastore/none", "tokens/none"):
        assert (await api.delete(f"/v1/{path}")).status_code == 404
    assert (await api.post("/v1/flows", json={"name": ""})).status_code == 400
    assert await said(api) == [
        "pack Slack.env.prod created",
        "flow deploy created",
        "datastore motto created",
    ]


async def test_a_pack_that_says_something_else_of_itself_or_is_forgotten_is_kept(
    api: httpx2.AsyncClient, register: Any, store: Store
) -> None:
    await register("Slack")
    await register("Slack", commands=[{"name": "Send"}])
    await api.delete("/v1/packs/Slack")
    assert await said(api) == ["pack Slack created", "pack Slack updated", "pack Slack removed"]
    assert json.loads((await changes(api, limit=1))[0]["before"]["text"])["commands"] == [
        {"name": "Send"}
    ]
    await check_whole(store)


async def test_of_a_value_that_is_long_or_no_text_there_is_its_hash(
    api: httpx2.AsyncClient, store: Store
) -> None:
    long = "é".encode() * 40_000
    await put(api, "long", b"x" + long, description="d")
    await put(api, "bytes", b"\xff\x00")
    raw, cut = [each["after"] for each in await changes(api)]
    assert cut["text"] == ("x" + "é" * 40_000)[: MAX_TEXT_LENGTH // 2]
    assert (cut["isCut"], cut["size"], cut["sha256"]) == (
        True,
        80_001,
        sha256(b"x" + long).hexdigest(),
    )
    assert (cut["contentType"], cut["description"]) == ("text/plain", "d")
    assert ("text" in raw, raw["size"]) == (False, 2)
    await put(api, "long", b"x" + long + b"!")
    assert (await said(api))[-1] == "datastore long updated"
    await check_whole(store)


async def test_the_longest_names_can_be_asked_for(api: httpx2.AsyncClient, store: Store) -> None:
    names = ["x" * 499 + end for end in ("a", "b")]
    for name in names:
        await api.post("/v1/flows", json={**FLOW, "name": name, "description": "d" * 5_000})
    found = await changes(api, name=names[0])
    assert [each["name"] for each in found] == [names[0]]
    await check_whole(store)


async def test_a_secret_is_known_to_have_changed_and_no_more(
    api: httpx2.AsyncClient, store: Store
) -> None:
    await put(api, "token", VALUE.encode(), secret="true")
    await put(api, "token", VALUE.encode(), secret="true")
    await api.post("/v1/flows", json={**FLOW, "description": f"says {VALUE}"})
    await put(api, "shown", f"says {VALUE}".encode())
    await api.delete("/v1/datastore/token")
    found = await changes(api)
    assert [each["action"] for each in found] == [
        "removed",
        "created",
        "created",
        "updated",
        "created",
    ]
    first, again = found[-1]["after"], found[-2]["after"]
    assert set(first) == {"contentType", "sha256", "isSecret"}
    assert first["sha256"] != again["sha256"]  # which does not tell that the value is the same
    await check_whole(store)


async def test_where_a_secret_stands_in_something_else_it_is_masked(
    api: httpx2.AsyncClient,
) -> None:
    await put(api, "token", VALUE.encode(), secret="true")
    await api.post("/v1/flows", json={**FLOW, "description": f"says {VALUE}"})
    await put(api, "shown", f"says {VALUE}".encode())
    shown, flow, _ = await changes(api)
    assert shown["after"]["text"] == "says ***"
    assert json.loads(flow["after"]["text"])["description"] == "says ***"


async def test_what_a_person_says_became_of_an_action_is_kept(
    api: httpx2.AsyncClient, register: Any, save_flow: Any, step: Any, store: Store
) -> None:
    await register("Chat")
    await save_flow("f", step("Chat/Asked", "Chat/Send", id="s"))
    await api.post("/v1/packs/Chat/events", json={"event": "Asked"})
    action = (await api.get("/v1/actions")).json()["actions"][0]["id"]
    path = f"/v1/actions/{action}/resolution"
    # Nobody has taken it.
    assert (await api.post(path, json={"resolution": "retry"})).status_code == 409
    assert (
        await api.post("/v1/actions/none/resolution", json={"resolution": "retry"})
    ).status_code == 404
    await api.post("/v1/packs/Chat/actions/take")
    assert (await api.post(path, json={"resolution": "retry"})).status_code == 204
    await api.post("/v1/packs/Chat/actions/take")
    body = {"resolution": "succeeded", "event": "Sent", "payload": {"by": "hand"}}
    assert (await api.post(path, json=body)).status_code == 204
    ended, again = await changes(api, kind="action", name=action)
    assert (again["action"], json.loads(again["after"]["text"])) == (
        "resolved",
        {"resolution": "retry"},
    )
    assert json.loads(ended["after"]["text"]) == body
    before = json.loads(ended["before"]["text"])
    assert (before["state"], before["flow"], before["step"], before["pack"]) == (
        "PENDING",
        "f",
        "s",
        "Chat",
    )
    await check_whole(store)


async def test_changes_are_found_by_what_who_and_when_and_page_by_page(
    api: httpx2.AsyncClient, register: Any, clock: Clock
) -> None:
    await register("Slack")
    for number in range(5):
        clock.move(timedelta(hours=1))
        await api.post("/v1/flows", json={"name": f"f{number}"})
    await api.post("/v1/flows", json={"name": "f1", "description": "d"})
    assert await said(api, kind="pack") == ["pack Slack created"]
    assert await said(api, name="f1") == ["flow f1 created", "flow f1 updated"]
    assert await said(
        api, **{"from": "2026-03-01T15:30:00.25Z", "until": "2026-03-01T18:30:00.25+01:00"}
    ) == [
        "flow f2 created",
        "flow f3 created",
    ]
    assert await said(api, who="anonymous", kind="flow", start=1, limit=2) == [
        "flow f3 created",
        "flow f4 created",
    ]
    assert await said(api, who="server") == []
    assert len(await changes(api, start=5)) == 2
    one = (await api.get("/v1/audit/changes/7")).json()
    assert one == (await changes(api, limit=1))[0]
    for unknown in ("0", "8", "-1", "x", "9" * 30, "\uff11"):
        assert (await api.get(f"/v1/audit/changes/{unknown}")).status_code == 404


async def test_a_query_that_cannot_be_is_refused_with_all_its_faults(
    api: httpx2.AsyncClient,
) -> None:
    answer = await api.get(
        "/v1/audit/changes", params={"from": "yesterday", "until": "2026", "limit": "-1"}
    )
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["problems"]] == ["from", "until", "limit"]


async def test_a_page_that_would_be_long_is_cut_and_says_where_it_goes_on(
    api: httpx2.AsyncClient,
) -> None:
    for number in range(30):
        # Each takes six bytes in JSON.
        await put(api, "control", b"%d" % number + b"\x01" * MAX_TEXT_LENGTH)
    found: list[int] = []
    path = "/v1/audit/changes?limit=1000&kind=datastore"
    pages = 0
    while path:
        answer = (await api.get(path)).json()
        found += [each["seq"] for each in answer["changes"]]
        path = next(
            (link["href"].removeprefix(BASE) for link in answer["links"] if link["rel"] == "next"),
            "",
        )
        pages += 1
    assert found == list(range(30, 0, -1))
    assert pages > 1


async def test_the_answer_can_be_verified_with_a_few_lines(
    api: httpx2.AsyncClient, register: Any
) -> None:
    await register("Slack é", labels={"a": "\u2028"})
    await api.post("/v1/flows", json={**FLOW, "description": "\x7f😀"})
    await put(api, "bytes", b"\xff")
    previous = NOTHING
    for entry in reversed(await changes(api)):
        digest = entry.pop("hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert (sha256(text.encode()).hexdigest(), entry["previous"]) == (digest, previous)
        previous = digest


async def test_it_is_kept_from_where_a_request_came_bounded(service: Service) -> None:
    headers = {"User-Agent": "curl é" + "x" * 500, "X-Forwarded-For": "203.0.113.9"}
    async with (
        running(create_app(service)) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        assert (await client.post("/v1/flows", json=FLOW, headers=raw)).status_code == 201
        (entry,) = await changes(client)
    assert entry["who"] == {"kind": "anonymous"}
    assert entry["from"] == {
        "address": "127.0.0.1",
        "forwardedFor": "203.0.113.9",
        "agent": "curl é" + "x" * 194,
    }


async def test_an_entry_that_somebody_has_damaged_does_not_hide_the_others(
    api: httpx2.AsyncClient, store: Store
) -> None:
    for name in ("a", "b", "c"):
        await api.post("/v1/flows", json={"name": name})
    (note,) = await store.list_notes("change", after="000000000001", limit=1)
    await store.delete_note("change", note.key)
    await store.save_note(type(note)("change", note.key, b"nonsense"))
    assert await said(api) == ["flow a created", "flow c created"]
    assert (await api.get("/v1/audit/changes/2")).status_code == 404
