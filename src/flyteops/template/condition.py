"""Necessary conditions of criteria: conditions on the event without which no step can run.

They are read from the tokens of a template: an expression alone (`{{ ... }}`), the same inside
`with`, and `if` around a text; in expressions `and`, `or`, parentheses, `==` with a constant, `in`
with a constant, and the filter `match`. Other forms yield no condition, so that a condition that
does not hold always means that the criteria are false or fail. Pure.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from flyteops.template.lexer import END, KEYWORD, NAME, NUMBER, STRING, SYMBOL, TEXT, Token, lex
from flyteops.template.parser import LOGIC, RELATIONS
from flyteops.template.regexp import RegexpError, SetPattern, set_pattern
from flyteops.template.value import TEXTS

Constant = tuple[str, object]
"""A kind and a value: `("text", "a")`, `("number", 1.0)`, `("bool", True)`."""

TRUE = frozenset(["1", "t", "T", "TRUE", "true", "True"])
"""The rendered criteria that count as true: the texts that the original reads as booleans."""

_MATCH = [(SYMBOL, "|"), (NAME, "match"), (SYMBOL, ":")]
_NESTING = 20
_SPECIAL = re.compile(r"([^A-Za-z0-9_\x80-\U0010ffff])")


class EventPath(NamedTuple):
    """A path of names in the event, such as `("Payload", "message")`.

    `as_text` for the text that a template of the step's context makes of the value.
    """

    names: tuple[str, ...]
    as_text: bool = False


class Condition(NamedTuple):
    """A condition on the value at a path: it equals a constant, or a regular expression matches."""

    path: EventPath
    equals: frozenset[Constant] | None = None
    patterns: tuple[SetPattern, ...] = ()

    @property
    def group(self) -> tuple[EventPath, bool]:
        """The path, and whether it is a condition of equality."""
        return self.path, self.equals is not None


Conditions = tuple[Condition, ...]
"""Conditions that must all hold, at most one of each group."""

Paths = Mapping[str, EventPath]
"""The paths behind the names of a step's context."""


def constant_of(value: object) -> Constant | None:
    """Return the constant that equals a value of an event; None if no constant does."""
    kind = type(value)
    if kind in TEXTS:
        return "text", value
    if kind is bool:
        return "bool", value
    if kind is int or kind is float:
        try:
            return "number", float(value)  # type: ignore[arg-type]
        except OverflowError:
            return None
    return None


def path_of(source: str) -> EventPath | None:
    """Return the path that a template prints if it does nothing else."""
    tokens = lex(source)
    if not _is_output(tokens):
        return None
    path = _path(tokens[1:-2], {})
    return None if path is None else EventPath(path.names, as_text=True)


def necessary_conditions(source: str, context: Mapping[str, str]) -> Conditions:
    """Return the necessary conditions of criteria, given the templates of the step's context.

    `source` must be a template that compiles.
    """
    paths = {name: path for name, text in context.items() if (path := path_of(text)) is not None}
    return _document(lex(source), paths, 0)


def every(conditions: Iterable[Condition]) -> Conditions:
    """Return conditions that must all hold, with one of each group."""
    found: dict[tuple[EventPath, bool], Condition] = {}
    for each in conditions:
        known = found.get(each.group)
        if known is None:
            found[each.group] = each
        elif known.equals is not None and each.equals is not None:
            found[each.group] = Condition(each.path, known.equals & each.equals)
    return tuple(found.values())


def _either(left: Conditions, right: Conditions) -> Conditions:
    """Return the conditions that hold if all of one side or all of the other hold."""
    others = {each.group: each for each in right}
    return tuple(
        [_union(each, others[each.group]) for each in left if each.group in others],
    )


def _union(left: Condition, right: Condition) -> Condition:
    if left.equals is not None and right.equals is not None:
        return Condition(left.path, left.equals | right.equals)
    return Condition(left.path, patterns=tuple(dict.fromkeys([*left.patterns, *right.patterns])))


# ------------------------------------------------------------------------------------- document


def _is_output(tokens: Sequence[Token]) -> bool:
    """Return whether the tokens are one printed expression and the end."""
    closings = [token for token in tokens if token[:2] == (SYMBOL, "}}")]
    return (
        len(tokens) > 3
        and tokens[0][:2] == (SYMBOL, "{{")
        and tokens[-2][:2] == (SYMBOL, "}}")
        and tokens[-1][0] == END
        and len(closings) == 1
    )


