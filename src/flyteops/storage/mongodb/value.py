"""Conversion of JSON to BSON and back.

The original keeps payloads and inputs as BSON values, so other programs expect these. Not every
JSON text survives that letter by letter: `1.0`, spaces, numbers beyond 64 bits, keys that begin
with a dollar sign. Such a text is kept in addition, and takes precedence.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec
from bson import Decimal128
from bson.datetime_ms import DatetimeMS

from flyteops.storage.mongodb.driver import Value
from flyteops.timeformat import format_timestamp

DEEPEST = 60
"""The maximum nesting in BSON, whose bound is 100 for a document; deeper values become text."""

MAX_INT64, MIN_INT64 = 2**63 - 1, -(2**63)

WHOLE = 1e21
"""Below this, a float without a fraction is written as a whole number, as in Go."""


class StoredValue(NamedTuple):
    """A value as BSON, and its exact text; None when the value alone determines it."""

    value: Value
    exact: str | None


def of_json(text: bytes) -> StoredValue:
    """Return the stored form of a JSON text."""
    exact = text.decode(errors="surrogateescape")
    try:
        value = to_bson(msgspec.json.decode(text))
    except (msgspec.MsgspecError, RecursionError):
        return StoredValue(None, exact)  # JSON that this parser refuses, such as 1e400
    return StoredValue(value, None if to_json(value) == text else exact)


def json_of(value: Value, exact: str | None) -> bytes:
    """Return the JSON text that was kept."""
    return to_json(value) if exact is None else exact.encode(errors="surrogateescape")


def of_strings(strings: Mapping[str, str]) -> StoredValue:
    """Return the stored form of labels or a context."""
    value = to_bson(strings)
    return StoredValue(value, None if value == strings else msgspec.json.encode(strings).decode())


def strings_of(value: Value, exact: str | None) -> dict[str, str]:
    """Return labels or a context; values other than text become JSON."""
    if exact is not None:
        return msgspec.json.decode(exact, type=dict[str, str])
    if not isinstance(value, dict):
        return {}
    return {
        key: each if isinstance(each, str) else to_json(each).decode()
        for key, each in value.items()
    }


def to_json(value: Value) -> bytes:
    """Return a BSON value as compact JSON."""
    return msgspec.json.encode(from_bson(value))


def to_bson(value: Value, depth: int = 0) -> Value:
    """Return the nearest BSON value for a JSON value."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if MIN_INT64 <= value <= MAX_INT64 else _float(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth >= DEEPEST:
        return msgspec.json.encode(value).decode()
    if isinstance(value, list):
        return [to_bson(each, depth + 1) for each in value]
    return {_key(key): to_bson(each, depth + 1) for key, each in value.items()}


def _key(key: str) -> str:
    """Return a key as MongoDB accepts it.

    NULs are replaced, and a leading dollar sign, which would be an operator, becomes a wide one.
    """
    key = key.replace("\0", "\u2400")
    return f"\uff04{key[1:]}" if key.startswith("$") else key


def _float(value: int) -> float | str:
    try:
        return float(value)
    except OverflowError:
        return str(value)


def from_bson(value: Value) -> Value:
    """Return the JSON value of a BSON value, including types that only other programs write."""
    if isinstance(value, dict):
        return {key: from_bson(each) for key, each in value.items()}
    if isinstance(value, list):
        return [from_bson(each) for each in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(value)
    return _foreign(value)


def _number(value: float) -> int | float | None:
    # Only NaN differs from itself.
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124
        return None
    return int(value) if value.is_integer() and abs(value) < WHOLE else value


def _foreign(value: Value) -> Value:
    if isinstance(value, datetime):
        return format_timestamp(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal128):
        return _number(float(value.to_decimal()))
    if isinstance(value, DatetimeMS):
        return int(value)
    return str(value)
