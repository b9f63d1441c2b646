"""Retention: data that is old or takes too much room is removed, a bounded part of it at a time."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from flyteops.background import BackgroundLoop
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.auditlog.trimmer import AuditLogTrimmer
from flyteops.service.basis import BasisRegistry
from flyteops.service.maintenance import MaintenanceSettings, run_all
from flyteops.storage.base import Store
from flyteops.storage.query import Retention, VersionBound

LOGGER = logging.getLogger("flyte.service")

PURGE_STEP = 1000
PURGES_AT_ONCE = 50

VERSION_STEP = 500
"""The number of flow versions removed in one transaction."""

ROUND = timedelta(minutes=10)
"""The time between two searches for unused flow versions."""

GRACE = timedelta(hours=1)
"""The time for which a flow version must be unused before it is removed.

Another server may still be evaluating an event with it.
"""


class FlowVersionRetention:
    """Removes bases and flow versions that are not used. `excess` are the bytes above the bound."""

    def __init__(self, store: Store, bases: BasisRegistry) -> None:
        self.excess = 0
        self._store = store
        self._bases = bases
        self._unused_since: dict[int, datetime] = {}
        self._next_at: datetime | None = None

    async def run(self, now: datetime, limit: int) -> None:
        """Remove unused bases, and the oldest unused versions when they exceed `limit` bytes."""
        if self._next_at is not None and self._next_at - ROUND <= now < self._next_at:
            return
        await self._remove_bases(now)
        left = await self._store.purge_versions(
            VersionBound(now, now - GRACE, limit, self._bases.flow_uuids), limit=VERSION_STEP
        )
        self.excess = max(0, left.unused_bytes - limit)
        self._next_at = None if left.removed == VERSION_STEP else now + ROUND

    async def _remove_bases(self, now: datetime) -> None:
        """Remove bases that no event has had for a while, and the values of items of no basis."""
        await self._bases.refresh()
        unused = await self._store.find_unused_bases(self._bases.numbers)
        self._bases.forget(unused)
        since = {number: self._unused_since.get(number, now) for number in unused}
        await self._bases.remove([number for number, at in since.items() if at <= now - GRACE])
        await self._bases.remove_values(now, GRACE)
        self._unused_since = since


class RetentionTask:
    """Removes old data, and the oldest when the store is too large.

    The audit log and unused flow versions have bounds of their own; the history makes no room for
    their excess.
    """

    def __init__(
        self,
        store: Store,
        changes: AuditLog,
        bases: BasisRegistry,
        maintenance: MaintenanceSettings,
        loop: Callable[..., BackgroundLoop],
    ) -> None:
        self._store = store
        self._maintenance = maintenance
        self._log_trimmer = AuditLogTrimmer(store, changes, loop)
        self._version_retention = FlowVersionRetention(store, bases)
        self._over_bytes = 0

    async def run(self, now: datetime) -> None:
        """Remove all that may be removed now."""
        most = self._maintenance
        await run_all(
            partial(self._log_trimmer.trim, most.share(most.max_change_log)),
            partial(self._version_retention.run, now, most.share(most.max_old_flows)),
            partial(self._purge, now),
        )

    def warnings(self) -> Sequence[str]:
        """Return a warning with the excess of the store if nothing is left that may be removed."""
        if not self._over_bytes:
            return []
        return [
            (
                f"The store takes {self._over_bytes:,} bytes more than FLYTE_MAX_DISK allows, and"
                " nothing more may be removed: the space is used by unfinished executions (`flyte"
                " actions list`), the datastore, or flows and changes of the last hour. End old"
                " actions, or raise the limit."
            )
        ]

    async def _purge(self, now: datetime) -> None:
        excess = self._log_trimmer.excess + self._version_retention.excess
        before, over = (
            self._over_bytes,
            await _purge(self._store, self._maintenance.retention(now, excess)),
        )
        if over is None:  # there is more to remove: only the next rounds find out
            return
        self._over_bytes = over
        if self._over_bytes and not before:
            LOGGER.warning("%s", self.warnings()[0])
        elif before and not self._over_bytes:
            LOGGER.info("The store is within FLYTE_MAX_DISK again")


async def _purge(store: Store, what: Retention) -> int | None:
    """Remove data in steps.

    Return the excess of the store in bytes when nothing is left to remove, None when there is more
    than one round removes.
    """
    for _ in range(PURGES_AT_ONCE):
        purged = await store.purge(what, limit=PURGE_STEP)
        if not purged.more:
            return purged.over_bytes
    return None
