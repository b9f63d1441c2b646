"""What other rooms do with templates: compile once, resolve values, explain what was read."""

from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest

from flyteops import template
from flyteops.errors import TemplateAbort, TemplateError, TemplateRenderError, TemplateSyntaxError

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(payload: Any) -> Any:
    return template.event_value(
        name="Said",
        payload=payload,
        pack_id="Chat.env.test",
        pack_name="Chat",
        pack_labels={"env": "test"},
        created_at=NOW,
        received_at=NOW,
    )


def variables(source: str) -> tuple[str, ...]:
    return template.compile(source).variables


def test_variables_are_the_distinct_paths_in_order() -> None:
    source = (
        "{{ Event.Payload.a }}{{ Context.b|add:Event.Name }}{% if Event.Payload.a == x.0.y %}{%"
        " endif %}"
    )
    assert variables(source) == ("Event.Payload.a", "Context.b", "Event.Name", "x.0.y")


def test_variables_leave_out_what_the_template_binds() -> None:
    source = (
        "{% set s = a %}{{ s }}{% for k, v in m %}{{ k }}{{ v.x }}{{ forloop.Counter }}{% endfor"
        " %}{% with w=b %}{{ w.y }}{% endwith %}{% macro f(p) %}{{ p }}{% endmacro %}{{ f(c) }}{%"
        " cycle 1 2 as n %}{{ n }}{% widthratio 1 2 3 as r %}{{ r }}{{ nil }}{{ True }}"
    )
    assert variables(source) == ("a", "m", "b", "c")


def test_variables_show_calls_of_the_datastore_and_no_others() -> None:
    source = (
        "{{ datastore( 'teams' ).lead }}{{ datastore(Event.Name) }}{{ randomInt(5) }}{{"
        " base64Encode(a) }}"
    )
    assert variables(source) == (
        "datastore('teams').lead",
        "Event.Name",
        "datastore(Event.Name)",
        "a",
    )


def test_values_show_what_was_read_as_json() -> None:
    source = (
        "{{ Event.Payload.n }}{{ Event.Payload.s }}{{ Event.Payload.l }}{{ Event.Payload.m }}{{"
        " nope.x }}{{ Event.Pack }}"
    )
    compiled = template.compile(source)
    payload = {"n": 3, "s": 'é"', "l": [1, 1.5, True, None], "m": {"k": "v"}}
    assert compiled.values({"Event": event(payload)}) == {
        "Event.Payload.n": "3",
        "Event.Payload.s": '"é\\""',
        "Event.Payload.l": "[1,1.5,true,null]",
        "Event.Payload.m": '{"k":"v"}',
        "nope.x": "null",
        "Event.Pack": '"<execution.Pack Value>"',
    }


def test_values_are_cut_and_never_raise() -> None:
    deep: Any = "x"
    for _ in range(3_000):
        deep = [deep]
    context = {
        "long": "x" * 1_000,
        "many": list(range(100_000)),
        "deep": deep,
        "s": "text",
        "odd": object(),
    }
    source = "{{ long }}{{ many }}{{ deep }}{{ s.x }}{{ datastore('k') }}{{ odd }}"
    values = template.compile(source).values(context)
    assert [len(values[name]) for name in ("long", "many", "deep")] == [200, 200, 200]
    assert [values[name] for name in ("s.x", "datastore('k')", "odd")] == ["null"] * 3


def test_a_value_template_is_compiled_once_and_resolved_often() -> None:
    compiled = template.compile_value(
        {"a": ["{{ x }}", {"b": "{{ x|upper }}!"}], "c": 5, "d": None, "{{ x }}": "e"}
    )
    assert compiled.resolve({"x": "v"}) == {"a": ["v", {"b": "V!"}], "c": 5, "{{ x }}": "e"}
    assert compiled.resolve({"x": "w"}) == {"a": ["w", {"b": "W!"}], "c": 5, "{{ x }}": "e"}


