"""The built-in functions of every template."""

import base64
import binascii
import json
import math
import re
import string
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from flyteops.errors import TemplateAbort, TemplateError, TemplateLimitError, TemplateRenderError
from flyteops.template.state import RenderState
from flyteops.template.value import (
    Function,
    element,
    from_bytes,
    from_json,
    number,
    text,
    to_bytes,
)

_IDENTIFIER = re.compile("[a-zA-Z0-9_]+")
_BASE64 = re.compile("[A-Za-z0-9_-]*")


def _random_int(state: RenderState, arguments: list[Any]) -> int:
    bound: int = arguments[0]
    if bound <= 0:
        raise TemplateAbort("invalid argument to randomInt: it must be greater than 0")
    return state.chance().randrange(bound)


def _random_alpha(state: RenderState, arguments: list[Any]) -> str:
    size: int = arguments[0]
    if size < 0:
        raise TemplateAbort("word length must be non-negative")
    state.check_length(size)
    chance = state.chance()
    return "".join(chance.choices(string.ascii_letters, k=size)) if size else ""


def _base64_encode(state: RenderState, arguments: list[Any]) -> str:
    data = to_bytes(arguments[0])
    state.check_length(len(data) * 4 // 3)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64_decode(state: RenderState, arguments: list[Any]) -> str:
    given = arguments[0].replace("\n", "").replace("\r", "")
    state.check_length(len(given))
    if not _BASE64.fullmatch(given) or len(given) % 4 == 1:
        raise TemplateAbort("illegal base64 data (the URL alphabet without padding is expected)")
    try:
        return from_bytes(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except binascii.Error as error:
        raise TemplateAbort(f"illegal base64 data: {error}") from None


def _datastore(state: RenderState, arguments: list[Any]) -> object:
    key = arguments[0]
    if state.runtime.datastore is None:
        raise TemplateRenderError("there is no datastore here (Runtime.datastore is not given)")
    state.charge(10)
    try:
        return element(state.runtime.datastore(key))
    except KeyError:
        raise TemplateAbort(f"cannot find datastore item key={key}: not found") from None


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"number {digits[:40]} does not fit into a float64")
    return value


def _integer(digits: str) -> float:
    _number(digits)
    return number(int(digits))


def _unmarshal_json(state: RenderState, arguments: list[Any]) -> dict[str, Any]:
    given = arguments[0]
    state.check_length(len(given) * 2)
    try:
        value = from_json(
            json.loads(given, parse_constant=_not_json, parse_int=_integer, parse_float=_number)
        )
    except ValueError as error:
        raise TemplateAbort(f"unmarshalJson: {error}") from None
    if value is None:
        return {}
    if type(value) is not dict:
        raise TemplateAbort("unmarshalJson: the text is JSON, but no object")
    return value


def _template(state: RenderState, arguments: list[Any]) -> str:
    source, context = text(arguments[0]), arguments[1]
    for key in context:
        if not _IDENTIFIER.fullmatch(key):
            raise TemplateAbort(
                f"cannot resolve template: context-key '{key}' is not a valid identifier"
            )
    state.enter()
    state.charge(20 + len(source))
    kept = state.context, state.scope, state.autoescape, state.memory
    state.autoescape, state.memory = False, None
    try:
        template = state.compile(source, limits=state.limits)
        return template.render_in(state, context)
    except TemplateLimitError as error:
        raise TemplateLimitError(f"in template(): {error}") from None
    except TemplateError as error:
        raise TemplateAbort(f"resolve: cannot resolve template: {error}") from None
    finally:
        state.depth -= 1
        state.context, state.scope, state.autoescape, state.memory = kept


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        function.name: function
        for function in (
            Function("base64Decode", ("string",), _base64_decode),
            Function("base64Encode", ("string",), _base64_encode),
            Function("datastore", ("string",), _datastore),
            Function("randomAlpha", ("int",), _random_alpha),
            Function("randomInt", ("int",), _random_int),
            Function("template", ("interface {}", "map[string]interface {}"), _template),
            Function("unmarshalJson", ("string",), _unmarshal_json),
        )
    }
)
EXPLAINED = frozenset(["datastore"])
"""The functions whose calls are shown in an explanation."""
