"""A database that goes away in the middle: every answer is true, and no command stays with
nobody.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from flyteops.errors import OutcomeUnknownError, UnavailableError
from flyteops.model import ActionSnapshot, ActionState, Evaluation, Note
from flyteops.storage.base import Claimed, Store
from flyteops.storage.mongodb import MongoStore
from flyteops.storage.postgres import PostgresStore
from flyteops.testing.case import start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, minutes
from tests import mongodb, postgres
from tests.relay import Relay

pytestmark = pytest.mark.timeout(60)

Connect = Callable[[str, str], Store]
Place = Callable[[], contextlib.AbstractAsyncContextManager[str]]


def connect_postgres(url: str, direct_url: str) -> Store:
    return PostgresStore(url, direct_url=direct_url)


def connect_mongodb(url: str, _direct_url: str) -> Store:
    return MongoStore(url)


POSTGRES = pytest.param(postgres.place, connect_postgres, id="postgres", marks=pytest.mark.postgres)
MONGODB = pytest.param(
    mongodb.place, connect_mongodb, id="mongodb", marks=[pytest.mark.mongodb, pytest.mark.slow]
)
KINDS = [POSTGRES, MONGODB]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyteops.storage.postgres.pool.PATIENCE", 0.2)
    monkeypatch.setattr("flyteops.storage.mongodb.client.PATIENCE", 0.2)
    monkeypatch.setattr("flyteops.storage.undelivered.PAUSE", 0.05)


@contextlib.asynccontextmanager
async def through_a_relay(
    place: Place, connect: Connect
) -> AsyncIterator[tuple[Store, Store, Relay]]:
    """Give out a store behind a relay, another one that is not, and the relay."""
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(place())
        relay = await stack.enter_async_context(Relay(url).serve())
        other = await stack.enter_async_context(connect(url, url))
        store = await stack.enter_async_context(connect(relay.url, url))
        yield store, other, relay
        relay.restore()


async def take_soon(store: Store) -> Sequence[Claimed]:
    """Claim an action as soon as there is one."""
    async with asyncio.timeout(20):
        # What is waited for is the database.
        while not (claimed := await store.claim(WORKER, NOON)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return claimed


@pytest.mark.parametrize(("place", "connect"), KINDS)
async def test_an_event_whose_answer_is_lost_is_not_said_to_be_refused(
    place: Place, connect: Connect
) -> None:
    sample = Sample()
    event, later = sample.event(event_id="the-lost-event"), sample.event()
    async with through_a_relay(place, connect) as (store, other, relay):
        relay.cut_at(b"the-lost-event")
        with pytest.raises(OutcomeUnknownError, match="unknown whether the change was made"):
            await store.record(event, NOTHING, key="a key")
        with pytest.raises(UnavailableError) as refused:
            await store.record(sample.event(event_id="never-sent"), NOTHING)
        assert type(refused.value) is UnavailableError
        relay.restore()
        assert (await other.get_event("the-lost-event")).event == event
        assert await store.record(later, NOTHING, key="a key") == "the-lost-event"


@pytest.mark.parametrize(("place", "connect"), KINDS)
async def test_a_search_whose_answer_is_lost_has_changed_nothing(
    place: Place, connect: Connect
) -> None:
    async with through_a_relay(place, connect) as (store, _, relay):
        relay.cut_at(b"the-lost-search")
        with pytest.raises(UnavailableError) as refused:
            await store.get_event("the-lost-search")
        assert type(refused.value) is UnavailableError


@pytest.mark.parametrize(("place", "connect"), KINDS)
async def test_a_result_whose_answer_is_lost_may_be_repeated(
    place: Place, connect: Connect
) -> None:
    sample = Sample()
    action, result = sample.action(), sample.event("Done", minutes(1), event_id="the-lost-result")
    async with through_a_relay(place, connect) as (store, _, relay):
        await start(store, action)
        assert await take(store) == action.action_id
        relay.cut_at(b"the-lost-result")
        with pytest.raises(OutcomeUnknownError):
            await store.finish(action.action_id, result, always(NOTHING))
        relay.restore()

        def once(progress: ActionSnapshot) -> Evaluation | None:
            return NOTHING if progress.result is None else None

        await store.finish(action.action_id, result, once)
        ended = await store.get_action(action.action_id)
        assert (ended.state, ended.result) == (ActionState.SUCCESS, result)


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["waits", "is cancelled"])
@pytest.mark.parametrize(("place", "connect"), KINDS)
async def test_a_command_that_was_claimed_for_an_answer_that_is_lost_is_handed_out_again(
    place: Place, connect: Connect, is_cancelled: bool
) -> None:
    sample = Sample()
    action = sample.action()
    async with through_a_relay(place, connect) as (store, other, relay):
        await start(store, action)
        relay.cut_at(b"Worker.env.prod")
        claiming = asyncio.ensure_future(store.claim(WORKER, NOON))
        await relay.is_cut.wait()
        if is_cancelled:
            claiming.cancel()
        with pytest.raises((UnavailableError, asyncio.CancelledError)):
            await claiming
        relay.restore()
        claimed = await take_soon(other)
        assert [(each.action_id, each.attempt) for each in claimed] == [(action.action_id, 1)]


@pytest.mark.parametrize(("place", "connect"), KINDS)
async def test_an_error_of_a_change_whose_caller_is_gone_is_no_fault_of_the_server(
    place: Place, connect: Connect
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: complaints.append(found))
    async with through_a_relay(place, connect) as (store, _, relay):
        relay.cut_at(b"the-lost-event")
        recording = asyncio.ensure_future(
            store.record(Sample().event(event_id="the-lost-event"), NOTHING)
        )
        await relay.is_cut.wait()
        recording.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recording
        with pytest.raises(UnavailableError):  # it is given up later than the other one
            await store.save_note(Note("kind", "key", b"1"))
        gc.collect()
    assert [each for each in complaints if "exception" in each] == []


@pytest.mark.postgres
async def test_a_claim_that_is_carried_out_after_it_was_repeated_keeps_nothing() -> None:
    sample = Sample()
    first, second = sample.action(), sample.action()
    async with through_a_relay(postgres.place, connect_postgres) as (store, other, relay):
        await start(store, first)
        await start(store, second)
        relay.cut_at(b"Worker.env.prod", holds=True)
        claiming = asyncio.ensure_future(store.claim(WORKER, NOON))
        await relay.is_cut.wait()
        relay.restore()
        (claimed,) = await claiming
        assert claimed.action_id == first.action_id
        relay.deliver()  # the old claim takes the second one, for nobody
        async with asyncio.timeout(20):
            # As above.
            while len((await other.get_action(second.action_id)).states) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (again,) = await take_soon(other)
        assert again.action_id == second.action_id
        assert (await other.get_action(first.action_id)).state is ActionState.PENDING
