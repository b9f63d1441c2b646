"""The values of the language, and how they are printed, compared and written as JSON.

=========  ==========================================================================
null       `None`, also in place of a missing value
boolean    `bool`
number     `int`, exact, and `float`, always finite
text       `str`
list       `list`
map        any `collections.abc.Mapping` whose keys are texts; it may load its items when read
time       `datetime`, aware
=========  ==========================================================================

No other types are allowed. No attribute of an object is ever looked up by a name from a template.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from flyteops.errors import TemplateLimitError, TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.value import clean
from flyteops.timeformat import format_timestamp

Value: TypeAlias = Any
"""One of the types above."""

NULL, BOOLEAN, NUMBER, TEXT, LIST, MAP, TIME = (
    "null",
    "boolean",
    "number",
    "text",
    "list",
    "map",
    "time",
)

MAX_BITS = 3_322
"""The maximum size of an integer: 1,000 digits."""

_KINDS: Mapping[type, str] = {
    type(None): NULL,
    bool: BOOLEAN,
    int: NUMBER,
    float: NUMBER,
    str: TEXT,
    list: LIST,
    dict: MAP,
    datetime: TIME,
}
_WHOLE_FLOAT = 1e16
"""The size below which a whole float prints as an integer."""
_encode = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def kind_of(value: Value) -> str:
    """Return the kind of a value, such as `TEXT`."""
    kind = _KINDS.get(type(value))
    return kind or _unusual_kind(value)


def _unusual_kind(value: Value) -> str:
    for types, kind in (
        (str, TEXT),
        (Mapping, MAP),
        ((list, tuple), LIST),
        (datetime, TIME),
        (int | float, NUMBER),
    ):
        if isinstance(value, types):
            return kind
    raise TemplateRenderError(f"a value of the type {type(value).__name__} cannot be used here")


def described(value: Value) -> str:
    """Return the kind of a value with its article, for messages."""
    kind = kind_of(value)
    return kind if kind == NULL else f"a {kind}"


def truth(value: Value) -> bool:
    """Return whether a value counts as true: neither null, false nor 0, and not empty."""
    return bool(value)


def entries(mapping: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return the keys of a map with their values, in the order of the keys."""
    return [(key, mapping[key]) for key in sorted(mapping)]


# --- text
# --------------------------------------------------------------------------------------------------


def text_of(value: Value, env: Environment) -> str:
    """Return the printed form of a value."""
    if type(value) is str:
        return value
    kind = kind_of(value)
    if kind in (LIST, MAP):
        return json_text(value, env)
    return _scalar_text(value, kind)


def _scalar_text(value: Value, kind: str) -> str:
    if kind == NULL:
        return ""
    if kind == BOOLEAN:
        return "true" if value else "false"
    if kind == TIME:
        return format_timestamp(value)
    return number_text(value) if kind == NUMBER else str(value)


def number_text(number: float) -> str:
    """Return the printed form of a number: the shortest that is read as the same number."""
    return str(_shortest(checked_number(number)))


def _shortest(number: int | float) -> int | float:
    """Return a whole float as an integer, so that it prints without a fraction."""
    if isinstance(number, float) and number.is_integer() and abs(number) < _WHOLE_FLOAT:
        return int(number)
    return number


def checked_number(number: float) -> int | float:
    """Return a number, unless it is too large or no number."""
    fits = number.bit_length() <= MAX_BITS if isinstance(number, int) else math.isfinite(number)
    if not fits:
        raise TemplateRenderError("the result is too large for a number")
    return number


# --- JSON
# --------------------------------------------------------------------------------------------------


def json_text(value: Value, env: Environment) -> str:
    """Return a value as compact JSON with sorted keys, in the form in which it is printed."""
    measure(value, env)
    return env.check_text(_encode(_json(value, shorten=True)))


def to_json(value: Value) -> Value:
    """Return a value as JSON: times become text in the form of RFC 3339, integers stay exact."""
    return _json(value, shorten=False)


def _json(value: Value, *, shorten: bool) -> Value:
    kind = kind_of(value)
    if kind == TEXT:
        return clean(value)
    if kind == NUMBER:
        number = checked_number(value)
        return _shortest(number) if shorten else number
    if kind == LIST:
        return [_json(item, shorten=shorten) for item in value]
    if kind == MAP:
        return {clean(str(key)): _json(item, shorten=shorten) for key, item in value.items()}
    return format_timestamp(value) if kind == TIME else value


def measure(value: Value, env: Environment) -> int:
    """Return roughly the length of a value as JSON; each part costs a step.

    Raise `TemplateLimitError` for a value that is far longer than a result may be. Values can share
    their parts, so that a small one in memory may be endless on paper.
    """
    return _Measure(env).add(value)


class _Measure:
    def __init__(self, env: Environment) -> None:
        self._env = env
        self._length = 0

    def add(self, value: Value) -> int:
        kind = kind_of(value)
        if kind == TEXT:
            self._grow(len(value) + 3)
        elif kind == LIST:
            self._grow(2)
            for item in value:
                self.add(item)
        elif kind == MAP:
            self._grow(2)
            for key, item in value.items():
                self._grow(len(key) + 4)
                self.add(item)
        elif kind == NUMBER and isinstance(value, int):
            self._grow(value.bit_length() // 3 + 2)
        else:
            self._grow(5)
        return self._length

    def _grow(self, length: int) -> None:
        self._length += length
        self._env.spend(1)
        limits = self._env.limits
        if self._length > max(limits.output_length, limits.value_length):
            raise TemplateLimitError(
                f"a list or map is longer than {limits.output_length} characters (limit"
                " output_length); use a part of it"
            )


# --- comparison
# --------------------------------------------------------------------------------------------------


def equal(left: Value, right: Value, env: Environment) -> bool:
    """Return whether two values are equal: of one kind, with the same parts.

    Numbers are compared by value, so that 3 equals 3.0; times by instant.
    """
    kind = kind_of(left)
    if kind != kind_of(right):
        return False
    if kind == LIST:
        env.spend(1)
        return len(left) == len(right) and all(
            equal(a, b, env) for a, b in zip(left, right, strict=True)
        )
    if kind == MAP:
        env.spend(1)
        return len(left) == len(right) and all(
            key in right and equal(item, right[key], env) for key, item in left.items()
        )
    env.spend(1 + (len(left) >> 8) if kind == TEXT else 1)
    return bool(left == right)


def compare(left: Value, right: Value) -> int:
    """Return -1, 0 or 1 as one value is less than, equal to or greater than the other.

    Both must be numbers, texts or times; anything else raises `TemplateRenderError`.
    """
    kind = kind_of(left)
    if kind != kind_of(right) or kind not in (NUMBER, TEXT, TIME):
        raise TemplateRenderError(_unordered(left, right))
    return int(left > right) - int(left < right)


def _unordered(left: Value, right: Value) -> str:
    message = f"cannot order {described(left)} and {described(right)}"
    kinds = {kind_of(left), kind_of(right)}
    if NULL in kinds:
        return f"{message}; give the missing value one with |default(...)"
    if kinds == {NUMBER, TEXT}:
        return f"{message}; convert one with |float, |integer or |string"
    return f"{message}; compare numbers, texts or times with their like"
