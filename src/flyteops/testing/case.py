# ruff: noqa: S101 - it asserts
"""The common parts of the tests of the contract."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from flyteops.model import (
    Event,
    EventRecord,
    Execution,
    NewAction,
    PackRef,
)
from flyteops.storage.base import Store
from flyteops.storage.query import EventFilter, ExecutionFilter, Retention
from flyteops.testing.sample import NOON, WORKER, Sample, creating

ANYTHING = ExecutionFilter()
ANY_EVENT = EventFilter()


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[None]:
    """Fail unless the block raises an error of this kind."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def ids(executions: Sequence[Execution]) -> list[str]:
    """Return the ids of the executions."""
    return [execution.correlation_id for execution in executions]


def event_ids(records: Sequence[EventRecord]) -> list[str]:
    """Return the ids of the events."""
    return [record.event.event_id for record in records]


async def start(store: Store, *actions: NewAction, event: Event | None = None) -> Event:
    """Record an event that creates these actions."""
    event = event or Sample().event(event_id=f"trigger-of-{actions[0].action_id}")
    await store.record(event, creating(*actions))
    return event


async def take(store: Store, at: datetime = NOON, pack: PackRef = WORKER) -> str:
    """Claim an action, which must exist; return its id."""
    claimed = await store.claim(pack, at)
    assert claimed, "no action is handed out"
    return claimed[0].action_id


def before(at: datetime) -> Retention:
    """Return a retention that allows the removal of everything older than this."""
    return Retention(before=at, finished_before=at, keys_before=at)


class StoreCase:
    """A test of a store."""

    def connect(self) -> Store:
        """Return a store that is not opened, on data of this test's own.

        Another call returns another store on the same data.
        """
        raise NotImplementedError
