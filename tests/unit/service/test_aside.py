"""What a server sets aside while everything else goes on, on a real store with clocks that the
test turns.
"""

import asyncio
import importlib.resources
import logging
import shutil
import sqlite3
import zoneinfo
from datetime import timedelta

import pytest

from flyteops.errors import NotFoundError, UnavailableError
from flyteops.flow.schedule import get_time_zone
from flyteops.model import ActionState, NewEvent, PackDeclaration
from flyteops.service import AuditFilter, TokenRequest
from flyteops.storage.query import ActionFilter, EventFilter, ExecutionFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock
from tests.support.flow import NOON, a_step
from tests.unit.service.test_scheduler import DONE, SAID, begin, save, started, taken

ZONE = "Test/Nowhere"
"""A zone that is known only where the test says so."""


@pytest.fixture
def clocks():
    return Clock(NOON)


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "flyte.db") as store:
        yield store


@pytest.fixture
def zones(tmp_path):
    """A folder of time zones that has `ZONE`."""
    (tmp_path / "zones/Test").mkdir(parents=True)
    shutil.copy(
        str(importlib.resources.files("tzdata") / "zoneinfo/Europe/Kyiv"), tmp_path / "zones" / ZONE
    )
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path / "zones"])
    yield tmp_path / "zones"
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()


def damage(tmp_path, statement):
    with sqlite3.connect(tmp_path / "flyte.db", timeout=10) as connection:
        assert connection.execute(statement).rowcount
    connection.close()


def scheduled(name, time_zone):
    step = {
        "id": "s",
        "schedule": {"cron": "* * * * *", "timeZone": time_zone},
        "command": {"name": "Do", "packName": "Worker"},
    }
    return step | {"command": {**step["command"], "input": name}}


async def inputs(service):
    return sorted(each.input for each in await service.take("Worker", limit=100))


def kinds(service):
    return {(problem.kind, problem.name) for problem in service.health.problems()}


async def test_a_schedule_whose_zone_is_not_known_stops_nothing_and_fires_once_it_is(
    store, clocks, zones, caplog
):
    service = await started(store, clocks)
    leased = await begin(service, a_step(terms={"timeout": "30s"}))
    await save(service, scheduled("bad", ZONE), name="bad")
    await save(service, scheduled("good", "Europe/Berlin"), name="good")
    (zones / ZONE).rename(zones / "away")
    zoneinfo.ZoneInfo.clear_cache()
    with pytest.raises(ValueError, match="not a time zone that this computer knows"):
        get_time_zone(ZONE)

    restarted = await started(store, clocks)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clocks.forward(minutes=1)
            await restarted.process_due()
    assert await inputs(restarted) == [b'"good"'] * 3
    states = {
        each.action_id: each.state for each in await restarted.audit.list_actions(ActionFilter())
    }
    assert states[leased.action_id] is ActionState.FATAL
    assert kinds(restarted) == {("schedule", "bad/s")}
    (warning,) = restarted.health.warnings()
    assert "'bad/s' is set aside: 'Test/Nowhere' is not a time zone" in warning
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "The schedule 'bad/s' is set aside and tried again later"
    ]
    assert not await restarted.health.list_readiness_problems()

    (zones / "away").rename(zones / ZONE)
    clocks.forward(minutes=1)
    await restarted.process_due()
    assert await inputs(restarted) == [b'"bad"', b'"good"']
    assert not restarted.health.problems()
    assert not restarted.health.warnings()


async def test_what_is_set_aside_is_not_tried_again_at_once(store, clocks, zones):
    service = await started(store, clocks)
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(
        service,
        *({**scheduled("bad", ZONE), "id": f"s{number}"} for number in range(250)),
        name="bad",
    )
    await save(service, scheduled("good", "Europe/Berlin"), name="good")
    (zones / ZONE).unlink()
    zoneinfo.ZoneInfo.clear_cache()
    clocks.forward(minutes=1)
    next_at = await service.process_due()
    assert next_at > clocks.now
    assert await inputs(service) == [b'"good"']
    failures = {problem.failures for problem in service.health.problems()}
    assert (len(service.health.problems()), failures) == (250, {1})
    clocks.forward(seconds=1)
    await service.process_due()
    assert {problem.failures for problem in service.health.problems()} == {1}
    clocks.forward(seconds=5)
    await service.process_due()
    assert {problem.failures for problem in service.health.problems()} == {2}
    assert len(service.health.warnings()) == 6
    await service.flows.delete("bad")
    clocks.forward(minutes=2)
    await service.process_due()
    assert not service.health.problems()


