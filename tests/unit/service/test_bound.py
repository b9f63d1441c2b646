"""The bounds of what grows besides the history, on a real store: the audit log, and old flow
versions.
"""

import asyncio
import logging
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from flyteops.errors import NotFoundError, UnavailableError
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
from flyteops.service import AuditFilter, MaintenanceSettings, Service
from flyteops.service.auditlog.entry import BASE, KIND, AuditBase, open_base
from flyteops.service.auditlog.snapshot import take_snapshot
from flyteops.storage.backup import restore_backup, write_backup
from flyteops.storage.query import ExecutionFilter
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BOUND = MaintenanceSettings(max_change_log=40_000)


class Failing(SqliteStore):
    """A real store that cannot save notes of a kind."""

    kind = None

    async def save_note(self, note, *, replaces=True):
        if note.kind == self.kind:
            raise UnavailableError("the disk is full")
        await super().save_note(note, replaces=replaces)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return a store with 130 changes, made once: the first two are about items that are not
    changed again.
    """
    path = tmp_path_factory.mktemp("filled") / "flyte.db"

    async def fill():
        async with SqliteStore(path) as store:
            service = await started(store)
            await change(service, 1, "changed")
            await change(service, 1, "removed")
            await change(service, 128)

    asyncio.run(fill())
    return path


@pytest.fixture
async def store(tmp_path, filled):
    shutil.copy(filled, tmp_path / "flyte.db")
    async with Failing(tmp_path / "flyte.db") as store:
        yield store


@pytest.fixture
async def empty(tmp_path):
    async with SqliteStore(tmp_path / "empty.db") as store:
        yield store


async def started(store, housekeeping=BOUND, clock=None):
    service = Service(store, clock=clock or Clock(NOW), maintenance=housekeeping)
    await service.start()
    return service


async def change(service, count, key="busy"):
    for number in range(count):
        await service.data.save(DataItem(key, "text/plain", f"{key} {number}".encode()))


async def bases(store):
    return [open_base(note) for note in await store.list_notes(BASE)]


async def verdict(store, anchors=None):
    found = await take_snapshot(store, anchors)
    return found.chain.fault, [each.resource for each in found.differences()], found.chain


async def test_the_log_of_changes_stays_within_its_bound_and_whole(store):
    service = await started(store)
    await service.run_maintenance()
    (base,) = await bases(store)
    notes = await store.list_notes(KIND)
    assert sum(len(note.value) for note in notes) <= 40_000
    assert int(notes[0].key) == base.seq + 1
    fault, differing, chain = await verdict(store)
    assert (fault, differing, chain.seq) == (None, [], 131)
    shown = await service.audit.list_changes(AuditFilter(), 0, 1000)
    assert [each.seq for each in shown] == list(range(131, base.seq, -1))
    assert (shown[0].kind, shown[0].action, shown[0].after.text) == (
        "log",
        "trimmed",
        f"changes 1 to {base.seq} were removed; the last of them was {base.seq}:{base.hash}",
    )
    with pytest.raises(NotFoundError, match="FLYTE_MAX_CHANGE_LOG"):
        await service.audit.get_change(1)


async def test_a_log_within_its_bound_is_left_alone(store):
    await (await started(store, MaintenanceSettings())).run_maintenance()
    assert await bases(store) == []
    assert len(await store.list_notes(KIND)) == 130


async def test_the_log_is_bounded_again_and_again_and_after_a_restart(store):
    for _ in range(3):
        service = await started(store)
        await change(service, 20)
        await service.run_maintenance()
        assert sum(len(note.value) for note in await store.list_notes(KIND)) <= 40_000
        fault, differing, chain = await verdict(store)
        assert (fault, differing, [chain.base]) == (None, [], await bases(store))


async def test_what_was_changed_past_a_trimmed_log_shows(store):
    service = await started(store)
    await service.run_maintenance()
    await store.save_item(DataItem("changed", "text/plain", b"by hand"))
    await store.delete_item("removed")
    await store.save_item(DataItem("new", "text/plain", b"by hand"))
    found = await take_snapshot(store)
    assert [
        (each.resource[1], each.former and each.former.seq) for each in found.differences()
    ] == [
        ("changed", 1),
        ("new", None),
        ("removed", 2),
    ]


async def test_entries_that_no_server_has_removed_are_missed(store):
    service = await started(store, MaintenanceSettings())
    entries = [await service.audit.get_change(seq) for seq in range(1, 11)]
    await store.delete_notes(KIND, until="000000000010", limit=100)
    fault, *_ = await verdict(store)
    assert (fault.seq, fault.how) == (1, "removed")
    await store.save_note(AuditBase().behind(entries).note)
    fault, *_ = await verdict(store)
    assert (fault.seq, fault.how) == (1, "removed")
    assert "no entry says" in fault.detail


@pytest.mark.parametrize("are_gone", [True, False])
async def test_a_base_that_no_server_has_written_is_not_made_good_by_a_trim(store, are_gone):
    service = await started(store)
    entries = [await service.audit.get_change(seq) for seq in range(1, 11)]
    await store.save_note(AuditBase().behind(entries).note)
    if are_gone:
        await store.delete_notes(KIND, until="000000000010", limit=100)
    before = await store.list_notes(KIND)
    for _ in range(2):
        await service.run_maintenance()
        service = await started(store)
    fault, *_ = await verdict(store)
    assert (fault.seq, fault.how) == (1, "removed")
    assert "no entry says" in fault.detail
    assert await store.list_notes(KIND) == before


@pytest.mark.slow
@pytest.mark.parametrize("value", [b"", b"{}", b"[", b'{"seq":150,"hash":"x","last":{}}', b"\xff"])
async def test_a_base_that_was_changed_is_found(store, value):
    service = await started(store)
    await service.run_maintenance()
    (note,) = await store.list_notes(BASE)
    await store.save_note(Note(BASE, note.key, value))
    fault, *_ = await verdict(store)
    assert fault is not None
    entries = await store.list_notes(KIND)
    await change(service, 60)
    await service.run_maintenance()
    assert (await store.list_notes(KIND))[: len(entries)] == entries
    assert len(await service.audit.list_changes(AuditFilter(), 0, 1000)) == len(entries) + 60


async def test_notes_of_entries_before_the_base_are_not_shown_and_go(store):
    service = await started(store)
    await service.run_maintenance()
    (base,) = await bases(store)
    await store.save_note(Note(KIND, "000000000003", b"forged"))
    assert (await verdict(store))[0] is None
    assert len(await service.audit.list_changes(AuditFilter(), 0, 1000)) == 131 - base.seq
    await (await started(store)).run_maintenance()
    assert (await store.list_notes(KIND))[0].key == f"{base.seq + 1:012d}"


async def test_a_server_that_is_killed_while_it_trims_leaves_a_whole_log(store):
    service = await started(store)
    store.kind = BASE
    with pytest.raises(UnavailableError):
        await service.run_maintenance()
    store.kind = None
    fault, differing, chain = await verdict(store)
    assert (fault, differing, chain.seq, chain.base.seq) == (None, [], 131, 0)
    await (await started(store)).run_maintenance()
    fault, differing, chain = await verdict(store)
    assert (fault, differing, chain.seq) == (None, [], 132)
    assert chain.base.seq


async def test_servers_that_trim_at_the_same_time_leave_a_whole_log(store):
    services = [await started(store) for _ in range(3)]
    await asyncio.gather(*(service.run_maintenance() for service in services))
    await change(services[1], 2)
    fault, differing, chain = await verdict(store)
    assert (fault, differing) == (None, [])
    assert [chain.base] == await bases(store)


async def test_a_damaged_entry_is_not_removed(store):
    service = await started(store)
    await store.save_note(Note(KIND, "000000000005", b"damaged"))
    await service.run_maintenance()
    assert len(await store.list_notes(KIND)) == 130
    fault, *_ = await verdict(store)
    assert (fault.seq, fault.how) == (5, "modified")


async def test_who_has_noted_a_removed_entry_is_told_that_it_cannot_be_compared(store):
    service = await started(store)
    third = await service.audit.get_change(3)
    await service.run_maintenance()
    (base,) = await bases(store)
    fault, _, chain = await verdict(store, {3: third.hash, base.seq: base.hash})
    assert (fault, chain.unverifiable) == (None, [3])
    fault, *_ = await verdict(store, {base.seq: third.hash})
    assert (fault.seq, fault.how) == (base.seq, "modified")


async def test_a_backup_takes_a_trimmed_log_along(store, tmp_path):
    service = await started(store)
    await service.run_maintenance()
    with (tmp_path / "backup").open("w+b") as file:
        await write_backup(store, file, NOW, lambda *_: None)
        file.seek(0)
        await restore_backup(file, SqliteStore(tmp_path / "new.db"), lambda *_: None)
    async with SqliteStore(tmp_path / "new.db") as other:
        await (await started(other)).run_maintenance()
        fault, differing, chain = await verdict(other)
        assert (fault, differing, [chain.base]) == (None, [], await bases(store))


# -------------------------------------------------------------------------------------------- flows


def version(number):
    step = Step(
        id="s",
        event=EventPattern(name="Asked", pack_name="Source"),
        command=Command(name="Do", pack_name="Worker"),
    )
    return Flow("f", f"{number:03d} " + "x" * 1000, (step,))


async def test_flow_versions_in_the_history_stay_and_unused_ones_go(empty):
    clock = Clock(NOW)
    service = await started(empty, MaintenanceSettings(max_old_flows=5000), clock)
    source = await service.packs.register(PackDeclaration("Source"))
    uuids = []
    for number in range(20):
        clock.forward(seconds=1)
        uuids.append((await service.flows.save(version(number))).uuid)
        if number == 3:
            await service.accept_event(source.id, NewEvent("Asked", b"{}"))
    await service.run_maintenance()
    assert (await service.flows.get_version(uuids[0])).description.startswith("000")
    clock.forward(hours=2)
    await service.run_maintenance()
    (execution,) = await service.audit.list_executions(ExecutionFilter())
    kept = [uuid for uuid in uuids if await is_there(empty, uuid)]
    assert kept == [uuids[3], *uuids[-5:]]
    assert execution.flow_uuid == uuids[3]


async def is_there(store, uuid):
    try:
        await store.get_flow_version(uuid)
    except NotFoundError:
        return False
    return True


@pytest.mark.slow
async def test_the_history_makes_no_room_for_the_log_of_changes(empty):
    housekeeping = MaintenanceSettings(max_bytes=4 * 1024 * 1024)
    service = await started(empty, housekeeping)
    source = await service.packs.register(PackDeclaration("Source"))
    ids = [await service.accept_event(source.id, NewEvent("Asked", b"{}")) for _ in range(10)]
    for number in range(52):
        await service.data.save(DataItem("large", "text/plain", str(number).encode() * 30_000))
    await service.run_maintenance()
    for event_id in ids:
        await service.audit.get_event(event_id)
    (warning,) = service.health.warnings()
    assert "more than FLYTE_MAX_DISK allows" in warning


@pytest.mark.slow
async def test_that_the_store_is_larger_than_allowed_is_a_warning_until_it_is_not(empty, caplog):
    service = await started(empty, MaintenanceSettings(max_bytes=400_000))
    await service.data.save(DataItem("large", "text/plain", b"x" * 1_000_000))
    await service.run_maintenance()
    assert "datastore" in service.health.warnings()[0]
    assert len([each for each in caplog.messages if "FLYTE_MAX_DISK" in each]) == 1
    await service.data.delete("large")
    await service.run_maintenance()
    assert service.health.warnings() == []


@pytest.mark.slow
async def test_the_warning_stays_while_there_is_more_to_remove_than_in_one_round(
    empty, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "flyte.service")
    clock = Clock(NOW)
    service = await started(
        empty, MaintenanceSettings(max_bytes=400_000, keep_for=timedelta(days=1)), clock
    )
    await service.data.save(DataItem("large", "text/plain", b"x" * 1_000_000))
    await service.run_maintenance()
    source = await service.packs.register(PackDeclaration("Source"))
    for _ in range(3):
        await service.accept_event(source.id, NewEvent("Asked", b"{}"))
    monkeypatch.setattr("flyteops.service.retention.PURGE_STEP", 1)
    monkeypatch.setattr("flyteops.service.retention.PURGES_AT_ONCE", 1)
    clock.forward(days=2)
    await service.run_maintenance()
    assert "more than FLYTE_MAX_DISK allows" in service.health.warnings()[0]
    assert "within FLYTE_MAX_DISK again" not in caplog.text
