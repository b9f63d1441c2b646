"""When a schedule is due: cron expressions in a time zone, and what becomes of firings that were missed.

In the hour that daylight saving skips, a fixed time fires at the next full hour; in the hour that comes twice it fires once,
while ``*`` and steps go on with real time. That is how Debian's cron does it, and what the `cronsim` library implements.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

CATCH_UP = ("all", "last", "skip")
"""What to do about firings that were missed: all of them one by one, only the last, or none."""

ON_TIME = timedelta(minutes=1)
"""A firing that is no later than this was not missed."""

LONGEST_EXPRESSION = 200

TAGS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class Tick(NamedTuple):
    """What follows from a due schedule: the time to fire for, if any, and when it is due next (None: never again)."""

    fires_for: datetime | None
    next_at: datetime | None


def zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database by its name; raise `ValueError`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name[:60]!r} is no time zone; write one such as Europe/Berlin or UTC") from error


def check_cron(expression: str) -> None:
    """Raise `ValueError` unless it is a cron expression that is due some day."""
    if next_after(expression, "UTC", datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ValueError(f"the cron expression {expression[:60]!r} is never due")


def next_after(expression: str, time_zone: str, at: datetime) -> datetime | None:
    """Return the first time after `at` that a cron expression names in a time zone, None when there is none any more."""
    return _step(expression, time_zone, at, is_back=False)


def last_until(expression: str, time_zone: str, at: datetime) -> datetime | None:
    """Return the last time up to `at` that a cron expression names."""
    return _step(expression, time_zone, at + timedelta(seconds=1), is_back=True)


def _step(expression: str, time_zone: str, at: datetime, *, is_back: bool) -> datetime | None:
    fields = TAGS.get(expression.strip().lower(), expression).split()
    if len(fields) != 5 or len(expression) > LONGEST_EXPRESSION:
        raise ValueError(
            f"the cron expression {expression[:60]!r} has {len(fields)} fields; it needs 5: minute, hour, day, month, weekday"
        )
    try:
        found = next(CronSim(" ".join(fields), at.astimezone(zone(time_zone)), reverse=is_back))
    except CronSimError as error:
        raise ValueError(f"the cron expression {expression[:60]!r} is not valid: {error}") from error
    except (StopIteration, OverflowError):
        return None
    return found.astimezone(UTC)


def tick(expression: str, time_zone: str, catch_up: str, due_at: datetime, now: datetime) -> Tick:
    """Return what to do about a schedule that was due at `due_at`, which is not after `now`."""
    if catch_up == "all":
        return Tick(due_at, next_after(expression, time_zone, due_at))
    last = last_until(expression, time_zone, now)
    fires_for = due_at if last is None else max(last, due_at)
    is_missed = now - fires_for > ON_TIME
    return Tick(None if is_missed and catch_up == "skip" else fires_for, next_after(expression, time_zone, now))
