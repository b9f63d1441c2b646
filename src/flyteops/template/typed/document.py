"""The parser of whole templates: text, printed expressions and tags."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flyteops.template.limit import Limits
from flyteops.template.secret import PLAIN, SECRET_FORMS
from flyteops.template.typed.lexer import END, NAME, STRING, SYMBOL, TEXT, Lexeme
from flyteops.template.typed.node import Expression, SecretReference
from flyteops.template.typed.parser import (
    ABOUT_PRINTED_SECRETS,
    KEYWORDS,
    LITERALS,
    ExpressionParser,
)
from flyteops.template.typed.statement import (
    COUNTERS,
    Assignment,
    Body,
    Branches,
    ForLoop,
    LiteralText,
    PrintedExpression,
    Statement,
)
from flyteops.template.typed.suggestion import did_you_mean

_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "elif": "if",
        "else": "if or for",
        "empty": "for",
        "endcomment": "comment",
        "endfor": "for",
        "endif": "if",
        "endverbatim": "verbatim",
    }
)
"""The tags that are parts of others."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "autoescape": "edition 2 escapes nothing; use the filter escape where it is needed",
        "block": "templates cannot be extended",
        "cycle": "use loop.index0 % 2 and a list",
        "extends": "templates cannot be extended",
        "filter": "put the filter behind an expression",
        "firstof": "use 'a if a else b'",
        "ifchanged": "compare with a name that set binds",
        "ifequal": "use {% if a == b %}",
        "ifnotequal": "use {% if a != b %}",
        "import": "templates cannot be imported",
        "include": "templates cannot be included",
        "lorem": "write the text",
        "macro": "use set, or a for over a list",
        "now": "use {{ now()|date('%Y-%m-%d', 'UTC') }}",
        "spaceless": "use {%- and -%} to cut blanks",
        "ssi": "templates cannot be included",
        "templatetag": "use verbatim",
        "widthratio": "use * and /",
        "with": "use set",
    }
)
"""The tags of edition 1 that edition 2 does without, with their replacement."""


