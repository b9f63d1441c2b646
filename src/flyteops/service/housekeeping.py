"""What is done about things that grow old."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flyteops.storage.base import KEPT_KEYS, Retention


@dataclass(frozen=True, kw_only=True)
class Housekeeping:
    """What `Service.sweep` does about things that grow old; durations are `timedelta`, `dead_packs_at` local wall time.

    What is finished is kept for `keep_finished_for`, all else for `keep_for`; with `max_bytes`, what is finished goes earlier
    when the store takes more. `max_change_log` and `max_old_flows` are bytes, too: of the log of changes, and of flow versions
    that nothing uses. Neither takes more than an eighth of `max_bytes`.
    """

    keep_for: timedelta = timedelta(seconds=31_557_600)
    keep_finished_for: timedelta | None = None
    max_bytes: int | None = None
    max_change_log: int = 256 * 1024 * 1024
    max_old_flows: int = 64 * 1024 * 1024
    delete_dead_packs: bool = False
    dead_packs_at: str = "23:00"
    dead_after: timedelta = timedelta(weeks=1)

    def share(self, most: int) -> int:
        """Return what something besides the history may take that may take `most` bytes by itself."""
        return most if self.max_bytes is None else min(most, self.max_bytes // 8)

    def retention(self, now: datetime, excess: int = 0) -> Retention:
        """Return what may be removed now; the history does not make room for the `excess` bytes that others take too much."""
        return Retention(
            before=now - self.keep_for,
            finished_before=now - (self.keep_finished_for or self.keep_for),
            keys_before=now - KEPT_KEYS,
            max_bytes=self.max_bytes,
            spared_bytes=excess,
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
