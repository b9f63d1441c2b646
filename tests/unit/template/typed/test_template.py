"""A compiled template knows its value's kind, and what it reads."""

from collections.abc import Iterator, Mapping

import pytest

from flyteops.errors import TemplateError
from flyteops.template import Runtime
from flyteops.template.typed import compile_typed, to_json
from flyteops.template.typed.node import Comparison, Constant, PathReading, walk
from tests.typed import BIG, NOW, failure, render, runtime


@pytest.mark.parametrize(
    "given", [None, True, 3, 2.5, BIG, "text", "", [1, None], {"a": {}}, [], NOW]
)
def test_exactly_one_expression_hands_on_its_value(given):
    result = render("{{ x }}", x=given)
    assert result == given
    assert type(result) is type(given)


@pytest.mark.parametrize(
    ("source", "is_expression", "constant"),
    [
        ("{{ x }}", True, False),
        ("{{- x -}}", True, False),
        ("{# note #}{{ x }}", True, False),
        ("{{ 'a' }}", True, False),
        (" {{ x }}", False, False),
        ("{{ x }}\n", False, False),
        ("{{ x }}{{ x }}", False, False),
        ("{% set y = 1 %}{{ y }}", False, False),
        ("{% if x %}{% endif %}", False, False),
        ("text", False, True),
        ("", False, True),
        ("{# note #}text", False, True),
        ("{% verbatim %}{{ x }}{% endverbatim %}", False, True),
    ],
)
def test_a_template_knows_whether_it_is_an_expression_or_constant(source, is_expression, constant):
    compiled = compile_typed(source)
    assert compiled.is_expression is is_expression
    assert compiled.constant is constant
    assert compiled.source == source


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("{{ Event.Payload.id }}", [("Event", "Payload", "id")]),
        ('{{ Steps["roll-back"].Payload }}', [("Steps", "roll-back", "Payload")]),
        ("{{ a.l[0].x }}{{ a.l.0 }}", [("a", "l", 0, "x"), ("a", "l", 0)]),
        ("{{ a[b.c].d }}", [("b", "c"), ("a",)]),
        ("{{ a.x[b] + a.x[b] }}", [("b",), ("a", "x")]),
        ("{{ (a.b).c }}", [("a", "b"), ("a", "b", "c")]),
        ("{{ a.b is defined }}", [("a", "b")]),
        ("{{ x|default(y.z)|upper }}", [("x",), ("y", "z")]),
        ("{{ datastore(a.key).lead }}", [("a", "key")]),
        ("{{ 1 if a else [b, {'k': c.d}] }}", [("a",), ("b",), ("c", "d")]),
        ("{{ now() }}{{ 'a' }}", []),
        ("{% for x in a.l %}{{ x.y }}{{ loop.index }}{{ b }}{% endfor %}", [("a", "l"), ("b",)]),
        ("{% for x in a %}{% endfor %}{{ x.y }}", [("a",), ("x", "y")]),
        ("{% for x in a %}{% else %}{{ x }}{% endfor %}", [("a",), ("x",)]),
        ("{% set x = a.b %}{{ x.y }}", [("a", "b")]),
        ("{% set x = x.y %}{{ x.z }}", [("x", "y")]),
        ("{% if a %}{% set x = 1 %}{% endif %}{{ x.y }}", [("a",), ("x", "y")]),
        ("{% if a %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}", [("a",)]),
        (
            "{% if a %}{% set x = 1 %}{% elif b %}{% else %}{% set x = 2 %}{% endif %}{{ x }}",
            [("a",), ("b",), ("x",)],
        ),
        ("{% for i in a %}{% set x = 1 %}{% endfor %}{{ x }}", [("a",), ("x",)]),
        ("{{ loop.index }}", [("loop", "index")]),
    ],
)
def test_the_paths_are_those_that_may_be_read_from_outside(source, paths):
    assert set(compile_typed(source).paths) == set(paths)


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("text", set()),
        ("{{ datastore('a').x }}{{ datastore('b') }}{{ datastore('a') }}", {"a", "b"}),
        ("{{ datastore('a') }}{{ datastore(x) }}", None),
        ("{% if false %}{{ datastore('a' ~ 'b') }}{% endif %}", None),
    ],
)
def test_the_datastore_keys_are_known_unless_one_is_computed(source, keys):
    assert compile_typed(source).datastore_keys == keys


def test_the_functions_are_known():
    assert compile_typed("{{ now() }}{{ datastore('a') }}").functions == {"now", "datastore"}


