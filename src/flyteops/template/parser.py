"""The parser: turns tokens into closures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from flyteops.errors import TemplateLimitError, TemplateSyntaxError
from flyteops.template.arithmetic import PREFIXES, PRODUCTS, SUMS
from flyteops.template.filter.spec import Filter
from flyteops.template.lexer import END, KEYWORD, NAME, NUMBER, STRING, SYMBOL, TEXT, Token
from flyteops.template.limit import Limits
from flyteops.template.node import (
    Binary,
    FilterStep,
    Node,
    Piece,
    constant,
    filter_step,
    filtered,
    left_chain,
    logic_chain,
    prefixed,
    right_chain,
    sequence,
)
from flyteops.template.path import Evaluate, PathPart, Peek, called_path, peek_at, plain_path
from flyteops.template.secret import PLAIN, SECRET_FORMS, secret_reference
from flyteops.template.source import located
from flyteops.template.value import Function

Tag = Callable[["Parser", Token], Node | None]
"""The reader of a tag whose name has been read.

It reads to the end of the tag's last part, and returns the node that prints the tag.
"""

LOGIC = {"&&": False, "and": False, "||": True, "or": True}
"""The operators that join conditions, and whether one of both is enough."""

RELATIONS = frozenset(["==", "<=", ">=", "!=", "<>", ">", "<"])
"""The operators that compare values."""

_OPERANDS = frozenset([NAME, STRING, NUMBER])
"""The kinds of tokens with which an operand begins that has no sign and no parenthesis."""
_PATH_MARKS = frozenset([".", "("])
_AFTER_EXPRESSION = frozenset(["}}", "%}", ",", ")"])
_MAX_INT64 = 2**63 - 1
_ABOUT_SECRETS = (
    "A secret can only be printed: {{ secret('name') }}, or with |shellquote or |urlencode behind"
    " it."
)


@dataclass(frozen=True, slots=True)
class Language:
    """The names of the language: tags, filters and functions."""

    tags: Mapping[str, Tag]
    filters: Mapping[str, Filter]
    functions: Mapping[str, Function]


class Reading(NamedTuple):
    """A path that a template reads: its display form and its evaluation.

    `peek` is the fast lookup without calls.
    """

    root: str
    shown: str
    evaluate: Evaluate
    peek: Peek | None


class OutputNode(NamedTuple):
    """An expression that a template prints: its place in the source, its text, and its paths.

    `filters` has for each operand the last filter that it goes through, None if there is none.
    """

    start: int
    shown: str
    paths: tuple[str, ...]
    filters: tuple[str | None, ...]


class Parser:
    """A recursive descent parser that returns closures.

    Tags read their own arguments with its public methods. `readings` are the paths seen and `bound`
    the names that the template binds itself, for `Template.variables`; `outputs` are the printed
    expressions and `secrets` the names of the printed secrets; `work` counts the parsed parts, as a
    measure of the cost.
    """

    def __init__(
        self, source: str, tokens: list[Token], limits: Limits, language: Language
    ) -> None:
        self.source = source
        self.limits = limits
        self.language = language
        self.position = 0
        self.readings: list[Reading] = []
        self.outputs: list[OutputNode] = []
        self.secrets: list[str] = []
        self.bound: set[str] = set()
        self.blocks: set[str] = set()
        self.exported: list[tuple[str, int]] = []
        self.work = 0
        self.statements = 0
        self.only_expression: Evaluate | None = None
        self._tokens = tokens
        self._depth = 0
        self._operators = 0
        self._last_filters: list[str | None] = []
        self._safe = 0

    # --- tokens
    # ----------------------------------------------------------------------------------------------

    @property
    def current(self) -> Token:
        """Return the next token without reading it."""
        return self._tokens[self.position]

    def error(self, message: str, token: Token | None = None) -> TemplateSyntaxError:
        """Return a syntax error at a token, the next one if none is given."""
        return located(TemplateSyntaxError(message), self.source, (token or self.current)[2])

    def accept(self, kind: int, value: str | None = None) -> Token | None:
        """Read the next token if it has this kind and value."""
        token = self._tokens[self.position]
        if token[0] == kind and (value is None or token[1] == value):
            self.position += 1
            return token
        return None

    def expect(self, kind: int, message: str, value: str | None = None) -> Token:
        """Read the next token, which must have this kind and value."""
        token = self.accept(kind, value)
        if token is None:
            raise self.error(message)
        return token

    def at_end(self) -> bool:
        """Return whether all tokens were read."""
        return self._tokens[self.position][0] == END

    def at_close(self) -> bool:
        """Return whether the tag ends here."""
        token = self._tokens[self.position]
        return token[0] == SYMBOL and token[1] == "%}"

    def close(self, message: str = "Arguments not allowed here.") -> None:
        """Read the end of a tag."""
        self.expect(SYMBOL, message, "%}")
        self._operators = 0

    def _spend(self, token: Token) -> None:
        self.work += 1
        self._operators += 1
        if self._operators > self.limits.operators:
            raise located(
                TemplateLimitError(
                    f"an expression or tag has more than {self.limits.operators} parts (limit"
                    " operators); break it up with set"
                ),
                self.source,
                token[2],
            )

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > self.limits.parse_depth:
            raise located(
                TemplateLimitError(
                    f"parentheses, calls and tags are nested deeper than {self.limits.parse_depth}"
                    " (limit parse_depth); nest less"
                ),
                self.source,
                token[2],
            )

    # --- document
    # ----------------------------------------------------------------------------------------------

    def document(self) -> list[Node | Piece]:
        """Read the whole source."""
        parts: list[Node | Piece] = []
        while self._tokens[self.position][0] != END:
            self._statement(parts)
        return parts

    def body(self, opening: Token, *ends: str) -> tuple[Node, str]:
        """Read up to one of the end tags, whose arguments come next.

        Return the node of the body, and the name of the end tag.
        """
        self._enter(opening)
        parts: list[Node | Piece] = []
        while not self._at_end_tag(ends):
            if self._tokens[self.position][0] == END:
                raise self.error(
                    f"Tag '{opening[1]}' has no end: expected {' or '.join(ends)}.", opening
                )
            self._statement(parts)
        self._depth -= 1
        name = self._tokens[self.position + 1][1]
        self.position += 2
        return sequence(parts, self.source), name

    def _at_end_tag(self, ends: tuple[str, ...]) -> bool:
        token = self._tokens[self.position]
        if token[0] != SYMBOL or token[1] != "{%":
            return False
        name = self._tokens[self.position + 1]
        return name[0] == NAME and name[1] in ends

    def skip_to(self, opening: Token, end: str) -> None:
        """Skip everything up to and including a tag without arguments."""
        while not self._at_end_tag((end,)):
            if self._tokens[self.position][0] == END:
                raise self.error(f"Tag '{opening[1]}' has no end: expected {end}.", opening)
            self.position += 1
        self.position += 2
        self.close()

    def _statement(self, parts: list[Node | Piece]) -> None:
        token = self._tokens[self.position]
        self.position += 1
        self.work += 1
        self.statements += 1
        if token[0] == TEXT:
            if token[1]:
                parts.append((token[1], token[2], None, 0, False))
        elif token[0] == SYMBOL and token[1] == "{{":
            self._output(token, parts)
        elif token[0] == SYMBOL and token[1] == "{%":
            node = self._tag()
            if node is not None:
                parts.append(node)
        else:
            raise self.error("Unexpected token, only text and tags are allowed here.", token)

    def _output(self, opening: Token, parts: list[Node | Piece]) -> None:
        evaluate, safe = self.printed_expression()
        self.expect(SYMBOL, "'}}' expected", "}}")
        self._operators = 0
        self.only_expression = evaluate
        before = parts[-1] if parts else None
        if isinstance(before, tuple) and before[2] is None:
            parts[-1] = (before[0], before[1], evaluate, opening[2], safe)
        else:
            parts.append(("", 0, evaluate, opening[2], safe))

    def _tag(self) -> Node | None:
        name = self.expect(NAME, "Tag name must be an identifier.")
        tag = self.language.tags.get(name[1])
        if tag is None:
            hint = _nearest(name[1], self.language.tags)
            raise self.error(
                f"Tag '{name[1]}' not found (or beginning tag not provided){hint}", name
            )
        return tag(self, name)

    # --- expressions
    # ----------------------------------------------------------------------------------------------

    def printed_expression(self, *, may_be_secret: bool = True) -> tuple[Evaluate, bool]:
        """Read an expression; the second value is whether the filter `safe` is on every operand."""
        self._last_filters, self._safe = [], 0
        start, before = self._tokens[self.position][2], len(self.readings)
        evaluate = (self._secret() if may_be_secret else None) or self.expression()
        shown = self.source[start : self._tokens[self.position][2]].rstrip()
        paths = tuple([reading.shown for reading in self.readings[before:]])
        self.outputs.append(OutputNode(start, shown, paths, tuple(self._last_filters)))
        return evaluate, len(self._last_filters) == self._safe

    def _secret(self) -> Evaluate | None:
        """Read `secret('name')`, alone or through one filter.

        None for any other printed expression.
        """
        if not self._is_secret():
            return None
        self.position += 2
        token = self.expect(STRING, _ABOUT_SECRETS)
        self.expect(SYMBOL, _ABOUT_SECRETS, ")")
        form = self.expect(NAME, _ABOUT_SECRETS)[1] if self.accept(SYMBOL, "|") else PLAIN
        if form not in SECRET_FORMS or not (self.at_close() or self.current[1] == "}}"):
            raise self.error(_ABOUT_SECRETS, token)
        self.secrets.append(token[1])
        self._last_filters.append(form)
        return secret_reference(token[1], form)

    def _is_secret(self) -> bool:
        token = self._tokens[self.position]
        return (
            token[1] == "secret"
            and token[0] == NAME
            and self._tokens[self.position + 1][:2] == (SYMBOL, "(")
        )

    def expression(self) -> Evaluate:
        """Read an expression: relations joined by and/or."""
        if self._tokens[self.position][0] in _OPERANDS:
            operand = self._factor()
            token = self._tokens[self.position]
            if token[0] == SYMBOL and token[1] in _AFTER_EXPRESSION:
                return operand
            first = self._relation(operand)
        else:
            first = self._relation()
        token = self._tokens[self.position]
        if token[1] not in LOGIC or token[0] not in (SYMBOL, KEYWORD):
            return first
        operands, stops = [first], []
        while token[1] in LOGIC and token[0] in (SYMBOL, KEYWORD):
            self._spend(token)
            self.position += 1
            stops.append(LOGIC[token[1]])
            operands.append(self._relation())
            token = self._tokens[self.position]
        return logic_chain(operands, stops)

    def _relation(self, operand: Evaluate | None = None) -> Evaluate:
        """Read sums joined by relations; a first operand without a sign may have been read."""
        first = self._sum(operand)
        token = self._tokens[self.position]
        if not self._relates(token):
            return first
        operands, operators = [first], []
        while self._relates(token):
            self._spend(token)
            self.position += 1
            operators.append((token[1], token[2]))
            operands.append(self._sum())
            if token[1] == "in":
                break
            token = self._tokens[self.position]
        return right_chain(operands, operators, self.source)

    def _relates(self, token: Token) -> bool:
        return (token[0] == SYMBOL and token[1] in RELATIONS) or (
            token[0] == KEYWORD and token[1] == "in"
        )

    def _sum(self, operand: Evaluate | None = None) -> Evaluate:
        start = self._tokens[self.position]
        prefixes: list[str] = []
        if operand is None and start[0] != NAME:
            prefixes = self._prefixes()
            start = self._tokens[self.position]
        first = self._product(operand)
        if prefixes:
            first = prefixed(
                first, [PREFIXES[prefix] for prefix in prefixes], self.source, start[2]
            )
        return self._left(first, SUMS, self._product)

    def _prefixes(self) -> list[str]:
        """Read a sign, then `not`; they apply in the opposite order, and a plus does nothing."""
        sign = self.accept(SYMBOL, "-")
        if sign is None:
            self.accept(SYMBOL, "+")
        negation = self.accept(SYMBOL, "!") or self.accept(KEYWORD, "not")
        return (["!"] if negation else []) + (["-"] if sign else [])

    def _product(self, operand: Evaluate | None = None) -> Evaluate:
        return self._left(self._power(operand), PRODUCTS, self._power)

    def _left(
        self, first: Evaluate, operators: Mapping[str, Binary], operand: Callable[[], Evaluate]
    ) -> Evaluate:
        token = self._tokens[self.position]
        if token[0] != SYMBOL or token[1] not in operators:
            return first
        rest: list[tuple[Binary, Evaluate, int]] = []
        while token[0] == SYMBOL and token[1] in operators:
            self._spend(token)
            self.position += 1
            rest.append((operators[token[1]], operand(), token[2]))
            token = self._tokens[self.position]
        return left_chain(first, rest, self.source)

    def _power(self, operand: Evaluate | None = None) -> Evaluate:
        first = operand or self._factor()
        token = self._tokens[self.position]
        if token[0] != SYMBOL or token[1] != "^":
            return first
        operands, operators = [first], []
        while token := self.accept(SYMBOL, "^"):  # type: ignore[assignment]
            self._spend(token)
            operators.append((token[1], token[2]))
            operands.append(self._factor())
        return right_chain(operands, operators, self.source)

    def _factor(self) -> Evaluate:
        token = self._tokens[self.position]
        if token[0] == SYMBOL and token[1] == "(":
            self._enter(token)
            self._spend(token)
            self.position += 1
            inner = self.expression()
            self.expect(SYMBOL, "Closing bracket expected after expression", ")")
            self._depth -= 1
            return inner
        operand = self._path() if token[0] == NAME else self.operand()
        token = self._tokens[self.position]
        if token[1] != "|" or token[0] != SYMBOL:
            self._last_filters.append(None)
            return operand
        steps, names = self._filters()
        self._last_filters.append(names[-1])
        self._safe += "safe" in names
        return filtered(operand, steps, self.source)

    def _filters(self) -> tuple[list[FilterStep], list[str]]:
        steps: list[FilterStep] = []
        names: list[str] = []
        while self.accept(SYMBOL, "|"):
            name = self.expect(NAME, "Filter name must be an identifier.")
            spec = self.language.filters.get(name[1])
            if spec is None:
                raise self.error(
                    f"Filter '{name[1]}' does not exist{_nearest(name[1], self.language.filters)}",
                    name,
                )
            steps.append(self.filter_call(spec, name))
            names.append(name[1])
        return steps, names

    def filter_call(self, spec: Filter, name: Token) -> FilterStep:
        """Read the argument, if any, of a filter whose name has been read."""
        self._spend(name)
        argument: Evaluate | None = None
        literal: Any = None
        if self.accept(SYMBOL, ":"):
            token = self._tokens[self.position]
            if token[0] == SYMBOL and token[1] in ("}}", "%}"):
                raise self.error("Filter parameter required after ':'.")
            if token[0] == STRING:
                self.position += 1
                literal = token[1]
            else:
                argument = self.operand()
        return filter_step(spec, argument, literal, name[2])

    def operand(self) -> Evaluate:
        """Read a literal or a path."""
        token = self._tokens[self.position]
        kind, value, _ = token
        if kind == NAME:
            return self._path()
        if kind == STRING:
            self.position += 1
            return constant(value)
        if kind == NUMBER:
            return constant(self._number())
        if kind == KEYWORD and value in ("true", "false"):
            self.position += 1
            return constant(value == "true")
        raise self.error("Expected either a number, string, keyword or identifier.")

    def _number(self) -> int | float:
        whole = self.expect(NUMBER, "Expected a number.")
        if self.accept(SYMBOL, "."):
            fraction = self.expect(NUMBER, "Expected a number after the '.'.")
            value = float(f"{whole[1]}.{fraction[1]}")
            if value == math.inf:
                raise self.error("The number is too large.", whole)
            return value
        digits = whole[1].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > _MAX_INT64:
            raise self.error("The number is too large.", whole)
        return int(digits)

    def _path(self) -> Evaluate:
        if self._is_secret():
            raise self.error(_ABOUT_SECRETS)
        tokens, start = self._tokens, self.position
        root, offset = tokens[start][1], tokens[start][2]
        names = self._names()
        token = tokens[self.position]
        peek: Peek | None = None
        if (token[0] == SYMBOL and token[1] in _PATH_MARKS) or root in self.language.functions:
            parts = [PathPart(root), *[PathPart(name) for name in names]]
            self._rest(parts)
            shown = self._shown(start)
            evaluate = called_path(parts, self.language.functions.get(root), self.source, offset)
        else:
            shown = ".".join((root, *names))
            evaluate = plain_path(root, names, shown, self.source, offset)
            peek = peek_at(root, names)
        self.readings.append(Reading(root, shown, evaluate, peek))
        return evaluate

    def _names(self) -> list[str]:
        """Read the first name of a path and the names after it; return those after it."""
        tokens, position, names = self._tokens, self.position + 1, []
        while tokens[position][1] == "." and tokens[position][0] == SYMBOL:
            name = tokens[position + 1]
            if name[0] != NAME:
                break
            self._spend(tokens[position])
            names.append(name[1])
            position += 2
        self.position = position
        return names

    def _rest(self, parts: list[PathPart]) -> None:
        """Read the rest of a path, which has indexes or calls."""
        while True:
            token = self._tokens[self.position]
            if token[0] != SYMBOL or token[1] not in _PATH_MARKS:
                break
            self._spend(token)
            self.position += 1
            if token[1] == ".":
                parts.append(self._part())
            else:
                parts[-1].arguments = [*(parts[-1].arguments or ()), *self._arguments(token)]

    def _shown(self, start: int) -> str:
        """Return the source of the path read since a position, without blanks."""
        tokens = self._tokens[start : self.position]
        return "".join(f"'{value}'" if kind == STRING else value for kind, value, _ in tokens)

    def _part(self) -> PathPart:
        token = self._tokens[self.position]
        if token[0] == NAME:
            self.position += 1
            return PathPart(token[1])
        if token[0] == NUMBER and len(token[1]) < 19:
            self.position += 1
            return PathPart(int(token[1]))
        raise self.error("This token is not allowed within a variable name.")

    def _arguments(self, opening: Token) -> list[Evaluate]:
        self._enter(opening)
        kept = self._last_filters.copy(), self._safe
        arguments: list[Evaluate] = []
        while not self.accept(SYMBOL, ")"):
            arguments.append(self.expression())
            if not self.accept(SYMBOL, ","):
                self.expect(SYMBOL, "Missing comma or closing bracket after argument.", ")")
                break
        self._depth -= 1
        self._last_filters, self._safe = kept
        return arguments


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(word[:40], known, n=1, cutoff=0.7)
    return f"; did you mean '{near[0]}'?" if near else "."
