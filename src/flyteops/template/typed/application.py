"""Templates inside JSON values, whose texts may become values of any kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from flyteops.errors import Problem, TemplateError, TemplateLimitError
from flyteops.model import JsonValue
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.runtime import BARE_RUNTIME, Runtime
from flyteops.template.typed.template import TypedTemplate, compile_typed
from flyteops.template.typed.value import to_json

Fault = TypeVar("Fault", bound=TemplateError)


class TypedValue:
    """A JSON value whose texts are compiled templates; it is immutable.

    `tree` is the value itself if it is `constant`, else a template, or a map or list of such
    values.
    """

    __slots__ = ("_path", "constant", "tree")

    def __init__(self, tree: Any, path: str, *, constant: bool) -> None:  # noqa: ANN401 - as above
        self.tree = tree
        self.constant = constant
        self._path = path

    def render(self, scope: Mapping[str, object], runtime: Runtime = BARE_RUNTIME) -> JsonValue:
        """Return the value with every text rendered; null stays null, everywhere.

        A part without templates is returned as it is and not copied. Errors carry the `path` of the
        text, also in `problems`.
        """
        tree = self.tree
        if self.constant:
            return tree
        if isinstance(tree, dict):
            return {key: part.render(scope, runtime) for key, part in tree.items()}
        if isinstance(tree, list):
            return [part.render(scope, runtime) for part in tree]
        try:
            return to_json(tree.render(scope, runtime))
        except TemplateError as error:
            raise _at(error, [_problem(error, self._path)]) from None

    def texts(self) -> Iterator[tuple[str, TypedTemplate]]:
        """Yield every template with its path, such as ``message.parts[0]``.

        Texts without expressions and tags are left out.
        """
        tree = self.tree
        if isinstance(tree, TypedTemplate):
            yield self._path, tree
        elif not self.constant:
            for part in tree.values() if isinstance(tree, dict) else tree:
                yield from part.texts()


def compile_typed_value(value: JsonValue, *, limits: Limits = DEFAULT_LIMITS) -> TypedValue:
    """Compile every text at any depth of a JSON value; keys are not templates.

    Raise the first fault, with its `path`; its `problems` list all of them.
    """
    faults: list[tuple[TemplateError, Problem]] = []
    try:
        compiled = _compiled(value, "", limits, faults)
    except RecursionError:
        raise TemplateLimitError("the value is nested too deeply; nest less") from None
    if faults:
        raise _at(faults[0][0], [problem for _, problem in faults])
    return compiled


def _compiled(
    value: JsonValue, path: str, limits: Limits, faults: list[tuple[TemplateError, Problem]]
) -> TypedValue:
    if isinstance(value, str):
        return _compiled_text(value, path, limits, faults)
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        parts = {
            key: _compiled(item, f"{prefix}{key}", limits, faults) for key, item in value.items()
        }
        if all(part.constant for part in parts.values()):
            return TypedValue({key: part.tree for key, part in parts.items()}, path, constant=True)
        return TypedValue(parts, path, constant=False)
    if isinstance(value, list):
        items = [
            _compiled(item, f"{path}[{index}]", limits, faults) for index, item in enumerate(value)
        ]
        if all(item.constant for item in items):
            return TypedValue([item.tree for item in items], path, constant=True)
        return TypedValue(items, path, constant=False)
    return TypedValue(value, path, constant=True)


def _compiled_text(
    value: str, path: str, limits: Limits, faults: list[tuple[TemplateError, Problem]]
) -> TypedValue:
    try:
        template = compile_typed(value, limits=limits)
    except TemplateError as error:
        faults.append((error, _problem(error, path)))
        return TypedValue(value, path, constant=True)
    if template.constant:
        return TypedValue(template.render({}), path, constant=True)
    return TypedValue(template, path, constant=False)


def _problem(error: TemplateError, path: str) -> Problem:
    return Problem(path, error.message, error.line, error.column)


def _at(error: Fault, problems: Sequence[Problem]) -> Fault:
    error.problems = tuple(problems)
    error.path = problems[0].path
    return error
