"""Compiled templates."""

import json
from collections.abc import Iterable, Mapping

from flyteops.errors import FlyteError, TemplateLimitError, TemplateRenderError
from flyteops.template.filter import FILTERS
from flyteops.template.function import EXPLAINED, FUNCTIONS
from flyteops.template.lexer import SYMBOL, lex
from flyteops.template.limit import DEFAULT_LIMITS, Limits
from flyteops.template.node import Node, sequence
from flyteops.template.parser import Language, OutputNode, Parser, Reading
from flyteops.template.path import Evaluate, Peek
from flyteops.template.runtime import BARE_RUNTIME, Runtime
from flyteops.template.source import located
from flyteops.template.state import RenderState
from flyteops.template.tag import TAGS
from flyteops.template.tag.output import autoescaped
from flyteops.template.value import LargeInteger, Value, clean, element, text

LANGUAGE = Language(TAGS, FILTERS, FUNCTIONS)
_BEFORE = "{% autoescape off %}"
_AFTER = "{% endautoescape %}"
_CONVENTIONS = frozenset(["nil", "null", "None", "True", "False", "block", "forloop", "pongo2"])
"""Names that templates use although they have no value."""
_SHOWN_LENGTH = 200
_encode = json.JSONEncoder(ensure_ascii=False).encode


_ROOT_SCOPE = {"pongo2": {"version": "dev"}}
"""The initial scope of a rendering; each gets a copy, to which tags add names."""