def test_a_part_without_templates_is_not_copied() -> None:
    value = {"a": [1, "text", {"b": True}], "c": "{{ x }}"}
    resolved = template.compile_value(value).resolve({})
    assert resolved == {"a": [1, "text", {"b": True}], "c": ""}
    assert resolved["a"] is value["a"]


def test_strings_yields_the_templates_with_their_paths() -> None:
    compiled = template.compile_value({"message": {"parts": ["text", "{{ a }}"]}, "to": "{{ b }}"})
    assert [(path, found.source) for path, found in compiled.strings()] == [
        ("message.parts[1]", "{{ a }}"),
        ("to", "{{ b }}"),
    ]
    assert [path for path, _ in template.compile_value("{{ a }}").strings()] == [""]


def test_faults_in_a_value_are_reported_all_at_once_with_their_paths() -> None:
    with pytest.raises(TemplateSyntaxError) as raised:
        template.compile_value({"message": {"parts": ["{{ }}", "ok", "\n{% x %}"]}, "to": "{{"})
    assert [(problem.path, problem.line, problem.column) for problem in raised.value.problems] == [
        ("message.parts[0]", 1, 4),
        ("message.parts[2]", 2, 4),
        ("to", 1, 3),
    ]
    assert vars(raised.value)["path"] == "message.parts[0]"
    assert (raised.value.line, raised.value.column) == (1, 4)


def test_an_error_of_rendering_carries_its_path() -> None:
    with pytest.raises(TemplateRenderError) as raised:
        template.resolve({"a": [{"b": "{{ x.y }}"}]}, {"x": "text"})
    assert raised.value.problems[0].path == vars(raised.value)["path"] == "a[0].b"
    with pytest.raises(TemplateAbort) as aborted:
        template.resolve({"a": [None]}, {})
    assert aborted.value.problems[0].path == "a[0]"


def test_integers_of_a_context_are_json_numbers() -> None:
    context = {"n": 3, "l": [3], "m": {"n": 3}, "Event": event({"n": 3})}
    source = (
        "{{ n }} {{ l.0 }} {{ l|first }} {{ m.n }} {{ m|key:'n' }} {{ Event.Payload.n }} {{ 3 in l"
        " }} {{ n == 3.0 }}"
    )
    assert template.compile(source).render(context) == "3.000000 " * 6 + "False True"
    assert template.from_json({"a": [1, True, None]}) == {"a": [1.0, True, None]}
    assert type(template.from_json(1)) is float


def test_integers_of_a_template_stay_integers() -> None:
    assert (
        template.compile("{% with a=3 %}{% set b = a %}{{ b }}{{ b == 3 }}{% endwith %}").render({})
        == "3True"
    )


def test_foreign_mappings_and_sequences_are_read_like_json() -> None:
    context = {"m": UserDict({"a": (1, 2)})}
    assert template.compile("{{ m.a.1 }}").render(context) == "2.000000"


def test_no_attribute_of_an_object_is_reachable() -> None:
    class Secret:
        password = "x"

    with pytest.raises(TemplateRenderError, match="type Secret cannot be used"):
        template.compile("{{ s.password }}").render({"s": Secret()})
    for path in ("__class__", "fields", "at", "keys", "items", "type_name", "call"):
        source = (
            f"{{{{ Event.{path} }}}}{{{{ Event.CreatedAt.{path} }}}}{{{{ m.{path} }}}}{{{{"
            f" randomInt.{path} }}}}"
        )
        with pytest.raises(TemplateRenderError, match="argument count"):
            template.compile(source).render({"Event": event({}), "m": {}})
        without_call = source.rpartition("{{")[0]
        assert template.compile(without_call).render({"Event": event({}), "m": {}}) == ""


def test_a_number_that_is_no_float_is_an_error_of_rendering() -> None:
    with pytest.raises(TemplateRenderError, match="too large"):
        template.compile("{{ n }}").render({"n": 10**400})


