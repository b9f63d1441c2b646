"""Tags that bind names: set, with, macro, block."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flyteops.errors import TemplateAbort, TemplateLimitError, TemplateRenderError
from flyteops.template.lexer import KEYWORD, NAME, SYMBOL, Token
from flyteops.template.node import Node
from flyteops.template.parser import Parser
from flyteops.template.path import Evaluate
from flyteops.template.source import located
from flyteops.template.state import RenderState
from flyteops.template.tag.report import report
from flyteops.template.value import Function, SafeText, Struct, joined

Binding = tuple[str, Evaluate]


def set_tag(parser: Parser, _opening: Token) -> Node:
    """Read `set x = E`."""
    name = parser.expect(NAME, "Expected an identifier.")[1]
    parser.expect(SYMBOL, "Expected '='.", "=")
    evaluate = parser.expression()
    parser.close("Malformed 'set'-tag arguments.")
    parser.bound.add(name)

    def run(state: RenderState) -> None:
        state.scope[name] = evaluate(state)

    return run


def with_tag(parser: Parser, opening: Token) -> Node:
    """Read `with a=E b=E ... endwith`, or the older `with E as a E as b`."""
    bindings: list[Binding] = []
    read = _read_old_binding if _has_as(parser) else _read_binding
    while not parser.at_close():
        bindings.append(read(parser))
    if not bindings:
        raise parser.error("Tag 'with' requires at least one argument.")
    parser.close()
    parser.bound.update(name for name, _ in bindings)
    body, _ = parser.body(opening, "endwith")
    parser.close()

    def run(state: RenderState) -> None:
        outer = state.scope
        state.charge(len(outer) >> 2)
        inner = outer | {name: evaluate(state) for name, evaluate in bindings}
        state.scope = inner
        try:
            body(state)
        finally:
            state.scope = outer

    return run


def _has_as(parser: Parser) -> bool:
    """Return whether an `as` follows anywhere, which marks the older form."""
    start, found = parser.position, False
    while not parser.at_end() and not parser.at_close():
        found = found or parser.current[:2] == (KEYWORD, "as")
        parser.position += 1
    parser.position = start
    return found


def _read_binding(parser: Parser) -> Binding:
    name = parser.expect(NAME, "Expected an identifier.")[1]
    parser.expect(SYMBOL, "Expected '='.", "=")
    return name, parser.expression()


def _read_old_binding(parser: Parser) -> Binding:
    evaluate = parser.expression()
    parser.expect(KEYWORD, "Expected 'as' keyword.", "as")
    return parser.expect(NAME, "Expected an identifier.")[1], evaluate


def block_tag(parser: Parser, opening: Token) -> Node:
    """Read `block name ... endblock [name]`, which prints its body."""
    name = parser.expect(NAME, "First argument for tag 'block' must be an identifier.")
    parser.close("Tag 'block' takes exactly 1 argument (an identifier).")
    if name[1] in parser.blocks:
        raise parser.error(f"Block named '{name[1]}' already defined", name)
    parser.blocks.add(name[1])
    parser.bound.add("block")
    body, _ = parser.body(opening, "endblock")
    end = parser.accept(NAME)
    if end is not None and end[1] != name[1]:
        raise parser.error(
            f"Name for 'endblock' must equal to 'block'-tag's name ('{name[1]}' != '{end[1]}').",
            end,
        )
    parser.close("Either no or only one argument (identifier) allowed for 'endblock'.")

    def run(state: RenderState) -> None:
        above = Function("Super", (), lambda _state, _arguments: SafeText(""))
        state.scope["block"] = Struct("pongo2.tagBlockInformation", {"Super": above})
        body(state)

    return run


def macro_tag(parser: Parser, opening: Token) -> Node:
    """Read `macro name(a, b=E) [export] ... endmacro`."""
    name = parser.expect(NAME, "Macro-tag needs at least an identifier as name.")[1]
    parser.expect(SYMBOL, "Expected '('.", "(")
    parameters = _read_parameters(parser)
    if parser.accept(KEYWORD, "export"):
        parser.exported.append((name, opening[2]))
    parser.close("Malformed macro-tag.")
    parser.bound.update([name, *(parameter for parameter, _ in parameters)])
    before = parser.work
    body, _ = parser.body(opening, "endmacro")
    parser.close()
    macro = _Macro(name, parameters, body, parser.work - before + 5, parser.source, opening[2])

    def run(state: RenderState) -> None:
        state.scope[name] = macro.function(state)

    return run


def _read_parameters(parser: Parser) -> list[tuple[str, Evaluate | None]]:
    parameters: list[tuple[str, Evaluate | None]] = []
    while not parser.accept(SYMBOL, ")"):
        name = parser.expect(NAME, "Expected argument name as identifier.")[1]
        parameters.append((name, parser.expression() if parser.accept(SYMBOL, "=") else None))
        if parser.accept(SYMBOL, ")"):
            break
        parser.expect(SYMBOL, "Expected ',' or ')'.", ",")
    return parameters


@dataclass(frozen=True, slots=True)
class _Macro:
    """A macro in the source; every run of its tag makes a function that sees the scope there."""

    name: str
    parameters: Sequence[tuple[str, Evaluate | None]]
    body: Node
    cost: int
    source: str
    offset: int

    def function(self, state: RenderState) -> Function:
        """Return the function that the name stands for from here on."""
        scope, autoescape = state.scope, state.autoescape
        return Function(
            self.name,
            None,
            lambda state, arguments: self._call(state, arguments, scope, autoescape=autoescape),
        )

    def _call(
        self, state: RenderState, arguments: list[Any], scope: dict[str, Any], *, autoescape: bool
    ) -> SafeText:
        """Print the body.

        An error in it, or in a default, becomes its text, as flows may rely on that.
        """
        state.enter()
        state.charge(self.cost + len(scope))
        kept = state.scope, state.autoescape
        state.scope, state.autoescape = scope, autoescape
        try:
            return SafeText(self._printed(state, arguments))
        except (TemplateAbort, TemplateLimitError):
            raise
        except TemplateRenderError as error:
            return SafeText(report(located(error, self.source, self.offset), self.source))
        finally:
            state.scope, state.autoescape = kept
            state.depth -= 1

    def _printed(self, state: RenderState, arguments: list[Any]) -> str:
        inner = dict(state.scope)
        # Every default is evaluated, also for a parameter that has an argument, and before the
        # arguments are counted.
        for name, default in self.parameters:
            inner[name] = default(state) if default is not None else None
        if len(arguments) > len(self.parameters):
            raise TemplateRenderError(
                f"Macro '{self.name}' called with too many arguments ({len(arguments)} instead of"
                f" {len(self.parameters)})."
            )
        for (name, _), argument in zip(self.parameters, arguments, strict=False):
            inner[name] = argument
        state.scope = inner
        return joined(state.captured(self.body))
