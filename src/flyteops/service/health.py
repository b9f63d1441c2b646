"""The health of a service, as its health checks report it."""

import asyncio
from collections.abc import Sequence

from flyteops.background import SEE_LOG, BackgroundLoops
from flyteops.errors import StoreError, UnavailableError
from flyteops.service.aside import HealthProblem, SetAsideEntries
from flyteops.service.retention import RetentionTask
from flyteops.service.scheduler import Scheduler
from flyteops.storage.base import Store

HEALTH_SECONDS = 2.0
"""The time for the store to answer; a health check does not wait longer."""


class ServiceHealth:
    """Readiness, warnings and problems. `awaits` is the reason why the service has not started."""

    def __init__(
        self,
        store: Store,
        loops: BackgroundLoops,
        scheduler: Scheduler,
        retention: RetentionTask,
        aside: SetAsideEntries,
    ) -> None:
        self._store = store
        self._loops = loops
        self._scheduler = scheduler
        self._retention = retention
        self._aside = aside
        self.awaits = "The server has not started yet."
        self.is_stopping = False

    def check_started(self) -> None:
        """Raise `UnavailableError` before the data is loaded."""
        if self.awaits:
            raise UnavailableError(self.awaits)

    async def check(self) -> None:
        """Return if the store answers; raise `UnavailableError` if it fails or takes too long."""
        self.check_started()
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await self._store.ping()
        except TimeoutError as error:
            raise UnavailableError(
                f"The store has not answered within {HEALTH_SECONDS:g} s."
            ) from error

    async def list_readiness_problems(self, *, details: bool = True) -> Sequence[str]:
        """Return the reasons why the server is not ready, in general terms without `details`."""
        if self.is_stopping:
            return ["The server is stopping."]
        if self._scheduler.clock_fault:
            return [self._scheduler.clock_fault]
        try:
            await self.check()
        except (UnavailableError, StoreError) as error:
            return [error.message if details else f"The store cannot be used now{SEE_LOG}"]
        return self._loops.problems(essential=True, details=details)

    def warnings(self, *, details: bool = True) -> Sequence[str]:
        """Return warnings although the server does its work, in general terms without `details`."""
        aside = self._aside.warnings if details else self._aside.summary
        store = [*self._store.warnings(), *self._retention.warnings()]
        if store and not details:
            store = [f"The store needs attention{SEE_LOG}"]
        return [*store, *self._loops.problems(essential=False, details=details), *aside]

    def problems(self) -> Sequence[HealthProblem]:
        """Return the set-aside entries: data that cannot be processed while all else goes on."""
        return self._aside.problems
