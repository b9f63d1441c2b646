"""The state of one rendering while it runs."""

from collections.abc import Callable, Mapping
from datetime import datetime
from random import Random
from typing import Any, Protocol

from flyteops.errors import TemplateLimitError, TemplateRenderError, TemplateTimeError
from flyteops.template.budget import UNBOUNDED, Budget
from flyteops.template.limit import Limits
from flyteops.template.regexp import Match, Pattern, Spans, compile_pattern
from flyteops.template.runtime import Runtime
from flyteops.template.value import Value

CLOCK_INTERVAL = 1_000
"""The number of steps between two checks of the clock."""
BIG_TEXT = 512
"""The length from which texts cost steps when a filter works on them."""
BIG_SEARCH = 65_536
"""The cost, in bytes times weight, from which a search of a regular expression costs steps."""
REGEXPS = 32
"""The number of computed regular expressions that are cached for one rendering."""
NOTHING: Mapping[str, object] = {}


class Compiled(Protocol):
    """A template that was compiled while another one is rendered."""

    def render_in(self, state: "RenderState", context: Mapping[str, Any]) -> str:
        """Render it within the limits of `state`."""


class Compiler(Protocol):
    """The function that compiles templates, which is a layer above this module."""

    def __call__(self, source: str, *, limits: Limits) -> Compiled:
        """Compile a template, or raise `TemplateError`."""


class RenderState:
    """The scopes, the output and the budget of one rendering.

    `scope` holds the names bound inside the template and is replaced, not changed, when a tag opens
    a scope of its own; `memory` holds the state of tags such as cycle; `room` is the number of
    characters that may still be printed, `steps` the number of steps that may still be taken, and
    `pause` the one from which `check` has to be called.
    """

    __slots__ = (
        "_deadline",
        "_granted",
        "_regexps",
        "autoescape",
        "compile",
        "context",
        "depth",
        "limits",
        "memory",
        "out",
        "pause",
        "room",
        "runtime",
        "scope",
        "steps",
    )

    def __init__(
        self,
        context: Mapping[str, Any],
        scope: dict[str, Any],
        runtime: Runtime,
        compiler: Compiler,
    ) -> None:
        limits = runtime.limits
        self.context = context
        self.scope = scope
        self.runtime = runtime
        self.limits: Limits = limits
        self.compile = compiler
        self.room = limits.output_length
        self.out: list[str] = []
        self.autoescape = False
        self.depth = 0
        self.memory: dict[object, Any] | None = None
        budget = runtime.budget
        self._granted = self.steps = self.pause = (
            limits.steps if budget is None else min(limits.steps, budget.steps)
        )
        self._deadline: float | None = None
        self._regexps: dict[str, Pattern] | None = None

    @property
    def _budget(self) -> Budget:
        return self.runtime.budget or UNBOUNDED

    def write(self, text: str) -> None:
        """Print a text."""
        self.room -= len(text)
        if self.room < 0:
            raise self.full()
        self.out.append(text)

    def full(self) -> TemplateLimitError:
        """Return the error for output that is too long."""
        return TemplateLimitError(
            f"the result is longer than {self.limits.output_length} characters (limit"
            " output_length); print less"
        )

    def too_long(self) -> TemplateLimitError:
        """Return the error for a value that is too long."""
        return TemplateLimitError(
            f"a text is longer than {self.limits.value_length} characters (limit value_length); cut"
            " it before"
        )

    def check_length(self, length: int) -> None:
        """Raise unless a text of this length may be made."""
        if length > self.limits.value_length:
            raise self.too_long()
        if length > BIG_TEXT:
            self.charge(length >> 6)

    def check_list(self, length: int) -> None:
        """Raise unless a list of this length may be made."""
        if length > self.limits.list_length:
            raise TemplateLimitError(
                f"a list has more than {self.limits.list_length} items (limit list_length); split"
                " less"
            )
        self.charge(length)

    def charge(self, steps: int) -> None:
        """Use up steps of the budget, and check the clock from time to time."""
        self.steps -= steps
        if self.steps < self.pause:
            self.check()

    def check(self) -> None:
        """Raise if the steps or the time are used up, and set the next check."""
        if self.steps < 0:
            if self._budget.steps < self.limits.steps:
                raise self._budget.too_many_steps()
            raise TemplateLimitError(
                f"rendering takes more than {self.limits.steps} steps (limit steps); loop less or"
                " over fewer items"
            )
        self.pause = self.steps - CLOCK_INTERVAL
        clock = self.runtime.clock
        if clock is None:
            return
        now = clock()
        if now > self._budget.deadline:
            raise self._budget.too_late()
        if self._deadline is None:
            self._deadline = now + self.limits.seconds
        elif now > self._deadline:
            raise TemplateTimeError(
                f"rendering takes longer than {self.limits.seconds} s (limit seconds); do less in"
                " one template"
            )

    def enter(self) -> None:
        """Enter a nested call; the caller must decrement `depth` afterwards."""
        if self.depth >= self.limits.call_depth:
            raise TemplateLimitError(
                f"macros and template() are nested deeper than {self.limits.call_depth} (limit"
                " call_depth); nest less"
            )
        self.depth += 1

    def pattern(self, source: str) -> Pattern:
        """Return a compiled regular expression, or raise RegexpError."""
        known = self._regexps
        if known is None:
            known = self._regexps = {}
        pattern = known.get(source)
        if pattern is None:
            self.charge(50 + (len(source) >> 2))
            pattern = compile_pattern(source, self.limits)
            if len(known) < REGEXPS:
                known[source] = pattern
        return pattern

    def search(self, pattern: Pattern, data: bytes) -> Spans:
        """Return the spans of the first match, unless the search might take too long."""
        cost = len(data) * pattern.weight
        if cost > BIG_SEARCH:
            self.charge(cost >> 7)
        return pattern.find(data)

    def replaced(self, pattern: Pattern, replace: Callable[[Match], bytes], data: bytes) -> bytes:
        """Return the data with every match replaced."""
        cost = len(data) * pattern.weight
        if cost > BIG_SEARCH:
            self.charge(cost >> 7)
        is_big = len(data) > BIG_SEARCH

        def count(match: Match) -> bytes:
            self.charge(1)
            if is_big:
                # Each match may be followed by a search through all of the rest.
                self.check()
            return replace(match)

        return pattern.sub(count, data)

    def settle(self, length: int) -> None:
        """Subtract the steps used, and the length of the result, from the shared budget."""
        budget = self.runtime.budget
        if budget is not None:
            budget.spend(self._granted - self.steps, length)

    def chance(self) -> Random:
        """Return the source of random numbers."""
        if self.runtime.random is None:
            raise TemplateRenderError(
                "there are no random numbers here (Runtime.random is not given)"
            )
        return self.runtime.random()

    def now(self) -> datetime:
        """Return the time of this rendering."""
        if self.runtime.now is None:
            raise TemplateRenderError("there is no current time here (Runtime.now is not given)")
        return self.runtime.now

    def remember(self, node: object, first: Value) -> Value:
        """Return the state of a tag in this rendering; the tag changes it in place."""
        if self.memory is None:
            self.memory = {}
        return self.memory.setdefault(node, first)

    def captured(self, body: "Callable[[RenderState], None]") -> str:
        """Run a body and return its output instead of printing it."""
        out, room = self.out, self.room
        self.out = []
        try:
            body(self)
            text = "".join(self.out)
            self.charge(len(text) >> 6)
            return text
        finally:
            self.out, self.room = out, room
