"""Expressions: the nodes of the syntax tree that have a value.

Nodes are immutable, and everything about them can be read from their fields, so that programs can
derive from a tree which paths it reads and which conditions it implies. `offset` is the place in
the source at which an error of the node is reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import NamedTuple, TypeAlias

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.template.secret import ABOUT_SECRETS
from flyteops.template.source import located
from flyteops.template.typed.filter.spec import FilterCall
from flyteops.template.typed.function import TypedFunction
from flyteops.template.typed.operation import (
    COMPARISONS,
    MISSING,
    PRODUCTS,
    SUMS,
    Missing,
    member,
    negative,
)
from flyteops.template.typed.scope import Scope
from flyteops.template.typed.suggestion import did_you_mean
from flyteops.template.typed.value import TEXT, Value, described, kind_of, text_of, truth


@dataclass(frozen=True, slots=True)
class Expression:
    """A node that has a value."""

    offset: int

    def evaluate(self, scope: Scope) -> Value:
        """Return the value, or raise `TemplateRenderError` with its place."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Constant(Expression):
    """A literal: null, a boolean, a number or a text."""

    value: Value

    def evaluate(self, scope: Scope) -> Value:
        return self.value


@dataclass(frozen=True, slots=True)
class ListDisplay(Expression):
    """A list, such as ``[1, "a"]``."""

    items: tuple[Expression, ...]

    def evaluate(self, scope: Scope) -> Value:
        return [item.evaluate(scope) for item in self.items]


@dataclass(frozen=True, slots=True)
class MapDisplay(Expression):
    """A map, such as ``{"a": 1}``."""

    pairs: tuple[tuple[Expression, Expression], ...]

    def evaluate(self, scope: Scope) -> Value:
        result: dict[str, Value] = {}
        for key, item in self.pairs:
            name = key.evaluate(scope)
            if kind_of(name) != TEXT:
                error = TemplateRenderError(f"the keys of a map are texts, not {described(name)}")
                raise located(error, scope.source, key.offset)
            result[name] = item.evaluate(scope)
        return result


# --- reading
# --------------------------------------------------------------------------------------------------

Step: TypeAlias = str | int | Expression
"""A part of a path: a name or an index, or an expression in brackets that is not a constant."""


@dataclass(frozen=True, slots=True)
class Readable(Expression):
    """An expression whose value may be missing, which `is defined` distinguishes from null."""

    def find(self, scope: Scope, *, strict: bool) -> Value | Missing:
        """Return the value or `MISSING`; `strict` refuses to read parts of a text or number."""
        raise NotImplementedError

    def evaluate(self, scope: Scope) -> Value:
        found = self.find(scope, strict=True)
        return None if found is MISSING else found


@dataclass(frozen=True, slots=True)
class PathReading(Readable):
    """A path, such as ``Steps["roll-back"].Payload.items[0]``: its root, and its steps."""

    root: str
    steps: tuple[Step, ...]

    @property
    def static(self) -> tuple[str | int, ...]:
        """The path up to its first computed step."""
        return (self.root, *_constants(self.steps))

    def find(self, scope: Scope, *, strict: bool) -> Value | Missing:
        value = scope.local.get(self.root, MISSING)
        if value is MISSING:
            value = scope.given.get(self.root, MISSING)
            if value is MISSING and strict and self.root not in scope.bound:
                raise located(self._unknown(scope), scope.source, self.offset)
        return _walk(value, self.steps, scope, self.offset, strict=strict)

    def _unknown(self, scope: Scope) -> TemplateRenderError:
        known = [*scope.given, *scope.local, "true", "false", "null"]
        hint = did_you_mean(self.root, known)
        if scope.source[self.offset - 1 : self.offset] == "-":
            hint = f'{hint}; a key with a hyphen is read as x["a-b"]'
        return TemplateRenderError(f"the name '{self.root}' is unknown here{hint}")


@dataclass(frozen=True, slots=True)
class PartReading(Readable):
    """A part of the value of any other expression, such as ``datastore("team").lead``."""

    operand: Expression
    steps: tuple[Step, ...]

    def find(self, scope: Scope, *, strict: bool) -> Value | Missing:
        value = self.operand.evaluate(scope)
        return _walk(value, self.steps, scope, self.offset, strict=strict)


@dataclass(frozen=True, slots=True)
class DatastoreReading(Readable):
    """The value of a datastore item."""

    key: Expression

    def find(self, scope: Scope, *, strict: bool) -> Value | Missing:
        key = self.key.evaluate(scope)
        try:
            return self._item(key, scope)
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None

    def _item(self, key: Value, scope: Scope) -> Value | Missing:
        if kind_of(key) != TEXT:
            raise TemplateRenderError(
                f"the key of a datastore item is a text, not {described(key)}"
            )
        if scope.env.runtime.datastore is None:
            raise TemplateRenderError("the datastore cannot be read here")
        scope.env.spend(10)
        try:
            return scope.env.runtime.datastore(key)
        except KeyError:
            return MISSING


def _constants(steps: tuple[Step, ...]) -> Iterator[str | int]:
    for step in steps:
        if isinstance(step, Expression):
            return
        yield step


def _walk(
    value: Value | Missing, steps: tuple[Step, ...], scope: Scope, offset: int, *, strict: bool
) -> Value | Missing:
    try:
        for step in steps:
            if value is MISSING:
                return MISSING
            key = step.evaluate(scope) if isinstance(step, Expression) else step
            value = member(value, key, strict=strict)
    except TemplateError as error:
        raise located(error, scope.source, offset) from None
    return value


