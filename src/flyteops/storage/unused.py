"""The choice of unused flow versions to remove, the same for every store. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from flyteops.storage.base import VersionBound

T = TypeVar("T")


def surplus(unused: Iterable[tuple[T, int, int]], what: VersionBound, limit: int) -> tuple[list[T], int]:
    """Choose the versions to remove; return them, and the bytes that unused ones take afterwards.

    `unused` are all unused versions, the oldest first: each with its length, and the time in
    microseconds since when it is unused.
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
