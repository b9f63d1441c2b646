"""The values of the language: Go's, as far as a template can observe the difference.

====================  =========================================================================
in Go                 here
====================  =========================================================================
nil, bool, string     `None`, `bool`, `str` (bytes that are not UTF-8 as `surrogateescape` does)
int, uint8            `int`
float64               `float`; an `int` inside a `dict` or `list` is a JSON number, hence a float
                      (a `LargeInteger`, which knows its digits, from 2^53 on)
[]interface {}        `list`
[]string              `Strings`
map[string]...        `dict`; map[string]string is a `LabelsValue`
struct, time.Time     `Struct`, `Time`
function              `Function`
====================  =========================================================================

No other types are allowed, and no attribute of any object is ever looked up by a name from a
template.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.gotime import Time

Value: TypeAlias = Any
"""A value whose kind has been looked up: `go_kind` and the tables below tell types apart where
`isinstance` does not.
"""

_MAX_NUMBER_LENGTH = 1_000
"""Longer texts are never numbers, so that arithmetic on texts stays cheap."""
MIN_INT64 = -(2**63)
_WRAP = 2**64
_LARGE = 2**53
"""Every integer below is a float64, and no other integer rounds to it."""
_WHOLE = re.compile("[+-]?[0-9]+")
_GO_FLOAT = re.compile(
    r"[+-]?(?:(?P<hex>0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+)"
    r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)"
)
_UNDERSCORE_MISPLACED = re.compile(r"(?<![0-9a-fA-FxX])_|_(?![0-9a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_NUMBERS = {
    sign + name: (-math.inf if sign == "-" else math.inf)
    for sign in ("", "+", "-")
    for name in ("inf", "infinity")
} | {"nan": math.nan}


class SafeText(str):
    """Text that autoescape does not change."""

    __slots__ = ()


class LargeInteger(float):
    """A JSON integer of 2^53 or more, such as many an id: several of them share a float64.

    It is a float64 for arithmetic and for its type, as in Go. Where its digits can be seen (in a
    text, an integer, or next to an integer in a comparison) they are `exact`, which Go loses.
    """

    __slots__ = ("exact",)

    exact: int

    def __new__(cls, exact: int) -> "LargeInteger":
        """Raise `OverflowError` for an integer that is larger than any float64."""
        value = super().__new__(cls, exact)
        value.exact = exact
        return value


class Strings(tuple[str, ...]):
    """A list that Go types as strings, which `sorted` can therefore sort."""

    __slots__ = ()


class LabelsValue(dict[str, str]):
    """A map that Go types as strings to strings."""

    __slots__ = ()


class Struct:
    """A Go struct: a closed set of named fields.

    `comparable` is whether Go compares two of them with `==` (by identity here, as all of these are
    pointers) or panics.
    """

    __slots__ = ("comparable", "fields", "type_name")

    def __init__(self, type_name: str, fields: dict[str, Any], *, comparable: bool = False) -> None:
        self.type_name = type_name
        self.fields = fields
        self.comparable = comparable


class Cycle:
    """The value of `{% cycle ... as name %}`: it prints its current text and can be advanced.

    `advance` is given the state of the rendering, which is a layer above this module.
    """

    __slots__ = ("advance", "value")

    def __init__(self, value: object, advance: Callable[[Any], tuple[Any, bool]]) -> None:
        self.value = value
        self.advance = advance


class Function:
    """A function that a template can call.

    `parameters` are Go type names, checked before `call` runs; None leaves the arguments to `call`.
    """

    __slots__ = ("call", "name", "parameters")

    def __init__(
        self, name: str, parameters: tuple[str, ...] | None, call: "Callable[..., Any]"
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.call = call


# --- kinds
# --------------------------------------------------------------------------------------------------

_GO_TYPES: dict[type, str] = {
    type(None): "<nil>",
    bool: "bool",
    int: "int",
    float: "float64",
    LargeInteger: "float64",
    str: "string",
    SafeText: "string",
    list: "[]interface {}",
    Strings: "[]string",
    dict: "map[string]interface {}",
    LabelsValue: "map[string]string",
    Time: "time.Time",
    Function: "func",
    Cycle: "pongo2.tagCycleValue",
}
_GO_KINDS: dict[type, str] = {
    type(None): "invalid",
    bool: "bool",
    int: "int",
    float: "float64",
    LargeInteger: "float64",
    str: "string",
    SafeText: "string",
    list: "slice",
    Strings: "slice",
    dict: "map",
    LabelsValue: "map",
    Function: "func",
}
KNOWN = frozenset([*_GO_TYPES, Struct])
ELEMENTS = KNOWN - {int}
"""The types that `element` returns unchanged."""
LISTS = frozenset([list, Strings])
MAPS = frozenset([dict, LabelsValue])
TEXTS = frozenset([str, SafeText])
FLOATS = frozenset([float, LargeInteger])
NUMBERS = FLOATS | {int}


def go_type(value: object) -> str:
    """Return the Go name of a value's type."""
    return value.type_name if type(value) is Struct else _GO_TYPES.get(type(value), "unknown")


