"""Tags for branches and loops: if, ifequal, ifchanged, for, firstof, cycle."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteops.errors import TemplateAbort, TemplateError
from flyteops.template.lexer import KEYWORD, NAME, SYMBOL, Token
from flyteops.template.node import Node, printed
from flyteops.template.parser import Parser, Reading
from flyteops.template.path import Evaluate
from flyteops.template.source import located
from flyteops.template.state import RenderState
from flyteops.template.value import (
    ELEMENTS,
    LISTS,
    MAPS,
    TEXTS,
    Cycle,
    Strings,
    Struct,
    Value,
    element,
    equal,
    from_bytes,
    text,
    to_bytes,
    truth,
)

_COUNTERS = frozenset(["Counter", "Counter0", "Revcounter", "Revcounter0", "First", "Last"])


def nothing(_state: RenderState) -> None:
    """Print nothing."""


def if_tag(parser: Parser, opening: Token) -> Node:
    """Read `if E ... elif E ... else ... endif`; the body of a second else is never printed."""
    branches: list[tuple[Evaluate, Node]] = []
    otherwise: Node | None = None
    name = "elif"
    while name != "endif":
        if name == "elif":
            condition = parser.expression()
            parser.close("If-condition is malformed.")
            body, name = parser.body(opening, "elif", "else", "endif")
            branches.append((condition, body))
        else:
            parser.close()
            body, name = parser.body(opening, "elif", "else", "endif")
            otherwise = otherwise or body
    parser.close()
    return _choice(branches, otherwise or nothing)


def _choice(branches: Sequence[tuple[Evaluate, Node]], otherwise: Node) -> Node:
    def run(state: RenderState) -> None:
        for condition, body in branches:
            if truth(condition(state)):
                body(state)
                return
        otherwise(state)

    return run


def ifequal_tag(parser: Parser, opening: Token) -> Node:
    """Read `ifequal A B ... else ... endifequal`."""
    return _comparison(parser, opening, wanted=True)


def ifnotequal_tag(parser: Parser, opening: Token) -> Node:
    """Read `ifnotequal A B ... else ... endifnotequal`."""
    return _comparison(parser, opening, wanted=False)


def _comparison(parser: Parser, opening: Token, *, wanted: bool) -> Node:
    left, right = parser.expression(), parser.expression()
    parser.close(f"{opening[1]} only takes 2 arguments.")
    body, otherwise = _body_and_else(parser, opening, f"end{opening[1]}")
    source, offset = parser.source, opening[2]

    def run(state: RenderState) -> None:
        first, second = left(state), right(state)
        try:
            same = equal(first, second)
        except TemplateError as error:
            raise located(error, source, offset) from None
        if same is wanted:
            body(state)
        elif otherwise is not None:
            otherwise(state)

    return run


def _body_and_else(
    parser: Parser, opening: Token, end: str, other: str = "else"
) -> tuple[Node, Node | None]:
    body, name = parser.body(opening, other, end)
    parser.close()
    if name == end:
        return body, None
    otherwise, _ = parser.body(opening, end)
    parser.close()
    return body, otherwise


def ifchanged_tag(parser: Parser, opening: Token) -> Node:
    """Read `ifchanged [E ...] ... else ... endifchanged`."""
    watched: list[Evaluate] = []
    while not parser.at_close():
        watched.append(parser.expression())
    parser.close()
    body, otherwise = _body_and_else(parser, opening, "endifchanged")
    return (
        _changed_values(parser, opening, watched, body, otherwise)
        if watched
        else _changed_output(body, otherwise)
    )


def _changed_values(
    parser: Parser, opening: Token, watched: list[Evaluate], body: Node, otherwise: Node | None
) -> Node:
    source, offset, node = parser.source, opening[2], object()

    def run(state: RenderState) -> None:
        last: list[Any] = state.remember(node, [])
        now = [evaluate(state) for evaluate in watched]
        try:
            same = bool(last) and all(equal(old, new) for old, new in zip(last, now, strict=True))
            if same and otherwise is None:
                raise TemplateAbort(
                    "ifchanged with arguments needs an else for values that have not changed"
                )
        except TemplateError as error:
            raise located(error, source, offset) from None
        if not same:
            last[:] = now
            body(state)
        elif otherwise is not None:
            otherwise(state)

    return run


def _changed_output(body: Node, otherwise: Node | None) -> Node:
    node = object()

    def run(state: RenderState) -> None:
        last: list[str] = state.remember(node, [""])
        now = state.captured(body)
        if now != last[0]:
            last[0] = now
            state.write(now)
        elif otherwise is not None:
            otherwise(state)

    return run


def for_tag(parser: Parser, opening: Token) -> Node:
    """Read `for k[, v] in E [reversed] [sorted] ... empty ... endfor`."""
    key = parser.expect(NAME, "Expected an key identifier as first argument for 'for'-tag")[1]
    value = None
    if parser.accept(SYMBOL, ","):
        value = parser.expect(NAME, "Value name must be an identifier.")[1]
    parser.expect(KEYWORD, "Expected keyword 'in'.", "in")
    collection = parser.expression()
    backwards = parser.accept(NAME, "reversed") is not None
    ordered = parser.accept(NAME, "sorted") is not None
    parser.close("Malformed for-loop arguments.")
    parser.bound.update({key, "forloop"} | ({value} if value else set()))
    before, seen = parser.work, len(parser.readings)
    body, empty = _body_and_else(parser, opening, "endfor", "empty")
    counters = _counters(parser.readings[seen:])
    loop = _Loop(key, value, body, parser.work - before + 2, counters)
    source, offset = parser.source, opening[2]

    def run(state: RenderState) -> None:
        found = collection(state)
        outer = state.scope
        try:
            items, size = _items(found, state, backwards=backwards, ordered=ordered)
            state.charge(len(outer) >> 2)
            state.scope = dict(outer)
            if size:
                loop.repeat(items, size, found if type(found) in MAPS else None, state)
            elif empty is not None:
                empty(state)
        except TemplateError as error:
            raise located(error, source, offset) from None
        finally:
            state.scope = outer

    return run


def _counters(readings: Sequence[Reading]) -> frozenset[str]:
    """Return the counters that a body may read.

    All of them if it reads their structure in any other way than by the name of a counter.
    """
    used = {reading.shown for reading in readings if reading.root == "forloop"}
    names = frozenset(name for name in _COUNTERS if f"forloop.{name}" in used)
    return names if len(names) == len(used) else _COUNTERS


def _items(
    found: Value, state: RenderState, *, backwards: bool, ordered: bool
) -> tuple[Iterable[tuple[int, Any]], int]:
    """Return the items of a loop with the index that its counters show, and their number."""
    kind = type(found)
    if kind in TEXTS:
        return _bytes_of(found, state, backwards=backwards, ordered=ordered)
    if kind not in MAPS and kind not in LISTS:
        return (), 0
    state.charge(len(found))
    if kind in MAPS:
        return enumerate(sorted(found, key=to_bytes, reverse=backwards and ordered)), len(found)
    items = sorted(found, key=to_bytes) if ordered and kind is Strings else found
    # Sorting JSON items does nothing, and then reversing them does nothing either.
    if backwards and (kind is Strings or not ordered):
        items = items[::-1]
    return enumerate(items), len(items)


def _bytes_of(
    found: str, state: RenderState, *, backwards: bool, ordered: bool
) -> tuple[Iterable[tuple[int, Any]], int]:
    if ordered:
        raise TemplateAbort("sorting the characters of a string is not supported")
    data = to_bytes(found)
    state.charge(len(data))
    indexes = range(len(data))
    items = (
        (index, from_bytes(data[index : index + 1]))
        for index in (indexes[::-1] if backwards else indexes)
    )
    return items, len(data)


@dataclass(frozen=True, slots=True)
class _Loop:
    """The names that a loop binds, its body, the steps of one pass, and the counters it reads."""

    key: str
    value: str | None
    body: Node
    cost: int
    counters: frozenset[str]

    def repeat(
        self,
        items: Iterable[tuple[int, Any]],
        size: int,
        found: Mapping[str, Any] | None,
        state: RenderState,
    ) -> None:
        """Run the body once for each item; the items of a map, `found`, are its keys."""
        scope, key, value, body, cost = state.scope, self.key, self.value, self.body, self.cost
        counts, counts_more = bool(self.counters), not self.counters <= {"Counter"}
        # First and Last change once at most, as in the original: they follow the index, which
        # counts down in a reversed text.
        counters: dict[str, Any] = {
            "Parentloop": scope.get("forloop"),
            "First": True,
            "Last": False,
        }
        scope["forloop"] = Struct("pongo2.tagForLoopInformation", counters, comparable=True)
        for index, item in items:
            # The same as `state.charge`, without a call for each pass.
            state.steps = steps = state.steps - cost
            if steps < state.pause:
                state.check()
            if counts:
                counters["Counter"] = index + 1
            if counts_more:
                counters["Counter0"] = index
                counters["Revcounter"] = size - index
                counters["Revcounter0"] = size - index - 1
                if index == 1:
                    counters["First"] = False
                if index + 1 == size:
                    counters["Last"] = True
            scope[key] = item if type(item) in ELEMENTS else element(item)
            if found is not None:
                second = element(found[item])
                if value is not None:
                    scope[value] = second
            body(state)


def firstof_tag(parser: Parser, _opening: Token) -> Node:
    """Read `firstof E E ...`."""
    choices: list[tuple[Evaluate, bool]] = []
    while not parser.at_close():
        choices.append(parser.printed_expression())
    parser.close()

    def run(state: RenderState) -> None:
        for evaluate, safe in choices:
            value = evaluate(state)
            if truth(value):
                state.write(printed(value, state, safe=safe))
                return

    return run


def cycle_tag(parser: Parser, opening: Token) -> Node:
    """Read `cycle E ... [as name [silent]]`."""
    choices: list[Evaluate] = []
    name, silent = None, False
    while not parser.at_close():
        choices.append(parser.printed_expression(may_be_secret=False)[0])
        if parser.accept(KEYWORD, "as"):
            name = parser.expect(NAME, "Name (identifier) expected after 'as'.")[1]
            silent = parser.accept(NAME, "silent") is not None
            parser.bound.add(name)
            break
    parser.close("Malformed cycle-tag.")
    advance = _advance(choices, silent=silent)
    source, offset = parser.source, opening[2]

    def run(state: RenderState) -> None:
        if not choices:
            raise located(TemplateAbort("cycle without values"), source, offset)
        value, hidden = advance(state)
        if type(value) is Cycle:
            # The value is itself a cycle's: that one advances.
            value.value, hidden = value.advance(state)
            value = value.value
        elif name is not None:
            state.scope[name] = Cycle(value, advance)
        if not hidden:
            state.write(text(value))

    return run


def _advance(choices: list[Evaluate], *, silent: bool) -> Callable[[RenderState], tuple[Any, bool]]:
    node = object()

    def advance(state: RenderState) -> tuple[Any, bool]:
        turn: list[int] = state.remember(node, [0])
        index = turn[0]
        turn[0] += 1
        return choices[index % len(choices)](state), silent

    return advance
