"""The server of `flyteops.sdk.testing` behaves like the real one: every test here runs against
both.
"""

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flyteops.sdk.testing import FakeServer
from tests.e2e.conftest import start_server

NUMBERS = itertools.count(1)

DONE = {"event": "Done", "payload": {"ok": True}}


class Side:
    """A server, and how a test lets an action wait for a pack."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.pack = f"P{next(NUMBERS)}"

    async def ask(
        self, command_input: Any = None, *, limit: float | None = None, attempts: int = 1
    ) -> None:
        raise NotImplementedError

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        return await self.http.post(path, json=body, **options)

    async def register(self, **more: Any) -> dict[str, Any]:
        body = {
            "name": self.pack,
            "commands": [{"name": "Do", "events": ["Done"]}],
            "events": [{"name": "Done"}],
            **more,
        }
        answer = await self.post("/v1/packs", body)
        assert answer.status_code == 201, answer.text
        pack: dict[str, Any] = answer.json()
        return pack

    async def take(self, **query: Any) -> httpx2.Response:
        return await self.http.post(f"/v1/packs/{self.pack}/actions/take", params=query)

    async def taken(self, **query: Any) -> dict[str, Any]:
        answer = await self.take(wait=5, **query)
        assert answer.status_code == 200, answer.text
        action: dict[str, Any] = answer.json()
        return action


class Fake(Side):
    def __init__(self) -> None:
        self.server = FakeServer()
        super().__init__(httpx2.AsyncClient(transport=self.server, base_url="http://flyte.test"))

    async def ask(
        self, command_input: Any = None, *, limit: float | None = None, attempts: int = 1
    ) -> None:
        self.server.ask("Do", command_input, pack=self.pack, timeout=limit, attempts=attempts)


class Real(Side):
    async def ask(
        self, command_input: Any = None, *, limit: float | None = None, attempts: int = 1
    ) -> None:
        command = {"name": "Do", "packName": self.pack, "input": command_input}
        if limit is not None:
            command["timeout"] = f"{round(limit * 1000)}ms"
        if attempts > 1:
            command["retry"] = {"attempts": attempts, "backoff": "1ms"}
        event = f"Asked{next(NUMBERS)}"
        steps = [{"id": "do", "event": {"name": event, "packName": "Asker"}, "command": command}]
        assert (await self.post("/v1/packs", {"name": "Asker"})).status_code == 201
        assert (await self.post("/v1/flows", {"name": event, "steps": steps})).status_code == 201
        assert (await self.post("/v1/packs/Asker/events", {"event": event})).status_code == 202


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("real")
    process, address = start_server(folder)
    yield folder, address
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture(params=["fake", "real"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "fake":
        side: Side = Fake()
    else:
        side = Real(httpx2.AsyncClient(base_url=request.getfixturevalue("url")[1], timeout=30))
    async with side.http:
        yield side


def link(body: dict[str, Any], rel: str) -> str:
    return next(str(each["href"]) for each in body["links"] if each["rel"].endswith(rel))


def refused(answer: httpx2.Response, status: int, code: str, *paths: str) -> None:
    """See that it is refused with problem details, for faults at these places."""
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (body["type"], bool(body["title"]), bool(body["detail"])) == (
        f"urn:flyte:problem:{code}",
        True,
        True,
    )
    assert [problem["path"] for problem in body.get("problems", [])] == list(paths)


# ------------------------------------------------------------------------------------- registration


async def test_the_way_to_registration_is_a_link(side: Side) -> None:
    answer = await side.http.get("/v1")
    base = str(side.http.base_url).rstrip("/")
    assert link(answer.json(), "pack/listPacks") == f"{base}/v1/packs"


async def test_a_registered_pack_is_shown_with_its_links(side: Side) -> None:
    declared = {
        "labels": {"b": "2", "a": "1"},
        "commands": [{"name": "Do it", "events": ["Done"], "inputSchema": {"type": "string"}}],
        "events": [{"name": "Done", "payloadSchema": {"type": "integer"}}],
        "links": [{"href": "http://help.test/", "rel": "help"}],
    }
    answer = await side.post("/v1/packs", {"name": side.pack, **declared})
    base, pack = str(side.http.base_url).rstrip("/"), answer.json()
    path = f"{base}/v1/packs/{side.pack}.a.1.b.2"
    assert (answer.status_code, answer.headers["Location"]) == (201, path)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert pack.pop("lastSeen").endswith("Z")
    take = {"href": f"{path}/actions/take", "rel": f"{base}/swagger#!/action/takeAction"}
    assert pack == {
        "id": f"{side.pack}.a.1.b.2",
        "name": side.pack,
        "labels": declared["labels"],
        "status": "live",
        "commands": [
            {
                **declared["commands"][0],
                "links": [{**take, "href": f"{take['href']}?commandName=Do%20it"}],
            },
        ],
        "events": declared["events"],
        "links": [
            {"href": "http://help.test/", "rel": "help"},
            {"href": path, "rel": "self"},
            {"href": f"{base}/v1/packs", "rel": "up"},
            take,
            {"href": f"{path}/events", "rel": f"{base}/swagger#/event"},
        ],
    }


async def test_registering_again_replaces_what_was_known_of_a_pack(side: Side) -> None:
    await side.register()
    assert [
        command["name"]
        for command in (await side.register(commands=[{"name": "Other"}]))["commands"]
    ] == ["Other"]
    await side.ask("still handed out")
    assert (await side.taken())["input"] == "still handed out"


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b"{", [""]),
        (b"", [""]),
        (b"[]", [""]),
        (b"null", [""]),
        (b'{"name": 1}', ["name"]),
        (b'{"name": "  "}', ["name"]),
        (b'{"name": "P", "labels": {"a": 1}}', ["labels.a"]),
        (b'{"name": "P", "commands": [{"name": "x", "events": "E"}]}', ["commands[0].events"]),
        (b'{"name": "P", "links": [{"href": "x", "rel": "my/event"}]}', ["links[0].rel"]),
        (b'{"name": "P", "links": [{"href": "x", "rel": "self"}]}', ["links[0].rel"]),
    ],
)
async def test_what_is_no_pack_is_refused_with_its_faults(
    side: Side, body: bytes, paths: list[str]
) -> None:
    answer = await side.http.post(
        "/v1/packs", content=body, headers={"Content-Type": "application/json"}
    )
    refused(answer, 400, "invalid-input", *paths)


# -------------------------------------------------------------------------------------------- takes


async def test_without_work_a_take_is_answered_with_nothing(side: Side) -> None:
    await side.register()
    for query in ({}, {"max": 3}, {"wait": "0"}, {"wait": "0.05"}, {"wait": "", "max": ""}):
        answer = await side.take(**query)
        assert (answer.status_code, answer.content, "content-type" in answer.headers) == (
            204,
            b"",
            False,
        )


async def test_an_action_is_handed_out_once_with_a_link_for_its_result(side: Side) -> None:
    pack = await side.register()
    await side.ask({"x": "1"})
    action = await side.taken()
    href = link(action, "actionResult")
    assert action == {
        "command": "Do",
        "input": {"x": "1"},
        "links": [
            {
                "href": href,
                "rel": link(pack, "/event").partition("/v1/")[0] + "/swagger#/actionResult",
            }
        ],
    }
    assert (await side.take()).status_code == 204
    await side.ask()
    assert (await side.taken())["input"] is None


async def test_a_take_waits_until_there_is_something(side: Side) -> None:
    await side.register()
    taking = asyncio.create_task(side.take(wait="20"))
    for _ in range(3):
        await asyncio.sleep(0)
    await side.ask("late")
    assert (await asyncio.wait_for(taking, 15)).json()["input"] == "late"


async def test_a_take_of_several_is_a_list_of_what_is_there_oldest_first(side: Side) -> None:
    await side.register()
    for number in range(3):
        await side.ask(f"n{number}")
    assert [each["input"] for each in (await side.taken(max=2))["actions"]] == ["n0", "n1"]
    assert [each["input"] for each in (await side.taken(max=2))["actions"]] == ["n2"]


@pytest.mark.parametrize("parameter", ["commandName", "actionName"])
async def test_a_take_may_ask_for_one_command(side: Side, parameter: str) -> None:
    await side.register()
    await side.ask("x")
    assert (await side.take(**{parameter: "Other"})).status_code == 204
    assert (await side.take(**{parameter: "Do"})).json()["input"] == "x"


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("max=0", ["max"]),
        ("max=101", ["max"]),
        ("max=x", ["max"]),
        ("wait=-1", ["wait"]),
        ("wait=x", ["wait"]),
        ("max=0&wait=x", ["wait", "max"]),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    side: Side, query: str, paths: list[str]
) -> None:
    await side.register()
    refused(
        await side.post(f"/v1/packs/{side.pack}/actions/take?{query}"), 400, "invalid-input", *paths
    )


async def test_who_did_not_register_is_told_so(side: Side) -> None:
    for path in ("events", "actions/take", "actions/1/result", "actions/1/heartbeat"):
        refused(await side.post(f"/v1/packs/{side.pack}/{path}", DONE), 404, "not-found")
    await side.register()
    for path in ("actions/1/result", "actions/1/heartbeat", "nothing"):
        refused(await side.post(f"/v1/packs/{side.pack}/{path}", DONE), 404, "not-found")
    refused(await side.post("/v1/nothing", DONE), 404, "not-found")


# ------------------------------------------------------------------------------------------ results


async def test_the_same_result_again_is_accepted_and_another_is_not(side: Side) -> None:
    await side.register()
    await side.ask()
    href = link(await side.taken(), "actionResult")
    for _ in range(2):
        answer = await side.post(href, DONE)
        assert (answer.status_code, answer.content) == (202, b"")
    for other in (
        {"event": "Done", "payload": 1},
        {"event": "Other", "payload": {"ok": True}},
        {"event": "Done"},
    ):
        refused(await side.post(href, other), 409, "conflict")


async def test_a_result_from_another_pack_is_refused(side: Side) -> None:
    await side.register()
    await side.register(name=f"{side.pack}Thief")
    await side.ask()
    href = link(await side.taken(), "actionResult")
    refused(
        await side.post(href.replace(f"/{side.pack}/", f"/{side.pack}Thief/"), DONE),
        409,
        "conflict",
    )


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"event": 1}'])
@pytest.mark.parametrize("what", ["result", "event"])
async def test_what_is_no_event_is_refused(side: Side, body: bytes, what: str) -> None:
    await side.register()
    await side.ask()
    href = (
        link(await side.taken(), "actionResult")
        if what == "result"
        else f"/v1/packs/{side.pack}/events"
    )
    answer = await side.http.post(href, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"], len(answer.json()["problems"])) == (
        400,
        "invalid-input",
        1,
    )


@pytest.mark.parametrize("what", ["result", "event"])
async def test_an_event_without_a_name_is_accepted_as_by_the_original(
    side: Side, what: str
) -> None:
    await side.register()
    await side.ask()
    href = (
        link(await side.taken(), "actionResult")
        if what == "result"
        else f"/v1/packs/{side.pack}/events"
    )
    assert (await side.post(href, {})).status_code == 202


# ------------------------------------------------------------------------------------------- leases


async def test_an_action_with_a_limit_has_a_lease_that_heartbeats_keep(side: Side) -> None:
    await side.register()
    await side.ask("x", limit=0.5)
    action = await side.taken()
    assert (action["leaseSeconds"], len(action["links"]), "attempt" in action) == (0.5, 2, False)
    for _ in range(4):
        await asyncio.sleep(0.2)
        answer = await side.post(link(action, "actionHeartbeat"))
        assert (answer.status_code, list(answer.json())) == (200, ["expiresAt"])
    assert (await side.post(link(action, "actionResult"), DONE)).status_code == 202
    refused(await side.post(link(action, "actionHeartbeat")), 409, "conflict")


async def test_an_action_without_a_limit_takes_heartbeats_too(side: Side) -> None:
    await side.register()
    await side.ask("x")
    answer = await side.post(
        link(await side.taken(), "actionResult").replace("/result", "/heartbeat")
    )
    assert (answer.status_code, answer.json()) == (200, {})


async def test_what_is_lost_is_handed_out_again_and_the_first_pack_is_too_late(side: Side) -> None:
    await side.register()
    await side.ask("x", limit=0.2, attempts=2)
    first = await side.taken()
    second = await side.taken()
    assert (second["input"], second["attempt"]) == ("x", 2)
    refused(await side.post(link(first, "actionHeartbeat")), 409, "conflict")
    refused(await side.post(link(first, "actionResult"), DONE), 409, "late")
    refused(await side.post(link(first, "actionResult").partition("?")[0], DONE), 409, "conflict")


async def test_a_result_after_the_last_attempt_was_lost_is_late(side: Side) -> None:
    await side.register()
    await side.ask("x", limit=0.1)
    action = await side.taken()
    answer = await side.post(link(action, "actionHeartbeat"))
    while answer.status_code == 200:
        await asyncio.sleep(0.3)
        answer = await side.post(link(action, "actionHeartbeat"))
    refused(answer, 409, "conflict")
    refused(await side.post(link(action, "actionResult"), DONE), 409, "late")


# ------------------------------------------------------------------------------------------- events


async def test_an_event_with_the_same_key_is_the_same_event_of_that_pack(side: Side) -> None:
    await side.register()
    path, key = f"/v1/packs/{side.pack}/events", {"Idempotency-Key": f"key {side.pack}"}
    first = await side.post(path, DONE, headers=key)
    assert (first.status_code, first.content) == (202, b"")
    again = await side.post(path, {"event": "Other"}, headers=key)
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    await side.register(name=f"{side.pack}Other")
    other = await side.post(f"/v1/packs/{side.pack}Other/events", DONE, headers=key)
    without = await side.post(path, DONE)
    assert len({answer.headers["Location"] for answer in (first, other, without)}) == 3


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_none_is_refused(side: Side, key: str) -> None:
    await side.register()
    answer = await side.post(
        f"/v1/packs/{side.pack}/events", DONE, headers={"Idempotency-Key": key}
    )
    refused(answer, 400, "invalid-input", "Idempotency-Key")


async def test_an_event_that_was_not_declared_is_taken(side: Side) -> None:
    await side.register()
    assert (
        await side.post(f"/v1/packs/{side.pack}/events", {"event": "Undeclared"})
    ).status_code == 202


async def test_a_datastore_item_that_is_not_there_is_not_found(side: Side) -> None:
    refused(await side.http.get("/v1/datastore/no-such-item"), 404, "not-found")


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.slow
async def test_a_server_that_cannot_just_now_says_when_to_try_again(
    side: Side, request: pytest.FixtureRequest
) -> None:
    """The real one cannot while somebody else holds its database."""
    await side.register()
    with contextlib.ExitStack() as stack:
        if isinstance(side, Fake):
            side.server.fail(status=503)
        else:
            folder, _ = request.getfixturevalue("url")
            database = stack.enter_context(
                contextlib.closing(sqlite3.connect(folder / "flyte.db", isolation_level=None))
            )
            database.execute("BEGIN EXCLUSIVE")
        answer = await side.post(f"/v1/packs/{side.pack}/events", DONE)
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert (await side.post(f"/v1/packs/{side.pack}/events", DONE)).status_code == 202


@pytest.fixture(params=["fake", "real"])
def guarded(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[httpx2.AsyncClient, str]]:
    """A server that lets nobody in without a token, and the token."""
    if request.param == "fake":
        yield (
            httpx2.AsyncClient(transport=FakeServer(token="t0ken"), base_url="http://flyte.test"),
            "t0ken",
        )
        return
    process, address = start_server(tmp_path, FLYTE_AUTH="tokens")
    yield (
        httpx2.AsyncClient(base_url=address),
        (tmp_path / "flyte.db.admin-token").read_text().strip(),
    )
    process.terminate()
    process.wait(20)
    process.stdout.close()


async def test_who_shows_no_token_or_a_wrong_one_is_not_let_in(
    guarded: tuple[httpx2.AsyncClient, str],
) -> None:
    http, token = guarded
    async with http:
        assert (await http.get("/v1")).status_code == 200
        answer = await http.post("/v1/packs", json={"name": "P"})
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="flyte"'
        answer = await http.post(
            "/v1/packs", json={"name": "P"}, headers={"Authorization": "Bearer wrong"}
        )
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="flyte", error="invalid_token"'
        answer = await http.post(
            "/v1/packs", json={"name": "P"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 201
