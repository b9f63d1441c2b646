"""The clock of a pack, which tests can replace."""

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Read the time and wait for it."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds of a clock that is never set back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on behalf of the pack's author."""
        await asyncio.sleep(seconds)

    async def idle(self, seconds: float) -> None:
        """Wait because the server had no work."""
        await asyncio.sleep(seconds)

    async def back_off(self, seconds: float) -> None:
        """Wait before a retry."""
        await asyncio.sleep(seconds)
