"""No template, however it is written, costs more than its limits; whoever reaches one is told
which and what to do.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flyteops import template
from flyteops.errors import TemplateLimitError
from tests.support.step import steps_of

SMALL = template.Limits(steps=20_000, output_length=5_000, value_length=2_000, list_length=500)


def reach(
    limit: str, source: str, context: Any = None, limits: template.Limits = SMALL, **runtime: Any
) -> TemplateLimitError:
    """Render, and expect that the limit stops it, with a place. One that does not hold runs into
    the test's timeout.
    """
    with pytest.raises(TemplateLimitError, match=rf"\(limit {limit}\)") as raised:
        template.compile(source, limits=limits).render(
            context or {}, template.Runtime(limits=limits, **runtime)
        )
    assert raised.value.line is not None
    assert raised.value.column is not None
    return raised.value


def test_a_source_has_a_longest_length() -> None:
    error = reach("source_length", "x" * 101, limits=replace(SMALL, source_length=100))
    assert (error.line, error.column) == (1, 101)
    assert (
        template.compile("x" * 100, limits=replace(SMALL, source_length=100)).render({})
        == "x" * 100
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 100 + "1" + ")" * 100 + " }}",
        "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
        "{{ " + "f(" * 100 + ")" * 100 + " }}",
        "{{ " + "-(!(" * 100 + "1" + "))" * 100 + " }}",
        "{% if 1 %}" * 100 + "{% endif %}" * 100,
        "{% for x in y %}" * 100 + "{% endfor %}" * 100,
        "{% with a=1 %}" * 1_000 + "{% endwith %}" * 1_000,
    ],
)
def test_nesting_has_a_deepest_level(source: str) -> None:
    reach("parse_depth", source)


def test_nesting_up_to_the_limit_works() -> None:
    depth = template.DEFAULT_LIMITS.parse_depth
    assert template.compile("{{ " + "(" * depth + "1" + ")" * depth + " }}").render({}) == "1"
    assert template.compile("{{ " + "-(" * depth + "1" + ")" * depth + " }}").render({}) == "1"
    assert template.compile("{% if 1 %}" * depth + "x" + "{% endif %}" * depth).render({}) == "x"
    assert (
        template.compile("{% filter upper %}" * depth + "x" + "{% endfilter %}" * depth).render({})
        == "X"
    )


@pytest.mark.parametrize(
    "link", ["+a", "-1", "*1", "^1", " and 1", " || 1", " == 1", " < 1", "|upper", ".b", "(1)"]
)
def test_an_expression_has_a_largest_number_of_parts(link: str) -> None:
    reach("operators", "{{ a" + link * 5_000 + " }}")


@pytest.mark.parametrize(
    "link", ["+a", "-1", "*1", "^1", " and 1", " || 1", " == 1", " < 1", "|upper", ".b", "(1)"]
)
def test_long_flat_chains_below_the_limit_need_no_deep_stack(link: str) -> None:
    assert isinstance(template.compile("{{ a" + link * 990 + " }}").render({}), str)


def test_thousands_of_branches_need_no_deep_stack() -> None:
    source = "{% if 0 %}" + "{% elif 0 %}x" * 4_000 + "{% else %}y{% endif %}"
    assert template.compile(source).render({}) == "y"


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in l %}{% for y in l %}{% for z in l %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro m() %}{% for x in l %}{% for y in l %}{% endfor %}{% endfor %}{% endmacro %}"
        + "{{ m() }}" * 50,
        "{% for x in l %}{{ template('{{ 1 }}', m) }}"
        + "{{ template('{{ 1 }}', m) }}" * 20
        + "{% endfor %}",
        "{% for x in l %}{% if big in big %}{% endif %}{{ big|upper|length }}{% endfor %}",
        "{% for x in l %}{% filter length %}{{ mid }}{% endfilter %}{% endfor %}" * 5,
        "{% for x in l %}{{ mid|title|length }}{% endfor %}",
        "{% for x in l %}{{ big|match:'y' }}{% endfor %}",
        "{% for x in l %}{{ Event|stringformat:layout|length }}{% endfor %}",
        "{% for x in l %}{% if 5.5 in l %}{% endif %}{% endfor %}" * 5,
        "{% for x in '" + "x" * 100 + "' %}" + "{% if 0 %}{% endif %}" * 300 + "{% endfor %}",
        "{% for x in l %}{{ mid|safe|length }}{% endfor %}" * 5,
    ],
)
def test_work_has_a_budget(source: str) -> None:
    context = {
        "l": list(range(200)),
        "m": {},
        "big": "é" * 100_000,
        "mid": "x " * 800,
        "layout": "%% " * 600,
    }
    reach("steps", source, context)


def test_text_that_is_captured_is_charged_to_the_budget() -> None:
    source = "{% for x in l %}{% ifchanged %}{{ t }}{{ t }}{{ t }}{% endifchanged %}{% endfor %}"
    reach("steps", source, {"l": list(range(200)), "t": "x" * 800}, replace(SMALL, steps=5_000))


def test_long_input_is_charged_to_the_budget_wherever_it_goes() -> None:
    source = "{{ big|upper|length }}" * 1_000
    reach("steps", source, {"big": "x" * 1_500}, replace(SMALL, value_length=10_000))


def test_literal_text_counts_as_output() -> None:
    assert reach("output_length", "a" * 3_000 + "\n{{ 1 }}" + "b" * 3_000).line == 2
    assert template.compile("a" * 5_000).render({}, template.Runtime(limits=SMALL)) == "a" * 5_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in l %}" + "x" * 100 + "{% endfor %}",
        "{% for x in l %}{{ big }}{% endfor %}",
        "{{ big }}{{ big }}{{ big }}{{ big }}",
        "{{ huge }}",
        "{% lorem 1000000 %}",
        "{% macro m() %}{{ big }}{{ big }}{{ big }}{{ big }}{% endmacro %}{{ m() }}",
        "{% filter upper %}{{ big }}{{ big }}{{ big }}{{ big }}{% endfilter %}",
    ],
)
def test_output_has_a_longest_length(source: str) -> None:
    reach("output_length", source, {"l": list(range(200)), "big": "x" * 1_900, "huge": "x" * 5_001})


@pytest.mark.parametrize(
    "source",
    [
        "{% set s = 'xx' %}{% for x in l %}{% set s = s|add:s %}{% endfor %}",
        "{{ 'a'|center:2000000000 }}",
        "{{ 'a'|ljust:'1e15' }}",
        "{{ 'a'|rjust:900000 }}",
        "{{ 1.5|floatformat:100000 }}",
        "{{ 1.5|stringformat:'%.900000f' }}",
        "{{ 1|stringformat:'%900000d' }}",
        "{{ randomAlpha(2000000000) }}",
        "{{ half|join:half|length }}",
        "{{ half|linebreaksbr }}",
        "{{ half|urlencode }}",
        "{{ half|escapejs }}",
        "{{ half|addslashes|addslashes|addslashes }}",
        "{{ base64Encode(half|add:half|add:half) }}",
    ],
)
def test_a_value_has_a_longest_length(source: str) -> None:
    context = {"l": list(range(100)), "half": "\n'" * 480}
    reach(
        "value_length",
        source,
        context,
        replace(SMALL, steps=200_000, list_length=2_000),
        random=lambda: Random(1),
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ s|split:'x' }}",
        "{{ s|make_list }}",
        "{{ s|split }}",
        "{{ s|kvp }}",
        "{{ s|linenumbers }}",
    ],
)
def test_a_list_has_a_largest_size(source: str) -> None:
    reach("list_length", source, {"s": "x,\n" * 600})


@pytest.mark.parametrize(
    ("source", "context"),
    [
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}),
        (
            "{% macro m() %}{{ n() }}{% endmacro %}{% macro n() %}{{ m() }}{% endmacro %}{{ n() }}",
            {},
        ),
        ("{{ template(t, m) }}", {"t": "{{ template(t, m) }}", "m": {"t": "{{ template(t, m) }}"}}),
    ],
)
def test_calls_have_a_deepest_level(source: str, context: Any) -> None:
    if "template" in source:
        # A map that holds itself cannot come from JSON, so the depth is built.
        inner: dict[str, Any] = {"t": "x", "m": {}}
        for _ in range(30):
            inner = {"t": "{{ template(t, m) }}", "m": inner}
        context = inner
    reach("call_depth", source, context)


def test_a_macro_does_not_swallow_a_limit() -> None:
    reach("value_length", "{% macro m() %}{{ 'a'|center:99999999 }}{% endmacro %}{{ m() }}")


def test_a_regular_expression_has_a_longest_length() -> None:
    reach("regexp_length", "{{ 'a'|match:'" + "a" * 1_001 + "' }}")
    reach("regexp_length", "{{ 'a'|match:r }}", {"r": "a" * 1_001})


def test_a_regular_expression_has_a_largest_size() -> None:
    reach("regexp_memory", "{{ 'a'|match:'(\\\\pL{100}){9}' }}")


def test_the_memory_of_a_regular_expression_can_be_set() -> None:
    source = "{{ 'a'|match:'(\\\\pL{3})' }}"
    assert template.compile(source).render({}) == "False"
    reach("regexp_memory", source, limits=replace(SMALL, regexp_memory=20_000))


# One that does would run for longer than a test may.
def test_regular_expressions_do_not_backtrack() -> None:
    context = {"s": "a" * 20_000 + "!"}
    assert (
        template.compile("{{ s|match:'^(a+)+$' }}{{ s|match:'(a|aa)+$' }}").render(context)
        == "FalseFalse"
    )


def test_the_steps_for_brackets_without_end_grow_with_their_number() -> None:
    source = "{{ s|striptags|length }}{{ s|truncatechars_html:9|length }}"
    source += "{% filter length %}{% spaceless %}{{ s }}{% endspaceless %}{% endfilter %}"
    compiled = template.compile(source)
    short, long = (steps_of(lambda n=n: compiled.render({"s": "<" * n})) for n in (5_000, 10_000))
    assert long <= 2.5 * short
    # Work inside of C is not counted: here it would run for longer than a test may.
    compiled.render({"s": "<" * 200_000})


def ticking(step: float) -> Callable[[], float]:
    """Return a clock that goes on by a step whenever it is read."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += step
        return now

    return clock


