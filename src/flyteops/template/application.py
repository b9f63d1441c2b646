"""Templates inside JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from flyteops.errors import Problem, TemplateAbort, TemplateError, TemplateLimitError
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.runtime import BARE_RUNTIME, Runtime
from flyteops.template.template import Template, compile_template
from flyteops.template.value import Value

JSON = Any
Fault = TypeVar("Fault", bound=TemplateError)


class ValueTemplate:
    """A JSON value whose texts are compiled templates; it is immutable."""

    __slots__ = ("_path", "constant", "tree")

    def __init__(self, tree: JSON, path: str, *, constant: bool) -> None:
        self.tree = tree
        self._path = path
        self.constant = constant

    def resolve(self, context: Mapping[str, object], runtime: Runtime = BARE_RUNTIME) -> JSON:
        """Return the value with every text rendered.

        Keys are kept, entries whose value is null are left out, and null in a list is an error. A
        part without templates is returned as it is and not copied. Errors carry the `path` of the
        text, also in `problems`.
        """
        tree = self.tree
        if self.constant:
            return tree
        if isinstance(tree, Template):
            try:
                return tree.render(context, runtime)
            except TemplateError as error:
                raise _at(error, [_problem(error, self._path)]) from None
        if isinstance(tree, dict):
            return {key: part.resolve(context, runtime) for key, part in tree.items()}
        if isinstance(tree, list):
            return [part.resolve(context, runtime) for part in tree]
        raise _null_in_list(self._path)

    def strings(self) -> Iterator[tuple[str, Template]]:
        """Yield every compiled text with its path, such as ``message.parts[0]``.

        Texts without templates are left out.
        """
        tree = self.tree
        if self.constant:
            return
        if isinstance(tree, Template):
            yield self._path, tree
        elif isinstance(tree, dict):
            for part in tree.values():
                yield from part.strings()
        elif isinstance(tree, list):
            for part in tree:
                yield from part.strings()


def compile_value(value: JSON, *, limits: Limits = DEFAULT_LIMITS) -> ValueTemplate:
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


def resolve(value: JSON, context: Mapping[str, object], runtime: Runtime = BARE_RUNTIME) -> JSON:
    """Compile a value and return it with every text rendered."""
    return compile_value(value, limits=runtime.limits).resolve(context, runtime)


def _compiled(
    value: JSON, path: str, limits: Limits, faults: list[tuple[TemplateError, Problem]]
) -> ValueTemplate:
    if isinstance(value, str):
        return _compiled_text(value, path, limits, faults)
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        parts = {
            key: _compiled(item, f"{prefix}{key}", limits, faults)
            for key, item in value.items()
            if item is not None
        }
        return _container(value, parts, path, constant=all(map(_is_constant, parts.values())))
    if isinstance(value, list):
        items = [
            _compiled(item, f"{path}[{index}]", limits, faults) for index, item in enumerate(value)
        ]
        broken = any(item is None for item in value)
        return _container(value, items, path, constant=not broken and all(map(_is_constant, items)))
    return ValueTemplate(value, path, constant=value is not None or not path.endswith("]"))


def _compiled_text(
    value: str, path: str, limits: Limits, faults: list[tuple[TemplateError, Problem]]
) -> ValueTemplate:
    try:
        template = compile_template(value, limits=limits)
    except TemplateError as error:
        faults.append((error, _problem(error, path)))
        return ValueTemplate(value, path, constant=True)
    return ValueTemplate(value if template.constant else template, path, constant=template.constant)


def _container(value: JSON, parts: Value, path: str, *, constant: bool) -> ValueTemplate:
    """Keep the value itself where rendering would only copy it."""
    if not constant:
        return ValueTemplate(parts, path, constant=False)
    kept = len(parts) == len(value)
    if isinstance(parts, dict):
        trees: JSON = {key: part.tree for key, part in parts.items()}
        kept = kept and all(value[key] is tree for key, tree in trees.items())
    else:
        trees = [part.tree for part in parts]
        kept = kept and all(item is tree for item, tree in zip(value, trees, strict=True))
    return ValueTemplate(value if kept else trees, path, constant=True)


def _is_constant(part: ValueTemplate) -> bool:
    return part.constant


def _problem(error: TemplateError, path: str) -> Problem:
    return Problem(path, error.message, error.line, error.column)


def _at(error: Fault, problems: Sequence[Problem]) -> Fault:
    error.problems = tuple(problems)
    error.path = problems[0].path
    return error


def _null_in_list(path: str) -> TemplateAbort:
    error = TemplateAbort("null in a list cannot be resolved")
    return _at(error, [_problem(error, path)])
