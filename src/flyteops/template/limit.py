"""What one template may cost at most."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what a template may cost; reaching a bound raises `TemplateLimitError`.

    Lengths are in characters. The defaults let any template that a person would write pass and stop everything else
    within about a second.
    """

    source_length: int = 65_536
    """Longest source of one template."""
    parse_depth: int = 40
    """Deepest nesting of parentheses, calls and tags taken together."""
    operators: int = 1_000
    """Most operators, filters, path parts and calls in one expression, and arguments of one tag."""
    steps: int = 1_000_000
    """Work of one rendering: passes through loops and macros count what is in them, long texts their length / 64."""
    output_length: int = 1_048_576
    """Longest result of one rendering."""
    value_length: int = 1_048_576
    """Longest text that an expression may make on the way."""
    list_length: int = 100_000
    """Longest list that a filter may make."""
    call_depth: int = 10
    """Deepest nesting of macro calls and `template()` calls taken together."""
    regexp_length: int = 1_000
    """Longest regular expression."""
    regexp_memory: int = 1_048_576
    """Bytes that one compiled regular expression may use, its cache of states included."""
    seconds: float = 1.0
    """Wall clock time of one rendering, looked at every thousand steps."""


DEFAULT_LIMITS = Limits()
