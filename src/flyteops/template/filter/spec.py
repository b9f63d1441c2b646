"""The definition of a filter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flyteops.template.state import RenderState

Call = Callable[[Any, Any, RenderState], Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: `call(value, argument, state)`, where a missing argument is None.

    `prepare(argument)` returns a call for an argument that is a literal, so that work on it is done
    only once; the call may cache its results, as the same literal always gives the same.
    """

    call: Call
    prepare: Callable[[Any], Call] | None = None
