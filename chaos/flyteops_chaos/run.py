"""One run: inject faults for a while, let everything come to rest, check, and test retention."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from flyteops_chaos.check import faults_in, faults_so_far
from flyteops_chaos.client import ChaosClient
from flyteops_chaos.flow import DELAY_SECONDS, LEASED
from flyteops_chaos.history import History
from flyteops_chaos.injector import CLOCKS_APART, FaultInjector
from flyteops_chaos.pack import PackClients
from flyteops_chaos.probe import Probes
from flyteops_chaos.retention import RetentionTrial
from flyteops_chaos.sender import Sender
from flyteops_chaos.server import ServerProcess

SENDERS, WORKERS, LEAVERS = 8, 16, 2
REST_SECONDS = 30.0
MISBEHAVES = 0.2

MISSED = timedelta(minutes=40)
"""The part of its schedules that a server has missed at the start."""

FIRES_WITHIN = timedelta(seconds=10)


class ChaosRun:
    """A run with all its parts; `report` gets a line now and then about its progress.

    Without a `store`, which must be empty, one server has its own in a file; several need one.
    After the last injected fault, open work must come to its end. Work that is still open after no
    response for `rest_seconds` is stuck. With `stops_early`, the run ends as soon as a promise was
    broken.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        folder: Path,
        *,
        seed: int,
        store: str | None = None,
        servers: int = 1,
        bug: str | None = None,
        rest_seconds: float = REST_SECONDS,
        stops_early: bool = False,
        report: Callable[[str], None] = print,
    ) -> None:
        self._rest_seconds = rest_seconds
        self._stops_early = stops_early
        self._is_shared = store is not None
        self.history = History()
        self.servers = [
            ServerProcess(folder, f"server-{number}", store=store, bug=bug)
            for number in range(1, servers + 1)
        ]
        # Independent of each other, so that the faults do not depend on the number of draws by
        # clients.
        rng, client_rng = Random(seed), Random(f"{seed} clients")  # noqa: S311 - repeatable, not secret
        self.injector = FaultInjector(self.servers, self.history, rng, is_shared=self._is_shared)
        self._client = ChaosClient(
            [server.url for server in self.servers], self.history, client_rng
        )
        self._sender = Sender(self._client, self.history, repeats=MISBEHAVES)
        self._packs = PackClients(self._client, self.history, misbehaves=MISBEHAVES)
        self._report = report

    async def run(self, seconds: float, *, kills: int = 0) -> list[str]:
        """Return every promise that the servers broke.

        Faults are injected until at least so many kills.
        """
        try:
            await self._prepare()
            async with at_work(self._packs.work, WORKERS):
                await self._harm(seconds, kills)
                faults = self._faults_so_far() if self._is_over else await self._check()
            codes = [await server.end() for server in self.servers]
            faults += [f"a server ended with exit code {code}" for code in codes if code]
            return faults + [
                complaint for server in self.servers for complaint in server.complaints()
            ]
        finally:
            await self._client.close()
            for server in self.servers:
                server.close()

    @property
    def _is_over(self) -> bool:
        return self._stops_early and bool(
            self._faults_so_far() or any(server.complaints() for server in self.servers)
        )

    def _faults_so_far(self) -> list[str]:
        return faults_so_far(self.history)

    async def _prepare(self) -> None:
        """Start the servers, and save the flows.

        Scheduled ones at a time long ago, so that much is due. The clock is set forward before
        there is any lease or delay, so the change is not recorded.
        """
        for server in self.servers:
            server.set_clock(-MISSED.total_seconds())
            await server.start()
        await self._sender.prepare(DELAY_SECONDS + (2 * CLOCKS_APART if self._is_shared else 0))
        before = datetime.now(UTC) - MISSED
        names = await self._sender.save_schedules()
        after = datetime.now(UTC) - MISSED
        self.history.schedules = dict.fromkeys(names, (before, after))
        for server in self.servers:
            server.set_clock(0)

    async def _harm(self, seconds: float, kills: int) -> None:
        end = time.monotonic() + seconds
        sender = self._sender
        async with (
            at_work(sender.run, SENDERS),
            at_work(self._packs.leave, LEAVERS),
            at_work(sender.change_flow, 1),
        ):
            while (time.monotonic() < end or self.history.kills < kills) and not self._is_over:
                await self.injector.inject()
                self._report_progress(end)

    def _report_progress(self, end: float) -> None:
        faults = ", ".join(f"{count} {name}" for name, count in self.injector.done.items())
        left = max(0, round(end - time.monotonic()))
        events, results = len(self.history.acknowledged), len(self.history.applied)
        self._report(f"{left:4d} s left: {faults}; {events} events, {results} results")

    async def _check(self) -> list[str]:
        """Let everything come to rest, and return the faults; if there are none, test retention."""
        self._packs.misbehaves = 0
        await self._client.wait_until_ready()
        self.history.is_calm = True
        faults = await self._rest()
        if not faults:
            probes = Probes(self._client, self._sender, self._packs)
            faults = await probes.run(self._rest_seconds) + await self._rest()
        faults += await self._look()
        if faults:
            return faults
        self._report("ended executions are removed after a second from now on")
        trial = RetentionTrial(self._client, self._sender, self._packs, self.servers)
        return (
            await trial.run(self._rest_seconds)
            + await self._rest()
            + await trial.unfinished()
            + self._faults_so_far()
        )

    async def _rest(self) -> list[str]:
        """Return when nothing is open any more, or the stuck work."""
        end, ended = time.monotonic() + self._rest_seconds, len(self.history.applied)
        while (left := await self._count_open()) and time.monotonic() < end:
            if len(self.history.applied) > ended:
                end, ended = time.monotonic() + self._rest_seconds, len(self.history.applied)
            await asyncio.sleep(0.2)
        return (
            [
                (
                    f"{left} actions did not come to an end; nothing was answered for"
                    f" {self._rest_seconds:g} s"
                )
            ]
            if left
            else []
        )

    async def _count_open(self) -> int:
        """Return the number of actions that will still come to an end by themselves."""
        return sum(
            action["state"] != "PENDING"
            or action["name"] in LEASED
            or action["id"] in self.history.hand_outs
            for action in await self._client.unfinished()
        )

    async def _look(self) -> list[str]:
        """Return the faults, given all executions.

        Work that a server had begun when it was killed is finished by the others some seconds
        later, and a change of the clock is noticed within seconds.
        """
        end = time.monotonic() + self._rest_seconds
        while True:
            executions = await self._client.executions()
            offset = timedelta(seconds=min(server.clock_offset for server in self.servers))
            faults = faults_in(
                self.history, executions, fired_until=datetime.now(UTC) + offset - FIRES_WITHIN
            )
            if not faults or self._is_over or time.monotonic() >= end:
                break
            await asyncio.sleep(0.5)
        events, results = len(self.history.acknowledged), len(self.history.applied)
        self._report(
            f"{len(executions)} executions; {events} events and {results} results were acknowledged"
        )
        return faults


@asynccontextmanager
async def at_work(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> AsyncIterator[None]:
    """Run so many copies of the work meanwhile; their errors are raised here."""
    tasks = [asyncio.create_task(work()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
