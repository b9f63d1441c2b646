"""Progress events of a running command."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from flyteops.errors import FlyteError
from flyteops.retry import describe
from flyteops.sdk.event import Event

LOGGER = logging.getLogger("flyte.pack")

MAX_WAITING = 100


class ProgressSender:
    """Events of one command in transit: sent one by one, and all of them before its result."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._is_over = False

    async def tell(self, event: Event) -> None:
        """Send an event soon; wait only if too many are waiting already.

        After the end of the command it is dropped.
        """
        if self._is_over:
            LOGGER.warning("progress (%s) came after its command ended and is dropped", event.name)
            return
        self._sending = self._sending or asyncio.create_task(self._send_all())
        await self._waiting.put(event)

    async def finish(self) -> None:
        """Accept no more, and wait until every event was sent or refused."""
        self._is_over = True
        if self._sending is None:
            return
        sent = asyncio.create_task(self._waiting.join())
        try:
            # The sending ends early if the whole event loop does.
            await asyncio.wait({sent, self._sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sent.cancel()

    def close(self) -> None:
        """Send nothing more."""
        self._is_over = True
        if self._sending is not None:
            self._sending.cancel()
        while not self._waiting.empty():  # wakes the calls that wait for a place
            self._waiting.get_nowait()

    async def _send_all(self) -> None:
        while True:
            event = await self._waiting.get()
            try:
                await self._send(event)
            except FlyteError as error:
                LOGGER.warning("the server refused progress (%s): %s", event.name, describe(error))
            except Exception:  # the command must not wait for ever for events that will not be sent
                LOGGER.exception("progress (%s) could not be sent", event.name)
            finally:
                self._waiting.task_done()


current_progress: ContextVar[ProgressSender] = ContextVar("current_progress")
