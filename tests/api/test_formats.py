"""JSON and YAML, in and out."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import yaml

Make = Callable[..., Awaitable[dict[str, Any]]]

YAML = {"Content-Type": "application/x-yaml"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-yaml",
        "application/yaml",
        "text/yaml",
        "application/x-yaml; charset=utf-8",
        "Application/X-YAML",
        " text/yaml ;a=b",
    ],
)
async def test_bodies_are_yaml_when_they_say_so(api: httpx2.AsyncClient, content_type: str) -> None:
    answer = await api.post(
        "/v1/packs", content="name: Shell\nlabels: {x: y}\n", headers={"Content-Type": content_type}
    )
    assert answer.status_code == 201
    assert answer.json()["labels"] == {"x": "y"}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "text/plain; charset=utf-8",
        "application/octet-stream",
        "text/x-yaml-like",
        "multipart/form-data",
        "\xff",
    ],
)
async def test_bodies_are_json_whatever_else_they_say(
    api: httpx2.AsyncClient, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type.encode("latin-1")}
    json_text, yaml_text = b'{"name": "Shell"}', b"name: Shell\n"
    assert (await api.post("/v1/packs", content=json_text, headers=headers)).status_code == 201
    assert (await api.post("/v1/packs", content=yaml_text, headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("accept", "is_yaml"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", False),
        ("application/x-yaml", True),
        ("APPLICATION/X-YAML", True),
        ("application/yaml, */*;q=0.5", True),
        ("text/yaml; q=0.9, application/json; q=0.8", True),
        ("application/json, application/x-yaml;q=0.5", False),
        ("application/json, application/x-yaml", False),
        ("application/x-yaml, application/json", True),
        ("application/x-yaml;q=0", False),
        ("application/x-yaml;q=x", False),
        ("application/x-yamlish", False),
    ],
)
async def test_answers_are_yaml_only_for_those_who_ask(
    api: httpx2.AsyncClient, accept: str | None, is_yaml: bool
) -> None:
    answer = await api.get("/v1", headers={} if accept is None else {"Accept": accept})
    kind = "application/x-yaml" if is_yaml else "application/json"
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert yaml.safe_load(answer.text)["links"][0] == {
        "href": "http://flyte.test/v1",
        "rel": "self",
    }
    assert answer.text.startswith("links:") == is_yaml


async def test_yaml_keeps_text_text_and_yes_a_boolean(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    text = """\
event: E
payload: {a: "y", b: y, c: yes, d: 2026-03-01, e: "12", f: 12, g: 0x10, h: ~, 7: on, i: [no, "no", n], j: 1.50}
createdAt: 2026-03-01T12:30:00+01:00
"""
    answer = await api.post("/v1/packs/P/events", content=text, headers=YAML)
    assert answer.status_code == 202, answer.text
    record = (await api.get(answer.headers["location"])).json()
    assert record["payload"] == {
        "a": "y",
        "b": "y",
        "c": True,
        "d": "2026-03-01",
        "e": "12",
        "f": 12,
        "g": 16,
        "h": None,
        "7": True,
        "i": [False, "no", "n"],
        "j": 1.5,
    }
    assert record["createdAt"] == "2026-03-01T11:30:00Z"


async def test_yaml_out_quotes_what_others_could_misread(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P", labels={"x": "y", "on": "off", "n": "12", "t": "2026-03-01", "e": ""})
    pack_id = (await api.get("/v1/packs")).json()["packs"][0]["id"]
    answer = await api.get(f"/v1/packs/{pack_id}", headers={"Accept": "application/x-yaml"})
    assert yaml.safe_load(answer.text)["labels"] == {
        "x": "y",
        "on": "off",
        "n": "12",
        "t": "2026-03-01",
        "e": "",
    }
    assert 'x: "y"' in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/packs",
        "/v1/packs/P",
        "/v1/flows",
        "/v1/flows/f",
        "/v1/datastore",
        "/v1/audit/flows",
        "/v1/audit/events",
        "/v1/swagger",
    ],
)
async def test_every_resource_says_the_same_in_both_formats(
    api: httpx2.AsyncClient,
    register: Make,
    save_flow: Make,
    step: Callable[..., dict[str, Any]],
    path: str,
) -> None:
    await register("P", labels={"k": "v"})
    await register("P", commands=[{"name": "C", "events": ["R"]}])
    await save_flow(
        "f",
        step(
            "P/E",
            "P/C",
            input={"big": 123456789012345678901234567890, "text": "a\nb\x07 ☺ \U0001f600"},
        ),
    )
    await api.put("/v1/datastore/k", files={"value": ("x", b"1")})
    await api.post(
        "/v1/packs/P/events", json={"event": "E", "payload": [1.5, "x", None, {"a": 1e300}]}
    )
    as_json, as_yaml = (
        await api.get(path),
        await api.get(path, headers={"Accept": "application/x-yaml"}),
    )
    assert as_yaml.headers["content-type"] == "application/x-yaml; charset=utf-8"
    assert yaml.load(as_yaml.text, yaml.BaseLoader).keys() == as_json.json().keys()
    assert yaml.safe_load(as_yaml.text) == as_json.json()


async def test_take_answers_in_yaml_too(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Callable[..., dict[str, Any]]
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/C", input=["{{ Event.Payload }}"]))
    await api.post("/v1/packs/P/events", json={"event": "E", "payload": "yes"})
    answer = await api.post("/v1/packs/P/actions/take", headers={"Accept": "application/x-yaml"})
    assert yaml.safe_load(answer.text)["input"] == ["yes"]
    href = yaml.safe_load(answer.text)["links"][0]["href"]
    assert (
        await api.post(href, content="event: R\npayload: {a: 1}\n", headers=YAML)
    ).status_code == 202
    assert (
        await api.post(href, content="payload:\n  a: 1\nevent: R\n", headers=YAML)
    ).status_code == 202


async def test_a_large_body_is_read_like_a_small_one(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    big = "x" * 70_000
    for content, headers in (
        (f'{{"event": "E", "payload": "{big}"}}', {}),
        (f"event: E\npayload: {big}\n", YAML),
    ):
        answer = await api.post("/v1/packs/P/events", content=content, headers=headers)
        assert answer.status_code == 202
        assert (await api.get(answer.headers["location"])).json()["payload"] == big


async def test_a_large_answer_is_written_like_a_small_one(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    for _ in range(3):
        assert (
            await api.post("/v1/packs/P/events", json={"event": "E", "payload": "y" * 40_000})
        ).status_code == 202
    answer = await api.get("/v1/audit/events", headers={"Accept": "application/x-yaml"})
    assert yaml.safe_load(answer.text) == (await api.get("/v1/audit/events")).json()
