"""Saving flows, looking at them and deleting them."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from flyteops.service import Service
from flyteops.storage.base import Store
from flyteops.web.app import create_app

BASE = "http://flyte.test"
Make = Callable[..., Awaitable[dict[str, Any]]]
Step = Callable[..., dict[str, Any]]

FULL = {
    "name": "deploy",
    "description": "Deploys on request.",
    "steps": [
        {
            "id": "ask",
            "event": {
                "name": "Asked",
                "packName": "Chat",
                "packLabels": {"env": "{{ Context.env }}"},
            },
            "context": {"env": "staging"},
            "criteria": "{{ Event.Payload.text|match:'^deploy' }}",
            "command": {
                "name": "Deploy",
                "packName": "Deployer",
                "packLabels": {"env": "{{ Context.env }}"},
                "input": {"n": [1, "x"]},
            },
        },
        {
            "id": "say",
            "dependsOn": ["ask"],
            "event": {"name": "Deployed", "packName": "Deployer"},
            "command": {"name": "Say", "packName": "Chat", "input": "done"},
        },
    ],
}


async def test_a_saved_flow_is_answered_as_it_was_posted(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/flows", json=FULL)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{BASE}/v1/flows/deploy"
    shown = (await api.get(answer.headers["location"])).json()
    links = [
        {"href": f"{BASE}/v1/flows/deploy", "rel": "self"},
        {"href": f"{BASE}/v1/flows", "rel": "up"},
        {"href": f"{BASE}/swagger#/flow", "rel": "help"},
    ]
    assert shown == {**FULL, "links": links}
    assert {key: value for key, value in answer.json().items() if key != "warnings"} == shown


async def test_flows_are_listed_by_name(api: httpx2.AsyncClient, save_flow: Make) -> None:
    await save_flow("zebra")
    await save_flow("ant", description="small")
    assert (await api.get("/v1/flows")).json() == {
        "links": [
            {"href": f"{BASE}/v1/flows", "rel": "self"},
            {"href": f"{BASE}/v1", "rel": "up"},
            {"href": f"{BASE}/swagger#/flow", "rel": "help"},
        ],
        "flows": [
            {
                "name": "ant",
                "description": "small",
                "links": [{"href": f"{BASE}/v1/flows/ant", "rel": "self"}],
            },
            {"name": "zebra", "links": [{"href": f"{BASE}/v1/flows/zebra", "rel": "self"}]},
        ],
    }


async def test_a_flow_replaces_the_one_of_its_name(
    api: httpx2.AsyncClient, save_flow: Make, step: Step
) -> None:
    await save_flow("f", step("P/E", "P/C", id="old"))
    await save_flow("f", step("P/E", "P/C", id="new"))
    assert [found["id"] for found in (await api.get("/v1/flows/f")).json()["steps"]] == ["new"]
    assert len((await api.get("/v1/flows")).json()["flows"]) == 1


async def test_a_deleted_flow_is_gone_and_its_executions_go_on(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/C", id="a"), step("P/R", "P/D", id="b", dependsOn=["a"]))
    await api.post("/v1/packs/P/events", json={"event": "E"})
    action = (await api.post("/v1/packs/P/actions/take")).json()
    assert (await api.delete("/v1/flows/f")).status_code == 204
    assert (await api.delete("/v1/flows/f")).status_code == 404
    assert (await api.get("/v1/flows/f")).status_code == 404
    assert (await api.post(action["links"][0]["href"], json={"event": "R"})).status_code == 202
    assert (await api.post("/v1/packs/P/actions/take")).json()["command"] == "D"


async def test_what_is_odd_but_allowed_is_saved_with_warnings(
    api: httpx2.AsyncClient, step: Step
) -> None:
    answer = await api.post(
        "/v1/flows", json={"name": "f", "stepz": [], "steps": [step("P/E", "P/C", id="a")]}
    )
    assert answer.status_code == 201
    assert [warning["path"] for warning in answer.json()["warnings"]] == ["stepz"]
    assert "warnings" not in (await api.get("/v1/flows/f")).json()


async def test_an_invalid_flow_is_refused_with_every_problem_and_its_place(
    api: httpx2.AsyncClient,
) -> None:
    text = """\
name: broken
steps:
  - event: {name: Asked}
    criteria: "{{ Event.Payload|nosuchfilter }}"
    command: {name: 17, packName: Worker}
