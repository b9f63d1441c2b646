"""Entry points of installed distributions."""

import re
from importlib.metadata import Distribution, EntryPoint, distributions


def find_entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group by name. A distribution with damaged metadata has none, and hides no other."""
    found = [point for distribution in _first_of_each_name(group) for point in _entry_points(distribution, group)]
    return sorted(found, key=lambda point: point.name)


def _first_of_each_name(group: str) -> list[Distribution]:
    """Return the distributions with entry points of a group; of two with one name, Python imports the first."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        if _entry_points(distribution, group):
            found.setdefault(re.sub(r"[-_.]+", "-", _name(distribution)).lower(), distribution)
    return list(found.values())


def _entry_points(distribution: Distribution, group: str) -> list[EntryPoint]:
    try:
        return list(distribution.entry_points.select(group=group))
    except Exception:  # what the metadata of others may raise
        return []


def _name(distribution: Distribution) -> str:
    try:
        return distribution.name or "without a name"
    except Exception:  # what the metadata of others may raise
        return "without a name"


def distribution_of(point: EntryPoint) -> str:
    """Return the name of the distribution of an entry point."""
    return "without a name" if point.dist is None else _name(point.dist)


def summary_of(point: EntryPoint) -> str:
    """Return the summary of the distribution of an entry point; nothing if it has none."""
    try:
        return "" if point.dist is None else " ".join((point.dist.metadata["Summary"] or "").split())
    except Exception:  # what the metadata of others may raise
        return ""
