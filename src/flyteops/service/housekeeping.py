"""What is done about things that grow old."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flyteops.storage.base import KEPT_KEYS, Retention, Store

PURGE_STEP = 1000
PURGES_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Housekeeping:
    """What `Service.sweep` does about things that grow old; durations are `timedelta`, `dead_packs_at` local wall time.

    What is finished is kept for `keep_finished_for`, all else for `keep_for`; with `max_bytes`, what is finished goes earlier
    when the store takes more.
    """

    keep_for: timedelta = timedelta(seconds=31_557_600)
    keep_finished_for: timedelta | None = None
    max_bytes: int | None = None
    delete_dead_packs: bool = False
    dead_packs_at: str = "23:00"
    dead_after: timedelta = timedelta(weeks=1)

    def retention(self, now: datetime) -> Retention:
        """Return what may be removed now."""
        return Retention(
            before=now - self.keep_for,
            finished_before=now - (self.keep_finished_for or self.keep_for),
            keys_before=now - KEPT_KEYS,
            max_bytes=self.max_bytes,
        )


async def do_all(*parts: Callable[[], Awaitable[None]]) -> None:
    """Do each of the parts, even if others fail; raise the first error at the end."""
    failed: Exception | None = None
    for part in parts:
        try:
            await part()
        except Exception as error:  # one part that always fails must not keep the others from being done
            failed = failed or error
    if failed is not None:
        raise failed


async def purge(store: Store, what: Retention) -> None:
    """Remove what may be removed, in steps, and no more than a bounded part of it now."""
    for _ in range(PURGES_AT_ONCE):
        if not (await store.purge(what, limit=PURGE_STEP)).more:
            return
