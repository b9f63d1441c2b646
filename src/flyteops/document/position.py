"""A parsed text with the places of its parts, for problems that name line and column."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from flyteops.errors import InputError, Problem
from flyteops.model import JsonValue

MAX_DEPTH = 256
"""The maximum nesting of lists and objects in an input."""

MAX_PROBLEMS = 200
"""The maximum number of reported faults of a document.

More of them mean an input of another kind.
"""


class Position(NamedTuple):
    """The line and column at which a part of a text begins, both counted from 1."""

    line: int
    column: int


Path = tuple[str | int, ...]


def path_text(path: Path) -> str:
    """Return a path in its readable form: ``steps[0].command.name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class Positions:
    """The place of a value and of each of its parts, as a tree like the value itself.

    So its size is proportional to that of the value.
    """

    __slots__ = ("parts", "place")

    def __init__(self, place: Position | None = None) -> None:
        self.place = place
        self.parts: dict[str | int, Positions] | None = None

    def add(self, part: str | int, place: Position) -> "Positions":
        """Record the place of a part."""
        if self.parts is None:
            self.parts = {}
        added = self.parts[part] = Positions(place)
        return added

    def find(self, path: Path) -> Position | None:
        """Return the place of the value at `path`, or of the innermost known value around it."""
        places, found = self, self.place
        for part in path:
            inner = (places.parts or {}).get(part)
            if inner is None:
                break
            places, found = inner, inner.place
        return found


class Document:
    """A parsed text: its `value`, and the place of each part of it in the text."""

    def __init__(self, value: JsonValue, places: Callable[[], Positions] = Positions) -> None:
        self.value = value
        self._find_places = places
        self._places: Positions | None = None

    def place(self, path: Path) -> Position | None:
        """Return the place of the value at `path`, or of the innermost value around it.

        None if that is not known. The case of keys counts only for keys that differ in nothing
        else.
        """
        if self._places is None:
            self._places = self._find_places()
        return self._places.find(tuple(_as_written(self.value, path)))

    def with_value(self, value: JsonValue) -> "Document":
        """Return a document with another value and the same places."""
        return Document(value, self._find_places)

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem with the value at `path`."""
        place = self.place(path)
        return Problem(path_text(path), message, *(place or (None, None)))


def _as_written(value: JsonValue, path: Path) -> Iterator[str | int]:
    """Yield a path with its keys as written in the value, for as long as the value has them."""
    for key in path:
        if isinstance(value, dict) and isinstance(key, str):
            written = (
                key
                if key in value
                else next((other for other in value if other.casefold() == key.casefold()), key)
            )
            yield written
            value = value.get(written)
        else:
            yield key
            value = (
                value[key]
                if isinstance(value, list) and isinstance(key, int) and key < len(value)
                else None
            )


def invalid(kind: str, message: str, place: Position | None) -> InputError:
    """Return the error for a text that is not of that kind."""
    problem = Problem("", message, *(place or (None, None)))
    return InputError(f"The body is not valid {kind}: {problem.message}.", problems=[problem])
