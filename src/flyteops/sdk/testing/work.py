"""The actions of a server in memory: handed out, lost, answered."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from flyteops.errors import ConflictError, LateError, NotFoundError
from flyteops.model import FATAL
from flyteops.sdk.clock import Clock
from flyteops.sdk.event import Event


class OfferedAction(msgspec.Struct, eq=False):
    """An action for a pack; `pack` is a name, None for any.

    Without a time limit it is handed out once and never lost.
    """

    command: str
    input: Any
    pack: str | None = None
    timeout: float | None = None
    attempts: int = 1
    id: str = ""
    leases: list[str] = []
    expires_at: float = 0.0
    is_pending: bool = False
    is_lost: bool = False

    def shown(self, lease: str | None) -> int:
        """Return the number of the attempt with this lease.

        Without a lease it can only be the first, if it is the only one.
        """
        if lease is None and len(self.leases) == 1:
            return 1
        if lease not in self.leases:
            message = (
                f"Action {self.id!r} was handed out {len(self.leases)} times; use the link that"
                " came with it."
            )
            raise ConflictError(message)
        return self.leases.index(lease) + 1


class ActionQueue:
    """All actions for packs, oldest first; `results` holds their results."""

    def __init__(self, clock: Clock) -> None:
        self.results: dict[str, Event] = {}
        self._clock = clock
        self._work: dict[str, OfferedAction] = {}
        self._waiting: deque[OfferedAction] = deque()
        self._news = asyncio.Event()
        self._is_open = True
        self._numbers = count(1)

    def offer(self, work: OfferedAction) -> str:
        """Queue an action for a pack, and return its id."""
        if not work.id:
            work.id = f"action{next(self._numbers)}"
            self._work[work.id] = work
        self._waiting.append(work)
        self.tell()
        return work.id

    def tell(self) -> None:
        """Wake all waiting takes."""
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all waiting takes."""
        self._is_open = False
        self.tell()

    async def take(
        self, pack: Callable[[], str], command: str | None, most: int, wait: float
    ) -> list[OfferedAction]:
        """Hand out the oldest actions, as soon as there are any, within so many seconds.

        `pack` raises for a lost registration.
        """
        until = self._clock.monotonic() + wait
        while not (found := self._claim(pack(), command, most)):
            left = until - self._clock.monotonic()
            if left <= 0 or not self._is_open:
                break
            await self._hear(min([left, *self._until_lost()]))
        return found

    def finish(self, action_id: str, pack: str, result: Event, lease: str | None) -> None:
        """Accept a result; the same one again has no effect."""
        work = self._find(action_id, pack)
        earlier = self.results.get(action_id)
        if earlier == result:
            return
        if (
            work.timeout is not None
            and work.leases
            and (work.shown(lease) != len(work.leases) or work.is_lost)
        ):
            raise LateError
        if earlier is not None:
            message = f"Action {action_id!r} has ended with another result already."
            raise ConflictError(message)
        self._expect_pending(work)
        work.is_pending = False
        self.results[action_id] = result

    def extend(self, action_id: str, pack: str, lease: str | None) -> bool:
        """Restart the time limit of an action; return whether it has one."""
        work = self._find(action_id, pack)
        if work.timeout is not None and work.shown(lease) != len(work.leases):
            message = f"Action {action_id!r} was lost and handed out again."
            raise ConflictError(message)
        self._expect_pending(work)
        work.expires_at = self._clock.monotonic() + (work.timeout or 0)
        return work.timeout is not None

    def _claim(self, pack: str, command: str | None, most: int) -> list[OfferedAction]:
        self._expire()
        fitting = [
            each
            for each in self._waiting
            if each.pack in (None, pack) and command in (None, each.command)
        ][:most]
        for work in fitting:
            self._waiting.remove(work)
            work.pack, work.is_pending, work.is_lost = pack, True, False
            work.leases = [*work.leases, f"lease{next(self._numbers)}"]
            work.expires_at = self._clock.monotonic() + (work.timeout or 0)
        return fitting

    def _expire(self) -> None:
        """Queue lost actions again, or end them."""
        for work in self._leased():
            if self._clock.monotonic() < work.expires_at:
                continue
            work.is_pending, work.is_lost = False, True
            if len(work.leases) < work.attempts:
                self.offer(work)
            else:
                self.results[work.id] = Event(
                    FATAL, {"reason": "lost", "actionId": work.id, "attempts": len(work.leases)}
                )

    def _until_lost(self) -> list[float]:
        return [work.expires_at - self._clock.monotonic() for work in self._leased()]

    def _leased(self) -> list[OfferedAction]:
        return [
            work for work in self._work.values() if work.is_pending and work.timeout is not None
        ]

    def _find(self, action_id: str, pack: str) -> OfferedAction:
        self._expire()
        if action_id not in self._work:
            message = f"There is no action {action_id!r}."
            raise NotFoundError(message)
        work = self._work[action_id]
        if work.pack not in (None, pack):
            message = f"Action {action_id!r} is not for pack {pack!r}."
            raise ConflictError(message)
        return work

    def _expect_pending(self, work: OfferedAction) -> None:
        if not work.is_pending:
            message = f"Action {work.id!r} is not PENDING."
            raise ConflictError(message)

    async def _hear(self, within: float) -> None:
        waiting = {
            asyncio.ensure_future(self._news.wait()),
            asyncio.ensure_future(self._clock.sleep(within)),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