def test_rendering_has_a_longest_time() -> None:
    source = "{% for x in l %}{% for y in l %}{% endfor %}{% endfor %}"
    limits = template.Limits(seconds=0.5)
    context = {"l": list(range(300))}
    reach("seconds", source, context, limits, clock=ticking(0.1))
    template.compile(source).render(context, template.Runtime(limits=limits, clock=ticking(0.001)))


def test_short_templates_do_not_look_at_the_clock() -> None:
    def clock() -> float:
        raise AssertionError("the clock was read")

    assert template.compile("{{ 1|add:2 }}").render({}, template.Runtime(clock=clock)) == "3"


def test_values_nested_too_deeply_are_a_limit() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(TemplateLimitError, match="nested too deeply"):
        template.compile("{{ d|stringformat:'%v' }}").render({"d": deep})
    with pytest.raises(TemplateLimitError, match="nested too deeply"):
        template.compile_value(deep)
    with pytest.raises(TemplateLimitError):
        template.compile("{{ unmarshalJson(d) }}").render({"d": '{"a":' + "[" * 100_000})


def test_every_limit_has_a_test_and_a_description() -> None:
    this = Path(__file__).read_text("utf-8")
    names = [field.name for field in fields(template.Limits)]
    assert [name for name in names if f'"{name}"' not in this] == []