def go_kind(value: object) -> str:
    """Return the Go name of a value's kind."""
    return _GO_KINDS.get(type(value), "struct")


# --- from JSON
# --------------------------------------------------------------------------------------------------


def number(value: int) -> float:
    """Turn a JSON number into a float64, as decoding JSON in Go does, without loss of digits."""
    if -_LARGE < value < _LARGE:
        return float(value)
    try:
        return LargeInteger(value)
    except OverflowError:
        raise TemplateRenderError("a number is too large for a 64 bit float") from None


def element(value: Value) -> Value:
    """Return an element of a map, a list or a context as a value of the language."""
    kind = type(value)
    if kind is int:
        return number(value)
    return value if kind in KNOWN else from_json(value)


def from_json(value: Value) -> Value:
    """Return a JSON value with every number a float.

    Wrappers such as `event_value` pass unchanged.
    """
    kind = type(value)
    if kind is int:
        return number(value)
    if kind is dict:
        return {key: from_json(item) for key, item in value.items()}
    if kind is list:
        return [from_json(item) for item in value]
    return value if kind in KNOWN else _from_foreign(value)


def _from_foreign(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): from_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [from_json(item) for item in value]
    if isinstance(value, int):
        return number(int(value))
    if isinstance(value, float):
        return float(value)
    raise TemplateRenderError(
        f"a value of type {type(value).__name__} cannot be used in a template"
    )


# --- text
# --------------------------------------------------------------------------------------------------


def float_text(value: float) -> str:
    """Print a float as C's `%f` does, infinities as Go does."""
    if type(value) is LargeInteger:
        return f"{value.exact}.000000"
    if math.isfinite(value):
        return f"{value:f}"
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


_TEXT: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "",
    bool: lambda value: "True" if value else "False",
    int: str,
    float: float_text,
    LargeInteger: float_text,
    SafeText: str.__str__,
    Time: str,
    Cycle: lambda value: text(value.value),
}


def text(value: Value) -> str:
    """Print a value."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    printer = _TEXT.get(kind)
    return printer(value) if printer else f"<{go_type(value)} Value>"


def to_bytes(string: str) -> bytes:
    """Encode a text, restoring exactly the bytes given to `from_bytes`."""
    try:
        return string.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that stands for no byte: Go would have read U+FFFD when it decoded the JSON.
        return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", string).encode(
            "utf-8", "surrogateescape"
        )


def from_bytes(data: bytes) -> str:
    """Decode bytes without loss, even if they are not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def joined(string: str) -> str:
    """Recombine bytes that were printed one by one into characters where they form one."""
    return (
        string
        if string.isascii() or not _SURROGATE.search(string)
        else from_bytes(to_bytes(string))
    )


