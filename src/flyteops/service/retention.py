"""Retention: data that is old or takes too much room is removed, a bounded part of it at a time."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from flyteops.background import BackgroundLoop
from flyteops.service.auditlog.log import AuditLog
from flyteops.service.bound import AuditLogBound, FlowVersionBound
from flyteops.service.housekeeping import MaintenanceSettings, run_all
from flyteops.storage.base import Retention, Store

LOGGER = logging.getLogger("flyte.service")

PURGE_STEP = 1000
PURGES_AT_ONCE = 50


class RetentionTask:
    """Removes old data, and the oldest when the store is too large.

    The change log and unused flow versions have bounds of their own; the history makes no room for
    their excess.
    """

    def __init__(
        self, store: Store, changes: AuditLog, housekeeping: MaintenanceSettings, loop: Callable[..., BackgroundLoop]
    ) -> None:
        self._store = store
        self._housekeeping = housekeeping
        self._log_bound = AuditLogBound(store, changes, loop)
        self._flow_bound = FlowVersionBound(store)
        self._over_bytes = 0

    async def run(self, now: datetime) -> None:
        """Remove all that may be removed now."""
        most = self._housekeeping
        await run_all(
            partial(self._log_bound.keep, most.share(most.max_change_log)),
            partial(self._flow_bound.keep, now, most.share(most.max_old_flows)),
            partial(self._purge, now),
        )

    def warnings(self) -> Sequence[str]:
        """Return a warning with the excess of the store if nothing is left that may be removed."""
        if not self._over_bytes:
            return []
        return [
            f"The store takes {self._over_bytes:,} bytes more than FLYTE_MAX_DISK allows, and nothing more may be"
            " removed: the space is used by unfinished executions (`flyte actions list`), the datastore, or flows and changes of"
            " the last hour. End old actions, or raise the limit."
        ]

    async def _purge(self, now: datetime) -> None:
        excess = self._log_bound.excess + self._flow_bound.excess
        before, over = self._over_bytes, await _purge(self._store, self._housekeeping.retention(now, excess))
        if over is None:  # there is more to remove: only the next rounds find out
            return
        self._over_bytes = over
        if self._over_bytes and not before:
            LOGGER.warning("%s", self.warnings()[0])
        elif before and not self._over_bytes:
            LOGGER.info("The store is within FLYTE_MAX_DISK again")


async def _purge(store: Store, what: Retention) -> int | None:
    """Remove data in steps.

    Return the excess of the store in bytes when nothing is left to remove, None when there is more than one round removes.
    """
    for _ in range(PURGES_AT_ONCE):
        purged = await store.purge(what, limit=PURGE_STEP)
        if not purged.more:
            return purged.over_bytes
    return None
