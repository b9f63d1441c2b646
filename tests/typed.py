"""Renderings of typed templates."""

from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random

import pytest

from flyteops.errors import TemplateError
from flyteops.template import DEFAULT_LIMITS, Limits, Runtime
from flyteops.template.typed import compile_typed

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
BIG = 7615917337495251231
ITEMS = {"team": {"lead": "ann"}, "count": 0, "nothing": None}


def runtime(limits: Limits = DEFAULT_LIMITS, **given: object) -> Runtime:
    """Return a runtime with a time, chance, a datastore and secrets."""
    inputs = {
        "datastore": ITEMS.__getitem__,
        "secret": lambda name, form: f"<{form}:{name}>",
        "random": lambda: Random(7),
        "now": NOW,
    }
    return Runtime(**(inputs | given), limits=limits)


def render(source: str, *, limits: Limits = DEFAULT_LIMITS, **scope: object) -> object:
    """Compile and render a template whose names are the arguments."""
    return compile_typed(source, limits=limits).render(scope, runtime(limits))


def value(expression: str, **scope: object) -> object:
    """Evaluate an expression."""
    return render("{{ " + expression + " }}", **scope)


def printed(expression: str, **scope: object) -> object:
    """Print an expression."""
    return render("{{ " + expression + " }}{# #}|", **scope).removesuffix("|")


def failure(
    source: str, scope: Mapping[str, object] | None = None, limits: Limits = DEFAULT_LIMITS
) -> TemplateError:
    """Return the error of compiling or rendering, which must have a place in the source."""
    with pytest.raises(TemplateError) as raised:
        compile_typed(source, limits=limits).render(scope or {}, runtime(limits))
    error = raised.value
    lines = source.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    return error
