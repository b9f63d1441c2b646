"""Routing: finds the resource at a path by walking its segments."""

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_KNOWN = 1_000
"""The number of paths whose resources are remembered before all are forgotten.

Clients repeat their paths.
"""

MAX_KNOWN_LENGTH = 200


class _Place(Generic[T]):
    __slots__ = ("literal", "parameter", "resource", "under_parameter")

    def __init__(self) -> None:
        self.resource: T | None = None
        self.literal: dict[str, _Place[T]] = {}
        self.parameter = ""
        self.under_parameter: _Place[T] | None = None


class Router(Generic[T]):
    """Knows the resource at each path.

    `{name}` in a path stands for any one segment, as it was sent. A literal segment goes before a
    parameter. Paths have one slash at the beginning and none at the end.
    """

    def __init__(self, resources: Mapping[str, T]) -> None:
        self._root: _Place[T] = _Place()
        self._known: dict[str, tuple[T | None, dict[str, str]]] = {}
        for path, resource in resources.items():
            self._add(path, resource)

    def _add(self, path: str, resource: T) -> None:
        place = self._root
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                place.parameter = segment.strip("{}")
                place.under_parameter = place.under_parameter or _Place()
                place = place.under_parameter
            else:
                place = place.literal.setdefault(segment, _Place())
        place.resource = resource

    def find(self, path: str) -> tuple[T | None, dict[str, str]]:
        """Return the resource at a path, or None, and the values of its parameters by name.

        The values are shared by all who ask for the path.
        """
        found = self._known.get(path)
        if found is None:
            found = self._walk(path)
            if len(path) <= MAX_KNOWN_LENGTH:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[path] = found
        return found

    def _walk(self, path: str) -> tuple[T | None, dict[str, str]]:
        place = self._root
        parameters: dict[str, str] = {}
        for segment in path.split("/")[1:]:
            following = place.literal.get(segment)
            if following is None:
                following = place.under_parameter
                if following is None or not segment:
                    return None, parameters
                parameters[place.parameter] = segment
            place = following
        return place.resource, parameters
