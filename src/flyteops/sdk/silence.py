"""Detection of sources that have been silent for too long."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flyteops.sdk.clock import Clock

LOGGER = logging.getLogger("flyte.pack")


class SilenceDetector:
    """Watch one source: `reason` is set after more than `limit` seconds without an event.

    Its waits inside the SDK, such as for a server that does not accept its events, do not count.
    Without a limit it is never set.
    """

    def __init__(self, name: str, limit: float | None, clock: Clock) -> None:
        self._name = name
        self._limit = limit
        self._clock = clock
        self._heard_at = 0.0
        self._interruptions = 0
        self._heard = asyncio.Event()
        self._is_too_long = False

    @property
    def reason(self) -> str | None:
        """The reason why it does not count as working."""
        if not self._is_too_long:
            return None
        return (
            f"silent for {self._clock.monotonic() - self._heard_at:.0f} s: it hangs, or the input"
            " that it waits for is missing"
        )

    def end(self) -> None:
        """Record a sign of life."""
        self._heard_at = self._clock.monotonic()
        self._heard.set()
        if self._is_too_long:
            self._is_too_long = False
            LOGGER.info("the source %s is no longer silent", self._name)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the duration of the block, while the source runs."""
        self._heard_at = self._clock.monotonic()
        watching = None if self._limit is None else asyncio.create_task(self._watch(self._limit))
        try:
            yield
        finally:
            self.end()
            if watching is not None:
                watching.cancel()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Exclude the time of the block, which the source does not cause."""
        self.end()
        self._interruptions += 1
        try:
            yield
        finally:
            self._interruptions -= 1
            self.end()

    async def _watch(self, limit: float) -> None:
        while True:
            left = (
                limit if self._interruptions else self._heard_at + limit - self._clock.monotonic()
            )
            if left > 0:
                await self._clock.sleep(left)
                continue
            self._is_too_long = True
            LOGGER.warning(
                "the source %s has been silent for %g s; health reports it until it is active",
                self._name,
                limit,
            )
            self._heard.clear()
            await self._heard.wait()


current_silence: ContextVar[SilenceDetector] = ContextVar("current_silence")
