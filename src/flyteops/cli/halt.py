"""Being told to stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@asynccontextmanager
async def stop_on_signal(again: Callable[[], None] | None = None) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set by the first SIGTERM, SIGINT or SIGHUP; each later one calls `again`."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set() and again is not None:
            again()
        stop.set()

    for each in STOPPING:
        loop.add_signal_handler(each, on_signal)
    try:
        yield stop
    finally:
        for each in STOPPING:
            loop.remove_signal_handler(each)
