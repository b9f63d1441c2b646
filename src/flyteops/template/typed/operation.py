"""The operators, on values."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import (
    LIST,
    MAP,
    MAX_BITS,
    NULL,
    NUMBER,
    TEXT,
    TIME,
    Value,
    checked_number,
    compare,
    described,
    equal,
    kind_of,
)

Operator = Callable[[Value, Value, Environment], Value]

_TOO_LARGE = "the result is too large for a number"


def _refused(action: str, left: Value, right: Value) -> TemplateRenderError:
    kinds = {kind_of(left), kind_of(right)}
    hint = ""
    if NULL in kinds:
        hint = "; give the missing value one with |default(...)"
    elif action == "add" and TEXT in kinds:
        hint = "; join them as text with ~"
    elif NUMBER in kinds and TEXT in kinds:
        hint = "; convert the text with |integer or |float"
    return TemplateRenderError(f"cannot {action} {described(left)} and {described(right)}{hint}")


def _calculated(calculate: Callable[[], float]) -> int | float:
    try:
        return checked_number(calculate())
    except OverflowError:
        raise TemplateRenderError(_TOO_LARGE) from None
    except ZeroDivisionError:
        raise TemplateRenderError(
            "division by zero; check the divisor with 'a / b if b else 0'"
        ) from None


def _are_numbers(left: Value, right: Value) -> bool:
    return kind_of(left) == NUMBER and kind_of(right) == NUMBER


def add(left: Value, right: Value, env: Environment) -> Value:
    """Add numbers, join texts or lists, or move a time by seconds."""
    kind, other = kind_of(left), kind_of(right)
    if kind == other == NUMBER:
        return _calculated(lambda: left + right)
    if kind == other == TEXT:
        env.check_length(len(left) + len(right))
        return left + right
    if kind == other == LIST:
        env.check_count(len(left) + len(right))
        return [*left, *right]
    if kind == TIME and other == NUMBER:
        return _moved(left, right)
    raise _refused("add", left, right)


def _moved(time: datetime, seconds: float) -> datetime:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        raise TemplateRenderError("the time is before year 1 or after year 9999") from None


def subtract(left: Value, right: Value, _env: Environment) -> Value:
    """Subtract numbers; two times give seconds, and a time is moved by seconds."""
    kind, other = kind_of(left), kind_of(right)
    if kind == other == NUMBER:
        return _calculated(lambda: left - right)
    if kind == other == TIME:
        return _seconds(left - right)
    if kind == TIME and other == NUMBER:
        return _moved(left, -right)
    raise _refused("subtract", left, right)


def _seconds(duration: timedelta) -> int | float:
    whole, rest = divmod(duration, timedelta(seconds=1))
    return duration.total_seconds() if rest else whole


def multiply(left: Value, right: Value, _env: Environment) -> Value:
    """Multiply numbers."""
    if not _are_numbers(left, right):
        raise _refused("multiply", left, right)
    is_exact = isinstance(left, int) and isinstance(right, int)
    if is_exact and left.bit_length() + right.bit_length() > MAX_BITS + 1:
        raise TemplateRenderError(_TOO_LARGE)
    return _calculated(lambda: left * right)


def divide(left: Value, right: Value, _env: Environment) -> Value:
    """Divide numbers; integers that divide without a rest give an integer."""
    if not _are_numbers(left, right):
        raise _refused("divide", left, right)
    if isinstance(left, int) and isinstance(right, int) and right and not left % right:
        return left // right
    return _calculated(lambda: left / right)


def divide_whole(left: Value, right: Value, _env: Environment) -> Value:
    """Divide numbers, rounding down."""
    if not _are_numbers(left, right):
        raise _refused("divide", left, right)
    return _calculated(lambda: left // right)


def remainder(left: Value, right: Value, _env: Environment) -> Value:
    """Return the remainder of a division, with the sign of the divisor."""
    if not _are_numbers(left, right):
        raise _refused("divide", left, right)
    return _calculated(lambda: left % right)


def negative(value: Value) -> Value:
    """Change the sign of a number."""
    if kind_of(value) != NUMBER:
        raise TemplateRenderError(f"{described(value)} has no sign; only numbers have one")
    return -value


def contained(item: Value, container: Value, env: Environment) -> bool:
    """Return whether a text has a part, a list an item or a map a key; null has nothing."""
    kind = kind_of(container)
    if kind == NULL:
        return False
    if kind == TEXT:
        if kind_of(item) != TEXT:
            raise TemplateRenderError(
                f"cannot search a text for {described(item)}; convert it with |string"
            )
        env.spend(len(container) >> 6)
        return item in container
    if kind == LIST:
        return any(equal(each, item, env) for each in container)
    if kind == MAP:
        return kind_of(item) == TEXT and item in container
    raise TemplateRenderError(f"'in' needs a text, a list or a map, not {described(container)}")


COMPARISONS: Mapping[str, Operator] = MappingProxyType(
    {
        "==": equal,
        "!=": lambda left, right, env: not equal(left, right, env),
        "<": lambda left, right, _env: compare(left, right) < 0,
        "<=": lambda left, right, _env: compare(left, right) <= 0,
        ">": lambda left, right, _env: compare(left, right) > 0,
        ">=": lambda left, right, _env: compare(left, right) >= 0,
        "in": contained,
        "not in": lambda left, right, env: not contained(left, right, env),
    }
)
SUMS: Mapping[str, Operator] = MappingProxyType({"+": add, "-": subtract})
PRODUCTS: Mapping[str, Operator] = MappingProxyType(
    {"*": multiply, "/": divide, "//": divide_whole, "%": remainder}
)


class Missing:
    """The type of `MISSING`."""


MISSING = Missing()
"""The result of reading a part that a value does not have; it is null as soon as it is used."""


def member(value: Value, key: Value, *, strict: bool) -> Value:
    """Return a part of a map or list, a character of a text, or `MISSING`.

    A part of null is missing. `strict` refuses keys that cannot fit, which are missing otherwise.
    """
    kind = kind_of(value)
    if kind == NULL:
        return MISSING
    if kind == MAP and kind_of(key) == TEXT:
        return value.get(key, MISSING)
    if kind in (LIST, TEXT) and type(key) is int:
        return value[key] if -len(value) <= key < len(value) else MISSING
    if strict:
        raise TemplateRenderError(_about_member(kind, key))
    return MISSING


def _about_member(kind: str, key: Value) -> str:
    if kind == MAP:
        return f"the keys of a map are texts, not {described(key)}; convert it with |string"
    if kind_of(key) == TEXT:
        shown = repr(key[:40])
        hints = {
            LIST: f"; read an item with [0], or all with |map({shown})",
            TIME: "; use the filter date",
        }
        return f"a {kind} has no part {shown}{hints.get(kind, '')}"
    if kind in (LIST, TEXT):
        return f"the index of a {kind} must be an integer, not {described(key)}"
    return f"a {kind} has no parts"
