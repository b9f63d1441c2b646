"""Regular expressions with Go's syntax, in linear time and bounded memory."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import re2  # type: ignore[import-untyped]

from flyteops.errors import TemplateLimitError
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.value import clean

SET_MEMORY = 32 * 1024 * 1024
"""The maximum memory in bytes of a set of regular expressions."""

SET_COST = 2**26
"""The maximum cost of a search for a set, in bytes of text times the weight of its patterns."""

SET_SIZE = 2**18
"""The maximum number of instructions of a set: building more blocks a server for too long."""

SET_WEIGHT = 2**16
"""The maximum weight of a set, so that a few patterns keep no short text from being searched."""

SET_REPETITIONS = 16
"""The maximum number of a counted repetition in a pattern that can be part of a set."""

_REPETITION = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{0,4}))?\}")
_FOREIGN = re.compile(r"(?:[^\\]|\\.)*?\\C", re.DOTALL)


class RegexpError(Exception):
    """The text is not a regular expression."""


class Match(Protocol):
    """A match, with its groups by number; 0 is all of it."""

    def group(self, number: int, /) -> bytes:
        """Return the text of a group."""
        ...

    def span(self, number: int, /) -> tuple[int, int]:
        """Return the beginning and the end of a group."""
        ...


Spans = Sequence[tuple[int, int]]
"""The beginnings and ends of a match and its groups, by number; -1 where there is none."""


class CompiledRegexp(Protocol):
    """The part of the interface of RE2's compiled regular expressions that is used."""

    @property
    def groups(self) -> int:
        """Count the groups."""

    @property
    def programsize(self) -> int:
        """Count the instructions."""

    def search(self, text: bytes, /) -> Match | None:
        """Find the first match."""

    def sub(self, repl: Callable[[Match], bytes] | bytes, text: bytes, /) -> bytes:
        """Replace every match."""


class Pattern:
    """A compiled regular expression.

    `weight` bounds the number of states that RE2 may have to follow at a time, and so the cost of
    one byte of text when it has to give up its cache: never more than the number of instructions
    (`size`), nor than the number of parts of the source times their counted repetitions.
    """

    __slots__ = ("find", "groups", "size", "sub", "weight")

    def __init__(self, compiled: CompiledRegexp, source: str) -> None:
        self.size = compiled.programsize
        self.groups = compiled.groups
        self.find = finder(compiled)
        self.sub = compiled.sub
        repeated = math.prod(
            max(int(least), int(most or 0), 1) for least, most in _REPETITION.findall(source)
        )
        self.weight = min(self.size, 4 * len(source) * repeated)


def finder(compiled: CompiledRegexp) -> Callable[[bytes], Spans]:
    """Return a search that only returns the spans of the first match.

    The Python part of RE2's package, which builds a generator and a match for each search, takes
    longer than a search of a short text; a version of it with another inner object gets the search
    of its public interface.
    """
    inner: Any = getattr(compiled, "_regexp", None)
    match, anchors = getattr(inner, "Match", None), getattr(type(inner), "Anchor", None)
    if match is None or anchors is None:
        return lambda data: _public_spans(compiled, data)
    anywhere = anchors.UNANCHORED
    return lambda data: match(anywhere, data, 0, len(data))


def _public_spans(compiled: CompiledRegexp, data: bytes) -> Spans:
    found = compiled.search(data)
    groups = range(compiled.groups + 1)
    return [(-1, -1) if found is None else found.span(group) for group in groups]


def compile_pattern(source: str, limits: Limits) -> Pattern:
    """Compile a regular expression that searches UTF-8 bytes, or raise RegexpError."""
    if len(source) > limits.regexp_length:
        raise TemplateLimitError(
            f"the regular expression is longer than {limits.regexp_length} characters (limit"
            " regexp_length); shorten it"
        )
    if "\\C" in source and _FOREIGN.match(source):
        raise RegexpError("invalid escape sequence: `\\C`")
    options = re2.Options()
    options.max_mem = limits.regexp_memory
    options.log_errors = False
    try:
        return Pattern(re2.compile(clean(source).encode(), options), source)
    except re2.error as error:
        reason = error.args[0] if error.args else "?"
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in reason:
            raise TemplateLimitError(
                f"the regular expression needs more than {limits.regexp_memory} bytes (limit"
                " regexp_memory); simplify it"
            ) from None
        raise RegexpError(reason) from None


