"""The arithmetic and the precedence of typed templates are Python's; whatever is written, a
template answers, refuses with a place or stops at a limit.
"""

import json

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.template import Limits
from flyteops.template.typed import TypedTemplate, compile_typed, to_json
from flyteops.template.typed.filter import FILTERS
from flyteops.template.typed.function import FUNCTIONS
from tests.examples import examples
from tests.typed import BIG, NOW, runtime

pytestmark = pytest.mark.property

HEALTH = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
LIMITS = Limits(steps=50_000, output_length=20_000, value_length=10_000, list_length=2_000)

# --- against Python: sources that mean the same in both languages

VALUES = {"a": 3, "b": -2, "c": BIG, "f": 2.5, "s": "text", "u": "", "l": [1, 2.5, "x"], "e": []}
EXACT = st.one_of(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "c"]))
NUMBERS = st.one_of(EXACT, st.sampled_from(["f", "0.5", "1e3"]))
TEXTS = st.sampled_from(["s", "u", "'x'", '"ex"', "'te'"])


def joined(
    operand: st.SearchStrategy[str], operators: list[str], most: int = 4, least: int = 1
) -> st.SearchStrategy[str]:
    """Join operands by operators, so that only the precedence says how they belong together."""
    rest = st.lists(
        st.tuples(st.sampled_from(operators), operand), min_size=least - 1, max_size=most - 1
    )
    return st.tuples(operand, rest).map(
        lambda e: e[0] + "".join(f" {operator} {each}" for operator, each in e[1])
    )


def nested(operand: st.SearchStrategy[str], operators: list[str]) -> st.SearchStrategy[str]:
    """Join operands, some of which are such expressions in parentheses, or have a sign."""
    parts = st.recursive(
        operand,
        lambda inner: st.one_of(
            joined(inner, operators, 3).map("({})".format), inner.map("-({})".format)
        ),
        max_leaves=4,
    )
    return joined(st.one_of(operand, operand.map("-{}".format), parts), operators)


ARITHMETIC = nested(EXACT, ["+", "-", "*", "//", "%"])
TEXT = joined(st.one_of(TEXTS, joined(TEXTS, ["+"]).map("({})".format)), ["+"])
COMPARISON = st.one_of(
    joined(ARITHMETIC, ["<", "<=", "==", "!=", ">", ">="], 3, 2),
    joined(TEXT, ["<", "<=", "==", "!=", ">", ">=", "in", "not in"], 3, 2),
    st.tuples(
        st.one_of(NUMBERS, TEXT), st.sampled_from(["in", "not in"]), st.sampled_from("le")
    ).map(" ".join),
)
NEGATED = st.one_of(
    COMPARISON, COMPARISON.map("not {}".format), COMPARISON.map("not not {}".format)
)
CONDITION = st.one_of(
    joined(NEGATED, ["and", "or"]),
    joined(
        st.one_of(NEGATED, joined(NEGATED, ["and", "or"]).map("(({}) == True)".format)),
        ["and", "or"],
    ),
)
CHOICE = st.tuples(ARITHMETIC, CONDITION, ARITHMETIC, CONDITION, TEXT).map(
    lambda e: f"{e[0]} if {e[1]} else {e[2]} if {e[3]} else {e[4]}"
)
WHOLE = st.one_of(ARITHMETIC, TEXT, COMPARISON, CONDITION, CHOICE)


def truthful(source: str) -> object:
    """Evaluate with Python, where only conditions are joined by and, or."""
    return eval(source, {"__builtins__": {}}, dict(VALUES))


@settings(max_examples=examples(3_000), deadline=None, suppress_health_check=HEALTH)
@given(WHOLE)
@example("1 + 2 * 3 - -4 // 3 % 2")
@example("not 1 in l and 'x' in l or 1 < 2 <= 2 != 3")
@example("a if not s == u else b")
def test_an_expression_has_the_value_that_python_gives_it(source: str) -> None:
    compiled = compile_typed("{{ " + source + " }}")
    try:
        wanted = truthful(source)
    except ZeroDivisionError:
        with pytest.raises(TemplateRenderError, match="division by zero"):
            compiled.render(VALUES, runtime())
        return
    assume(not isinstance(wanted, int) or wanted.bit_length() < 3_000)
    result = compiled.render(VALUES, runtime())
    assert result == wanted
    assert type(result) is type(wanted)


@settings(max_examples=examples(1_000), deadline=None, suppress_health_check=HEALTH)
@given(
    nested(
        st.one_of(st.integers(0, 12).map(str), st.sampled_from(["f", "a", "0.25"])),
        ["+", "-", "*", "/"],
    )
)
def test_divisions_are_those_of_python(source: str) -> None:
    compiled = compile_typed("{{ " + source + " }}")
    try:
        wanted = truthful(source)
    except ZeroDivisionError:
        with pytest.raises(TemplateRenderError, match="division by zero"):
            compiled.render(VALUES, runtime())
        return
    assume(abs(wanted) < 2**50)
    assert compiled.render(VALUES, runtime()) == wanted


# --- values

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=examples(400), deadline=None, suppress_health_check=HEALTH)
@given(JSON)
def test_a_value_is_handed_on_and_printed_without_loss(value: object) -> None:
    assert to_json(compile_typed("{{ x }}").render({"x": value}, runtime())) == value
    assert (
        compile_typed("{{ x == y }}").render({"x": value, "y": json.loads(json.dumps(value))})
        is True
    )
    printed = compile_typed("{{ [x] }}.").render({"x": value}, runtime())[:-1]
    assert json.loads(printed) == [value]


