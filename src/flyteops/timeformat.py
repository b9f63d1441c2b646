"""Timestamps and durations as text.

Timestamps are RFC 3339. Durations such as ``1h30m`` or ``500ms`` are written as in Go, with days
added.
"""

import re
from datetime import UTC, datetime, timedelta

from flyteops.errors import InputError, Problem

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""The time that clients written in Go send for "not given"."""


def format_timestamp(at: datetime) -> str:
    """Write a time in UTC as ``Z``, its fraction without trailing zeros."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if at.microsecond else text) + "Z"


def parse_timestamp(text: str | None, path: str) -> datetime | None:
    """Return the time, None if none is given; digits below a microsecond are cut off.

    `path` is its place in the input.
    """
    if text is None:
        return None
    if RFC_3339.fullmatch(text) is None:
        raise _invalid(path)
    try:
        at = datetime.fromisoformat(text)
        return None if at.astimezone(UTC) == ZERO else at
    except (ValueError, OverflowError) as error:
        raise _invalid(path) from error


def _invalid(path: str) -> InputError:
    message = "must be a time such as 2026-03-01T12:30:00Z or 2026-03-01T12:30:00.25+02:00"
    return InputError(f"{path} {message}.", problems=[Problem(path, message)])


def parse_nanosecond(text: str | None) -> int:
    """Return the nanoseconds of a valid time beyond its microseconds, 0 to 999."""
    if not text or len(text) <= len("2026-03-01T12:30:00.000000Z"):
        return 0
    digits = (RFC_3339.fullmatch(text) or [""])[1] or ""
    return int(digits[7:10].ljust(3, "0"))


UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}

MAX_DURATION = timedelta(days=3660)
"""Ten years: longer ones are certainly a mistake, and dates must not overflow."""

_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read a duration of one or more numbers with units.

    Raise `ValueError` with the correct form.
    """
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{text[:40]!r} is not a duration; write it as 30s, 5m, 1h30m or 2d")
    total = sum((float(part[1]) * (UNITS[part[2]] / UNITS["s"]) for part in parts), 0.0)
    if total > MAX_DURATION / UNITS["s"]:
        raise ValueError(f"{text[:40]!r} is longer than {MAX_DURATION.days} days")
    return timedelta(seconds=total)


def parse_seconds(text: str) -> timedelta:
    """Read a duration, or a plain number of seconds such as `90` or `0.5`.

    Unlike in flows, upper case is accepted, and spaces around the text and before a unit. Raise
    `ValueError` with the correct form.
    """
    text = re.sub(r"(?<=[0-9])\s+(?=[a-z])", "", text.strip().lower())
    if not _NUMBER.fullmatch(text):
        return parse_duration(text)
    return parse_duration(f"{text}s")


def format_duration(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in whole milliseconds."""
    left = round(duration / UNITS["ms"])
    if left <= 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(UNITS[unit] / UNITS["ms"]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
