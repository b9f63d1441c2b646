"""The number of operations on MongoDB for an event, the take of its action, and the result."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    register,
)

from flyteops.model import NewEvent, PackDeclaration
from flyteops.service import Service
from flyteops.storage.mongodb import MongoStore
from tests.mongodb import place
from tests.support.flow import a_flow, a_step

pytestmark = pytest.mark.mongodb

CYCLES = 30

MOST = 8
"""The maximum number of operations for each cycle, with everything that is written later."""


class Counting(CommandListener):
    """Counts the commands that the driver sends, by name and collection."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def started(self, event: CommandStartedEvent) -> None:
        self.counts[f"{event.command_name} {event.command.get(event.command_name)}"] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


COUNTING = Counting()
register(COUNTING)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with place() as url:
        yield url


async def legacy_cycle(service: Service, _number: int) -> None:
    """Do what a client of the original requests: no keys, one action for each take."""
    await service.accept_event("Source", NewEvent("Said", b"{}"))
    (action,) = await service.take("Worker")
    await service.complete("Worker", action.action_id, NewEvent("Done", b"{}"))


async def sdk_cycle(service: Service, number: int) -> None:
    """Do what a pack on the SDK requests: events with a key, and takes that may wait."""
    await service.accept_event("Source", NewEvent("Said", b"{}"), key=f"key-{number}")
    (action,) = await service.take("Worker", limit=1, wait=timedelta(seconds=25))
    await service.complete("Worker", action.action_id, NewEvent("Done", b"{}"))


@pytest.mark.parametrize("cycle", [legacy_cycle, sdk_cycle])
async def test_a_whole_cycle_takes_few_operations(
    url: str, cycle: Callable[[Service, int], Awaitable[None]]
) -> None:
    async with MongoStore(url) as store:
        service = Service(store)
        await service.start()
        for name in ("Source", "Worker"):
            await service.packs.register(PackDeclaration(name=name))
        await service.flows.save(a_flow(a_step()))
        await cycle(service, -1)  # creates the queue
        COUNTING.counts.clear()
        for number in range(CYCLES):
            await cycle(service, number)
    # Closing has carried out all writes that were deferred.
    assert COUNTING.counts.total() <= MOST * CYCLES, COUNTING.counts
    assert COUNTING.counts["findAndModify action"] == 2 * CYCLES  # it counts
