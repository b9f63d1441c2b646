"""Giving commands back that were taken and reached nobody."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import Address
from flyteops.service.verdict import check_attempt
from flyteops.storage.base import Claimed, Store


class HandBack:
    """Gives commands back; what the store does not take now is kept for the next `retry`."""

    def __init__(self, store: Store, clock: Callable[[], datetime], announce: Callable[[Sequence[Address]], None]) -> None:
        self._store = store
        self._clock = clock
        self._announce = announce
        self._owed: dict[str, int] = {}

    async def give(self, claimed: Iterable[Claimed]) -> None:
        """Make these available to others; what has been lost or answered meanwhile stays as it is."""
        self._owed.update({each.action_id: each.attempt for each in claimed})
        await self.retry()

    async def retry(self) -> None:
        """Give back what is left; raise `UnavailableError` if the store does not take it now."""
        for action_id, attempt in list(self._owed.items()):
            with suppress(ConflictError, NotFoundError):
                check = partial(check_attempt, attempt=attempt)
                self._announce([await self._store.release(action_id, self._clock(), check, counts=False)])
            self._owed.pop(action_id, None)
