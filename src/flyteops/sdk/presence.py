"""Presence reports of an instance of a pack: periodic while it is connected, and a last one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal
from uuid import uuid4

from flyteops.sdk.client import Client, Registration
from flyteops.sdk.clock import Clock

LOGGER = logging.getLogger("flyte.sdk")

EVERY = 60.0
"""The number of seconds between two reports."""

FAREWELL = 1.0
"""The maximum number of seconds of the last report, as it delays the end of the pack."""

Registered = Callable[[Callable[[Registration], Awaitable[int]]], Awaitable[int]]


class PresenceReporter:
    """Reports for one instance.

    `registered` calls with the current registration, and again with a new one if that is lost.
    """

    def __init__(self, client: Client, clock: Clock, registered: Registered) -> None:
        self.instance = uuid4().hex
        self.others = 0
        """The number of other instances of the pack that were connected at the last report."""
        self.reported = asyncio.Event()
        self._client = client
        self._clock = clock
        self._registered = registered

    async def keep(self) -> None:
        """Report that this instance is connected, until cancelled."""
        while True:
            with _best_effort("presence could not be reported: %s"):
                self.others = await self._registered(
                    lambda registration: self._report(registration, "live")
                )
            self.reported.set()
            await self._clock.sleep(EVERY)

    async def sign_off(self, registration: Registration | None) -> None:
        """Report that this instance stops.

        Without a response in time, the server will consider it silent.
        """
        if registration is None:
            return
        with _best_effort("the stop of the pack could not be reported: %s"):
            async with asyncio.timeout(FAREWELL):
                await self._report(registration, "stopped")

    async def _report(self, registration: Registration, status: Literal["live", "stopped"]) -> int:
        return await self._client.report(registration, self.instance, status)


@contextmanager
def _best_effort(message: str) -> Iterator[None]:
    try:
        yield
    # Also of the client's libraries: the pack works without its reports.
    except Exception as error:  # noqa: BLE001
        LOGGER.debug(message, error)
