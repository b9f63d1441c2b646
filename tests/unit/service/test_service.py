"""The use cases, on a real store with a clock that the test turns."""

from datetime import timedelta

import msgspec
import pytest

from flyteops.engine.compiled import compile_flow
from flyteops.errors import ConflictError, InputError, NotFoundError, StoreError, UnavailableError
from flyteops.model import DataItem, Flow, FlowVersion, NewEvent, PackDeclaration
from flyteops.service import MaintenanceSettings, SeedSource, Service
from flyteops.service.flow import VersionCache
from flyteops.service.maintenance import run_all
from flyteops.storage.query import EventFilter, ExecutionFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock
from tests.support.flow import NOON, a_flow


@pytest.fixture
def clock():
    return Clock(NOON)


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "flyte.db") as store:
        yield store


async def started(store, clock, **housekeeping):
    service = Service(
        store,
        clock=clock,
        monotonic=lambda: 0.0,
        seeds=SeedSource(b"test"),
        maintenance=MaintenanceSettings(**housekeeping),
    )
    await service.start()
    return service


@pytest.fixture
async def service(store, clock):
    return await started(store, clock)


def a_step(step_id, event, pack, depends_on=None, **command):
    step = {
        "id": step_id,
        "event": {"name": event, "packName": pack},
        "command": {"name": "Do", "packName": "Worker"} | command,
    }
    return step | ({"dependsOn": depends_on} if depends_on else {})


CHAIN = a_flow(
    a_step("first", "Said", "Source"),
    a_step("second", "Done", "Worker", ["first"], input="{{ Event.Payload }}"),
)


async def register(service, *names, **labels):
    for name in names:
        await service.packs.register(PackDeclaration(name=name, labels=labels))


async def begun(service):
    """An execution of the chain whose first action has been taken; returns that action."""
    await register(service, "Source", "Worker")
    await service.accept_event("Source", NewEvent("Said", b"null"))
    (action,) = await service.take("Worker")
    return action


@pytest.mark.parametrize("length", [1024 * 1024, 2_000_000])
async def test_a_long_text_of_an_event_or_a_result_is_handed_on(service, length):
    long = "{{ Event.Payload.stdout }}"
    first = a_step("first", "Said", "Source", input={"message": f"Output: {long}"}) | {
        "context": {"text": long}
    }
    second = a_step(
        "second", "Done", "Worker", ["first"], input=[f"Output: {long}", "{{ Context.text }}"]
    )
    await service.flows.save(a_flow(first, second))
    await register(service, "Source", "Worker")
    text = "x" * length
    payload = msgspec.json.encode({"stdout": text})
    await service.accept_event("Source", NewEvent("Said", payload))
    (action,) = await service.take("Worker")
    assert msgspec.json.decode(action.input) == {"message": f"Output: {text}"}
    await service.complete("Worker", action.action_id, NewEvent("Done", payload))
    (following,) = await service.take("Worker")
    assert msgspec.json.decode(following.input) == [f"Output: {text}", text]


# ------------------------------------------------------------------------------------ flow versions


async def test_an_execution_goes_on_with_the_version_it_began_with(service):
    await service.flows.save(CHAIN)
    action = await begun(service)
    await service.flows.save(a_flow(a_step("other", "Said", "Source")))
    await service.complete("Worker", action.action_id, NewEvent("Done", b'"on"'))
    (following,) = await service.take("Worker")
    assert following.input == b'"on"'


async def test_an_execution_goes_on_after_a_restart_although_its_flow_is_gone(
    store, clock, service
):
    await service.flows.save(CHAIN)
    action = await begun(service)
    await service.flows.delete("flow")
    again = await started(store, clock)
    await again.complete("Worker", action.action_id, NewEvent("Done", b'"on"'))
    assert (await again.take("Worker"))[0].input == b'"on"'


async def test_a_deleted_flow_does_not_begin_anything(service):
    await service.flows.save(CHAIN)
    await service.flows.delete("flow")
    await register(service, "Source", "Worker")
    await service.accept_event("Source", NewEvent("Said", b"null"))
    assert not await service.take("Worker")
    with pytest.raises(NotFoundError):
        await service.flows.delete("flow")


async def test_a_restart_changes_nothing(store, clock, service):
    await service.flows.save(CHAIN)
    await service.data.save(DataItem("motto", "text/plain", b"go"))
    await register(service, "Source", env="lab")
    again = await started(store, clock)
    assert again.flows.list() == [CHAIN]
    assert again.data.list() == service.data.list()
    assert await again.packs.list() == await service.packs.list()


# ------------------------------------------------------------------------------------------ results


