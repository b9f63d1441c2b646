"""Connections that a listener has just accepted: they have no transport yet, and are lost if the
listener is closed.
"""

import asyncio

TICKS = 5


async def let_in() -> None:
    """Let the event loop give them their transports, and close those that were told to."""
    for _ in range(TICKS):
        await asyncio.sleep(0)