@pytest.mark.parametrize("filter_name", ["match", "extractMatch"])
def test_a_search_that_could_take_long_is_refused_before_it_begins(filter_name: str) -> None:
    reach(
        "steps",
        "{{ s|" + filter_name + ":'^[ab]*(a|b)[ab]{200}$' }}",
        {"s": "ab" * 1_000_000},
        template.DEFAULT_LIMITS,
    )


@pytest.mark.parametrize(
    "pattern", ["deploy (\\\\w+)", "(?i)DEPLOY (\\\\p{L}+)", "\\\\d{1,3}:\\\\d{2}$"]
)
def test_what_people_search_for_is_found_in_long_texts(pattern: str) -> None:
    context = {"s": "x" * 400_000 + " deploy it 12:30"}
    assert template.compile("{{ s|match:'" + pattern + "' }}").render(context) == "True"


def test_replacing_in_a_long_text_looks_at_the_clock() -> None:
    reach(
        "seconds",
        "{{ s|removetags:'a' }}",
        {"s": "<a>" * 50_000},
        template.Limits(seconds=0.5),
        clock=ticking(0.1),
    )


def test_a_budget_is_shared_by_the_renderings_that_have_it() -> None:
    compiled = template.compile("{% for x in l %}{{ x }}{% endfor %}")
    runtime = template.Runtime(budget=template.Budget("these templates", steps=10_000))
    context = {"l": ["x"] * 1_500}
    compiled.render(context, runtime)
    with pytest.raises(
        TemplateLimitError, match="these templates take more than 10000 steps together"
    ):
        compiled.render(context, runtime)
    assert template.compile("cheap").render({}, runtime) == "cheap"


@pytest.mark.parametrize("source", ["{{ s|ljust:100 }}", "{{ s }}"])
def test_a_budget_bounds_what_is_printed_together(source: str) -> None:
    runtime = template.Runtime(budget=template.Budget("these templates", length=250))
    compiled, context = template.compile(source), {"s": "x" * 100}
    compiled.render(context, runtime)
    compiled.render(context, runtime)
    with pytest.raises(
        TemplateLimitError, match="these templates make more than 250 characters together"
    ):
        compiled.render(context, runtime)
    assert compiled.values(context, runtime) == {"s": "null"}


def test_after_the_deadline_of_a_budget_only_what_is_cheap_is_rendered() -> None:
    runtime = template.Runtime(
        budget=template.Budget("these templates", deadline=10.0), clock=lambda: 11.0
    )
    assert template.compile("{{ 1|add:2 }}").render({}, runtime) == "3"
    with pytest.raises(TemplateLimitError, match="these templates take too long together"):
        template.compile("{% for x in l %}{% endfor %}").render({"l": list(range(5_000))}, runtime)
