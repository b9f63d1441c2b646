"""Durations such as ``1h30m`` or ``500ms``, in Go's notation with days added."""

import re
from datetime import timedelta

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}

LONGEST = timedelta(days=3660)
"""Ten years: longer ones are certainly a mistake, and dates must not overflow."""

_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read a duration of one or more numbers with units.

    Raise `ValueError` with the correct form.
    """
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{text[:40]!r} is no duration; write it as 30s, 5m, 1h30m or 2d")
    total = sum((float(part[1]) * (UNITS[part[2]] / UNITS["s"]) for part in parts), 0.0)
    if total > LONGEST / UNITS["s"]:
        raise ValueError(f"{text[:40]!r} is longer than {LONGEST.days} days")
    return timedelta(seconds=total)


def write_duration(duration: timedelta) -> str:
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