"""
    answer = await api.post(
        "/v1/flows", content=text, headers={"Content-Type": "application/x-yaml"}
    )
    assert answer.status_code == 400
    body = answer.json()
    assert (body["code"], body["status"], body["type"]) == (
        "invalid-input",
        400,
        "urn:flyte:problem:invalid-input",
    )
    places = {(problem["path"], problem["line"]) for problem in body["problems"]}
    assert places == {("steps[0].event", 3), ("steps[0].criteria", 4), ("steps[0].command.name", 5)}
    assert (await api.get("/v1/flows")).json()["flows"] == []


FAULTY = [
    ({"criteria": "{{ Event.Payload"}, "steps[0].criteria"),
    ({"criteria": "{{ 1 +"}, "steps[0].criteria"),
    ({"criteria": "{{ x|nosuchfilter }}"}, "steps[0].criteria"),
    ({"context": {"a": "{% if %}"}}, "steps[0].context.a"),
    (
        {"event": {"packName": "P", "name": "E", "packLabels": {"env": "{{"}}},
        "steps[0].event.packLabels.env",
    ),
    (
        {"command": {"packName": "P", "name": "C", "input": {"a": [1, "{% for %}"]}}},
        "steps[0].command.input.a[1]",
    ),
    (
        {"command": {"packName": "P", "name": "C", "packLabels": {"k": "{{ x( }}"}}},
        "steps[0].command.packLabels.k",
    ),
]


@pytest.mark.parametrize(("fields", "path"), FAULTY)
async def test_a_template_that_cannot_be_parsed_spoils_its_own_step_only(
    api: httpx2.AsyncClient, register: Make, step: Step, fields: dict[str, Any], path: str
) -> None:
    await register("P")
    flow = {
        "name": "f",
        "steps": [{**step("P/E", "P/C", id="bad"), **fields}, step("P/E", "P/D", id="good")],
    }
    answer = await api.post("/v1/flows", json=flow)
    assert answer.status_code == 201
    (warning,) = answer.json()["warnings"]
    assert warning["path"] == path
    assert "in the template, line 1" in warning["message"]
    assert (await api.get("/v1/flows/f")).json()["steps"] == flow["steps"]
    event = await api.post("/v1/packs/P/events", json={"event": "E"})
    assert (await api.post("/v1/packs/P/actions/take")).json()["command"] == "D"
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 204
    first, second = (await api.get(event.headers["location"])).json()["decisions"]
    assert (first["stepId"], first["outcome"], first["reason"]) == ("bad", "failed", "error")
    assert f"steps[0].{first['path']}" == path
    assert first["detail"]
    assert (second["stepId"], second["outcome"]) == ("good", "ran")


async def test_a_template_that_cannot_be_parsed_is_a_problem_beside_others(
    api: httpx2.AsyncClient, step: Step
) -> None:
    command = {"packName": "P", "name": "C", "timeout": "soon"}
    flow: dict[str, Any] = {
        "name": "f",
        "steps": [{**step("P/E", "P/C"), "criteria": "{{", "command": command}],
    }
    answer = await api.post("/v1/flows", json=flow)
    assert answer.status_code == 400
    assert {each["path"] for each in answer.json()["problems"]} == {
        "steps[0].criteria",
        "steps[0].command.timeout",
    }


@pytest.mark.parametrize("criteria", ["{{", "{{ Event.Payload.x }}"])
async def test_no_flow_of_edition_2_is_saved(
    api: httpx2.AsyncClient, step: Step, criteria: str
) -> None:
    first = {**step("P/E", "P/C"), "id": "a", "criteria": criteria}
    answer = await api.post("/v1/flows", json={"edition": 2, "name": "f", "steps": [first]})
    assert answer.status_code == 400
    (problem,) = answer.json()["problems"]
    expected = "steps[0].criteria" if criteria == "{{" else "edition"
    assert problem["path"] == expected
    assert (await api.get("/v1/flows")).json()["flows"] == []


@pytest.mark.parametrize("name", ["a/b", "ä ö", "100%", "a?b#c", "x;y"])
async def test_flow_names_of_any_characters_work_in_addresses(
    api: httpx2.AsyncClient, save_flow: Make, name: str
) -> None:
    flow = await save_flow(name)
    assert (await api.get(flow["links"][0]["href"])).json()["name"] == name
    assert (await api.delete(flow["links"][0]["href"])).status_code == 204


async def versions(api: httpx2.AsyncClient) -> int:
    """Return how many entries the audit log has about flows."""
    return len((await api.get("/v1/audit/changes", params={"kind": "flow"})).json()["changes"])


async def test_a_flow_that_is_saved_again_unchanged_is_answered_alike_and_makes_no_version(
    api: httpx2.AsyncClient, store: Store, clock: Any
) -> None:
    first = await api.post("/v1/flows", json=FULL)
    (version,) = await store.list_flows()
    again = Service(store, clock=clock)
    await again.start()
    transport = httpx2.ASGITransport(create_app(again))
    # Another server, or this one, restarted.
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as other:
        for client in (api, api, other):
            answer = await client.post("/v1/flows", json=FULL)
            assert (answer.status_code, answer.json(), answer.headers["location"]) == (
                201,
                first.json(),
                first.headers["location"],
            )
    assert list(await store.list_flows()) == [version]
    assert await versions(api) == 1


@pytest.mark.parametrize("value", [True, 1.0, "1", [1], None])
async def test_a_flow_in_which_a_value_has_another_type_is_another_version(
    value: Any, api: httpx2.AsyncClient
) -> None:
    (step, *_) = FULL["steps"]
    for number in (1, value):
        command = {**step["command"], "input": {"n": number}}  # type: ignore[index]
        assert (
            await api.post(
                "/v1/flows", json={"name": "deploy", "steps": [{**step, "command": command}]}
            )
        ).status_code == 201  # type: ignore[dict-item]
    (saved,) = (await api.get("/v1/flows/deploy")).json()["steps"]
    assert repr(saved["command"]["input"]["n"]) == repr(value)
    assert await versions(api) == 2


async def test_a_flow_that_was_deleted_and_is_saved_again_is_new(
    api: httpx2.AsyncClient, store: Store
) -> None:
    await api.post("/v1/flows", json=FULL)
    (before,) = await store.list_flows()
    await api.delete("/v1/flows/deploy")
    await api.post("/v1/flows", json=FULL)
    (after,) = await store.list_flows()
    assert after.uuid != before.uuid
    assert await versions(api) == 3
