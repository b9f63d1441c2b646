"""No template, however it is written, costs more than its limits."""

from dataclasses import replace

import pytest

from flyteops.errors import TemplateLimitError, TemplateTimeError
from flyteops.template import DEFAULT_LIMITS, Budget, Limits, Runtime
from flyteops.template.typed import compile_typed
from tests.typed import failure, render

SMALL = Limits(steps=20_000, output_length=5_000, value_length=2_000, list_length=500)


def reach(limit, source, scope=None, limits=SMALL):
    error = failure(source, scope, limits)
    assert isinstance(error, TemplateLimitError)
    assert f"(limit {limit})" in error.message
    return error


def test_a_source_has_a_maximum_length():
    limits = replace(SMALL, source_length=100)
    assert reach("source_length", "x" * 101, limits=limits).column == 101
    assert render("x" * 100, limits=limits) == "x" * 100


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
        "{{ " + "[" * 100 + "]" * 100 + " }}",
        "{{ " + "{'a':" * 100 + "1" + "}" * 100 + " }}",
        "{{ " + "a[" * 100 + "1" + "]" * 100 + " }}",
        "{{ " + "range(" * 100 + ")" * 100 + " }}",
        "{{ " + "x|default(" * 100 + ")" * 100 + " }}",
        "{{ " + "not " * 100 + "1 }}",
        "{{ " + "- " * 100 + "x }}",
        "{{ " + "1 if 2 else " * 100 + "3 }}",
        "{% if 1 %}" * 100 + "{% endif %}" * 100,
        "{% for x in y %}" * 100 + "{% endfor %}" * 100,
    ],
)
def test_nesting_has_a_deepest_level(source):
    reach("parse_depth", source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "1 + " * 1_001 + "1 }}",
        "{{ " + "1 ~ " * 1_001 + "1 }}",
        "{{ " + "1 < " * 1_001 + "1 }}",
        "{{ " + "1 and " * 1_001 + "1 }}",
        "{{ x" + ".y" * 1_001 + " }}",
        "{{ x" + "[0]" * 1_001 + " }}",
        "{{ x" + "|upper" * 1_001 + " }}",
        "{{ [" + "1, " * 1_001 + "] }}",
    ],
)
def test_an_expression_has_a_maximum_number_of_parts(source):
    reach("operators", source)


@pytest.mark.parametrize("operator", ["+", "*", "and", "or", "<=", "~"])
def test_a_long_chain_of_operators_needs_no_deep_stack(operator):
    source = "{{ " + f"1 {operator} " * 900 + "1 }}"
    compile_typed(source).render({})


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        ("{{ range(1000000000000) }}", "list_length"),
        ("{{ range(501) }}", "list_length"),
        ("{{ range(300) + range(300) }}", "list_length"),
        ("{{ randomAlpha(1000000000) }}", "value_length"),
        ("{{ s + s }}", "value_length"),
        ("{{ s ~ s }}", "value_length"),
        ("{{ [s, s] ~ '' }}", "value_length"),
        ("{{ s }}{{ s }}{{ s }}{{ s }}", "output_length"),
        ("{{ [s, s, s, s] }}", "output_length"),
        ("{{ long }}", "output_length"),
        ("{{ many ~ '' }}", "output_length"),
        ("{% for a in range(100) %}{{ s }}{% endfor %}", "output_length"),
    ],
)
def test_texts_and_lists_have_a_maximum_length(source, limit):
    reach(limit, source, {"s": "x" * 1_500, "long": "x" * 5_001, "many": ["x" * 1_500] * 9})


def test_values_up_to_the_limits_are_made():
    assert len(render("{{ range(500) }}", limits=SMALL)) == 500
    assert len(render("{{ s + s }}", limits=SMALL, s="x" * 1_000)) == 2_000
    assert len(render("{{ s }}", limits=SMALL, s="x" * 5_000)) == 5_000


NESTED = "{% for a in range(100) %}{% for b in range(100) %}{% for c in range(100) %}"


