"""The time a pack lives by; a test puts another one in its place."""

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Tell the time and wait for it."""

    def now(self) -> datetime:
        """Return the present instant, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that nobody sets back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait because the pack's author asked for it."""
        await asyncio.sleep(seconds)

    async def idle(self, seconds: float) -> None:
        """Wait because the server had nothing to do."""
        await asyncio.sleep(seconds)

    async def back_off(self, seconds: float) -> None:
        """Wait because something failed and is tried again."""
        await asyncio.sleep(seconds)
