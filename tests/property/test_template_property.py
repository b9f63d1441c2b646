"""Whatever is written, the language answers, refuses with a place or stops at a limit; its
arithmetic is that of its grammar.
"""

import math
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flyteops import template
from flyteops.errors import (
    TemplateError,
    TemplateLimitError,
    TemplateRenderError,
    TemplateSyntaxError,
)
from flyteops.template.template import LANGUAGE
from tests.examples import examples

pytestmark = pytest.mark.property

LIMITS = template.Limits(steps=50_000, output_length=20_000, value_length=10_000, list_length=2_000)
NOW = datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=UTC)
EVENT = template.event_value(
    name="Saïd",
    payload={
        "n": 3,
        "h": -2.5,
        "big": 1e21,
        "s": "deploy web é",
        "nul": None,
        "t": True,
        "l": [1, "a", None, [2], {"k": 1}],
        "e": [],
        "m": {"k": "v", "x": [1, 2]},
        "html": "<p class='a'>one <b>two</b> www.a.com</p>",
        "bytes": "\udcff\udc80",
    },
    pack_id="P",
    pack_name="Pk",
    pack_labels={"env": "s"},
    created_at=NOW,
    received_at=NOW,
)
CONTEXT = {
    "Event": EVENT,
    "Context": {
        "a": "b",
        "cron": "*/5 9-17 * * MON-FRI",
        "time": "2024-02-29T12:30:45Z",
        "json": '{"k":[1]}',
    },
}
HEALTH = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def runtime() -> template.Runtime:
    data = {"k": {"x": 1}, "text": "t"}
    return template.Runtime(
        datastore=data.__getitem__, random=lambda: Random(7), now=NOW, limits=LIMITS
    )


def outcome(compiled: template.Template) -> str:
    """Render; whatever else than an answer or an error of rendering comes out is a fault of
    ours.
    """
    try:
        result = compiled.render(CONTEXT, runtime())
    except TemplateRenderError as error:
        failure = error
    else:
        assert len(result) <= LIMITS.output_length
        result.encode()
        return result
    assert failure.line is not None
    return f"{type(failure).__name__}: {failure}"


def compiled(source: str) -> template.Template | None:
    """Compile; a refusal has to tell a place inside of the source."""
    try:
        return template.compile(source, limits=LIMITS)
    except (TemplateSyntaxError, TemplateLimitError) as error:
        refusal = error
    lines = source.split("\n")
    assert refusal.line is not None
    assert refusal.column is not None
    assert 1 <= refusal.line <= len(lines)
    assert 1 <= refusal.column <= len(lines[refusal.line - 1]) + 1
    return None


def check(source: str) -> None:
    found = compiled(source)
    if found is not None:
        assert outcome(found) == outcome(found)
        found.values(CONTEXT, runtime())


SYMBOLS = (
    "{{ }} {% %} {{- -}} {%- -%} {# #} ' \" \\ \\\\ \x01 é \U0001f600 ` [ 1 5.5"
    " 99999999999999999999 | : ( ) , + - * / % ^ !"
)
WORDS = (
    "Event .Payload .n .0 upper not and || == <> in true as export if endif else for endfor set x ="
    " macro m( endmacro"
)
TAGS = "comment endcomment filter endfilter with endwith"
WHOLE = [
    "{% verbatim %}",
    "{% endverbatim %}",
    "{% endautoescape %}",
    "{% autoescape off %}",
    " ",
    "\n",
    "\t",
]
FRAGMENTS = [*SYMBOLS.split(" "), *WORDS.split(" "), *TAGS.split(" "), *WHOLE]


@settings(max_examples=examples(400), deadline=None, suppress_health_check=HEALTH)
@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused_with_a_place(source: str) -> None:
    check(source)
    check("{{" + source + "}}")


@settings(max_examples=examples(800), deadline=None, suppress_health_check=HEALTH)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_any_pile_of_fragments_compiles_or_is_refused_with_a_place(source: str) -> None:
    check(source)


