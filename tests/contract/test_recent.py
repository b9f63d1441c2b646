"""A server that remembers what it handed out decides upon what other servers have done since."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import ActionSnapshot, ActionState, Evaluation
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops.storage.query import EventFilter
from flyteops.testing.case import ANYTHING, event_ids, ids, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, creating, minutes
from tests.shared import PLACES

pytestmark = pytest.mark.timeout(120)

Stores = tuple[Store, Store]


@pytest.fixture(params=PLACES)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    async with request.param() as url, open_store(url) as store, open_store(url) as other:
        yield store, other


def accept(_: ActionSnapshot) -> None:
    """Allow any operation."""


async def test_a_result_is_decided_upon_the_present_claim(stores: Stores) -> None:
    store, other = stores
    sample = Sample()
    action = sample.action(timeout=timedelta(minutes=5))
    await start(store, action)
    (first,) = await store.claim(WORKER, NOON, seed=b"one")
    await other.release(action.action_id, minutes(1), accept, counts=False)
    (second,) = await other.claim(WORKER, minutes(2), seed=b"two")
    assert (first.attempt, second.attempt) == (1, 1)
    seen: list[ActionSnapshot] = []

    def decide(progress: ActionSnapshot) -> Evaluation | None:
        seen.append(progress)
        return NOTHING if progress.leases[-1].token == second.lease else None

    await store.finish(action.action_id, sample.event("Done", minutes(3)), decide)
    assert seen[-1].leases[-1].token == second.lease
    assert (await other.get_action(action.action_id)).state is ActionState.SUCCESS


async def test_a_result_after_one_at_another_server_sees_that_one(stores: Stores) -> None:
    store, other = stores
    sample = Sample()
    action, result = sample.action(), sample.event("Done", minutes(1))
    await start(store, action)
    await take(store)
    await other.finish(action.action_id, result, always(NOTHING))
    seen: list[ActionSnapshot] = []

    def decide(progress: ActionSnapshot) -> Evaluation | None:
        seen.append(progress)
        return NOTHING if progress.result is None else None

    await store.finish(action.action_id, sample.event("Done", minutes(2)), decide)
    assert seen[-1].result == result
    assert (await store.get_action(action.action_id)).result == result


async def test_a_result_of_a_step_that_another_server_has_begun_is_decided_upon_both(
    stores: Stores,
) -> None:
    store, other = stores
    sample = Sample()
    first = sample.action()
    second = sample.action(correlation_id=first.correlation_id, step_id="second", step_index=1)
    await start(store, first)
    await take(other)
    begins = always(creating(second))
    await other.finish(first.action_id, sample.event("Done", minutes(1)), begins)
    assert await take(store) == second.action_id
    seen: list[ActionSnapshot] = []

    def decide(progress: ActionSnapshot) -> Evaluation:
        seen.append(progress)
        return NOTHING

    await store.finish(second.action_id, sample.event("Done", minutes(2)), decide)
    assert [each.step_id for each in seen[-1].siblings] == ["first", "second"]


async def test_what_one_server_has_acknowledged_is_shown_by_the_others_at_once(
    stores: Stores,
) -> None:
    store, other = stores
    sample = Sample()
    first, second = sample.action(), sample.action()
    for action in (first, second):
        await start(store, action)
    await take(store)
    result = sample.event("Done", minutes(1))
    await store.finish(first.action_id, result, always(NOTHING))
    assert (await other.get_event(result.event_id)).action_id == first.action_id
    assert event_ids(await other.list_events(EventFilter(event_name="Done"), 0, 9)) == [
        result.event_id
    ]
    assert (await other.get_action(first.action_id)).result == result
    assert ids(await other.list_executions(ANYTHING, 0, 9)) == [
        first.correlation_id,
        second.correlation_id,
    ]


async def test_an_event_whose_only_action_cannot_be_created_leaves_nothing(
    stores: Stores,
) -> None:
    store, other = stores
    sample = Sample()
    known = sample.action()
    await start(store, known)
    same_step = sample.action(correlation_id=known.correlation_id)
    same_id = sample.action(action_id=known.action_id)
    for action in (known, same_step, same_id):
        event = sample.event()
        with pytest.raises(ConflictError):
            await store.record(event, creating(action))
        for each in stores:
            with pytest.raises(NotFoundError):
                await each.get_event(event.event_id)
    with pytest.raises(NotFoundError):
        await other.get_execution(same_id.correlation_id)
    (run,) = await other.list_executions(ANYTHING, 0, 9)
    assert [each.action_id for each in run.actions] == [known.action_id]
    assert await take(other) == known.action_id
    assert not await store.claim(WORKER, NOON)


async def test_results_of_one_action_at_once_are_applied_once(stores: Stores) -> None:
    sample = Sample()
    action = sample.action()
    await start(stores[0], action)
    await take(stores[0])

    def decide(progress: ActionSnapshot) -> Evaluation | None:
        return NOTHING if progress.result is None else None

    results = [sample.event("Done", minutes(1)) for _ in range(6)]
    await asyncio.gather(
        *(
            stores[number % 2].finish(action.action_id, result, decide)
            for number, result in enumerate(results)
        )
    )
    stored = []
    for result in results:
        with contextlib.suppress(NotFoundError):
            stored.append((await stores[1].get_event(result.event_id)).event)
    assert stored == [(await stores[0].get_action(action.action_id)).result]