def clean(string: str) -> str:
    """Return text that is valid Unicode, with U+FFFD in place of every byte that is not UTF-8."""
    if string.isascii() or not _SURROGATE.search(string):
        return string
    return _SURROGATE.sub("\ufffd", from_bytes(to_bytes(string)))


# --- truth, length, numbers
# -------------------------------------------------------------------------------------------


def truth(value: Value) -> bool:
    """Return whether a value counts as true."""
    kind = type(value)
    if kind is bool:
        return value  # type: ignore[no-any-return]
    return kind is not Function and (kind in (Struct, Time, Cycle) or bool(value))


def negated(value: object) -> object:
    """Return `not value`, which keeps the type of a number."""
    kind = type(value)
    if kind is int:
        return 0 if value else 1
    if kind in FLOATS:
        return 0.0 if value else 1.1
    return not truth(value)


def length(value: Value) -> int:
    """Count characters, items or entries; any other value has length 0."""
    kind = type(value)
    return len(value) if kind in TEXTS or kind in LISTS or kind in MAPS else 0


def wrap(value: int) -> int:
    """Wrap an integer to 64 bits as Go's arithmetic does."""
    return value if -(2**63) <= value < 2**63 else (value + 2**63) % _WRAP - 2**63


def parse_float(string: str) -> float:
    """Read a number as Go's strconv.ParseFloat does; an invalid one is 0."""
    if len(string) > _MAX_NUMBER_LENGTH:
        return 0.0
    match = _GO_FLOAT.fullmatch(string)
    if match is None:
        return _NOT_NUMBERS.get(string.lower(), 0.0)
    if "_" in string:
        if _UNDERSCORE_MISPLACED.search(string):
            return 0.0
        string = string.replace("_", "")
    try:
        value = float.fromhex(string) if match["hex"] else float(string)
    except (ValueError, OverflowError):
        return 0.0
    return value if math.isfinite(value) else 0.0


def truncate(value: float) -> int:
    """Turn a float into an int64; one out of range becomes the smallest one."""
    return int(value) if -(2.0**63) <= value < 2.0**63 else MIN_INT64


def to_float(value: Value) -> float:
    """Read any value as a float."""
    kind = type(value)
    if kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is LargeInteger:
        return float(value)
    return parse_float(value) if kind in TEXTS else 0.0


def to_int(value: Value) -> int:
    """Read any value as an integer."""
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is float:
        return truncate(value)
    if kind is LargeInteger:
        return _in_range(value.exact, value)
    return _text_to_int(value) if kind in TEXTS else 0


def _text_to_int(string: str) -> int:
    value = parse_float(string)
    if abs(value) < _LARGE or not _WHOLE.fullmatch(string):
        return truncate(value)
    return _in_range(int(string), value)


def _in_range(exact: int, value: float) -> int:
    return exact if MIN_INT64 <= exact < -MIN_INT64 else truncate(value)


def exact_number(value: Value) -> int | float:
    """Read any value as a number, integers with all their digits."""
    kind = type(value)
    if kind is LargeInteger:
        return value.exact  # type: ignore[no-any-return]
    return value if kind is int else to_float(value)


# --- equality
# --------------------------------------------------------------------------------------------------


def equal(left: Value, right: Value) -> bool:
    """Compare as Go's interface values compare: same type and same value.

    Raise TemplateAbort for two maps, lists or structs of one type, which Go cannot compare.
    """
    kind, other = type(left), type(right)
    if kind is not other:
        if kind in FLOATS and other in FLOATS:
            return float.__eq__(left, right)
        return kind in TEXTS and other in TEXTS and str.__eq__(left, right)
    if kind is LargeInteger:
        return bool(left.exact == right.exact)
    if kind is Struct and left.type_name != right.type_name:
        return False
    if (
        kind in MAPS
        or kind in LISTS
        or kind is Function
        or (kind is Struct and not left.comparable)
    ):
        raise TemplateAbort(f"comparing uncomparable type {go_type(left)}")
    if kind is Time:
        return bool(left == right and left.offset == right.offset)
    return bool(left == right)
