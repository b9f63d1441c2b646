"""Decisions that are computed again: the same as when the event came, whatever changed since."""

import asyncio
import contextlib
import itertools
import sqlite3
from datetime import timedelta

import msgspec
import pytest
from cryptography.fernet import Fernet

from flyteops.model import (
    Command,
    DataItem,
    EventPattern,
    Flow,
    NewEvent,
    Note,
    PackDeclaration,
    Step,
)
from flyteops.service import MaintenanceSettings, Service, recomputation
from flyteops.service.basis import BASIS, ITEM_VALUE
from flyteops.service.encryption import Encryptor
from flyteops.storage.query import EventFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock

TEXT = {"message": "deploy app-1", "room": "ops"}


def a_flow(name, criteria, **more):
    step = Step(
        id="first",
        event=EventPattern(name="Said", pack_name="Chat"),
        criteria=criteria,
        command=Command(name="Do", pack_name="Worker"),
        **more,
    )
    return Flow(name, steps=(step,))


def match(pattern):
    return f"{{{{ Event.Payload.message|match:'{pattern}' }}}}"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "flyte.db") as store:
        yield store


async def started(store, clock, **more):
    service = Service(store, clock=clock, **more)
    await service.start()
    return service


@pytest.fixture
async def service(store, clock):
    return await started(store, clock)


async def say(service, payload=None):
    await service.packs.register(PackDeclaration("Chat", {}))
    return await service.accept_event(
        "Chat", NewEvent("Said", msgspec.json.encode(payload or TEXT))
    )


async def decisions(service, event_id):
    record = await service.audit.get_event(event_id)
    assert record.basis is None
    return [(each.flow_name, each.outcome, each.reason) for each in record.decisions]


SKIPPED = ("skipped", "criteria")


async def test_a_skipped_step_is_not_stored_and_shown_with_its_values(service, store):
    for number in range(6):
        await service.flows.save(a_flow(f"f{number}", match(f"^deploy app-{number}$")))
    event_id = await say(service)
    stored = await store.get_event(event_id)
    assert [each.flow_name for each in stored.decisions] == ["f1"]
    assert await decisions(service, event_id) == [
        (f"f{number}", *(("ran", "passed") if number == 1 else SKIPPED)) for number in range(6)
    ]
    (shown,) = (await service.audit.get_event(event_id)).decisions[:1]
    assert shown.values == {"Event.Payload.message": '"deploy app-1"'}
    assert shown.detail == "the criteria are false"


async def test_a_flow_that_was_changed_or_deleted_shows_what_was_decided_then(service):
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match("^nothing")))
    event_id = await say(service)
    await service.flows.save(a_flow("f0", match("^deploy")))
    await service.flows.delete("f1")
    await service.flows.save(a_flow("new", match("^deploy")))
    assert await decisions(service, event_id) == [(f"f{number}", *SKIPPED) for number in range(5)]
    later = await say(service)
    assert {name: outcome for name, outcome, _ in await decisions(service, later)} == {
        "f0": "ran",
        "f2": "skipped",
        "f3": "skipped",
        "f4": "skipped",
        "new": "ran",
    }


async def test_a_datastore_item_that_was_changed_shows_its_value_of_then(service):
    static = "{{ Event.Payload.room == 'x' && datastore('rooms').ops == 'yes' }}"
    dynamic = "{{ datastore(Event.Payload.room) == 'yes' }}"
    await service.data.save(DataItem("rooms", "application/json", b'{"ops": "no"}'))
    await service.data.save(DataItem("ops", "text/plain", b"no"))
    for name, criteria in (("a", dynamic), ("b", static), ("c", match("^q")), ("d", match("^z"))):
        await service.flows.save(a_flow(name, criteria))
    event_id = await say(service)
    before = (await service.audit.get_event(event_id)).decisions
    await service.data.save(DataItem("rooms", "application/json", b'{"ops": "yes"}'))
    await service.data.delete("ops")
    assert (await service.audit.get_event(event_id)).decisions == before
    assert before[0].values["datastore(Event.Payload.room)"] == '"no"'
    assert {each.outcome for each in before} == {"skipped"}
    missing = await say(service)
    assert (await decisions(service, missing))[0] == ("a", "failed", "error")