# --- templates that are mostly right
# ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["x", "y", "Event", "nope"])
EVENT_PATHS = (
    "Event Event.Name Event.Pack Event.Pack.Labels Event.CreatedAt Event.CreatedAt.Year"
    " Event.Payload"
)
OTHER_PATHS = (
    "Context Context.cron Context.time x y.k nope.a.b forloop forloop.Counter pongo2 block.Super"
    " m(1) m()"
)
CALLS = (
    "datastore('k') datastore('k').x datastore('text') unmarshalJson(Context.json)"
    " base64Encode(Event.Name) base64Decode('_w') randomInt(9) randomAlpha(3)"
    " template(Event.Payload.s,Event.Payload.m) template('{{x}}',Context)"
)
PAYLOAD_PATHS = [f"Event.Payload.{key}" for key in EVENT.fields["Payload"]]
PATHS = st.sampled_from(
    [*EVENT_PATHS.split(), *OTHER_PATHS.split(), *CALLS.split(), *PAYLOAD_PATHS]
)
LITERALS = st.one_of(
    st.integers(0, 99).map(str),
    st.sampled_from(
        [
            "2.5",
            "0.0",
            "true",
            "false",
            "'a b c'",
            "'<b>x</b>'",
            "'1:2'",
            "','",
            "''",
            "'(a)'",
            "'%v|%5.1f'",
            "'-2'",
            "'y,ies'",
            "'2006'",
        ]
    ),
)
OPERANDS = st.one_of(PATHS, LITERALS)


@st.composite
def filtered(draw: st.DrawFn) -> str:
    source = draw(OPERANDS)
    for name in draw(st.lists(st.sampled_from(sorted(LANGUAGE.filters)), max_size=3)):
        source += f"|{name}"
        if draw(st.booleans()):
            source += f":{draw(OPERANDS)}"
    return source


EXPRESSIONS = st.recursive(
    filtered(),
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(
                ["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">=", "in", "and", "||"]
            ),
            inner,
        ).map(lambda e: f"({e[0]}) {e[1]} ({e[2]})"),
        inner.map(lambda e: f"!({e})"),
        inner.map(lambda e: f"-({e})"),
    ),
    max_leaves=4,
)
PLAIN = [
    "text",
    " ",
    "\n",
    "é",
    "{# c #}",
    "<a> <b>",
    "{% verbatim %}{{ x }}{% endverbatim %}",
    "{% templatetag openblock %}",
    "{% now '2006-01-02T15:04:05.000Z07:00' %}",
    "{% now 'Jan' fake %}",
    "{% lorem 5 w random %}",
    "{% lorem 2 p %}",
    "{% comment %}{{ ; {% endcomment %}",
]
OUTPUTS = st.one_of(
    EXPRESSIONS.map(lambda e: f"{{{{ {e} }}}}"),
    EXPRESSIONS.map(lambda e: f"{{{{- {e} -}}}}"),
    st.sampled_from(PLAIN),
    st.tuples(EXPRESSIONS, EXPRESSIONS).map(
        lambda e: f"{{% firstof ({e[0]}) ({e[1]}) %}}{{% cycle ({e[0]}) ({e[1]}) as x %}}"
    ),
    st.tuples(NAMES, EXPRESSIONS).map(lambda e: f"{{% set {e[0]} = {e[1]} %}}"),
    EXPRESSIONS.map(lambda e: f"{{% widthratio ({e}) 3 100 %}}{{% widthratio ({e}) 3 100 as y %}}"),
)


