"""A JSON value is rendered text by text, and texts may become values of any kind."""

import pytest

from flyteops.errors import TemplateError, TemplateLimitError
from flyteops.template.typed import compile_typed_value
from tests.typed import BIG, NOW, runtime


def rendered(value, **scope):
    return compile_typed_value(value).render(scope, runtime())


def test_texts_at_any_depth_are_rendered():
    value = {"a": "{{ x }}", "b": [{"c": "n: {{ x[0] }}"}, 5, True], "{{ x }}": "k"}
    assert rendered(value, x=[1, None]) == {
        "a": [1, None],
        "b": [{"c": "n: 1"}, 5, True],
        "{{ x }}": "k",
    }


def test_null_stays_null_everywhere():
    value = {"a": None, "b": [None, "{{ nul }}", "{{ nul }}."], "c": "{{ nul.x }}"}
    assert rendered(value, nul=None) == {"a": None, "b": [None, None, "."], "c": None}
    assert rendered(None) is None


def test_times_become_text_and_integers_stay_exact():
    value = {"at": "{{ now() }}", "l": ["{{ [now()] }}"], "big": "{{ big + 0 }}", "f": "{{ 6.0 }}"}
    result = rendered(value, big=BIG)
    assert result == {
        "at": "2026-03-01T12:30:00Z",
        "l": [["2026-03-01T12:30:00Z"]],
        "big": BIG,
        "f": 6,
    }
    assert rendered("{{ at }}", at=NOW.replace(microsecond=250_000)) == "2026-03-01T12:30:00.25Z"


@pytest.mark.parametrize("value", [None, 5, "text", ["a", None, {"b": []}], {"a": {"b": "c"}}])
def test_a_value_without_templates_is_constant(value):
    compiled = compile_typed_value(value)
    assert compiled.constant
    assert compiled.render({}) == value
    assert list(compiled.texts()) == []


def test_a_constant_text_is_rendered_once():
    compiled = compile_typed_value(["{% verbatim %}{{ x }}{% endverbatim %}", "{# c #}a"])
    assert compiled.constant
    assert compiled.render({}) == ["{{ x }}", "a"]


def test_the_templates_are_listed_with_their_paths():
    compiled = compile_typed_value({"a": "{{ x }}", "b": ["t", {"c": "{{ y }}!"}], "d": "t"})
    assert [(path, template.source) for path, template in compiled.texts()] == [
        ("a", "{{ x }}"),
        ("b[1].c", "{{ y }}!"),
    ]
    assert not compiled.constant
    assert [path for path, _ in compile_typed_value("{{ x }}").texts()] == [""]


def test_all_faults_are_reported_with_their_paths():
    with pytest.raises(TemplateError) as raised:
        compile_typed_value({"a": ["ok", "\n{{ + }}"], "b": "{{ x|uper }}"})
    error = raised.value
    assert (error.path, error.line, error.column) == ("a[1]", 2, 4)
    assert [(each.path, each.line, each.column) for each in error.problems] == [
        ("a[1]", 2, 4),
        ("b", 1, 6),
    ]


def test_a_fault_of_rendering_has_its_path():
    with pytest.raises(TemplateError) as raised:
        rendered({"a": {"b": ["{{ 1 }}", "{{ x + 'a' }}"]}}, x=1)
    error = raised.value
    assert (error.path, error.line, error.column) == ("a.b[1]", 1, 6)
    assert [each.path for each in error.problems] == ["a.b[1]"]


def test_a_value_nested_too_deeply_is_a_limit():
    value = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(TemplateLimitError, match="nested too deeply"):
        compile_typed_value(value)
