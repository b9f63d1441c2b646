"""The description of the API is valid, complete, and true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import msgspec
import yaml

from flyteops.document import to_yaml
from flyteops.packs.chatops.message import ReceivedMessage, User
from flyteops.web.api.openapi import describe
from flyteops.web.api.routes import OPERATIONS

DESCRIPTION = describe(OPERATIONS)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from nodes(child)


def test_every_operation_is_described_with_a_summary_answers_and_an_example() -> None:
    described = {
        (method.upper(), path): operation
        for path, methods in DESCRIPTION["paths"].items()
        for method, operation in methods.items()
    }
    assert set(described) == {(operation.method, operation.path) for operation in OPERATIONS}
    names = [operation["operationId"] for operation in described.values()]
    assert len(set(names)) == len(names)
    for operation in described.values():
        assert operation["summary"]
        assert any(status.startswith("2") for status in operation["responses"])
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            assert kind == "multipart/form-data" or "example" in media


def test_every_reference_leads_somewhere() -> None:
    for node in nodes(DESCRIPTION):
        if "$ref" in node:
            target: Any = DESCRIPTION
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]


def test_every_schema_is_a_schema_and_every_example_fits_it() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    for operation in DESCRIPTION["paths"].values():
        for method in operation.values():
            for media in method.get("requestBody", {}).get("content", {}).values():
                if "example" in media:
                    schema = {**media["schema"], "components": {"schemas": schemas}}
                    jsonschema_rs.Draft202012Validator(schema).validate(media["example"])


def test_the_tags_and_names_are_those_that_links_point_to() -> None:
    found = {
        (operation["tags"][0], operation["operationId"])
        for methods in DESCRIPTION["paths"].values()
        for operation in methods.values()
    }
    assert found >= {
        ("info", "v1"),
        ("info", "health"),
        ("pack", "listPacks"),
        ("flow", "listFlows"),
        ("datastore", "listDatastoreItems"),
        ("flowAudit", "findFlows"),
        ("action", "takeAction"),
    }
    assert {tag["name"] for tag in DESCRIPTION["tags"]} == {tag for tag, _ in found}


async def test_the_description_is_served_as_json_and_yaml(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/v1/swagger")).json()["openapi"] == "3.1.0"
    answer = await api.get("/v1/swagger", headers={"Accept": "application/yaml"})
    assert yaml.safe_load(answer.text) == (await api.get("/v1/swagger")).json()


def test_the_reference_tells_every_route() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/api.md").read_text()
    for operation in OPERATIONS:
        assert f"`{operation.method} {operation.path}`" in text
        for parameter in operation.query:
            assert f"`{parameter.name}`" in text
        for status in (*operation.outcomes, *operation.errors):
            section = text.split(f"`{operation.method} {operation.path}`")[1].split("\n### ")[0]
            assert str(status) in section, (operation.name, status)


def test_the_reference_shows_the_examples_of_the_description() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/api.md").read_text()
    for operation in OPERATIONS:
        if operation.example is not None:
            assert (
                json.dumps(operation.example, indent=2) in text
                or to_yaml(operation.example).decode() in text
            )


async def test_the_examples_work_together_with_the_packs_that_they_name(
    api: httpx2.AsyncClient,
) -> None:
    example = {
        operation.name: operation.example
        for operation in OPERATIONS
        if operation.example is not None
    }
    pack_id = (await api.post("/v1/packs", json=example["registerPack"])).json()["id"]
    flow = (await api.post("/v1/flows", json=example["saveFlow"])).json()
    assert flow.get("warnings", []) == []
    (step,) = flow["steps"]
    said = ReceivedMessage("C1", User("U1", "ann"), "deploy web", "1", "1")
    assert (step["event"]["packName"], step["event"]["name"]) == ("Chat", type(said).__name__)
    await api.post("/v1/packs", json={"name": "Chat"})
    await api.post(
        "/v1/packs/Chat/events",
        json={"event": step["event"]["name"], "payload": msgspec.to_builtins(said)},
    )
    action = (await api.post(f"/v1/packs/{pack_id}/actions/take")).json()
    assert (action["command"], action["input"]) == ("Deploy", {"request": "deploy web"})
    assert (
        await api.post(action["links"][0]["href"], json=example["actionResult"])
    ).status_code == 202
    (execution,) = (await api.get("/v1/executions")).json()["executions"]
    assert execution["actions"]["deploy"]["context"] == {"channel": "C1"}
    assert (
        await api.post(f"/v1/packs/{pack_id}/events", json=example["sendEvent"])
    ).status_code == 202
    declared = {event["name"] for event in example["registerPack"]["events"]}
    assert {
        example[name]["event"] for name in ("sendEvent", "actionResult", "resolveAction")
    } <= declared