def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    e = EXPRESSIONS
    return st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.tuples(e, inner, inner).map(
            lambda p: (
                f"{{% if {p[0]} %}}{p[1]}{{% elif !({p[0]}) %}}{p[2]}{{% else %}}z{{% endif %}}"
            )
        ),
        st.tuples(e, e, inner).map(
            lambda p: f"{{% ifequal ({p[0]}) ({p[1]}) %}}{p[2]}{{% else %}}n{{% endifequal %}}"
        ),
        st.tuples(e, e, inner).map(
            lambda p: f"{{% ifnotequal ({p[0]}) ({p[1]}) %}}{p[2]}{{% endifnotequal %}}"
        ),
        st.tuples(e, st.sampled_from(["", " reversed", " sorted", " reversed sorted"]), inner).map(
            lambda p: f"{{% for x, y in {p[0]}{p[1]} %}}{p[2]}{{% empty %}}e{{% endfor %}}"
        ),
        st.tuples(e, inner).map(
            lambda p: (
                f"{{% with x={p[0]} y=x %}}{p[1]}{{% endwith %}}{{% with {p[0]} as x %}}{p[1]}{{%"
                " endwith %}"
            )
        ),
        st.tuples(e, inner).map(
            lambda p: f"{{% macro m(x, y={p[0]}) %}}{p[1]}{{% endmacro %}}{{{{ m(1) }}}}"
        ),
        st.tuples(e, inner).map(
            lambda p: f"{{% ifchanged {p[0]} %}}{p[1]}{{% else %}}s{{% endifchanged %}}"
        ),
        inner.map(lambda i: f"{{% ifchanged %}}{i}{{% endifchanged %}}"),
        st.tuples(st.sampled_from(sorted(LANGUAGE.filters)), OPERANDS, inner).map(
            lambda p: f"{{% filter {p[0]}:{p[1]}|upper %}}{p[2]}{{% endfilter %}}"
        ),
        inner.map(lambda i: f"{{% spaceless %}}{i}{{% endspaceless %}}"),
        inner.map(lambda i: f"{{% autoescape on %}}{i}{{% endautoescape %}}"),
        inner.map(lambda i: f"{{% endautoescape %}}{i}{{% autoescape off %}}"),
        inner.map(lambda i: f"{{% block b %}}{i}{{{{ block.Super }}}}{{% endblock %}}"),
    )


TEMPLATES = st.recursive(OUTPUTS, around, max_leaves=6)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=HEALTH)
@given(TEMPLATES)
def test_any_template_renders_the_same_twice_or_fails_in_rendering(source: str) -> None:
    check(source)


def test_most_of_these_templates_are_right() -> None:
    """Keeps the strategy above honest: it is worth little if the parser refuses most of what it
    makes.
    """
    tried: list[bool] = []

    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=HEALTH,
    )
    @given(TEMPLATES)
    def collect(source: str) -> None:
        tried.append(compiled(source) is not None)

    collect()
    assert sum(tried) > 0.8 * len(tried)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=HEALTH)
@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**70), 2**70),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=20),
            OUTPUTS,
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_any_value_resolves_to_the_same_shape_or_fails(value: Any) -> None:
    try:
        resolved = template.resolve(value, CONTEXT, runtime())
    except TemplateError as error:
        problems = error.problems
    else:
        same_shape(value, resolved)
        return
    assert problems


def same_shape(value: Any, resolved: Any) -> None:
    if isinstance(value, dict):
        assert list(resolved) == [key for key, item in value.items() if item is not None]
        for key, item in resolved.items():
            same_shape(value[key], item)
    elif isinstance(value, list):
        assert len(resolved) == len(value)
        for item, other in zip(value, resolved, strict=True):
            same_shape(item, other)
    else:
        assert type(resolved) is type(value)


# --- an oracle for expressions
# ----------------------------------------------------------------------------------------

Thunk = Callable[[], Any]
Generated = tuple[str, Thunk]


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """The language has to refuse to compute this."""


def is_float(*values: Any) -> bool:
    return any(isinstance(value, float) for value in values)


