"""The audit log when something goes wrong: what fails, what is killed in the middle, and two who
write at once.
"""

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet

from flyteops.errors import ConflictError, NotFoundError, UnavailableError
from flyteops.model import DataItem, Flow, Note, PackDeclaration
from flyteops.service import AuditFilter, MaintenanceSettings, Service, TokenRequest
from flyteops.service.auditlog.entry import KIND, Actor, Author, Origin
from flyteops.service.auditlog.snapshot import take_snapshot
from flyteops.service.encryption import Encryptor
from flyteops.storage.backup import restore_backup, write_backup
from flyteops.storage.dump import move
from flyteops.storage.sqlite import SqliteStore

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANN = Author(Actor(kind="token", id="1", name="Ann"), Origin(address="10.0.0.7"))


class Faulty(SqliteStore):
    """A real store in which some verbs fail while there is a `fault`."""

    fault = None
    failing = ("save_flow", "save_item", "delete_flow")

    def __getattribute__(self, name):
        fault = object.__getattribute__(self, "fault")
        if fault is not None and name in object.__getattribute__(self, "failing"):
            return object.__getattribute__(self, "_fail")
        return object.__getattribute__(self, name)

    async def _fail(self, *_, **__):
        raise self.fault


@pytest.fixture
async def store(tmp_path):
    async with Faulty(tmp_path / "flyte.db") as store:
        yield store


async def started(store, *keys):
    service = Service(store, clock=lambda: NOW, encryptor=Encryptor(keys) if keys else None)
    await service.start()
    return service


async def said(service):
    """Return what was done, the oldest first."""
    found = await service.audit.list_changes(AuditFilter(), 0, 1000)
    return [f"{each.kind} {each.name} {each.action}" for each in reversed(found)]


async def check_whole(store):
    found = await take_snapshot(store)
    assert (found.chain.fault, found.differences()) == (None, [])
    return found.chain


async def test_a_change_that_fails_is_followed_by_an_entry_that_says_so(store):
    service = await started(store)
    await service.flows.save(Flow("f"))
    store.fault = UnavailableError("the disk is full")
    with pytest.raises(UnavailableError):
        await service.flows.save(Flow("f", "new"), ANN)
    store.fault = None
    failed, tried, _ = await service.audit.list_changes(AuditFilter())
    assert (tried.action, failed.action, failed.about) == ("updated", "failed", tried.seq)
    assert (failed.who, failed.place) == ANN
    assert failed.after == tried.before
    await check_whole(store)


async def test_that_a_change_failed_is_written_once_the_store_can_be(store, caplog):
    service = await started(store)

    async def fall_away(*_):
        store.fault, store.failing = UnavailableError("away"), ("save_flow", "save_note")
        raise store.fault

    save_flow, store.save_flow = store.save_flow, fall_away
    with pytest.raises(UnavailableError):
        await service.flows.save(Flow("f"))
    store.save_flow = save_flow
    assert "was not made; recording that as soon as the store can be" in caplog.text
    with pytest.raises(UnavailableError):  # nothing is changed without an entry
        await service.data.save(DataItem("k", "text/plain", b"v"))
    assert service.data.list() == []
    store.fault = None
    await service.run_maintenance()
    assert await said(service) == ["flow f created", "flow f failed"]
    await service.data.save(DataItem("k", "text/plain", b"v"))
    assert await said(service) == ["flow f created", "flow f failed", "datastore k created"]
    await check_whole(store)


async def test_without_an_entry_nothing_is_changed(store):
    service = await started(store)
    store.fault, store.failing = UnavailableError("away"), ("save_note",)
    for change in (
        service.flows.save(Flow("f")),
        service.data.save(DataItem("k", "text/plain", b"v")),
        service.packs.register(PackDeclaration("P")),
        service.tokens.create(TokenRequest(is_admin=True)),
    ):
        with pytest.raises(UnavailableError):
            await change
    store.fault = None
    again = await started(store)
    assert (
        again.flows.list(),
        again.data.list(),
        await again.packs.list(),
        again.tokens.list(),
    ) == ([], [], [], [])


