"""Paths of names: `Event.Payload.items.0` and calls such as `datastore('teams').lead`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.template.gotime import Time
from flyteops.template.source import located
from flyteops.template.state import RenderState
from flyteops.template.timemethod import METHODS
from flyteops.template.value import (
    ELEMENTS,
    LISTS,
    MAPS,
    NUMBERS,
    TEXTS,
    Function,
    Struct,
    Value,
    element,
    go_kind,
    go_type,
    to_bytes,
)

Evaluate = Callable[[RenderState], Any]

Peek = Callable[[Mapping[str, Any]], str | None]
"""Returns the text at a path of a context.

None if only an `Evaluate` can determine the value, or that it is an error.
"""

_MISSING = object()
_ARGUMENT_TYPES: dict[str, frozenset[type]] = {
    "string": TEXTS,
    "int": frozenset([int]),
    "map[string]interface {}": frozenset([dict]),
    "time.Time": frozenset([Time]),
}


@dataclass(slots=True)
class PathPart:
    """One part of a path: a name or an index; it is a call if `arguments` is not None."""

    name: str | int
    arguments: list[Evaluate] | None = None


def invoke(function: Function, arguments: list[Any], state: RenderState, path: str) -> Value:
    """Call a function of a template after checking its arguments as strictly as Go does."""
    parameters = function.parameters
    if parameters is not None:
        if len(parameters) != len(arguments):
            raise TemplateRenderError(
                f"Function input argument count ({len(parameters)}) of '{path}' must be equal to"
                f" the calling argument count ({len(arguments)})."
            )
        for position, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
            if type(argument) not in _ARGUMENT_TYPES.get(parameter, (type(argument),)):
                raise TemplateRenderError(
                    f"Function input argument {position} of '{path}' must be of type {parameter} or"
                    f" *pongo2.Value (not {go_type(argument)})."
                )
    return function.call(state, arguments)


def _field(value: Value, name: str, path: str) -> Value:
    kind = type(value)
    if kind in MAPS:
        return element(value.get(name))
    if kind is Struct:
        return value.fields.get(name)
    if kind is Time:
        method = METHODS.get(name)
        return method and method.bind(value)
    if kind in TEXTS or kind in NUMBERS or kind in LISTS or kind is bool:
        raise TemplateRenderError(
            f"Can't access a field by name on type {go_kind(value)} (variable {path})"
        )
    return None


def _item(value: Value, index: int, path: str) -> Value:
    kind = type(value)
    if kind in LISTS:
        return element(value[index]) if index < len(value) else None
    if kind in TEXTS:
        data = to_bytes(value)
        return data[index] if index < len(data) else None
    raise TemplateRenderError(f"Can't access an index on type {go_kind(value)} (variable {path})")


def _called(value: object, part: PathPart, state: RenderState, path: str) -> object:
    if type(value) is Function:
        return invoke(value, [argument(state) for argument in part.arguments or ()], state, path)
    if part.arguments is not None:
        raise TemplateRenderError(f"'{path}' is not a function (it is {go_kind(value)})")
    return value


def plain_path(root: str, names: Sequence[str], path: str, source: str, offset: int) -> Evaluate:
    """Compile a path of names only, the form of nearly all paths."""

    def read(state: RenderState) -> Value:
        value = state.scope.get(root, _MISSING)
        try:
            if value is _MISSING:
                value = state.context.get(root)
                if type(value) not in ELEMENTS:
                    value = element(value)
            value = value if type(value) is not Function else invoke(value, [], state, path)
            for name in names:
                kind = type(value)
                if kind is dict:
                    value = value.get(name)
                    if type(value) not in ELEMENTS:
                        value = element(value)
                else:
                    value = value.fields.get(name) if kind is Struct else _field(value, name, path)
                value = value if type(value) is not Function else invoke(value, [], state, path)
        except TemplateError as error:
            raise located(error, source, offset) from None
        return value

    if len(names) > 1:
        return read
    return _bound_field(root, names[0], read) if names else _bound(root, read)


def _bound(root: str, otherwise: Evaluate) -> Evaluate:
    """Read a name that the template binds, which is nearly always no function."""

    def read(state: RenderState) -> Value:
        value = state.scope.get(root, _MISSING)
        if value is _MISSING or type(value) is Function:
            return otherwise(state)
        return value

    return read


def _bound_field(root: str, name: str, otherwise: Evaluate) -> Evaluate:
    """Read a field of a structure that the template binds, such as `forloop`."""

    def read(state: RenderState) -> Value:
        value = state.scope.get(root)
        if type(value) is Struct:
            value = value.fields.get(name)
            if type(value) is not Function:
                return value
        return otherwise(state)

    return read


def peek_at(root: str, names: Sequence[str]) -> Peek:
    """Compile a path of names only to a fast lookup of a text that needs no rendering."""

    def peek(context: Mapping[str, Any]) -> str | None:
        value = context.get(root)
        for name in names:
            kind = type(value)
            if kind is dict:
                value = value.get(name)  # type: ignore[union-attr]
            elif kind is Struct:
                value = value.fields.get(name)  # type: ignore[union-attr]
            else:
                return None
        return value if type(value) is str else None

    return peek


def called_path(
    parts: Sequence[PathPart], function: Function | None, source: str, offset: int
) -> Evaluate:
    """Compile a path with calls or indexes; `function` is the built-in one under its first name."""
    path = ".".join(str(part.name) for part in parts)
    root = str(parts[0].name)

    def walk(value: object, state: RenderState) -> object:
        for position, part in enumerate(parts):
            if position and value is not None:
                name = part.name
                value = (
                    _field(value, name, path) if isinstance(name, str) else _item(value, name, path)
                )
            if value is None:
                return None
            value = _called(value, part, state, path)
        return value

    def read(state: RenderState) -> Value:
        value = state.scope.get(root, _MISSING)
        try:
            if value is _MISSING:
                value = function if function is not None else element(state.context.get(root))
            return walk(value, state)
        except TemplateError as error:
            raise located(error, source, offset) from None

    return read