class Template:
    """A compiled template; it is immutable, so that threads may render it at the same time.

    `bound` are the names that it binds itself, `outputs` the expressions that it prints, `secrets`
    the names of the secrets that it uses; `constant` means that it is text alone, which renders to
    itself.
    """

    __slots__ = (
        "_evaluate",
        "_exported",
        "_node",
        "_peek",
        "_shown",
        "bound",
        "constant",
        "outputs",
        "secrets",
        "source",
    )

    source: str
    bound: frozenset[str]
    constant: bool
    outputs: tuple[OutputNode, ...]
    secrets: tuple[str, ...]

    def __init__(self, parser: Parser, node: Node | None, evaluate: Evaluate | None = None) -> None:
        self.source = parser.source
        self.outputs = tuple(parser.outputs)
        self.secrets = tuple(parser.secrets)
        self._node = node
        self._evaluate = evaluate
        self._peek = _only_path(parser, evaluate)
        self._shown = _explained(parser)
        self.constant = not parser.readings and "{" not in self.source and "\x01" not in self.source
        self.bound = frozenset(parser.bound)
        self._exported = tuple(parser.exported)

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the distinct paths of the context that are read, such as ``Event.Name``, in order.

        Names that the template binds anywhere are left out; calls of `datastore` are in, as
        ``datastore('teams').lead``.
        """
        return tuple(self._shown)

    def render(self, context: Mapping[str, object], runtime: Runtime = BARE_RUNTIME) -> str:
        """Render with a context such as ``{"Event": event_value(...), "Context": {...}}``.

        Integers in the context are JSON numbers and therefore count as floats.
        """
        if self._peek is not None:
            known = self._peek(context)
            if known is not None and len(known) <= runtime.limits.output_length:
                if runtime.budget is not None:
                    runtime.budget.spend(0, len(known))
                return known if known.isascii() else clean(known)
        state = RenderState(context, _ROOT_SCOPE.copy(), runtime, compile_template)
        length = 0
        try:
            result = self._render(state)
            length = len(result)
        except RecursionError:
            raise TemplateLimitError(
                "the values or calls are nested too deeply; nest less"
            ) from None
        finally:
            if runtime.budget is not None:
                state.settle(length)
        return result if result.isascii() else clean(result)

    def render_in(self, state: RenderState, context: Mapping[str, object]) -> str:
        """Render as part of another rendering, within its remaining limits."""
        state.context, state.scope = context, _ROOT_SCOPE.copy()
        return state.captured(self._captured) if self._evaluate is None else self._render(state)

    def _captured(self, state: RenderState) -> None:
        self._check_exports(state)
        if self._node is not None:
            self._node(state)

    def _render(self, state: RenderState) -> str:
        if self._evaluate is None:
            self._captured(state)
            return "".join(state.out)
        value = self._evaluate(state)
        result = value if type(value) is str else text(value)
        if len(result) > state.room:
            raise located(state.full(), self.source, 0)
        return result

    def _check_exports(self, state: RenderState) -> None:
        for name, place in self._exported:
            if name in state.context or name in FUNCTIONS:
                raise located(
                    TemplateRenderError(f"context key name '{name}' clashes with macro '{name}'"),
                    self.source,
                    place,
                )

    def values(
        self, context: Mapping[str, object], runtime: Runtime = BARE_RUNTIME
    ) -> dict[str, str]:
        """Return each of `variables` with its value as JSON, cut to 200 characters.

        A variable that cannot be read is ``null``.
        """
        return {name: _shown(reading, context, runtime) for name, reading in self._shown.items()}


def _only_path(parser: Parser, evaluate: Evaluate | None) -> Peek | None:
    """Return the fast lookup of the path that a template consists of, if it does."""
    if len(parser.readings) != 1:
        return None
    reading = parser.readings[0]
    return (
        reading.peek if reading.evaluate is evaluate and reading.root not in _ROOT_SCOPE else None
    )


def _explained(parser: Parser) -> dict[str, Reading]:
    """Return the paths that a template reads from the context, by their display form."""
    shown: dict[str, Reading] = {}
    for reading in parser.readings:
        root = reading.root
        hidden = (
            root in parser.bound
            or root in _CONVENTIONS
            or (root in FUNCTIONS and root not in EXPLAINED)
        )
        if not hidden:
            shown.setdefault(reading.shown, reading)
    return shown


def _shown(reading: Reading, context: Mapping[str, object], runtime: Runtime) -> str:
    known = None if reading.peek is None else reading.peek(context)
    if known is not None and (runtime.budget is None or runtime.budget.room >= 0):
        return _encode(clean(known[:_SHOWN_LENGTH]))[:_SHOWN_LENGTH]
    state = RenderState(context, _ROOT_SCOPE.copy(), runtime, compile_template)
    try:
        shown = _json(reading.evaluate(state), 0)[:_SHOWN_LENGTH]
        state.settle(0)
    except (FlyteError, RecursionError):
        return "null"
    return shown


def _json(value: Value, depth: int) -> str:
    """Write compact JSON, of which only the beginning will be used."""
    value = element(value)
    if value is None or isinstance(value, bool | int | float):
        return _json_number(value)
    if isinstance(value, str):
        return _encode(clean(value[:_SHOWN_LENGTH]))
    if depth > _SHOWN_LENGTH:
        return "..."
    if isinstance(value, dict):
        pairs = (f"{_json(str(key), 0)}:{_json(item, depth + 1)}" for key, item in value.items())
        return f"{{{_begun(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{_begun(_json(item, depth + 1) for item in value)}]"
    return json.dumps(text(value))


def _begun(parts: Iterable[str]) -> str:
    """Join parts with commas, up to the length that will be shown."""
    result = ""
    for part in parts:
        result += f",{part}" if result else part
        if len(result) > _SHOWN_LENGTH:
            break
    return result


def _json_number(value: object) -> str:
    if isinstance(value, LargeInteger):
        return str(value.exact)
    return json.dumps(
        int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        else value
    )


def compile_template(source: str, *, limits: Limits = DEFAULT_LIMITS) -> Template:
    """Compile a template; raise `TemplateSyntaxError` or `TemplateLimitError` with the place."""
    if len(source) > limits.source_length:
        raise located(
            TemplateLimitError(
                f"the template is longer than {limits.source_length} characters (limit"
                " source_length); shorten it"
            ),
            source,
            limits.source_length,
        )
    try:
        return (
            _compile_wrapped(source, limits)
            if "endautoescape" in source
            else _compile(source, limits)
        )
    except RecursionError:
        raise located(
            TemplateLimitError("the template is nested too deeply; nest less"), source, 0
        ) from None


def _compile(source: str, limits: Limits) -> Template:
    tokens = lex(source)
    parser = Parser(source, tokens, limits, LANGUAGE)
    parts = parser.document()
    if parser.statements == 1 and tokens[0][:2] == (SYMBOL, "{{"):
        return Template(parser, None, parser.only_expression)
    return Template(parser, sequence(parts, source))


def _compile_wrapped(source: str, limits: Limits) -> Template:
    """Compile a template that may end and reopen the `autoescape off` around it.

    The original allows that.
    """
    after = [(kind, value, len(source)) for kind, value, _ in lex(_AFTER)]
    before = [(kind, value, 0) for kind, value, _ in lex(_BEFORE)[:-1]]
    parser = Parser(source, [*before, *lex(source)[:-1], *after], limits, LANGUAGE)
    return Template(parser, autoescaped(sequence(parser.document(), source), on=True))
