"""Text, tags, comments and whitespace print as the language promises."""

import pytest

from flyteops.errors import TemplateSyntaxError
from flyteops.template.typed.document import REFUSED
from flyteops.template.typed.function import REPLACED
from tests.typed import failure, render


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("", ""),
        ("plain } }} %} text", "plain } }} %} text"),
        ("a {{ 1 }} b {{ 2 }}", "a 1 b 2"),
        ("{{ 1 }}{{ 2 }}", "12"),
        (" {{ 1 }}", " 1"),
        ("{{ 1 }}\n", "1\n"),
        ("{{\n  [1,\n   2]\n}}.", "[1,2]."),
        ("{%\n if true\n%}yes{%\nendif\n%}", "yes"),
        ("a {{- 1 -}} b", "a1b"),
        ("a\n{%- if true -%}\n b \n{%- endif -%}\n c", "abc"),
        ("{{ 1 -}} {# c #} {{- 2 }}", "12"),
        ("{# a\nb {{ #}x", "x"),
        ("{{ 1 -}} a {# c #} b", "1a  b"),
        ("{% comment %}{{ ' {% nope {% endcomment %}x", "x"),
        ("a {%- comment -%} b {%- endcomment -%} c", "ac"),
        ("{% verbatim %}{{ x }}{% if %}{% endverbatim %}", "{{ x }}{% if %}"),
        ("a {%- verbatim -%} {{ x }} {%- endverbatim -%} b", "a{{ x }}b"),
    ],
)
def test_text_and_expressions_are_printed(source, wanted):
    assert render(source) == wanted


IF = "{% if a %}A{% elif b == 1 %}B{% elif c is defined %}C{% else %}D{% endif %}"


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        ({"a": 1, "b": 1}, "A"),
        ({"a": None, "b": 1}, "B"),
        ({"a": [], "b": 2, "c": None}, "C"),
        ({"a": 0, "b": 0}, "D"),
    ],
)
def test_if_takes_the_first_true_branch(scope, wanted):
    assert render(IF, **scope) == wanted


