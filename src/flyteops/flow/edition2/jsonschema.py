"""Faults of JSON Schemas (draft 2020-12): keywords with values of a wrong form."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flyteops.convert import kind_of
from flyteops.document import MAX_DEPTH, Path
from flyteops.errors import TemplateLimitError
from flyteops.flow.nearest import suggestion
from flyteops.model import JsonValue
from flyteops.template.limit import DEFAULT_LIMITS
from flyteops.template.regexp import RegexpError, compile_pattern

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

Fault = tuple[Path, str]


def schema_faults(schema: JsonValue) -> Iterator[Fault]:
    """Yield the faults of a JSON Schema, each with its path."""
    waiting: list[tuple[Path, JsonValue]] = [((), schema)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, bool):
            continue
        if not isinstance(value, dict):
            yield path, f"must be a JSON Schema, an object or true or false, not {kind_of(value)}"
            continue
        for key, item in value.items():
            keyword = KEYWORDS.get(key)
            if keyword is not None:
                for below, message in keyword(item):
                    yield (*path, key, *below), message
            elif key in PARTS:
                faults, parts = PARTS[key](item)
                yield from (((*path, key), message) for message in faults)
                if len(path) < MAX_DEPTH:
                    waiting += [((*path, key, *below), part) for below, part in parts]
            else:
                yield from _unknown(key, (*path, key))


def _unknown(key: str, path: Path) -> Iterator[Fault]:
    """Yield a fault for a keyword that is probably misspelt; others are annotations."""
    near = suggestion(key, (*KEYWORDS, *PARTS))
    if near and not key.startswith("x-"):
        yield path, f"the keyword {key[:40]!r} is not known{near}"


Keyword = Callable[[JsonValue], Iterator[Fault]]


def _of(kind: type, noun: str, check: Callable[[Any], bool] = lambda _: True) -> Keyword:
    def faults(value: JsonValue) -> Iterator[Fault]:
        is_bool = isinstance(value, bool) and kind is not bool
        if is_bool or not isinstance(value, kind) or not check(value):
            yield (), f"must be {noun}"

    return faults


def _number(noun: str = "a number", *, above: float | None = None) -> Keyword:
    def faults(value: JsonValue) -> Iterator[Fault]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (above is not None and value <= above):
            yield (), f"must be {noun}"

    return faults


def _types(value: JsonValue) -> Iterator[Fault]:
    names = value if isinstance(value, list) else [value]
    for index, name in enumerate(names):
        if name not in TYPES:
            below: Path = (index,) if isinstance(value, list) else ()
            near = suggestion(name, TYPES) if isinstance(name, str) else ""
            yield below, f"must be one of {', '.join(TYPES)}{near}"
    if isinstance(value, list) and not value:
        yield (), "must not be empty"


def _names(value: JsonValue) -> Iterator[Fault]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        yield (), "must be a list of texts"
    elif len(set(value)) < len(value):
        yield (), "must not hold the same text twice"


def _names_by_key(value: JsonValue) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield (), "must be an object"
        return
    for key, item in value.items():
        yield from (((key, *below), message) for below, message in _names(item))


def _pattern(value: JsonValue) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield (), "must be text, a regular expression"
        return
    try:
        compile_pattern(value, DEFAULT_LIMITS)
    except (RegexpError, TemplateLimitError) as error:
        yield (), f"is not a regular expression: {error}"


def _anything(_: JsonValue) -> Iterator[Fault]:
    yield from ()


_SIZE = _of(int, "a whole number from 0", lambda value: value >= 0)
_TEXT = _of(str, "text")
_FLAG = _of(bool, "true or false")

KEYWORDS: Mapping[str, Keyword] = {
    "$schema": _TEXT,
    "$id": _TEXT,
    "$ref": _TEXT,
    "$anchor": _TEXT,
    "$dynamicRef": _TEXT,
    "$dynamicAnchor": _TEXT,
    "$comment": _TEXT,
    "$vocabulary": _of(dict, "an object"),
    "title": _TEXT,
    "description": _TEXT,
    "format": _TEXT,
    "contentEncoding": _TEXT,
    "contentMediaType": _TEXT,
    "default": _anything,
    "examples": _of(list, "a list"),
    "const": _anything,
    "enum": _of(list, "a list"),
    "type": _types,
    "required": _names,
    "dependentRequired": _names_by_key,
    "pattern": _pattern,
    "multipleOf": _number("a number greater than 0", above=0),
    "minimum": _number(),
    "maximum": _number(),
    "exclusiveMinimum": _number(),
    "exclusiveMaximum": _number(),
    "minLength": _SIZE,
    "maxLength": _SIZE,
    "minItems": _SIZE,
    "maxItems": _SIZE,
    "minContains": _SIZE,
    "maxContains": _SIZE,
    "minProperties": _SIZE,
    "maxProperties": _SIZE,
    "uniqueItems": _FLAG,
    "deprecated": _FLAG,
    "readOnly": _FLAG,
    "writeOnly": _FLAG,
}
"""The keywords that hold no schemas, with the check of their values."""

Parts = tuple[list[str], list[tuple[Path, JsonValue]]]


def _one(value: JsonValue) -> Parts:
    return [], [((), value)]


def _by_key(value: JsonValue) -> Parts:
    if not isinstance(value, dict):
        return [f"must be an object with a schema for each key, not {kind_of(value)}"], []
    return [], [((key,), item) for key, item in value.items()]


def _by_pattern(value: JsonValue) -> Parts:
    faults, parts = _by_key(value)
    for (key, *_), _part in parts:
        faults += [f"the key {key!r} {message}" for _, message in _pattern(key)]
    return faults, parts


def _several(value: JsonValue) -> Parts:
    if not isinstance(value, list) or not value:
        return ["must be a list of at least one schema"], []
    return [], [((index,), item) for index, item in enumerate(value)]


PARTS: Mapping[str, Callable[[JsonValue], Parts]] = {
    "$defs": _by_key,
    "definitions": _by_key,
    "properties": _by_key,
    "patternProperties": _by_pattern,
    "dependentSchemas": _by_key,
    "allOf": _several,
    "anyOf": _several,
    "oneOf": _several,
    "prefixItems": _several,
    "not": _one,
    "if": _one,
    "then": _one,
    "else": _one,
    "items": _one,
    "contains": _one,
    "additionalProperties": _one,
    "propertyNames": _one,
    "unevaluatedItems": _one,
    "unevaluatedProperties": _one,
    "contentSchema": _one,
}
"""The keywords that hold schemas, with the way to them."""