def _document(tokens: list[Token], paths: Paths, depth: int) -> Conditions:
    if depth > _NESTING:
        return ()
    if _is_output(tokens):
        return _expression(tokens[1:-2], paths, 0)
    statement = _first_statement(tokens)
    if statement is None:
        return ()
    name, arguments, rest = statement
    if name == "with":
        return _within(arguments, rest, paths, depth)
    return _choice(arguments, rest, paths) if name == "if" else ()


def _first_statement(tokens: list[Token]) -> tuple[str, list[Token], list[Token]] | None:
    """Return the name and arguments of the tag that the tokens begin with, and all behind it."""
    if tokens[0][:2] != (SYMBOL, "{%") or tokens[1][0] != NAME:
        return None
    for index, token in enumerate(tokens):
        if token[:2] == (SYMBOL, "%}"):
            return tokens[1][1], tokens[2:index], tokens[index + 1 :]
    return None


def _is_tag(tokens: Sequence[Token], name: str) -> bool:
    """Return whether the tokens are a tag without arguments, and no more."""
    return [token[:2] for token in tokens[:3]] == [(SYMBOL, "{%"), (NAME, name), (SYMBOL, "%}")]


def _within(arguments: Sequence[Token], rest: list[Token], paths: Paths, depth: int) -> Conditions:
    """Return the conditions of the body of `with`; names that it binds yield none."""
    if not _is_tag(rest[-4:-1], "endwith"):
        return ()
    if _binds(arguments, "Event") or _binds(arguments, "Context"):
        return ()
    return _document([*rest[:-4], rest[-1]], paths, depth + 1)


def _binds(arguments: Sequence[Token], name: str) -> bool:
    """Return whether the arguments of `with` bind a name: `name=...` or `... as name`."""
    for before, token, after in zip(
        [None, *arguments], arguments, [*arguments[1:], None], strict=False
    ):
        if token[:2] != (NAME, name):
            continue
        if (after is not None and after[:2] == (SYMBOL, "=")) or (
            before is not None and before[:2] == (KEYWORD, "as")
        ):
            return True
    return False


def _choice(condition: list[Token], rest: list[Token], paths: Paths) -> Conditions:
    """Return the conditions of `{% if ... %}text{% endif %}`, also with another text after else."""
    texts: list[str] = []
    while rest and rest[0][0] == TEXT:
        texts.append(rest[0][1])
        rest = rest[1:]
        if len(texts) == 1 and _is_tag(rest, "else"):
            rest = rest[3:]
            continue
        break
    is_plain = _is_tag(rest, "endif") and len(rest) == 4 and texts
    otherwise = texts[1] if len(texts) > 1 else ""
    return _expression(condition, paths, 0) if is_plain and otherwise not in TRUE else ()


# ------------------------------------------------------------------------------------ expressions


def _expression(tokens: Sequence[Token], paths: Paths, depth: int) -> Conditions:
    """Return the conditions of relations joined by and/or, which bind equally and to the right."""
    if depth > _NESTING:
        return ()
    operands, operators = _split(tokens, LOGIC)
    found = _relation(operands[-1], paths, depth)
    for operand, operator in zip(reversed(operands[:-1]), reversed(operators), strict=True):
        left = _relation(operand, paths, depth)
        found = _either(left, found) if LOGIC[operator] else every([*left, *found])
    return found


def _split(
    tokens: Sequence[Token], separators: Container[str]
) -> tuple[list[Sequence[Token]], list[str]]:
    """Split at operators outside of parentheses; return the parts, and the operators."""
    parts: list[Sequence[Token]] = []
    operators: list[str] = []
    level = start = 0
    for index, token in enumerate(tokens):
        if token[0] == SYMBOL and token[1] in ("(", ")"):
            level += 1 if token[1] == "(" else -1
        elif level == 0 and token[0] in (SYMBOL, KEYWORD) and token[1] in separators:
            parts.append(tokens[start:index])
            operators.append(token[1])
            start = index + 1
    return [*parts, tokens[start:]], operators


