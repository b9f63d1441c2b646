"""Two servers on one store: each takes over what the other has changed, and does nothing while
the clocks differ.
"""

import logging
from datetime import timedelta

import pytest

from flyteops.errors import NotFoundError, UnavailableError
from flyteops.model import ActionState, DataItem, NewEvent, PackDeclaration
from flyteops.service import Service
from flyteops.storage.base import ChangeCounters
from flyteops.storage.query import ActionFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock
from tests.support.flow import a_flow, a_step


class Shared(SqliteStore):
    """A real store that says, as those for several servers do, that anything may have changed,
    and what time it is.
    """

    is_shared = True
    looks = 0
    ahead = timedelta(0)
    clock = Clock()

    async def read_change_counters(self) -> ChangeCounters:
        self.looks += 1
        return ChangeCounters(
            self.looks, self.looks, self.looks, self.looks, self.clock() + self.ahead
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    async with Shared(tmp_path / "flyte.db") as store:
        store.clock = clock
        yield store


async def started(store: Shared, clock: Clock) -> Service:
    service = Service(store, clock=clock, monotonic=clock.monotonic)
    await service.start()
    return service


@pytest.fixture
async def one(store, clock):
    return await started(store, clock)


@pytest.fixture
async def other(store, clock):
    return await started(store, clock)


async def test_a_flow_that_another_server_saves_replaces_or_deletes_is_taken_over(one, other):
    for event in ("Said", "Heard"):
        await one.flows.save(a_flow(a_step(event=event)))
        await other.refresh()
        assert (other.flows.get("flow")).steps[0].event.name == event
    await one.flows.delete("flow")
    await other.refresh()
    with pytest.raises(NotFoundError):
        other.flows.get("flow")


async def test_packs_and_items_of_another_server_are_taken_over(one, other):
    await one.packs.register(PackDeclaration(name="Source"))
    await one.data.save(DataItem(key="motto", value=b"x", content_type="text/plain"))
    await other.refresh()
    assert [pack.id for pack in await other.packs.list()] == ["Source"]
    assert (other.data.get("motto")).value == b"x"


async def test_a_result_is_decided_by_the_version_that_its_execution_began_with_though_this_server_never_had_it(
    one, other
):
    for name in ("Source", "Worker"):
        await one.packs.register(PackDeclaration(name=name))
    await one.flows.save(a_flow(a_step()))
    await one.accept_event("Source", NewEvent("Said", b"null"))
    await one.flows.save(a_flow(a_step(event="Heard")))
    await other.refresh()
    (claimed,) = await other.take("Worker")
    await other.complete("Worker", claimed.action_id, NewEvent("Done", b"null"))
    assert [status.state for status in await other.audit.list_actions(ActionFilter())] == [
        ActionState.SUCCESS
    ]


async def test_a_server_whose_clock_differs_from_that_of_the_store_processes_no_timers_until_it_is_set(
    one, store, caplog
):
    store.ahead = timedelta(minutes=10)
    await one.refresh()
    with pytest.raises(UnavailableError, match="differ by 600 s; set it right"):
        await one.process_due()
    assert [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ] == [
        "The clock of this server and that of its store differ by 600 s; set it right."
        " Until then, this server processes no timers."
    ]
    store.ahead = timedelta(0)
    await one.refresh()
    await one.process_due()


async def test_no_command_is_lost_when_the_clock_of_a_shared_store_is_set_forward_with_that_of_the_server(
    one, clock
):
    for name in ("Source", "Worker"):
        await one.packs.register(PackDeclaration(name=name))
    await one.flows.save(a_flow(a_step(terms={"timeout": "1m"})))
    await one.accept_event("Source", NewEvent("Said", b"null"))
    await one.take("Worker")
    await one.process_due()
    clock.set(hours=2)
    await one.process_due()
    assert [status.state for status in await one.audit.list_actions(ActionFilter())] == [
        ActionState.PENDING
    ]


async def test_a_server_goes_on_if_the_store_was_away_while_it_looked(one, other, store):
    await one.flows.save(a_flow(a_step()))
    get, failed = store.get_flow_version, []

    async def away(uuid):
        if not failed:
            failed.append(uuid)
            raise UnavailableError
        return await get(uuid)

    store.get_flow_version = away
    with pytest.raises(UnavailableError):
        await other.refresh()
    await other.refresh()
    assert [flow.name for flow in other.flows.list()] == ["flow"]