async def test_the_same_result_again_changes_nothing(service):
    await service.flows.save(CHAIN)
    action = await begun(service)
    for _ in range(3):
        await service.complete("Worker", action.action_id, NewEvent("Done", b'{"a": 1}'))
    await service.complete("Worker", action.action_id, NewEvent("Done", b'{"a":1}'))
    (execution,) = await service.audit.list_executions(ExecutionFilter())
    assert [one.step_id for one in execution.actions] == ["first", "second"]
    assert len(await service.audit.list_events(EventFilter(event_name="Done"))) == 1


@pytest.mark.parametrize(
    ("name", "payload"), [("Done", b"2"), ("Done", b"true"), ("Else", b"1"), ("FATAL", b"1")]
)
async def test_another_result_is_a_conflict(service, name, payload):
    await service.flows.save(CHAIN)
    action = await begun(service)
    await service.complete("Worker", action.action_id, NewEvent("Done", b"1"))
    with pytest.raises(ConflictError, match="another result"):
        await service.complete("Worker", action.action_id, NewEvent(name, payload))


async def test_a_pack_that_could_not_have_taken_an_action_may_not_complete_it(service):
    await service.flows.save(a_flow(a_step("first", "Said", "Source", packLabels={"env": "lab"})))
    await register(service, "Source", "Worker")
    await register(service, "Worker", env="lab")
    await service.accept_event("Source", NewEvent("Said", b"null"))
    assert not await service.take("Worker")
    (action,) = await service.take("Worker.env.lab")
    for pack_id in ("Worker", "Source"):
        with pytest.raises(ConflictError, match="not for pack"):
            await service.complete(pack_id, action.action_id, NewEvent("Done", b"1"))
    await service.complete("Worker.env.lab", action.action_id, NewEvent("Done", b"1"))


async def test_an_action_that_nobody_has_taken_takes_no_result(service):
    await service.flows.save(CHAIN)
    await register(service, "Source", "Worker")
    event_id = await service.accept_event("Source", NewEvent("Said", b"null"))
    (decision,) = (await service.audit.get_event(event_id)).decisions
    with pytest.raises(ConflictError, match="only a PENDING action"):
        await service.complete("Worker", decision.action_id, NewEvent("Done", b"1"))


# ---------------------------------------------------------------------------------------- datastore


async def test_a_template_sees_the_datastore_as_it_is_when_the_event_comes(service):
    await service.flows.save(
        a_flow(a_step("first", "Said", "Source", input="{{ datastore('motto') }}"))
    )
    await register(service, "Source", "Worker")
    for value in (b"one", b"two"):
        assert await service.data.save(DataItem("motto", "text/plain", value)) == (value == b"one")
        await service.accept_event("Source", NewEvent("Said", b"null"))
    assert [(await service.take("Worker"))[0].input for _ in range(2)] == [b'"one"', b'"two"']
    await service.data.delete("motto")
    event_id = await service.accept_event("Source", NewEvent("Said", b"null"))
    (decision,) = (await service.audit.get_event(event_id)).decisions
    assert decision.outcome == "failed"


async def test_an_item_without_a_value_is_refused(service):
    with pytest.raises(InputError, match="needs a value"):
        await service.data.save(DataItem("empty", "text/plain", b""))


# ---------------------------------------------------------------------------------------- last seen


async def test_events_takes_and_results_are_seen_at_once_and_stored_at_the_next_sweep(
    store, clock, service
):
    await register(service, "Source")
    clock.forward(minutes=5)
    await service.accept_event("Source", NewEvent("Said", b"null"))
    assert (await service.packs.get("Source")).last_seen_at == clock.now
    assert (await store.find_pack("Source")).last_seen_at == NOON
    await service.run_maintenance()
    assert (await store.find_pack("Source")).last_seen_at == clock.now


async def test_registering_again_moves_last_seen_forward_only(clock, service):
    await register(service, "Source")
    clock.forward(seconds=1)
    await service.take("Source")
    clock.forward(seconds=1)
    await register(service, "Source")
    await service.run_maintenance()
    assert (await service.packs.get("Source")).last_seen_at == clock.now


async def test_the_sender_is_the_pack_that_registered_last_under_its_id(service):
    await register(service, "Sh", k="v")
    await service.accept_event("Sh.k.v", NewEvent("Said", b"null"))
    await register(service, "Sh.k.v")
    event_id = await service.accept_event("Sh.k.v", NewEvent("Said", b"null"))
    assert (await service.audit.get_event(event_id)).event.pack.name == "Sh.k.v"


# ------------------------------------------------------------------------------------- housekeeping


