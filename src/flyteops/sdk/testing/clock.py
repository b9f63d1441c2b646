"""A clock that tests advance."""

import asyncio
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from flyteops.sdk.clock import Clock

_SETTLING_TURNS = 200


class ManualClock(Clock):
    """A clock that stands still until it is advanced."""

    def __init__(self, now: datetime) -> None:
        self.back_offs: list[float] = []
        self._now = now
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        """Return the current time of the clock."""
        return self._now

    def monotonic(self) -> float:
        """Return the same time in seconds."""
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock is advanced to that time."""
        future = asyncio.get_running_loop().create_future()
        heappush(
            self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), future)
        )
        await future

    async def idle(self, seconds: float) -> None:
        """Wait until the clock is advanced to that time: the server has no work."""
        await self.sleep(seconds)

    async def back_off(self, seconds: float) -> None:
        """Record the time and continue."""
        self.back_offs.append(seconds)
        await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move the clock, wake the sleepers one after the other, and let each of them continue."""
        end = self._now + timedelta(seconds=seconds)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, future = heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settle()
        self._now = end


async def settle() -> None:
    """Let every ready task continue."""
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)
