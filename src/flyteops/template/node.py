"""The closures of compiled templates.

An `Evaluate` returns a value, a `Node` prints. Chains of any length are loops, not nested calls, so
that flat expressions do not need a deep stack.
"""

from collections.abc import Callable, Sequence
from typing import Any

from flyteops.errors import TemplateError
from flyteops.template.arithmetic import COMPARISONS, contained, power
from flyteops.template.filter.spec import Filter
from flyteops.template.markup import escape
from flyteops.template.path import Evaluate
from flyteops.template.source import located
from flyteops.template.state import BIG_TEXT, RenderState
from flyteops.template.value import LISTS, TEXTS, Value, text, truth

Node = Callable[[RenderState], None]
Binary = Callable[[Any, Any], Any]

_SEARCHED = LISTS | TEXTS
_OPERATORS: dict[str, Binary] = {**COMPARISONS, "^": power}


def constant(value: object) -> Evaluate:
    """Return a literal."""
    return lambda _: value


def prefixed(
    operand: Evaluate, operators: Sequence[Callable[[Any], Any]], source: str, offset: int
) -> Evaluate:
    """Apply `not`, then the sign."""

    def evaluate(state: RenderState) -> object:
        value = operand(state)
        try:
            for operator in operators:
                value = operator(value)
        except TemplateError as error:
            raise located(error, source, offset) from None
        return value

    return evaluate


def left_chain(
    first: Evaluate, rest: Sequence[tuple[Binary, Evaluate, int]], source: str
) -> Evaluate:
    """Apply operators from left to right."""

    def evaluate(state: RenderState) -> object:
        value = first(state)
        for operator, operand, offset in rest:
            right = operand(state)
            try:
                value = operator(value, right)
            except TemplateError as error:
                raise located(error, source, offset) from None
        return value

    return evaluate


def right_chain(
    operands: Sequence[Evaluate], operators: Sequence[tuple[str, int]], source: str
) -> Evaluate:
    """Apply powers or comparisons from right to left.

    The operands are computed from left to right.
    """
    steps = [(_OPERATORS[symbol], offset) for symbol, offset in operators]
    if len(steps) == 1:
        return _operated_once(operands, *steps[0], source)

    def evaluate(state: RenderState) -> object:
        values = [operand(state) for operand in operands]
        value = values.pop()
        for operator, offset in reversed(steps):
            try:
                if operator is contained and type(value) in _SEARCHED:
                    state.charge(len(value) >> 3)
                value = operator(values.pop(), value)
            except TemplateError as error:
                raise located(error, source, offset) from None
        return value

    return evaluate


def _operated_once(
    operands: Sequence[Evaluate], operator: Binary, offset: int, source: str
) -> Evaluate:
    """Apply one operator like `right_chain`, without its lists."""
    first, second = operands
    searches = operator is contained

    def evaluate(state: RenderState) -> object:
        left, right = first(state), second(state)
        try:
            if searches and type(right) in _SEARCHED:
                state.charge(len(right) >> 3)
            return operator(left, right)
        except TemplateError as error:
            raise located(error, source, offset) from None

    return evaluate


def logic_chain(operands: Sequence[Evaluate], stops: Sequence[bool]) -> Evaluate:
    """Join with and/or, which bind equally and to the right.

    `stops` are the truth values that decide at once.
    """
    *firsts, last = operands
    pairs = list(zip(firsts, stops, strict=True))

    def evaluate(state: RenderState) -> bool:
        for operand, stop in pairs:
            if truth(operand(state)) is stop:
                return stop
        return truth(last(state))

    return evaluate


FilterStep = tuple[Callable[[Any, Any, RenderState], Any], Evaluate | None, Any, int]


def filter_step(
    spec: Filter, argument: Evaluate | None, literal: object, offset: int
) -> FilterStep:
    """Bind a filter to its argument; a literal one may be prepared once."""
    call = spec.call
    if spec.prepare is not None and argument is None:
        call = spec.prepare(literal)
    return call, argument, literal, offset


def apply_filter(step: FilterStep, value: Value, state: RenderState, source: str) -> Value:
    """Run one filter within the limits."""
    call, argument, literal, offset = step
    try:
        if type(value) is str and len(value) > BIG_TEXT:
            state.charge(len(value) >> 6)
        elif type(value) in LISTS:
            state.charge(len(value) >> 2)
        result = call(value, literal if argument is None else argument(state), state)
        if isinstance(result, str) and len(result) > BIG_TEXT:
            state.check_length(len(result))
    except TemplateError as error:
        raise located(error, source, offset) from None
    return result


def filtered(operand: Evaluate, steps: Sequence[FilterStep], source: str) -> Evaluate:
    """Pass a value through filters."""
    if len(steps) == 1:
        return _filtered_once(operand, steps[0], source)

    def evaluate(state: RenderState) -> object:
        value = operand(state)
        for step in steps:
            value = apply_filter(step, value, state, source)
        return value

    return evaluate


def _filtered_once(operand: Evaluate, step: FilterStep, source: str) -> Evaluate:
    """Apply one filter like `apply_filter`, without the checks that short texts do not need."""
    call, argument, literal, offset = step

    def evaluate(state: RenderState) -> object:
        value = operand(state)
        if type(value) is not str or len(value) > BIG_TEXT:
            return apply_filter(step, value, state, source)
        try:
            result = call(value, literal if argument is None else argument(state), state)
            if isinstance(result, str) and len(result) > BIG_TEXT:
                state.check_length(len(result))
        except TemplateError as error:
            raise located(error, source, offset) from None
        return result

    return evaluate


Piece = tuple[str, int, Evaluate | None, int, bool]
"""Literal text and its offset, and an expression to print after it, its offset, and whether it is
safe.
"""


def printed(value: object, state: RenderState, *, safe: bool) -> str:
    """Return the text of a value as `{{ }}` prints it, with autoescape applied."""
    if type(value) is not str:
        return text(value)
    return escape(value) if state.autoescape and not safe else value


def print_run(pieces: Sequence[Piece], source: str) -> Node:
    """Print literal texts and the values of expressions.

    This is `RenderState.write` for each of them, in one loop because most templates are little
    else.
    """
    sized = [(piece[0], len(piece[0]), *piece[1:]) for piece in pieces]

    def run(state: RenderState) -> None:
        out = state.out
        for content, size, begin, expression, offset, safe in sized:
            if size:
                state.room = room = state.room - size
                if room < 0:
                    raise located(state.full(), source, begin)
                out.append(content)
            if expression is not None:
                value = expression(state)
                kind = type(value)
                if kind is not str:
                    value = str(value) if kind is int else text(value)
                elif state.autoescape and not safe:
                    value = escape(value)
                state.room = room = state.room - len(value)
                if room < 0:
                    raise located(state.full(), source, offset)
                out.append(value)

    return run


def sequence(parts: Sequence[Node | Piece], source: str) -> Node:
    """Run nodes one after the other; neighbouring pieces become one node."""
    nodes: list[Node] = []
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, tuple):
            pieces.append(part)
            continue
        if pieces:
            nodes.append(print_run(pieces, source))
            pieces = []
        nodes.append(part)
    if pieces:
        nodes.append(print_run(pieces, source))
    return nodes[0] if len(nodes) == 1 else _all(nodes)


def _all(nodes: Sequence[Node]) -> Node:
    def run(state: RenderState) -> None:
        for node in nodes:
            node(state)

    return run
