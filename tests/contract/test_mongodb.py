"""The MongoDB backend keeps the storage contract, on a real server."""

import asyncio
import contextlib
import gc
import itertools
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from flyteops.errors import (
    FlyteError,
    OutcomeUnknownError,
    StoreError,
    TooLargeError,
    UnavailableError,
)
from flyteops.model import ActionSnapshot, ActionState
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops.storage.mongodb import MongoStore, notify
from flyteops.storage.mongodb.document import action_of
from flyteops.storage.mongodb.queue import waiting_in
from flyteops.storage.query import EventFilter
from flyteops.storage.record import StoredNote
from flyteops.storage.row import to_microseconds
from flyteops.testing import StoreContract
from flyteops.testing.case import ANYTHING, start, take
from flyteops.testing.sample import NOON, NOTHING, Sample, always, creating, minutes
from flyteops.testing.timer import Ruling
from flyteops.transition import NeedsOperator
from tests.mongodb import place
from tests.relay import Relay

pytestmark = pytest.mark.mongodb


class TestMongodb(StoreContract):
    @pytest.fixture(autouse=True)
    async def place(self) -> AsyncIterator[None]:
        async with place() as self.url:
            yield

    def connect(self) -> Store:
        return MongoStore(self.url)


@pytest.fixture
async def database() -> AsyncIterator[tuple[str, Any]]:
    async with place() as url, AsyncMongoClient(url, tz_aware=True) as client:
        yield url, client.get_default_database()


