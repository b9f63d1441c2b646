"""Filters with regular expressions: RE2, in linear time."""

import re
from collections.abc import Callable
from functools import partial

from flyteops.errors import TemplateRenderError
from flyteops.template.limit import Limits
from flyteops.template.regexp import Match, Pattern, RegexpError, compile_pattern
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.operand import need_text, printed
from flyteops.template.typed.filter.spec import FilterCall, TypedFilter
from flyteops.template.typed.value import Value
from flyteops.template.value import clean

Compile = Callable[[str], Pattern]
Use = Callable[..., Value]
"""Called with the pattern, the value, any further arguments and the environment."""

_REFERENCE = re.compile(r"\\(\\|[0-9])")
_SOURCE = "a regular expression in a text as its argument"


def compiled(name: str, source: Value, compiler: Compile) -> Pattern:
    """Return a compiled regular expression, or raise the error of a filter."""
    string = need_text(name, source, _SOURCE)
    try:
        return compiler(string)
    except RegexpError as error:
        raise TemplateRenderError(
            f"`{name}` got {string[:60]!r}, which is not a regular expression: {error}"
        ) from None


def _filter(name: str, use: Use, arguments: int = 1) -> TypedFilter:
    """Return a filter with a regular expression, which is compiled once if it is a constant."""

    def call(value: Value, source: Value, *more: Value, env: Environment) -> Value:
        return use(compiled(name, source, env.pattern), value, *more, env=env)

    def prepare(source: Value, *_more: Value, limits: Limits) -> FilterCall:
        pattern = compiled(name, source, partial(compile_pattern, limits=limits))

        def prepared(value: Value, *arguments: Value, env: Environment) -> Value:
            return use(pattern, value, *arguments[1:], env=env)

        return prepared

    return TypedFilter(call, arguments, arguments, prepare)


def _bytes(string: str) -> bytes:
    return clean(string).encode()


def matches(pattern: Pattern, value: Value, *, env: Environment) -> bool:
    """Return whether a regular expression matches anywhere in the text; null has no match."""
    if value is None:
        return False
    return env.search(pattern, _bytes(printed("match", value, env)))[0][0] >= 0


def _extract(pattern: Pattern, value: Value, *, env: Environment) -> str | None:
    if value is None:
        return None
    string = printed("extractMatch", value, env)
    data = _bytes(string)
    spans = env.search(pattern, data)
    if spans[0][0] < 0 or not pattern.groups:
        return string
    start, end = spans[1]
    return data[start:end].decode() if start >= 0 else ""


def _find_all(pattern: Pattern, value: Value, *, env: Environment) -> list[Value] | None:
    if value is None:
        return None
    data = _bytes(printed("regex_findall", value, env))
    found: list[Value] = []

    def keep(each: Match) -> bytes:
        if _splits(data, each):
            return b""
        if len(found) >= env.limits.list_length:
            env.check_count(len(found) + 1)
        found.append(_groups(pattern, data, each))
        return b""

    env.replaced(pattern, keep, data)
    return found


def _splits(data: bytes, each: Match) -> bool:
    """Return whether an empty match is between the bytes of one character."""
    start, end = each.span(0)
    return start == end < len(data) and data[start] & 0xC0 == 0x80


def _groups(pattern: Pattern, data: bytes, each: Match) -> Value:
    if not pattern.groups:
        return _group(data, each, 0)
    texts = [_group(data, each, number) for number in range(1, pattern.groups + 1)]
    return texts if len(texts) > 1 else texts[0]


def _group(data: bytes, each: Match, number: int) -> str:
    start, end = each.span(number)
    return data[start:end].decode() if start >= 0 else ""


def _replace(pattern: Pattern, value: Value, replacement: Value, *, env: Environment) -> str | None:
    parts = _replacement(pattern, printed("regex_replace", replacement, env))
    if value is None:
        return None
    data = _bytes(printed("regex_replace", value, env))
    most, size = 4 * env.limits.value_length, len(data)

    def insert(each: Match) -> bytes:
        nonlocal size
        if _splits(data, each):
            return b""
        inserted = b"".join(
            _span(data, each, part) if isinstance(part, int) else part for part in parts
        )
        size += len(inserted)
        if size > most:
            env.check_length(size)
        return inserted

    return env.check_text(env.replaced(pattern, insert, data).decode())


def _span(data: bytes, each: Match, group: int) -> bytes:
    start, end = each.span(group)
    return data[start:end] if start >= 0 else b""


def _replacement(pattern: Pattern, string: str) -> list[bytes | int]:
    """Split a replacement into texts and numbers of groups."""
    parts: list[bytes | int] = []
    position = 0
    for reference in _REFERENCE.finditer(string):
        parts.append(_bytes(string[position : reference.start()]))
        parts.append(b"\\" if reference[1] == "\\" else _number(pattern, int(reference[1])))
        position = reference.end()
    return [*parts, _bytes(string[position:])]


def _number(pattern: Pattern, group: int) -> int:
    if group > pattern.groups:
        raise TemplateRenderError(
            f"`regex_replace` got \\{group} in its replacement, and the regular expression has"
            f" {pattern.groups} groups"
        )
    return group


MATCH = _filter("match", matches)
"""Whether a regular expression matches anywhere in the text."""
EXTRACT_MATCH = _filter("extractMatch", _extract)
"""The text matched by the first group of a regular expression, or the text itself."""
REGEX_FINDALL = _filter("regex_findall", _find_all)
"""All matches of a regular expression, or the group, or lists of the groups, of each."""
REGEX_REPLACE = _filter("regex_replace", _replace, 2)
r"""Every match of a regular expression replaced; ``\1`` is the first group, ``\0`` the match."""
