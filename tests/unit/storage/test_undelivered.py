"""Commands that reached nobody are returned."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from flyteops.background import BackgroundLoops
from flyteops.errors import UnreadableError
from flyteops.storage.base import Claimed
from flyteops.storage.undelivered import Undelivered
from flyteops.testing.sample import NOON


async def test_an_action_that_cannot_be_read_keeps_no_other_that_reached_nobody() -> None:
    loops = BackgroundLoops()
    returned, is_empty = [], asyncio.Event()

    async def find(_: Sequence[str]) -> Sequence[tuple[str, int]]:
        return ()

    async def release(action_id: str, _revision: int, _at: datetime) -> None:
        if action_id == "broken":
            raise UnreadableError
        returned.append(action_id)
        is_empty.set()

    undelivered = Undelivered(
        find, release, lambda name: loops.loop(name, logging.getLogger("flyte.store"))
    )
    undelivered.start()
    undelivered.add([Claimed("broken", "Do", b"null"), Claimed("good", "Do", b"null")], NOON)
    async with asyncio.timeout(20):
        await is_empty.wait()
    await undelivered.stop()
    assert returned == ["good"]
