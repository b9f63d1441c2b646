"""The definition of a filter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import Value


class FilterCall(Protocol):
    """The function of a filter."""

    def __call__(self, value: Value, *arguments: Value, env: Environment) -> Value:
        """Return the result, or raise `TemplateRenderError` without a place."""


@dataclass(frozen=True, slots=True)
class TypedFilter:
    """One filter, which takes at least `least` and at most `most` arguments.

    `prepare(*arguments, limits=...)` returns the call for arguments that are constants. It is run
    once, when the template is compiled; a `TemplateRenderError` of it is a fault of the template.
    """

    call: Callable[..., Value]
    least: int = 0
    most: int = 0
    prepare: Callable[..., FilterCall] | None = None
