"""Whatever is sent, the answer says what is wrong with it; nothing is an error of the server,
and nothing bad is kept.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

Make = Callable[..., Awaitable[dict[str, Any]]]

YAML = "application/x-yaml"

BAD_JSON = [
    b"",
    b" ",
    b"{",
    b"}",
    b'{"event":}',
    b'{"event":"E",}',
    b"{'event':'E'}",
    b'{"event":"E","payload":NaN}',
    b'{"event":"E","payload":Infinity}',
    b'{"event":"E","payload":1e999}',
    b'{"event":"E","payload":-1e999}',
    b'{"event":"E","payload":' + b"9" * 5000 + b"}",
    b'{"event":"E","payload":01}',
    b'{"event":"E","payload":"\\x41"}',
    b'{"event":"E","payload":"a\nb"}',
    b'{"event":"E","payload":"' + b"x" * 100,
    b'{"event":"E","payload":' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"event":"E","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"event":"E","payload":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
    b"[" * 50_000,
    b'\xef\xbb\xbf{"event":"E"}',
    '{"event":"E"}'.encode("utf-16"),
    b"event: E",
    b"\x00",
]

BAD_YAML = [
    b"",
    b"{",
    b"event: [",
    b"event: E\nevent: F",
    b"event: E\npayload: {a: 1, a: 2}",
    b"event: E\n  payload: x",
    b"event: E\npayload: *unknown",
    b"event: E\npayload: \xff",
    b"event: E\npayload: .nan",
    b"event: E\npayload: .inf",
    b"event: E\npayload: 1e999",
    b"event: E\npayload: " + b"9" * 5000,
    b"event: E\npayload: 0x" + b"f" * 5000,
    b'event: E\npayload: "\\ud800"',
    b'event: E\npayload: {"\\ud800": 1}',
    b"event: E\npayload: !!python/object/apply:os.system [ls]",
    b"event: E\npayload: !!binary aGk=",
    b"event: E\npayload: {[a]: 1}",
    b"event: E\n---\nevent: F",
    b"event: E\npayload: " + b"[" * 300 + b"]" * 300,
    b"event: E\npayload: " + b"[" * 20_000 + b"]" * 20_000,
    b"event: E\npayload: &a [*a]",
    b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b", ".join([b"*%c" % (97 + n)] * 10)) for n in range(8)
    )
    + b"event: E\npayload: *i",
    b"%YAML 9.9\n---\nevent: E",
    b"event: E\npayload: \x07",
    b"event: E\n\tpayload: x",
    b"- event: E",
    b"E",
]

NO_EVENTS = [
    None,
    True,
    1,
    "E",
    [],
    [{"event": "E"}],
    {"event": 1},
    {"event": ["E"]},
    {"event": {}},
    {"event": "E", "createdAt": 1},
    {"event": "E", "createdAt": {}},
    {"event": "E", "createdAt": True},
]

NO_PACKS = [
    None,
    1,
    "P",
    [],
    {},
    {"name": None},
    {"name": 1},
    {"name": ""},
    {"name": " "},
    {"name": "P", "labels": []},
    {"name": "P", "labels": {"a": 1}},
    {"name": "P", "labels": {"a": {"b": "c"}}},
    {"name": "P", "labels": "a=b"},
    {"name": "P", "commands": {}},
    {"name": "P", "commands": ["C"]},
    {"name": "P", "commands": [{"name": 1}]},
    {"name": "P", "commands": [{"name": "C", "events": [{"name": "E"}]}]},
    {"name": "P", "commands": [{"name": "C", "events": "E"}]},
    {"name": "P", "events": ["E"]},
    {"name": "P", "events": [{"name": 1}]},
    {"name": "P", "events": [{"name": "E", "links": {}}]},
    {"name": "P", "links": {}},
    {"name": "P", "links": [{"href": {}}]},
    {"name": "P", "links": [{"href": 1, "rel": "help"}]},
    {"name": "P", "links": ["http://x"]},
]

STEP: dict[str, Any] = {
    "event": {"name": "E", "packName": "P"},
    "command": {"name": "C", "packName": "P"},
}

NO_FLOWS = [
    None,
    1,
    "f",
    [],
    {},
    {"name": None},
    {"name": ""},
    {"name": 1},
    {"name": "f", "steps": {}},
    {"name": "f", "steps": [1]},
    {"name": "f", "steps": [{}]},
    {"name": "f", "steps": [None]},
    {"name": "f", "description": 1},
    *(
        {"name": "f", "steps": [{**STEP, **wrong}]}
        for wrong in [
            {"id": 1},
            {"event": None},
            {"event": []},
            {"event": {"name": "E"}},
            {"event": {"name": 1, "packName": "P"}},
            {"event": {"name": "E", "packName": "P", "packLabels": {"a": 1}}},
            {"command": "C"},
            {"command": {"name": "C"}},
            {"command": {"name": "C", "packName": "P", "packLabels": []}},
            {"dependsOn": 1},
            {"dependsOn": [1]},
            {"dependsOn": {"all": "a"}},
            {"context": []},
            {"context": {"a": {}}},
            {"criteria": 1},
        ]
    ),
]


@pytest.fixture
async def _pack(register: Make) -> None:
    await register("P")


async def refused(
    api: httpx2.AsyncClient, path: str, content: bytes, content_type: str = "application/json"
) -> None:
    answer = await api.post(path, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (400, "invalid-input")
    assert body["detail"]
    assert body["problems"]
    assert all(problem["message"] for problem in body["problems"])


PATHS = ["/v1/packs", "/v1/flows", "/v1/packs/P/events", "/v1/packs/P/actions/1/result"]


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("content", BAD_JSON)
async def test_what_is_not_json_is_refused(api: httpx2.AsyncClient, content: bytes) -> None:
    for path in PATHS:
        await refused(api, path, content)


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("content", BAD_YAML)
async def test_what_is_not_yaml_is_refused(api: httpx2.AsyncClient, content: bytes) -> None:
    for path in PATHS:
        await refused(api, path, content, YAML)


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("/v1/packs/P/events", value) for value in NO_EVENTS),
        *(("/v1/packs", value) for value in NO_PACKS),
        *(("/v1/flows", value) for value in NO_FLOWS),
    ],
)
async def test_values_of_the_wrong_kind_are_refused(
    api: httpx2.AsyncClient, path: str, value: Any
) -> None:
    for kind in ("application/json", YAML):
        await refused(api, path, json.dumps(value).encode(), kind)
    assert (await api.get("/v1/audit/events")).json()["events"] == []
    assert (await api.get("/v1/flows")).json()["flows"] == []
    assert [pack["id"] for pack in (await api.get("/v1/packs")).json()["packs"]] == ["P"]


async def test_faults_without_number_are_not_all_told(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/packs", json={"name": "P", "events": [1] * 1000})
    assert answer.status_code == 400
    problems = answer.json()["problems"]
    assert len(problems) == 201
    assert "more problems" in problems[-1]["message"]


async def test_all_faults_are_told_at_once_with_their_places(api: httpx2.AsyncClient) -> None:
    content = b'{\n  "labels": {"a": 1},\n  "commands": [{"name": "C"}, {"events": "E"}]\n}'
    problems = (await api.post("/v1/packs", content=content)).json()["problems"]
    assert {(problem["path"], problem["line"]) for problem in problems} == {
        ("", 1),
        ("labels.a", 2),
        ("commands[1].events", 3),
    }


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize(
    ("content", "name", "payload"),
    [
        (b'{"event":"E"} trailing', "E", None),
        (b'{"event":"E","payload":"]}"}{"event":"F"}', "E", "]}"),
        (b' {"event":"E","payload":[1]}}', "E", [1]),
        (b'{"event":"E"}\x00', "E", None),
        (b'{"event":"E","payload":"\xff"}', "E", "\ufffd"),
        (b'{"event":"E","payload":"\xe2\x82x"} \xff', "E", "\ufffd\ufffdx"),
        (b'{"event":"\xc0\x80"}', "\ufffd\ufffd", None),
        (b"{}", "", None),
        (b'{"event":null,"payload":1}', "", 1),
        (b'{"payload":{"a":1}}', "", {"a": 1}),
    ],
)
async def test_events_that_the_original_accepts_are_accepted(
    api: httpx2.AsyncClient, content: bytes, name: str, payload: Any
) -> None:
    answer = await api.post("/v1/packs/P/events", content=content)
    assert answer.status_code == 202
    record = (await api.get(answer.headers["location"])).json()
    assert (record["event"], record.get("payload")) == (name, payload)


async def test_registrations_that_the_original_accepts_are_accepted(
    api: httpx2.AsyncClient,
) -> None:
    content = {
        "name": "P",
        "labels": {"env": None},
        "commands": [{}, {"name": None}, None, {"name": "C", "events": [None]}],
        "events": [{}, None],
        "links": [{"href": "http://x"}, None],
    }
    answer = await api.post("/v1/packs", json=content)
    assert answer.status_code == 201
    pack = answer.json()
    assert (pack["id"], pack["labels"]) == ("P.env.", {"env": ""})
    assert [command["name"] for command in pack["commands"]] == ["", "", "", "C"]
    assert pack["commands"][3]["events"] == [""]
    assert [event["name"] for event in pack["events"]] == ["", ""]
    assert pack["links"][:2] == [{"href": "http://x", "rel": ""}, {"href": "", "rel": ""}]
    assert (
        await api.post(
            "/v1/packs", json={"name": "Q", "labels": None, "commands": None, "links": None}
        )
    ).status_code == 201


async def test_a_flow_with_text_behind_it_is_accepted_and_one_that_is_cut_is_not(
    api: httpx2.AsyncClient,
) -> None:
    assert (await api.post("/v1/flows", content=b'{"name": "f"}\n;')).status_code == 201
    await refused(api, "/v1/flows", b'{"name": "f", "description": "\xff"')


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\x01",
        "\n",
        "E" * 500,
        "☺",
        "'; drop table event; --",
        "{{ 1 }}",
        "../..",
        "\U0010ffff",
    ],
)
async def test_strange_names_are_kept_and_told_again(api: httpx2.AsyncClient, name: str) -> None:
    answer = await api.post("/v1/packs/P/events", json={"event": name, "payload": name})
    assert answer.status_code == 202
    record = (await api.get(answer.headers["location"])).json()
    assert (record["event"], record["payload"]) == (name, name)
    assert (
        await api.get(
            "/v1/audit/events", params={"event": name, "packName": name, "flowName": name}
        )
    ).status_code == 200
    as_yaml = await api.get(answer.headers["location"], headers={"Accept": YAML})
    assert as_yaml.status_code == 200


@pytest.mark.parametrize(
    "value", ["\x01", "a\nb", "☺", "x" * 499, "'", '"', "\x7f\x85\u2028\ufeff"]
)
async def test_strange_packs_and_flows_are_kept_and_told_again(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, value: str
) -> None:
    labels = {value: value, "": ""}
    pack = await register(
        f"n{value}",
        labels=labels,
        commands=[{"name": value, "events": [value]}],
        events=[{"name": value}],
    )
    flow = await save_flow(
        f"n{value}",
        {**STEP, "id": value, "context": {value: "1"}, "event": {"name": value, "packName": "P"}},
    )
    for found in (pack, flow):
        href = next(link["href"] for link in found["links"] if link["rel"] == "self")
        shown = (await api.get(href)).json()
        assert shown == {key: item for key, item in found.items() if key != "warnings"}
        assert (await api.get(href, headers={"Accept": YAML})).status_code == 200
    assert (await api.get("/v1/packs")).status_code == 200
    assert (await api.post(pack["commands"][0]["links"][0]["href"])).status_code == 204
    assert (await api.delete(pack["links"][0]["href"])).status_code == 204
    assert (await api.delete(flow["links"][0]["href"])).status_code == 204


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("path", PATHS)
async def test_a_body_above_the_limit_is_too_large(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.post(path, content=b"[" + b" " * 100_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_left_over_bodies_are_ignored_but_not_without_bound(
    api: httpx2.AsyncClient, method: str
) -> None:
    async def endless() -> Any:
        for _ in range(60):
            yield b"x" * 10_000

    assert (await api.request(method, "/v1/packs/P", content=endless())).status_code == 413
    assert (await api.request(method, "/v1/packs/P", content=b"\xff" * 300_000)).status_code in (
        200,
        204,
    )


@pytest.mark.usefixtures("_pack")
async def test_take_does_not_care_for_a_body_however_large(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/packs/P/actions/take", content=b"\xff" * 300_000)
    assert answer.status_code == 204


@pytest.mark.parametrize(
    "path",
    ["/v1/packs/%ff", "/v1/flows/%ff", "/v1/audit/flows/%c0%80", "/v1/audit/events/%ed%a0%80"],
)
async def test_an_address_that_is_not_utf_8_is_not_found(
    api: httpx2.AsyncClient, path: str
) -> None:
    assert (await api.get(path)).status_code == 404


@pytest.mark.parametrize("query", ["actionName=%ff", "&".join(f"a{n}=1" for n in range(200))])
@pytest.mark.usefixtures("_pack")
async def test_a_query_that_is_none_is_refused(api: httpx2.AsyncClient, query: str) -> None:
    assert (await api.post(f"/v1/packs/P/actions/take?{query}")).status_code == 400


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r'"\ud83d"', "\ufffd"),
        (r'"\uDE00\ud83d"', "\ufffd\ufffd"),
        (r'{"\ud800": "\\ud83d \ud83d\ude00"}', {"\ufffd": "\\ud83d \U0001f600"}),
    ],
)
async def test_half_a_character_in_a_payload_does_not_lose_the_event(
    api: httpx2.AsyncClient, save_flow: Make, sent: str, kept: Any
) -> None:
    await save_flow(
        "f",
        {
            **STEP,
            "command": {
                "name": "C",
                "packName": "P",
                "input": "{{ Event.Payload|stringformat:'%v' }}",
            },
        },
    )
    answer = await api.post(
        "/v1/packs/P/events", content=f'{{"event": "E", "payload": {sent}}}'.encode()
    )
    assert answer.status_code == 202
    (event,) = (await api.get("/v1/audit/events")).json()["events"]
    assert event["payload"] == kept
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 200


@pytest.mark.usefixtures("_pack")
@pytest.mark.parametrize("content_type", ["application/json", YAML])
async def test_everything_wrong_with_an_event_is_said_at_once(
    api: httpx2.AsyncClient, content_type: str
) -> None:
    body = b'{"event": 1,\n "createdAt": "noon"}'
    answer = await api.post(
        "/v1/packs/P/events", content=body, headers={"Content-Type": content_type}
    )
    problems = {problem["path"]: problem for problem in answer.json()["problems"]}
    assert set(problems) == {"event", "createdAt"}
    assert (problems["createdAt"]["line"], problems["createdAt"]["column"]) == (2, 15)


async def test_everything_wrong_with_a_query_is_said_at_once(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/v1/audit/flows?start=-1&limit=many&actionPackLabels=x")
    assert [problem["path"] for problem in answer.json()["problems"]] == [
        "actionPackLabels",
        "start",
        "limit",
    ]
