"""What a rendering needs from the outside."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import NamedTuple

from flyteops.template.budget import Budget
from flyteops.template.limit import DEFAULT_LIMITS, Limits


class Runtime(NamedTuple):
    """Supply everything impure to a rendering.

    What is None makes the functions and tags that need it raise `TemplateRenderError`; without `clock` only the step budget
    bounds the time. `datastore` returns a parsed JSON value or a text and raises `KeyError` for an unknown key; `now` is aware;
    `random` returns the same generator each time;
    `secret(name, form)` returns what stands for a secret until a pack gets it, and raises `KeyError` for an unknown name;
    `clock` is monotonic, in seconds; `budget` is what all renderings with this runtime may use together.
    """

    datastore: Callable[[str], object] | None = None
    secret: Callable[[str, str], str] | None = None
    random: Callable[[], Random] | None = None
    now: datetime | None = None
    clock: Callable[[], float] | None = None
    limits: Limits = DEFAULT_LIMITS
    budget: Budget | None = None


BARE_RUNTIME = Runtime()
