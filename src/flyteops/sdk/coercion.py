"""Typed reading of plain JSON values: lenient about template output, with all faults at once."""

import collections.abc
import dataclasses
import difflib
import enum
import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import msgspec

from flyteops.errors import InputError, Problem
from flyteops.sdk.conversion import convert, is_model
from flyteops.sdk.function import type_hints

_PLACE = re.compile(r"(.*) - at `(?:key in )?\$(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?(.*)", re.DOTALL)
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "datetime": "a time such as 2024-01-31T12:00:00Z",
    "date": "a date such as 2024-01-31",
    "duration": "a duration such as PT30S",
    "uuid": "a UUID",
}


_LISTS = (
    list,
    set,
    frozenset,
    tuple,
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)

_GOT = {**_WORDS, "int": "a number", "float": "a number"}


class _Field(msgspec.Struct, frozen=True):
    key: str
    kind: Any
    required: bool


# A value of the type, which may be any annotation.
def read(value: object, kind: Any) -> Any:  # noqa: ANN401
    """Convert a value to a type, or raise one `InputError` with a problem for each fault."""
    try:
        return convert(value, kind)
    except msgspec.ValidationError:
        reader = _Reader()
        mended = reader.read(value, kind, "")
        problems = reader.problems
    if not problems:
        try:
            return convert(mended, kind)
        except msgspec.ValidationError:  # faults of the whole that are not faults of a part
            problems = _faults(mended, kind, "")
    raise InputError("; ".join(map(str, problems)), problems=problems)


class _Reader:
    """Walk through a value and its type in parallel, fix known differences, collect the faults."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, value: object, kind: object, path: str) -> object:
        """Return the value in a convertible form; collect problems."""
        kind, may_be_null = _bare(kind)
        if may_be_null and value is None:
            return None
        fields = _fields(kind)
        if fields is not None:
            return self._object(_parsed(value, dict), kind, fields, path)
        element = _element(kind)
        if element is not None and isinstance(items := _parsed(value, list), list):
            return self._whole(
                [self.read(each, element(at), f"{path}[{at}]") for at, each in enumerate(items)],
                kind,
                path,
            )
        member = _value(kind)
        if member is not None and isinstance(items := _parsed(value, dict), dict):
            read = {
                key: self.read(each, member(key), _below(path, key)) for key, each in items.items()
            }
            return self._whole(read, kind, path)
        return self._plain(value, kind, path, may_be_null=may_be_null)

    def _plain(self, value: object, kind: object, path: str, *, may_be_null: bool) -> object:
        if _fits(value, kind):
            return value
        if may_be_null and value == "":
            return None
        for other in _other_readings(value, kind):
            if _fits(other, kind):
                return other
        self.problems.extend(_faults(value, kind, path))
        return value

    def _whole(self, value: object, kind: object, path: str) -> object:
        """Return a value whose parts were read; report its own faults if its parts have none."""
        if not self.problems and not _fits(value, kind):
            self.problems.extend(_faults(value, kind, path))
        return value

    def _object(self, value: object, kind: object, fields: list[_Field], path: str) -> object:
        if not isinstance(value, dict):
            known = ", ".join(each.key if each.required else f"{each.key}?" for each in fields)
            self.problems.append(
                Problem(path, f"must be an object with {known or 'any keys'}, not {_named(value)}")
            )
            return value
        read = dict(value)
        for field in fields:
            place = _below(path, field.key)
            if field.key not in value:
                if field.required:
                    self.problems.append(
                        Problem(
                            place,
                            _missing(field, [key for key in value if key not in _keys(fields)]),
                        )
                    )
            elif value[field.key] == "" and not field.required and not _fits("", field.kind):
                del read[field.key]  # the rendered text of an absent value
            else:
                read[field.key] = self.read(value[field.key], field.kind, place)
        return self._whole(read, kind, path)


def _bare(kind: object) -> tuple[Any, bool]:
    """Return a type without `Annotated` and `| None`, and whether it may be null.

    `None` is removed only if a single type remains.
    """
    if get_origin(kind) is Annotated and _fields(get_args(kind)[0]) is not None:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, kind is type(None)
    others = [each for each in get_args(kind) if each is not type(None)]
    return (others[0] if len(others) == 1 else kind), len(others) < len(get_args(kind))


def _fields(kind: object) -> list[_Field] | None:
    """Return the fields of a type that is read from an object.

    None for others, and for models, which read themselves.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [
            _Field(each.encode_name, each.type, each.required)
            for each in msgspec.structs.fields(kind)
        ]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = type_hints(kind)
        return [
            _Field(each.name, hints[each.name], _is_required(each))
            for each in dataclasses.fields(kind)
            if each.init
        ]
    required = getattr(kind, "__required_keys__", None)
    if required is None:
        return None
    return [
        _Field(key, _without_mark(hint), key in required) for key, hint in type_hints(kind).items()
    ]


