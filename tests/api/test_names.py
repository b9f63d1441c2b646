"""Names: what no store can keep is refused the same way on every store, and nothing that is kept
blocks anything else.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from flyteops.model import PackRef
from flyteops.storage.base import Store
from flyteops.testing.sample import Sample, creating

Make = Callable[..., Awaitable[dict[str, Any]]]
Step = Callable[..., dict[str, Any]]

FAULTY = {"a\0b": "NUL", "x" * 501: "500 bytes", "é" * 251: "500 bytes"}


async def refused(answer: httpx2.Response, path: str, message: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-input"), answer.text
    assert [
        (problem["path"], message in problem["message"]) for problem in answer.json()["problems"]
    ] == [(path, True)]


async def test_a_name_that_no_store_can_keep_is_refused_with_its_place(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    for name, message in FAULTY.items():
        await refused(await api.post("/v1/packs/P/events", json={"event": name}), "event", message)
        await refused(await api.post("/v1/packs", json={"name": name}), "name", message)
        await refused(
            await api.post("/v1/flows", json={"name": name, "steps": []}), "name", message
        )
    await refused(
        await api.post("/v1/packs", json={"name": "Q", "labels": {"x": "\0"}}), "labels.x", "NUL"
    )
    large = await api.post("/v1/packs", json={"name": "Q", "labels": {"x": "y" * 9_000}})
    await refused(large, "labels", "1500 bytes")
    assert [pack["name"] for pack in (await api.get("/v1/packs")).json()["packs"]] == ["P"]


async def test_every_name_in_a_flow_is_checked(api: httpx2.AsyncClient) -> None:
    event = {"name": "E\0", "packName": "P\0", "packLabels": {"a\0": "1"}}
    command = {"name": "C\0", "packName": "Q\0", "packLabels": {"b\0": "1"}}
    answer = await api.post(
        "/v1/flows",
        json={"name": "F", "steps": [{"id": "s\0", "event": event, "command": command}]},
    )
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["problems"]] == [
        "steps[0].id",
        "steps[0].event.name",
        "steps[0].event.packName",
        "steps[0].event.packLabels",
        "steps[0].command.name",
        "steps[0].command.packName",
        "steps[0].command.packLabels",
    ]


@pytest.mark.parametrize(("text", "message"), [("a\0b", "NUL"), ("x" * 9_000, "1500 bytes")])
async def test_a_label_that_no_pack_can_have_fails_its_step_and_nothing_else(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step, text: str, message: str
) -> None:
    await register("P")
    await register("Q")
    await save_flow("Bad", step("P/Asked", "Q/Do", labels={"x": "{{ Event.Payload.m }}"}))
    await save_flow("Good", step("P/Asked", "Q/Do"))
    answer = await api.post("/v1/packs/P/events", json={"event": "Asked", "payload": {"m": text}})
    assert answer.status_code == 202
    decisions = (await api.get(answer.headers["location"])).json()["decisions"]
    assert [(each["flowName"], each["outcome"]) for each in decisions] == [
        ("Bad", "failed"),
        ("Good", "ran"),
    ]
    assert decisions[0]["path"].startswith("command.packLabels")
    assert message in decisions[0]["detail"]
    assert (await api.post("/v1/packs/Q/actions/take")).status_code == 200
    assert (await api.post("/v1/packs/Q/actions/take")).status_code == 204


async def test_a_row_of_an_earlier_version_with_such_a_label_blocks_no_queue_and_no_list(
    api: httpx2.AsyncClient, register: Make, store: Store
) -> None:
    sample = Sample()
    await register("Worker")
    bad, good = sample.action(pack_labels={"x": "a\0b"}), sample.action()
    for action in (bad, good):
        await store.record(sample.event(pack=PackRef("P", "P", {"x": "\0"})), creating(action))
    taken = await api.post("/v1/packs/Worker/actions/take")
    assert good.action_id in json.dumps(taken.json())
    assert (await api.post("/v1/packs/Worker/actions/take")).status_code == 204
    for path in ("events", "flows", "flows?actionPackLabels=x:y"):
        assert (await api.get(f"/v1/audit/{path}")).status_code == 200
    assert bad.action_id in (await api.get("/v1/actions")).text


async def test_a_nul_in_an_address_is_not_found_and_in_a_query_refused(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    for path in ("packs/%00", "flows/a%00", "datastore/%00", "audit/flows/%00", "audit/events/%00"):
        assert (await api.get(f"/v1/{path}")).status_code == 404
    assert (await api.put("/v1/datastore/%00", files={"value": b"1"})).status_code == 404
    for path in (
        "audit/events?packName=%00",
        "audit/flows?flowName=a%00",
        "audit/flows?actionPackLabels=x:%00",
        "actions?packName=%00",
    ):
        await refused(await api.get(f"/v1/{path}"), path.partition("?")[2].partition("=")[0], "NUL")
    await refused(await api.post("/v1/packs/P/actions/take?actionName=%00"), "actionName", "NUL")


async def test_a_search_for_a_long_text_finds_nothing(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    text = quote("é$.\u2028" * 500)
    for path in (
        "audit/events?packName=",
        "audit/events?event=",
        "audit/flows?flowName=",
        "actions?packName=",
    ):
        assert (await api.get(f"/v1/{path}{text}")).status_code == 200
    assert (await api.get(f"/v1/audit/events/{text}")).status_code == 404


async def test_a_datastore_key_that_is_too_long_is_refused(api: httpx2.AsyncClient) -> None:
    await refused(
        await api.put(f"/v1/datastore/{'k' * 501}", files={"value": b"1"}), "key", "500 bytes"
    )
    odd = quote("$a.b☃")
    assert (await api.put(f"/v1/datastore/{odd}", files={"value": b"1"})).status_code == 201
    assert (await api.get(f"/v1/datastore/{odd}")).content == b"1"
    bad = await api.put("/v1/datastore/d", files={"value": b"1", "description": b"a\0b"})
    await refused(bad, "description", "NUL")


async def test_an_idempotency_key_works_whatever_the_sender_is_called(
    api: httpx2.AsyncClient, register: Make
) -> None:
    pack = await register("P" * 500, labels={"x": "y" * 1400})
    path = f"/v1/packs/{quote(pack['id'])}/events"
    sent = [
        await api.post(path, json={"event": "E"}, headers={"Idempotency-Key": "k" * 255})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in sent] == [202, 202]
    assert sent[0].headers["location"] == sent[1].headers["location"]
