"""Entry points of installed distributions."""

import re
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TypeVar

T = TypeVar("T")


def find_entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group by name.

    A distribution with damaged metadata has none, and hides no other.
    """
    found = [
        point
        for distribution in _first_of_each_name(group)
        for point in _entry_points(distribution, group)
    ]
    return sorted(found, key=lambda point: point.name)


def _first_of_each_name(group: str) -> list[Distribution]:
    """Return the distributions with entry points of a group.

    Of two with one name, Python imports the first.
    """
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        if _entry_points(distribution, group):
            found.setdefault(re.sub(r"[-_.]+", "-", _name(distribution)).lower(), distribution)
    return list(found.values())


def _entry_points(distribution: Distribution, group: str) -> list[EntryPoint]:
    return _metadata(lambda: list(distribution.entry_points.select(group=group)), [])


def _name(distribution: Distribution) -> str:
    return _metadata(lambda: distribution.name, "") or "without a name"


def distribution_of(point: EntryPoint) -> str:
    """Return the name of the distribution of an entry point."""
    return "without a name" if point.dist is None else _name(point.dist)


def summary_of(point: EntryPoint) -> str:
    """Return the summary of the distribution of an entry point; nothing if it has none."""
    distribution = point.dist
    return (
        ""
        if distribution is None
        else " ".join((_metadata(lambda: distribution.metadata["Summary"], "") or "").split())
    )


def _metadata(read: Callable[[], T], default: T) -> T:
    """Read metadata of a distribution; return the default if it is damaged."""
    try:
        return read()
    # Finders and metadata are third-party code and data: one distribution must not hide others.
    except Exception:  # noqa: BLE001
        return default
