"""The lexer: turns source text into tokens.

A token is (kind, value, offset). Text outside of tags is one token; inside, blanks are dropped and
strings are unescaped. Whitespace control is applied here, as it only ever concerns the neighbouring
token.
"""

import re

from flyteops.errors import TemplateSyntaxError
from flyteops.template.source import located

TEXT, NAME, KEYWORD, NUMBER, STRING, SYMBOL, END = range(7)

Token = tuple[int, str, int]

KEYWORDS = frozenset(["in", "and", "or", "not", "true", "false", "as", "export"])
BLANKS = " \n\r\t"
_VERBATIM = "{% verbatim %}"
_END_VERBATIM = "{% endverbatim %}"
# U+0001 ends the input anywhere, as in the original engine.
_MARK = re.compile(r"\{% verbatim %\}|\{\{-?|\{%-?|\{#|\x01")
_CODE = re.compile(
    r"""[ \r\t]*(?:
        ([0-9]*[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | ([0-9]+)
      | "((?:[^"\\\n\x01]|\\["\\])*)"
      | '((?:[^'\\\n\x01]|\\["\\])*)'
      | (-?(?:\}\}|%\}))
      | \|([A-Za-z_][A-Za-z0-9_]*)
      | (\{\{-?|\{%-?|==|>=|<=|&&|\|\||!=|<>|[-()+*<>/^,.!|:=%])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")


def lex(source: str) -> list[Token]:
    """Split a source into tokens, the last of which is END."""
    tokens: list[Token] = []
    position, size = 0, len(source)
    trim = False
    while position < size:
        mark = _MARK.search(source, position)
        if mark is None:
            _text(tokens, source[position:], position, trim)
            break
        start = mark.start()
        if start > position:
            _text(tokens, source[position:start], position, trim)
            trim = False
        opening = mark[0]
        if opening[1:2] in ("{", "%") and opening != _VERBATIM:
            if opening[-1] == "-":
                _trim_last(tokens)
                opening = opening[:-1]
            tokens.append((SYMBOL, opening, start))
            position, trim = _code(source, mark.end(), tokens)
        elif opening == "\x01":
            break
        elif opening == "{#":
            position = _comment(source, start)
        else:
            position = _verbatim(source, start, tokens, trim)
            trim = False
    tokens.append((END, "", size))
    return tokens


def _text(tokens: list[Token], text: str, offset: int, trim: bool) -> None:
    tokens.append((TEXT, text.lstrip(BLANKS) if trim else text, offset))


def _trim_last(tokens: list[Token]) -> None:
    if tokens and tokens[-1][0] == TEXT:
        _, text, offset = tokens[-1]
        tokens[-1] = (TEXT, text.rstrip(BLANKS), offset)


def _comment(source: str, start: int) -> int:
    end = source.find("#}", start + 2)
    inside = source[start + 2 : len(source) if end < 0 else end]
    if "\n" in inside:
        raise located(
            TemplateSyntaxError("Newline not permitted in a single-line comment."), source, start
        )
    if end < 0 or "\x01" in inside:
        raise located(TemplateSyntaxError("Single-line comment not closed."), source, start)
    return end + 2


def _verbatim(source: str, start: int, tokens: list[Token], trim: bool) -> int:
    begin = start + len(_VERBATIM)
    end = source.find(_END_VERBATIM, begin)
    if end < 0 or "\x01" in source[begin:end]:
        raise located(TemplateSyntaxError("verbatim-tag not closed, got EOF."), source, start)
    if end > begin:
        _text(tokens, source[begin:end], begin, trim)
    return end + len(_END_VERBATIM)


def _code(source: str, position: int, tokens: list[Token]) -> tuple[int, bool]:
    """Read tokens up to a closing mark.

    Return the position of the text after it, and whether that text is to be trimmed there.
    """
    match_at, append = _CODE.match, tokens.append
    while match := match_at(source, position):
        group = match.lastindex
        value = match[group]  # type: ignore[index]
        start, position = match.start(group), match.end()  # type: ignore[arg-type]
        if group == 1:
            if "." in value:
                start, value = _dotted(tokens, value, start)
            append((KEYWORD if value in KEYWORDS else NAME, value, start))
        elif group == 7:
            append((SYMBOL, value[:-1] if len(value) == 3 else value, start))
        elif group == 6:
            append((SYMBOL, "|", start - 1))
            append((KEYWORD if value in KEYWORDS else NAME, value, start))
        elif group == 5:
            append((SYMBOL, value[-2:], start))
            return position, value[0] == "-"
        elif group == 2:
            append((NUMBER, value, start))
        else:
            append((STRING, _unescaped(value) if "\\" in value else value, start - 1))
    return _stray(source, position), False


def _dotted(tokens: list[Token], path: str, start: int) -> tuple[int, str]:
    """Append the names of a path and the dots between them; return the place and the last name."""
    *names, last = path.split(".")
    for name in names:
        end = start + len(name)
        tokens.append((KEYWORD if name in KEYWORDS else NAME, name, start))
        tokens.append((SYMBOL, ".", end))
        start = end + 1
    return start, last


def _unescaped(string: str) -> str:
    if '\\"' in string:
        return _ESCAPE.sub(r"\1", string)
    return string.replace("\\\\", "\\")


def _stray(source: str, position: int) -> int:
    """Handle a character that begins no token.

    It is an error, or text where the parser will not expect any.
    """
    while source[position : position + 1] in (" ", "\r", "\t"):
        position += 1
    character = source[position : position + 1]
    if character == "\n":
        raise located(
            TemplateSyntaxError("Newline not allowed within tag/variable."), source, position
        )
    if character in ('"', "'") and character:
        raise located(TemplateSyntaxError(_string_fault(source, position)), source, position)
    return position


def _string_fault(source: str, position: int) -> str:
    rest = source[position + 1 :]
    closed = re.match(rf"(?:[^\\\n\x01{source[position]}]|\\[\"\\])*", rest)
    after = rest[closed.end() :] if closed else ""
    if after.startswith("\n"):
        return "Newline in string is not allowed."
    if len(after) > 1 and after[0] == "\\":
        return f"Unknown escape sequence: \\{after[1]} (write \\\\ for a backslash)"
    return "Unexpected EOF, string not closed."
