"""The environment of one rendering: its limits, and the inputs that come from outside."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import TypeVar

from flyteops.errors import TemplateLimitError, TemplateRenderError
from flyteops.template.budget import UNBOUNDED
from flyteops.template.limit import Limits
from flyteops.template.regexp import Match, Pattern, Spans, compile_pattern
from flyteops.template.runtime import Runtime

Items = TypeVar("Items", list[object], dict[str, object])

_CLOCK_INTERVAL = 1_000
"""The number of steps between two checks of the clock."""
_BIG_TEXT = 512
"""The length from which texts cost steps."""
_BIG_SEARCH = 65_536
"""The cost, in bytes times weight, from which a search of a regular expression costs steps."""
_PATTERNS = 32
"""The number of computed regular expressions that are kept for one rendering."""


class Environment:
    """The runtime, the limits and the remaining steps of one rendering."""

    __slots__ = ("_deadline", "_granted", "_patterns", "_pause", "_steps", "limits", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.limits: Limits = runtime.limits
        budget = runtime.budget
        self._granted = self._steps = self._pause = (
            self.limits.steps if budget is None else min(self.limits.steps, budget.steps)
        )
        self._deadline: float | None = None
        self._patterns: dict[str, Pattern] = {}

    @property
    def now(self) -> datetime | None:
        """The time of this rendering, None if it has none."""
        return self.runtime.now

    def spend(self, steps: int) -> None:
        """Use up steps; raise `TemplateLimitError` if none are left, or no time."""
        self._steps -= steps
        if self._steps < self._pause:
            self._check()

    def _check(self) -> None:
        budget = self.runtime.budget or UNBOUNDED
        if self._steps < 0:
            if budget.steps < self.limits.steps:
                raise budget.too_many_steps()
            raise TemplateLimitError(
                f"rendering takes more than {self.limits.steps} steps (limit steps); loop less or"
                " over fewer items"
            )
        self._pause = self._steps - _CLOCK_INTERVAL
        clock = self.runtime.clock
        if clock is None:
            return
        now = clock()
        if now > budget.deadline:
            raise budget.too_late()
        if self._deadline is None:
            self._deadline = now + self.limits.seconds
        elif now > self._deadline:
            raise TemplateLimitError(
                f"rendering takes longer than {self.limits.seconds} s (limit seconds); do less in"
                " one template"
            )

    def settle(self, length: int) -> None:
        """Subtract the used steps, and the length of the result, from the shared budget."""
        if self.runtime.budget is not None:
            self.runtime.budget.spend(self._granted - self._steps, length)

    def check_length(self, length: int) -> None:
        """Raise unless a text of this length may be made; call it before making the text."""
        if length > self.limits.value_length:
            raise TemplateLimitError(
                f"a text is longer than {self.limits.value_length} characters (limit"
                " value_length); cut it before"
            )
        if length > _BIG_TEXT:
            self.spend(length >> 6)

    def check_count(self, count: int) -> None:
        """Raise unless a list or map of this many items may be made; call it before making it."""
        if count > self.limits.list_length:
            raise TemplateLimitError(
                f"a list has more than {self.limits.list_length} items (limit list_length); make it"
                " shorter"
            )
        self.spend(count)

    def check_text(self, text: str) -> str:
        """Return a text that was made, unless it is too long."""
        self.check_length(len(text))
        return text

    def check_list(self, items: Items) -> Items:
        """Return a list or map that was made, unless it has too many items."""
        self.check_count(len(items))
        return items

    def pattern(self, source: str) -> Pattern:
        """Return a compiled regular expression, or raise `RegexpError`."""
        pattern = self._patterns.get(source)
        if pattern is None:
            self.spend(50 + (len(source) >> 2))
            pattern = compile_pattern(source, self.limits)
            if len(self._patterns) < _PATTERNS:
                self._patterns[source] = pattern
        return pattern

    def search(self, pattern: Pattern, data: bytes) -> Spans:
        """Return the spans of the first match in UTF-8 bytes."""
        self._spend_search(pattern, data)
        return pattern.find(data)

    def replaced(self, pattern: Pattern, replace: Callable[[Match], bytes], data: bytes) -> bytes:
        """Return UTF-8 bytes with every match replaced."""
        self._spend_search(pattern, data)
        is_big = len(data) > _BIG_SEARCH

        def counted(match: Match) -> bytes:
            self.spend(1)
            if is_big:
                self._check()  # each match may be followed by a search through all of the rest
            return replace(match)

        return pattern.sub(counted, data)

    def _spend_search(self, pattern: Pattern, data: bytes) -> None:
        cost = len(data) * pattern.weight
        if cost > _BIG_SEARCH:
            self.spend(cost >> 7)

    def random(self) -> Random:
        """Return the source of random numbers."""
        if self.runtime.random is None:
            raise TemplateRenderError("there are no random numbers here")
        return self.runtime.random()
