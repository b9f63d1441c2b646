"""Executions of the original are taken over while the store works, first those that are asked
for.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from flyteops.errors import NotFoundError, UnreadableError
from flyteops.model import ActionState, PackRef
from flyteops.storage import open_store
from flyteops.storage.dump import move
from flyteops.storage.mongodb import MongoStore
from flyteops.storage.query import ActionFilter, ExecutionFilter, Retention
from flyteops.testing.sample import NOTHING, Sample, always
from flyteops.url import OriginalUrl
from tests.mongodb import place

pytestmark = pytest.mark.mongodb

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ZERO = datetime(1, 1, 1, tzinfo=UTC)

ANYTHING = ExecutionFilter()
LIVE = {"_id": "takeover", "owner": "another server", "until": 2**60}
"""What says that another server converts at the moment."""


def event(name: str, at: datetime) -> dict[str, Any]:
    pack = {"_id": "Chat", "name": "Chat", "labels": None}
    return {"name": name, "pack": pack, "payload": {"n": 1.0}, "createdAt": ZERO, "receivedAt": at}


def action(
    number: int, run: int, *states: str, began: int, step: str = "ask", **fields: Any
) -> dict[str, Any]:
    """Return an action of the original that began so many minutes before now, and changed its
    state each minute.
    """
    at = NOW - timedelta(minutes=began)
    times = [at + timedelta(minutes=minute) for minute in range(len(states))]
    history: list[dict[str, Any]] = [
        {"value": each, "time": time} for each, time in zip(states, times, strict=True)
    ]
    return {
        "_id": f"{number:024x}",
        "name": "Run",
        "packName": "Shell",
        "packLabels": {"env": "prod"} if number % 2 else None,
        "input": {"command": "date", "times": 3.0},
        "state": history[-1],
        "states": history,
        "correlationId": f"run-{run}",
        "flowName": "even" if run % 2 == 0 else "odd",
        "flowUUID": "version-1",
        "stepId": step,
        "context": {"channel": "general"},
        "trigger": event("Asked", at),
        **(
            {"result": event("Output", history[-1]["time"])}
            if states[-1] in ("SUCCESS", "FATAL")
            else {}
        ),
        **fields,
    }


DONE = ("NEW", "PENDING", "SUCCESS")

LIVE_ACTIONS = [
    *[action(10 * run, run, *DONE, began=500 - 7 * run) for run in range(1, 13)],
    # Another step is what makes these the latest, or what a filter is about.
    action(31, 3, *DONE, began=20, step="answer", name="Say"),
    action(71, 7, *DONE, began=600, step="answer", name="Say"),
    action(81, 8, "NEW", "PENDING", began=40, step="answer"),
    action(91, 9, "NEW", began=450, step="answer"),
    action(92, 9, "NEW", began=460, step="third"),
]
COPIES_ONLY = [
    action(200, 20, "NEW", "PENDING", "FATAL", began=30),
    action(201, 21, *DONE, began=9000),
]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyteops.storage.mongodb.conversion.BEGIN_AFTER", 0)


@pytest.fixture
async def database() -> AsyncIterator[tuple[str, Any]]:
    async with place() as url, AsyncMongoClient(url, tz_aware=True) as client:
        raw = client.get_default_database()
        await raw.action.insert_many(LIVE_ACTIONS)
        await raw.audit.insert_many([*LIVE_ACTIONS, *COPIES_ONLY])
        version = {"uuid": "version-1", "name": "odd", "description": "", "steps": []}
        await raw.flowHistory.insert_one({"_id": ObjectId(), **version})
        yield url, raw


async def converted(store: MongoStore) -> None:
    async with asyncio.timeout(20):
        while store.warnings():  # noqa: ASYNC110 - a store only tells when it is asked
            await asyncio.sleep(0.01)


async def forget(raw: Any) -> None:
    """Let nothing be taken over, and another server be busy with it."""
    await raw.flyte_execution.delete_many({})
    for collection in (raw.action, raw.audit):
        await collection.update_many({}, {"$unset": {"flyte": 1}})
    await raw.flyte_number.replace_one({"_id": "takeover"}, LIVE, upsert=True)


FILTERS = [
    (ANYTHING, 0, 3),
    (ANYTHING, 2, 4),
    (ANYTHING, 0, 50),
    (ExecutionFilter(flow_name="odd"), 0, 2),
    (ExecutionFilter(flow_name="odd"), 3, 2),
    (ExecutionFilter(step_id="ask"), 0, 3),
    (ExecutionFilter(step_id="answer"), 0, 2),
    (ExecutionFilter(action_name="Say", flow_name="odd"), 0, 1),
    (ExecutionFilter(action_pack_name="Shell", action_pack_labels={"env": "prod"}), 0, 2),
    (ExecutionFilter(action_name="Other"), 0, 5),
]
ACTIONS = [
    (ActionFilter(), 0, 5),
    (ActionFilter(), 3, 50),
    (ActionFilter(states=frozenset([ActionState.NEW, ActionState.PENDING])), 0, 2),
    (ActionFilter(states=frozenset([ActionState.SUCCESS]), flow_name="odd"), 1, 3),
    (ActionFilter(overdue_since=NOW - timedelta(minutes=10), now=NOW), 0, 5),
]


@pytest.mark.slow
async def test_answers_are_the_same_before_and_after_executions_are_taken_over(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
        lists = [await store.list_executions(*each) for each in FILTERS]
        actions = [await store.list_actions(*each) for each in ACTIONS]
        ids = [each["_id"] for each in (*LIVE_ACTIONS, *COPIES_ONLY)]
        one_by_one = [await store.get_action(each) for each in ids]
    assert [len(page) for page in lists] == [3, 4, 14, 2, 2, 3, 2, 1, 2, 0]
    assert [run.correlation_id for run in lists[0]] == ["run-3", "run-20", "run-8"]
    for asked, expected in zip(FILTERS, lists, strict=True):
        await forget(raw)
        async with MongoStore(url) as store:
            assert await store.list_executions(*asked) == expected, asked
    for asked_for, statuses in zip(ACTIONS, actions, strict=True):
        await forget(raw)
        async with MongoStore(url) as store:
            assert await store.list_actions(*asked_for) == statuses, asked_for
    await forget(raw)
    async with MongoStore(url) as store:
        assert [await store.get_action(each) for each in ids] == one_by_one
        assert await store.get_execution("run-21") == lists[2][-1]
        with pytest.raises(NotFoundError):
            await store.get_execution("run-99")


async def test_actions_are_handed_out_and_finished_before_they_are_taken_over(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    await forget(raw)
    async with MongoStore(url) as store:
        assert await store.finish(f"{81:024x}", sample.event("Output"), always(NOTHING))
        # Oldest first; the labels of the second do not fit everybody.
        (first,) = await store.claim(PackRef("Shell", "Shell", {}), NOW)
        assert first.action_id == f"{92:024x}"
        assert await store.claim(PackRef("Shell", "Shell", {}), NOW) == []
        (second,) = await store.claim(PackRef("Shell.env.prod", "Shell", {"env": "prod"}), NOW)
        assert second.action_id == f"{91:024x}"
        assert await store.finish(first.action_id, sample.event("Output"), always(NOTHING))
        states = {
            each.action_id: each.state for each in (await store.get_execution("run-9")).actions
        }
        assert states[second.action_id] is ActionState.PENDING
        assert "are being taken over" in store.warnings()[0]
    await raw.flyte_number.delete_one({"_id": "takeover"})
    async with MongoStore(url) as store:  # and taking over the rest changes nothing of that
        await converted(store)
        assert {
            each.action_id: each.state for each in (await store.get_execution("run-9")).actions
        } == states
        assert len(await store.list_executions(ANYTHING, 0, 50)) == 14


async def test_what_has_ended_stays_as_the_original_wrote_it(database: tuple[str, Any]) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
        await store.list_executions(ANYTHING, 0, 50)
    async with MongoStore(url) as store:
        assert not store.warnings()  # and is not looked through again
    ended = [each for each in LIVE_ACTIONS if each["correlationId"] not in ("run-8", "run-9")]
    for expected in ended:
        assert await raw.action.find_one({"_id": expected["_id"]}) == expected
        assert await raw.audit.find_one({"_id": expected["_id"]}) == expected
    for expected in LIVE_ACTIONS:
        assert {**await raw.action.find_one({"_id": expected["_id"]}), "flyte": None} == {
            **expected,
            "flyte": None,
        }


async def test_a_server_goes_on_where_another_was_killed(
    database: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
        expected = await store.list_executions(ANYTHING, 0, 50)
    # As it is when the first was killed: in the middle of a batch, with its lease still running
    # out.
    await forget(raw)
    note = {"_id": "takeover", "owner": "dead", "until": 1, "after": "run-20", "seen": 0}
    await raw.flyte_number.replace_one({"_id": "takeover"}, note)
    async with MongoStore(url) as store:
        await store._conversion.stop()
        await store.list_executions(ANYTHING, 0, 50)
    behind = await raw.flyte_execution.find({"_id": {"$gt": "run-20"}}).to_list()
    await raw.flyte_execution.delete_many({"_id": {"$in": [each["_id"] for each in behind[::2]]}})
    await raw.action.update_many({"correlationId": "run-9"}, {"$unset": {"flyte": 1}})
    await raw.flyte_number.replace_one({"_id": "takeover"}, note)
    with caplog.at_level(logging.INFO, "flyte.store"):
        async with MongoStore(url) as store:
            await converted(store)
            assert await store.list_executions(ANYTHING, 0, 50) == expected
            assert (
                len(await store.claim(PackRef("Shell", "Shell", {"env": "prod"}), NOW, limit=5))
                == 2
            )
    assert f"{len(behind[::2])} executions of an earlier server were taken over" in caplog.text
    assert "after" not in await raw.flyte_number.find_one({"_id": "takeover"})


async def test_a_store_that_is_opened_again_goes_on(database: tuple[str, Any]) -> None:
    url, raw = database
    await forget(raw)
    store = MongoStore(url)
    async with store:
        assert store.warnings()
    await raw.flyte_number.delete_one({"_id": "takeover"})
    async with store:
        await converted(store)
    assert await raw.flyte_execution.count_documents({}) == 14


@pytest.mark.parametrize("interruptions", [1, 2])
async def test_changes_of_the_original_during_an_interrupted_conversion_are_converted(
    database: tuple[str, Any], interruptions: int
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
    # The conversion was interrupted behind "run-12", and the original has run since.
    await raw.action.insert_many(
        [
            action(400, 10, "NEW", began=4, step="before"),
            action(401, 9, *DONE, began=3, step="behind"),
        ]
    )
    await raw.flyte_execution.delete_many({"_id": {"$gt": "run-12"}})
    seen = int((NOW - timedelta(minutes=20)).timestamp() * 1_000_000)
    note = {
        "_id": "takeover",
        "owner": "stopped",
        "until": 0,
        "after": "run-12",
        "seen": seen,
        "read": 4,
    }
    if interruptions == 2:
        note |= {"since": seen, "seen": seen + 3 * 86_400_000_000}
    await raw.flyte_number.replace_one({"_id": "takeover"}, note)
    async with MongoStore(url) as store:
        await converted(store)
        claimed = await store.claim(PackRef("Shell", "Shell", {}), NOW, limit=5)
        assert f"{400:024x}" in [each.action_id for each in claimed]
        assert "before" in [each.step_id for each in (await store.get_execution("run-10")).actions]
    assert "since" not in await raw.flyte_number.find_one({"_id": "takeover"})


@pytest.mark.slow
async def test_several_servers_that_start_at_once_take_over_everything_once(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    stores = [MongoStore(url) for _ in range(3)]
    await asyncio.gather(*[store.open() for store in stores])
    try:
        found = await asyncio.gather(*[store.list_executions(ANYTHING, 0, 50) for store in stores])
        await asyncio.gather(*[converted(store) for store in stores])
        claims = await asyncio.gather(
            *[
                store.claim(PackRef("Shell", "Shell", {"env": "prod"}), NOW, limit=5)
                for store in stores
            ]
        )
    finally:
        await asyncio.gather(*[store.close() for store in stores])
    assert found[0] == found[1] == found[2]
    assert sorted(each.action_id for some in claims for each in some) == [
        f"{91:024x}",
        f"{92:024x}",
    ]
    async for run in raw.flyte_execution.find({}):
        members = [each["id"] for each in run["actions"]]
        assert len(members) == len(set(members))


async def test_nothing_is_removed_before_everything_is_taken_over(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    await forget(raw)
    everything = Retention(NOW, NOW, NOW, max_bytes=1)
    async with MongoStore(url) as store:
        await store.get_execution("run-1")
        assert (await store.purge(everything)).executions == 0
        assert len(await store.list_executions(ANYTHING, 0, 50)) == 14
    await raw.flyte_number.delete_one({"_id": "takeover"})
    async with MongoStore(url) as store:
        await converted(store)
        assert (await store.purge(everything)).executions > 0


@pytest.mark.slow
async def test_a_store_that_is_not_taken_over_yet_is_moved_as_a_whole(
    database: tuple[str, Any], tmp_path: Any
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
        expected = list(await store.list_executions(ANYTHING, 0, 50))
        actions = await store.list_actions(ActionFilter(), 0, 50)
    await forget(raw)
    await raw.flyte_number.delete_one({"_id": "takeover"})
    async with open_store(f"sqlite:///{tmp_path}/flyte.db") as other:
        await move(MongoStore(url), other, lambda *_: None)
        assert list(await other.list_executions(ANYTHING, 0, 50)) == expected
        copies = {each["_id"] for each in COPIES_ONLY}
        moved = [
            each
            for each in await other.list_actions(ActionFilter(), 0, 50)
            if each.action_id not in copies
        ]
        assert [each.action_id for each in moved] == [each.action_id for each in actions]


DAMAGE: Sequence[dict[str, Any]] = [
    {"states": [{"value": "NEW", "time": "yesterday"}], "state": 7},
    {"states": "NEW", "packLabels": [1]},
    {"states": [None], "stepId": {"a": 1}},
]


async def test_an_execution_that_cannot_be_read_does_not_keep_others(
    database: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    url, raw = database
    damaged = [
        {**action(300 + place, 30 + place, *DONE, began=5), **fields}
        for place, fields in enumerate(DAMAGE)
    ]
    await raw.action.insert_many(damaged)
    async with MongoStore(url) as store:
        await converted(store)
        runs = {each.correlation_id for each in await store.list_executions(ANYTHING, 0, 50)}
        assert {each["correlationId"] for each in (*LIVE_ACTIONS, *COPIES_ONLY)} <= runs
        assert len(await store.list_actions(ActionFilter(), 0, 50)) == len(LIVE_ACTIONS)
        for each in damaged:
            with pytest.raises(UnreadableError):
                await store.get_action(each["_id"])
            with pytest.raises(UnreadableError):
                await store.finish(each["_id"], Sample().event("Output"), always(NOTHING))
        assert len(await store.claim(PackRef("Shell", "Shell", {"env": "prod"}), NOW, limit=5)) == 2
    assert "of an earlier server cannot be read and is left as it is" in caplog.text


async def test_a_later_visit_of_the_original_is_taken_over_as_well(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await converted(store)
    later = [action(400, 40, *DONE, began=4), action(401, 9, *DONE, began=3, step="fourth")]
    await raw.action.insert_many(later)
    await raw.audit.insert_many(later)
    await raw.audit.insert_one(action(402, 41, *DONE, began=2))
    async with MongoStore(url) as store:
        await converted(store)
        found = await store.list_executions(ANYTHING, 0, 3)
        assert [run.correlation_id for run in found] == ["run-41", "run-9", "run-40"]
        assert [each.step_id for each in found[1].actions] == ["third", "answer", "ask", "fourth"]
        assert len({each.step_index for each in found[1].actions}) == 4


async def test_the_variable_of_the_original_leads_to_its_database_unless_only_another_has_something(
    database: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named = database[0].rpartition("/")[2]
    async with place() as original:
        monkeypatch.setattr("flyteops.storage.mongodb.client.DATABASE", original.rpartition("/")[2])
        store = MongoStore(OriginalUrl(original, named))
        async with store:  # what this server has kept there up to now
            assert (await store.get_execution("run-1")).flow_name == "odd"
            assert f"set FLYTE_STORE=mongodb://HOST/{named}" in store.warnings()[0]
        async with AsyncMongoClient(original) as client:
            await client.get_default_database().pack.insert_one({"_id": "Chat", "name": "Chat"})
        store = MongoStore(OriginalUrl(original, named))
        async with store:
            assert [pack.id for pack in await store.list_packs()] == ["Chat"]
            assert "there is something as well" in store.warnings()[0]
        store = MongoStore(OriginalUrl(original, "admin"))
        async with store:
            assert [pack.id for pack in await store.list_packs()] == ["Chat"]
            assert not store.warnings()
    assert "always uses" in caplog.text
