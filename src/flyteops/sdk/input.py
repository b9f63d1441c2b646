"""The arguments of a command's handler."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec

from flyteops.errors import InputError
from flyteops.sdk.coercion import read
from flyteops.sdk.conversion import check_type
from flyteops.sdk.function import full_name, function_name, signature

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_UNCHANGING = (str, int, float, type(None))
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Input(msgspec.Struct, frozen=True, eq=False):
    """The type of a command's input, and the conversion of its values to arguments.

    `kind` is None when the handler takes no input. When `is_fields`, it is a struct with a field
    for each parameter. `default` is the value of the only parameter when there is no input.
    """

    kind: Any = None
    is_fields: bool = False
    default: Any = msgspec.UNSET

    @classmethod
    def of(cls, handler: Callable[..., Any]) -> "Input":
        """Inspect a handler's parameters; raise `TypeError` for those that no input can fill.

        One parameter is the whole input. Several, or those after a `*`, are fields of an object.
        """
        parameters = list(signature(handler).parameters.values())
        if not parameters:
            return cls()
        wrong = next((each for each in parameters if each.kind in _VARIABLE), None)
        if wrong is not None:
            message = (
                f"{full_name(handler)} takes {wrong}; a command's input needs parameters with names"
            )
            raise TypeError(message)
        for each in parameters:
            _check_parameter(handler, each)
        only = parameters[0]
        if len(parameters) == 1 and only.kind in _BY_PLACE:
            found = cls(
                _annotation(only),
                default=msgspec.UNSET if only.default is only.empty else only.default,
            )
        else:
            found = cls(_fields(function_name(handler), parameters), is_fields=True)
        check_type(found.kind)
        return found

    def arguments(self, raw: msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the handler; one `InputError` reports all faults."""
        if self.kind is None:
            return (), {}
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(str(error)) from error
        if value is None and self.default is not msgspec.UNSET:
            return (deepcopy(self.default),), {}
        if not self.is_fields:
            return (read(value, self.kind),), {}
        fields = read({} if value is None else value, self.kind)
        return (), {name: getattr(fields, name) for name in fields.__struct_fields__}


def _check_parameter(handler: Callable[..., Any], parameter: inspect.Parameter) -> None:
    try:
        check_type(_annotation(parameter))
    except TypeError as error:
        message = f"{full_name(handler)} cannot take {parameter.name!r}: {error}"
        raise TypeError(message) from error


def _annotation(parameter: inspect.Parameter) -> object:
    return Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation


def _fields(name: str, parameters: list[inspect.Parameter]) -> type[msgspec.Struct]:
    fields = []
    for each in parameters:
        if each.kind is inspect.Parameter.POSITIONAL_ONLY:
            message = (
                f"{name} takes {each.name} by its place only; a field of an object needs a name"
            )
            raise TypeError(message)
        fields.append((each.name, _annotation(each), _field(each)))
    title = "".join(word[:1].upper() + word[1:] for word in name.split("_")) + "Input"
    return msgspec.defstruct(title, fields, kw_only=True)


def _field(parameter: inspect.Parameter) -> object:
    """Return the field for a parameter.

    `from_` stands for the key `from`, which cannot be a parameter.
    """
    key = parameter.name.removesuffix("_") or parameter.name
    default = parameter.default
    if default is inspect.Parameter.empty:
        return msgspec.field(name=key)
    if isinstance(default, _UNCHANGING):
        return msgspec.field(name=key, default=default)
    return msgspec.field(name=key, default_factory=lambda: deepcopy(default))
