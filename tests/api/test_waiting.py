"""Waiting for actions, leases and keys, as clients see them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from flyteops.model import NewEvent
from flyteops.service import Service
from flyteops.web.api.request import DisconnectedError
from tests.api.conftest import Asked, Server
from tests.support.clock import Clock

Make = Callable[..., Awaitable[dict[str, Any]]]

STEP = {
    "id": "s",
    "event": {"name": "E", "packName": "P"},
    "command": {"name": "C", "packName": "P", "input": [1]},
}
LEASED = {**STEP, "command": {**STEP["command"], "timeout": "5m", "onLost": "ask"}}  # type: ignore[dict-item]
TAKE, EVENTS = "/v1/packs/P/actions/take", "/v1/packs/P/events"


@pytest.fixture
async def _pack(register: Make) -> None:
    await register("P")


async def send(api: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    answer = await api.post(EVENTS, json={"event": "E"}, headers=headers)
    assert answer.status_code == 202
    return answer


async def someone_waits(service: Service, count: int = 1) -> None:
    """Return once so many callers wait; they come over a network, so there is nothing else to
    wait on.
    """
    async with asyncio.timeout(10):
        while service.waiting_count != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("_pack")
async def test_take_answers_as_soon_as_there_is_something(
    api: httpx2.AsyncClient, server: Server, service: Service, save_flow: Make
) -> None:
    await save_flow("f", STEP)
    wire = await server.connect()
    await wire.send(b"POST /v1/packs/P/actions/take?wait=30 HTTP/1.1\r\nHost: h\r\n\r\n")
    await someone_waits(service)
    await send(api)
    status, _, body = await wire.answer()
    assert (status, json.loads(body)["command"]) == (200, "C")


@pytest.mark.usefixtures("_pack")
async def test_take_gives_up_after_its_time(api: httpx2.AsyncClient) -> None:
    assert (await api.post(f"{TAKE}?wait=0.01")).status_code == 204


@pytest.mark.usefixtures("_pack")
async def test_what_a_client_that_has_gone_was_waiting_for_goes_to_others(
    api: httpx2.AsyncClient, server: Server, service: Service, save_flow: Make
) -> None:
    await save_flow("f", STEP)
    gone, waiting = await server.connect(), await server.connect()
    for wire in (gone, waiting):
        await wire.send(b"POST /v1/packs/P/actions/take?wait=30 HTTP/1.1\r\nHost: h\r\n\r\n")
    await someone_waits(service, 2)
    await gone.close()
    await someone_waits(service, 1)
    await send(api)
    assert (await waiting.answer())[0] == 200


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.usefixtures("_pack")
async def test_an_action_that_is_found_while_the_wait_is_given_up_goes_to_others(
    service: Service, save_flow: Make, is_gone: bool
) -> None:
    """The server stops, or the client leaves, at any time between the event and the response."""
    await save_flow("f", STEP)
    ended = set()
    for steps in (*range(12), None):
        request = Asked("POST", TAKE)
        work = service.take("P", wait=timedelta(seconds=30))
        waiting = asyncio.create_task(request.deliver(work, service.release_claims, waits=True))
        await someone_waits(service)
        await service.accept_event("P", NewEvent("E", b"null"))
        for _ in range(steps or 0):
            await asyncio.sleep(0)
        if steps is None:  # the work is done, its response is not sent yet
            await asyncio.wait([waiting])
        if is_gone:
            request.leave()
        else:
            waiting.cancel()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        ended.add(type(outcome))
        await request.undo()
        assert len(await service.take("P", limit=2, wait=timedelta(seconds=10))) == 1
    assert ended == {DisconnectedError if is_gone else asyncio.CancelledError, list}


@pytest.mark.usefixtures("_pack")
async def test_several_actions_are_taken_at_once_if_that_is_asked_for(
    api: httpx2.AsyncClient, save_flow: Make
) -> None:
    await save_flow("f", STEP)
    for _ in range(3):
        await send(api)
    body = (await api.post(f"{TAKE}?max=2")).json()
    assert [(action["command"], action["input"]) for action in body["actions"]] == [("C", [1])] * 2
    assert len((await api.post(f"{TAKE}?max=2&wait=5")).json()["actions"]) == 1
    assert (await api.post(f"{TAKE}?max=2")).status_code == 204


CHAIN = {
    "id": "t",
    "dependsOn": ["s"],
    "event": {"name": "Done", "packName": "P"},
    "command": {"name": "D", "packName": "P"},
}


async def send_result(api: httpx2.AsyncClient, action: dict[str, Any]) -> httpx2.Response:
    href = next(link["href"] for link in action["links"] if link["rel"].endswith("actionResult"))
    joint = "&" if "?" in href else "?"
    return await api.post(f"{href}{joint}take=1", json={"event": "Done"})


@pytest.mark.usefixtures("_pack")
async def test_the_answer_to_a_result_holds_the_next_action_if_that_is_asked_for(
    api: httpx2.AsyncClient, service: Service, save_flow: Make
) -> None:
    await save_flow("f", LEASED, CHAIN)
    await send(api)
    waiting = asyncio.create_task(service.take("P", "D", wait=timedelta(seconds=30)))
    await someone_waits(service)
    (first,) = (await api.post(f"{TAKE}?max=1")).json()["actions"]
    answer = await send_result(api, first)
    assert answer.status_code == 200
    (second,) = answer.json()["actions"]
    assert second["command"] == "D"
    assert not waiting.done()  # it has gone with the answer alone
    assert (await send_result(api, first)).status_code == 202  # the same result again
    assert (await send_result(api, second)).status_code == 202
    waiting.cancel()


@pytest.mark.usefixtures("_pack")
async def test_an_action_that_does_not_come_with_the_answer_goes_to_a_waiting_caller(
    api: httpx2.AsyncClient, service: Service, save_flow: Make
) -> None:
    """An older one comes with the answer."""
    await save_flow("f", STEP, CHAIN)
    for _ in range(2):
        await send(api)
    (first,) = (await api.post(f"{TAKE}?max=1")).json()["actions"]
    waiting = asyncio.create_task(service.take("P", "D", wait=timedelta(seconds=30)))
    await someone_waits(service)
    (second,) = (await send_result(api, first)).json()["actions"]
    assert second["command"] == "C"
    assert [each.name for each in await waiting] == ["D"]


@pytest.mark.usefixtures("_pack")
async def test_an_action_whose_client_has_left_before_the_answer_goes_to_others(
    service: Service, save_flow: Make
) -> None:
    await save_flow("f", STEP, CHAIN)
    await service.accept_event("P", NewEvent("E", b"null"))
    (first,) = await service.take("P")
    request = Asked("POST", f"/v1/packs/P/actions/{first.action_id}/result")
    work = service.complete("P", first.action_id, NewEvent("Done", b"null"), take=1)
    request.leave()
    with pytest.raises(DisconnectedError):
        await request.deliver(work, service.release_claims, waits=False)
    (second,) = await service.take("P", wait=timedelta(seconds=10))
    assert second.name == "D"


@pytest.mark.parametrize("query", ["take=-1", "take=101", "take=x"])
@pytest.mark.usefixtures("_pack")
async def test_a_result_with_an_absurd_take_is_refused(api: httpx2.AsyncClient, query: str) -> None:
    answer = await api.post(f"/v1/packs/P/actions/1/result?{query}", json={"event": "Done"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "query", ["wait=-1", "wait=soon", "wait=1e3", "max=0", "max=101", "max=x", "wait=%C2%B2"]
)
@pytest.mark.usefixtures("_pack")
async def test_absurd_wishes_are_refused(api: httpx2.AsyncClient, query: str) -> None:
    assert (await api.post(f"{TAKE}?{query}")).status_code == 400


@pytest.mark.usefixtures("_pack")
async def test_an_action_without_a_time_limit_looks_as_it_always_did(
    api: httpx2.AsyncClient, save_flow: Make
) -> None:
    await save_flow("f", STEP)
    await send(api)
    body = (await api.post(TAKE)).json()
    assert set(body) == {"command", "input", "links"}
    (link,) = body["links"]
    assert link["href"].endswith("/result")


@pytest.mark.usefixtures("_pack")
async def test_a_lease_is_in_the_links(
    api: httpx2.AsyncClient, service: Service, save_flow: Make, clock: Clock
) -> None:
    await save_flow("f", LEASED)
    await send(api)
    body = (await api.post(TAKE)).json()
    result, heartbeat = (link["href"] for link in body["links"])
    assert body["leaseSeconds"] == 300
    assert [link["rel"].rpartition("/")[2] for link in body["links"]] == [
        "actionResult",
        "actionHeartbeat",
    ]
    clock.move(timedelta(minutes=4))
    assert (await api.post(heartbeat)).json() == {"expiresAt": "2026-03-01T12:39:00.25Z"}
    clock.move(timedelta(minutes=5))
    await service.process_due()
    (action,) = (await api.get("/v1/actions?state=unknown")).json()["actions"]
    assert (action["state"], action["attempt"]) == ("UNKNOWN", 1)
    assert (await api.post(heartbeat)).status_code == 409
    resolution = next(
        link["href"] for link in action["links"] if link["rel"].endswith("resolveAction")
    )
    assert (await api.post(resolution, json={"resolution": "failed"})).status_code == 204
    answer = await api.post(result, json={"event": "Done"})
    assert (answer.status_code, answer.json()["code"]) == (409, "late")
    shown = (await api.get("/v1/audit/flows")).json()["flows"][0]["actions"]["s"]
    assert shown["state"]["value"] == "FATAL"
    assert shown["attempts"][0]["lateResult"]["event"] == "Done"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resolution": "maybe"},
        {"resolution": "retry", "event": "E"},
        {"resolution": "failed", "event": "E"},
        [],
    ],
)
@pytest.mark.usefixtures("_pack")
async def test_a_resolution_that_makes_no_sense_is_refused(
    api: httpx2.AsyncClient, body: Any
) -> None:
    answer = await api.post("/v1/actions/1/resolution", json=body)
    assert (answer.status_code, bool(answer.json()["problems"])) == (400, True)


async def test_what_became_of_an_action_is_one_of_three(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/actions/1/resolution", json={"resolution": "maybe", "event": 1})
    problems = {problem["path"]: problem["message"] for problem in answer.json()["problems"]}
    assert problems["resolution"] == "must be one of failed, retry, succeeded"
    assert set(problems) == {"resolution", "event"}


@pytest.mark.parametrize(
    "after", ["99999999999999999999", "2147483648", "-1", "1e5", "x", "1.", ".5"]
)
async def test_an_absurd_time_is_refused(api: httpx2.AsyncClient, after: str) -> None:
    answer = await api.get(f"/v1/actions?overdue=true&after={after}")
    assert (answer.status_code, answer.json()["problems"][0]["path"]) == (400, "after")


async def test_what_is_not_there_cannot_be_resolved(api: httpx2.AsyncClient) -> None:
    assert (
        await api.post("/v1/actions/1/resolution", json={"resolution": "retry"})
    ).status_code == 404


@pytest.mark.usefixtures("_pack")
async def test_the_same_key_again_is_the_same_event(
    api: httpx2.AsyncClient, save_flow: Make
) -> None:
    await save_flow("f", STEP)
    answers = [await send(api, **{"Idempotency-Key": "delivery-1"}) for _ in range(2)]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert len((await api.post(f"{TAKE}?max=9")).json()["actions"]) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256])
@pytest.mark.usefixtures("_pack")
async def test_a_key_that_is_none_is_refused(api: httpx2.AsyncClient, key: str) -> None:
    answer = await api.post(EVENTS, json={"event": "E"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["problems"][0]["path"]) == (400, "Idempotency-Key")


async def test_ready_is_told_from_alive(api: httpx2.AsyncClient, service: Service) -> None:
    assert (await api.get("/health/ready")).json() == {"status": "ready"}
    service.end_long_polls()
    answer = await api.get("/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["The server is stopping."])
    assert (await api.get("/health/live")).json() == {"status": "alive"}
    assert (await api.get("/health")).status_code == 200
