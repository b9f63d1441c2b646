"""Events in, actions out, results back: the life of an action over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

BASE = "http://flyte.test"
Make = Callable[..., Awaitable[dict[str, Any]]]
Step = Callable[..., dict[str, Any]]
Send = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def pending(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> dict[str, Any]:
    """Return an action that the pack Worker has taken."""
    await register("Chat")
    await register("Worker")
    await save_flow(
        "f", step("Chat/Asked", "Worker/Work", id="work", input={"text": "{{ Event.Payload }}"})
    )
    assert (
        await api.post("/v1/packs/Chat/events", json={"event": "Asked", "payload": "dig"})
    ).status_code == 202
    action: dict[str, Any] = (await api.post("/v1/packs/Worker/actions/take")).json()
    return action


async def test_an_accepted_event_is_answered_with_nothing_but_where_to_ask_about_it(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("Chat")
    answer = await api.post("/v1/packs/Chat/events", json={"event": "Asked", "payload": {"a": 1}})
    assert (answer.status_code, answer.content) == (202, b"")
    record = (await api.get(answer.headers["location"])).json()
    assert (record["event"], record["payload"], record["decisions"]) == ("Asked", {"a": 1}, [])


async def test_an_action_is_handed_out_as_old_clients_know_it(pending: dict[str, Any]) -> None:
    href = pending["links"][0]["href"]
    assert href.startswith(f"{BASE}/v1/packs/Worker/actions/")
    assert href.endswith("/result")
    assert pending == {
        "command": "Work",
        "input": {"text": "dig"},
        "links": [{"href": href, "rel": f"{BASE}/swagger#/actionResult"}],
    }


async def test_an_action_without_input_says_so(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/C"))
    await api.post("/v1/packs/P/events", json={"event": "E"})
    action = (await api.post("/v1/packs/P/actions/take")).json()
    assert action["input"] is None


async def test_nothing_to_do_is_an_answer_without_a_body(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("Worker")
    answer = await api.post("/v1/packs/Worker/actions/take")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"null", "application/json"),
        (b"", "application/octet-stream"),
        (b"{", "application/json"),
        (b"a: [", "application/x-yaml"),
        (b"\xff\x00", "multipart/form-data"),
    ],
)
async def test_take_looks_at_no_body(
    api: httpx2.AsyncClient, register: Make, body: bytes, content_type: str
) -> None:
    await register("Worker")
    answer = await api.post(
        "/v1/packs/Worker/actions/take", content=body, headers={"Content-Type": content_type}
    )
    assert answer.status_code == 204


@pytest.mark.parametrize("parameter", ["actionName", "commandName"])
async def test_take_can_ask_for_one_command(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step, parameter: str
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/First", id="a"), step("P/E", "P/Second & Third", id="b"))
    await api.post("/v1/packs/P/events", json={"event": "E"})
    take = "/v1/packs/P/actions/take"
    assert (await api.post(take, params={parameter: "Fourth"})).status_code == 204
    assert (await api.post(take, params={parameter: "Second & Third"})).json()[
        "command"
    ] == "Second & Third"
    assert (await api.post(take, params={parameter: ""})).json()["command"] == "First"


async def test_the_take_link_of_a_command_takes_only_that(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    pack = await register("P", commands=[{"name": "Do it/now"}])
    await save_flow("f", step("P/E", "P/Other", id="a"), step("P/E", "P/Do it", id="b"))
    await api.post("/v1/packs/P/events", json={"event": "E"})
    assert (await api.post(pack["commands"][0]["links"][0]["href"])).status_code == 204


async def test_the_oldest_action_is_handed_out_first_and_each_once(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/C", input="{{ Event.Payload }}"))
    for number in range(8):
        await api.post("/v1/packs/P/events", json={"event": "E", "payload": f"n{number}"})
    first = await api.post("/v1/packs/P/actions/take")
    assert first.json()["input"] == "n0"
    answers = await asyncio.gather(*(api.post("/v1/packs/P/actions/take") for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [204] * 3
    assert len({answer.json()["input"] for answer in answers if answer.status_code == 200}) == 7


async def test_a_result_ends_the_action_and_is_answered_with_nothing(
    api: httpx2.AsyncClient, pending: dict[str, Any]
) -> None:
    answer = await api.post(
        pending["links"][0]["href"], json={"event": "Worked", "payload": {"ok": True}}
    )
    assert (answer.status_code, answer.content) == (202, b"")


async def test_the_same_result_again_is_accepted_and_changes_nothing(
    api: httpx2.AsyncClient, pending: dict[str, Any]
) -> None:
    body = {"event": "Worked", "payload": {"ok": True}}
    for _ in range(3):
        assert (await api.post(pending["links"][0]["href"], json=body)).status_code == 202
    events = (await api.get("/v1/audit/events", params={"event": "Worked"})).json()["events"]
    assert len(events) == 1


@pytest.mark.parametrize(
    "other",
    [{"event": "Failed", "payload": 1}, {"event": "Worked", "payload": 2}, {"event": "Worked"}],
)
async def test_another_result_for_a_finished_action_is_a_conflict(
    api: httpx2.AsyncClient, pending: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (
        await api.post(pending["links"][0]["href"], json={"event": "Worked", "payload": 1})
    ).status_code == 202
    answer = await api.post(pending["links"][0]["href"], json=other)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_an_action_of_another_pack_is_a_conflict(
    api: httpx2.AsyncClient, pending: dict[str, Any], register: Make
) -> None:
    await register("Thief")
    href = pending["links"][0]["href"].replace("/Worker/", "/Thief/")
    answer = await api.post(href, json={"event": "Worked"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_an_action_for_other_labels_is_a_conflict(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P", labels={"env": "a", "more": "x"})
    await register("P", labels={"env": "b"})
    await save_flow("f", step("P/E", "P/C", labels={"env": "a"}))
    await api.post("/v1/packs/P.env.b/events", json={"event": "E"})
    assert (await api.post("/v1/packs/P.env.b/actions/take")).status_code == 204
    action = (await api.post("/v1/packs/P.env.a.more.x/actions/take")).json()
    href = action["links"][0]["href"]
    assert (
        await api.post(href.replace("P.env.a.more.x", "P.env.b"), json={"event": "R"})
    ).status_code == 409
    assert (await api.post(href, json={"event": "R"})).status_code == 202


async def test_a_result_before_the_action_was_taken_is_a_conflict(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("P")
    await save_flow("f", step("P/E", "P/C", id="s"))
    await api.post("/v1/packs/P/events", json={"event": "E"})
    execution = (await api.get("/v1/audit/flows")).json()["flows"][0]
    answer = await api.post(
        f"/v1/packs/P/actions/{execution['actions']['s']['id']}/result", json={"event": "R"}
    )
    assert answer.status_code == 409


async def test_unknown_packs_and_actions_are_not_found(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("P")
    body = {"event": "E"}
    assert (await api.post("/v1/packs/Nobody/events", json=body)).status_code == 404
    assert (await api.post("/v1/packs/Nobody/actions/take")).status_code == 404
    assert (await api.post("/v1/packs/Nobody/actions/1/result", json=body)).status_code == 404
    assert (await api.post("/v1/packs/P/actions/1/result", json=body)).status_code == 404


async def test_a_fatal_result_is_kept_as_such_and_flows_may_answer_it(
    api: httpx2.AsyncClient, pending: dict[str, Any], register: Make, save_flow: Make, step: Step
) -> None:
    await save_flow("alarm", step("Worker/FATAL", "Chat/Say", input="{{ Event.Payload }}"))
    await api.post(pending["links"][0]["href"], json={"event": "FATAL", "payload": "bang"})
    assert (await api.post("/v1/packs/Chat/actions/take")).json()["input"] == "bang"
    execution = (await api.get("/v1/audit/flows", params={"flowName": "f"})).json()["flows"][0]
    assert execution["actions"]["work"]["state"]["value"] == "FATAL"


async def test_a_pack_in_the_body_of_an_event_is_ignored(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("Chat")
    answer = await api.post(
        "/v1/packs/Chat/events", json={"event": "E", "pack": {"id": "Root", "Name": "Root"}}
    )
    record = (await api.get(answer.headers["location"])).json()
    assert record["pack"] == {"id": "Chat", "name": "Chat"}


@pytest.mark.parametrize(
    "text",
    [
        '{"big": 123456789012345678901234567890, "z": 1, "a": 1.10, "e": 1E5}',
        '"\\u003ctag\\u003e \\u0000 \\ud83d\\ude00"',
        "null",
        "false",
        "[]",
        "-0",
        '[{"deep": ' + "[" * 200 + "]" * 200 + "}]",
        "[" + ",".join(["{}"] * 500) + "]",
    ],
)
async def test_payloads_are_kept_as_they_were_sent(
    api: httpx2.AsyncClient, register: Make, text: str
) -> None:
    await register("Chat")
    for body in (
        f'{{"event": "E", "payload": {text} }}',
        f'{{"Event": "E", "unknown": 1, "Payload": {text} }}',
    ):
        answer = await api.post("/v1/packs/Chat/events", content=body)
        assert answer.status_code == 202, answer.text
        assert f'"payload":{text},' in (await api.get(answer.headers["location"])).text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-11-23T13:49:58.493307263Z", "2026-11-23T13:49:58.493307Z"),
        ("2026-11-23T13:49:58+02:00", "2026-11-23T11:49:58Z"),
        ("2026-11-23T13:49:58.5-11:30", "2026-11-24T01:19:58.5Z"),
        ("2026-11-23T13:49:58.100000000Z", "2026-11-23T13:49:58.1Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T02:00:00+02:00", None),
        (None, None),
    ],
)
async def test_the_time_of_an_event_may_be_written_in_many_ways(
    api: httpx2.AsyncClient, register: Make, given: str | None, kept: str | None
) -> None:
    await register("Chat")
    answer = await api.post("/v1/packs/Chat/events", json={"event": "E", "createdAt": given})
    assert answer.status_code == 202, answer.text
    record = (await api.get(answer.headers["location"])).json()
    assert record.get("createdAt") == kept
    assert record["receivedAt"] == "2026-03-01T12:30:00.25Z"


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("2018-02-14T23:18:09.048103123Z", "2018-02-14 23:18:09.048103123 +0000 UTC"),
        ("2018-02-14T23:18:09.0481031+02:00", "2018-02-14 23:18:09.0481031 +0200 +0200"),
        ("2018-02-14T23:18:09.000000001-03:30", "2018-02-14 23:18:09.000000001 -0330 -0330"),
        ("2018-02-14T23:18:09.100000000Z", "2018-02-14 23:18:09.1 +0000 UTC"),
        ("2018-02-14T23:18:09Z", "2018-02-14 23:18:09 +0000 UTC"),
        (None, "2026-03-01 12:30:00.25 +0000 UTC"),
    ],
)
async def test_a_template_prints_the_time_of_an_event_as_its_sender_wrote_it(
    api: httpx2.AsyncClient,
    register: Make,
    save_flow: Make,
    step: Make,
    given: str | None,
    printed: str,
) -> None:
    await register("Chat")
    await register("Worker")
    await save_flow(
        "at", step("Chat/E", "Worker/C", id="a", input={"at": ["{{ Event.CreatedAt }}"]})
    )
    await api.post("/v1/packs/Chat/events", json={"event": "E", "createdAt": given})
    action = (await api.post("/v1/packs/Worker/actions/take")).json()
    assert action["input"] == {"at": [printed]}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "yesterday",
        "2026-11-23",
        "2026-11-23T13:49:58",
        "2026-11-23 13:49:58Z",
        "2026-11-23T13:49:58.1234567890Z",
        "2026-11-23T13:49:58.Z",
        "2026-13-23T13:49:58Z",
        "2026-11-23T25:49:58Z",
        "2026-11-23T13:49:58+25:00",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "٢٠٢٦-11-23T13:49:58Z",
    ],
)
@pytest.mark.parametrize("key", ["createdAt", "CREATEDAT"])
async def test_what_is_no_time_is_refused(
    api: httpx2.AsyncClient, register: Make, given: str, key: str
) -> None:
    await register("Chat")
    answer = await api.post("/v1/packs/Chat/events", json={"event": "E", key: given})
    assert answer.status_code == 400
    assert answer.json()["problems"][0]["path"] == "createdAt"


async def test_a_pack_may_declare_and_send_failures(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Make
) -> None:
    await register("Chat")
    await register("Worker", events=[{"name": "Broken", "failure": True}, {"name": "Fine"}])
    events = (await api.get("/v1/packs/Worker")).json()["events"]
    assert [(event["name"], event.get("failure")) for event in events] == [
        ("Broken", True),
        ("Fine", None),
    ]
    await save_flow("f", step("Chat/E", "Worker/C", id="a"))
    await api.post("/v1/packs/Chat/events", json={"event": "E"})
    action = (await api.post("/v1/packs/Worker/actions/take")).json()
    answer = await api.post(action["links"][0]["href"], json={"event": "Ended", "failure": True})
    assert answer.status_code == 202


async def an_ended_action(api: httpx2.AsyncClient, result: dict[str, Any]) -> str:
    await api.post("/v1/packs/Chat/events", json={"event": "E"})
    action = (await api.post("/v1/packs/Worker/actions/take")).json()
    assert (await api.post(action["links"][0]["href"], json=result)).status_code == 202
    return str(action["links"][0]["href"].split("/")[-2])


@pytest.mark.parametrize(
    ("result", "state", "outcome"),
    [
        ({"event": "Fine"}, "SUCCESS", "SUCCEEDED"),
        ({"event": "Fine", "failure": False}, "SUCCESS", "SUCCEEDED"),
        ({"event": "Fine", "failure": None}, "SUCCESS", "SUCCEEDED"),
        ({"event": "Fine", "failure": True}, "SUCCESS", "FAILED"),
        ({"event": "Fine", "Failure": True, "more": 1}, "SUCCESS", "FAILED"),
        ({"event": "Broken"}, "SUCCESS", "FAILED"),
        ({"event": "Broken", "failure": False}, "SUCCESS", "FAILED"),
        ({"event": "SendMessageFailed"}, "SUCCESS", "FAILED"),
        ({"event": "FATAL"}, "FATAL", "FAILED"),
        ({"event": "FATAL", "failure": False}, "FATAL", "FAILED"),
    ],
)
async def test_an_execution_shows_whether_each_command_succeeded(
    api: httpx2.AsyncClient,
    register: Make,
    save_flow: Make,
    step: Step,
    result: dict[str, Any],
    state: str,
    outcome: str,
) -> None:
    await register("Chat")
    await register("Worker", events=[{"name": "Broken", "failure": True}])
    await save_flow("f", step("Chat/E", "Worker/C", id="a"))
    await an_ended_action(api, result)
    (listed,) = (await api.get("/v1/executions", params={"flowName": "f"})).json()["executions"]
    shown = (await api.get(listed["links"][0]["href"])).json()
    assert listed == shown
    action = shown["actions"]["a"]
    assert (action["state"]["value"], action["outcome"], action["result"]["event"]) == (
        state,
        outcome,
        result["event"],
    )
    event = (await api.get("/v1/audit/events", params={"event": result["event"]})).json()["events"][
        0
    ]
    assert event.get("failure", False) == (outcome == "FAILED")


async def test_the_audit_of_flows_keeps_its_keys(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Step
) -> None:
    await register("Chat")
    await register("Worker")
    await save_flow("f", step("Chat/E", "Worker/C", id="a"))
    await an_ended_action(api, {"event": "Ended", "failure": True})
    (execution,) = (await api.get("/v1/audit/flows")).json()["flows"]
    action = execution["actions"]["a"]
    assert "outcome" not in action
    assert set(action["result"]) == {"event", "pack", "createdAt", "receivedAt"}


async def test_an_action_without_a_result_has_no_outcome(
    pending: dict[str, Any], api: httpx2.AsyncClient
) -> None:
    (execution,) = (await api.get("/v1/executions")).json()["executions"]
    action = execution["actions"]["work"]
    assert ("outcome" in action, action["result"]["event"]) == (False, "")
    assert action == (await api.get("/v1/audit/flows")).json()["flows"][0]["actions"]["work"]


async def test_an_event_that_is_no_result_is_no_failure(
    api: httpx2.AsyncClient, register: Make
) -> None:
    await register("Chat")
    answer = await api.post(
        "/v1/packs/Chat/events", json={"event": "SendMessageFailed", "failure": True}
    )
    assert "failure" not in (await api.get(answer.headers["location"])).json()


async def test_a_mark_that_is_neither_true_nor_false_is_refused(
    pending: dict[str, Any], api: httpx2.AsyncClient
) -> None:
    answer = await api.post(pending["links"][0]["href"], json={"event": "Ended", "failure": "yes"})
    assert (answer.status_code, answer.json()["problems"][0]["path"]) == (400, "failure")


async def test_the_mark_may_come_as_yaml(pending: dict[str, Any], api: httpx2.AsyncClient) -> None:
    body, headers = b"event: Ended\nfailure: true\n", {"Content-Type": "application/x-yaml"}
    assert (
        await api.post(pending["links"][0]["href"], content=body, headers=headers)
    ).status_code == 202
    (execution,) = (await api.get("/v1/executions")).json()["executions"]
    assert execution["actions"]["work"]["outcome"] == "FAILED"


@pytest.mark.parametrize(
    ("resolution", "outcome"), [("succeeded", "SUCCEEDED"), ("failed", "FAILED")]
)
async def test_what_a_person_says_became_of_an_action_is_its_outcome(
    pending: dict[str, Any], api: httpx2.AsyncClient, resolution: str, outcome: str
) -> None:
    action_id = pending["links"][0]["href"].split("/")[-2]
    assert (
        await api.post(f"/v1/actions/{action_id}/resolution", json={"resolution": resolution})
    ).status_code == 204
    (execution,) = (await api.get("/v1/executions")).json()["executions"]
    assert execution["actions"]["work"]["outcome"] == outcome
