"""Clocks that stand still until the test moves them."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)


class Clock:
    """The time of day, and a steady clock that nobody can set."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.steady = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        """Return the seconds that have passed on the steady clock."""
        return self.steady

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by
        self.steady += by.total_seconds()

    def forward(self, **parts: float) -> None:
        """Let time pass: `forward(minutes=2)`."""
        self.move(timedelta(**parts))

    def set(self, **parts: float) -> None:
        """Set the time of day forward or back; no time passes."""
        self.now += timedelta(**parts)


class Stopwatch:
    """A steady clock alone, in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
