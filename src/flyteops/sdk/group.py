"""Several packs in one process, isolated from each other."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from flyteops.errors import FlyteError
from flyteops.retry import Backoff, being_cancelled, describe
from flyteops.sdk.client import Client
from flyteops.sdk.clock import Clock
from flyteops.sdk.environment import Environment, configure_logging
from flyteops.sdk.health import Endpoint, Health, health_endpoint
from flyteops.sdk.pack import Pack
from flyteops.sdk.program import Program
from flyteops.sdk.session import Session, current_session

LOGGER = logging.getLogger("flyte.pack")

_BACKOFF = Backoff(first=1.0, limit=300.0)
_HEALTHY_AFTER = 60.0


def run_packs(members: Sequence[tuple[Pack, Environment]], *, health: Endpoint) -> int:
    """Run packs until SIGTERM or SIGINT, as `Pack.run` does with one; return the exit code."""
    configure_logging(members[0][1].log_level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_name_pack)
    group = PackGroup(members, health=health)
    return Program(group.name, group.serve).run()


class PackGroup:
    """Keep several packs running.

    A failed one restarts after a growing pause, and others are not affected.

    There is one health endpoint for all: each pack is an entry in it, and each of its sources and
    checks is another.
    """

    def __init__(
        self,
        members: Sequence[tuple[Pack, Environment]],
        *,
        health: Endpoint,
        clock: Clock | None = None,
    ) -> None:
        self._members = [_Member(pack, environment, Clock()) for pack, environment in members]
        self._health = health
        self.name = ", ".join(member.name for member in self._members)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve every pack until `stop` is set.

        Raise the errors of the packs that do not work at the end.
        """
        async with health_endpoint(self._health, self.health):
            await asyncio.gather(*(member.keep(stop) for member in self._members))
        faults = [
            f"{member.name}: {describe(member.fault)}"
            for member in self._members
            if member.fault is not None
        ]
        if faults:
            raise FlyteError("; ".join(faults))

    async def health(self) -> dict[str, Health]:
        """Return the health of all packs."""
        outcomes = await asyncio.gather(*(member.health() for member in self._members))
        entries = {name: health for outcome in outcomes for name, health in outcome.items()}
        bad = ", ".join(name for name, health in entries.items() if not health.healthy)
        return {
            "DefaultCheck": Health(
                healthy=not bad, status=f"not well: {bad}" if bad else "All packs are running."
            ),
            **entries,
        }


class _Member:
    def __init__(self, pack: Pack, environment: Environment, clock: Clock) -> None:
        self._pack = pack
        self._environment = msgspec.structs.replace(environment, health_port=None)
        self._clock = clock
        self._session: Session | None = None
        self.name = pack.declaration(environment).name
        self.fault: BaseException | None = None

    async def keep(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                await self._run(stop)
            except BaseException as error:  # third-party code
                if being_cancelled() or isinstance(error, GeneratorExit):
                    raise
                self.fault = error
            failures = 1 if self._clock.monotonic() - began > _HEALTHY_AFTER else failures + 1
            if not stop.is_set():
                await self._pause(failures, stop)

    async def _run(self, stop: asyncio.Event) -> None:
        self.fault = None
        async with Client.of(self._environment) as client:
            self._session = Session(self._pack.declaration(self._environment), client, self._clock)
            await self._session.run(stop)

    async def _pause(self, failures: int, stop: asyncio.Event) -> None:
        delay = _BACKOFF.delay(failures, random.random())  # noqa: S311 - no secret
        trace = None if isinstance(self.fault, FlyteError) else self.fault
        reason = "it ended" if self.fault is None else describe(self.fault)
        LOGGER.error(
            "%s failed: %s; restarting in %.1f s", self.name, reason, delay, exc_info=trace
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stop.wait()

    async def health(self) -> dict[str, Health]:
        if self._session is None or self.fault is not None:
            reason = "not started yet" if self.fault is None else f"failed: {describe(self.fault)}"
            return {self.name: Health(healthy=False, status=reason)}
        outcomes = await self._session.health()
        own = outcomes.pop("DefaultCheck")
        return {
            self.name: own,
            **{f"{self.name}/{name}": health for name, health in outcomes.items()},
        }


def _name_pack(record: logging.LogRecord) -> bool:
    """Add the name of the pack to a log record."""
    session = current_session.get(None)
    if session is not None:
        record.name = f"{record.name} [{session.declaration.name}]"
    return True
