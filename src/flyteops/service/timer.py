"""When something is due, and whether the clock can be trusted."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

LOGGER = logging.getLogger("flyte.service")

PAUSE = 5.0
"""How many seconds pass at most between two looks at what is due, so that a clock that was set is noticed."""

BEAT = 1.0
"""How many seconds pass at most between two notes that this server is at work."""

AWAY_AFTER = timedelta(seconds=2)
"""For how long no server must have been at work for leases to begin anew."""

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

    async def wait(self, longest: float = PAUSE) -> bool:
        """Return when something is due, or after a pause; tell which of them it was."""
        while (seconds := min(longest, self._seconds())) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return self._seconds() <= 0
        return True

    def _seconds(self) -> float:
        if self._next_at is None:
            return PAUSE
        return (self._next_at - self._clock()).total_seconds()


class Presence:
    """Notices when this server was not at work: at its start, while it was stopped, frozen or asleep, or could not do it.

    Absences are counted between looks, which come every `BEAT` once the first has been.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen_at: float | None = None
        self.is_back = True

    def look(self) -> None:
        """Note that this server is at work now."""
        now = self._monotonic()
        if self._seen_at is not None and now - self._seen_at > AWAY_AFTER.total_seconds():
            LOGGER.warning("This server was not at work for %.0f s; leases begin anew unless another was", now - self._seen_at)
            self.is_back = True
        self._seen_at = now

    @property
    def is_kept(self) -> bool:
        """Whether somebody looks regularly."""
        return self._seen_at is not None


class ClockWatch:
    """Notices when the clock was set, by comparing it with one that cannot be.

    Until the timers in the store have been moved accordingly (`look`, then `settle`), `now` goes on as if the clock had not been
    set, so that nothing is moved that began after the jump. Where the time of a shared store is known, `now` is whichever of the
    two times is nearer to it: the clock may just have been put right. `clock` is the clock as it is.
    """

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.clock = clock
        self.monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        self._noticed: tuple[datetime, float] | None = None
        self._store: tuple[datetime, float] | None = None

    def note_store_time(self, now: datetime) -> None:
        """Note the time of a store that several servers share."""
        self._store = now, self.monotonic()

    def now(self) -> datetime:
        """Return the time with which whatever begins now is stamped."""
        now, due = self.clock(), self._expected()
        if due is None or abs(now - due) <= TOLERANCE:
            return now
        if self._store is not None:
            at, steady = self._store
            of_store = at + timedelta(seconds=self.monotonic() - steady)
            return min(now, due, key=lambda each: abs(each - of_store))
        # While timers are being moved, nobody knows what is stamped before and what after. The later time makes a lease or a
        # delay too long at worst, which can be corrected; the other one would end it at once.
        return due if self._noticed is None else max(now, due)

    def look(self) -> tuple[datetime, timedelta | None]:
        """Return the time, and how far the clock has been set since the last look, None if it was not; at first, zero."""
        now, due, steady = self.clock(), self._expected(), self.monotonic()
        jump = timedelta(0) if due is None else now - due
        if due is not None and abs(jump) <= TOLERANCE:
            self._last, self._noticed = (now, steady), None
            return now, None
        self._noticed = now, steady
        return now, jump

    def settle(self) -> None:
        """Note that the timers in the store have been moved by what the last look has found."""
        if self._noticed is not None:
            self._last, self._noticed = self._noticed, None

    def reject(self) -> None:
        """Note that the timers in the store are not moved, as the clock is wrong; it goes on as if it had not been set."""
        self._noticed = None

    def _expected(self) -> datetime | None:
        """Return the time if the clock was not set since the last look, None before the first."""
        if self._last is None:
            return None
        at, steady = self._last
        return at + timedelta(seconds=self.monotonic() - steady)
