"""Paths such as ``labels.env`` and ``items.0.name``, which read maps and lists."""

from collections.abc import Callable

from flyteops.template.typed.filter.operand import unfit
from flyteops.template.typed.value import LIST, MAP, NULL, NUMBER, TEXT, Value, kind_of

_DIGITS = 9
"""No list is so long that an index has more."""


def reader(name: str, path: Value) -> Callable[[Value], Value]:
    """Return a function that reads a path in a value; a missing one is null.

    The empty path and null are the value itself. A list of keys and indexes is a path as well, for
    keys with dots.
    """
    parts = _parts(name, path)

    def read(value: Value) -> Value:
        for part in parts:
            value = _part(value, part)
        return value

    return read


def _parts(name: str, path: Value) -> list[Value]:
    kind = kind_of(path)
    if kind == NULL or path == "":
        return []
    if kind == TEXT:
        return list(path.split("."))
    parts = list(path) if kind == LIST else [path]
    for part in parts:
        if (kind_of(part) != TEXT and not isinstance(part, int)) or isinstance(part, bool):
            raise unfit(name, "a path such as 'labels.env'", part)
    return parts


def _part(value: Value, part: Value) -> Value:
    kind = kind_of(value)
    if kind == MAP:
        return value.get(str(part))
    if kind != LIST:
        return None
    if kind_of(part) == NUMBER:
        position = part
    elif part.isascii() and part.isdigit() and len(part) <= _DIGITS:
        position = int(part)
    else:
        return None
    return value[position] if 0 <= position < len(value) else None
