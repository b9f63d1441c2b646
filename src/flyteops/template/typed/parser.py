"""The parser of expressions: tokens in, syntax tree out."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from flyteops.errors import TemplateLimitError, TemplateRenderError, TemplateSyntaxError
from flyteops.template.limit import Limits
from flyteops.template.source import located
from flyteops.template.typed.filter import FILTERS
from flyteops.template.typed.filter.spec import FilterCall, TypedFilter
from flyteops.template.typed.function import FUNCTIONS, REPLACED
from flyteops.template.typed.lexer import END, NAME, NUMBER, STRING, SYMBOL, Lexeme, lex
from flyteops.template.typed.node import (
    AppliedFilter,
    Arithmetic,
    Comparison,
    Concatenation,
    Conditional,
    Conjunction,
    Constant,
    DatastoreReading,
    Definedness,
    Disjunction,
    Expression,
    FunctionCall,
    ListDisplay,
    MapDisplay,
    Minus,
    Negation,
    Operand,
    PartReading,
    PathReading,
    Pipeline,
    Readable,
    Step,
)
from flyteops.template.typed.operation import COMPARISONS, PRODUCTS, SUMS
from flyteops.template.typed.statement import COUNTERS
from flyteops.template.typed.suggestion import did_you_mean
from flyteops.template.typed.value import MAX_BITS

ABOUT_PRINTED_SECRETS = (
    "a secret can only be printed: {{ secret('name') }}, or with |shellquote or |urlencode added"
)
LITERALS: Mapping[str, bool | None] = MappingProxyType(
    {
        "true": True,
        "True": True,
        "false": False,
        "False": False,
        "null": None,
        "none": None,
        "None": None,
    }
)
KEYWORDS = frozenset(["and", "or", "not", "in", "is", "if", "else"])
_MAX_DIGITS = 1_000


class ExpressionParser:
    """A recursive descent parser of the expressions between braces.

    `paths` are the static parts of the paths read from outside, in order; `keys` those of datastore
    items, None if one is computed; `bound` the names that the template binds anywhere, and
    `certain` those that are bound at this place whatever the values are; `work` counts the parts,
    as a measure of the cost.
    """

    def __init__(self, source: str, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.paths: dict[tuple[str | int, ...], None] = {}
        self.keys: set[str] | None = set()
        self.functions: set[str] = set()
        self.secrets: list[str] = []
        self.bound: set[str] = set()
        self.certain: frozenset[str] = frozenset()
        self.counts = False
        self.work = 0
        self.tokens = lex(source)
        self.position = 0
        self._depth = 0
        self._parts = 0
        self._brackets: Mapping[str, Callable[[Lexeme], Expression]] = {
            "(": self._parenthesized,
            "[": self._list,
            "{": self._map,
        }

    # --- tokens
    # ----------------------------------------------------------------------------------------------

    @property
    def current(self) -> Lexeme:
        """The next token, which is not read yet."""
        return self.tokens[self.position]

    def error(self, message: str, token: Lexeme | None = None) -> TemplateSyntaxError:
        """Return a syntax error at a token, the next one if none is given."""
        return located(TemplateSyntaxError(message), self.source, (token or self.current).offset)

    def accept(self, value: str, kind: str = SYMBOL) -> Lexeme | None:
        """Read the next token if it is this one."""
        token = self.tokens[self.position]
        if token.kind == kind and token.value == value:
            self.position += 1
            return token
        return None

    def expect(self, value: str, message: str) -> Lexeme:
        """Read the next token, which must be this symbol."""
        token = self.accept(value)
        if token is None:
            raise self.error(f"{message}, not {self.found()}")
        return token

    def found(self) -> str:
        """Describe the next token, for messages."""
        kind, value, _ = self.current
        if kind == END:
            return "the end"
        return f"the text {value[:40]!r}" if kind == STRING else f"'{value[:40]}'"

    def begin(self) -> None:
        """Begin another expression or tag, whose parts are counted anew."""
        self._parts = 0

    def _count(self, token: Lexeme) -> None:
        self.work += 1
        self._parts += 1
        if self._parts > self.limits.operators:
            message = (
                f"an expression or tag has more than {self.limits.operators} parts (limit"
                " operators); break it up with set"
            )
            raise located(TemplateLimitError(message), self.source, token.offset)

    def enter(self, token: Lexeme) -> None:
        """Enter a level of nesting; `leave` ends it."""
        self._depth += 1
        if self._depth > self.limits.parse_depth:
            message = (
                "parentheses, calls and tags are nested deeper than"
                f" {self.limits.parse_depth} (limit parse_depth); nest less"
            )
            raise located(TemplateLimitError(message), self.source, token.offset)

    def leave(self) -> None:
        """Leave a level of nesting."""
        self._depth -= 1

    # --- operators
    # ----------------------------------------------------------------------------------------------

    def expression(self) -> Expression:
        """Read an expression."""
        start = self.current
        chosen = self._disjunction()
        if not self.accept("if", NAME):
            return chosen
        self._count(start)
        condition = self._disjunction()
        if not self.accept("else", NAME):
            raise self.error(
                f"'else' is missing: write 'a if condition else b', not {self.found()}"
            )
        self.enter(start)
        otherwise = self.expression()
        self.leave()
        return Conditional(start.offset, condition, chosen, otherwise)

    def _disjunction(self) -> Expression:
        return self._joined("or", self._conjunction, Disjunction)

    def _conjunction(self) -> Expression:
        return self._joined("and", self._negation, Conjunction)

    def _joined(
        self,
        word: str,
        operand: Callable[[], Expression],
        node: Callable[[int, tuple[Expression, ...]], Expression],
    ) -> Expression:
        offset = self.current.offset
        operands = [operand()]
        while token := self.accept(word, NAME):
            self._count(token)
            operands.append(operand())
        return operands[0] if len(operands) == 1 else node(offset, tuple(operands))

    def _negation(self) -> Expression:
        token = self.accept("not", NAME)
        if token is None:
            return self._comparison()
        self._count(token)
        self.enter(token)
        operand = self._negation()
        self.leave()
        return Negation(token.offset, operand)

    def _comparison(self) -> Expression:
        first = self._concatenation()
        if self._at_word("is"):
            return self._definedness(first)
        rest: list[Operand] = []
        while operator := self._comparison_operator():
            self._count(operator)
            rest.append(Operand(operator.offset, operator.value, self._concatenation()))
        if rest and self._at_word("is"):
            raise self.error("put parentheses around the comparison with 'is'")
        return Comparison(first.offset, first, tuple(rest)) if rest else first

    def _at_word(self, word: str) -> bool:
        return self.current.kind == NAME and self.current.value == word

    def _comparison_operator(self) -> Lexeme | None:
        token = self.current
        if token.kind == SYMBOL and token.value in COMPARISONS:
            self.position += 1
            return token
        if token.kind == SYMBOL and token.value == "=":
            raise self.error("'=' does not compare; write '=='")
        if self.accept("not", NAME):
            if not self.accept("in", NAME):
                raise self.error(f"'in' is missing after 'not', there is {self.found()}")
            return token._replace(value="not in")
        return self.accept("in", NAME)

    def _definedness(self, operand: Expression) -> Expression:
        token = self.current
        self.position += 1
        self._count(token)
        is_wanted = not self.accept("not", NAME)
        if not self.accept("defined", NAME):
            raise self.error(
                f"write 'is defined' or 'is not defined', not 'is' and {self.found()}; '=='"
                " compares"
            )
        if not isinstance(operand, Readable):
            raise self.error("only a path, such as Event.Payload.id, can be defined or not", token)
        if self._at_word("is") or self._comparison_operator():
            raise self.error("put parentheses around the comparison with 'is'", token)
        return Definedness(token.offset, operand, is_wanted)

    def _concatenation(self) -> Expression:
        offset = self.current.offset
        operands = [self._sum()]
        while token := self.accept("~"):
            self._count(token)
            operands.append(self._sum())
        return operands[0] if len(operands) == 1 else Concatenation(offset, tuple(operands))

    def _sum(self) -> Expression:
        return self._chain(SUMS, self._product)

    def _product(self) -> Expression:
        return self._chain(PRODUCTS, self._sign)

    def _chain(
        self, operators: Mapping[str, object], operand: Callable[[], Expression]
    ) -> Expression:
        first = operand()
        rest: list[Operand] = []
        token = self.current
        while token.kind == SYMBOL and token.value in operators:
            self._count(token)
            self.position += 1
            rest.append(Operand(token.offset, token.value, operand()))
            token = self.current
        return Arithmetic(first.offset, first, tuple(rest)) if rest else first

    def _sign(self) -> Expression:
        token = self.accept("-")
        if token is None:
            return self._pipeline()
        if self.current.kind == NUMBER:
            return self._pipeline(self._number(token))
        self._count(token)
        self.enter(token)
        operand = self._sign()
        self.leave()
        return Minus(token.offset, operand)

    # --- filters
    # ----------------------------------------------------------------------------------------------

    def _pipeline(self, operand: Expression | None = None) -> Expression:
        value = operand or self._operand()
        filters: list[AppliedFilter] = []
        while bar := self.accept("|"):
            self._count(bar)
            filters.append(self._filter())
        return Pipeline(value.offset, value, tuple(filters)) if filters else value

    def _filter(self) -> AppliedFilter:
        token = self.current
        if token.kind != NAME:
            raise self.error(f"the name of a filter comes after '|', not {self.found()}")
        self.position += 1
        name = token.value
        spec = FILTERS.get(name)
        if spec is None:
            raise self.error(f"the filter '{name}' is unknown{did_you_mean(name, FILTERS)}", token)
        arguments = self._filter_arguments()
        if not spec.least <= len(arguments) <= spec.most:
            wanted = _arguments_text(spec.least, spec.most)
            raise self.error(f"the filter '{name}' takes {wanted}, not {len(arguments)}", token)
        return AppliedFilter(token.offset, name, self._prepared(spec, arguments, token), arguments)

    def _filter_arguments(self) -> tuple[Expression, ...]:
        if self.accept(":"):
            sign = self.accept("-")
            return (self._number(sign) if sign else self._operand(),)
        opening = self.accept("(")
        return self._arguments(opening) if opening else ()

    def _prepared(
        self, spec: TypedFilter, arguments: tuple[Expression, ...], token: Lexeme
    ) -> FilterCall:
        if spec.prepare is None or not arguments:
            return spec.call
        values = [each.value for each in arguments if isinstance(each, Constant)]
        if len(values) < len(arguments):
            return spec.call
        try:
            return spec.prepare(*values, limits=self.limits)
        except TemplateLimitError as error:
            raise located(error, self.source, token.offset) from None
        except TemplateRenderError as error:
            raise self.error(error.message, token) from None

    # --- operands
    # ----------------------------------------------------------------------------------------------

    def _operand(self) -> Expression:
        """Read a literal, a call or a path, with the parts that are read of it."""
        operand = self._primary()
        steps = self._steps()
        if isinstance(operand, PathReading):
            operand = PathReading(operand.offset, operand.root, (*operand.steps, *steps))
            self._record(operand)
            return operand
        return PartReading(operand.offset, operand, steps) if steps else operand

    def _record(self, path: PathReading) -> None:
        if path.root in COUNTERS and path.root in self.certain:
            self.counts = True
        if path.root not in self.certain:
            self.paths[path.static] = None

    def _primary(self) -> Expression:
        token = self.current
        if token.kind == NUMBER:
            return self._number()
        if token.kind == STRING:
            self.position += 1
            return Constant(token.offset, token.value)
        if token.kind == NAME and token.value not in KEYWORDS:
            self.position += 1
            return self._named(token)
        read = self._brackets.get(token.value) if token.kind == SYMBOL else None
        if read is not None:
            self._count(token)
            self.enter(token)
            self.position += 1
            node = read(token)
            self.leave()
            return node
        raise self.error(f"a value is expected, not {self.found()}")

    def _named(self, token: Lexeme) -> Expression:
        self._count(token)
        if token.value in LITERALS:
            return Constant(token.offset, LITERALS[token.value])
        if opening := self.accept("("):
            return self._call(token, opening)
        return PathReading(token.offset, token.value, ())

    def _number(self, sign: Lexeme | None = None) -> Constant:
        token = self.current
        if token.kind != NUMBER:
            raise self.error(f"a number is expected after '-', not {self.found()}")
        self.position += 1
        number: int | float = math.inf
        if not token.value.isdigit():
            number = float(token.value)
        elif len(token.value) <= _MAX_DIGITS:
            number = int(token.value)
        if not (math.isfinite(number) if isinstance(number, float) else _fits(number)):
            raise self.error("the number is too large", token)
        return Constant((sign or token).offset, -number if sign else number)

    def _parenthesized(self, opening: Lexeme) -> Expression:
        node = self.expression()
        self.expect(")", f"'(' is not closed{self._place(opening)}: ')' is expected")
        return node

    def _place(self, token: Lexeme) -> str:
        line = self.source.count("\n", 0, token.offset) + 1
        return f" (line {line})" if "\n" in self.source else ""

    def _list(self, opening: Lexeme) -> Expression:
        items: list[Expression] = []
        while not self.accept("]"):
            items.append(self.expression())
            self._count(opening)
            if not self.accept(","):
                self.expect("]", "',' or ']' is expected in a list")
                break
        return ListDisplay(opening.offset, tuple(items))

    def _map(self, opening: Lexeme) -> Expression:
        pairs: list[tuple[Expression, Expression]] = []
        while not self.accept("}"):
            key = self.expression()
            self.expect(":", "':' is expected after the key of a map")
            pairs.append((key, self.expression()))
            self._count(opening)
            if not self.accept(","):
                self.expect("}", "',' or '}' is expected in a map")
                break
        return MapDisplay(opening.offset, tuple(pairs))

    def _steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        while True:
            if token := self.accept("."):
                steps.append(self._dotted())
            elif token := self.accept("["):
                steps.append(self._subscript(token))
            elif token := self.accept("("):
                raise self.error("only functions can be called, such as now()", token)
            else:
                return tuple(steps)
            self._count(token)

    def _dotted(self) -> Step:
        token = self.current
        if token.kind == NAME:
            self.position += 1
            return token.value
        if token.kind == NUMBER and token.value.isdigit() and len(token.value) < 10:
            self.position += 1
            return int(token.value)
        raise self.error(f"a name or an index comes after '.', not {self.found()}")

    def _subscript(self, opening: Lexeme) -> Step:
        self.enter(opening)
        token = self.current
        key = self.expression()
        self.expect("]", "']' is expected after a key or an index")
        self.leave()
        if not isinstance(key, Constant):
            return key
        if type(key.value) in (str, int):
            return key.value  # type: ignore[no-any-return]
        raise self.error("a key is a text and an index is an integer", token)

    # --- calls
    # ----------------------------------------------------------------------------------------------

    def _call(self, name: Lexeme, opening: Lexeme) -> Expression:
        if name.value == "secret":
            raise self.error(ABOUT_PRINTED_SECRETS, name)
        if name.value in REPLACED:
            raise self.error(f"there is no function '{name.value}'; {REPLACED[name.value]}", name)
        function = FUNCTIONS.get(name.value)
        if function is None and name.value != "datastore":
            hint = did_you_mean(name.value, [*FUNCTIONS, "datastore", "secret"])
            raise self.error(f"the function '{name.value}' is unknown{hint}", name)
        self.functions.add(name.value)
        arguments = self._arguments(opening)
        wanted = 1 if function is None else function.arguments
        if len(arguments) != wanted:
            raise self.error(
                f"the function '{name.value}' takes {_arguments_text(wanted, wanted)}, not"
                f" {len(arguments)}",
                name,
            )
        if function is None:
            return self._datastore(name, arguments[0])
        return FunctionCall(name.offset, name.value, function, arguments)

    def _datastore(self, name: Lexeme, key: Expression) -> Expression:
        if isinstance(key, Constant) and not isinstance(key.value, str):
            raise self.error("the key of a datastore item is a text", name)
        if not isinstance(key, Constant):
            self.keys = None
        elif self.keys is not None:
            self.keys.add(key.value)
        return DatastoreReading(name.offset, key)

    def _arguments(self, opening: Lexeme) -> tuple[Expression, ...]:
        self.enter(opening)
        arguments: list[Expression] = []
        while not self.accept(")"):
            arguments.append(self.expression())
            self._count(opening)
            if not self.accept(","):
                self.expect(")", "',' or ')' is expected after an argument")
                break
        self.leave()
        return tuple(arguments)


def _fits(number: int) -> bool:
    return number.bit_length() <= MAX_BITS


def _arguments_text(least: int, most: int) -> str:
    if least == most:
        return f"{least or 'no'} argument{'' if least == 1 else 's'}"
    return f"{least} to {most} arguments"
