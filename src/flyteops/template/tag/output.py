"""Tags that print.

They are filter, spaceless, autoescape, comment, now, templatetag, widthratio and lorem; tags that
would read files are refused.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NoReturn

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.template.arithmetic import divide_floats
from flyteops.template.filter.spec import Filter
from flyteops.template.gotime import Time
from flyteops.template.lexer import KEYWORD, NAME, NUMBER, STRING, SYMBOL, Token
from flyteops.template.node import FilterStep, Node, apply_filter
from flyteops.template.parser import Parser
from flyteops.template.regexp import Match
from flyteops.template.source import located
from flyteops.template.state import RenderState
from flyteops.template.tag.lorem import lorem
from flyteops.template.value import clean, from_bytes, joined, text, to_float, truncate

_MARKS = {
    "openblock": "{%",
    "closeblock": "%}",
    "openvariable": "{{",
    "closevariable": "}}",
    "openbrace": "{",
    "closebrace": "}",
    "opencomment": "{#",
    "closecomment": "#}",
}
_BETWEEN_TAGS = r"(?U:(<.*>))([\t\n\v\f\r ]+)(?U:(<.*>))"
_FAKE_NOW = Time(datetime(2014, 2, 5, 18, 31, 45, tzinfo=UTC))


def filter_tag(parser: Parser, opening: Token) -> Node:
    """Read `filter f[:argument]|g ... endfilter`.

    An unknown filter fails only when it is reached.
    """
    steps: list[FilterStep] = []
    while not parser.at_close():
        name = parser.expect(NAME, "Expected a filter name (identifier).")
        spec = parser.language.filters.get(name[1]) or Filter(_unknown(name[1]))
        steps.append(parser.filter_call(spec, name))
        if not parser.accept(SYMBOL, "|"):
            break
    parser.close("Malformed filter-tag arguments.")
    secrets = len(parser.secrets)
    body, _ = parser.body(opening, "endfilter")
    if len(parser.secrets) > secrets:
        raise parser.error("A secret cannot go through a filter tag.", opening)
    parser.close()
    source = parser.source

    def run(state: RenderState) -> None:
        value: object = joined(state.captured(body))
        for step in steps:
            value = apply_filter(step, value, state, source)
        state.write(text(value))

    return run


def _unknown(name: str) -> Callable[[object, object, RenderState], NoReturn]:
    def call(_value: object, _argument: object, _state: RenderState) -> NoReturn:
        raise TemplateRenderError(f"Filter with name '{name}' not found.")

    return call


def spaceless_tag(parser: Parser, opening: Token) -> Node:
    """Read `spaceless ... endspaceless`, which drops white space between HTML tags."""
    parser.close("Malformed spaceless-tag arguments.")
    body, _ = parser.body(opening, "endspaceless")
    parser.close()
    source, offset = parser.source, opening[2]

    def run(state: RenderState) -> None:
        data = clean(state.captured(body)).encode()
        try:
            pattern, before = state.pattern(_BETWEEN_TAGS), b""
            while data != before:
                state.charge(1 + (len(data) >> 3))
                before, data = (
                    data,
                    state.replaced(pattern, lambda match: _closed_up(match, state), data),
                )
        except TemplateError as error:
            raise located(error, source, offset) from None
        state.write(from_bytes(data))

    return run


def _closed_up(match: Match, state: RenderState) -> bytes:
    state.charge(3)
    return match.group(1) + match.group(3)


def autoescape_tag(parser: Parser, opening: Token) -> Node:
    """Read `autoescape on|off ... endautoescape`."""
    mode = parser.expect(NAME, "A mode is required for autoescape-tag.")
    if mode[1] not in ("on", "off"):
        raise parser.error("Only 'on' or 'off' is valid as an autoescape-mode.", mode)
    parser.close("Malformed autoescape-tag arguments.")
    body, _ = parser.body(opening, "endautoescape")
    parser.close()
    return autoescaped(body, on=mode[1] == "on")


def autoescaped(body: Node, *, on: bool) -> Node:
    """Run a body with autoescape on or off."""

    def run(state: RenderState) -> None:
        kept, state.autoescape = state.autoescape, on
        try:
            body(state)
        finally:
            state.autoescape = kept

    return run


def comment_tag(parser: Parser, opening: Token) -> None:
    """Read `comment ... endcomment` and drop it."""
    parser.close("Tag 'comment' does not take any argument.")
    parser.skip_to(opening, "endcomment")


def now_tag(parser: Parser, opening: Token) -> Node:
    """Read `now "layout" [fake]`."""
    layout = parser.expect(STRING, "Expected a format string.")[1]
    fake = parser.accept(NAME, "fake") is not None
    parser.close("Malformed now-tag arguments.")
    source, offset = parser.source, opening[2]

    def run(state: RenderState) -> None:
        try:
            state.charge(len(layout))
            time = _FAKE_NOW if fake else Time(state.now())
        except TemplateError as error:
            raise located(error, source, offset) from None
        state.write(time.format(layout))

    return run


def templatetag_tag(parser: Parser, _opening: Token) -> Node:
    """Read `templatetag openblock` and the like, which print the delimiters of the language."""
    name = parser.expect(NAME, "Identifier expected.")
    mark = _MARKS.get(name[1])
    if mark is None:
        raise parser.error("Template tag not found", name)
    parser.close("Malformed templatetag-tag argument.")
    return lambda state: state.write(mark)


def widthratio_tag(parser: Parser, _opening: Token) -> Node:
    """Read `widthratio value largest width [as name]`."""
    value, largest, width = parser.expression(), parser.expression(), parser.expression()
    name = None
    if parser.accept(KEYWORD, "as"):
        name = parser.expect(NAME, "Expected name (identifier).")[1]
        parser.bound.add(name)
    parser.close("Malformed widthratio-tag arguments.")

    def run(state: RenderState) -> None:
        ratio = (
            divide_floats(to_float(value(state)), to_float(largest(state))) * to_float(width(state))
            + 0.5
        )
        result = truncate(float(math.ceil(ratio)) if math.isfinite(ratio) else ratio)
        if name is not None:
            state.scope[name] = result
        else:
            state.write(str(result))

    return run


def lorem_tag(parser: Parser, opening: Token) -> Node:
    """Read `lorem [n] [w|p|b] [random]`."""
    number = parser.accept(NUMBER)
    count = 1 if number is None else min(int(number[1][:19]), 2**62)
    method = parser.accept(NAME)
    if method is not None and method[1] not in ("w", "p", "b"):
        raise parser.error("lorem-method must be either 'w', 'p' or 'b'.", method)
    random = parser.accept(NAME, "random") is not None
    parser.close("Malformed lorem-tag arguments.")
    source, offset = parser.source, opening[2]
    kind = "b" if method is None else method[1]

    def run(state: RenderState) -> None:
        try:
            lorem(state, count, kind, state.chance() if random else None)
        except TemplateError as error:
            raise located(error, source, offset) from None

    return run


def refused_tag(parser: Parser, opening: Token) -> Node:
    """Refuse a tag that would read files."""
    raise parser.error(
        f"Tag '{opening[1]}' is refused: it reads files of the server. Use template() or a macro"
        " instead.",
        opening,
    )
