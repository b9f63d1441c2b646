"""A store that takes too much room when nothing may be removed any more: people are told, once,
and told when it is over.
"""

import logging
from datetime import timedelta

import pytest

from flyteops.service import MaintenanceSettings, Service
from flyteops.service.retention import PURGES_AT_ONCE
from flyteops.storage.query import Purged, Retention
from flyteops.storage.sqlite import SqliteStore
from tests.support.clock import Clock


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