KILLED = """
    import asyncio, os, signal, sys
    from flyteops.model import Flow
    from flyteops.service import Service
    from flyteops.storage.sqlite import SqliteStore

    class Killer(SqliteStore):
        async def save_flow(self, version, timetables=()):
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        async with Killer(sys.argv[1]) as store:
            service = Service(store)
            await service.start()
            await service.flows.save(Flow("f", "new"))

    asyncio.run(main())
"""


def die_between_entry_and_change(path):
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), path], check=False)
    assert killed.returncode == -signal.SIGKILL


async def test_a_server_that_is_killed_between_an_entry_and_its_change_leaves_one_that_the_next_start_explains(
    tmp_path, caplog
):
    path = tmp_path / "flyte.db"
    async with SqliteStore(path) as store:
        await (await started(store)).flows.save(Flow("f", "old"))
    die_between_entry_and_change(path)
    left = await take_snapshot(SqliteStore(path))
    assert left.chain.fault is None
    assert [(each.resource, each.entry.seq) for each in left.differences()] == [(("flow", "f"), 2)]
    async with SqliteStore(path) as store:
        service = await started(store)
        assert await said(service) == ["flow f created", "flow f updated", "flow f found"]
        (found, tried, first) = await service.audit.list_changes(AuditFilter())
        assert (found.before, found.after, found.who.kind) == (tried.after, first.after, "server")
        assert (
            f"The flow 'f' does not match change {tried.head}, its last audit entry" in caplog.text
        )
    chain = await check_whole(SqliteStore(path))
    assert [change.seq for change in chain.found] == [3]


async def test_what_was_there_before_anything_was_kept_is_kept_as_it_was_found(store):
    await store.save_item(DataItem("k", "text/plain", b"v"))
    await store.save_pack(PackDeclaration("P").seen(NOW))
    service = await started(store)
    assert await said(service) == ["datastore k found", "pack P found"]
    await started(store)
    assert await said(service) == ["datastore k found", "pack P found"]
    assert (await check_whole(store)).found == []


async def test_what_was_changed_past_the_log_is_told(store):
    service = await started(store)
    for name in ("a", "b"):
        await service.data.save(DataItem(name, "text/plain", b"v"))
    await store.save_item(DataItem("a", "text/plain", b"other"))
    await store.delete_item("b")
    await store.save_item(DataItem("c", "text/plain", b"v"))
    await store.save_note(Note("token", "t", b"nonsense"))
    found = (await take_snapshot(store)).differences()
    told = [
        (each.resource[1], None if each.entry is None else each.entry.seq, each.state is None)
        for each in found
    ]
    assert told == [("a", 1, False), ("b", 2, True), ("c", None, False), ("t", None, False)]


async def test_a_key_that_is_changed_is_kept_for_each_secret(store):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    service = await started(store, old)
    for key in ("a", "b"):
        await service.data.save(DataItem(key, "text/plain", b"hunter22", is_secret=True))
    service = await started(store, new, old)
    assert await said(service) == [
        "datastore a created",
        "datastore b created",
        "datastore a rotated",
        "datastore b rotated",
    ]
    assert [
        each.who.kind for each in await service.audit.list_changes(AuditFilter(who="server"))
    ] == ["server"] * 4
    await started(store, new)
    assert len(await said(service)) == 4
    await check_whole(store)
    assert not any(b"hunter22" in note.value for note in await store.list_notes(KIND))


async def test_a_secret_that_was_put_back_or_in_the_place_of_another_is_found(store):
    service = await started(store, Fernet.generate_key().decode())
    for value in (b"first", b"second"):
        await service.data.save(DataItem("a", "text/plain", value, is_secret=True))
        if value == b"first":
            (earlier,) = await store.list_notes("secret")
    await store.save_note(earlier)
    assert [each.resource for each in (await take_snapshot(store)).differences()] == [
        ("datastore", "a")
    ]