# --- anything else

FRAGMENTS = [
    *[
        "{{",
        "}}",
        "{%",
        "%}",
        "{{-",
        "-}}",
        "{%-",
        "-%}",
        "{#",
        "#}",
        "'",
        '"',
        "\\",
        "é",
        "😀",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "1",
        "5.5",
        "99999999999999999999",
        "|",
        ":",
        ",",
        ".",
    ],
    *[
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "~",
        "==",
        "!=",
        "<",
        ">=",
        "=",
        "!",
        "&&",
        "in",
        "and",
        "or",
        "not",
        "is",
        "defined",
        "if",
        "else",
        "elif",
        "endif",
        "for",
        "endfor",
        "set",
        "x",
        "y",
        "true",
    ],
    *[
        "Event",
        ".Payload",
        ".n",
        ".0",
        "[0]",
        "['k']",
        "|upper",
        "|default:",
        "|length",
        "datastore(",
        "now(",
        "range(",
        "secret(",
        "loop.index",
    ],
    "{% verbatim %}",
    "{% endverbatim %}",
    "{% comment %}",
    "{% endcomment %}",
    "{% if x %}",
    "{% endif %}",
    "{% for x in Event.Payload.l %}",
    "{% endfor %}",
    "{% set x = ",
    " ",
    "\n",
]
SCOPE = {
    "Event": {
        "Name": "Saïd",
        "At": NOW,
        "Payload": {
            "n": 3,
            "h": -2.5,
            "big": 1e21,
            "id": BIG,
            "s": "deploy web é",
            "nul": None,
            "t": True,
        }
        | {
            "l": [1, "a", None, [2], {"k": 1}],
            "e": [],
            "m": {"k": "v", "x": [1, 2]},
            "bad": "\udcff",
        },
    }
}


def compiled(source: str) -> TypedTemplate | None:
    """Compile; a refusal must have a place in the source."""
    try:
        return compile_typed(source, limits=LIMITS)
    except TemplateError as error:
        check_place(error, source)
        return None


def check_place(error: TemplateError, source: str) -> None:
    lines = source.split("\n")
    assert error.line is not None
    assert error.column is not None
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def outcome(template: TypedTemplate) -> str:
    """Render; anything but a value or an error of rendering is a fault."""
    try:
        result = template.render(SCOPE, runtime(LIMITS))
    except TemplateRenderError as error:
        check_place(error, template.source)
        return f"{type(error).__name__}: {error}"
    text = json.dumps(to_json(result))
    assert template.is_expression or len(result) <= LIMITS.output_length
    return text


def check(source: str) -> None:
    template = compiled(source)
    if template is not None:
        assert outcome(template) == outcome(template)


@settings(max_examples=examples(400), deadline=None, suppress_health_check=HEALTH)
@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused_with_a_place(source: str) -> None:
    check(source)
    check("{{" + source + "}}")
    check("{%" + source + "%}")


@settings(max_examples=examples(1_000), deadline=None, suppress_health_check=HEALTH)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_any_pile_of_fragments_compiles_or_is_refused_with_a_place(source: str) -> None:
    check(source)
    check("{{ " + source)


PATHS = [f"Event.Payload.{key}" for key in SCOPE["Event"]["Payload"]]
OPERANDS = st.one_of(
    st.sampled_from(
        [*PATHS, "Event.At", "Event", "x", "x.k", "loop.index", "nope", "Event.Payload[x]"]
    ),
    st.sampled_from(
        ["1", "2.5", "'a b'", "''", "true", "null", "[1, x]", "{'k': x}", "datastore('team').lead"]
    ),
    st.sampled_from([f"{name}({'2' * each.arguments})" for name, each in FUNCTIONS.items()]),
)
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"]


@st.composite
def filtered(draw: st.DrawFn) -> str:
    source = draw(OPERANDS)
    for name in draw(st.lists(st.sampled_from(sorted(FILTERS)), max_size=2)):
        spec = FILTERS[name]
        count = draw(st.integers(spec.least, spec.most))
        source += f"|{name}({', '.join(draw(OPERANDS) for _ in range(count))})"
    return source


EXPRESSIONS = st.recursive(
    filtered(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(
            lambda e: f"({e[0]}) {e[1]} ({e[2]})"
        ),
        st.tuples(inner, inner, inner).map(lambda e: f"({e[0]} if {e[1]} else {e[2]})"),
        inner.map("not ({})".format),
        inner.map("-({})".format),
        inner.map("({}).k".format),
    ),
    max_leaves=4,
)
STATEMENTS = st.recursive(
    st.one_of(EXPRESSIONS.map("{{{{ {} }}}}".format), EXPRESSIONS.map("{{% set x = {} %}}".format)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(EXPRESSIONS, inner, inner).map(
            lambda e: f"{{% if {e[0]} %}}{e[1]}{{% else %}}{e[2]}{{% endif %}}"
        ),
        st.tuples(EXPRESSIONS, inner).map(lambda e: f"{{% for x in {e[0]} %}}{e[1]}{{% endfor %}}"),
    ),
    max_leaves=6,
)


@settings(max_examples=examples(800), deadline=None, suppress_health_check=HEALTH)
@given(STATEMENTS)
def test_a_template_that_compiles_gives_a_value_or_an_error_with_a_place(source: str) -> None:
    check(source)
