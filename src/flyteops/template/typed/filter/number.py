"""Filters of numbers; integers stay exact."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.operand import (
    check_order,
    is_number,
    need_integer,
    need_list,
    need_number,
    need_text,
    read_number,
    unfit,
)
from flyteops.template.typed.value import LIST, TEXT, Value, checked_number, kind_of, number_text

_EXACT = Context(prec=1_100, rounding=ROUND_HALF_UP)
"""Enough digits for the whole part and the decimals of any float."""
_MOST_DECIMALS = 300
_ENDINGS = "endings such as 's' or 'y,ies' as its argument"


def total(value: Value, *, env: Environment) -> int | float:
    """Add up a list of numbers; nothing is 0."""
    if value is None:
        return 0
    items = need_list("sum", value, env)
    for index, item in enumerate(items):
        if not is_number(item):
            raise unfit("sum", "a list of numbers", item, place=f" at index {index}")
    if all(isinstance(item, int) for item in items):
        return checked_number(sum(items))
    try:
        return math.fsum(items)
    except OverflowError:
        raise TemplateRenderError("`sum` gives a number that is too large") from None


def least(value: Value, *, env: Environment) -> Value:
    """Return the least item of a list; null when it is empty."""
    items = _ordered("min", value, env)
    return min(items) if items else None


def most(value: Value, *, env: Environment) -> Value:
    """Return the greatest item of a list; null when it is empty."""
    items = _ordered("max", value, env)
    return max(items) if items else None


def _ordered(name: str, value: Value, env: Environment) -> Sequence[Value]:
    if value is None:
        return []
    items = need_list(name, value, env)
    check_order(name, items)
    return items


def rounded(value: Value, decimals: Value = 0, *, env: Environment) -> int | float | None:
    """Round to so many decimals; halves go away from zero. Without decimals, to an integer."""
    digits = need_integer("round", decimals)
    if abs(digits) > _MOST_DECIMALS:
        raise unfit("round", f"at most {_MOST_DECIMALS} decimals", decimals)
    if value is None:
        return None
    number = need_number("round", value)
    env.spend(1)
    if digits <= 0 and number == int(number):
        return _round_integer(int(number), 10**-digits)
    if isinstance(number, int):
        return number
    unit = Decimal(1).scaleb(-digits)
    result = Decimal(repr(number)).quantize(unit, context=_EXACT)
    return float(result) if digits > 0 else int(result)


def _round_integer(number: int, unit: int) -> int:
    size = (abs(number) + unit // 2) // unit * unit
    return -size if number < 0 else size


def absolute(value: Value, *, env: Environment) -> int | float | None:
    """Return a number without its sign."""
    return None if value is None else abs(need_number("abs", value))


def as_integer(value: Value, *, env: Environment) -> int | None:
    """Read a number, or a text that is one, as an integer; decimals are cut off."""
    number = _read("integer", value, env)
    return None if number is None else int(number)


def as_float(value: Value, *, env: Environment) -> float | None:
    """Read a number, or a text that is one, as a floating point number."""
    number = _read("float", value, env)
    try:
        return None if number is None else float(number)
    except OverflowError:
        raise unfit("float", "a number that fits into 64 bits", value) from None


def _read(name: str, value: Value, env: Environment) -> int | float | None:
    if value is None:
        return None
    env.spend(1)
    if kind_of(value) == TEXT:
        return read_number(name, value)
    return need_number(name, value, "a number, or a text that is one")


def floatformat(value: Value, decimals: Value = -1, *, env: Environment) -> str | None:
    """Print a number with so many decimals.

    With a negative number of decimals, whole numbers print without any.
    """
    given = need_integer("floatformat", decimals)
    if abs(given) > _MOST_DECIMALS:
        raise unfit("floatformat", f"at most {_MOST_DECIMALS} decimals", decimals)
    if value is None:
        return None
    number = need_number("floatformat", value)
    if given < 0 and number == int(number):
        number, given = int(number), 0
    env.check_length(abs(given))
    if isinstance(number, int):
        return number_text(number) + ("." + "0" * abs(given) if given else "")
    return str(Decimal(repr(number)).quantize(Decimal(1).scaleb(-abs(given)), context=_EXACT))


def divisibleby(value: Value, divisor: Value, *, env: Environment) -> bool:
    """Return whether an integer can be divided by another."""
    by = need_integer("divisibleby", divisor)
    if not by:
        raise TemplateRenderError("`divisibleby` cannot divide by 0")
    return value is not None and need_integer("divisibleby", value, "an integer") % by == 0


def get_digit(value: Value, position: Value, *, env: Environment) -> int | None:
    """Return a digit of an integer, counted from the right; the integer if it has fewer."""
    place = need_integer("get_digit", position)
    if value is None:
        return None
    number = need_integer("get_digit", value, "an integer")
    env.spend(1)
    digits = number_text(abs(number))
    return int(digits[-place]) if 0 < place <= len(digits) else number


def pluralize(value: Value, endings: Value = "s", *, env: Environment) -> str | None:
    """Return the ending for one or for many, of a number or of the items of a list."""
    words = need_text("pluralize", endings, _ENDINGS).split(",")
    if len(words) > 2:
        raise unfit("pluralize", _ENDINGS, endings)
    if value is None:
        return None
    is_list = kind_of(value) == LIST
    count = len(value) if is_list else need_number("pluralize", value, "a number or a list")
    singular = words[0] if len(words) == 2 else ""
    return singular if count == 1 else words[-1]
