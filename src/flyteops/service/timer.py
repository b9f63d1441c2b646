"""The wake-up timer, the detection of absences, and the detection of clock changes."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

LOGGER = logging.getLogger("flyte.service")

PAUSE = 5.0
"""The longest time in seconds between two checks for due timers, so that a set clock is noticed."""

BEAT = 1.0
"""The longest time in seconds between two records that this server is running."""

AWAY_AFTER = timedelta(seconds=2)
"""The time without any running server after which leases begin anew."""

TOLERANCE = timedelta(seconds=2)
"""The drift of the clock between two checks that does not count as a change."""

CLOSE = TOLERANCE.total_seconds() - 0.001
"""A drift in seconds that is within the tolerance, however it is rounded."""


class WakeupTimer:
    """Wakes its waiting task at the earliest of the expected times."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._next_at: datetime | None = None
        self._changed = asyncio.Event()

    def expect(self, times: Iterable[datetime]) -> None:
        """Record due times, which may be earlier than the one waited for."""
        for at in times:
            if self._next_at is None or at < self._next_at:
                self._next_at = at
                self._changed.set()

    def restart(self) -> None:
        """Forget all expected times; those recorded from now on count."""
        self._next_at = None
        self._changed.clear()

    async def wait(self, longest: float = PAUSE) -> bool:
        """Return at the next due time, or after a pause.

        Return True for the former, False for the latter.
        """
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


class AbsenceDetector:
    """Detects when this server was not running: before its start, or while frozen or asleep.

    It also counts as not running while it was stopped or could not work. Absences are counted
    between checks, which come every `BEAT` once the first has been made.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen_at: float | None = None
        self.is_back = True

    def record_presence(self) -> None:
        """Record that this server is running now."""
        now = self._monotonic()
        if self._seen_at is not None and now - self._seen_at > AWAY_AFTER.total_seconds():
            LOGGER.warning(
                "This server was not running for %.0f s; leases are renewed unless another was",
                now - self._seen_at,
            )
            self.is_back = True
        self._seen_at = now

    @property
    def is_kept(self) -> bool:
        """Whether checks are regular."""
        return self._seen_at is not None


class ClockMonitor:
    """Detects that the clock was set, by comparing it with a monotonic clock.

    Until the timers in the store have been moved accordingly (`look`, then `settle`), `now` goes on
    as if the clock had not been set, so that timers begun after the jump are not moved. Where the
    time of a shared store is known, `now` is the one of the two times nearer to it: the clock may
    just have been put right. `clock` is the clock as it is.
    """

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self.clock = clock
        self.monotonic = monotonic
        self._last: tuple[datetime, float] | None = None
        # In floats, as it is on the path of every request.
        self._difference = 0.0
        self._noticed: tuple[datetime, float] | None = None
        self._store: tuple[datetime, float] | None = None

    def note_store_time(self, now: datetime) -> None:
        """Record the time of a store that several servers share."""
        self._store = now, self.monotonic()

    def now(self) -> datetime:
        """Return the timestamp for all that begins now."""
        now = self.clock()
        if self._last is None:
            return now
        drift = now.timestamp() - self.monotonic() - self._difference
        if -CLOSE < drift < CLOSE:
            return now
        due = self._expected()
        if due is None or abs(now - due) <= TOLERANCE:
            return now
        if self._store is not None:
            at, steady = self._store
            of_store = at + timedelta(seconds=self.monotonic() - steady)
            return min(now, due, key=lambda each: abs(each - of_store))
        # While timers are being moved, it is unknown which timestamps come before and which after.
        # The later time makes a lease or a delay too long at worst, which can be corrected; the
        # other one would end it at once.
        return due if self._noticed is None else max(now, due)

    def read_clock(self) -> tuple[datetime, timedelta | None]:
        """Return the time, and the change of the clock since the last check, None if not set.

        The first change is zero.
        """
        now, due, steady = self.clock(), self._expected(), self.monotonic()
        jump = timedelta(0) if due is None else now - due
        if due is not None and abs(jump) <= TOLERANCE:
            self._confirm((now, steady))
            return now, None
        self._noticed = now, steady
        return now, jump

    def settle(self) -> None:
        """Record that the timers in the store were moved by the change that the last look found."""
        if self._noticed is not None:
            self._confirm(self._noticed)

    def _confirm(self, reading: tuple[datetime, float]) -> None:
        """Note a reading of both clocks with which all timers in the store agree."""
        self._last, self._noticed = reading, None
        self._difference = reading[0].timestamp() - reading[1]

    def reject(self) -> None:
        """Record that the timers in the store are not moved, as the clock is wrong.

        `now` goes on as if the clock had not been set.
        """
        self._noticed = None

    def _expected(self) -> datetime | None:
        """Return the expected time if the clock was not set since the last check, None at first."""
        if self._last is None:
            return None
        at, steady = self._last
        return at + timedelta(seconds=self.monotonic() - steady)