@pytest.mark.parametrize(
    "source",
    [
        NESTED + "{% endfor %}" * 3,
        NESTED + "{% if a == b %}{% endif %}" + "{% endfor %}" * 3,
        "{% for a in range(500) %}{% set r = range(400) %}{% endfor %}",
        "{% for a in range(100) %}{% set x = 499 in l %}{% endfor %}",
        "{% for a in range(100) %}{% set x = l == l %}{% endfor %}",
        "{% for a in range(500) %}{% set x = short ~ '' %}{% endfor %}",
    ],
)
def test_loops_have_a_maximum_number_of_steps(source):
    reach("steps", source, {"l": list(range(500)), "short": [1] * 200})


@pytest.mark.parametrize(
    "use", ["{{ l }}", "{{ l ~ '' }}", "{{ l }}.", "{{ l == m }}", "{{ m in [l] }}"]
)
def test_lists_that_share_their_parts_do_not_explode(use):
    doubling = "{% set l = [l, l] %}{% set m = [m, m] %}" * 60
    source = "{% set l = [1] %}{% set m = [1] %}" + doubling + use
    assert isinstance(failure(source, limits=SMALL), TemplateLimitError)


def test_texts_that_double_do_not_explode():
    reach("value_length", "{% set s = 'xx' %}" + "{% set s = s ~ s %}" * 100 + "{{ s }}")


def ticking(step):
    now = 0.0

    def clock():
        nonlocal now
        now += step
        return now

    return clock


LOOP = "{% for a in range(300) %}{% for b in range(100) %}{% endfor %}{% endfor %}"


def test_rendering_has_a_maximum_time():
    compiled = compile_typed(LOOP)
    limits = replace(DEFAULT_LIMITS, seconds=0.5)
    with pytest.raises(TemplateLimitError, match=r"\(limit seconds\)") as raised:
        compiled.render({}, Runtime(limits=limits, clock=ticking(0.1)))
    assert raised.value.line == 1
    compiled.render({}, Runtime(limits=limits, clock=ticking(0.001)))


def test_short_templates_do_not_read_the_clock():
    def clock():
        raise AssertionError("the clock was read")

    assert compile_typed("{{ 1 + 2 }}").render({}, Runtime(clock=clock)) == 3


def test_after_the_deadline_of_a_budget_only_cheap_templates_are_rendered():
    runtime = Runtime(budget=Budget("these templates", deadline=10.0), clock=lambda: 11.0)
    assert compile_typed("{{ 1 + 2 }}").render({}, runtime) == 3
    with pytest.raises(TemplateTimeError, match="these templates take too long together"):
        compile_typed(LOOP).render({}, runtime)


def test_a_budget_is_shared_by_the_renderings_that_have_it():
    compiled = compile_typed("{% for x in range(1000) %}{{ x }}{% endfor %}")
    runtime = Runtime(budget=Budget("these templates", steps=15_000))
    for _ in range(2):
        compiled.render({}, runtime)
    with pytest.raises(TemplateLimitError, match="these templates take more than 15000 steps"):
        compiled.render({}, runtime)


@pytest.mark.parametrize("source", ["{{ s }}", "{{ [s] }}", "{{ s }}."])
def test_a_budget_bounds_the_results_together(source):
    runtime = Runtime(budget=Budget("these templates", length=250))
    compiled = compile_typed(source)
    compiled.render({"s": "x" * 100}, runtime)
    compiled.render({"s": "x" * 100}, runtime)
    with pytest.raises(TemplateLimitError, match="more than 250 characters together"):
        compiled.render({"s": "x" * 100}, runtime)


def test_values_nested_too_deeply_are_a_limit():
    deep = "x"
    for _ in range(5_000):
        deep = [deep]
    for source in ("{{ d }}", "{{ d ~ '' }}", "{{ d == [[d]] }}"):
        assert "nested too deeply" in failure(source, {"d": deep}).message
