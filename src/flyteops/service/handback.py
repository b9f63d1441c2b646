"""Giving commands back that were taken and reached nobody."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import Address
from flyteops.storage.base import Claimed, Store
from flyteops.storage.undelivered import still_claimed


class HandBack:
    """Gives commands back; what the store does not take now is kept for the next `retry`."""

    def __init__(self, store: Store, clock: Callable[[], datetime], announce: Callable[[Sequence[Address]], None]) -> None:
        self._store = store
        self._clock = clock
        self._announce = announce
        self._owed: dict[str, int] = {}

    async def give(self, claimed: Iterable[Claimed]) -> None:
        """Make these available to others; what has been lost or answered meanwhile stays as it is."""
        self._owed.update({each.action_id: each.revision for each in claimed})
        await self.retry()

    async def retry(self) -> None:
        """Give back what is left; raise `UnavailableError` if the store does not take it now."""
        while self._owed:
            # Taken out first: two that give back the same would take it away from whoever has it by then.
            action_id, revision = self._owed.popitem()
            try:
                address = await self._store.release(action_id, self._clock(), still_claimed(revision), counts=False)
                self._announce([address])
            except (ConflictError, NotFoundError):
                continue
            except BaseException:  # whatever it is, also a caller that has gone: it is still to be given back
                self._owed[action_id] = revision
                raise