async def test_events_that_read_different_items_by_computed_keys_share_a_basis(service, store):
    both = "{{ Event.Payload.message == 'x' && datastore(Event.Payload.user).team == 'x' }}"
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match("^nothing")))
    await service.flows.save(a_flow("who", both))
    event_ids = [await say(service, {"message": "m", "user": f"u{user}"}) for user in range(20)]
    assert len(await store.list_notes(BASIS)) == 1
    await service.data.save(DataItem("u3", "application/json", b'{"team": "x"}'))
    record = await service.audit.get_event(event_ids[3])
    assert [each.outcome for each in record.decisions] == ["skipped"] * 6
    assert record.decisions[-1].values["datastore(Event.Payload.user).team"] == "null"


async def test_a_step_that_reads_no_item_in_the_end_needs_no_basis_of_its_own(service, store):
    sometimes = "{% if Event.Payload.user == 'ann' %}{{ datastore('rooms') }}{% endif %}"
    await service.data.save(DataItem("rooms", "text/plain", b"ops"))
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", "{{ 1 == 2 }}", context={"text": sometimes}))
    for user in ("ann", "bob", "ann", "cid"):
        await say(service, {"message": "m", "user": user})
    assert len(await store.list_notes(BASIS)) == 1


async def test_a_step_that_fails_before_its_criteria_is_reported_as_failed(service):
    for number in range(5):
        context = {"bad": "{{ 1/0 }}"} if number == 2 else None
        await service.flows.save(a_flow(f"f{number}", match("^nothing"), context=context))
    event_id = await say(service)
    shown = await decisions(service, event_id)
    assert shown[2] == ("f2", "failed", "error")
    assert shown[3] == ("f3", *SKIPPED)


async def test_events_of_a_flow_include_those_that_it_skipped(service):
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match(f"^{number}$")))
    events = [await say(service, {"message": str(number)}) for number in range(4)]
    found = await service.audit.list_events(EventFilter("f1"))
    assert [each.event.event_id for each in found] == events[::-1]
    assert [each.decisions[0].outcome for each in found] == ["skipped", "skipped", "ran", "skipped"]
    assert {decision.flow_name for each in found for decision in each.decisions} == {"f1"}
    await service.flows.delete("f1")
    await say(service, {"message": "later"})
    found = await service.audit.list_events(EventFilter("f1"))
    assert [each.event.event_id for each in found] == events[::-1]


async def test_one_number_stands_for_each_distinct_set_also_after_a_restart(service, store, clock):
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match(f"^{number}$")))
    first = [await say(service) for _ in range(3)]
    await service.flows.save(a_flow("f0", match("^other")))
    changed = await say(service)
    again = await started(store, clock)
    numbers = [
        (await store.get_event(each)).basis.number for each in (*first, changed, await say(again))
    ]
    assert numbers == [1, 1, 1, 2, 2]
    assert len(await store.list_notes(BASIS)) == 2


async def test_a_change_of_one_flow_among_many_is_stored_as_a_difference(service, store):
    for number in range(300):
        await service.flows.save(a_flow(f"f{number:03}", match(f"^{number}$")))
    await say(service)
    whole = len((await store.list_notes(BASIS))[-1].value)
    for number in range(3):
        await service.flows.save(a_flow("f000", match(f"^again {number}$")))
        event_id = await say(service)
    sizes = [len(note.value) for note in await store.list_notes(BASIS)]
    assert sizes[0] == whole
    assert max(sizes[1:]) < whole / 20
    await service.flows.delete("f000")
    last = await say(service)
    assert len(await decisions(service, event_id)) == 300
    assert len(await decisions(service, last)) == 299


async def test_bases_values_and_flow_versions_are_kept_as_long_as_an_event_needs_them(
    service, store, clock
):
    await service.data.save(DataItem("rooms", "application/json", b'{"ops": "no"}'))
    item = "{{ Event.Payload.room == 'ops' && datastore('rooms').ops == 'yes' }}"
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", item))
    uuid = service.flows.find_current("f0").version.uuid
    event_id = await say(service)
    await service.flows.save(a_flow("f0", match("^other")))
    assert len(await store.list_notes(ITEM_VALUE)) == 1
    for _ in range(3):
        clock.forward(hours=2)
        await service.run_maintenance()
    assert len(await decisions(service, event_id)) == 5
    assert await store.get_flow_version(uuid)


async def test_two_evaluations_at_the_same_moment_share_their_basis(service, store):
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match(f"^{number}$")))
    await asyncio.gather(*(say(service) for _ in range(20)))
    assert len(await store.list_notes(BASIS)) == 1