def test_if_without_else_may_print_nothing():
    assert render("{% if x %}a{% endif %}", x=False) == ""


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{% for x in l %}{{ x }},{% endfor %}", "3,1,2,"),
        ("{% for x in l reversed %}{{ x }},{% endfor %}", "2,1,3,"),
        ("{% for k in m %}{{ k }},{% endfor %}", "a,b,"),
        ("{% for k, v in m %}{{ k }}={{ v }},{% endfor %}", "a=1,b=2,"),
        ("{% for k, v in m reversed %}{{ k }}={{ v }},{% endfor %}", "b=2,a=1,"),
        ("{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }},{% endfor %}", "3,7,"),
        ("{% for x in nul %}x{% else %}none{% endfor %}", "none"),
        ("{% for x in [] %}x{% empty %}none{% endfor %}", "none"),
        ("{% for x in l %}x{% else %}none{% endfor %}", "xxx"),
        ("{% for x in l if l else [] %}{{ x }}{% endfor %}", "312"),
        ("{% for x in range(2) %}{{ loop.index }}{{ loop.first }} {% endfor %}", "1true 2false "),
        (
            "{% for x in l %}{{ forloop.Counter0 }}{% if not forloop.Last %},{% endif %}{% endfor %}",
            "0,1,2",
        ),
        ("{% for x in l %}{{ loop.revindex }}{{ forloop.Revcounter0 }}{% endfor %}", "322110"),
        ("{% for x in l %}{{ loop.length }}{% endfor %}", "333"),
        (
            "{% for x in [1, 2] %}{% for y in [1, 2] %}{{ loop.parent.index }}{{ forloop.Parentloop.Counter }}"
            "{{ loop.index }} {% endfor %}{% endfor %}",
            "111 112 221 222 ",
        ),
        ("{% for x in [1, 2] %}{% for y in [1] %}{% endfor %}{{ loop.index }}{% endfor %}", "12"),
    ],
)
def test_for_runs_over_lists_and_maps(source, wanted):
    assert render(source, l=[3, 1, 2], m={"b": 2, "a": 1}, nul=None) == wanted


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{% set a = 1 %}{{ a }}", "1"),
        ("{% set a = 1 %}{% set a = a + 1 %}{{ a }}", "2"),
        ("{% set x = x + 1 %}{{ x }}", "11"),
        ("{% if true %}{% set a = 1 %}{% endif %}{{ a }}", "1"),
        ("{% if false %}{% set a = 1 %}{% endif %}[{{ a }}]", "[]"),
        ("{% set n = 0 %}{% for i in range(4) %}{% set n = n + i %}{% endfor %}{{ n }}", "6"),
        ("{% for i in [1, 2] %}{% set a = i %}{% endfor %}[{{ a }}]", "[]"),
        ("{% set i = 7 %}{% for i in [1] %}{{ i }}{% endfor %}{{ i }}", "17"),
        ("{% for x in [1] %}{{ x }}{% endfor %}{{ x }}", "110"),
        ("{% for i in [1, 2] %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "11 13 10"),
        ("{% set range = 5 %}{{ range }}{{ range(1) }}", "5[0]"),
    ],
)
def test_set_binds_a_name(source, wanted):
    assert render(source, x=10) == wanted


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("{% if 1 %}\nx", (1, 4), "the tag 'if' is not closed; end it with endif"),
        ("{% for x in y %}", (1, 4), "the tag 'for' is not closed; end it with endfor"),
        ("a\n {% endif %}", (2, 5), "the tag 'endif' has no if before it"),
        ("{% if 1 %}{% endfor %}", (1, 14), "the tag 'endfor' has no for before it"),
        ("{% else %}", (1, 4), "the tag 'else' has no if or for before it"),
        ("{% if %}{% endif %}", (1, 7), "a value is expected, not '%}'"),
        ("{% if 1 %}{% else 2 %}{% endif %}", (1, 19), "an operator or '%}' is expected, not '2'"),
        ("{% for 1 in x %}{% endfor %}", (1, 8), "a name is expected, not '1'"),
        ("{% for x of y %}{% endfor %}", (1, 10), "'in' is missing: write 'for item in list'"),
        ("{% for a, b, c in y %}{% endfor %}", (1, 12), "'in' is missing"),
        ("{% for x in y sorted %}{% endfor %}", (1, 22), "use the filter sort"),
        ("{% set x %}", (1, 10), "'=' is expected after the name"),
        ("{% set x.y = 1 %}", (1, 9), "'=' is expected after the name"),
        ("{% set x == 1 %}", (1, 10), "'=' is expected after the name"),
        ("{% set null = 1 %}", (1, 8), "'null' has a meaning of its own"),
        ("{% for loop in x %}{% endfor %}", (1, 8), "'loop' has a meaning of its own"),
        ("{% iff x %}", (1, 4), "the tag 'iff' is unknown; did you mean 'if'?"),
        ("{% verbatin %}", (1, 4), "the tag 'verbatin' is unknown; did you mean 'verbatim'?"),
        ("{% 1 %}", (1, 4), "the name of a tag comes after '{%', not '1'"),
        ("x {{ 1", (1, 3), "'{{' is not closed; end it with '}}'"),
        ("x\n{% if 1", (2, 1), "'{%' is not closed; end it with '%}'"),
        ("{{ 1 %}", (1, 6), "'{{' must be closed with '}}'"),
        ("{# x", (1, 1), "the comment is not closed; end it with '#}'"),
        ("{% verbatim %}x", (1, 1), "'verbatim' is not closed"),
        ("{% comment %}x", (1, 1), "'comment' is not closed"),
        ("{% for x in 'text' %}{% endfor %}", (1, 4), "'for' needs a list or a map, not a text"),
        ("{% for x in 5 %}{% endfor %}", (1, 4), "'for' needs a list or a map, not a number"),
        (
            "{% for a, b in [1] %}{% endfor %}",
            (1, 4),
            "'for' with two names needs a map, or a list of pairs",
        ),
        ("{{ loop.index }}", (1, 4), "the name 'loop' is unknown here"),
    ],
)
def test_a_wrong_tag_is_refused_with_its_place(source, place, message):
    error = failure(source)
    assert message in error.message
    assert (error.line, error.column) == place


@pytest.mark.parametrize("name", REFUSED)
def test_a_tag_of_edition_1_is_refused_with_its_replacement(name):
    error = failure("{% " + name + " x %}")
    assert isinstance(error, TemplateSyntaxError)
    assert error.message == f"edition 2 has no tag '{name}'; {REFUSED[name]}"


@pytest.mark.parametrize("name", REPLACED)
def test_a_function_of_edition_1_is_refused_with_its_replacement(name):
    assert (
        failure("{{ " + name + "(x) }}").message
        == f"there is no function '{name}'; {REPLACED[name]}"
    )
