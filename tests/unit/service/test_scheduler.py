"""The use cases as time passes, on a real store with clocks that the test turns."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest

from flyteops.errors import (
    BusyError,
    ConflictError,
    LateError,
    OutcomeUnknownError,
    UnavailableError,
)
from flyteops.model import ActionState, NewEvent, PackDeclaration
from flyteops.service import SeedSource, Service
from flyteops.service.longpoll import LongPolls
from flyteops.service.timer import ClockMonitor
from flyteops.storage.query import ActionFilter, EventFilter, ExecutionFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock
from tests.support.flow import NOON, a_flow, a_step

SAID, DONE = NewEvent("Said", b"null"), NewEvent("Done", b'"done"')


@pytest.fixture
def clocks():
    return Clock(NOON)


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "flyte.db") as store:
        yield store


async def started(store, clocks, secret=b"test"):
    service = Service(store, clock=clocks, monotonic=clocks.monotonic, seeds=SeedSource(secret))
    await service.start()
    return service


@pytest.fixture
async def service(store, clocks):
    return await started(store, clocks)


async def save(service, *steps, name="flow"):
    await service.flows.save(a_flow(*steps, name=name))


async def begin(service, *steps):
    """Save a flow with these steps, and begin an execution of it; returns the first action,
    taken.
    """
    for name in ("Source", "Worker"):
        await service.packs.register(PackDeclaration(name=name))
    await save(service, *steps)
    await service.accept_event("Source", SAID)
    return await taken(service)


async def taken(service):
    (claimed,) = await service.take("Worker")
    return claimed


async def state_of(service, action):
    return (await service.audit.list_actions(ActionFilter()))[0].state


# ----------------------------------------------------------------------------------- what gets lost


async def test_a_lost_action_fails_with_an_event_that_flows_can_react_to(service, clocks):
    rescue = a_step("rescue", "FATAL", "Worker", dependsOn=["work"])
    rescue["command"]["input"] = "{{ Event.Payload.reason }}: {{ Event.Payload.message }}"
    action = await begin(service, a_step(terms={"timeout": "5m"}), rescue)
    clocks.forward(minutes=4, seconds=59)
    assert await service.process_due() == NOON + timedelta(minutes=5)
    clocks.forward(seconds=1)
    assert await service.process_due() is None
    followed = await taken(service)
    assert msgspec.json.decode(followed.input).startswith("lost: 'Do' was handed out once")
    with pytest.raises(LateError):
        await service.complete("Worker", action.action_id, DONE, lease=action.lease)


async def test_a_retried_action_is_handed_out_again_until_no_attempt_is_left(service, clocks):
    terms = {"timeout": "1m", "retry": {"attempts": 3, "backoff": "10s", "maxBackoff": "15s"}}
    action = await begin(service, a_step(terms=terms))
    waits = []
    for attempt in (2, 3):
        clocks.forward(minutes=1)
        next_at = await service.process_due()
        waits.append((next_at - clocks.now).total_seconds())
        clocks.forward(seconds=waits[-1] + 0.001)
        await service.process_due()
        again = await taken(service)
        assert (again.action_id, again.attempt) == (action.action_id, attempt)
    assert 5 <= waits[0] <= 10
    assert 7.5 <= waits[1] <= 15
    clocks.forward(minutes=1)
    assert await service.process_due() is None
    assert await state_of(service, action) is ActionState.FATAL


async def test_a_result_of_an_earlier_attempt_is_kept_and_not_applied(service, clocks):
    terms = {"timeout": "1m", "onLost": "retry", "retry": {"backoff": "0s"}}
    first = await begin(service, a_step(terms=terms))
    clocks.forward(minutes=1)
    await service.process_due()
    await service.process_due()
    second = await taken(service)
    with pytest.raises(LateError):
        await service.complete("Worker", first.action_id, DONE, lease=first.lease)
    with pytest.raises(ConflictError, match="handed out 2 times"):
        await service.complete("Worker", first.action_id, DONE)
    with pytest.raises(ConflictError):
        await service.complete("Worker", first.action_id, DONE, lease="2-forged")
    with pytest.raises(ConflictError):
        await service.heartbeat("Worker", first.action_id, first.lease)
    await service.complete("Worker", second.action_id, DONE, lease=second.lease)
    await service.complete("Worker", second.action_id, DONE, lease=second.lease)
    (execution,) = await service.audit.list_executions(ExecutionFilter())
    (action,) = execution.actions
    assert action.state is ActionState.SUCCESS
    assert action.attempts[0].late_result.payload == DONE.payload
    assert action.attempts[1].late_result is None


async def test_heartbeats_keep_an_action_alive(service, clocks):
    action = await begin(service, a_step(terms={"timeout": "1m"}))
    for _ in range(5):
        clocks.forward(seconds=50)
        assert await service.heartbeat(
            "Worker", action.action_id, action.lease
        ) == clocks.now + timedelta(minutes=1)
        await service.process_due()
    await service.complete("Worker", action.action_id, DONE, lease=action.lease)
    with pytest.raises(ConflictError):
        await service.heartbeat("Worker", action.action_id, action.lease)


async def test_a_person_can_say_what_became_of_an_action(service, clocks):
    ask = {"timeout": "1m", "onLost": "ask"}
    action = await begin(
        service, a_step(terms=ask), a_step("next", "Deployed", "Worker", dependsOn=["work"])
    )
    clocks.forward(minutes=1)
    await service.process_due()
    assert await state_of(service, action) is ActionState.UNKNOWN
    await service.resolve(action.action_id, "retry")
    again = await taken(service)
    assert again.attempt == 2
    await service.resolve(again.action_id, "succeeded", name="Deployed", payload=b'{"by": "hand"}')
    assert (await taken(service)).action_id != action.action_id
    with pytest.raises(ConflictError):
        await service.resolve(action.action_id, "failed")


async def test_an_answer_to_what_waits_for_a_person_settles_it(service, clocks):
    action = await begin(service, a_step(terms={"timeout": "1m", "onLost": "ask"}))
    clocks.forward(minutes=1)
    await service.process_due()
    await service.complete("Worker", action.action_id, DONE, lease=action.lease)
    assert await state_of(service, action) is ActionState.SUCCESS


async def test_without_a_time_limit_nothing_is_lost_but_shown(service, clocks):
    action = await begin(service, a_step())
    clocks.forward(days=30)
    assert await service.process_due() is None
    overdue = ActionFilter(overdue_since=clocks.now - timedelta(hours=1), now=clocks.now)
    assert [each.action_id for each in await service.audit.list_actions(overdue)] == [
        action.action_id
    ]
    assert await service.heartbeat("Worker", action.action_id) is None
    await service.complete("Worker", action.action_id, DONE)


async def test_a_lost_action_goes_on_with_its_version_after_a_restart(store, service, clocks):
    await begin(
        service,
        a_step(terms={"timeout": "1m"}),
        a_step("rescue", "FATAL", "Worker", dependsOn=["work"]),
    )
    await service.flows.delete("flow")
    again = await started(store, clocks)
    clocks.forward(minutes=1)
    await again.process_due()
    assert await taken(again)


async def test_a_clock_that_is_set_neither_loses_nor_keeps_anything(service, clocks):
    await begin(service, a_step(terms={"timeout": "5m", "onLost": "ask"}))
    await service.process_due()
    clocks.set(days=2)
    assert await service.process_due() == clocks.now + timedelta(minutes=5)
    clocks.set(days=-4)
    assert await service.process_due() == clocks.now + timedelta(minutes=5)
    clocks.forward(minutes=5)
    await service.process_due()
    assert await state_of(service, None) is ActionState.UNKNOWN


@pytest.mark.parametrize("hours", [-3, 3])
async def test_a_retry_that_follows_while_the_clock_is_set_comes_in_its_time(
    service, clocks, hours
):
    terms = {"timeout": "1m", "retry": {"attempts": 3, "backoff": "10s", "maxBackoff": "15s"}}
    action = await begin(service, a_step(terms=terms))
    await service.process_due()
    clocks.forward(minutes=1, seconds=1)
    clocks.set(hours=hours)
    next_at = await service.process_due()
    assert timedelta(seconds=5) <= next_at - clocks.now <= timedelta(seconds=10)
    clocks.forward(seconds=10)
    await service.process_due()
    again = await taken(service)
    assert (again.action_id, again.attempt) == (action.action_id, 2)


# ----------------------------------------------------------------------------- delays and schedules


@pytest.mark.parametrize("hours", [-3, 3])
async def test_what_begins_between_a_jump_of_the_clock_and_its_notice_takes_its_time(
    service, clocks, hours
):
    for name in ("Source", "Worker"):
        await service.packs.register(PackDeclaration(name=name))
    await save(service, a_step("now", terms={"timeout": "60s"}), a_step("later", delay="1h"))
    await service.process_due()
    clocks.set(hours=hours)
    await service.accept_event("Source", SAID)
    (action,) = await service.take("Worker")
    clocks.forward(seconds=1)
    await service.process_due()
    clocks.forward(seconds=58)
    await service.process_due()
    assert not await service.take("Worker")
    assert await service.heartbeat(
        "Worker", action.action_id, action.lease
    ) == clocks.now + timedelta(minutes=1)
    clocks.forward(minutes=59)
    await service.process_due()
    assert not await service.take("Worker")
    clocks.forward(seconds=1)
    await service.process_due()
    (later,) = await service.take("Worker")
    assert later.action_id != action.action_id


class Leaving(SqliteStore):
    """A store that does not answer when timers are moved, once."""

    is_away = False

    async def process_due(self, *arguments, **options):
        if self.is_away and options.get("shift"):
            self.is_away = False
            raise UnavailableError
        return await super().process_due(*arguments, **options)


async def test_a_jump_of_the_clock_is_made_up_for_when_the_store_is_there_again(tmp_path, clocks):
    async with Leaving(tmp_path / "leaving.db") as store:
        service = await started(store, clocks)
        await service.process_due()
        action = await begin(service, a_step(terms={"timeout": "60s"}))
        clocks.set(hours=3)
        store.is_away = True
        with pytest.raises(UnavailableError):
            await service.process_due()
        clocks.forward(seconds=30)
        await service.process_due()
        assert (await store.get_action(action.action_id)).state is ActionState.PENDING
        assert await service.heartbeat(
            "Worker", action.action_id, action.lease
        ) == clocks.now + timedelta(minutes=1)


@pytest.mark.parametrize("hours", [-3, 3])
async def test_what_is_stamped_while_timers_are_moved_takes_its_time(tmp_path, clocks, hours):
    moving, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(SqliteStore):
        is_late = False

        async def process_due(self, *arguments, **options):
            if not options.get("shift"):
                return await super().process_due(*arguments, **options)
            done = await super().process_due(*arguments, **options) if self.is_late else None
            moving.set()
            await goes_on.wait()
            return done or await super().process_due(*arguments, **options)

    for is_late in (False, True):
        async with Slow(tmp_path / f"slow-{is_late}.db") as store:
            moving.clear()
            goes_on.clear()
            store.is_late = is_late
            service = await started(store, clocks)
            await service.process_due()
            clocks.set(hours=hours)
            advancing = asyncio.create_task(service.process_due())
            await moving.wait()
            action = await begin(service, a_step(terms={"timeout": "60s"}))
            goes_on.set()
            await advancing
            assert (await store.get_action(action.action_id)).due_at == clocks.now + timedelta(
                minutes=1
            )


async def test_a_delayed_command_waits_its_time(service, clocks):
    for name in ("Source", "Worker"):
        await service.packs.register(PackDeclaration(name=name))
    await save(service, a_step(delay="10m"))
    await service.accept_event("Source", SAID)
    assert not await service.take("Worker")
    clocks.forward(minutes=10)
    await service.process_due()
    assert await service.take("Worker")


def a_schedule(**schedule):
    command = {"name": "Do", "packName": "Worker", "input": "{{ Event.Payload.scheduledAt }}"}
    return {"id": "nightly", "schedule": schedule, "command": command}


async def fired(service):
    await service.process_due()
    return [msgspec.json.decode(each.input) for each in await service.take("Worker", limit=100)]


async def test_a_schedule_fires_once_for_each_of_its_times(store, service, clocks):
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_schedule(cron="0 * * * *"))
    clocks.forward(minutes=59)
    assert await fired(service) == []
    clocks.forward(minutes=1)
    assert await fired(service) == ["2026-11-23T13:00:00Z"]
    assert await fired(service) == []
    again = await started(store, clocks)
    assert await fired(again) == []
    clocks.forward(hours=1)
    assert await fired(again) == ["2026-11-23T14:00:00Z"]
    (record, _) = await again.audit.list_events(EventFilter(pack_name="Flyte"))
    assert (record.event.name, record.event.created_at) == ("Scheduled", NOON + timedelta(hours=2))


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("all", [f"2026-11-23T{hour}:00:00Z" for hour in range(13, 17)]),
        ("last", ["2026-11-23T16:00:00Z"]),
        ("skip", []),
    ],
)
async def test_what_was_missed_is_caught_up_as_the_flow_says(service, clocks, catch_up, expected):
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_schedule(cron="@hourly", catchUp=catch_up))
    clocks.forward(hours=4, minutes=30)
    assert await fired(service) == expected
    clocks.forward(minutes=30)
    assert await fired(service) == ["2026-11-23T17:00:00Z"]


@pytest.mark.parametrize(
    ("catch_up", "outcome"),
    [
        ("all", "all of them run now"),
        ("last", "the one for 2026-11-23T16:00:00Z runs now"),
        ("skip", "none of them runs"),
    ],
)
async def test_a_start_reports_missed_runs_and_what_catch_up_did(
    service, store, clocks, caplog, catch_up, outcome
):
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_schedule(cron="@hourly", catchUp=catch_up))
    clocks.forward(hours=4, minutes=30)
    await (await started(store, clocks)).process_due()
    period = "2026-11-23T13:00:00Z to 2026-11-23T16:00:00Z"
    assert (
        f"Schedule flow/nightly missed 4 runs ({period}); catchUp is {catch_up}: {outcome}"
        in caplog.messages
    )


async def test_missed_runs_are_reported_once_and_runs_on_time_never(service, clocks, caplog):
    await save(service, a_schedule(cron="@hourly"))
    clocks.forward(hours=2, seconds=30)
    await service.process_due()
    assert [message for message in caplog.messages if "missed" in message] == [
        (
            "Schedule flow/nightly missed 1 run (2026-11-23T13:00:00Z); catchUp is last: none of"
            " them runs"
        )
    ]
    caplog.clear()
    await service.process_due()
    clocks.forward(hours=1)
    await service.process_due()
    assert not [message for message in caplog.messages if "missed" in message]


async def test_many_missed_runs_are_neither_counted_nor_listed_without_bound(
    service, clocks, caplog
):
    await save(
        service,
        *(
            {**a_schedule(cron="* * * * *", catchUp="skip"), "id": f"s{number}"}
            for number in range(22)
        ),
    )
    clocks.forward(days=1)
    await service.process_due()
    messages = [message for message in caplog.messages if "missed" in message]
    assert len(messages) == 21
    assert "missed 100 or more runs" in messages[0]
    assert messages[-1] == "Runs of 2 more schedules were missed"


async def test_a_schedule_goes_by_the_clock_of_its_time_zone(service, clocks):
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_schedule(cron="30 15 * * *", timeZone="Asia/Kolkata"))
    assert await service.process_due() == datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


@pytest.mark.slow
async def test_thousands_of_schedules_that_are_due_at_once_all_fire(service, clocks):
    await service.packs.register(PackDeclaration(name="Worker"))
    count = 1_200
    await save(
        service, *({**a_schedule(cron="@daily"), "id": f"s{number}"} for number in range(count))
    )
    clocks.forward(days=40)
    await service.process_due()
    taken_all = []
    while claimed := await service.take("Worker", limit=100):
        taken_all += claimed
    assert len(taken_all) == count


async def test_a_deleted_or_changed_flow_fires_no_more(service, clocks):
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_schedule(cron="@hourly"))
    await save(service, a_schedule(cron="@daily"))
    clocks.forward(hours=2)
    assert await fired(service) == []
    await service.flows.delete("flow")
    clocks.forward(days=2)
    assert await fired(service) == []


async def test_a_schedule_fires_on_the_version_that_the_store_has(store, service, clocks):
    """As in the moment between storing a flow and having it in memory, or when another server
    stored it.
    """
    await service.packs.register(PackDeclaration(name="Worker"))
    await save(service, a_step())
    other = await started(store, clocks, b"other")
    await save(other, a_step(), a_schedule(cron="@hourly"))
    clocks.forward(hours=1)
    assert await fired(service) == ["2026-11-23T13:00:00Z"]
    clocks.forward(hours=1)
    assert await fired(service) == ["2026-11-23T14:00:00Z"]


async def test_an_event_of_the_servers_name_does_not_fire_a_schedule(service):
    for name in ("Flyte", "Worker"):
        await service.packs.register(PackDeclaration(name=name))
    await save(service, a_schedule(cron="@hourly"))
    await service.accept_event("Flyte", NewEvent("Scheduled", b"{}"))
    assert not await service.take("Worker")


# --------------------------------------------------------------------------------- waiting and keys


async def waiting(service, pack="Worker", **how):
    """Begin to wait for an action; returns the task once it waits."""
    before = service.waiting_count
    task = asyncio.create_task(service.take(pack, wait=timedelta(hours=1), **how))
    await asyncio.sleep(0)
    assert service.waiting_count == before + 1
    return task


async def test_who_waits_is_told_at_once(service):
    await begin(service, a_step())
    task = await waiting(service)
    await service.accept_event("Source", SAID)
    assert len(await task) == 1
    assert service.waiting_count == 0


async def test_who_waits_is_told_of_what_follows_from_results_and_time(service, clocks):
    first = await begin(
        service, a_step(), a_step("second", "Done", "Worker", dependsOn=["work"], delay="1m")
    )
    task = await waiting(service)
    await service.complete("Worker", first.action_id, DONE)
    clocks.forward(minutes=1)
    await service.process_due()
    assert len(await task) == 1


async def test_who_waits_in_vain_gets_nothing(service):
    await begin(service, a_step())
    assert not await service.take("Worker", wait=timedelta(milliseconds=1))
    assert not await service.take("Worker", "Other", wait=timedelta(milliseconds=1))


async def test_of_many_who_wait_each_gets_one(service):
    await begin(service, a_step())
    tasks = [await waiting(service) for _ in range(30)]
    await asyncio.gather(*(service.accept_event("Source", SAID) for _ in range(30)))
    claimed = [each for taken in await asyncio.gather(*tasks) for each in taken]
    assert len({each.action_id for each in claimed}) == 30


async def test_what_a_waiting_caller_does_not_take_goes_to_the_next(service):
    await begin(service, a_step())
    leaver, stayer = await waiting(service), await waiting(service)
    sending = asyncio.create_task(service.accept_event("Source", SAID))
    leaver.cancel()
    await sending
    assert len(await stayer) == 1


async def test_what_a_waiting_caller_fails_to_take_goes_to_the_next(tmp_path, clocks):
    class Failing(SqliteStore):
        left = 0

        async def claim(self, *arguments, **options):
            if self.left:
                self.left -= 1
                raise UnavailableError
            return await super().claim(*arguments, **options)

    async with Failing(tmp_path / "failing.db") as store:
        service = await started(store, clocks)
        await begin(service, a_step())
        first, second = await waiting(service), await waiting(service)
        await service.health.check()  # by then the store has told both that there is nothing
        store.left = 1
        await service.accept_event("Source", SAID)
        with pytest.raises(UnavailableError):
            await first
        async with asyncio.timeout(5):
            assert len(await second) == 1


async def test_what_is_handed_back_goes_to_who_waits(service):
    action = await begin(service, a_step())
    task = await waiting(service)
    await service.release_claims([action])
    (again,) = await task
    assert again.action_id == action.action_id


class Refusing(SqliteStore):
    """A store that refuses some releases, because there is too much to do."""

    left = 0

    async def release(self, *arguments, **options):
        if self.left:
            self.left -= 1
            raise BusyError
        return await super().release(*arguments, **options)

    def _write(self, rank, run, undo=None):
        if self.left and isinstance(run, partial):
            self.left -= 1
            raise BusyError
        return super()._write(rank, run, undo)


async def test_what_cannot_be_handed_back_now_is_handed_back_by_the_next_sweep(tmp_path, clocks):
    async with Refusing(tmp_path / "refusing.db") as store:
        service = await started(store, clocks)
        action = await begin(service, a_step())
        store.left = 1
        await service.release_claims([action])
        assert not await service.take("Worker")
        await service.run_maintenance()
        (again,) = await service.take("Worker")
        assert (again.action_id, again.attempt) == (action.action_id, action.attempt)


class Forgetting(SqliteStore):
    """A store whose next answer to a release or a result is lost: it was carried out."""

    loses = False

    async def finish(self, *arguments):
        decision = await super().finish(*arguments)
        if self.loses:
            self.loses = False
            raise OutcomeUnknownError
        return decision

    async def release(self, *arguments, **options):
        address = await super().release(*arguments, **options)
        if self.loses:
            self.loses = False
            raise OutcomeUnknownError
        return address


async def test_a_hand_back_whose_answer_is_lost_does_not_take_a_command_from_its_next_owner(
    tmp_path, clocks
):
    async with Forgetting(tmp_path / "forgetting.db") as store:
        service = await started(store, clocks)
        action = await begin(service, a_step())
        store.loses = True
        await service.release_claims([action])
        (again,) = await service.take("Worker")
        assert (again.action_id, again.attempt) == (action.action_id, action.attempt)
        await service.run_maintenance()
        assert not await service.take("Worker")
        assert (await store.get_action(action.action_id)).state is ActionState.PENDING
        await service.complete("Worker", again.action_id, DONE)


async def test_what_follows_from_a_result_whose_answer_is_lost_reaches_a_waiting_caller(
    tmp_path, clocks
):
    async with Forgetting(tmp_path / "forgetting.db") as store:
        service = await started(store, clocks)
        action = await begin(
            service, a_step(), a_step("next", "Done", "Worker", dependsOn=["work"])
        )
        waiting = asyncio.create_task(service.take("Worker", wait=timedelta(seconds=30)))
        await asyncio.sleep(0)
        assert not await service.take("Worker")  # comes after the first look of the waiting caller
        store.loses = True
        with pytest.raises(OutcomeUnknownError):
            await service.complete("Worker", action.action_id, DONE)
        async with asyncio.timeout(10):
            (following,) = await waiting
        assert (await store.get_action(following.action_id)).step_id == "next"


async def test_what_a_cancelled_claim_took_goes_back_although_the_store_is_busy(
    tmp_path, clocks, monkeypatch
):
    monkeypatch.setattr("flyteops.storage.sqlite.store.PAUSE", 0.01)
    async with Refusing(tmp_path / "refusing.db") as store:
        service = await started(store, clocks)
        action = await begin(service, a_step())
        await service.release_claims([action])
        store.left = 3
        claiming = asyncio.create_task(service.take("Worker"))
        await asyncio.sleep(0)
        claiming.cancel()
        (again,) = await service.take("Worker", wait=timedelta(seconds=10))
        assert (again.action_id, store.left) == (action.action_id, 0)


async def test_nothing_is_handed_back_twice(service):
    action = await begin(service, a_step())
    await service.complete("Worker", action.action_id, DONE)
    await service.release_claims([action])
    assert not await service.take("Worker")


async def test_a_server_that_stops_sends_away_who_waits(service):
    await begin(service, a_step())
    task = await waiting(service)
    service.end_long_polls()
    assert not await task
    assert await service.health.list_readiness_problems() == ["The server is stopping."]


async def test_too_many_who_wait_are_refused(service):
    room = LongPolls(limit=2)
    pack = PackDeclaration(name="P").seen(NOON).ref
    for _ in range(2):
        room.subscribe(pack, None)
    with pytest.raises(BusyError):
        room.subscribe(pack, None)


async def test_an_event_with_a_key_counts_once(service):
    await begin(service, a_step())
    first = await service.accept_event("Source", SAID, key="k")
    assert await service.accept_event("Source", SAID, key="k") == first
    assert await service.accept_event("Worker", SAID, key="k") != first
    assert len(await service.take("Worker", limit=10)) == 1


async def test_a_key_belongs_to_its_pack_whatever_they_are_called(service):
    for name in ("A", "A B"):
        await service.packs.register(PackDeclaration(name=name))
    assert await service.accept_event("A", SAID, key="B c") != await service.accept_event(
        "A B", SAID, key="c"
    )


async def test_time_is_kept_without_being_asked(service, clocks):
    keeping = asyncio.create_task(service.run_scheduler())
    action = await begin(service, a_step(terms={"timeout": "100ms", "onLost": "ask"}))
    clocks.forward(seconds=1)
    async with asyncio.timeout(10):
        # It is what a caller can see.
        while await state_of(service, action) is not ActionState.UNKNOWN:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    keeping.cancel()


def test_a_clock_that_is_put_right_counts_at_once_where_the_time_of_the_store_is_known():
    times = {"clock": NOON, "steady": 0.0}
    watch = ClockMonitor(lambda: times["clock"], lambda: times["steady"])
    watch.read_clock()
    watch.settle()
    watch.note_store_time(NOON + timedelta(minutes=40))
    times["clock"] += timedelta(minutes=40)
    assert watch.now() == NOON + timedelta(minutes=40)
    watch.note_store_time(NOON)
    assert watch.now() == NOON
