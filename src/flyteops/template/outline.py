"""The outline of a template: literal text, printed expressions, and paths through its tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flyteops.template.lexer import END, NAME, SYMBOL, TEXT, Token, lex

if TYPE_CHECKING:
    from flyteops.template.parser import OutputNode
    from flyteops.template.template import Template


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text, which begins at `start` in the source."""

    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """An expression that is printed."""

    output: "OutputNode"


@dataclass(frozen=True, slots=True)
class Choice:
    """Bodies of which at most one is printed."""

    bodies: tuple["Outline", ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A body that is printed any number of times, and one that is printed if the first is never."""

    body: "Outline"
    otherwise: "Outline"


@dataclass(frozen=True, slots=True)
class Macro:
    """A body that is printed elsewhere."""

    body: "Outline"


Piece = Text | Printed | Choice | Loop | Macro
Outline = tuple[Piece, ...]

_CHOICES = {
    "if": "endif",
    "ifequal": "endifequal",
    "ifnotequal": "endifnotequal",
    "ifchanged": "endifchanged",
    "for": "endfor",
    "macro": "endmacro",
}
_OTHERS = frozenset(["elif", "else", "empty"])


def outline(template: "Template") -> Outline:
    """Return the outline of a compiled template."""
    return _Reader(lex(template.source), template).read()


class _Reader:
    def __init__(self, tokens: Sequence[Token], template: "Template") -> None:
        self._tokens = tokens
        self._source = template.source
        self._outputs = {output.start: output for output in template.outputs}
        self._position = 0

    def read(self) -> Outline:
        return self._until(None)[0]

    def _until(self, end: str | None) -> tuple[Outline, str]:
        """Read up to an end tag, or another part of the same tag.

        Return the pieces before it, and its name.
        """
        pieces: list[Piece] = []
        while self._tokens[self._position][0] != END:
            token = self._tokens[self._position]
            if token[0] == TEXT:
                self._position += 1
                pieces.append(self._text(token))
            elif token[:2] == (SYMBOL, "{%") and self._tokens[self._position + 1][0] == NAME:
                name = self._tokens[self._position + 1][1]
                if end is not None and (name == end or name in _OTHERS):
                    self._skip()
                    return tuple(pieces), name
                pieces.extend(self._tag(name))
            else:
                pieces.extend(self._skip())
        return tuple(pieces), ""

    def _text(self, token: Token) -> Text:
        _, text, start = token
        while text and not self._source.startswith(text, start):
            start += 1  # leading blanks were cut off
        return Text(start, text)

    def _skip(self) -> list[Piece]:
        """Skip the content of one pair of braces; return the pieces that it prints."""
        found: list[Piece] = []
        while self._tokens[self._position][0] not in (END, TEXT):
            _, value, start = self._tokens[self._position]
            self._position += 1
            if start in self._outputs:
                found.append(Printed(self._outputs.pop(start)))
            if value in ("}}", "%}"):
                break
        return found

    def _tag(self, name: str) -> list[Piece]:
        printed = self._skip()
        if name == "comment":
            return self._comment()
        end = _CHOICES.get(name)
        if end is None:
            return printed if len(printed) < 2 else [Choice(tuple((each,) for each in printed))]
        bodies: list[Outline] = []
        part = name
        while part and part != end:
            has_other = part == "else"
            body, part = self._until(end)
            bodies.append(body)
        if name == "macro":
            return [Macro(bodies[0])]
        if name == "for":
            return [Loop(bodies[0], bodies[1] if len(bodies) > 1 else ())]
        return [Choice(tuple(bodies if has_other else [*bodies, ()]))]

    def _comment(self) -> list[Piece]:
        while self._tokens[self._position][0] != END:
            is_end = self._tokens[self._position][:2] == (SYMBOL, "{%")
            is_end = is_end and self._tokens[self._position + 1][1] == "endcomment"
            if is_end:
                self._skip()
                break
            self._position += 1
        return []
