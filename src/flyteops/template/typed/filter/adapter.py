"""Filters of edition 1 whose meaning for texts stays, behind the interface of typed filters."""

from collections.abc import Callable
from typing import NoReturn

from flyteops.errors import TemplateRenderError
from flyteops.template.filter.spec import Call
from flyteops.template.limit import Limits
from flyteops.template.state import NOTHING, RenderState
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.operand import printed, unfit
from flyteops.template.typed.value import BOOLEAN, Value, kind_of, text_of
from flyteops.template.value import clean

Check = Callable[[str, Value], Value]
"""Return an argument of a filter, given by its name, or raise an error."""


def _refuse(source: str, *, limits: Limits) -> NoReturn:
    raise TemplateRenderError("a filter compiles no template")


def need_boolean(name: str, argument: Value) -> bool:
    """Return a boolean, or raise an error."""
    if kind_of(argument) != BOOLEAN:
        raise unfit(name, "true or false as its argument", argument)
    return bool(argument)


def run(call: Call, value: Value, argument: Value, env: Environment) -> Value:
    """Call a filter of edition 1; its cost counts in this rendering."""
    state = RenderState(NOTHING, {}, env.runtime, _refuse)
    before = state.steps
    result = call(value, argument, state)
    env.spend(int(before - state.steps))
    return env.check_text(clean(str.__str__(result))) if isinstance(result, str) else result


def on_text(
    name: str, call: Call, check: Check | None = None, *, mark: str = ""
) -> Callable[..., Value]:
    """Return a filter of texts: of null it makes null, and lists and maps are errors.

    Each `mark` in the text costs a step.
    """

    def filtered(value: Value, *arguments: Value, env: Environment) -> Value:
        argument = check(name, arguments[0]) if check and arguments else None
        if value is None:
            return None
        string = printed(name, value, env)
        if mark:
            env.spend(string.count(mark))
        return run(call, string, argument, env)

    return filtered


def on_url(call: Call) -> Callable[..., Value]:
    """Return a filter that writes each byte outside ASCII as three characters."""

    def filtered(value: Value, *, env: Environment) -> Value:
        if value is None:
            return None
        string = clean(text_of(value, env))
        plain = len(string.encode("ascii", "ignore"))
        env.check_length(3 * len(string.encode()) - 2 * plain)
        return run(call, string, None, env)

    return filtered


def on_printed(call: Call) -> Callable[..., Value]:
    """Return a filter that encodes any value as it prints; of null it makes null."""

    def filtered(value: Value, *, env: Environment) -> Value:
        return None if value is None else run(call, text_of(value, env), None, env)

    return filtered