async def test_what_a_server_that_was_killed_had_begun_is_finished_by_the_next(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    first, second = sample.action(), sample.action()
    async with MongoStore(url) as store:
        event = await start(store, first, second)
    # As it is when the event was stored, and of what it creates only a part.
    created = await raw.action.find({}).sort("flyte.seq", 1).to_list()
    todo = bson.encode(
        {
            "created": [
                {key: value for key, value in each.items() if key != "trigger"} for each in created
            ]
        }
    )
    await raw.flyte_event.update_one(
        {"_id": event.event_id}, {"$set": {"open": True, "todo": todo}}
    )
    for collection, key in (
        (raw.action, second.action_id),
        (raw.audit, second.action_id),
        (raw.flyte_execution, second.correlation_id),
    ):
        assert (await collection.delete_one({"_id": key})).deleted_count == 1
    async with MongoStore(url) as store:
        assert [await take(store), await take(store)] == [first.action_id, second.action_id]
        assert (await store.get_action(second.action_id)).trigger == event
        assert len(await store.list_executions(ANYTHING, 0, 10)) == 2
        assert await raw.flyte_event.find_one({"open": True}) is None


async def test_a_change_of_an_execution_that_was_not_carried_out_is_so_before_anything_else(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    first = sample.action()
    following = sample.action(step_id="second", step_index=1, correlation_id=first.correlation_id)
    result = sample.event("Done", minutes(2))
    seen: list[ActionSnapshot] = []

    class Killed(Exception):  # noqa: N818 - what it says happens
        pass

    async def die(*_: object) -> None:
        raise Killed

    async with MongoStore(url) as store:
        await start(store, first)
        await take(store)
        store._actions.carry_out = die  # type: ignore[method-assign]
        with pytest.raises(Killed):
            await store.finish(first.action_id, result, always(creating(following)))
        assert (await raw.action.find_one({"_id": first.action_id}))["state"]["value"] == "PENDING"

    def decide(progress: ActionSnapshot) -> None:
        seen.append(progress)

    async with MongoStore(url) as store:
        assert await store.finish(first.action_id, sample.event("Other"), decide) is None
        assert seen[-1].result == result
        assert await take(store) == following.action_id
        assert (await store.get_event(result.event_id)).action_id == first.action_id


async def test_what_a_server_that_was_killed_had_deferred_is_written_by_the_next(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    ended, taken, waiting = sample.action(), sample.action(), sample.action()
    result = sample.event("Done", minutes(2))

    async def fail(*_: object) -> None:
        raise UnavailableError

    async with MongoStore(url) as store:
        store._actions.later.write = fail  # type: ignore[method-assign]
        for action in (ended, taken, waiting):
            await start(store, action)
        assert [await take(store), await take(store)] == [ended.action_id, taken.action_id]
        await store.finish(ended.action_id, result, always(NOTHING))
    assert await raw.audit.count_documents({}) == 0
    async with MongoStore(url) as store:
        for action in (ended, taken, waiting):
            copy = await raw.audit.find_one({"_id": action.action_id})
            assert copy == await raw.action.find_one({"_id": action.action_id})
        assert (await raw.flyte_event.find_one({"_id": result.event_id}))["name"] == "Done"
        for collection in (raw.flyte_event, raw.flyte_execution):
            assert await collection.find_one({"open": True}) is None
        run = await raw.flyte_execution.find_one({"_id": taken.correlation_id})
        assert run["changedAt"] == to_microseconds(NOON)


async def test_actions_of_an_earlier_version_are_handed_out_in_their_order(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    actions = [sample.action() for _ in range(3)]
    async with MongoStore(url) as store:
        await start(store, *actions[:2])
    await raw.action.update_many({}, {"$unset": {"flyte.route": 1}})
    async with MongoStore(url) as store:
        await start(store, actions[2])
        assert [await take(store) for _ in actions] == [each.action_id for each in actions]


async def test_what_does_not_fit_into_a_document_is_refused_before_anything_is_stored(
    database: tuple[str, Any],
) -> None:
    sample = Sample()
    text = b'"' + b"x" * (9 * 1024 * 1024) + b'"'
    huge = sample.action(input=text)
    async with MongoStore(database[0]) as store:
        with pytest.raises(TooLargeError, match="in one document"):
            await store.record(sample.event(payload=text), creating(huge))
        assert not await store.list_events(EventFilter(), 0, 10)
        small = sample.action(input=text)
        await start(store, small)
        await take(store)
        with pytest.raises(TooLargeError):
            await store.finish(small.action_id, sample.event("Done", payload=text), always(NOTHING))
        assert await store.finish(small.action_id, sample.event("Done"), always(NOTHING))


async def test_indexes_are_adjusted_at_the_start(
    database: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    url, raw = database
    await raw.action.create_index([("state.time", 1)], name="ttl", expireAfterSeconds=5)
    await raw.audit.create_index([("correlationId", 1)], name="odd", unique=True)
    async with MongoStore(url, keep_for=timedelta(days=1)):
        pass
    for collection, field, seconds in (
        (raw.action, "state.time", 86_400),
        (raw.audit, "state.time", 183 * 86_400),
    ):
        found = [
            each
            for each in (await collection.index_information()).values()
            if each["key"] == [(field, 1)]
        ]
        assert [each["expireAfterSeconds"] for each in found] == [seconds]
    found = [
        each
        for each in (await raw.audit.index_information()).values()
        if each["key"] == [("correlationId", 1)]
    ]
    assert [each.get("unique") for each in found] == [None]
    assert "index 'odd' of 'audit' has other options" in caplog.text


async def test_a_claim_is_one_walk_along_an_index_however_much_waits(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    async with MongoStore(url) as store:
        await start(store, Sample().action())
    kept = (await raw.action.find_one({}))["flyte"]
    indexes = [
        [field for field, _ in each["key"]]
        for each in (await raw.action.index_information()).values()
    ]
    for source in ("route", "queue"):  # of any command, and of one
        which = waiting_in({f"flyte.{source}": {"$in": [kept[source]]}})
        assert [*list(which)[:2], "flyte.seq"] in indexes
        await check_plan(raw, which)


async def check_plan(raw: Any, which: Any) -> None:
    """Fail if the search reads more than it finds."""
    command = {"find": "action", "filter": which, "sort": {"flyte.seq": 1}, "limit": 1}
    try:
        plan = await raw.command("explain", command, verbosity="queryPlanner")
    except OperationFailure as error:
        if error.code != 59:
            raise
        return  # a server that does not explain
    assert "SORT_MERGE" in str(plan) or "'stage': 'SORT'" not in str(plan)
    assert "COLLSCAN" not in str(plan)


async def test_a_database_of_a_newer_flyte_is_left_alone(database: tuple[str, Any]) -> None:
    url, raw = database
    await raw.flyte_number.insert_one({"_id": "schema", "value": 99})
    with pytest.raises(StoreError, match="newer Flyte"):
        await MongoStore(url).open()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("mongodb://me:se@cr:et@127.0.0.1:1/flyte", StoreError),
        ("mongodb://me:secret@127.0.0.1:1/flyte", UnavailableError),
    ],
)
async def test_a_server_that_is_not_there_is_named_without_its_password(
    url: str, kind: type[FlyteError]
) -> None:
    with pytest.raises(kind) as caught:
        await open_store(url).open()
    assert "mongodb://me@127.0.0.1:1/flyte" in caught.value.message
    assert "secret" not in caught.value.message
    assert "cr:et" not in caught.value.message
    with warnings.catch_warnings():
        # The driver forgets sockets that nobody answered.
        warnings.simplefilter("ignore", ResourceWarning)
        del caught
        gc.collect()


async def test_the_original_sees_only_states_that_it_knows(database: tuple[str, Any]) -> None:
    url, raw = database
    sample = Sample()
    lost, later = sample.action(timeout=timedelta(minutes=5)), sample.action(not_before=minutes(60))
    async with MongoStore(url) as store:
        await start(store, lost, later)
        await take(store)
        await store.process_due(minutes(5), Ruling(NeedsOperator()))
        assert (await store.get_action(lost.action_id)).state is ActionState.UNKNOWN
    for collection in (raw.action, raw.audit):
        found = {
            each["_id"]: [state["value"] for state in each["states"]]
            async for each in collection.find({})
        }
        assert found == {lost.action_id: ["NEW", "PENDING", "PENDING"], later.action_id: ["NEW"]}


async def test_the_original_shows_the_time_of_receipt_when_nobody_gave_that_of_creation(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    sample = Sample()
    event, action = sample.event(), sample.action()
    async with MongoStore(url) as store:
        await store.record(event, creating(action))
        for document in (
            await raw.flyte_event.find_one({}),
            (await raw.action.find_one({}))["trigger"],
        ):
            assert document["createdAt"] == document["receivedAt"]
        assert (await store.get_event(event.event_id)).event.created_at is None
        assert (await store.get_action(action.action_id)).trigger.created_at is None
        # As earlier versions of this server and of the original have kept it.
        await raw.action.update_one(
            {},
            {
                "$set": {"trigger.createdAt": datetime(1, 1, 1, tzinfo=UTC)},
                "$unset": {"trigger.flyte.createdAt": 1},
            },
        )
        assert (await store.get_action(action.action_id)).trigger.created_at is None


@pytest.mark.parametrize(
    ("kept", "read"),
    [
        ("2018-04-16T10:11:12Z", datetime(2018, 4, 16, 10, 11, 12, tzinfo=UTC)),
        (
            "2018-04-16T10:11:12.123456789+01:00",
            datetime(2018, 4, 16, 9, 11, 12, 123456, tzinfo=UTC),
        ),
        ("2018-04-16 10:11:12.5 +0100 BST", datetime(2018, 4, 16, 9, 11, 12, 500000, tzinfo=UTC)),
        (
            "2018-04-16 10:11:12.5 +0000 UTC m=+12.345678901",
            datetime(2018, 4, 16, 10, 11, 12, 500000, tzinfo=UTC),
        ),
        (1523873472123, datetime(2018, 4, 16, 10, 11, 12, 123000, tzinfo=UTC)),
        (bson.Timestamp(1523873472, 1), datetime(2018, 4, 16, 10, 11, 12, tzinfo=UTC)),
        (
            datetime(2018, 4, 16, 10, 11, 12, tzinfo=UTC),
            datetime(2018, 4, 16, 10, 11, 12, tzinfo=UTC),
        ),
        ("yesterday", datetime(1970, 1, 1, tzinfo=UTC)),
        (None, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_however_an_old_server_kept_them(kept: Any, read: datetime) -> None:
    document = {
        "_id": "1",
        "state": {"value": "NEW", "time": kept},
        "states": [{"value": "NEW", "time": kept}],
    }
    action = action_of({**document, "trigger": {"event": "Asked", "receivedAt": kept}})
    assert action.states[0].at == read
    assert (action.trigger.name, action.trigger.received_at, action.trigger.created_at) == (
        "Asked",
        read,
        None,
    )


@contextlib.asynccontextmanager
async def note_that_changes(raw: Any, kind: str) -> AsyncIterator[None]:
    """Change a note of this kind again and again; it exists from the beginning on."""
    begun = asyncio.Event()

    async def write() -> None:
        for number in itertools.count():
            value = {"kind": kind, "key": "", "value": str(number).encode()}
            await raw.flyte_note.replace_one(
                {"_id": f"{kind}\n"}, {"_id": f"{kind}\n", **value}, upsert=True
            )
            begun.set()

    writing = asyncio.ensure_future(write())
    try:
        await begun.wait()
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_a_database_can_be_read_while_servers_without_work_run_on_it(
    database: tuple[str, Any],
) -> None:
    url, raw = database
    async with MongoStore(url) as store, note_that_changes(raw, "attended"):
        await start(store, Sample().action())
        found = [record async for part in store.export() for record in part]
    assert [record.note.kind for record in found if isinstance(record, StoredNote)] == ["attended"]


async def test_a_database_that_changes_all_the_time_is_not_read(database: tuple[str, Any]) -> None:
    url, raw = database
    async with MongoStore(url) as store, note_that_changes(raw, "token"):
        await start(store, Sample().action())
        with pytest.raises(UnavailableError, match="faster than it can be read"):
            _ = [part async for part in store.export()]


async def is_told(store: Store, arrived: asyncio.Event) -> None:
    """Wait until the store reports that something has arrived."""
    store.listen(lambda addresses: arrived.set() if addresses else None)
    async with asyncio.timeout(20):
        await arrived.wait()


async def test_a_command_that_nobody_announces_is_found_by_looking(
    database: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LOOKING_ANYWAY", 0.1)
    url, raw = database
    async with MongoStore(url) as store:
        action = Sample().action()
        await start(store, action)
        assert await take(store) == action.action_id
        # As a server leaves it that is killed between the change and its notification.
        await raw.action.update_one(
            {"_id": action.action_id}, {"$set": {"flyte.state": "NEW", "state.value": "NEW"}}
        )
        await is_told(store, asyncio.Event())
        assert await take(store) == action.action_id


async def test_a_notification_that_fails_is_sent_again(
    database: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LOOKING_ANYWAY", 3600.0)
    url, _ = database
    sample = Sample()
    async with (
        Relay(url).serve() as relay,
        MongoStore(url) as other,
        MongoStore(relay.url) as store,
    ):
        await start(store, sample.action())  # the queue exists from now on
        assert await take(other)
        arrived = asyncio.Event()
        waiting = asyncio.create_task(is_told(other, arrived))
        await asyncio.wait([waiting], timeout=5)  # it is seen by then, reported or not
        arrived.clear()
        waiting = asyncio.create_task(is_told(other, arrived))
        relay.cut_at(b"\x10arrived\0", holds=True)
        starting = asyncio.create_task(start(store, sample.action()))
        await relay.is_cut.wait()
        relay.restore()
        await waiting
        with contextlib.suppress(OutcomeUnknownError):  # the notification is part of the commit
            await starting
        assert await take(other)
        store.listen(lambda _: None)
