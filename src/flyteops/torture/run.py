"""One run: mistreat the servers for a while, let everything come to rest, and check."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from flyteops.torture.crew import Crew
from flyteops.torture.history import History, faults_in
from flyteops.torture.victim import Harm, Victim

SENDERS, WORKERS = 8, 16
REST_SECONDS = 30.0


class Torture:
    """A run with everything that it needs; `report` is told how it goes.

    Without a `store`, which must be empty, one server has its own in a file; several need one.
    Once nobody does any harm, what is open must come to its end. What is still open when nothing was answered
    for `rest_seconds` is stuck.
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
        report: Callable[[str], None] = print,
    ) -> None:
        self._rest_seconds = rest_seconds
        # Apart from each other, so that what is done to the servers does not depend on how often clients draw.
        self._chance, self._crew_chance = Random(seed), Random(f"{seed} crew")  # noqa: S311 - repeatable, not secret
        self.history = History()
        self.victims = [Victim(folder, f"server-{number}", store=store, bug=bug) for number in range(1, servers + 1)]
        self.harm = Harm(self.victims, self._chance, is_shared=store is not None)
        self._report = report

    async def run(self, seconds: float) -> list[str]:
        """Return every promise that the servers broke."""
        crew = Crew([victim.url for victim in self.victims], self.history, self._crew_chance)
        try:
            for victim in self.victims:
                await victim.start()
            await crew.prepare()
            await self._harm(crew, seconds)
            crew.misbehaves = 0
            async with at_work(crew.work, WORKERS):
                stuck = await self._rest(crew)
                executions, faults = await self._look(crew)
            begun, results = len(self.history.begun), len(self.history.results)
            self._report(f"{len(executions)} executions; {begun} events and {results} results were acknowledged")
            codes = [await victim.end() for victim in self.victims]
            return stuck + faults + [f"a server ended with exit code {code}" for code in codes if code]
        finally:
            await crew.http.aclose()
            for victim in self.victims:
                victim.close()

    async def _harm(self, crew: Crew, seconds: float) -> None:
        end = time.monotonic() + seconds
        async with at_work(crew.send, SENDERS), at_work(crew.work, WORKERS):
            while time.monotonic() < end:
                await asyncio.sleep(0.3 + 1.2 * self._chance.random())
                await self.harm.do()
                self._tell(end)

    def _tell(self, end: float) -> None:
        harms = ", ".join(f"{count} {name}" for name, count in self.harm.done.items())
        left = max(0, round(end - time.monotonic()))
        self._report(f"{left:4d} s left: {harms}; {len(self.history.begun)} events, {len(self.history.results)} results")

    async def _rest(self, crew: Crew) -> list[str]:
        """Return when nothing is open any more, or what is stuck."""
        end, answered = time.monotonic() + self._rest_seconds, len(self.history.results)
        while (left := await crew.open_actions()) and time.monotonic() < end:
            if len(self.history.results) > answered:
                end, answered = time.monotonic() + self._rest_seconds, len(self.history.results)
            await asyncio.sleep(0.2)
        return [f"{left} actions did not come to an end; nothing was answered for {self._rest_seconds:g} s"] if left else []

    async def _look(self, crew: Crew) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the executions, and what is wrong with them.

        What one of several servers had begun when it was killed is finished by the others, some seconds later.
        """
        end = time.monotonic() + (self._rest_seconds if len(self.victims) > 1 else 0)
        while True:
            executions = await crew.executions()
            faults = faults_in(self.history, executions)
            if not faults or time.monotonic() >= end:
                return executions, faults
            await asyncio.sleep(1)


@asynccontextmanager
async def at_work(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> AsyncIterator[None]:
    """Have so many do the work meanwhile."""
    tasks = [asyncio.create_task(work()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
