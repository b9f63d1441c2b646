"""On the way from Slack to Flyte nothing is lost, nothing happens twice, and what is said in a channel keeps its order."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

import msgspec

from flyteops.errors import FlyteError
from flyteops.packs.slack.directory import Directory
from flyteops.packs.slack.envelope import Occurrence

LOGGER = logging.getLogger("flyte.slack")

ACKNOWLEDGE_WITHIN = 2.0
"""How many seconds Flyte has before Slack, which waits for three, hears that an occurrence is in hand."""

_MOST_AT_ONCE = 1000
_REMEMBERED = 5000

Send = Callable[[msgspec.Struct, str], Awaitable[None]]


class Intake:
    """Hand occurrences on by `send`, which gets a payload and the key of the occurrence."""

    def __init__(self, directory: Directory, send: Send) -> None:
        self._directory = directory
        self._send = send
        self._seen: OrderedDict[str, asyncio.Task[None]] = OrderedDict()
        self._under_way: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, occurrence: Occurrence) -> bool:
        """Hand an occurrence on; return when Flyte has it, or soon in any case, so that Slack can be told.

        False means that too much is under way already: nothing was done, and Slack should come again later.
        """
        handing = self._seen.get(occurrence.key)
        if handing is None:
            if len(self._under_way) >= _MOST_AT_ONCE:
                return False
            handing = self._begin(occurrence)
        await asyncio.wait({handing}, timeout=ACKNOWLEDGE_WITHIN)
        return True

    async def finish(self) -> None:
        """Wait until all that is under way has arrived."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    def _begin(self, occurrence: Occurrence) -> asyncio.Task[None]:
        handing = asyncio.create_task(self._hand_on(occurrence))
        self._under_way.add(handing)
        handing.add_done_callback(self._under_way.discard)
        self._seen[occurrence.key] = handing
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return handing

    async def _hand_on(self, occurrence: Occurrence) -> None:
        turn = self._turns.setdefault(occurrence.channel_id, asyncio.Lock())
        async with turn:
            people = [await self._directory.user(user_id) for user_id in occurrence.user_ids]
            try:
                await self._send(occurrence.payload(people), occurrence.key)
            except FlyteError as error:
                LOGGER.error("Flyte does not take %s: %s", occurrence.key, error)
            except Exception:  # nobody else would notice
                LOGGER.exception("%s cannot be handed on", occurrence.key)