def whole(value: Any) -> int:
    # Beyond what a float counts exactly, Go's conversion is the processor's own; cases of ours
    # cover it.
    assume(abs(value) < 2**53)
    return 0 if isinstance(value, bool) else int(value)


def real(value: Any) -> float:
    return 0.0 if isinstance(value, bool) else float(value)


def compute(operator: str, a: Any, b: Any) -> Any:
    if operator == "^":
        return real(a) ** real(b)
    if operator == "%":
        if whole(b) == 0:
            raise Refused
        return int(math.fmod(whole(a), whole(b)))
    if operator in "+-*":
        x, y = (real(a), real(b)) if is_float(a, b) else (whole(a), whole(b))
        return {"+": x + y, "-": x - y, "*": x * y}[operator]
    if is_float(a, b):
        assume(real(b) != 0)
        return real(a) / real(b)
    if whole(b) == 0:
        raise Refused
    return math.trunc(whole(a) / whole(b))


def relate(operator: str, a: Any, b: Any) -> bool:
    if operator in ("==", "!=", "<>"):
        same = type(a) is type(b) and a == b
        return same if operator == "==" else not same
    x, y = (real(a), real(b)) if is_float(a, b) else (whole(a), whole(b))
    return {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[operator]


def inverse(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 0 if value else 1
    return 0.0 if value else 1.1


def minus(value: Any) -> Any:
    if isinstance(value, bool):
        raise Refused
    return -value


def factor(rng: Random, depth: int) -> Generated:
    if depth and rng.random() < 0.3:
        source, thunk = expression(rng, depth - 1)
        return f"({source})", thunk
    numbers = [(str(number), number) for number in range(8)]
    source, value = rng.choice(
        [("true", True), ("false", False), ("2.5", 2.5), ("0.5", 0.5), ("3.0", 3.0), *numbers]
    )
    return source, lambda: value


def powers(rng: Random, depth: int) -> Generated:
    left, first = factor(rng, depth)
    if rng.random() < 0.8:
        return left, first
    right, second = powers(rng, depth)
    return f"{left} ^ {right}", lambda: compute("^", first(), second())


def left_joined(
    rng: Random,
    first: Generated,
    inner: Callable[[Random, int], Generated],
    depth: int,
    operators: str,
) -> Generated:
    source, thunk = first
    while rng.random() < 0.3:
        operator = rng.choice(operators)
        right, other = inner(rng, depth)
        source = f"{source} {operator} {right}"
        thunk = lambda thunk=thunk, operator=operator, other=other: compute(  # noqa: E731
            operator, thunk(), other()
        )
    return source, thunk


def products(rng: Random, depth: int) -> Generated:
    return left_joined(rng, powers(rng, depth), powers, depth, "*/%")


def sums(rng: Random, depth: int) -> Generated:
    sign, no = rng.choice(["", "", "-", "+"]), rng.choice(["", "", "!", "not "])
    source, thunk = products(rng, depth)

    def first() -> Any:
        value = inverse(thunk()) if no else thunk()
        return minus(value) if sign == "-" else value

    return left_joined(rng, (f"{sign}{no}{source}", first), products, depth, "+-")


def relations(rng: Random, depth: int) -> Generated:
    source, thunk = sums(rng, depth)
    if rng.random() < 0.7:
        return source, thunk
    operator = rng.choice(["==", "!=", "<>", "<", "<=", ">", ">="])
    right, other = relations(rng, depth)

    def run() -> bool:
        left = thunk()
        return relate(operator, left, other())

    return f"{source} {operator} {right}", run


def expression(rng: Random, depth: int = 3) -> Generated:
    source, thunk = relations(rng, depth)
    if rng.random() < 0.7:
        return source, thunk
    operator = rng.choice(["&&", "||", "and", "or"])
    right, other = expression(rng, depth)
    if operator in ("&&", "and"):
        return f"{source} {operator} {right}", lambda: bool(thunk()) and bool(other())
    return f"{source} {operator} {right}", lambda: bool(thunk()) or bool(other())


def shown(value: Any) -> str:
    return f"{value:f}" if isinstance(value, float) else str(value)


@settings(max_examples=examples(1_500), deadline=None, suppress_health_check=HEALTH)
@given(st.integers(0, 2**32))
def test_expressions_agree_with_a_plain_reading_of_the_grammar(seed: int) -> None:
    source, thunk = expression(Random(seed))
    try:
        expected: Any = thunk()
        assume(not isinstance(expected, complex))
    except (OverflowError, ZeroDivisionError, TypeError, ValueError):
        # Infinities and complex numbers are Python's own affair; cases of ours cover them.
        assume(False)
    except Refused:
        expected = Refused
    assume(
        not isinstance(expected, float | int) or (math.isfinite(expected) and abs(expected) < 1e15)
    )
    try:
        result = template.compile(f"{{{{ {source} }}}}").render({})
    except TemplateRenderError:
        assert expected is Refused
    else:
        assert expected is not Refused
        assert result == shown(expected)


INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**200), 2**200),
    st.builds(lambda power, more: 2**power + more, st.integers(50, 70), st.integers(-3, 3)),
)