class Counting(SqliteStore):
    """A real store that other servers may use, and that counts the times that bases are read."""

    is_shared = True
    count = 0

    async def list_notes(self, kind, **more):
        self.count += kind == BASIS
        return await super().list_notes(kind, **more)


async def test_of_many_events_after_a_saved_flow_one_stores_the_basis(tmp_path, clock):
    async with Counting(tmp_path / "flyte.db") as store:
        service = await started(store, clock)
        for number in range(5):
            await service.flows.save(a_flow(f"f{number}", match(f"^{number}$")))
        await say(service)
        await service.flows.save(a_flow("f0", match("^other")))
        store.count = 0
        await asyncio.gather(*(say(service) for _ in range(20)))
        assert store.count == 1


async def test_a_long_page_of_decisions_is_cut(service, monkeypatch):
    monkeypatch.setattr(recomputation, "PAGE_DECISIONS", 12)
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match(f"^{number}$")))
    for _ in range(4):
        await say(service)
    page = await service.audit.list_events(EventFilter())
    assert (len(page), page.is_cut) == (2, True)


async def test_a_time_limit_reached_while_a_decision_is_repeated_is_reported_as_such(store, clock):
    seconds = iter(())
    service = await started(store, clock, monotonic=lambda: next(seconds, 0.0))
    heavy = "{% for a in Event.Payload.items %}{% for b in Event.Payload.items %}{% endfor %}"
    for number in range(5):
        criteria = heavy + "{% endfor %}0" if number == 3 else match("^nothing")
        await service.flows.save(a_flow(f"f{number}", criteria))
    event_id = await say(service, {**TEXT, "items": list(range(400))})
    assert await decisions(service, event_id) == [(f"f{number}", *SKIPPED) for number in range(5)]
    seconds = itertools.count(step=0.4)
    shown = (await service.audit.get_event(event_id)).decisions
    assert [each.outcome for each in shown] == [*["skipped"] * 3, "failed", "skipped"]
    assert shown[3].detail.endswith(
        "take too long together; do less in them (while the decision was repeated)"
    )


async def test_a_secret_is_masked_in_decisions_that_are_computed_again(store, clock):
    service = await started(store, clock, encryptor=Encryptor([Fernet.generate_key().decode()]))
    await service.data.save(DataItem("db", "text/plain", b"deploy app-1", is_secret=True))
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match(f"^nothing {number}$")))
    event_id = await say(service)
    record = await service.audit.get_event(event_id)
    assert {each.reason for each in record.decisions} == {"criteria"}
    assert b"deploy app-1" not in msgspec.json.encode(record)
    (listed,) = await service.audit.list_events(EventFilter(flow_name="f2"))
    assert b"deploy app-1" not in msgspec.json.encode(listed)
    assert listed.decisions == (record.decisions[2],)


@pytest.mark.parametrize(
    "damaged",
    [
        b"{",
        b'{"fingerprint": "x", "base": 1}',
        b'{"fingerprint": "x", "base": 2}',
        b'{"fingerprint": "x", "flows": {"f1": "gone"}, "items": {"rooms": "no digest"}}',
    ],
)
async def test_a_damaged_basis_is_reported_and_new_events_get_another(
    service, store, clock, damaged
):
    for number in range(5):
        await service.flows.save(a_flow(f"f{number}", match("^nothing")))
    event_id = await say(service)
    await store.save_note(Note(BASIS, f"{1:012}", damaged))
    other = await started(store, clock)
    assert "cannot be computed again" in (await other.audit.get_event(event_id)).decisions[0].detail
    later = await say(other)
    assert await decisions(other, later) == [(f"f{number}", *SKIPPED) for number in range(5)]


async def test_an_event_with_damaged_decisions_is_removed_with_the_others(tmp_path, clock):
    path = tmp_path / "flyte.db"
    keeps = MaintenanceSettings(keep_for=timedelta(hours=1))
    async with SqliteStore(path) as store:
        service = await started(store, clock)
        for number in range(5):
            await service.flows.save(a_flow(f"f{number}", match("^nothing")))
        for _ in range(3):
            await say(service)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE event SET decisions = x'7b7d' WHERE seq = 2")
    async with SqliteStore(path) as store:
        service = await started(store, clock, maintenance=keeps)
        clock.forward(hours=2)
        await service.run_maintenance()
        assert not await service.audit.list_events(EventFilter(), 0, 10)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT * FROM flow_event").fetchall()
