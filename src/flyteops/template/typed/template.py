"""Compiled templates whose values have types."""

from collections.abc import Mapping

from flyteops.errors import TemplateError, TemplateLimitError
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.runtime import BARE_RUNTIME, Runtime
from flyteops.template.source import located
from flyteops.template.typed.document import DocumentParser
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.node import Expression
from flyteops.template.typed.scope import Scope
from flyteops.template.typed.statement import Body, LiteralText, PrintedExpression
from flyteops.template.typed.value import (
    LIST,
    MAP,
    NUMBER,
    TEXT,
    Value,
    checked_number,
    kind_of,
    measure,
)
from flyteops.template.value import clean


class TypedTemplate:
    """A compiled template; it is immutable, so that threads may render it at the same time.

    `tree` is the syntax tree. `is_expression` means that the source is exactly one expression,
    whose value is handed on as it is; `constant`, that it has neither expressions nor tags. `paths`
    are the static parts of the paths read from outside, such as ``("Steps", "build", "Payload")``;
    `datastore_keys` the keys of the items read, None if one is computed; `secrets` the names of the
    printed secrets; `functions` those of the functions called.
    """

    __slots__ = (
        "_bound",
        "_expression",
        "constant",
        "datastore_keys",
        "functions",
        "paths",
        "secrets",
        "source",
        "tree",
    )

    def __init__(self, source: str, parser: DocumentParser, tree: Body) -> None:
        self.source = source
        self.tree = tree
        self.paths = tuple(parser.paths)
        self.secrets = tuple(parser.secrets)
        self.functions = frozenset(parser.functions)
        self.datastore_keys = None if parser.keys is None else frozenset(parser.keys)
        self.constant = all(isinstance(part, LiteralText) for part in tree.parts)
        self._bound = frozenset(parser.bound)
        self._expression = _only_expression(tree)

    def __repr__(self) -> str:
        return f"TypedTemplate({self.source!r})"

    @property
    def is_expression(self) -> bool:
        """Whether the source is exactly one expression."""
        return self._expression is not None

    def render(self, scope: Mapping[str, object], runtime: Runtime = BARE_RUNTIME) -> Value:
        """Return the value of the expression, or the printed text.

        `scope` are the names that the template sees; a value in it that is a `Mapping` may load its
        items when they are read. Errors carry their place in the source.
        """
        env = Environment(runtime)
        length = 0
        try:
            value = self._value(Scope(self.source, scope, self._bound, env))
            length = _checked_length(value, env)
        except RecursionError:
            error = TemplateLimitError("the values are nested too deeply; nest less")
            raise located(error, self.source, 0) from None
        except TemplateError as error:
            raise located(error, self.source, 0) from None
        finally:
            env.settle(length)
        return clean(value) if isinstance(value, str) else value

    def _value(self, scope: Scope) -> Value:
        if self._expression is not None:
            return self._expression.evaluate(scope)
        self.tree.run(scope)
        return "".join(scope.out)


def _only_expression(tree: Body) -> Expression | None:
    if len(tree.parts) == 1 and isinstance(tree.parts[0], PrintedExpression):
        return tree.parts[0].expression
    return None


def _checked_length(value: Value, env: Environment) -> int:
    """Return the length of a result, unless it is too long."""
    kind = kind_of(value)
    if kind == NUMBER:
        checked_number(value)
    length = measure(value, env) if kind in (LIST, MAP) else 0
    if kind == TEXT:
        length = len(value)
    if length > env.limits.output_length:
        raise TemplateLimitError(
            f"the result is longer than {env.limits.output_length} characters (limit"
            " output_length); use a part of it"
        )
    return length


def compile_typed(source: str, *, limits: Limits = DEFAULT_LIMITS) -> TypedTemplate:
    """Compile a template; raise `TemplateSyntaxError` or `TemplateLimitError` with the place."""
    if len(source) > limits.source_length:
        error = TemplateLimitError(
            f"the template is longer than {limits.source_length} characters (limit"
            " source_length); shorten it"
        )
        raise located(error, source, limits.source_length)
    try:
        parser = DocumentParser(source, limits)
        return TypedTemplate(source, parser, parser.document())
    except RecursionError:
        error = TemplateLimitError("the template is nested too deeply; nest less")
        raise located(error, source, 0) from None
