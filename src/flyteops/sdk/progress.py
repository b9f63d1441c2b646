"""What a command tells of itself while it runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from flyteops.errors import FlyteError
from flyteops.sdk.event import Event

LOGGER = logging.getLogger("flyte.pack")

MOST_WAITING = 100


class Progress:
    """Events of one command on their way: sent one after the other, and all of them before its result."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None

    async def tell(self, event: Event) -> None:
        """Send an event soon; wait only when too many wait already."""
        await self._waiting.put(event)
        self._sending = self._sending or asyncio.create_task(self._send_all())

    async def finish(self) -> None:
        """Wait until everything was sent, or refused."""
        await self._waiting.join()

    def close(self) -> None:
        """Send nothing more."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send_all(self) -> None:
        while True:
            event = await self._waiting.get()
            try:
                await self._send(event)
            except FlyteError as error:
                LOGGER.warning("the server refuses to hear of progress (%s): %s", event.name, error)
            finally:
                self._waiting.task_done()
