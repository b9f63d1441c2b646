"""Points in time in the format of clients: RFC 3339."""

import re
from datetime import UTC, datetime

from flyteops.errors import InputError, Problem

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""The time that clients written in Go send for "not given"."""


def write(at: datetime) -> str:
    """Write a time in UTC as ``Z``, its fraction without trailing zeros."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if at.microsecond else text) + "Z"


def read(text: str | None, path: str) -> datetime | None:
    """Return the time, None if none is given; digits below a microsecond are cut off.

    `path` is its place in the input.
    """
    if text is None:
        return None
    try:
        if RFC_3339.fullmatch(text) is None:
            raise ValueError(text)
        at = datetime.fromisoformat(text)
        return None if at.astimezone(UTC) == ZERO else at
    except (ValueError, OverflowError) as error:
        message = "must be a time such as 2026-03-01T12:30:00Z or 2026-03-01T12:30:00.25+02:00"
        raise InputError(f"{path} {message}.", problems=[Problem(path, message)]) from error


def nanosecond(text: str | None) -> int:
    """Return the nanoseconds of a valid time beyond its microseconds, 0 to 999."""
    digits = (RFC_3339.fullmatch(text) or [""])[1] if text and len(text) > len("2026-03-01T12:30:00.000000Z") else None
    return int((digits or "")[7:10].ljust(3, "0"))