async def test_flows_and_all_else_that_cannot_be_read_keep_no_server_from_starting(
    store, clocks, tmp_path
):
    service = await started(store, clocks)
    await service.packs.register(PackDeclaration(name="Broken"))
    await begin(service, a_step())
    await save(service, a_step(), name="broken")
    for name in ("good", "broken"):
        await service.tokens.create(TokenRequest(is_admin=True, description=name))
    damage(tmp_path, "UPDATE flow_version SET flow = x'7b' WHERE name = 'broken'")
    damage(tmp_path, "UPDATE pack SET declaration = x'6e756c6c' WHERE name = 'Broken'")
    damage(
        tmp_path,
        "UPDATE note SET value = x'5b5d' WHERE kind = 'token' AND instr(value, CAST('broken' AS"
        " BLOB))",
    )

    restarted = await started(store, clocks)
    found = kinds(restarted)
    assert {kind for kind, _ in found} == {"flow", "pack", "token"}
    assert {("flow", "broken"), ("pack", "Broken")} < found
    assert [flow.name for flow in restarted.flows.list()] == ["flow"]
    await restarted.accept_event("Source", SAID)
    assert await taken(restarted)
    assert len(restarted.health.warnings()) == 3

    await save(restarted, a_step(), name="broken")
    damage(
        tmp_path,
        "UPDATE pack SET declaration = CAST('{\"name\":\"Broken\"}' AS BLOB) WHERE name = 'Broken'",
    )
    clocks.forward(seconds=6)
    await restarted.run_maintenance()
    assert {kind for kind, _ in kinds(restarted)} == {"token"}
    assert [flow.name for flow in restarted.flows.list()] == ["broken", "flow"]


@pytest.mark.parametrize(
    "change",
    [
        "event SET decisions = x'7b'",
        "event SET created_at = 'yesterday'",
        "event SET created_at = 7",
        "action SET context = x'5b5d'",
        "action SET states = 'NEW soon,' || states",
        "action SET states = 'nonsense'",
        "queue SET labels = '{'",
        "source SET labels = CAST(x'ff' AS TEXT)",
        "source SET name = CAST(x'c3' AS TEXT)",
        "queue SET command = CAST(x'c3' AS TEXT)",
        "action SET step_id = CAST(x'c3' AS TEXT)",
    ],
)
async def test_a_row_that_cannot_be_read_leaves_lists_readable(store, clocks, tmp_path, change):
    service = await started(store, clocks)
    action = await begin(service, a_step(context={"a": "b"}))
    await service.complete("Worker", action.action_id, DONE)
    await service.accept_event("Source", SAID)
    await taken(service)
    damage(tmp_path, f"UPDATE {change} WHERE true")
    assert len(await service.audit.list_actions(ActionFilter())) == 2
    assert len(await service.audit.list_events(EventFilter())) == 3
    assert [
        len(each.actions) for each in await service.audit.list_executions(ExecutionFilter())
    ] == [1, 1]


async def test_what_cannot_be_read_can_be_deleted(store, clocks, tmp_path):
    service = await started(store, clocks)
    await service.packs.register(PackDeclaration(name="Broken", labels={"env": "prod"}))
    await save(service, a_step(), name="broken")
    damage(tmp_path, "UPDATE flow_version SET flow = x'7b' WHERE name = 'broken'")
    damage(tmp_path, "UPDATE pack SET declaration = x'6e756c6c' WHERE name = 'Broken'")
    restarted = await started(store, clocks)
    assert {kind for kind, _ in kinds(restarted)} == {"flow", "pack"}
    await restarted.flows.delete("broken")
    (pack_id,) = [name for kind, name in kinds(restarted) if kind == "pack"]
    await restarted.packs.delete(pack_id)
    assert not restarted.health.problems()
    newest = [
        (change.kind, change.name, change.action)
        for change in await restarted.audit.list_changes(AuditFilter())
    ]
    assert newest[:2] == [("pack", pack_id, "removed"), ("flow", "broken", "removed")]
    with pytest.raises(NotFoundError):
        await restarted.flows.delete("broken")
    with pytest.raises(NotFoundError):
        await restarted.packs.delete(pack_id)
    again = await started(store, clocks)
    assert not again.health.problems()
    assert len(await again.audit.list_changes(AuditFilter())) == len(newest)


