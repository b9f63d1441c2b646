"""Expressions that print text from events, directly or from contexts that hold it."""

from collections.abc import Callable, Iterator

from flyteops import template
from flyteops.document import Path
from flyteops.model import Flow, JsonValue

SINGLE_WORDS = frozenset(
    ["divisibleby", "float", "integer", "length", "length_is", "match", "matchesCron", "wordcount"]
)
"""Filters whose result is a number, or true or false."""


class Origins:
    """The context values that come from events, and those of them that are quoted for a shell."""

    def __init__(self, flow: Flow, harmless: frozenset[str]) -> None:
        self._harmless = harmless
        self.outside: frozenset[str] = frozenset()
        self.quoted: frozenset[str] = frozenset()
        outside, quoted = set(), set()
        for step in flow.steps:
            for key, source in (step.context or {}).items():
                compiled = template.compile(source)
                if any(self._is_outside(compiled, output, None) for output in compiled.outputs):
                    outside.add(f"Context.{key}")
                if any("shellquote" in output.filters for output in compiled.outputs):
                    quoted.add(f"Context.{key}")
        self.outside, self.quoted = frozenset(outside), frozenset(quoted)

    def prints_outside(self, compiled: template.Template, output: template.OutputNode) -> bool:
        """Return whether an output prints text from an event that no filter makes harmless."""
        return self._is_outside(compiled, output, self.outside)

    def prints_quoted(self, output: template.OutputNode) -> bool:
        """Return whether an output prints text that is quoted for a shell."""
        if "shellquote" in output.filters:
            return True
        return not any(output.filters) and not self.quoted.isdisjoint(output.paths)

    def _is_outside(
        self,
        compiled: template.Template,
        output: template.OutputNode,
        outside: frozenset[str] | None,
    ) -> bool:
        """Return whether an output prints text from an event.

        `outside` are the context paths with such text, None for all.
        """
        return prints_any(
            compiled, output, self._harmless, lambda path: _comes_from_event(path, outside)
        )


def prints_any(
    compiled: template.Template,
    output: template.OutputNode,
    harmless: frozenset[str],
    is_told: Callable[[str], bool],
) -> bool:
    """Return whether an output prints a path of that kind that no filter makes harmless."""
    if output.filters and harmless.issuperset(output.filters):
        return False
    paths = output.paths
    if not compiled.bound.isdisjoint(path.partition(".")[0] for path in paths):
        paths = (*paths, *compiled.variables)  # it may be any of the paths that the template reads
    return any(is_told(path) for path in paths)


def _comes_from_event(path: str, outside: frozenset[str] | None) -> bool:
    root = path.partition(".")[0]
    return root == "Event" or (root == "Context" and (outside is None or path in outside))


def texts(value: JsonValue, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))


def line_and_column(source: str, offset: int) -> str:
    """Return the line and column of a character, counted from 1."""
    before = source[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - (before.rfind(chr(10)) + 1) + 1}"
