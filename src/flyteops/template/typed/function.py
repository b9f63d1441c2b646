"""The functions that a template can call, except `datastore` and `secret`."""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from flyteops.errors import TemplateRenderError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import Value, described


@dataclass(frozen=True, slots=True)
class TypedFunction:
    """A function: `call(env, *arguments)`, and the number of its arguments."""

    call: Callable[..., Value]
    arguments: int = 0


def _now(env: Environment) -> datetime:
    if env.now is None:
        raise TemplateRenderError("there is no current time here")
    return env.now


def _uuid(env: Environment) -> str:
    return str(UUID(int=env.random().getrandbits(128), version=4))


def _count(name: str, given: Value) -> int:
    if type(given) is int and given >= 0:
        return given
    shown = given if type(given) is int else described(given)
    raise TemplateRenderError(f"{name} needs an integer from 0, not {shown}")


def _range(env: Environment, given: Value) -> list[int]:
    count = _count("range", given)
    env.check_count(count)
    return list(range(count))


def _random_int(env: Environment, given: Value) -> int:
    bound = _count("randomInt", given)
    if not bound:
        raise TemplateRenderError("randomInt needs a bound of at least 1")
    return env.random().randrange(bound)


def _random_alpha(env: Environment, given: Value) -> str:
    length = _count("randomAlpha", given)
    env.check_length(length)
    return "".join(env.random().choices(string.ascii_letters, k=length)) if length else ""


FUNCTIONS: Mapping[str, TypedFunction] = MappingProxyType(
    {
        "now": TypedFunction(_now),
        "randomAlpha": TypedFunction(_random_alpha, 1),
        "randomInt": TypedFunction(_random_int, 1),
        "range": TypedFunction(_range, 1),
        "uuid": TypedFunction(_uuid),
    }
)

REPLACED: Mapping[str, str] = MappingProxyType(
    {
        "base64Decode": "use the filter b64decode",
        "base64Encode": "use the filter b64encode",
        "template": "write the template in place",
        "unmarshalJson": "use the filter fromjson",
    }
)
"""The functions of edition 1 that edition 2 does without."""