def _without_mark(hint: object) -> object:
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _keys(fields: list[_Field]) -> set[str]:
    return {each.key for each in fields}


def _element(kind: object) -> Callable[[int], Any] | None:
    """Return a function from a place in a list to the type of its element.

    None for types that are not lists in JSON.
    """
    kind = _without_constraints(kind)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = type_hints(kind)
        return _at([hints.get(name, Any) for name in kind._fields])
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return _at(arguments)
    if not isinstance(origin, type) or origin not in _LISTS:
        return None
    return lambda _: arguments[0] if arguments else Any


def _at(kinds: Sequence[Any]) -> Callable[[int], Any]:
    return lambda place: kinds[place] if place < len(kinds) else Any


def _value(kind: object) -> Callable[[str], Any] | None:
    """Return a function from a key to the type of its value.

    None for types that are not mappings.
    """
    kind = _without_constraints(kind)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if not isinstance(origin, type) or origin not in _MAPPINGS:
        return None
    return lambda _: arguments[-1] if arguments else Any


def _without_constraints(kind: object) -> object:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _other_readings(value: object, kind: object) -> Iterator[Any]:
    """Yield alternative readings of a value.

    A number for a member, and the readings of a union's types.
    """
    kind = _without_constraints(kind)
    if isinstance(value, str) and (whole := _WHOLE.fullmatch(value)):
        yield whole[1]  # a large integer, as templates print it
    if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        for number in (int, float):
            with suppress(msgspec.ValidationError):
                yield convert(value, number)
    if get_origin(kind) in (Union, types.UnionType):
        for member in get_args(kind):
            reader = _Reader()
            read = reader.read(value, member, "")
            if not reader.problems:
                yield read


def _parsed(value: object, kind: type) -> object:
    """Return the value of a text that is JSON of this kind.

    A template cannot render a list or an object in another way.
    """
    if not isinstance(value, str):
        return value
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    return found if isinstance(found, kind) else value


def _fits(value: object, kind: object) -> bool:
    try:
        convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _faults(value: object, kind: object, path: str) -> list[Problem]:
    try:
        convert(value, kind)
    except msgspec.ValidationError as error:
        told: Any = error.__cause__
        if is_model(kind) and hasattr(told, "errors"):
            return [Problem(_joined(path, each["loc"]), each["msg"]) for each in told.errors()]
        inner = _PLACE.fullmatch(str(error))
        if inner is not None:  # for example in a tuple, or in a union
            return [Problem(f"{path}{inner[2]}".removeprefix("."), _said(inner[1]))]
        return [Problem(path, _told(str(error), value, kind))]
    return []


def _joined(path: str, places: tuple[str | int, ...]) -> str:
    for place in places:
        path = f"{path}[{place}]" if isinstance(place, int) else _below(path, place)
    return path


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _missing(field: _Field, unknown: list[str]) -> str:
    meant = difflib.get_close_matches(field.key, unknown, n=1)
    return f"is missing; is {meant[0]} meant for it?" if meant else "is missing"


def _told(message: str, value: object, kind: object) -> str:
    """Return a message of msgspec in the words of a flow's author.

    Values, which may be secret, are not repeated.
    """
    if get_origin(kind) is Literal:
        return f"must be one of {', '.join(map(str, get_args(kind)))}"
    members = getattr(kind, "__members__", None)
    if members is not None:
        return f"must be one of {', '.join(str(each.value) for each in members.values())}"
    fix = "; put it into quotes" if kind is str and isinstance(value, int | float) else ""
    return _said(message) + fix


def _said(message: str) -> str:
    match = _EXPECTED.fullmatch(message)
    if match is None:
        return message
    expected, got, rest = match.groups()
    wanted = " or ".join(_WORDS.get(each, each) for each in expected.split(" | "))
    return (
        f"must be {wanted}{rest}" if got is None else f"must be {wanted}, not {_GOT.get(got, got)}"
    )


def _named(value: object) -> str:
    name = type(value).__name__
    return _GOT.get({"list": "array", "dict": "object"}.get(name, name), "null")
