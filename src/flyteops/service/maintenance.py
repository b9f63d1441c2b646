"""Settings of the maintenance: retention, size bounds, and the removal of dead packs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flyteops.storage.base import KEPT_KEYS
from flyteops.storage.query import Retention


@dataclass(frozen=True, kw_only=True)
class MaintenanceSettings:
    """The settings of `Service.run_maintenance`.

    Durations are `timedelta`, `dead_packs_at` is local wall time. Finished data is kept for
    `keep_finished_for`, all other data for `keep_for`; with `max_bytes`, finished data is removed
    earlier when the store takes more. `max_change_log` and `max_old_flows` are bytes, too: of the
    audit log, and of unused flow versions. Neither takes more than an eighth of `max_bytes`.
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
        """Return the bound in bytes for data besides the history with a bound of `most` bytes."""
        return most if self.max_bytes is None else min(most, self.max_bytes // 8)

    def retention(self, now: datetime, excess: int = 0) -> Retention:
        """Return the rule for removal now.

        The history does not make room for the `excess` bytes by which other data exceed their
        bounds.
        """
        return Retention(
            before=now - self.keep_for,
            finished_before=now - (self.keep_finished_for or self.keep_for),
            keys_before=now - KEPT_KEYS,
            max_bytes=self.max_bytes,
            spared_bytes=excess,
        )


async def run_all(*parts: Callable[[], Awaitable[None]]) -> None:
    """Run each of the parts, even if others fail; raise the first error at the end."""
    failed: Exception | None = None
    for part in parts:
        try:
            await part()
        # A part that always fails must not keep the others from running.
        except Exception as error:  # noqa: BLE001
            failed = failed or error
    if failed is not None:
        raise failed
