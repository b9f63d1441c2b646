"""Probes: faulty behaviour of packs, repeated on purpose when there is no excuse for a server."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from flyteops_chaos.client import ChaosClient
from flyteops_chaos.flow import DELAY, HOOKED, JOIN, OFFER, VERSION, WORK
from flyteops_chaos.pack import PackClients, Received
from flyteops_chaos.sender import Sender

OFFERS = 12
"""The number of actions left behind by packs that disconnect while they take them."""

LOST = 3
"""The number of actions lost by their packs, which answer late."""

JOINS = 3
DELAYS = 3
CHANGED = 2


class Probes:
    """Tests promises while the packs are paused, and all actions have ended that will.

    The observations are in the history, where the checks find them.
    """

    def __init__(self, client: ChaosClient, sender: Sender, packs: PackClients) -> None:
        self._client = client
        self._sender = sender
        self._packs = packs

    async def run(self, patience: float) -> list[str]:
        """Return the expected effects that were missing after `patience` seconds."""
        await self._packs.pause()
        for _ in range(DELAYS):
            await self._sender.send(DELAY)
        for kind in (HOOKED, OFFER):
            await self._sender.send(kind, is_repeated=True)
        found = await asyncio.gather(
            self._leave(),
            self._answer_late(patience),
            self._answer_one_side(),
            self._change_flow_under_way(),
        )
        self._packs.resume()
        return [fault for faults in found for fault in faults]

    async def _leave(self) -> Sequence[str]:
        """Take actions and disconnect; the packs get them afterwards."""
        for _ in range(OFFERS):
            await self._sender.send(OFFER)
        for _ in range(2):
            await asyncio.gather(
                *(self._packs.leave_once("?actionName=Fetch") for _ in range(OFFERS))
            )
        return ()

    async def _answer_late(self, patience: float) -> Sequence[str]:
        """Let actions be lost and handed out again.

        Answer with the first link while another pack works on them.
        """
        for _ in range(LOST):
            await self._sender.send(WORK)
        end = time.monotonic() + patience
        first = [received async for received in self._packs.take_several("Work", LOST, end)]
        second = [received async for received in self._packs.take_several("Work", LOST, end)]
        for received in (*first, *second):
            await self._packs.answer(*received)
        return list(_missing("was not handed out", first)) + list(
            _missing("was lost and not handed out again", second)
        )

    async def _answer_one_side(self) -> Sequence[str]:
        """Answer one of two actions that a third one waits for, and check that it is not there."""
        for _ in range(JOINS):
            await self._sender.send(JOIN)
        end = time.monotonic() + 1
        sides = [received async for received in self._packs.take_several("Left", JOINS, end)]
        for received in sides:
            await self._packs.answer(*received)
        early = await self._packs.take("?actionName=Join")
        if early is not None:
            await self._packs.answer(*early)
        return ()

    async def _change_flow_under_way(self) -> Sequence[str]:
        """Replace a flow between the first and second steps of executions."""
        for _ in range(CHANGED):
            await self._sender.send(VERSION)
        first = [
            received
            async for received in self._packs.take_several("First", CHANGED, time.monotonic() + 1)
        ]
        await self._sender.save_next_version()
        for received in first:
            await self._packs.answer(*received)
        return ()


def _missing(what: str, received: Sequence[Received]) -> Iterator[str]:
    if len(received) < LOST:
        yield f"an action with a lease {what}: {len(received)} of {LOST} were"
