"""Several servers on one store that keep the bases of decisions, with clocks that the test sets."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from flyteops.model import Command, EventPattern, Flow, NewEvent, PackDeclaration, Step
from flyteops.service import MaintenanceSettings, Service
from flyteops.storage import open_store
from tests.shared import PLACES
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))


@pytest.fixture(params=PLACES)
async def services(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[list[Service]]:
    async with request.param() as url, contextlib.AsyncExitStack() as stack:
        keeps = MaintenanceSettings(keep_for=timedelta(minutes=30))
        services = [
            Service(
                await stack.enter_async_context(open_store(url)),
                clock=clock,
                monotonic=clock.monotonic,
                maintenance=keeps,
            )
            for _ in range(2)
        ]
        for service in services:
            await service.start()
        yield services


def a_flow(number: int, pattern: str) -> Flow:
    step = Step(
        event=EventPattern(name="Said", pack_name="Chat"),
        criteria=f"{{{{ Event.Payload|match:'{pattern}' }}}}",
        command=Command(name="Do", pack_name="Worker"),
    )
    return Flow(f"f{number}", steps=(step,))


async def say(service: Service) -> str:
    return await service.accept_event("Chat", NewEvent("Said", b'"hello"'))


async def decisions(service: Service, event_id: str) -> list[tuple[str, str, str]]:
    record = await service.audit.get_event(event_id)
    return [(each.flow_name, each.flow_uuid, each.outcome) for each in record.decisions]


async def test_the_number_of_a_basis_that_was_removed_is_not_given_to_another(
    services: list[Service], clock: Clock
) -> None:
    one, other = services
    await one.packs.register(PackDeclaration("Chat", {}))
    for number in range(5):
        await one.flows.save(a_flow(number, "^nothing"))
    await other.refresh()
    event_id = await say(one)
    assert len(await decisions(other, event_id)) == 5
    for _ in range(3):  # the event goes, then its basis
        clock.forward(hours=1, minutes=15)
        await one.run_maintenance()
    await one.flows.delete("f0")
    event_id = await say(one)
    expected = await decisions(one, event_id)
    assert [name for name, _, _ in expected] == ["f1", "f2", "f3", "f4"]
    assert await decisions(other, event_id) == expected
