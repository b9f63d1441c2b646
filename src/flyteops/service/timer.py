"""When something is due, and whether the clock can be trusted."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

PAUSE = 5.0
"""How many seconds pass at most between two looks at what is due, so that a clock that was set is noticed."""

TOLERANCE = timedelta(seconds=2)
"""How much the clock may gain or lose between two looks without having been set."""


class Timer:
    """Wakes whoever waits for it at the earliest of the times that it was told."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._next_at: datetime | None = None
        self._changed = asyncio.Event()

    def expect(self, times: Iterable[datetime]) -> None:
        """Note when something will be due, which may be earlier than what is waited for."""
        for at in times:
            if self._next_at is None or at < self._next_at:
                self._next_at = at
                self._changed.set()

    def restart(self) -> None:
        """Forget what was expected; what is noted from now on counts."""
        self._next_at = None
        self._changed.clear()

    async def wait(self) -> None:
        """Return when something is due, or after a pause."""
        while (seconds := self._seconds()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _seconds(self) -> float:
        if self._next_at is None:
            return PAUSE
        return min(PAUSE, (self._next_at - self._clock()).total_seconds())


class ClockWatch:
    """Notices when the clock was set, by comparing it with one that cannot be."""

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._last: tuple[datetime, float] | None = None

    def look(self) -> tuple[datetime, timedelta | None]:
        """Return the time, and how far the clock has been set since the last look, None if it was not; at first, zero."""
        now, steady = self._clock(), self._monotonic()
        last, self._last = self._last, (now, steady)
        if last is None:
            return now, timedelta(0)
        jump = now - last[0] - timedelta(seconds=steady - last[1])
        return now, jump if abs(jump) > TOLERANCE else None
