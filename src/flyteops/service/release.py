"""The return of claimed commands that were not delivered to any client."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import RoutingKey
from flyteops.storage.base import Claimed, Store
from flyteops.storage.undelivered import still_claimed


class ClaimReleaser:
    """Returns commands to the queue.

    Those that the store does not take now are kept for `retry`.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        notify: Callable[[Sequence[RoutingKey]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._notify = notify
        self._pending: dict[str, int] = {}

    async def release(self, claimed: Iterable[Claimed]) -> None:
        """Make these available to other clients.

        Actions lost or completed meanwhile stay as they are.
        """
        self._pending.update({each.action_id: each.revision for each in claimed})
        await self.retry()

    async def retry(self) -> None:
        """Return the remaining commands.

        Raise `UnavailableError` if the store does not take them now.
        """
        while self._pending:
            # Taken out first: releasing the same command twice would take it away from the client
            # that has it by then.
            action_id = next(iter(self._pending))
            revision = self._pending.pop(action_id)
            try:
                address = await self._store.release(
                    action_id, self._clock(), still_claimed(revision), counts=False
                )
                self._notify([address])
            except (ConflictError, NotFoundError):
                continue
            # On any failure, also a cancelled caller, it still has to be returned, after the
            # others, as it may be the only one that cannot be read.
            except BaseException:
                self._pending[action_id] = revision
                raise
