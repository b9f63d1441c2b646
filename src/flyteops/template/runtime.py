"""The external inputs of a rendering."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import NamedTuple

from flyteops.template.budget import Budget
from flyteops.template.limit import DEFAULT_LIMITS, Limits


class Runtime(NamedTuple):
    """Supply everything impure to a rendering.

    Functions and tags that need a field that is None raise `TemplateRenderError`; without `clock`
    only the step budget bounds the time. `datastore` returns a parsed JSON value or a text and
    raises `KeyError` for an unknown key; `now` is aware; `random` returns the same generator each
    time; `secret(name, form)` returns the placeholder of a secret until a pack gets it, and raises
    `KeyError` for an unknown name; `clock` is monotonic, in seconds; `budget` is shared by all
    renderings with this runtime.
    """

    datastore: Callable[[str], object] | None = None
    secret: Callable[[str, str], str] | None = None
    random: Callable[[], Random] | None = None
    now: datetime | None = None
    clock: Callable[[], float] | None = None
    limits: Limits = DEFAULT_LIMITS
    budget: Budget | None = None


BARE_RUNTIME = Runtime()