async def test_what_is_older_than_it_is_kept_goes(store, clock):
    service = await started(store, clock, keep_for=timedelta(days=1))
    await service.flows.save(CHAIN)
    action = await begun(service)
    await service.complete("Worker", action.action_id, NewEvent("Done", b"1"))
    clock.forward(hours=23)
    await service.run_maintenance()
    assert len(await service.audit.list_executions(ExecutionFilter())) == 1
    clock.forward(hours=2)
    await service.run_maintenance()
    assert not await service.audit.list_executions(ExecutionFilter())
    assert not await service.audit.list_events(EventFilter())


async def test_dead_packs_are_deleted_once_a_day_at_their_time(store, clock):
    due = (NOON + timedelta(days=2)).astimezone()
    service = await started(
        store,
        clock,
        delete_dead_packs=True,
        dead_packs_at=f"{due:%H:%M}",
        dead_after=timedelta(days=1),
    )
    await register(service, "Dead", "Alive")
    clock.forward(days=2, minutes=-1)
    await service.take("Alive")
    await service.run_maintenance()
    assert [pack.id for pack in await service.packs.list()] == ["Alive", "Dead"]
    clock.forward(minutes=1)
    await service.run_maintenance()
    assert [pack.id for pack in await service.packs.list()] == ["Alive"]
    with pytest.raises(NotFoundError, match="must register"):
        await service.take("Dead")


async def test_dead_packs_are_deleted_on_the_evening_of_the_day_the_server_started(store, clock):
    await (await started(store, clock)).packs.register(PackDeclaration(name="Dead"))
    clock.forward(days=8)
    due = (clock.now + timedelta(minutes=1)).astimezone()
    service = await started(store, clock, delete_dead_packs=True, dead_packs_at=f"{due:%H:%M}")
    clock.forward(minutes=1)
    await service.run_maintenance()
    assert await service.packs.list() == []


async def test_packs_that_could_not_be_seen_while_the_server_was_away_are_not_dead(store, clock):
    await (await started(store, clock)).packs.register(PackDeclaration(name="Alive"))
    clock.forward(days=8)
    service = await started(store, clock, delete_dead_packs=True, dead_packs_at="00:00")
    await service.run_maintenance()
    clock.forward(seconds=30)
    await service.take("Alive")
    clock.forward(seconds=30)
    await service.run_maintenance()
    assert [pack.id for pack in await service.packs.list()] == ["Alive"]


async def test_dead_packs_stay_unless_asked_otherwise(service, clock):
    await register(service, "Dead")
    clock.forward(days=400)
    await service.run_maintenance()
    assert (await service.packs.get("Dead")).id == "Dead"


# -------------------------------------------------------------------------------------------- seeds


def test_seeds_differ_and_depend_on_the_secret_alone():
    one, two, other = SeedSource(b"a"), SeedSource(b"a"), SeedSource(b"b")
    made = [one() for _ in range(100)]
    assert made == [two() for _ in range(100)]
    assert len({*made, *(other() for _ in range(100))}) == 200


# ------------------------------------------------------------------------------------ flow versions


def a_version(number, description):
    return compile_flow(FlowVersion(f"uuid-{number}", Flow("flow", description), NOON))


def test_old_versions_make_room_for_others_by_their_size():
    versions = VersionCache(10_000)
    for number in range(20):
        versions.add(a_version(number, "x" * 1_000))
    assert len(versions) == 9
    assert versions.find("uuid-10") is None
    assert versions.find("uuid-19") is not None


def test_the_version_that_was_not_used_for_longest_goes_first():
    versions = VersionCache(3_500)
    for number in range(3):
        versions.add(a_version(number, "x" * 1_000))
    versions.find("uuid-0")
    versions.add(a_version(3, "x" * 1_000))
    assert versions.find("uuid-0") is not None
    assert versions.find("uuid-1") is None


def test_a_version_larger_than_the_room_is_kept_until_the_next_one():
    versions = VersionCache(100)
    versions.add(a_version(1, "x" * 1_000))
    assert versions.find("uuid-1") is not None
    versions.add(a_version(2, "small"))
    assert versions.find("uuid-1") is None


async def test_a_store_that_is_loaded_in_part_is_not_worked_with(store, clock):
    await store.begin_load()
    with pytest.raises(StoreError, match="only partly loaded"):
        await started(store, clock)
    await store.end_load()
    await started(store, clock)


async def test_a_part_of_the_housekeeping_that_always_fails_does_not_keep_the_others_from_being_done():
    done = []

    async def fail() -> None:
        raise UnavailableError("The first.")

    async def work() -> None:
        done.append("work")

    with pytest.raises(UnavailableError, match="The first"):
        await run_all(fail, work)
    assert done == ["work"]
