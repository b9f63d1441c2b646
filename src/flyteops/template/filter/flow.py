"""Filters specific to Flyte: regular expressions, cron expressions, blanks, words for a shell."""

import re
import shlex
from collections.abc import Callable
from typing import Any

from flyteops.errors import TemplateAbort, TemplateRenderError
from flyteops.template.cron import CronError, is_due
from flyteops.template.filter.spec import Call
from flyteops.template.gotime import Time
from flyteops.template.regexp import Pattern, RegexpError
from flyteops.template.state import RenderState
from flyteops.template.value import clean, text

_BLANKS = re.compile(r"[\t\n\f\r ]+")


def _bytes(string: str) -> bytes:
    return string.encode() if string.isascii() else clean(string).encode()


def _matches(pattern: Pattern | None, string: str, state: RenderState) -> bool:
    return pattern is not None and state.search(pattern, _bytes(string))[0][0] >= 0


def _pattern(source: str, state: RenderState) -> Pattern | None:
    try:
        return state.pattern(source)
    except RegexpError:
        return None


def match(value: object, argument: object, state: RenderState) -> bool:
    """Return whether a regular expression matches anywhere in the text.

    An invalid one never does.
    """
    return _matches(_pattern(text(argument), state), text(value), state)


def prepare_match(argument: object) -> Call:
    """Compile the regular expression at its first use."""
    return _prepared(argument, _matches)


def _prepared(argument: object, use: Callable[[Pattern | None, str, RenderState], Any]) -> Call:
    source = text(argument)
    patterns: list[Pattern | None] = []

    def call(value: object, _argument: object, state: RenderState) -> object:
        if not patterns:
            patterns.append(_pattern(source, state))
        return use(patterns[0], value if type(value) is str else text(value), state)

    return call


def _extract(pattern: Pattern | None, string: str, state: RenderState) -> str:
    if pattern is None:
        raise TemplateAbort("the regular expression is not valid")
    data = _bytes(string)
    found = state.search(pattern, data)
    if found[0][0] < 0 or not pattern.groups:
        return string
    start, end = found[1]
    return data[start:end].decode() if start >= 0 else ""


def extract_match(value: object, argument: object, state: RenderState) -> str:
    """Return the text matched by the first group of a regular expression, or the text itself."""
    return _extract(_pattern(text(argument), state), text(value), state)


def prepare_extract_match(argument: object) -> Call:
    """Compile the regular expression at its first use."""
    return _prepared(argument, _extract)


def matches_cron(value: object, argument: object, state: RenderState) -> bool:
    """Return whether the cron expression names a time given in the form of RFC 3339."""
    try:
        time = Time.parse(text(value))
    except ValueError:
        raise TemplateAbort(f"invalid date: '{text(value)}'") from None
    expression = text(argument)
    if len(expression) > state.limits.regexp_length:
        raise TemplateRenderError("Invalid Cron Expression")
    try:
        # In the original engine, validity depended on the day of the evaluation: only the fields up
        # to the first that does not match now are read.
        if state.runtime.now is not None:
            is_due(expression, state.runtime.now)
        return is_due(expression, time.at)
    except CronError:
        raise TemplateRenderError("Invalid Cron Expression") from None


def remove_dup_whitespaces(value: object, _argument: object, _state: RenderState) -> str:
    """Replace every run of white space by one blank."""
    return _BLANKS.sub(" ", text(value)).rstrip(" ")


def safe_copy_paste(value: object, _argument: object, _state: RenderState) -> str:
    """Replace no-break spaces by blanks."""
    return text(value).replace("\xa0", " ")


def shellquote(value: object, _argument: object, _state: RenderState) -> str:
    """Make one word for a POSIX shell out of any text."""
    string = text(value)
    if "\0" in string:
        raise TemplateRenderError("a shell cannot be given a zero byte")
    return shlex.quote(string)
