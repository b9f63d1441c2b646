"""Looking back: executions as old clients know them, and why steps did or did not run."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from flyteops.model import Evaluation, Event, NewAction, PackRef
from flyteops.storage.base import Store
from tests.support.clock import Clock

BASE = "http://flyte.test"
Make = Callable[..., Awaitable[dict[str, Any]]]
Step = Callable[..., dict[str, Any]]


@pytest.fixture
async def history(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step, clock: Clock
) -> None:
    """Make two executions of `deploy`, of which the first has ended, and one of `log`, each a
    minute after the other.
    """
    await register("Chat", labels={"env": "lab"})
    await register("Worker", labels={"env": "lab", "net": "x"})
    deploy = step(
        "Chat/Asked",
        "Worker/Deploy",
        id="go",
        context={"who": "{{ Event.Payload.who }}"},
        input={"a": 1},
        labels={"env": "lab"},
    )
    await save_flow("deploy", deploy)
    await save_flow("log", step("Chat/Logged", "Worker/Write", id="write"))
    await api.post(
        "/v1/packs/Chat.env.lab/events", json={"event": "Asked", "payload": {"who": "ann"}}
    )
    clock.move(timedelta(minutes=1))
    action = (await api.post("/v1/packs/Worker.env.lab.net.x/actions/take")).json()
    clock.move(timedelta(minutes=1))
    await api.post(
        action["links"][0]["href"],
        json={"event": "Deployed", "createdAt": "2026-03-01T12:00:00+01:00"},
    )
    for name in ("Asked", "Logged"):
        clock.move(timedelta(minutes=1))
        await api.post(
            "/v1/packs/Chat.env.lab/events", json={"event": name, "payload": {"who": "bob"}}
        )


async def executions(api: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await api.get("/v1/audit/flows", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["flows"]
    return found


@pytest.mark.usefixtures("history")
async def test_an_execution_tells_everything_that_happened_in_it(api: httpx2.AsyncClient) -> None:
    execution = (await executions(api))[-1]
    action = execution["actions"]["go"]
    here = f"{BASE}/v1/audit/flows/{execution['correlationId']}"
    assert execution == {
        "name": "deploy",
        "uuid": action["flowUUID"],
        "correlationId": action["correlationId"],
        "steps": (await api.get("/v1/flows/deploy")).json()["steps"],
        "actions": {"go": action},
        "links": [{"href": here, "rel": "self"}],
    }
    assert action == {
        "id": action["id"],
        "name": "Deploy",
        "packName": "Worker",
        "packLabels": {"env": "lab"},
        "input": {"a": 1},
        "state": {"value": "SUCCESS", "time": "2026-03-01T12:32:00.25Z"},
        "states": [
            {"value": "NEW", "time": "2026-03-01T12:30:00.25Z"},
            {"value": "PENDING", "time": "2026-03-01T12:31:00.25Z"},
            {"value": "SUCCESS", "time": "2026-03-01T12:32:00.25Z"},
        ],
        "correlationId": execution["correlationId"],
        "flowName": "deploy",
        "flowUUID": execution["uuid"],
        "stepId": "go",
        "context": {"who": "ann"},
        "trigger": {
            "event": "Asked",
            "pack": {"id": "Chat.env.lab", "name": "Chat", "labels": {"env": "lab"}},
            "payload": {"who": "ann"},
            "createdAt": "2026-03-01T12:30:00.25Z",
            "receivedAt": "2026-03-01T12:30:00.25Z",
        },
        "result": {
            "event": "Deployed",
            "pack": {
                "id": "Worker.env.lab.net.x",
                "name": "Worker",
                "labels": {"env": "lab", "net": "x"},
            },
            "createdAt": "2026-03-01T11:00:00Z",
            "receivedAt": "2026-03-01T12:32:00.25Z",
        },
    }
    assert (await api.get(here)).json() == execution


async def test_an_action_without_a_result_has_one_with_empty_fields(
    api: httpx2.AsyncClient, register: Make, save_flow: Make
) -> None:
    await register("P")
    step = {
        "id": "s",
        "event": {"packName": "P", "name": "E"},
        "command": {"packName": "P", "name": "C"},
    }
    await save_flow(name="f", steps=[step])
    await api.post("/v1/packs/P/events", json={"event": "E"})
    (execution,) = (await api.get("/v1/audit/flows?limit=0")).json()["flows"]
    action = execution["actions"]["s"]
    nothing = {
        "event": "",
        "pack": {"id": "", "name": ""},
        "createdAt": "0001-01-01T00:00:00Z",
        "receivedAt": "0001-01-01T00:00:00Z",
    }
    assert (action["input"], action["result"]) == (None, nothing)


@pytest.mark.usefixtures("history")
async def test_executions_come_with_the_latest_activity_first(api: httpx2.AsyncClient) -> None:
    answer = (await api.get("/v1/audit/flows")).json()
    assert [execution["name"] for execution in answer["flows"]] == ["log", "deploy", "deploy"]
    assert answer["links"] == [
        {"href": f"{BASE}/v1/audit/flows", "rel": "self"},
        {"href": f"{BASE}/v1", "rel": "up"},
        {"href": f"{BASE}/swagger#/flowExecs", "rel": "help"},
    ]


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"flowName": "deploy"}, ["deploy", "deploy"]),
        ({"stepId": "write"}, ["log"]),
        ({"actionName": "Deploy"}, ["deploy", "deploy"]),
        ({"actionPackName": "Worker"}, ["log", "deploy", "deploy"]),
        ({"actionPackLabels": "env:lab"}, ["deploy", "deploy"]),
        ({"actionPackLabels": "env:lab,net:x"}, []),
        ({"flowName": "deploy", "actionName": "Write"}, []),
        ({"flowName": "", "actionPackLabels": ""}, ["log", "deploy", "deploy"]),
        ({"start": 1}, ["deploy", "deploy"]),
        ({"limit": 1}, ["log"]),
        ({"start": 1, "limit": 1}, ["deploy"]),
        ({"start": 99}, []),
        ({"limit": 100000}, ["log", "deploy", "deploy"]),
    ],
)
async def test_executions_are_found_by_what_one_action_satisfies(
    api: httpx2.AsyncClient, params: dict[str, Any], names: list[str]
) -> None:
    assert [execution["name"] for execution in await executions(api, **params)] == names


@pytest.mark.parametrize("path", ["/v1/audit/flows", "/v1/audit/events"])
@pytest.mark.parametrize(
    "query",
    [
        "start=-1",
        "start=x",
        "start=1.5",
        "start=99999999999",
        "limit=-1",
        "limit=%D9%A3",
        "limit=" + "9" * 5000,
        "limit=1e3",
        "start=%ff",
        "&".join(f"a{n}=1" for n in range(200)),
    ],
)
async def test_a_page_that_is_none_is_refused(
    api: httpx2.AsyncClient, path: str, query: str
) -> None:
    answer = await api.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-input")


@pytest.mark.parametrize("labels", ["env", "env:a,b", ",", "env=a"])
async def test_labels_that_are_no_pairs_are_refused(api: httpx2.AsyncClient, labels: str) -> None:
    answer = await api.get("/v1/audit/flows", params={"actionPackLabels": labels})
    assert answer.status_code == 400
    assert answer.json()["problems"][0]["path"] == "actionPackLabels"


@pytest.mark.parametrize("path", ["/v1/audit/flows/none", "/v1/audit/events/none"])
async def test_what_is_not_in_the_audit_is_not_found(api: httpx2.AsyncClient, path: str) -> None:
    assert (await api.get(path)).status_code == 404


@pytest.mark.usefixtures("history")
async def test_an_event_tells_why_a_step_ran(api: httpx2.AsyncClient) -> None:
    (event,) = (await api.get("/v1/audit/events", params={"event": "Logged"})).json()["events"]
    here = f"{BASE}/v1/audit/events/{event['id']}"
    (decision,) = event["decisions"]
    assert event == {
        "id": event["id"],
        "event": "Logged",
        "pack": {"id": "Chat.env.lab", "name": "Chat", "labels": {"env": "lab"}},
        "payload": {"who": "bob"},
        "receivedAt": "2026-03-01T12:34:00.25Z",
        "decisions": [decision],
        "links": [
            {"href": here, "rel": "self"},
            {"href": f"{BASE}/v1/audit/events", "rel": "up"},
            {"href": f"{BASE}/swagger#/eventAudit", "rel": "help"},
        ],
    }
    assert (decision["flowName"], decision["stepId"], decision["outcome"]) == (
        "log",
        "write",
        "ran",
    )
    execution = (await api.get(decision["links"][0]["href"])).json()
    assert execution["actions"]["write"]["id"] == decision["actionId"]
    assert (await api.get(here)).json() == event


async def test_an_event_tells_why_a_step_did_not_run(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P")
    await save_flow(
        "f",
        step("P/E", "P/C", id="a", criteria="{{ Event.Payload.n == 2 }}"),
        step("P/E", "P/C", id="b", criteria="maybe"),
    )
    answer = await api.post("/v1/packs/P/events", json={"event": "E", "payload": {"n": 1}})
    decisions = (await api.get(answer.headers["location"])).json()["decisions"]
    assert [
        (decision["stepId"], decision["outcome"], decision["reason"]) for decision in decisions
    ] == [
        ("a", "skipped", "criteria"),
        ("b", "failed", "error"),
    ]
    assert decisions[0]["values"] == {"Event.Payload.n": "1"}
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 204


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["Logged", "Asked", "Deployed", "Asked"]),
        ({"event": "Asked"}, ["Asked", "Asked"]),
        ({"packName": "Worker"}, ["Deployed"]),
        ({"flowName": "log"}, ["Logged"]),
        ({"start": 1, "limit": 2}, ["Asked", "Deployed"]),
    ],
)
async def test_events_are_found_newest_first(
    api: httpx2.AsyncClient, params: dict[str, Any], names: list[str]
) -> None:
    events = (await api.get("/v1/audit/events", params=params)).json()["events"]
    assert [event["event"] for event in events] == names


@pytest.mark.usefixtures("history")
async def test_a_result_in_the_audit_names_its_action(api: httpx2.AsyncClient) -> None:
    (event,) = (await api.get("/v1/audit/events", params={"event": "Deployed"})).json()["events"]
    assert event["actionId"] == (await executions(api))[-1]["actions"]["go"]["id"]


async def test_an_execution_on_a_version_that_nobody_has_any_more_is_told_without_steps(
    api: httpx2.AsyncClient, store: Store, clock: Clock
) -> None:
    action = NewAction("a1", "x1", "gone", "no-such-version", "s", 0, "C", "P", {}, b"null", {})
    event = Event("e1", "E", PackRef("P", "P"), b"null", clock.now)
    await store.record(event, Evaluation(actions=(action,)))
    (execution,) = await executions(api)
    assert (execution["name"], execution["steps"], list(execution["actions"])) == (
        "gone",
        [],
        ["s"],
    )
    assert (await api.get("/v1/audit/flows/x1")).json() == execution


async def test_an_answer_that_would_be_too_long_is_cut_and_says_where_it_goes_on(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteops.storage.row.PAGE_BYTES", 250_000)
    await register("P")
    await save_flow(
        "f", {"event": {"name": "E", "packName": "P"}, "command": {"name": "C", "packName": "P"}}
    )
    for number in range(7):
        answer = await api.post(
            "/v1/packs/P/events",
            json={"event": "E", "payload": {"n": number, "long": "x" * 90_000}},
        )
        assert answer.status_code == 202
    for path, key in (
        ("/v1/audit/flows?flowName=f", "flows"),
        ("/v1/audit/events?event=E", "events"),
    ):
        found, lengths = [], []
        url: str | None = path
        while url is not None:
            body = (await api.get(url)).json()
            found += body[key]
            lengths.append(len(body[key]))
            url = next((link["href"] for link in body["links"] if link["rel"] == "next"), None)
        assert lengths == [2, 2, 2, 1]
        assert len({json.dumps(each["links"]) for each in found}) == 7


async def test_what_is_too_long_for_an_answer_alone_is_shown_alone(
    api: httpx2.AsyncClient, register: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteops.storage.row.PAGE_BYTES", 10)
    await register("P")
    for _ in range(2):
        await api.post("/v1/packs/P/events", json={"event": "E", "payload": "x" * 100})
    assert len((await api.get("/v1/audit/events")).json()["events"]) == 1