@dataclass(frozen=True, slots=True)
class Definedness(Expression):
    """Whether a value is defined (`wanted`), or is not."""

    operand: Readable
    wanted: bool

    def evaluate(self, scope: Scope) -> Value:
        return (self.operand.find(scope, strict=False) is not MISSING) is self.wanted


@dataclass(frozen=True, slots=True)
class SecretReference(Expression):
    """The placeholder of a secret, in one of `SECRET_FORMS`."""

    name: str
    form: str

    def evaluate(self, scope: Scope) -> Value:
        try:
            return self._placeholder(scope)
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None

    def _placeholder(self, scope: Scope) -> str:
        secret = scope.env.runtime.secret
        if secret is None:
            raise TemplateRenderError(ABOUT_SECRETS)
        scope.env.spend(10)
        try:
            return secret(self.name, self.form)
        except KeyError:
            raise TemplateRenderError(f"there is no secret named '{self.name}'") from None
        except LookupError as error:
            raise TemplateRenderError(f"cannot read the secret '{self.name}': {error}") from None


# --- calls
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FunctionCall(Expression):
    """A call of a function."""

    name: str
    function: TypedFunction
    arguments: tuple[Expression, ...]

    def evaluate(self, scope: Scope) -> Value:
        arguments = [argument.evaluate(scope) for argument in self.arguments]
        try:
            return self.function.call(scope.env, *arguments)
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None


class AppliedFilter(NamedTuple):
    """A filter in an expression, with its place and its arguments."""

    offset: int
    name: str
    call: FilterCall
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Pipeline(Expression):
    """A value that passes through filters, one after the other."""

    operand: Expression
    filters: tuple[AppliedFilter, ...]

    def evaluate(self, scope: Scope) -> Value:
        value = self.operand.evaluate(scope)
        for offset, _, call, arguments in self.filters:
            given = [argument.evaluate(scope) for argument in arguments]
            try:
                value = call(value, *given, env=scope.env)
            except TemplateError as error:
                raise located(error, scope.source, offset) from None
        return value


# --- operators
# --------------------------------------------------------------------------------------------------


class Operand(NamedTuple):
    """An operator with its place, and the operand to its right."""

    offset: int
    operator: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(Expression):
    """Operands joined by ``+ -`` or by ``* / // %``, from left to right."""

    first: Expression
    rest: tuple[Operand, ...]

    def evaluate(self, scope: Scope) -> Value:
        value = self.first.evaluate(scope)
        for offset, operator, expression in self.rest:
            right = expression.evaluate(scope)
            try:
                value = _ARITHMETIC[operator](value, right, scope.env)
            except TemplateError as error:
                raise located(error, scope.source, offset) from None
        return value


_ARITHMETIC = {**SUMS, **PRODUCTS}


@dataclass(frozen=True, slots=True)
class Concatenation(Expression):
    """Operands joined as text by ``~``."""

    operands: tuple[Expression, ...]

    def evaluate(self, scope: Scope) -> Value:
        values = [operand.evaluate(scope) for operand in self.operands]
        try:
            return scope.env.check_text("".join([text_of(value, scope.env) for value in values]))
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None


@dataclass(frozen=True, slots=True)
class Minus(Expression):
    """A number with the opposite sign."""

    operand: Expression

    def evaluate(self, scope: Scope) -> Value:
        value = self.operand.evaluate(scope)
        try:
            return negative(value)
        except TemplateError as error:
            raise located(error, scope.source, self.offset) from None


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """A chain of comparisons, all of which must hold: ``0 < x <= 9``, ``x not in y``."""

    first: Expression
    rest: tuple[Operand, ...]

    def evaluate(self, scope: Scope) -> Value:
        left = self.first.evaluate(scope)
        for offset, operator, expression in self.rest:
            right = expression.evaluate(scope)
            try:
                if not COMPARISONS[operator](left, right, scope.env):
                    return False
            except TemplateError as error:
                raise located(error, scope.source, offset) from None
            left = right
        return True


@dataclass(frozen=True, slots=True)
class Conjunction(Expression):
    """Conditions joined by ``and``: true or false, evaluated up to the first that is false."""

    operands: tuple[Expression, ...]

    def evaluate(self, scope: Scope) -> Value:
        return all(truth(operand.evaluate(scope)) for operand in self.operands)


@dataclass(frozen=True, slots=True)
class Disjunction(Expression):
    """Conditions joined by ``or``: true or false, evaluated up to the first that is true."""

    operands: tuple[Expression, ...]

    def evaluate(self, scope: Scope) -> Value:
        return any(truth(operand.evaluate(scope)) for operand in self.operands)


@dataclass(frozen=True, slots=True)
class Negation(Expression):
    """The opposite of a condition."""

    operand: Expression

    def evaluate(self, scope: Scope) -> Value:
        return not truth(self.operand.evaluate(scope))


@dataclass(frozen=True, slots=True)
class Conditional(Expression):
    """One of two values: ``a if c else b``."""

    condition: Expression
    chosen: Expression
    otherwise: Expression

    def evaluate(self, scope: Scope) -> Value:
        is_true = truth(self.condition.evaluate(scope))
        return (self.chosen if is_true else self.otherwise).evaluate(scope)


def walk(node: object) -> Iterator[object]:
    """Yield a node of the syntax tree and all nodes inside it, in the order of the source."""
    if is_dataclass(node):
        yield node
        for field in fields(node):
            yield from walk(getattr(node, field.name))
    elif isinstance(node, tuple):
        for part in node:
            yield from walk(part)