def _relation(tokens: Sequence[Token], paths: Paths, depth: int) -> Conditions:
    sides, operators = _split(tokens, RELATIONS | {"in"})
    if not operators:
        return _single(tokens, paths, depth)
    if len(operators) > 1:
        return ()
    left, right = sides
    if operators[0] == "==":
        return _equality(left, right, paths) or _equality(right, left, paths)
    return _membership(left, right, paths) if operators[0] == "in" else ()


def _equality(left: Sequence[Token], right: Sequence[Token], paths: Paths) -> Conditions:
    path, value = _path(left, paths), _constant(right)
    return () if path is None or value is None else (Condition(path, frozenset([value])),)


def _membership(left: Sequence[Token], right: Sequence[Token], paths: Paths) -> Conditions:
    """Return the condition of a path in a list of texts, or of a text in the text at a path."""
    path, texts = _path(left, paths), _texts(right)
    if path is not None and texts is not None:
        return (Condition(path, frozenset(("text", text) for text in texts)),)
    path, value = _path(right, paths), _constant(left)
    if path is None or value is None or value[0] != "text" or not str(value[1]).isprintable():
        return ()
    return _search(path, _SPECIAL.sub(r"\\\1", str(value[1])))


def _single(tokens: Sequence[Token], paths: Paths, depth: int) -> Conditions:
    if not tokens:
        return ()
    if tokens[0][:2] == (SYMBOL, "(") and _closes_last(tokens):
        return _expression(tokens[1:-1], paths, depth + 1)
    path, pattern = _path(tokens[:-4], paths), tokens[-1]
    if [each[:2] for each in tokens[-4:-1]] != _MATCH or path is None or pattern[0] != STRING:
        return ()
    return _search(path, pattern[1])


def _search(path: EventPath, source: str) -> Conditions:
    try:
        pattern = set_pattern(source)
    except RegexpError:  # it never matches
        return (Condition(path),)
    return () if pattern is None else (Condition(path, patterns=(pattern,)),)


def _closes_last(tokens: Sequence[Token]) -> bool:
    """Return whether the parenthesis that opens first is closed by the last token."""
    level = 0
    for index, token in enumerate(tokens):
        if token[0] == SYMBOL and token[1] in ("(", ")"):
            level += 1 if token[1] == "(" else -1
            if level == 0:
                return index == len(tokens) - 1
    return False


def _path(tokens: Sequence[Token], paths: Paths) -> EventPath | None:
    """Return the path of names in the event that the tokens are."""
    names = [token[1] for token in tokens[::2]]
    is_path = len(tokens) % 2 == 1 and all(token[0] == NAME for token in tokens[::2])
    if not is_path or any(token[:2] != (SYMBOL, ".") for token in tokens[1::2]):
        return None
    if len(names) == 2 and names[0] == "Context":
        return paths.get(names[1])
    if names[0] != "Event" or len(names) < 2:
        return None
    is_pack = names[1] == "Pack" and (
        names[2:] in (["Id"], ["Name"]) or (len(names) == 4 and names[2] == "Labels")
    )
    is_known = names[1] == "Payload" or is_pack or names[1:] == ["Name"]
    return EventPath(tuple(names[1:])) if is_known else None


def _constant(tokens: Sequence[Token]) -> Constant | None:
    kinds = [token[0] for token in tokens]
    if kinds == [STRING]:
        return "text", tokens[0][1]
    if kinds == [KEYWORD] and tokens[0][1] in ("true", "false"):
        return "bool", tokens[0][1] == "true"
    text = "".join(token[1] for token in tokens)
    if kinds == [NUMBER] or (kinds == [NUMBER, SYMBOL, NUMBER] and tokens[1][1] == "."):
        return "number", float(text)
    return None


def _texts(tokens: Sequence[Token]) -> frozenset[str] | None:
    """Return the texts of `'a,b'|split:','`."""
    shape = [(token[0], token[1] if token[0] in (SYMBOL, NAME) else "") for token in tokens]
    wanted = [(STRING, ""), (SYMBOL, "|"), (NAME, "split"), (SYMBOL, ":"), (STRING, "")]
    if shape != wanted or not tokens[4][1]:
        return None
    return frozenset(tokens[0][1].split(tokens[4][1]))