async def test_packs_that_the_server_forgets_by_itself_are_kept(store):
    later = timedelta(0)
    service = Service(
        store,
        clock=lambda: datetime.now(UTC) + later,
        maintenance=MaintenanceSettings(delete_dead_packs=True, dead_packs_at="00:00"),
    )
    await service.start()
    await store.save_pack(PackDeclaration("Dead").seen(NOW.replace(year=2020)))
    await service.packs.refresh()
    later = timedelta(minutes=1)
    await service.run_maintenance()
    assert await said(service) == ["pack Dead removed"]


async def test_many_changes_at_once_follow_each_other_in_one_chain(store):
    service = await started(store)
    await asyncio.gather(
        *(service.flows.save(Flow(f"f{number % 3}", f"{number}")) for number in range(10)),
        *(
            service.packs.register(PackDeclaration("P", {"n": f"{number % 2}"}, links=()))
            for number in range(10)
        ),
        *(service.tokens.create(TokenRequest(pack_name="P")) for _ in range(5)),
        *(service.data.save(DataItem("k", "text/plain", b"%d" % number)) for number in range(10)),
    )
    chain = await check_whole(store)
    assert chain.seq == 10 + 2 + 5 + 10


async def test_two_who_write_to_one_store_at_once_make_one_chain(store):
    one, two = await started(store), await started(store)
    await asyncio.gather(
        *(
            service.flows.save(Flow(f"{name}{number}"))
            for number in range(20)
            for name, service in (("a", one), ("b", two))
        )
    )
    chain = await check_whole(store)
    assert chain.seq == 40


async def test_a_token_of_an_id_that_is_taken_is_refused_without_an_entry(store):
    service = await started(store)
    token, _ = service.tokens.make(TokenRequest(is_admin=True), "first")
    await service.tokens.add(token)
    with pytest.raises(ConflictError):
        await service.tokens.add(token)
    with pytest.raises(NotFoundError):
        await service.tokens.revoke("none")
    assert await said(service) == ["token first created"]


async def test_moving_and_restoring_a_store_takes_the_log_along(store, tmp_path):
    service = await started(store, Fernet.generate_key().decode())
    for number in range(250):
        await service.flows.save(Flow("f", f"{number}"))
    await service.data.save(DataItem("a", "text/plain", b"hunter22", is_secret=True))
    await service.tokens.create(TokenRequest(is_admin=True))
    head = (await check_whole(store)).head
    async with SqliteStore(tmp_path / "moved.db") as moved:
        await move(store, moved, lambda *_: None)
        assert (await check_whole(moved)).head == head
    with (tmp_path / "backup").open("wb") as out:
        await write_backup(SqliteStore(tmp_path / "flyte.db"), out, NOW, lambda *_: None)
    with (tmp_path / "backup").open("rb") as source:
        await restore_backup(source, SqliteStore(tmp_path / "restored.db"), lambda *_: None)
    async with SqliteStore(tmp_path / "restored.db") as restored:
        service = await started(restored)
        await service.flows.save(Flow("f", "goes on"))
        assert (await check_whole(restored)).seq == int(head.partition(":")[0]) + 1


async def test_each_change_is_told_to_the_servers_log_with_its_hash(store, caplog):
    caplog.set_level(logging.INFO, "flyte.changes")
    service = await started(store)
    await service.flows.save(Flow("f\n"), ANN)
    (change,) = await service.audit.list_changes(AuditFilter())
    assert (
        f"Change {change.seq}:{change.hash}: flow 'f\\n' created by token 1 (Ann) from 10.0.0.7"
        in caplog.text
    )


@pytest.mark.parametrize("key", ["000000000002", "x", "999999999999x"])
async def test_the_log_goes_on_behind_what_somebody_has_damaged_and_that_stays_to_be_seen(
    store, key
):
    service = await started(store)
    await service.flows.save(Flow("f"))
    await store.save_note(Note(KIND, key, b"\xff"))
    service = await started(store)
    await service.flows.save(Flow("f", "new"))
    assert await said(service) == ["flow f created", "flow f updated"]
    fault = (await take_snapshot(store)).chain.fault
    assert (fault.how, fault.seq) == (("modified", 2) if key == "000000000002" else ("inserted", 3))