@settings(max_examples=examples(500), deadline=None)
@given(INTEGERS, INTEGERS)
def test_no_integer_of_json_loses_digits(left: int, right: int) -> None:
    context = {"a": left, "b": right, "text": str(left), "json": f'{{"a": {left}}}'}
    for path in ("a", "unmarshalJson(json).a"):
        assert template.resolve(f"{{{{ {path} }}}}", context) == f"{left}.000000"
    if -(2**63) <= left < 2**63:
        for path in ("a", "unmarshalJson(json).a", "text"):
            assert template.resolve(f"{{{{ {path}|integer }}}}", context) == str(left)
    assert template.resolve("{{ a == b }}", context) == str(left == right)
    assert template.resolve("{{ a|floatformat:2 }}", context).startswith(str(left))


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_a_text_is_a_shell_takes_it_as_one_word(texts: list[str]) -> None:
    script = "printf '%s\\0'" + "".join(
        template.compile(" {{ text|shellquote }}").render({"text": text}) for text in texts
    )
    printed = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    assert printed == b"".join(text.encode() + b"\0" for text in texts)


MARKED_UP = st.lists(
    st.sampled_from(
        [
            *"\\`*_{}[]()<>#+-.!|~&=:$/@ \n\r\tab1",
            "    ",
            "\n\n",
            "https://x.example",
            "&lt;",
            "<b>",
            "```",
            "---",
            "1. ",
        ]
    ),
    max_size=20,
).map("".join)
AS_TEXT = {
    "paragraph_open",
    "paragraph_close",
    "inline",
    "text",
    "text_special",
    "softbreak",
    "hardbreak",
}
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@settings(max_examples=examples(200), deadline=None)
@given(
    MARKED_UP,
    st.sampled_from(["{{ x|quote_md }}", "say {{ x|quote_md }} it", "a\n{{ x|quote_md }}\nb"]),
)
def test_whatever_a_text_is_markdown_shows_it_as_text(text: str, source: str) -> None:
    tokens = MARKDOWN.parse(template.compile(source).render({"x": text}))
    inside = [child for token in tokens for child in token.children or []]
    assert {token.type for token in [*tokens, *inside]} <= AS_TEXT
    shown = "".join("".join(child.content for child in inside).split())
    assert shown == "".join(source.replace("{{ x|quote_md }}", text).split())


@settings(max_examples=examples(200), deadline=None)
@given(st.text(st.sampled_from("<>!&@#|^;ltgamp channelhere \n"), max_size=30))
def test_whatever_a_text_is_slack_shows_it_as_text(text: str) -> None:
    quoted = template.compile("{{ x|quote_slack }}").render({"x": text})
    assert not set("<>").intersection(quoted)
    assert unescape(quoted) == text
