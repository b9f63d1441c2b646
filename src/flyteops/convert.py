"""Typed reading of documents: msgspec types from JSON values, with the place of each fault."""

from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from flyteops.document import MAX_PROBLEMS, Document, Path
from flyteops.errors import InputError, Problem
from flyteops.model import JsonValue

T = TypeVar("T")

MAX_KEYS = 100
"""The maximum number of keys that are compared to suggest the intended one."""


@cache
def type_info(kind: type) -> inspect.Type:
    """Return the description of a type. Making one takes a millisecond, so it is kept."""
    return inspect.type_info(kind)


def read(document: Document, kind: type[T], *, null_elements: bool = False) -> T:
    """Return the document as a value of that type; raise `InputError` with all its faults.

    Keys are matched exactly, or else without regard to case, as the clients of Flyte expect;
    unknown keys are ignored; null stands for "not given" for fields that have a default. With
    `null_elements`, null as the element of a list is an empty object or text, as in the original.
    """
    reader = _TypedReader(document, null_elements=null_elements)
    value: JsonValue = None
    with suppress(_TooManyProblemsError):
        info = type_info(kind)  # type: ignore[arg-type]  # every type is hashable
        value = reader.read(document.value, info, ())
    if reader.problems:
        raise InputError("The body does not have the expected form.", problems=reader.problems)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InputError(
            f"The body does not have the expected form: {error}.",
            problems=[Problem("", str(error))],
        ) from error


def kind_of(value: JsonValue) -> str:
    """Return the kind of a JSON value in plain words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return names[type(value)]


MISSING: Any = object()

_PLAIN: dict[type, type] = {inspect.StrType: str, inspect.BoolType: bool, inspect.IntType: int}


class _TooManyProblemsError(Exception):
    pass


class _TypedReader:
    def __init__(self, document: Document, *, null_elements: bool) -> None:
        self._document = document
        self._null_elements = null_elements
        self.problems: list[Problem] = []

    def read(self, value: JsonValue, kind: inspect.Type, path: Path) -> JsonValue:
        bare = kind.type if isinstance(kind, inspect.Metadata) else kind
        match bare:
            case inspect.StructType():
                return self._struct(value, bare, path)
            case inspect.UnionType():
                return self._union(value, bare, path)
            case inspect.DictType():
                if self._expect(value, dict, path):
                    return {
                        key: self._member(item, bare.value_type, (*path, key))
                        for key, item in value.items()
                    }
            case inspect.VarTupleType() | inspect.ListType():
                if self._expect(value, list, path):
                    return [
                        self.read(
                            self._element(item, bare.item_type), bare.item_type, (*path, index)
                        )
                        for index, item in enumerate(value)
                    ]
            case inspect.StrType() | inspect.BoolType() | inspect.IntType():
                self._expect(value, _PLAIN[type(bare)], path)
            case inspect.LiteralType():
                if not (isinstance(value, str) and value in bare.values):
                    self._complain(path, f"must be one of {', '.join(map(str, bare.values))}")
        return value

    def _element(self, value: JsonValue, kind: inspect.Type) -> JsonValue:
        return _empty(kind) if value is None and self._null_elements else value

    def _member(self, value: JsonValue, kind: inspect.Type, path: Path) -> JsonValue:
        """Return a value of a mapping.

        Null is the empty text where text is required, as in the original.
        """
        return (
            ""
            if value is None and isinstance(kind, inspect.StrType)
            else self.read(value, kind, path)
        )

    def _expect(self, value: JsonValue, kind: type, path: Path) -> bool:
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if not fits:
            names: dict[type, str] = {
                dict: "an object",
                list: "a list",
                str: "text",
                bool: "true or false",
                int: "a whole number",
            }
            self._complain(path, f"must be {names[kind]}, not {kind_of(value)}")
        return fits

    def _complain(self, path: Path, message: str) -> None:
        self.problems.append(self._document.problem(path, message))
        if len(self.problems) > MAX_PROBLEMS:
            raise _TooManyProblemsError

    def _union(self, value: JsonValue, kind: inspect.UnionType, path: Path) -> JsonValue:
        if value is None and any(isinstance(option, inspect.NoneType) for option in kind.types):
            return None
        options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
        for option in options:
            if isinstance(option, inspect.StructType | inspect.DictType) == isinstance(value, dict):
                return self.read(value, option, path)
        return self.read(value, options[0], path)

    def _struct(self, value: JsonValue, kind: inspect.StructType, path: Path) -> JsonValue:
        if not self._expect(value, dict, path):
            return value
        folded = {key.casefold(): key for key in reversed(value)}
        known: dict[str, JsonValue] = {}
        for field in kind.fields:
            key = (
                field.encode_name
                if field.encode_name in value
                else folded.get(field.encode_name.casefold())
            )
            given = MISSING if key is None else value[key]
            if given is None and not field.required:
                given = MISSING
            if given is not MISSING:
                known[field.encode_name] = self.read(given, field.type, (*path, key or ""))
            elif field.required:
                self._complain(
                    path,
                    f"{field.encode_name!r} is missing{_instead(field.encode_name, value, kind)}",
                )
        return known


def _empty(kind: inspect.Type) -> JsonValue:
    """Return the value that the original reads from null."""
    if isinstance(kind, inspect.StructType):
        return {}
    return "" if isinstance(kind, inspect.StrType) else None


def _instead(name: str, value: dict[str, JsonValue], kind: inspect.StructType) -> str:
    """Return the unknown keys of a value that may be misspellings of the missing one."""
    fields = {field.encode_name.casefold() for field in kind.fields}
    unknown = {
        key.casefold(): key for key in list(value)[:MAX_KEYS] if key.casefold() not in fields
    }
    near = get_close_matches(name.casefold(), unknown, n=1)
    return f"; the key {unknown[near[0]]!r} is not known, did you mean {name!r}?" if near else ""