def test_what_is_impure_has_to_be_given() -> None:
    for source, word in (
        ("{% now '2006' %}", "current time"),
        ("{{ randomInt(5) }}", "random"),
        ("{{ 'ab'|random }}", "random"),
        ("{% lorem 1 w random %}", "random"),
        ("{{ datastore('k') }}", "datastore"),
    ):
        with pytest.raises(TemplateRenderError, match=word) as raised:
            template.compile(source).render({})
        assert raised.value.line == 1


def test_random_answers_follow_the_seed() -> None:
    source = (
        "{{ randomInt(1000000) }}{{ randomAlpha(20) }}{{ 'abcdef'|random }}{% lorem 3 w random %}"
    )
    compiled = template.compile(source)
    first, second, other = (
        compiled.render({}, template.Runtime(random=partial(Random, seed))) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_cycle_and_ifchanged_start_anew_with_every_rendering() -> None:
    compiled = template.compile("{% cycle 'a' 'b' %}{% ifchanged %}x{% endifchanged %}")
    assert [compiled.render({}) for _ in range(3)] == ["ax"] * 3


def test_threads_may_render_one_template() -> None:
    compiled = template.compile(
        "{% for x in l %}{% cycle 'a' 'b' %}{{ x|match:'^1' }}{% set y = x %}{{ y }}{% endfor %}"
    )
    context = {"l": [str(number) for number in range(50)]}
    expected = compiled.render(context)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: compiled.render(context), range(200))) == {expected}


def test_rendering_changes_nothing_it_is_given() -> None:
    payload = {"l": [3, 1, 2], "m": {"a": 1}}
    context = {"Event": event(payload), "Context": {"a": "b"}}
    source = (
        "{% for x in Event.Payload.l reversed sorted %}{% endfor %}{% set Event = 1 %}{% set"
        " Context = 2 %}{{ template('', m) }}"
    )
    template.compile(source).render(context | {"m": {}})
    assert payload == {"l": [3, 1, 2], "m": {"a": 1}}
    assert set(context) == {"Event", "Context"}
    assert context["Context"] == {"a": "b"}


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert (
        template.compile("{{ base64Decode('_w') }}|{{ base64Decode('w6k') }}").render({})
        == "\ufffd|é"
    )
    assert template.compile("{{ s }}").render({"s": "\ud800x\udc80"}) == "\ufffdx\ufffd"
    template.compile(
        "{{ s|upper }}{{ s|match:s }}{{ s|urlencode }}{% for c in s %}{{ c }}{% endfor %}"
    ).render({"s": "\ud800"})


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("{{ a\n}}", (1, 5)),
        ("é\n\n  {{ 1/0 }}", (3, 7)),
        ("x\n{{ s.a|upper }}", (2, 4)),
        ("{{ s|key:'a' }}", (1, 6)),
        ("{{ 'a'|add:s.x }}", (1, 12)),
        ("\n\n{% if s.x %}{% endif %}", (3, 7)),
        ("{% for x in 'a' sorted %}{% endfor %}", (1, 4)),
        ("{% for x in 'a' %}\n{{ s.x }}{% endfor %}", (2, 4)),
        ("{% filter nope %}{% endfilter %}", (1, 11)),
        ("{{ base64Decode('=') }}", (1, 4)),
        ("{% endautoescape %}{{ s.x }}{% autoescape off %}{{ 1 }}", (1, 23)),
        ("{% endautoescape %}", (1, 20)),
        ("x\n{% macro s() export %}{% endmacro %}", (2, 4)),
    ],
)
def test_errors_tell_the_place_in_the_source(source: str, place: tuple[int, int]) -> None:
    with pytest.raises(TemplateError) as raised:
        template.compile(source).render({"s": "text"})
    assert (raised.value.line, raised.value.column) == place
    assert str(raised.value).startswith(f"line {place[0]}, column {place[1]}: ")
