"""Statements: the nodes of the syntax tree that print or bind names. Immutable, as expressions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.template.source import located
from flyteops.template.typed.node import Expression
from flyteops.template.typed.scope import Scope
from flyteops.template.typed.value import (
    LIST,
    MAP,
    NULL,
    Value,
    described,
    entries,
    kind_of,
    text_of,
    truth,
)

COUNTERS = frozenset(["loop", "forloop"])
"""The names under which the body of a loop reads its counters."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A node that prints or binds names."""

    offset: int

    def run(self, scope: Scope) -> None:
        """Print to a scope or bind names in it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class LiteralText(Statement):
    """Text that is printed as it is."""

    text: str

    def run(self, scope: Scope) -> None:
        scope.write(self.text)


@dataclass(frozen=True, slots=True)
class PrintedExpression(Statement):
    """An expression whose value is printed."""

    expression: Expression

    def run(self, scope: Scope) -> None:
        value = self.expression.evaluate(scope)
        try:
            scope.write(value if type(value) is str else text_of(value, scope.env))
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None


@dataclass(frozen=True, slots=True)
class Body(Statement):
    """Statements one after the other."""

    parts: tuple[Statement, ...]

    def run(self, scope: Scope) -> None:
        for part in self.parts:
            part.run(scope)


@dataclass(frozen=True, slots=True)
class Branches(Statement):
    """Bodies of which the first is run whose condition is true, or the last one, without any."""

    cases: tuple[tuple[Expression, Body], ...]
    otherwise: Body | None

    def run(self, scope: Scope) -> None:
        for condition, body in self.cases:
            if truth(condition.evaluate(scope)):
                body.run(scope)
                return
        if self.otherwise is not None:
            self.otherwise.run(scope)


@dataclass(frozen=True, slots=True)
class Assignment(Statement):
    """A name that gets a value, where it is already bound or else in the innermost loop."""

    name: str
    expression: Expression

    def run(self, scope: Scope) -> None:
        scope.local[self.name] = self.expression.evaluate(scope)


@dataclass(frozen=True, slots=True)
class ForLoop(Statement):
    """A body that is run for each item of a list or map, or another if there is none.

    `names` are one or two, `cost` the steps of one pass, `counts` whether the body reads counters.
    """

    names: tuple[str, ...]
    items: Expression
    is_reversed: bool
    body: Body
    otherwise: Body | None
    cost: int
    counts: bool

    def run(self, scope: Scope) -> None:
        found = self.items.evaluate(scope)
        try:
            items = self._items(found)
            scope.env.spend(len(items))
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None
        outer = scope.local.copy()
        if items:
            self._repeat(items[::-1] if self.is_reversed else items, scope)
        elif self.otherwise is not None:
            self.otherwise.run(scope)
        self._leave(outer, scope)

    def _repeat(self, items: Sequence[Value], scope: Scope) -> None:
        parent = scope.local.get("loop")
        for index, item in enumerate(items):
            try:
                scope.env.spend(self.cost)
                if len(self.names) == 1:
                    scope.local[self.names[0]] = item
                else:
                    scope.local.update(zip(self.names, _pair(item), strict=True))
            except TemplateError as error:
                raise located(error, scope.source, self.offset) from None
            if self.counts:
                counters = _counters(index, len(items), parent)
                scope.local.update(dict.fromkeys(COUNTERS, counters))
            self.body.run(scope)

    def _items(self, found: Value) -> Sequence[Value]:
        kind = kind_of(found)
        if kind == NULL:
            return ()
        if kind == LIST:
            return found  # type: ignore[no-any-return]
        if kind == MAP:
            return sorted(found) if len(self.names) == 1 else entries(found)
        raise TemplateRenderError(f"'for' needs a list or a map, not {described(found)}")

    def _leave(self, outer: Mapping[str, Value], scope: Scope) -> None:
        """Forget the names of the loop and those that were first bound in it."""
        inner = {*self.names, *COUNTERS}
        scope.local = {
            name: outer[name] if name in inner else value
            for name, value in scope.local.items()
            if name in outer
        }


def _pair(item: Value) -> Iterable[Value]:
    if isinstance(item, list | tuple) and len(item) == 2:
        return item
    raise TemplateRenderError(
        f"'for' with two names needs a map, or a list of pairs, not of {described(item)}"
    )


def _counters(index: int, size: int, parent: Value) -> dict[str, Value]:
    counters = {
        "index": index + 1,
        "index0": index,
        "revindex": size - index,
        "revindex0": size - index - 1,
        "first": index == 0,
        "last": index + 1 == size,
        "length": size,
        "parent": parent,
    }
    return counters | {name: counters[key] for name, key in _FIRST_EDITION}


_FIRST_EDITION = (
    ("Counter", "index"),
    ("Counter0", "index0"),
    ("Revcounter", "revindex"),
    ("Revcounter0", "revindex0"),
    ("First", "first"),
    ("Last", "last"),
    ("Parentloop", "parent"),
)
"""The names of the counters in edition 1."""
