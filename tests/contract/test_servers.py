"""Several servers' use cases on one store, with clocks that the test sets."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from flyteops.errors import ConflictError, UnauthorizedError, UnavailableError
from flyteops.model import (
    ActionState,
    Command,
    DataItem,
    Dependencies,
    EventPattern,
    Flow,
    FlowVersion,
    Link,
    NewEvent,
    Note,
    PackDeclaration,
    Schedule,
    Step,
)
from flyteops.service import AuditFilter, MaintenanceSettings, Service, TokenRequest
from flyteops.service.auditlog.entry import ChainVerifier
from flyteops.service.auditlog.snapshot import take_snapshot
from flyteops.storage import open_store
from flyteops.storage.query import ActionFilter, EventFilter
from flyteops.transition import ScheduleEntry
from tests.shared import PLACES
from tests.support.clock import Clock

DONE = NewEvent("Done", b"null")


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))


@pytest.fixture(params=PLACES)
async def services(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[list[Service]]:
    async with request.param() as url, contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(url)) for _ in range(3)]
        keeps = MaintenanceSettings(max_change_log=30_000)
        services = [
            Service(store, clock=clock, monotonic=clock.monotonic, maintenance=keeps)
            for store in stores
        ]
        for service in services:
            await service.start()
        yield services


async def test_a_server_whose_clock_is_set_takes_no_command_from_its_pack(
    services: list[Service], clock: Clock
) -> None:
    first = services[0]
    if not first.is_shared:
        return
    command = Command("Work", "Worker", timeout="1m")
    await first.packs.register(PackDeclaration("Worker"))
    step = Step(event=EventPattern("Said", "Worker"), command=command)
    await first.flows.save(Flow("flow", steps=(step,)))
    await first.accept_event("Worker", NewEvent("Said", b"null"))
    await first.process_due()
    (action,) = await first.take("Worker")
    clock.set(hours=3)
    with pytest.raises(UnavailableError, match="differ"):
        await first.process_due()
    assert (await first.audit.list_actions(ActionFilter()))[0].state is ActionState.PENDING
    await first.heartbeat("Worker", action.action_id, action.lease)
    (status,) = await first.audit.list_actions(ActionFilter())
    assert status.due_at is not None
    assert status.due_at < datetime.now(UTC) + timedelta(minutes=2)


async def test_a_schedule_fires_once_for_each_tick_however_many_servers_look(
    services: list[Service], clock: Clock
) -> None:
    step = Step(
        id="tick",
        schedule=Schedule(cron="* * * * *"),
        command=Command(pack_name="Worker", name="Work"),
    )
    await services[0].flows.save(Flow("minutely", steps=(step,)))
    for service in services:
        await service.refresh()
    for _ in range(5):
        clock.forward(minutes=1)
        await asyncio.gather(*(service.process_due() for service in services))
    found = await services[1].audit.list_events(EventFilter(flow_name="minutely"), 0, 100)
    assert len(found) == 5
    assert len({record.event.payload for record in found}) == 5


async def test_a_server_whose_clock_is_wrong_does_nothing_by_the_clock(
    services: list[Service], clock: Clock
) -> None:
    clock.forward(minutes=10)
    await services[0].refresh()
    with pytest.raises(UnavailableError, match=r"clock .* differ by (5\d\d|600) s"):
        await services[0].process_due()
    assert "clock" in (await services[0].health.list_readiness_problems())[0]
    clock.forward(minutes=-10)
    await services[0].refresh()
    await services[0].process_due()
    assert not await services[0].health.list_readiness_problems()


async def test_results_of_one_execution_at_several_servers_start_a_joined_step_once(
    services: list[Service],
) -> None:
    def step(name: str, event: str, sender: str, **more: object) -> Step:
        return Step(
            id=name,
            event=EventPattern(pack_name=sender, name=event),
            command=Command(pack_name="Worker", name=name),
            **more,
        )  # type: ignore[arg-type]

    for name in ("Source", "Worker"):
        await services[0].packs.register(PackDeclaration(name))
    names = [f"part{number}" for number in range(6)]
    joined = step("join", "Done", "Worker", depends_on=Dependencies(all=tuple(names)))
    await services[0].flows.save(
        Flow("fan", steps=(*(step(name, "Asked", "Source") for name in names), joined))
    )
    for service in services:
        await service.refresh()
    await services[1].accept_event("Source", NewEvent("Asked", b"{}"))
    claimed = await services[2].take("Worker", limit=10)
    assert len(claimed) == 6
    results = [
        services[number % 3].complete("Worker", each.action_id, DONE)
        for number, each in enumerate(claimed)
    ]
    await asyncio.gather(*results)
    assert [each.name for each in await services[0].take("Worker", limit=10)] == ["join"]


async def test_what_one_server_changes_makes_a_number_grow_for_the_others(
    services: list[Service],
) -> None:
    one, two = services[0]._store, services[1]._store
    before = await two.read_change_counters()
    await one.save_note(Note("hook", "a", b""))
    saved = await two.read_change_counters()
    await one.delete_note("hook", "a")
    deleted = await two.read_change_counters()
    assert before.notes < saved.notes < deleted.notes
    assert (before.flows, before.items, before.packs) == (
        deleted.flows,
        deleted.items,
        deleted.packs,
    )


async def test_a_token_made_or_revoked_at_one_server_is_so_at_the_others_once_they_look(
    services: list[Service], clock: Clock
) -> None:
    here, there, _ = services
    token, text = await here.tokens.create(TokenRequest(pack_name="Worker"))
    await there.refresh()
    assert there.tokens.check(text) == token
    await there.run_maintenance()
    await here.refresh()
    assert here.tokens.last_used_at(token.token_id) is not None
    await here.tokens.revoke(token.token_id)
    clock.forward(minutes=2)
    there.tokens.check(text)  # it has not heard of that yet
    await there.refresh()
    with pytest.raises(UnauthorizedError):
        there.tokens.check(text)
    await there.run_maintenance()
    assert not await there._store.list_notes("token-use")


async def test_a_pack_reads_what_it_has_declared_at_another_server_a_moment_ago(
    services: list[Service],
) -> None:
    one, two = services[:2]
    await one.packs.register(PackDeclaration("Chat"))
    assert not await two.packs.reads_item("Chat", "chatops")
    await one.packs.register(PackDeclaration("Chat", items=("chatops",)))
    assert await two.packs.reads_item("Chat", "chatops")
    assert not await two.packs.reads_item("Chat", "teams")


async def test_of_servers_that_make_the_first_token_at_once_one_does(
    services: list[Service],
) -> None:
    made = [service.tokens.make(TokenRequest(is_admin=True), "first") for service in services]
    results = await asyncio.gather(
        *(service.tokens.add(token) for service, (token, _) in zip(services, made, strict=True)),
        return_exceptions=True,
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 2


async def check_log(service: Service) -> ChainVerifier:
    """Look whether the audit log is whole, and everything as it says."""
    found = await take_snapshot(service._store)
    assert (found.chain.fault, found.differences()) == (None, [])
    return found.chain


async def test_changes_at_several_servers_at_once_make_one_chain_whose_last_entries_are_true(
    services: list[Service],
) -> None:
    changes = []
    for number in range(8):
        for name, service in zip("abc", services, strict=True):
            changes += [
                service.flows.save(Flow("same", f"{name}{number}")),
                service.data.save(DataItem("same", "text/plain", f"{name}{number}".encode())),
                service.packs.register(
                    PackDeclaration("P", {"server": name}, links=(Link(f"http://{number}", "x"),))
                ),
                service.tokens.create(TokenRequest(pack_name="P")),
            ]
    await asyncio.gather(*changes)
    chain = await check_log(services[0])
    found = await services[1].audit.list_changes(AuditFilter(kind="token"), 0, 1000)
    assert len(found) == 24
    assert chain.seq >= len(changes)


async def test_a_change_of_what_another_server_has_changed_just_now_begins_with_that(
    services: list[Service],
) -> None:
    here, there, _ = services
    for number, service in enumerate((here, there, here, there)):
        await service.flows.save(Flow("f", f"{number}"))
        await service.data.save(DataItem("k", "text/plain", b"%d" % number))
        await service.packs.register(PackDeclaration("P", links=(Link(f"http://{number}", "x"),)))
    await there.flows.delete("f")
    for kind in ("flow", "datastore", "pack"):
        found = await here.audit.list_changes(AuditFilter(kind=kind))
        for after, before in itertools.pairwise(found):
            assert after.before == before.after
    await check_log(here)


async def test_of_servers_that_begin_at_once_on_what_is_there_one_keeps_how_it_is(
    services: list[Service],
) -> None:
    store = services[0]._store
    await store.save_item(DataItem("k", "text/plain", b"v"))
    others = [Service(service._store) for service in services]
    await asyncio.gather(*(service.start() for service in others))
    assert [change.action for change in await others[0].audit.list_changes(AuditFilter())] == [
        "found"
    ]
    await check_log(others[0])


async def test_who_is_late_with_a_change_lets_the_last_entry_say_how_it_is(
    services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, fast, _ = services
    waits, goes_on = asyncio.Event(), asyncio.Event()
    save_flow = late._store.save_flow

    async def save_late(version: FlowVersion, timetables: Sequence[ScheduleEntry]) -> None:
        waits.set()
        await goes_on.wait()
        await save_flow(version, timetables)

    monkeypatch.setattr(late._store, "save_flow", save_late)
    task = asyncio.create_task(late.flows.save(Flow("f", "late")))
    await waits.wait()
    await fast.flows.save(Flow("f", "fast"))
    goes_on.set()
    await task
    found, second, first = await fast.audit.list_changes(AuditFilter())
    assert (found.action, found.before, found.after) == ("found", second.after, first.after)
    await check_log(fast)


class DiedError(BaseException):
    """What a server does not live to see."""


async def test_what_a_server_did_not_live_to_change_is_told_by_another(
    services: list[Service], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    died, lives, other = services

    async def die(*_: object) -> None:
        raise DiedError

    await died.flows.save(Flow("f", "old"))
    monkeypatch.setattr(died._store, "save_flow", die)
    with pytest.raises(DiedError):
        await died.flows.save(Flow("f", "new"))
    await lives.run_maintenance()
    await Service(other._store, clock=clock).start()
    # It may be about to.
    assert (await lives.audit.list_changes(AuditFilter(), 0, 1))[0].action == "updated"
    clock.forward(minutes=2)
    for _ in range(2):
        await lives.run_maintenance()
    found, tried, first = await lives.audit.list_changes(AuditFilter())
    assert (found.action, found.before, found.after) == ("found", tried.after, first.after)
    await check_log(lives)


@pytest.mark.slow
async def test_a_log_of_changes_that_several_servers_trim_stays_whole(
    services: list[Service],
) -> None:
    for number in range(60):
        await services[number % 3].data.save(DataItem("busy", "text/plain", str(number).encode()))
        await services[number % 3].data.save(DataItem("other", "text/plain", str(number).encode()))
    await asyncio.gather(*(service.run_maintenance() for service in services))
    chain = await check_log(services[0])
    assert chain.base.seq > 0
    await services[1].data.save(DataItem("busy", "text/plain", b"again"))
    assert (await check_log(services[2])).base == chain.base
    shown = await services[2].audit.list_changes(AuditFilter(), 0, 1000)
    assert [each.seq for each in shown] == list(range(chain.seq + 1, chain.base.seq, -1))
