"""Which resource is at a path: a walk over its segments, however many resources there are."""

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class _Place(Generic[T]):
    __slots__ = ("literal", "parameter", "resource", "under_parameter")

    def __init__(self) -> None:
        self.resource: T | None = None
        self.literal: dict[str, _Place[T]] = {}
        self.parameter = ""
        self.under_parameter: _Place[T] | None = None


class Router(Generic[T]):
    """Knows the resource at each path; `{name}` in a path stands for any one segment, as it was sent.

    A literal segment goes before a parameter. Paths have one slash at the beginning and none at the end.
    """

    def __init__(self, resources: Mapping[str, T]) -> None:
        self._root: _Place[T] = _Place()
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
        """Return what is at a path, None if nothing is, and the segments that stand for parameters by name."""
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
