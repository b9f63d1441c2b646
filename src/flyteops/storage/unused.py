"""Which flow versions that nothing uses are removed, the same on every store. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from flyteops.storage.base import VersionBound

T = TypeVar("T")


def surplus(unused: Iterable[tuple[T, int, int]], what: VersionBound, limit: int) -> tuple[list[T], int]:
    """Choose the versions to remove; return them, and what the unused ones take then.

    `unused` are all unused versions, the oldest first: each with its length, and the microseconds since when it is unused.
    """
    rows = list(unused)
    left = sum(length for _, length, _ in rows)
    before = what.unused_before.timestamp() * 1_000_000
    chosen: list[T] = []
    for version, length, since in rows:
        if left <= what.max_bytes or len(chosen) == limit:
            break
        if since < before:
            chosen.append(version)
            left -= length
    return chosen, left
