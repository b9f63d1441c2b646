"""The values and arguments of filters: their kinds, and the errors for other kinds."""

import math
from collections.abc import Mapping, Sequence

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import (
    BOOLEAN,
    LIST,
    MAP,
    NUMBER,
    TEXT,
    TIME,
    Value,
    checked_number,
    described,
    kind_of,
    text_of,
)

_SHOWN = 40
_LONGEST_NUMBER = 1_000
"""Longer texts are not read as numbers, so that reading one stays cheap."""
_ORDERED = frozenset([NUMBER, TEXT, TIME])


def shown(value: Value) -> str:
    """Describe a value in an error: its kind, and itself where it is short."""
    kind = kind_of(value)
    if kind == TEXT:
        return f"the text {value[:_SHOWN]!r}{'...' if len(value) > _SHOWN else ''}"
    if kind == NUMBER:
        return f"the number {str(value)[:_SHOWN]}"
    if kind == BOOLEAN:
        return "true" if value else "false"
    return f"a list of {len(value)}" if kind == LIST else described(value)


def unfit(name: str, needed: str, value: Value, *, place: str = "") -> TemplateRenderError:
    """Return the error of a filter for a value that it cannot use."""
    return TemplateRenderError(f"`{name}` needs {needed}, and got {shown(value)}{place}")


def is_number(value: Value) -> bool:
    """Return whether the value is a number; booleans are not."""
    return kind_of(value) == NUMBER


def need_list(name: str, value: Value, env: Environment) -> Sequence[Value]:
    """Return a list, at the cost of a step for each item, or raise an error."""
    if kind_of(value) != LIST:
        raise unfit(name, "a list", value)
    env.check_count(len(value))
    return value  # type: ignore[no-any-return]


def need_map(name: str, value: Value) -> Mapping[str, Value]:
    """Return a map, or raise an error."""
    if kind_of(value) != MAP:
        raise unfit(name, "a map", value)
    return value  # type: ignore[no-any-return]


def need_text(name: str, value: Value, needed: str = "a text as its argument") -> str:
    """Return a text, or raise an error."""
    if kind_of(value) != TEXT:
        raise unfit(name, needed, value)
    return value  # type: ignore[no-any-return]


def need_number(name: str, value: Value, needed: str = "a number") -> int | float:
    """Return a number, or raise an error."""
    if not is_number(value):
        raise unfit(name, needed, value)
    return checked_number(value)


def need_integer(name: str, value: Value, needed: str = "an integer as its argument") -> int:
    """Return an integer, also one that is written as 3.0, or raise an error."""
    if not (is_number(value) and _is_whole(value)):
        raise unfit(name, needed, value)
    return int(value)


def need_count(name: str, value: Value, least: int = 0) -> int:
    """Return an integer that is not too small, or raise an error."""
    needed = f"an integer of at least {least} as its argument"
    count = need_integer(name, value, needed)
    if count < least:
        raise unfit(name, needed, value)
    return count


def printed(name: str, value: Value, env: Environment) -> str:
    """Return a text, or a number, boolean or time as it prints; refuse lists and maps.

    Null is the empty text.
    """
    if kind_of(value) in (LIST, MAP):
        raise unfit(name, "a text, number, boolean or time", value)
    return text_of(value, env)


def check_order(name: str, items: Sequence[Value]) -> None:
    """Raise unless all values are numbers, all are texts or all are times."""
    first = kind_of(items[0]) if items else NUMBER
    for index, item in enumerate(items):
        kind = kind_of(item)
        if kind not in _ORDERED:
            raise unfit(name, "numbers, texts or times", item, place=f" at index {index}")
        if kind != first:
            raise TemplateRenderError(
                f"`{name}` needs values of one kind, and got {shown(items[0])} at index 0 and"
                f" {shown(item)} at index {index}"
            )


def _is_whole(number: int | float) -> bool:
    return isinstance(number, int) or number.is_integer()


def read_number(name: str, string: str) -> int | float:
    """Read a text that is a decimal number, or raise an error."""
    stripped = string.strip()
    if stripped.isascii() and "_" not in stripped and len(stripped) <= _LONGEST_NUMBER:
        for read in (int, float):
            try:
                number: int | float = read(stripped)
            except ValueError:
                continue
            if isinstance(number, int) or math.isfinite(number):
                return number
    raise unfit(name, "a number, or a text that is one", string)