def test_the_tree_can_be_analysed():
    tree = compile_typed("{% if Event.Name == 'x' %}{{ a.b }}{% endif %}").tree
    nodes = list(walk(tree))
    assert [node.static for node in nodes if isinstance(node, PathReading)] == [
        ("Event", "Name"),
        ("a", "b"),
    ]
    assert [node.value for node in nodes if isinstance(node, Constant)] == ["x"]
    assert [node.rest[0].operator for node in nodes if isinstance(node, Comparison)] == ["=="]
    assert hash(tree) == hash(compile_typed("{% if Event.Name == 'x' %}{{ a.b }}{% endif %}").tree)


# --- secrets


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ secret('key') }}", "<plain:key>"),
        ("a {{ secret('key')|shellquote }}", "a <shellquote:key>"),
        ("{{ secret('key')|urlencode }}!", "<urlencode:key>!"),
    ],
)
def test_a_secret_is_printed_as_its_placeholder(source, wanted):
    assert render(source) == wanted
    assert compile_typed(source).secrets == ("key",)


@pytest.mark.parametrize(
    "source",
    [
        "{{ secret('a') ~ 'b' }}",
        "{{ secret('a')|upper }}",
        "{{ secret('a')|shellquote|upper }}",
        "{{ secret(x) }}",
        "{{ secret('a', 1) }}",
        "{{ secret( }}",
        "{{ [secret('a')] }}",
        "{% set x = secret('a') %}",
        "{% if secret('a') %}{% endif %}",
    ],
)
def test_a_secret_cannot_be_used_in_any_other_way(source):
    assert "a secret can only be printed" in failure(source).message


def test_the_faults_of_reading_a_secret_have_a_place():
    def refuse(name: str, form: str) -> str:
        raise KeyError(name)

    compiled = compile_typed("\n{{ secret('key') }}")
    for given, message in (
        (Runtime(secret=refuse), "no secret named 'key'"),
        (Runtime(), "can only be used in the input"),
    ):
        with pytest.raises(TemplateError, match=message) as raised:
            compiled.render({}, given)
        assert (raised.value.line, raised.value.column) == (2, 4)


# --- values from outside


class Lazy(Mapping[str, object]):
    """A map that remembers which of its items were read."""

    def __init__(self, items: dict[str, object]) -> None:
        self._items = items
        self.read: list[str] = []

    def __getitem__(self, key: str) -> object:
        value = self._items[key]
        self.read.append(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def test_a_map_that_loads_its_items_is_asked_only_for_those_that_are_read():
    steps = Lazy({"a": Lazy({"Payload": {"x": 1}, "State": "FAILED"}), "b": Lazy({})})
    assert render("{{ Steps.a.State == 'FAILED' and Steps.c == null }}", Steps=steps) is True
    assert steps.read == ["a"]
    assert steps["a"].read == ["State"]


def test_a_map_that_loads_its_items_is_a_map():
    scope = {"m": Lazy({"b": 1, "a": [Lazy({})]})}
    assert render("{{ m }}|", **scope) == '{"a":[{}],"b":1}|'
    assert render("{{ m == {'a': [{}], 'b': 1} }}", **scope) is True
    assert render("{% for k, v in m %}{{ k }}{% endfor %}", **scope) == "ab"
    assert to_json(render("{{ m }}", **scope)) == {"a": [{}], "b": 1}


def test_the_scope_may_load_its_names():
    assert compile_typed("{{ a }}").render(Lazy({"a": 5, "b": 6})) == 5


def test_values_of_other_types_are_refused():
    assert (
        "a value of the type object cannot be used here"
        in failure("{{ x ~ 1 }}", {"x": object()}).message
    )
    assert "type bytes" in failure("{{ x }}", {"x": b""}).message
    assert "too large" in failure("{{ x }}", {"x": float("nan")}).message


def test_without_inputs_the_functions_that_need_them_are_refused():
    for source in ("now()", "uuid()", "datastore('a')", "randomInt(3)"):
        with pytest.raises(TemplateError, match="line 1, column 4"):
            compile_typed("{{ " + source + " }}").render({}, Runtime())


def test_text_that_is_not_valid_unicode_is_replaced():
    assert render("{{ x }}", x="a\ud800") == "a\ufffd"
    assert render("{{ x }}|", x=["\ud800"]) == '["\ufffd"]|'
    assert to_json(["\ud800", {"\udfff": NOW}]) == ["\ufffd", {"\ufffd": "2026-03-01T12:30:00Z"}]


def test_a_template_is_rendered_again_with_the_same_result():
    compiled = compile_typed(
        "{% set n = n + 1 %}{% set l = l %}{% for x in l %}{% set l = l + [x] %}{% endfor %}{{ n }}{{ l }}"
    )
    scope = {"n": 1, "l": [1]}
    assert [compiled.render(scope, runtime()) for _ in range(2)] == ["2[1,1]"] * 2
    assert scope == {"n": 1, "l": [1]}
