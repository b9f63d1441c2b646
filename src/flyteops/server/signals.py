"""Signals: stop, load files again, or open the log file again."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

LOGGER = logging.getLogger("flyte.server")

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Reaction = Callable[[], None]


@asynccontextmanager
async def stop_on_signal(
    again: Reaction | None = None, others: Mapping[signal.Signals, Reaction] | None = None
) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set by the first SIGTERM, SIGINT or SIGHUP; later ones call `again`.

    Signals in `others` call their reaction instead. A SIGHUP because of a closed terminal always
    stops.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    # Otherwise `nohup` is in use.
    had_terminal = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def on_stop() -> None:
        if stop.is_set() and again is not None:
            again()
        stop.set()

    def on_signal(each: signal.Signals) -> None:
        reaction = (others or {}).get(each)
        if reaction is None or (each is signal.SIGHUP and had_terminal and not has_terminal()):
            on_stop()
        else:
            reaction()

    watched = {*STOPPING, *(others or {})}
    for each in watched:
        loop.add_signal_handler(each, on_signal, each)
    try:
        yield stop
    finally:
        for each in watched:
            loop.remove_signal_handler(each)


def has_terminal() -> bool:
    """Return whether this process has a terminal, which it loses when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ignore_usr2() -> None:
    """Ignore SIGUSR2, which would end the process otherwise."""
    LOGGER.info("SIGUSR2 has no meaning here and is ignored")


async def stop_at_end_of_input(stop: asyncio.Event) -> None:
    """Set `stop` when standard input ends, at the latest with the process at its other end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", 0)
    )
    try:
        await reader.read()
        stop.set()
    finally:
        transport.close()