class DocumentParser(ExpressionParser):
    """A parser of a whole template."""

    def __init__(self, source: str, limits: Limits) -> None:
        super().__init__(source, limits)
        self.tags: Mapping[str, Callable[[Lexeme], Statement]] = {
            "for": self._for,
            "if": self._if,
            "set": self._set,
        }

    def document(self) -> Body:
        """Read the whole source."""
        parts: list[Statement] = []
        while self.current.kind != END:
            parts.append(self._statement())
        return Body(0, tuple(parts))

    def _statement(self) -> Statement:
        token = self.current
        self.position += 1
        self.work += 1
        self.begin()
        if token.kind == TEXT:
            return LiteralText(token.offset, token.value)
        return self._output(token) if token.value == "{{" else self._tag()

    def _output(self, opening: Lexeme) -> Statement:
        if self.current.value == "}}" and self.current.kind == SYMBOL:
            raise self.error("an expression is expected between '{{' and '}}'", opening)
        expression = self._secret() or self.expression()
        self._close("}}")
        return PrintedExpression(opening.offset, expression)

    def _close(self, closing: str) -> None:
        if not self.accept(closing):
            raise self.error(f"an operator or '{closing}' is expected, not {self.found()}")

    def _secret(self) -> Expression | None:
        """Read `secret('name')`, alone or through one filter; None for any other expression."""
        start = self.current
        is_call = self.tokens[self.position + 1].value == "("
        if start.kind != NAME or start.value != "secret" or not is_call:
            return None
        name, closing = self.tokens[self.position + 2 : self.position + 4]
        if name.kind != STRING or closing.value != ")":
            raise self.error(ABOUT_PRINTED_SECRETS)
        self.position += 4
        form = PLAIN
        if self.accept("|"):
            form = self.current.value
            self.position += 1
        if form not in SECRET_FORMS or self.current.value != "}}":
            raise self.error(ABOUT_PRINTED_SECRETS, start)
        self.secrets.append(name.value)
        return SecretReference(start.offset, name.value, form)

    # --- tags
    # ----------------------------------------------------------------------------------------------

    def _tag(self) -> Statement:
        token = self.current
        if token.kind != NAME:
            raise self.error(f"the name of a tag comes after '{{%', not {self.found()}")
        read = self.tags.get(token.value)
        if read is None:
            raise self.error(_about_tag(token.value, self.tags), token)
        self.position += 1
        return read(token)

    def _body(self, opening: Lexeme, *ends: str) -> tuple[Body, str]:
        """Read up to one of the end tags; return the body before it, and its name."""
        self.enter(opening)
        parts: list[Statement] = []
        while (name := self._at_end(ends)) is None:
            if self.current.kind == END:
                raise self.error(
                    f"the tag '{opening.value}' is not closed; end it with {ends[-1]}", opening
                )
            parts.append(self._statement())
        self.leave()
        self.position += 2
        self.begin()
        return Body(parts[0].offset if parts else name.offset, tuple(parts)), name.value

    def _at_end(self, ends: tuple[str, ...]) -> Lexeme | None:
        if self.current.kind != SYMBOL or self.current.value != "{%":
            return None
        name = self.tokens[self.position + 1]
        return name if name.kind == NAME and name.value in ends else None

    def _if(self, opening: Lexeme) -> Statement:
        before = self.certain
        bound: list[frozenset[str]] = []
        cases: list[tuple[Expression, Body]] = []
        otherwise: Body | None = None
        name = "elif"
        while name == "elif":
            condition = self.expression()
            self._close("%}")
            body, name = self._body(opening, "elif", "else", "endif")
            cases.append((condition, body))
            bound.append(self.certain)
            self.certain = before
        if name == "else":
            self._close("%}")
            otherwise, _ = self._body(opening, "endif")
            self.certain = self.certain.intersection(*bound)
        self._close("%}")
        return Branches(opening.offset, tuple(cases), otherwise)

    def _for(self, opening: Lexeme) -> Statement:
        names = self._loop_names()
        items = self.expression()
        is_reversed = self.accept("reversed", NAME) is not None
        if self.accept("sorted", NAME):
            raise self.error("'sorted' is not part of for; use the filter sort")
        self._close("%}")
        before, work, counted = self.certain, self.work, self.counts
        self.certain = before | {*names, *COUNTERS}
        self.counts = False
        body, name = self._body(opening, "else", "empty", "endfor")
        cost, counts = self.work - work + 2, self.counts
        self.certain, self.counts = before, counted or counts
        otherwise: Body | None = None
        if name != "endfor":
            self._close("%}")
            otherwise, _ = self._body(opening, "endfor")
            self.certain = before
        self._close("%}")
        return ForLoop(opening.offset, names, items, is_reversed, body, otherwise, cost, counts)

    def _loop_names(self) -> tuple[str, ...]:
        names = [self._new_name()]
        if self.accept(","):
            names.append(self._new_name())
        if not self.accept("in", NAME):
            raise self.error(f"'in' is missing: write 'for item in list', not {self.found()}")
        return tuple(names)

    def _set(self, opening: Lexeme) -> Statement:
        name = self._new_name()
        self.expect("=", "'=' is expected after the name: write 'set name = value'")
        expression = self.expression()
        self._close("%}")
        self.certain |= {name}
        return Assignment(opening.offset, name, expression)

    def _new_name(self) -> str:
        token = self.current
        if token.kind != NAME:
            raise self.error(f"a name is expected, not {self.found()}")
        if token.value in KEYWORDS or token.value in LITERALS or token.value in COUNTERS:
            raise self.error(f"'{token.value}' has a meaning of its own; choose another name")
        self.position += 1
        self.bound.add(token.value)
        return token.value


def _about_tag(name: str, known: Mapping[str, object]) -> str:
    if name in REFUSED:
        return f"edition 2 has no tag '{name}'; {REFUSED[name]}"
    if name in _PARTS:
        return f"the tag '{name}' has no {_PARTS[name]} before it"
    hint = did_you_mean(name, [*known, *_PARTS, "comment", "verbatim"])
    return f"the tag '{name}' is unknown{hint}"
