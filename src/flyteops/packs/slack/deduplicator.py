"""The intake from Slack to Flyte.

No event is lost or repeated, and the messages of a channel keep their order.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

import msgspec

from flyteops.errors import FlyteError, InputError
from flyteops.packs.slack.directory import Directory
from flyteops.packs.slack.envelope import PendingEvent
from flyteops.packs.slack.spool import Spool, Spooled

LOGGER = logging.getLogger("flyte.slack")

ACKNOWLEDGE_WITHIN = 2.0
"""Seconds that Flyte has before an occurrence is acknowledged to Slack, which waits for three."""

_MAX_AT_ONCE = 1000
_REMEMBERED = 5000

Send = Callable[[msgspec.Struct, str], Awaitable[None]]


class Deduplicator:
    """Passes occurrences on by `send`, which gets a payload and the key of the occurrence."""

    def __init__(self, directory: Directory, send: Send, spool: Spool | None = None) -> None:
        self._directory = directory
        self._spool = spool
        self._send = send
        self._seen: OrderedDict[str, asyncio.Task[bool]] = OrderedDict()
        self._under_way: set[asyncio.Task[bool]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, occurrence: PendingEvent, spooled: Spooled | None = None) -> bool:
        """Pass an occurrence on.

        Return when Flyte has it, or soon in any case, so that it can be acknowledged to Slack.
        False means that Slack should send it again later: too much is under way already, and
        nothing was done, or an occurrence that Flyte does not have yet could not be written to
        disk.
        """
        handing = self._seen.get(occurrence.key)
        if handing is None:
            if len(self._under_way) >= _MAX_AT_ONCE:
                return False
            handing = self._begin(occurrence)
        await asyncio.wait({handing}, timeout=ACKNOWLEDGE_WITHIN)
        if _is_settled(handing):
            return True
        if self._spool is None or spooled is None:
            # What has failed is tried again when Slack sends it again; the rest may still arrive.
            if handing.done():
                self._seen.pop(occurrence.key, None)
            return not handing.done()
        is_safe = await self._spool.keep(spooled)
        if handing.done():
            self._settle(occurrence.key, handing)
        return is_safe

    def resume(self, occurrence: PendingEvent) -> None:
        """Pass on an occurrence that an earlier run wrote to disk."""
        if occurrence.key not in self._seen:
            self._begin(occurrence)

    async def finish(self) -> None:
        """Wait until everything under way has arrived."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    def _begin(self, occurrence: PendingEvent) -> asyncio.Task[bool]:
        handing = asyncio.create_task(self._hand_on(occurrence))
        self._under_way.add(handing)
        handing.add_done_callback(self._under_way.discard)
        handing.add_done_callback(lambda handed: self._settle(occurrence.key, handed))
        self._seen[occurrence.key] = handing
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return handing

    def _settle(self, key: str, handed: asyncio.Task[bool]) -> None:
        """Remove the file of an occurrence if it is settled."""
        if self._spool is not None and _is_settled(handed):
            self._spool.remove(key)

    async def _hand_on(self, occurrence: PendingEvent) -> bool:
        """Send an occurrence; return whether it need not be tried again, even by a later run."""
        turn = self._turns.setdefault(occurrence.channel_id, asyncio.Lock())
        async with turn:
            people = [await self._directory.user(user_id) for user_id in occurrence.user_ids]
            try:
                await self._send(occurrence.payload(people), occurrence.key)
            except FlyteError as error:
                LOGGER.error("Flyte rejected %s: %s", occurrence.key, error)
                return isinstance(error, InputError)
            except Exception:  # there is no caller left to report it
                LOGGER.exception("%s cannot be delivered", occurrence.key)
                return False
            return True


def _is_settled(handed: asyncio.Task[bool]) -> bool:
    """Return whether an occurrence has arrived, or was refused for good."""
    return (
        handed.done() and not handed.cancelled() and handed.exception() is None and handed.result()
    )
