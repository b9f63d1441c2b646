"""Numbers in settings: ports, sizes, counts and times.

Each function raises `ValueError` with advice on how to fix the text.
"""

import re
from datetime import timedelta

from flyteops.timeformat import parse_seconds

MIN_DISK = 16 * 1024 * 1024

MAX_WORKERS = 64


def parse_port(value: str) -> int:
    """Read a TCP port; 0 stands for any free one."""
    if not re.fullmatch(r"[0-9]{1,5}", value) or int(value) > 65535:
        raise ValueError(
            "is not a port; give a whole number from 1 to 65535, or 0 for any free port"
        )
    return int(value)


def parse_size(value: str) -> int:
    """Read a number of bytes, at least one."""
    if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) == 0:
        raise ValueError("is not a number of bytes; give a whole number such as 10485760")
    return int(value)


def parse_count(value: str) -> int:
    """Read a number of connections, at least one."""
    if not re.fullmatch(r"[0-9]{1,7}", value) or int(value) == 0:
        raise ValueError("is not a number of connections; give a whole number from 1 to 9999999")
    return int(value)


def parse_workers(value: str) -> int:
    """Read a number of processes, from 1 to 64."""
    if not re.fullmatch(r"[0-9]{1,2}", value) or not 1 <= int(value) <= MAX_WORKERS:
        raise ValueError(
            f"is not a number of server processes; give a whole number from 1 to {MAX_WORKERS}"
        )
    return int(value)


def parse_disk(value: str) -> int:
    """Read a size such as 500MB or 20GiB, or a number of bytes; at least 16 MiB."""
    found = re.fullmatch(r"([0-9]{1,15})\s*(?:([KMGT])(i?)B?|B)?", value, re.IGNORECASE)
    if found is None:
        raise ValueError("is not a size; give one such as 500MB, 20GiB or 10000000000 (bytes)")
    base = 1024 if found[3] else 1000
    size: int = int(found[1]) * base ** (" KMGT".index((found[2] or " ").upper()))
    if size < MIN_DISK:
        raise ValueError("is too little to work with; give at least 16MiB")
    return size


def parse_period(value: str) -> timedelta:
    """Read a duration of at least a second: seconds, or numbers with units."""
    duration = _duration(value)
    if duration is None or duration < timedelta(seconds=1):
        raise ValueError(
            "is not a duration of at least 1 s; give seconds such as 90, or a duration such as"
            " 1m30s or 7d"
        )
    return duration


def parse_pause(value: str) -> timedelta:
    """Read a duration from 0 to an hour: seconds, or numbers with units."""
    duration = _duration(value)
    if duration is None or duration > timedelta(hours=1):
        raise ValueError(
            "is not a duration up to an hour; give seconds such as 30, or a duration such as 1m30s"
        )
    return duration


def _duration(value: str) -> timedelta | None:
    if re.fullmatch(r"[0-9]{1,10}", value):  # seconds alone may be more than a duration in units
        return timedelta(seconds=int(value))
    try:
        return parse_seconds(value)
    except ValueError:
        return None


def parse_pool_size(value: str) -> int:
    """Read a number of database connections, from 1 to 1000."""
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= 1000:
        raise ValueError("is not a number of connections; give a whole number from 1 to 1000")
    return int(value)


def parse_clock_time(value: str) -> str:
    """Read a time of day, and return it with two digits each."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", value)
    if match is None:
        raise ValueError("is not a time of the day; give hours and minutes such as 23:00")
    return f"{int(match[1]):02}:{match[2]}"
