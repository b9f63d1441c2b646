"""The fault injector: chooses faults and their times at random."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from flyteops_chaos.history import History
from flyteops_chaos.server import ServerProcess

CLOCKS_APART = 2.0
"""The maximum error in seconds of the clocks of servers on one store, which servers tolerate."""

LONG_AGO = 10_800.0
"""The maximum error in seconds of the clock of a single server, where any error is allowed."""

UP = 0.8
"""The share of faults before which the servers are up again when the pause begins."""


class FaultInjector:
    """Injects faults into the servers, and counts them."""

    def __init__(
        self, servers: Sequence[ServerProcess], history: History, rng: Random, *, is_shared: bool
    ) -> None:
        self._servers = servers
        self._history = history
        self._rng = rng
        self.most_off = CLOCKS_APART if is_shared else LONG_AGO
        self._faults: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill": (6, self._kill),
            "freeze": (1, self._freeze),
            "clock": (1, self._set_clock),
        }
        if not is_shared:
            self._faults["disk"] = (1, self._fill_disk)
        self.done = dict.fromkeys(self._faults, 0)

    async def inject(self) -> None:
        """Inject one fault after a pause, most often a kill.

        Some servers have not even started by then.
        """
        if self._rng.random() < UP:
            await asyncio.gather(*(server.wait_until_up() for server in self._servers))
        await asyncio.sleep(0.3 + 1.2 * self._rng.random())
        (chosen,) = self._rng.choices(
            list(self._faults), weights=[weight for weight, _ in self._faults.values()]
        )
        self.done[chosen] += 1
        await self._faults[chosen][1]()

    async def _kill(self) -> None:
        """Kill two servers, but not the last one, or the only one; and restart them."""
        servers = self._rng.sample(self._servers, min(2, max(1, len(self._servers) - 1)))
        self._history.kills += 1
        await asyncio.gather(*(server.kill() for server in servers))
        await asyncio.gather(*(server.start() for server in servers))

    async def _freeze(self) -> None:
        await self._rng.choice(self._servers).freeze(0.2 + 1.5 * self._rng.random())

    async def _fill_disk(self) -> None:
        await self._rng.choice(self._servers).fill_disk(0.2 + self._rng.random())

    async def _set_clock(self) -> None:
        self.set_clock(
            self._rng.choice(self._servers), self._rng.uniform(-self.most_off, self.most_off)
        )

    def set_clock(self, server: ServerProcess, seconds: float) -> None:
        """Set the error of the clock of a server."""
        now = time.monotonic()
        self._history.clock_changes.append(now)
        server.set_clock(seconds)
        offsets = [each.clock_offset for each in self._servers]
        self._history.clock_spreads.append((now, max(offsets) - min(offsets)))
