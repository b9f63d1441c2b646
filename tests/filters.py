"""Calls of typed filters, alike with computed and with constant arguments."""

from datetime import UTC, datetime
from random import Random

from flyteops import template
from flyteops.errors import TemplateRenderError
from flyteops.template.limit import Limits
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter import FILTERS

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def environment(**limits):
    return Environment(template.Runtime(now=NOW, random=lambda: Random(7), limits=Limits(**limits)))


def apply(name, value, *arguments, **limits):
    """Apply a filter; one that prepares constant arguments must do the same with them."""
    known = FILTERS[name]
    assert known.least <= len(arguments) <= known.most
    outcome = _outcome(known.call, value, arguments, environment(**limits))
    if known.prepare:
        assert _outcome(_prepared(known), value, arguments, environment(**limits)) == outcome
    if isinstance(outcome, _Failure):
        raise outcome.error
    return outcome


class _Failure:
    def __init__(self, error):
        self.error = error

    def __eq__(self, other):
        return isinstance(other, _Failure) and str(self.error) == str(other.error)

    def __hash__(self):
        return hash(str(self.error))


def _prepared(known):
    def call(value, *arguments, env):
        return known.prepare(*arguments, limits=env.limits)(value, *arguments, env=env)

    return call


def _outcome(call, value, arguments, env):
    try:
        return call(value, *arguments, env=env)
    except TemplateRenderError as error:
        return _Failure(error)
