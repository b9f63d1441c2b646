"""Registering packs and looking at them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from flyteops.web.api.part import list_page_of
from flyteops.web.api.schemas.wire import ResponseBody
from tests.api.conftest import Asked
from tests.support.clock import Clock

BASE = "http://flyte.test"
Register = Callable[..., Awaitable[dict[str, Any]]]

GO_BODY = (
    b'{"name":"T","labels":{"env":"dev","x":"y=z"},"events":[{"name":"Echoed"}],'
    b'"commands":[{"name":"Echo","events":["Echoed"]},{"name":"Boom","events":[]}],'
    b'"links":[{"href":"http://help/","rel":"help"}]}'
)


async def test_registering_answers_with_the_pack_and_everything_it_needs_to_work(
    api: httpx2.AsyncClient,
) -> None:
    answer = await api.post(
        "/v1/packs", content=GO_BODY, headers={"Content-Type": "application/json"}
    )
    here = f"{BASE}/v1/packs/T.env.dev.x.y=z"
    take = f"{BASE}/swagger#!/action/takeAction"
    assert answer.status_code == 201
    assert answer.headers["location"] == here
    assert answer.headers["flyte-max-body-bytes"] == "100000"
    assert answer.json() == {
        "id": "T.env.dev.x.y=z",
        "name": "T",
        "labels": {"env": "dev", "x": "y=z"},
        "commands": [
            {
                "name": "Echo",
                "events": ["Echoed"],
                "links": [{"href": f"{here}/actions/take?commandName=Echo", "rel": take}],
            },
            {
                "name": "Boom",
                "events": [],
                "links": [{"href": f"{here}/actions/take?commandName=Boom", "rel": take}],
            },
        ],
        "events": [{"name": "Echoed"}],
        "lastSeen": "2026-03-01T12:30:00.25Z",
        "status": "live",
        "links": [
            {"href": "http://help/", "rel": "help"},
            {"href": here, "rel": "self"},
            {"href": f"{BASE}/v1/packs", "rel": "up"},
            {"href": f"{here}/actions/take", "rel": take},
            {"href": f"{here}/events", "rel": f"{BASE}/swagger#/event"},
        ],
    }


async def test_what_a_pack_says_about_inputs_and_payloads_is_shown_again(
    api: httpx2.AsyncClient,
) -> None:
    schemas: list[Any] = [
        {"type": "object", "properties": {"app": {"type": "string"}}},
        True,
        "no schema at all",
        {},
        None,
    ]
    commands = [
        {"name": f"C{number}", "events": [], "inputSchema": schema}
        for number, schema in enumerate(schemas)
    ]
    events = [
        {"name": f"E{number}", "payloadSchema": schema} for number, schema in enumerate(schemas)
    ]
    answer = await api.post(
        "/v1/packs", json={"name": "T", "commands": commands, "events": events, "links": []}
    )
    assert answer.status_code == 201
    shown = (await api.get("/v1/packs/T")).json()
    assert [command.get("inputSchema") for command in shown["commands"]] == schemas
    assert [event.get("payloadSchema") for event in shown["events"]] == schemas


async def test_the_location_of_a_new_pack_answers_like_the_registration(
    api: httpx2.AsyncClient,
) -> None:
    registered = await api.post("/v1/packs", content=GO_BODY)
    assert (await api.get(registered.headers["location"])).json() == registered.json()


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"T","events":null,"links":[]}',
        b'{"name":"T","labels":null,"commands":null,"events":null,"links":null}',
        (
            b'{"name":"T","labels":{"env":"dev"},"links":[],"commands":[{"name":"Echo",'
            b'"events":["Echoed"],"links":[]}],"events":[{"name":"Echoed","links":[]},'
            b'{"name":"Echoed","links":[]}]}'
        ),
        b'{"NAME":"T","Labels":{},"unknown":{"deeply":[1]}}',
        b'{"name":"T"}',
        b'{"id":"other","name":"T","lastSeen":"never","status":17}',
    ],
)
async def test_whatever_old_clients_send_registers(api: httpx2.AsyncClient, body: bytes) -> None:
    answer = await api.post(
        "/v1/packs", content=body, headers={"Content-Type": "text/plain; charset=utf-8"}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "T"


async def test_empty_fields_are_left_out(register: Register) -> None:
    pack = await register("Ticker", labels={}, commands=[], events=[])
    assert set(pack) == {"id", "name", "lastSeen", "status", "links"}


async def test_registering_again_replaces_the_pack_of_the_same_name_and_labels(
    api: httpx2.AsyncClient, register: Register
) -> None:
    await register("Shell", labels={"env": "a"}, commands=[{"name": "Old"}])
    await register("Shell", labels={"env": "a"}, commands=[{"name": "New"}])
    await register("Shell", labels={"env": "b"})
    packs = (await api.get("/v1/packs")).json()["packs"]
    assert [pack["id"] for pack in packs] == ["Shell.env.a", "Shell.env.b"]
    commands = (await api.get("/v1/packs/Shell.env.a")).json()["commands"]
    assert [command["name"] for command in commands] == ["New"]


async def test_packs_are_listed_by_name(api: httpx2.AsyncClient, register: Register) -> None:
    for name in ("Slack", "Bamboo", "Jira"):
        await register(
            name,
            labels={"env": "x"},
            commands=[{"name": "C"}],
            links=[{"href": "http://help/", "rel": "help"}],
        )
    answer = (await api.get("/v1/packs")).json()
    assert answer["links"] == [
        {"href": f"{BASE}/v1/packs", "rel": "self"},
        {"href": f"{BASE}/v1", "rel": "up"},
        {"href": f"{BASE}/swagger#/pack", "rel": "help"},
    ]
    assert [pack["name"] for pack in answer["packs"]] == ["Bamboo", "Jira", "Slack"]
    assert answer["packs"][0] == {
        "id": "Bamboo.env.x",
        "name": "Bamboo",
        "labels": {"env": "x"},
        "lastSeen": "2026-03-01T12:30:00.25Z",
        "status": "live",
        "links": [{"href": f"{BASE}/v1/packs/Bamboo.env.x", "rel": "self"}],
    }


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (timedelta(minutes=10), "live"),
        (timedelta(minutes=10, microseconds=1), "warning"),
        (timedelta(hours=24), "warning"),
        (timedelta(hours=24, microseconds=1), "critical"),
    ],
)
async def test_the_status_tells_how_long_a_pack_was_not_seen(
    api: httpx2.AsyncClient, register: Register, clock: Clock, age: timedelta, status: str
) -> None:
    await register("Slack")
    clock.move(age)
    assert (await api.get("/v1/packs/Slack")).json()["status"] == status
    assert (await api.get("/v1/packs")).json()["packs"][0]["status"] == status


@pytest.mark.parametrize("path", ["events", "actions/take", "actions/unknown/result"])
async def test_whatever_a_pack_does_shows_that_it_lives(
    api: httpx2.AsyncClient, register: Register, clock: Clock, path: str
) -> None:
    await register("Slack")
    clock.move(timedelta(days=2))
    await api.post(f"/v1/packs/Slack/{path}", json={"event": "E"})
    pack = (await api.get("/v1/packs/Slack")).json()
    assert (pack["lastSeen"], pack["status"]) == ("2026-03-03T12:30:00.25Z", "live")


async def test_a_deleted_pack_is_gone(api: httpx2.AsyncClient, register: Register) -> None:
    await register("Slack")
    deleted = await api.request("DELETE", "/v1/packs/Slack", content=b"left over")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/events"),
        ("POST", "/actions/take"),
        ("POST", "/actions/1/result"),
    ):
        answer = await api.request(method, f"/v1/packs/Slack{path}", json={"event": "E"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    "rel", ["up", "self", "http://x/swagger#/actionResult", "x/takeAction", "/event"]
)
async def test_a_link_that_would_hide_one_of_ours_is_refused(
    api: httpx2.AsyncClient, rel: str
) -> None:
    links = [{"href": "http://help/", "rel": "help"}, {"href": "http://x/", "rel": rel}]
    answer = await api.post("/v1/packs", json={"name": "T", "links": links})
    assert answer.status_code == 400
    assert answer.json()["problems"][0]["path"] == "links[1].rel"


@pytest.mark.parametrize("rel", ["support", "group", "update", "events", "takeActions", "selfish"])
async def test_a_link_that_only_resembles_ours_is_kept(register: Register, rel: str) -> None:
    pack = await register("T", links=[{"href": "http://x/", "rel": rel}])
    assert pack["links"][0] == {"href": "http://x/", "rel": rel}


@pytest.mark.parametrize("name", ["a/b", "ä ö", "50%", "a?b#c", "..", "a+b", "日本"])
async def test_names_of_any_characters_work_in_addresses(
    api: httpx2.AsyncClient, register: Register, name: str
) -> None:
    pack = await register(name, labels={"k": "/v"})
    links = {link["rel"].rpartition("/")[2]: link["href"] for link in pack["links"]}
    assert (await api.get(links["self"])).json() == pack
    assert (await api.post(links["event"], json={"event": "E"})).status_code == 202
    assert (await api.post(links["takeAction"])).status_code == 204


# ----------------------------------------------------------------------------------------- in parts


async def make_many(api: httpx2.AsyncClient, kind: str, count: int) -> list[str]:
    names = [f"n{number:02}" for number in range(count)]
    for name in names:
        if kind == "datastore":
            await api.put(f"/v1/datastore/{name}", files={"value": ("x", b"1")})
        else:
            await api.post(
                f"/v1/{kind}",
                json={"name": name, "steps": []} if kind == "flows" else {"name": name},
            )
    return names


@pytest.mark.parametrize(
    ("kind", "key"), [("packs", "name"), ("flows", "name"), ("datastore", "key")]
)
async def test_a_list_is_whole_or_goes_on_by_its_link_next(
    kind: str, key: str, api: httpx2.AsyncClient
) -> None:
    names = await make_many(api, kind, 7)
    whole = (await api.get(f"/v1/{kind}")).json()
    assert [each[key] for each in whole[kind]] == names
    assert [link["rel"] for link in whole["links"]] == ["self", "up", "help"]
    found, parts, address = [], 0, f"/v1/{kind}?limit=3"
    while address:
        answer = (await api.get(address)).json()
        found += answer[kind]
        parts += 1
        address = next((link["href"] for link in answer["links"] if link["rel"] == "next"), "")
    assert (found, parts) == (whole[kind], 3)
    assert (await api.get(f"/v1/{kind}?start=7")).json()[kind] == []
    assert [each[key] for each in (await api.get(f"/v1/{kind}?start=5")).json()[kind]] == names[5:]
    assert [each[key] for each in (await api.get(f"/v1/{kind}?limit=0")).json()[kind]] == names
    for wrong in ("start=-1", "limit=-1", "limit=x"):
        assert (await api.get(f"/v1/{kind}?{wrong}")).status_code == 400


async def test_a_list_that_is_too_long_for_an_answer_is_cut() -> None:
    class Long(ResponseBody):
        text: str

    request = Asked("GET", "/v1/packs")
    shown = list_page_of(request, ["a" * 400] * 5, Long, most_bytes=1000)
    assert (len(shown.views), shown.following) == (2, "start=2")
    assert len(list_page_of(request, ["a" * 4000] * 5, Long, most_bytes=1000).views) == 1
