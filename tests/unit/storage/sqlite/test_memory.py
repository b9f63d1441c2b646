"""What SQLite's writer keeps in memory is what the file says."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flyteops.errors import UnavailableError
from flyteops.model import ActionSnapshot, ActionState, Evaluation
from flyteops.storage.base import Claimed
from flyteops.storage.sqlite import SqliteStore
from flyteops.storage.sqlite.action_row import BRIEF, SHORT, SMALL
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.sqlite.queues import PREFETCH
from flyteops.storage.sqlite.store import OTHER
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, creating


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flyte.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(path) as store:
        yield store


async def test_the_queues_are_right_after_a_batch_was_rolled_back(store: SqliteStore) -> None:
    """A claim that empties a queue and is rolled back must leave the queue to be asked again."""
    sample = Sample()
    action = sample.action()
    await store.record(sample.event(event_id="taken"), creating(action))

    def empty_and_fail(table: Any) -> None:
        assert table.claim(WORKER, NOON, None)[0].action_id == action.action_id
        assert not table.claim(WORKER, NOON, None)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(UnavailableError):
        await store._write(OTHER, empty_and_fail)
    (claimed,) = await store.claim(WORKER, NOON)
    assert claimed.action_id == action.action_id


async def test_results_that_share_a_commit_see_each_other(store: SqliteStore) -> None:
    sample = Sample()
    first = sample.action()
    second = sample.action(correlation_id=first.correlation_id, step_id="second", step_index=1)
    seen: list[list[ActionState]] = []

    def decide(progress: ActionSnapshot) -> Evaluation:
        seen.append([sibling.state for sibling in progress.siblings])
        return NOTHING

    await store.record(sample.event(), creating(first, second))
    await store.claim(WORKER, NOON, limit=2)
    await store._write(
        OTHER,
        lambda table: [
            table.finish(each.action_id, sample.event(), decide) for each in (first, second)
        ],
    )
    assert seen == [
        [ActionState.PENDING, ActionState.PENDING],
        [ActionState.SUCCESS, ActionState.PENDING],
    ]


async def test_results_know_what_joined_their_execution_in_the_transaction_that_began_it(
    store: SqliteStore,
) -> None:
    sample = Sample()
    first = sample.action()
    second = sample.action(correlation_id=first.correlation_id, step_id="second", step_index=1)
    seen: list[ActionSnapshot] = []
    await store._write(
        OTHER,
        lambda table: [table.record(sample.event(), creating(each)) for each in (first, second)],
    )
    await store.claim(WORKER, NOON)
    assert not await store.finish(first.action_id, sample.event(), seen.append)
    assert [sibling.step_id for sibling in seen[0].siblings] == ["first", "second"]


@pytest.mark.parametrize("limit", [None, timedelta(minutes=5)])
@pytest.mark.parametrize("context", ["short", "long" * SHORT])
@pytest.mark.parametrize("count", [1, 2])
async def test_what_is_remembered_of_an_action_is_what_the_file_says(
    path: Path, limit: Any, context: str, count: int
) -> None:
    sample = Sample()
    actions = [
        sample.action(
            correlation_id="run", step_index=number, timeout=limit, context={"x": context}
        )
        for number in range(count)
    ]
    seen: list[ActionSnapshot] = []
    async with SqliteStore(path) as store:
        await store.record(sample.event(), creating(*actions))
        await store.claim(WORKER, NOON, limit=count)
        for action in actions:
            assert not await store.finish(action.action_id, sample.event(), seen.append)
    remembered = tuple(seen)
    async with SqliteStore(path) as store:
        for action in actions:
            assert not await store.finish(action.action_id, sample.event(), seen.append)
    assert tuple(seen[count:]) == remembered


async def test_a_queue_keeps_its_order_whatever_of_it_is_remembered(path: Path) -> None:
    sample = Sample()
    actions = [sample.action(input=b"x" * (SMALL + number % 2)) for number in range(20)]
    async with SqliteStore(path, prefetch=3) as store:
        await store.record(sample.event(), creating(actions[0]))
    taken: list[Claimed] = []
    async with SqliteStore(path) as store:
        for number, action in enumerate(actions[1:]):
            await store.record(sample.event(), creating(action))
            taken += await store.claim(WORKER, NOON, limit=number % 2)
        taken += await store.claim(WORKER, NOON, limit=20)
    assert [(each.action_id, each.input) for each in taken] == [
        (action.action_id, action.input) for action in actions
    ]


async def test_a_long_input_is_handed_out_in_the_transaction_it_came_in(store: SqliteStore) -> None:
    sample = Sample()
    action = sample.action(input=b"x" * (SMALL + 1))

    def record_and_claim(table: ActionTable) -> list[Claimed]:
        table.record(sample.event(), creating(action))
        return table.claim(WORKER, NOON, None)

    (claimed,) = await store._write(OTHER, record_and_claim)
    assert claimed.input == action.input


async def test_a_queue_of_brief_actions_is_claimed_without_reading_it(store: SqliteStore) -> None:
    sample, count = Sample(), 3 * PREFETCH
    actions = [sample.action() for _ in range(count)]
    await store.record(sample.event(), creating(*actions))
    statements = await traced(store)
    taken = [await store.claim(WORKER, NOON) for _ in range(count)]
    assert [each.action_id for (each,) in taken] == [each.action_id for each in actions]
    assert not [each for each in statements if each.startswith("SELECT a.seq")]


async def test_actions_with_long_inputs_behind_many_others_are_read_in_their_turn(
    store: SqliteStore,
) -> None:
    sample, count = Sample(), 3 * PREFETCH
    actions = [sample.action(input=b"x" * (BRIEF + 1)) for _ in range(count)]
    await store.record(sample.event(), creating(*actions))
    statements = await traced(store)
    taken = [await store.claim(WORKER, NOON) for _ in range(count)]
    assert [each.action_id for (each,) in taken] == [each.action_id for each in actions]
    assert [each for each in statements if each.startswith("SELECT a.seq")]


async def traced(store: SqliteStore) -> list[str]:
    """Return a list of the statements that the writer runs from now on."""
    statements: list[str] = []
    await store._write(OTHER, lambda table: table.connection.set_trace_callback(statements.append))
    return statements
