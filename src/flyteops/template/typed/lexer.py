"""The lexer: source text in, tokens out.

Text outside of braces is one token. Inside, blanks and newlines are dropped and texts are
unescaped. Comments, `verbatim` and whitespace control are applied here, as they only concern text.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from flyteops.errors import TemplateSyntaxError
from flyteops.template.source import located

TEXT, NAME, NUMBER, STRING, SYMBOL, END = "text", "name", "number", "string", "symbol", "end"

_BLANKS = " \n\r\t"
_MARK = re.compile(r"\{\{-?|\{#|\{%-?(?:\s*(?P<raw>verbatim|comment)\s*-?%\})?")
_RAW_END: Mapping[str, re.Pattern[str]] = {
    name: re.compile(r"\{%-?\s*end" + name + r"\s*-?%\}") for name in ("verbatim", "comment")
}
_CODE = re.compile(
    r"""[ \r\n\t]*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z_0-9])
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<foreign>&&|\|\||<>|\*\*|!(?!=)|[&^?;@$`])
      | (?P<close>-?(?:\}\}|%\}))
      | (?P<symbol>==|!=|<=|>=|//|[-+*/%~<>()\[\]{},.:|=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_IN_BRACES = re.compile(r"[ \r\n\t]*(?P<symbol>\})")
_INDEX = re.compile(r"[ \r\n\t]*(?P<number>[0-9]+)(?![A-Za-z_])")
_ESCAPE = re.compile(r"""\\([nt\\"'])""")
_ESCAPED: Mapping[str, str] = {"n": "\n", "t": "\t"}
_INSTEAD: Mapping[str, str] = {
    "&&": "write 'and'",
    "||": "write 'or'",
    "!": "write 'not'",
    "<>": "write '!='",
    "&": "write 'and'",
    "?": "write 'a if condition else b'",
}


class Lexeme(NamedTuple):
    """A token: its kind, its value and its offset in the source."""

    kind: str
    value: str
    offset: int


def lex(source: str) -> list[Lexeme]:
    """Split a source into tokens, the last of which is END."""
    return _Reader(source).read()


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens: list[Lexeme] = []
        self._position = 0
        self._trim = False

    def read(self) -> list[Lexeme]:
        source = self._source
        while mark := _MARK.search(source, self._position):
            self._text(mark.start())
            if mark["raw"]:
                self._raw(mark)
            elif mark[0] == "{#":
                self._comment(mark.start())
            else:
                self._open(mark)
        self._text(len(source))
        self._tokens.append(Lexeme(END, "", len(source)))
        return self._tokens

    def _error(self, message: str, offset: int) -> TemplateSyntaxError:
        return located(TemplateSyntaxError(message), self._source, offset)

    def _text(self, end: int) -> None:
        """Read plain text up to an offset."""
        start, text = self._position, self._source[self._position : end]
        if self._trim:
            text = text.lstrip(_BLANKS)
            start = end - len(text)
        if text:
            self._tokens.append(Lexeme(TEXT, text, start))
        if end > self._position:
            self._trim = False
        self._position = end

    def _trim_last(self) -> None:
        if self._tokens and self._tokens[-1].kind == TEXT:
            last = self._tokens.pop()
            text = last.value.rstrip(_BLANKS)
            if text:
                self._tokens.append(last._replace(value=text))

    def _comment(self, start: int) -> None:
        end = self._source.find("#}", start + 2)
        if end < 0:
            raise self._error("the comment is not closed; end it with '#}'", start)
        self._position = end + 2

    def _raw(self, mark: re.Match[str]) -> None:
        """Read text in which braces mean nothing."""
        name = mark["raw"]
        end = _RAW_END[name].search(self._source, mark.end())
        if end is None:
            raise self._error(
                f"'{name}' is not closed; end it with {{% end{name} %}}", mark.start()
            )
        if mark[0].startswith("{%-"):
            self._trim_last()
        if name == "verbatim":
            self._trim = mark[0].endswith("-%}")
            self._position = mark.end()
            self._text(end.start())
            if end[0].startswith("{%-"):
                self._trim_last()
        self._trim = end[0].endswith("-%}")
        self._position = end.end()

    def _open(self, mark: re.Match[str]) -> None:
        opening = mark[0]
        if opening.endswith("-"):
            self._trim_last()
        self._trim = False
        self._tokens.append(Lexeme(SYMBOL, opening[:2], mark.start()))
        self._position = mark.end()
        self._code(self._tokens[-1])

    def _code(self, opening: Lexeme) -> None:
        """Read tokens up to the closing braces."""
        braces: list[int] = []
        closing = "}}" if opening.value == "{{" else "%}"
        while match := self._match(braces):
            kind = match.lastgroup or ""
            value, offset = match[kind], match.start(kind)
            self._position = match.end()
            if kind == "close":
                if value[-2:] != closing:
                    raise self._error(f"'{opening.value}' must be closed with '{closing}'", offset)
                self._trim = value.startswith("-")
                self._tokens.append(Lexeme(SYMBOL, closing, offset))
                return
            if kind == "foreign":
                instead = _INSTEAD.get(value, "it has no meaning here")
                raise self._error(f"'{value}' is not an operator; {instead}", offset)
            if value == "{":
                braces.append(offset)
            elif value == "}" and braces:
                braces.pop()
            self._tokens.append(
                Lexeme(kind, _unescaped(value) if kind == "string" else value, offset)
            )
        raise self._stray(opening, closing, braces)

    def _match(self, braces: list[int]) -> re.Match[str] | None:
        if braces and (match := _IN_BRACES.match(self._source, self._position)):
            return match
        if self._tokens[-1].value == "." and self._tokens[-1].kind == SYMBOL:
            index = _INDEX.match(self._source, self._position)
            if index is not None:
                return index
        return _CODE.match(self._source, self._position)

    def _stray(self, opening: Lexeme, closing: str, braces: list[int]) -> TemplateSyntaxError:
        """Return the error for a character that begins no token, or for the end of the source."""
        position = self._position
        while self._source[position : position + 1] in tuple(_BLANKS):
            position += 1
        character = self._source[position : position + 1]
        if not character and braces:
            return self._error("'{' is not closed; end the map with '}'", braces[-1])
        if not character:
            return self._error(
                f"'{opening.value}' is not closed; end it with '{closing}'", opening.offset
            )
        if character in "\"'":
            return self._error(f"the text is not closed; end it with {character}", position)
        if character.isdigit():
            return self._error(
                'this is not a number; read a key that begins with a digit as ["1a"]', position
            )
        return self._error(f"the character {character!r} has no meaning here", position)


def _unescaped(literal: str) -> str:
    inside = literal[1:-1]
    if "\\" not in inside:
        return inside
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), inside)
