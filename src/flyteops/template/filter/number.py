"""Filters on numbers."""

import math

from flyteops.errors import TemplateRenderError
from flyteops.template.state import RenderState
from flyteops.template.value import (
    NUMBERS,
    LargeInteger,
    float_text,
    length,
    text,
    to_bytes,
    to_float,
    to_int,
    truncate,
)


def as_float(value: object, _argument: object, _state: RenderState) -> float:
    """Read the value as a float."""
    return value if isinstance(value, LargeInteger) else to_float(value)


def as_integer(value: object, _argument: object, _state: RenderState) -> int:
    """Read the value as an integer."""
    return to_int(value)


def get_digit(value: object, argument: object, _state: RenderState) -> object:
    """Return a digit, counted from the right."""
    data, position = to_bytes(text(value)), to_int(argument)
    if position <= 0 or position > len(data):
        return value
    return (data[-position] - 48) & 255


def floatformat(value: object, argument: object, state: RenderState) -> object:
    """Print a number with so many decimals.

    Without decimals if it is integral and the argument is not positive.
    """
    given = to_float(value)
    decimals = -1 if argument is None else to_int(argument)
    if (decimals <= 0 or type(argument) not in NUMBERS) and (float(truncate(given)) == given):
        return to_int(value)
    decimals = abs(decimals)
    state.check_length(decimals)
    if isinstance(value, LargeInteger):
        return f"{value.exact}.{'0' * decimals}" if decimals else str(value.exact)
    return f"{given:.{decimals}f}" if math.isfinite(given) else float_text(given)


def pluralize(value: object, argument: object, _state: RenderState) -> str:
    """Return the ending for one or for many."""
    if type(value) not in NUMBERS:
        raise TemplateRenderError("filter 'pluralize' does only work on numbers")
    endings = text(argument).split(",") if length(argument) else ["s"]
    if len(endings) > 2:
        raise TemplateRenderError("you cannot pass more than 2 arguments to filter 'pluralize'")
    if to_int(value) == 1:
        return endings[0] if len(endings) == 2 else ""
    return endings[-1]


def divisibleby(value: object, argument: object, _state: RenderState) -> bool:
    """Return whether the number can be divided by the argument."""
    divisor = to_int(argument)
    return divisor != 0 and to_int(value) % divisor == 0
