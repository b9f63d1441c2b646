"""The operators, on plain values."""

import math
from collections.abc import Callable
from typing import Any

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.value import (
    LISTS,
    MAPS,
    TEXTS,
    LargeInteger,
    Struct,
    Value,
    element,
    equal,
    exact_number,
    negated,
    text,
    to_float,
    to_int,
    wrap,
)


def add(left: object, right: object) -> object:
    """Add; texts count as numbers."""
    if isinstance(left, float) or isinstance(right, float):
        return to_float(left) + to_float(right)
    return wrap(to_int(left) + to_int(right))


def subtract(left: object, right: object) -> object:
    """Subtract; texts count as numbers."""
    if isinstance(left, float) or isinstance(right, float):
        return to_float(left) - to_float(right)
    return wrap(to_int(left) - to_int(right))


def multiply(left: object, right: object) -> object:
    """Multiply; texts count as numbers."""
    if isinstance(left, float) or isinstance(right, float):
        return to_float(left) * to_float(right)
    return wrap(to_int(left) * to_int(right))


def divide_floats(dividend: float, divisor: float) -> float:
    """Divide as IEEE 754 does, where division by zero is not an error."""
    if divisor:
        return dividend / divisor
    if not dividend or math.isnan(dividend):
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def divide(left: object, right: object) -> object:
    """Divide; two integers give an integer, cut towards zero."""
    if isinstance(left, float) or isinstance(right, float):
        return divide_floats(to_float(left), to_float(right))
    dividend, divisor = to_int(left), to_int(right)
    if not divisor:
        raise TemplateAbort("division by zero")
    quotient = abs(dividend) // abs(divisor)
    return wrap(quotient if (dividend < 0) == (divisor < 0) else -quotient)


def remainder(left: object, right: object) -> int:
    """Return the remainder of an integer division; it has the sign of the left side."""
    dividend, divisor = to_int(left), to_int(right)
    if not divisor:
        raise TemplateAbort("division by zero")
    rest = abs(dividend) % abs(divisor)
    return -rest if dividend < 0 else rest


def power(left: object, right: object) -> float:
    """Raise to a power; the result is always a float."""
    base, exponent = to_float(left), to_float(right)
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        if base:
            return math.nan
        return math.copysign(math.inf, base) if exponent % 2 == 1 else math.inf


def negative(value: Value) -> Value:
    """Change the sign of a number."""
    kind = type(value)
    if kind is float:
        return -value
    if kind is LargeInteger:
        return LargeInteger(-value.exact)
    if kind is int:
        return wrap(-value)
    raise TemplateRenderError("Negative sign on a non-number expression")


def _pair(left: object, right: object) -> tuple[float, float]:
    if type(left) is float or type(right) is float:
        return to_float(left), to_float(right)
    if type(left) is LargeInteger or type(right) is LargeInteger:
        return exact_number(left), exact_number(right)
    return to_int(left), to_int(right)


def less(left: object, right: object) -> bool:
    """Compare as numbers."""
    a, b = _pair(left, right)
    return a < b


def less_equal(left: object, right: object) -> bool:
    """Compare as numbers."""
    a, b = _pair(left, right)
    return a <= b


def greater(left: object, right: object) -> bool:
    """Compare as numbers."""
    a, b = _pair(left, right)
    return a > b


def greater_equal(left: object, right: object) -> bool:
    """Compare as numbers."""
    a, b = _pair(left, right)
    return a >= b


def unequal(left: object, right: object) -> bool:
    """Return whether the values are not `equal`."""
    return not equal(left, right)


def contained(item: Value, container: Value) -> bool:
    """Return whether a text, list, map or struct has the item."""
    kind = type(container)
    if kind in TEXTS:
        return text(item) in container
    if kind in LISTS:
        return any(equal(element(member), item) for member in container)
    if kind in MAPS:
        if type(item) is int:
            raise TemplateAbort("value of type int is not assignable to type string")
        return type(item) in TEXTS and item in container
    return kind is Struct and text(item) in container.fields


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal,
    "!=": unequal,
    "<>": unequal,
    "<": less,
    "<=": less_equal,
    ">": greater,
    ">=": greater_equal,
    "in": contained,
}
SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": add, "-": subtract}
PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {"*": multiply, "/": divide, "%": remainder}
PREFIXES: dict[str, Callable[[Any], Any]] = {"!": negated, "-": negative}
