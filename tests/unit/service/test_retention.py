"""A store that takes too much room when nothing may be removed any more: people are told, once,
and told when it is over.
"""

import logging
from datetime import timedelta

import pytest

from flyteops.errors import NotFoundError
from flyteops.model import DataItem, NewEvent, PackDeclaration
from flyteops.service import MaintenanceSettings, Service
from flyteops.service.basis import BASIS, ITEM_VALUE
from flyteops.service.retention import PURGES_AT_ONCE
from flyteops.storage.query import Purged, Retention
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock
from tests.support.flow import a_flow, a_step


class Full(SqliteStore):
    """A real store that takes more than it may, with as many steps to go as the test says."""

    over_bytes = 0
    steps = 0
    asked = 0

    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        self.asked += 1
        purged = await super().purge(what, limit=limit)
        self.steps -= 1
        return Purged(
            purged.executions, purged.events, more=self.steps > 0, over_bytes=self.over_bytes
        )


@pytest.fixture
async def store(tmp_path):
    async with Full(tmp_path / "flyte.db") as store:
        yield store


@pytest.fixture
async def service(store):
    service = Service(
        store,
        clock=Clock(),
        maintenance=MaintenanceSettings(max_bytes=100_000_000, keep_for=timedelta(days=1)),
    )
    await service.start()
    return service


async def test_a_store_that_stays_too_large_is_told_of_until_it_is_small_enough(
    service, store, caplog
):
    caplog.set_level(logging.INFO)
    store.over_bytes = 5_000
    await service.run_maintenance()
    await service.run_maintenance()
    (warning,) = service.health.warnings()
    assert warning.startswith(
        "The store takes 5,000 bytes more than FLYTE_MAX_DISK allows, and nothing more may be"
        " removed"
    )
    assert service.health.warnings(details=False)[0].startswith("The store needs attention")
    assert caplog.text.count("5,000 bytes more") == 1
    store.over_bytes = 0
    await service.run_maintenance()
    assert service.health.warnings() == []
    assert "The store is within FLYTE_MAX_DISK again" in caplog.text


async def test_while_there_is_more_to_remove_nothing_is_told(service, store):
    store.over_bytes, store.steps = 5_000, 2 * PURGES_AT_ONCE
    await service.run_maintenance()
    assert (store.asked, service.health.warnings()) == (PURGES_AT_ONCE, [])
    await service.run_maintenance()
    assert len(service.health.warnings()) == 1


async def test_bases_values_and_flow_versions_are_removed_after_the_last_event(store):
    clock = Clock()
    keeping = MaintenanceSettings(keep_for=timedelta(days=1), max_old_flows=0)
    service = Service(store, clock=clock, maintenance=keeping)
    await service.start()
    await service.packs.register(PackDeclaration("Source", {}))
    said = NewEvent("Said", b'{"room": "ops"}')

    async def save_and_say(wanted: str) -> None:
        await service.data.save(DataItem("rooms", "text/plain", wanted.encode()))
        criteria = f"{{{{ Event.Payload.room == '{wanted}' and datastore('rooms') == 'x' }}}}"
        for number in range(5):
            await service.flows.save(a_flow(a_step(criteria=criteria), name=f"f{number}"))
        await service.accept_event("Source", said)

    await save_and_say("former")
    uuid = service.flows.find_current("f0").version.uuid
    clock.forward(hours=20)
    await save_and_say("present")
    kept = service.flows.find_current("f0").version.uuid
    await service.flows.save(a_flow(a_step(), name="f0"))
    assert len(await store.list_notes(BASIS)) == len(await store.list_notes(ITEM_VALUE)) == 2
    for _ in range(8):
        clock.forward(hours=2)
        await service.run_maintenance()
    assert [note.key for note in await store.list_notes(BASIS)] == [f"{2:012}"]
    assert len(await store.list_notes(ITEM_VALUE)) == 1
    assert await store.get_flow_version(kept)
    with pytest.raises(NotFoundError):
        await store.get_flow_version(uuid)