async def test_an_execution_of_a_version_that_cannot_be_read_waits_until_it_can(
    store, clocks, tmp_path
):
    service = await started(store, clocks)
    action = await begin(
        service,
        a_step(terms={"timeout": "30s"}),
        a_step("next", "Done", "Worker", dependsOn=["work"]),
    )
    await save(service, a_step("other", "Else"))
    damage(
        tmp_path,
        "UPDATE flow_version SET flow = CAST('{' || flow AS BLOB) WHERE instr(flow, CAST('next' AS"
        " BLOB))",
    )
    restarted = await started(store, clocks)
    clocks.forward(minutes=1)
    await restarted.process_due()
    assert {kind for kind, _ in kinds(restarted)} == {"action", "flow version"}
    with pytest.raises(UnavailableError, match=r"cannot be read.*send the result again later"):
        await restarted.complete("Worker", action.action_id, DONE, lease=action.lease)
    damage(
        tmp_path,
        "UPDATE flow_version SET flow = substr(flow, 2) WHERE instr(flow, CAST('next' AS BLOB))",
    )
    clocks.forward(seconds=6)
    await restarted.complete("Worker", action.action_id, DONE, lease=action.lease)
    assert await taken(restarted)
    await restarted.process_due()
    assert not restarted.health.problems()


async def test_an_action_that_cannot_be_read_keeps_no_other_lease(store, clocks, tmp_path):
    service = await started(store, clocks)
    first = await begin(service, a_step(terms={"timeout": "30s"}))
    await service.accept_event("Source", SAID)
    second = await taken(service)
    damage(tmp_path, f"UPDATE action SET context = x'7b' WHERE action_id = '{first.action_id}'")
    clocks.forward(minutes=1)
    await service.process_due()
    states = {
        each.action_id: each.state for each in await service.audit.list_actions(ActionFilter())
    }
    assert states == {first.action_id: ActionState.PENDING, second.action_id: ActionState.FATAL}
    assert kinds(service) == {("action", first.action_id)}


# -------------------------------------------------------------------------------------- coming back


async def test_work_that_was_done_while_the_server_was_away_is_accepted(store, clocks):
    service = await started(store, clocks)
    action = await begin(
        service, a_step(terms={"timeout": "4s", "retry": {"attempts": 3, "backoff": "0s"}})
    )
    clocks.forward(seconds=8)
    restarted = await started(store, clocks)
    await restarted.process_due()
    assert not await restarted.take("Worker")
    clocks.forward(seconds=3)
    await restarted.process_due()
    await restarted.complete("Worker", action.action_id, DONE, lease=action.lease)
    assert (await restarted.audit.list_actions(ActionFilter()))[0].state is ActionState.SUCCESS


async def test_a_server_that_was_frozen_lets_leases_begin_anew(store, clocks, caplog):
    service = await started(store, clocks)
    action = await begin(
        service, a_step(terms={"timeout": "4s"}), a_step("wake", "Woken", "Source", delay="1ms")
    )
    keeping = asyncio.create_task(service.run_scheduler())
    await asyncio.sleep(0)  # it has begun
    clocks.forward(seconds=8)
    # Something that is due wakes it up, as the end of its pause does.
    await service.accept_event("Source", NewEvent("Woken", b"null"))
    clocks.forward(seconds=1)
    await asyncio.wait_for(service.take("Worker", wait=timedelta(minutes=1)), 20)
    keeping.cancel()
    found = {each.action_id: each for each in await service.audit.list_actions(ActionFilter())}
    assert found[action.action_id].state is ActionState.PENDING
    assert found[action.action_id].due_at == clocks.now + timedelta(seconds=4)
    assert "not running for 9 s" in caplog.text
    await service.complete("Worker", action.action_id, DONE, lease=action.lease)


async def test_a_lease_that_began_anew_ends_like_any_other(store, clocks):
    service = await started(store, clocks)
    await begin(service, a_step(terms={"timeout": "4s"}))
    clocks.forward(seconds=8)
    restarted = await started(store, clocks)
    clocks.forward(seconds=4)
    await restarted.process_due()
    assert (await restarted.audit.list_actions(ActionFilter()))[0].state is ActionState.FATAL
