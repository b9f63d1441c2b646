"""The limits on the cost of one template."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound the cost of a template; reaching a bound raises `TemplateLimitError`.

    Lengths are in characters. The defaults admit any template that a person would write and stop
    everything else within about a second.
    """

    source_length: int = 65_536
    """The maximum length of the source of one template."""
    parse_depth: int = 40
    """The maximum nesting of parentheses, calls and tags taken together."""
    operators: int = 1_000
    """The maximum number of operators, filters, path parts and calls in one expression.

    Also of arguments of one tag.
    """
    steps: int = 1_000_000
    """The maximum work of one rendering.

    Passes through loops and macros count the parts of their bodies, long texts their length / 64.
    """
    output_length: int = 1_048_576
    """The maximum length of the result of one rendering."""
    value_length: int = 1_048_576
    """The maximum length of a text that an expression makes on the way."""
    list_length: int = 100_000
    """The maximum length of a list that a filter makes."""
    call_depth: int = 10
    """The maximum nesting of macro calls and `template()` calls taken together."""
    regexp_length: int = 1_000
    """The maximum length of a regular expression."""
    regexp_memory: int = 1_048_576
    """The maximum number of bytes of one compiled regular expression, including cached states."""
    seconds: float = 1.0
    """The maximum wall clock time of one rendering, checked every thousand steps."""


DEFAULT_LIMITS = Limits()
