"""Packs that stop say so; packs that crash fall silent; actions that were taken can be given
back.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from flyteops.service import Service
from flyteops.storage.base import Store
from tests.support.clock import Clock

Register = Callable[..., Awaitable[dict[str, Any]]]
SECOND = timedelta(seconds=1)


async def report(
    api: httpx2.AsyncClient, instance: str, status: str = "live", pack: str = "P"
) -> int:
    answer = await api.post(
        f"/v1/packs/{pack}/presence", json={"instance": instance, "status": status}
    )
    assert answer.status_code == 200, answer.text
    others: int = answer.json()["others"]
    return others


async def stopped_at(api: httpx2.AsyncClient, pack: str = "P") -> str | None:
    (listed,) = [
        each for each in (await api.get("/v1/packs")).json()["packs"] if each["id"] == pack
    ]
    shown = (await api.get(f"/v1/packs/{pack}")).json()
    assert listed.get("stoppedAt") == shown.get("stoppedAt")
    at: str | None = shown.get("stoppedAt")
    return at


async def test_a_registration_says_where_to_report(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/v1/packs", json={"name": "P", "labels": {"a": "b"}})
    assert answer.links["presence"]["url"] == f"{answer.headers['location']}/presence"


async def test_a_pack_that_stops_is_stopped_until_it_is_seen_again(
    api: httpx2.AsyncClient, register: Register, clock: Clock
) -> None:
    await register("P")
    assert await report(api, "one") == 0
    assert await stopped_at(api) is None
    clock.move(SECOND)
    assert await report(api, "one", "stopped") == 0
    assert await stopped_at(api) == "2026-03-01T12:30:01.25Z"
    clock.move(SECOND)
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 204
    assert await stopped_at(api) is None
    clock.move(SECOND)
    await report(api, "one", "stopped")
    await register("P")
    assert await stopped_at(api) is not None  # in the same moment
    clock.move(SECOND)
    await register("P")
    assert await stopped_at(api) is None


async def test_a_pack_is_at_work_while_one_of_its_instances_is(
    api: httpx2.AsyncClient, register: Register, clock: Clock
) -> None:
    await register("P")
    await register("P", labels={"env": "dev"})
    assert [await report(api, instance) for instance in ("one", "two", "one")] == [0, 1, 1]
    assert await report(api, "three", pack="P.env.dev") == 0
    clock.move(SECOND)
    assert await report(api, "one", "stopped") == 1
    assert await stopped_at(api) is None
    assert await report(api, "three", "stopped", pack="P.env.dev") == 0
    assert (await stopped_at(api), await stopped_at(api, "P.env.dev")) == (
        None,
        "2026-03-01T12:30:01.25Z",
    )
    assert await report(api, "two", "stopped") == 0
    assert await report(api, "two", "stopped") == 0
    assert await stopped_at(api) == "2026-03-01T12:30:01.25Z"


async def test_an_instance_that_crashed_is_forgotten_after_a_while_and_the_pack_then_stops_with_the_last(
    api: httpx2.AsyncClient, register: Register, clock: Clock
) -> None:
    await register("P")
    await report(api, "crashed")
    clock.move(timedelta(minutes=1))
    assert await report(api, "one") == 1
    clock.move(timedelta(minutes=1))
    assert await report(api, "one", "stopped") == 0
    assert await stopped_at(api) is not None


async def test_a_pack_that_says_nothing_at_its_end_is_silent(
    api: httpx2.AsyncClient, register: Register, clock: Clock
) -> None:
    await register("Old")
    await api.post("/v1/packs/Old/actions/take")
    clock.move(timedelta(days=7))
    assert await stopped_at(api, "Old") is None


async def test_that_a_pack_stopped_survives_a_restart_and_its_removal_does_not(
    api: httpx2.AsyncClient, register: Register, store: Store, clock: Clock, service: Service
) -> None:
    for name in ("P", "Q"):
        await register(name)
        await report(api, "one", "stopped", pack=name)
    await service.run_maintenance()
    again = Service(store, clock=clock)
    await again.start()
    assert [pack.stopped_at for pack in await again.packs.list()] == [clock.now, clock.now]
    await again.packs.delete("P")
    await again.packs.delete("Q")
    assert await store.list_notes("pack-stopped") == []


async def test_reports_of_packs_that_are_not_known_or_make_no_sense_are_refused(
    api: httpx2.AsyncClient, register: Register
) -> None:
    assert (await api.post("/v1/packs/Nobody/presence", json={"instance": "x"})).status_code == 404
    await register("P")
    for body in (
        {},
        {"instance": ""},
        {"instance": "x" * 101},
        {"instance": 1},
        {"instance": "x", "status": "dead"},
        [],
    ):
        assert (await api.post("/v1/packs/P/presence", json=body)).status_code == 400, body


async def test_instances_without_number_are_not_all_kept(
    service: Service, api: httpx2.AsyncClient, register: Register
) -> None:
    await register("P")
    for number in range(1010):
        others = await service.packs.report_presence("P", str(number), stops=False)
    assert others == 1001


@pytest.fixture
async def action(
    api: httpx2.AsyncClient, register: Register, save_flow: Register
) -> dict[str, Any]:
    """An action that the pack P has taken."""
    await register("P")
    await register("Other")
    command = {"name": "C", "packName": "P"}
    await save_flow("f", {"id": "s", "event": {"name": "E", "packName": "P"}, "command": command})
    await save_flow(
        "g",
        {
            "id": "s",
            "event": {"name": "L", "packName": "P"},
            "command": {**command, "timeout": "1m"},
        },
    )
    await api.post("/v1/packs/P/events", json={"event": "E"})
    return await take(api)


async def take(api: httpx2.AsyncClient) -> dict[str, Any]:
    taken: dict[str, Any] = (await api.post("/v1/packs/P/actions/take?max=1")).json()["actions"][0]
    return taken


def link_of(action: dict[str, Any], rel: str) -> str:
    return next(link["href"] for link in action["links"] if link["rel"].endswith(rel))


async def test_an_action_that_is_given_back_is_handed_out_again(
    api: httpx2.AsyncClient, action: dict[str, Any]
) -> None:
    result, back = link_of(action, "actionResult"), link_of(action, "actionReturn")
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 204
    assert (await api.post(back)).status_code == 204
    assert (await api.post(back)).status_code == 409
    assert (await api.post(result, json={"event": "Done"})).status_code == 409
    again = await take(api)
    assert link_of(again, "actionResult") == result
    assert (await api.post(result, json={"event": "Done"})).status_code == 202
    assert (await api.post(link_of(again, "actionReturn"))).status_code == 409


async def test_a_return_that_is_repeated_does_not_take_the_action_from_another(
    api: httpx2.AsyncClient, action: dict[str, Any]
) -> None:
    back = link_of(action, "actionReturn")
    assert (await api.post(back)).status_code == 204
    again = await take(api)
    assert (await api.post(back)).status_code == 409
    assert (await api.post(back.partition("?")[0])).status_code == 409
    assert (await api.post("/v1/packs/P/actions/take")).status_code == 204
    assert (
        await api.post(link_of(again, "actionResult"), json={"event": "Done"})
    ).status_code == 202


async def test_an_action_is_given_back_by_its_pack_alone(
    api: httpx2.AsyncClient, action: dict[str, Any]
) -> None:
    result, back = link_of(action, "actionResult"), link_of(action, "actionReturn")
    assert (await api.post(back.replace("/P/", "/Other/"))).status_code == 409
    assert (await api.post(back.replace("/P/", "/Nobody/"))).status_code == 404
    assert (await api.post("/v1/packs/P/actions/none/return")).status_code == 404
    assert (await api.post(result, json={"event": "Done"})).status_code == 202


async def test_a_lease_is_given_back_with_its_token_and_the_attempt_does_not_count(
    api: httpx2.AsyncClient, action: dict[str, Any]
) -> None:
    await api.post("/v1/packs/P/events", json={"event": "L"})
    back = link_of(await take(api), "actionReturn")
    assert (await api.post(back.partition("?")[0])).status_code == 409
    assert (await api.post(back)).status_code == 204
    second = (await api.post("/v1/packs/P/actions/take")).json()
    assert (second["command"], second.get("attempt", 1)) == ("C", 1)
    assert (await api.post(second["links"][0]["href"], json={"event": "Done"})).status_code == 202