class SetPattern(NamedTuple):
    """A regular expression that can be part of a set: in UTF-8, its `Pattern.weight` and `size`."""

    source: bytes
    weight: int
    size: int


def set_pattern(source: str) -> SetPattern | None:
    """Return a regular expression for a set; raise RegexpError.

    None if it needs too much memory, or has large counted repetitions, with which the automaton of
    a whole set may get a new state at each character.
    """
    if _largest_count(source) > SET_REPETITIONS:
        return None
    try:
        compiled = compile_pattern(source, DEFAULT_LIMITS)
        return SetPattern(clean(source).encode(), compiled.weight, compiled.size)
    except TemplateLimitError:
        return None


class PatternSet:
    """Regular expressions that are searched for all at once, in one pass over a text.

    `rejected` are the indexes of those that need too much memory even alone, and of the largest
    ones if all of them would be too large for a set. A set that is too large for RE2 is split.
    """

    def __init__(self, patterns: Sequence[SetPattern]) -> None:
        self.rejected: list[int] = []
        self._sets: list[tuple[re2.Set, Sequence[int]]] = []
        chosen = self._choose(patterns)
        self._weight = sum(pattern.weight for _, pattern in chosen)
        if chosen:
            self._add(chosen)

    def _choose(self, patterns: Sequence[SetPattern]) -> Sequence[tuple[int, SetPattern]]:
        """Return the smallest patterns that fit into a set, with their indexes; reject others."""
        chosen: list[tuple[int, SetPattern]] = []
        size, weight = SET_SIZE, SET_WEIGHT
        for index, pattern in sorted(
            enumerate(patterns), key=lambda each: (each[1].size, each[1].weight)
        ):
            if pattern.size > size or pattern.weight > weight:
                self.rejected.append(index)
                continue
            size, weight = size - pattern.size, weight - pattern.weight
            chosen.append((index, pattern))
        return chosen

    def _add(self, patterns: Sequence[tuple[int, SetPattern]]) -> None:
        compiled = _compile_set([pattern.source for _, pattern in patterns])
        if compiled is not None:
            self._sets.append((compiled, [index for index, _ in patterns]))
        elif len(patterns) == 1:
            self.rejected.append(patterns[0][0])
        else:
            middle = len(patterns) // 2
            self._add(patterns[:middle])
            self._add(patterns[middle:])

    def find(self, data: bytes) -> Sequence[int] | None:
        """Return the indexes of the patterns that match UTF-8 bytes.

        None if that is not known, as the text is too long for so many patterns, or if RE2 gives up.
        """
        if len(data) * self._weight > SET_COST:
            return None
        found: list[int] = []
        for compiled, indexes in self._sets:
            matches = compiled.Match(data)
            if len(indexes) not in matches:
                return None
            found += [indexes[index] for index in matches if index < len(indexes)]
        return found


def _largest_count(source: str) -> int:
    """Return the largest number of a counted repetition, such as 30 of ``[a-z]{2,30}``."""
    counts = (int(number or 0) for pair in _REPETITION.findall(source) for number in pair)
    return max(counts, default=0)


def _compile_set(patterns: Sequence[bytes]) -> re2.Set | None:
    """Return a set of valid patterns with one behind them that always matches.

    None if it is too large. RE2 reports no matches when it has no memory left for a search, so the
    last pattern tells that from a search without matches.
    """
    options = re2.Options()
    options.max_mem = SET_MEMORY
    options.log_errors = False
    compiled = re2.Set.SearchSet(options)
    try:
        for pattern in (*patterns, rb"\A"):
            compiled.Add(pattern)
        compiled.Compile()
    except re2.error:
        return None
    # A set that is too large finds nothing, which shows at the first search only.
    return compiled if len(patterns) in compiled.Match(b"") else None
