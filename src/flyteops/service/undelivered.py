"""Actions that were claimed and could not be delivered: they go back, as soon as the store can be written."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial

from flyteops.errors import ConflictError, NotFoundError, UnavailableError
from flyteops.model import Address
from flyteops.service.verdict import check_attempt
from flyteops.storage.base import Claimed, Store


class Undelivered:
    """Gives actions back; `announce` gets the address of each. What was lost or answered meanwhile stays as it is."""

    def __init__(self, store: Store, clock: Callable[[], datetime], announce: Callable[[Iterable[Address]], None]) -> None:
        self._store = store
        self._clock = clock
        self._announce = announce
        self._waiting: list[Claimed] = []

    async def add(self, claimed: Iterable[Claimed]) -> None:
        """Give actions back, at once or with a later call of `retry`."""
        self._waiting += claimed
        with suppress(UnavailableError):
            await self.retry()

    async def retry(self) -> None:
        """Give back what could not be given back before; raise `UnavailableError` if that cannot be done yet."""
        waiting, self._waiting = self._waiting, []
        try:
            while waiting:
                await self._release(waiting[0])
                waiting.pop(0)
        finally:
            self._waiting += waiting

    async def _release(self, claimed: Claimed) -> None:
        check = partial(check_attempt, attempt=claimed.attempt)
        with suppress(ConflictError, NotFoundError):
            self._announce([await self._store.release(claimed.action_id, self._clock(), check, counts=False)])
