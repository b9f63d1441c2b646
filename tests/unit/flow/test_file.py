"""Flow files: what is refused, with every problem and its place, and what is advised against."""

import time
from contextlib import suppress

import pytest

from flyteops.document import parse_yaml
from flyteops.errors import InputError
from flyteops.flow.file import lint, read_flow


def problems_in(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_flow(parse_yaml(text.encode()))
    return [str(problem) for problem in caught.value.problems]


def advice_on(text: str) -> list[str]:
    document = parse_yaml(text.encode())
    return [str(problem) for problem in lint(document, read_flow(document))]


STEP = """\
name: f
steps:
  - id: a
    event: {name: E, packName: P}
    command: {name: C, packName: Q}
"""


def test_a_flow_needs_no_steps():
    assert read_flow(parse_yaml(b"name: empty")).steps == ()


def test_everything_wrong_is_said_at_once():
    text = """\
name: ''
steps:
  - event: {name: E}
    criteria: "{{ Event.Payload.x|nope }}"
    command: {name: C, packName: Q, input: {deep: ["{{ 1 +"]}}
"""
    found = problems_in(text)
    assert len(found) == 4
    assert found[0] == "steps[0].event (line 3, column 12): 'packName' is missing"
    assert found[1] == "name (line 1, column 7): must not be empty"
    assert "steps[0].criteria (line 4, column 15): in the template, line 1, column" in found[2]
    assert "steps[0].command.input.deep[0] (line 5, column 52): in the template" in found[3]


def test_names_must_not_be_empty():
    text = (
        STEP.replace("name: f", "name: ' '")
        .replace("name: E", "name: ''")
        .replace("packName: Q", "packName: ''")
    )
    assert problems_in(text) == [
        "name (line 1, column 7): must not be empty",
        "steps[0].event.name (line 4, column 19): must not be empty",
        "steps[0].command.packName (line 5, column 34): must not be empty",
    ]


def test_a_dependency_must_be_a_list_or_all_or_any():
    assert "dependsOn" in problems_in(STEP + "    dependsOn: b\n")[0]
    assert read_flow(parse_yaml((STEP + "    dependsOn: {all: [b], any: [c]}\n").encode())).steps[
        0
    ].dependencies.all == ("b",)


def test_good_flows_get_no_advice():
    assert advice_on(STEP) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("    labels: {x: y}\n", "the key 'labels' is ignored"),
        ("    dependson: [a]\n    dependOn: [a]\n", "did you mean 'dependsOn'?"),
        ("    dependsOn: [b]\n", "there is no step 'b'"),
        ("    dependsOn: [a]\n", "can never run"),
        (
            "    criteria: '{{ Event.payload.x == 1 }}'\n",
            "an event has no 'payload'; did you mean 'Payload'?",
        ),
        (
            "    criteria: '{{ event.Payload.x == 1 }}'\n",
            "'event' is never set; did you mean 'Event'?",
        ),
        (
            "    context: {user: x}\n    criteria: '{{ Context.usr == 1 }}'\n",
            (
                "no step before sets 'usr' in its context, and a context does not see itself; did"
                " you mean 'user'?"
            ),
        ),
        (
            "  - id: a\n    event: {name: E, packName: P}\n    command: {name: C, packName: Q}\n",
            "used twice",
        ),
        (
            (
                "  - id: b\n    dependsOn: [a]\n    event: {name: E, packName: P}\n    command:"
                " {name: C, packName: Q}\n"
            ),
            "also a result in this flow",
        ),
    ],
)
def test_what_is_rarely_meant_is_advised_against(more, words):
    assert any(words in advice for advice in advice_on(STEP + more))


def test_a_key_that_belongs_elsewhere_is_pointed_out_and_ignored():
    text = STEP.replace("packName: Q}", "packName: Q, labels: {ABC: '123'}}")
    (advice,) = advice_on(text)
    assert advice == (
        "steps[0].command.labels (line 5, column 45): the key 'labels' is ignored; did you mean"
        " 'packLabels'?"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("    dependsOn: {al: [b]}\n", "the key 'al' is ignored; did you mean 'all'?"),
        ("    command: {name: C, packName: Q, timeout: 1m, retry: {atempts: 2}}\n", "'attempts'?"),
    ],
)
def test_a_misspelt_key_of_what_may_be_left_out_is_pointed_out(more, words):
    text = STEP if "command" not in more else STEP.partition("    command")[0]
    assert any(words in advice for advice in advice_on(text + more))


def test_a_misspelt_key_of_a_schedule_is_pointed_out():
    text = "name: f\nsteps:\n  - schedule: {cron: '@daily', timezoen: UTC}\n"
    text += "    command: {name: C, packName: Q}\n"
    assert any("did you mean 'timeZone'?" in advice for advice in advice_on(text))


def test_a_flow_full_of_mistakes_gets_a_bounded_amount_of_advice():
    more = "".join(
        f"  - id: step-{number}\n    dependsOn: [stpe-{number}]\n"
        "    event: {name: E, packName: P}\n    command: {name: C, packName: Q}\n"
        for number in range(450)
    )
    assert len(advice_on(STEP + more)) == 50


def test_a_context_that_refers_to_itself_is_advised_against():
    more = "    context: {host: x, address: '{{ Context.host }}'}\n"
    (advice,) = advice_on(STEP + more)
    assert "a context does not see itself" in advice


# ------------------------------------------------------------------------------------------ scripts


def a_script(script: str, context: str = "{}", command: str = "Shell") -> str:
    return f"""\
name: f
steps:
  - id: a
    event: {{name: E, packName: P}}
    context: {context}
    command:
      name: {command}
      packName: Q
      input: {script}
"""


@pytest.mark.parametrize(
    ("script", "context"),
    [
        ("echo {{ Event.Payload.text }}", "{}"),
        ("echo '{{ Event.Payload.text }}'", "{}"),
        ("echo {{ Event.Payload.text|shellquote|upper }}", "{}"),
        ("echo {{ Event.Payload.a|shellquote + Event.Payload.b }}", "{}"),
        ("{% for word in Event.Payload.words %}{{ word }}{% endfor %}", "{}"),
        ("{% firstof Event.Payload.a Event.Payload.b %}", "{}"),
        ("echo {{ Context.text }}", "{text: '{{ Event.Payload.text }}'}"),
        (
            "echo {{ Context.text }}",
            "{text: 'x {{ Context.other }}', other: '{{ Event.Payload.text|lower }}'}",
        ),
        ("echo {{ datastore(Event.Payload.key) }}", "{}"),
    ],
)
def test_what_an_event_says_must_not_become_part_of_a_script_as_it_is(script, context):
    advice = next(text for text in advice_on(a_script(f'"{script}"', context)) if "script" in text)
    assert advice.startswith("steps[0].command.input (line 9, column 14): ")
    assert "becomes part of a script as it is" in advice
    assert "|shellquote }}, without quotes around it" in advice


@pytest.mark.parametrize(
    ("script", "context"),
    [
        ("echo {{ Event.Payload.text|shellquote }} {{ Event.Payload.count|integer }}", "{}"),
        ("{% if Event.Payload.text == 'x' %}echo x{% endif %}", "{}"),
        ("echo {{ datastore('teams').email }}", "{}"),
        ("echo {{ Context.text }}", "{text: '{{ Event.Payload.text|shellquote }}'}"),
        ("echo {{ Context.text }}", "{text: fixed}"),
    ],
)
def test_what_is_harmless_in_a_script_gets_no_advice(script, context):
    assert advice_on(a_script(f'"{script}"', context)) == []


def test_only_scripts_are_looked_at():
    assert advice_on(a_script('"{{ Event.Payload.text }}"', command="SendMessage")) == []
    assert advice_on(a_script('{text: "{{ Event.Payload.text }}"}')) == []


def test_quotes_around_what_quotes_itself_are_told():
    for quoted in ("'{{ Event.Payload|shellquote }}'", "'{{- Event.Payload|shellquote -}}'"):
        [advice] = advice_on(a_script(f'"echo {quoted}"'))
        assert "Event.Payload|shellquote }} brings its own quotes" in advice


WRONG_ALL_OVER = """\
name: f
steps:
  - schedule: {cron: "61 * * * *", timeZone: Europe/Berln, catchUp: lst}
    delay: 5 minutes
    criteria: "{{ Event.Payload.x|uper }}"
    command: {packNam: P, name: 3, timeout: 10x, onLost: fial, retry: {attempts: yes, backoff: 1 h}}
"""


def test_types_cron_zones_and_durations_are_reported_in_one_round():
    found = "\n".join(problems_in(WRONG_ALL_OVER))
    for words in (
        (
            "steps[0].schedule.cron (line 3, column 22): the cron expression '61 * * * *' is not"
            " valid: the minute '61'"
        ),
        "steps[0].schedule.timeZone (line 3, column 46): 'Europe/Berln' is not a time zone",
        "did you mean 'Europe/Berlin'?",
        "must be all, last or skip, not 'lst'; did you mean 'last'?",
        "steps[0].delay (line 4, column 12): '5 minutes' is not a duration",
        "Filter 'uper' does not exist; did you mean 'upper'?",
        "'packName' is missing; the key 'packNam' is not known, did you mean 'packName'?",
        "steps[0].command.name (line 6, column 33): must be text, not a number",
        "'10x' is not a duration",
        "not 'fial'; did you mean 'fail'?",
        "steps[0].command.retry.attempts (line 6, column 82): must be a whole number",
        "'1 h' is not a duration",
    ):
        assert words in found


@pytest.mark.parametrize("timeout", ["30", "true", "[1]"])
def test_a_timeout_of_a_wrong_type_is_one_problem(timeout):
    text = STEP.replace("packName: Q", f"packName: Q, onLost: fail, timeout: {timeout}")
    assert len(problems_in(text)) == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("europe/paris", "Europe/Paris"),
        ("utc", "UTC"),
    ],
)
def test_a_time_zone_that_is_nearly_right_is_named(name, meant):
    text = STEP.replace(
        "event: {name: E, packName: P}", f"schedule: {{cron: '@daily', timeZone: {name}}}"
    )
    assert f"did you mean '{meant}'?" in problems_in(text)[0]


@pytest.mark.parametrize(
    "value",
    [
        "7",
        "[]",
        "{command: 1}",
        "{schedule: 1, command: {retry: 1, timeout: 2}}",
        "{dependsOn: 1, schedule: []}",
    ],
)
def test_no_shape_of_a_step_breaks_the_report(value):
    assert problems_in(f"name: f\nsteps: [{value}]")


def test_a_flow_with_very_many_faults_is_refused_in_no_time():
    step = "  - {schedule: {cron: '@dayly', timeZone: Europe/Berln}, command: {}}\n"
    assert 200 <= len(problems_in("name: f\nsteps:\n" + 300 * step)) <= 500


def long_flow(more: str, count: int) -> bytes:
    text = "{id: s<0>, event: {name: E, packName: P}, command: {name: C, packName: Q}, "
    steps = [
        (text + more + "}").replace("<0>", str(n)).replace("<1>", str(n + 1)) for n in range(count)
    ]
    return f"{{name: f, steps: [{', '.join(steps)}]}}".encode()


def seconds_to_read(content: bytes) -> float:
    document = parse_yaml(content)
    begun = time.process_time()
    with suppress(InputError):
        lint(document, read_flow(document, is_lenient=True))
    return time.process_time() - begun


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        "context: {k<0>: '{{ Context.k<1> }}'}",
        "context: {k: '{{ x'}",
        "dependsOn: [s<1>]",
        "delay: 5",
    ],
)
def test_the_time_to_read_a_flow_grows_with_its_length_and_not_with_the_square_of_it(more):
    few, many = (
        min(seconds_to_read(long_flow(more, count)) for _ in range(2)) for count in (300, 6_000)
    )
    assert many < 40 * few


DROPPED = "null is dropped: the pack gets an input without {!r}; leave it out or write ''"
IN_LIST = (
    "null in a list cannot be rendered: the step fails whenever it should run; leave the item out"
    " or write ''"
)


@pytest.mark.parametrize(
    ("written", "path", "message"),
    [
        ("{a: null}", "steps[0].command.input.a", DROPPED.format("a")),
        ("{a: ~}", "steps[0].command.input.a", DROPPED.format("a")),
        ("{a: }", "steps[0].command.input.a", DROPPED.format("a")),
        ("{a: {b: [{c: null}]}}", "steps[0].command.input.a.b[0].c", DROPPED.format("c")),
        ("[null]", "steps[0].command.input[0]", IN_LIST),
        ("{a: [1, null, x]}", "steps[0].command.input.a[1]", IN_LIST),
        ("[[], [null]]", "steps[0].command.input[1][0]", IN_LIST),
    ],
)
def test_a_null_that_the_input_of_a_command_loses_is_advised_against(written, path, message):
    (advice,) = advice_on(STEP.replace("packName: Q}", f"packName: Q, input: {written}}}"))
    assert path in advice
    assert message in advice


def test_advice_has_its_place_whatever_the_case_of_the_keys():
    text = (
        "Name: f\nSTEPS:\n- Event: {name: E, packName: P}\n  Command:\n    name: C\n    packName:"
        " Q\n    Input:\n"
    )
    (advice,) = advice_on(text + "      a: {B: ~}\n")
    assert advice == f"steps[0].command.input.a.B (line 8, column 14): {DROPPED.format('B')}"


@pytest.mark.parametrize(
    "written", ["null", "''", "{a: ''}", "[]", "{a: 'null'}", "{a: 0, b: false}", "[{}]"]
)
def test_an_input_that_keeps_everything_gets_no_advice(written):
    assert advice_on(STEP.replace("packName: Q}", f"packName: Q, input: {written}}}")) == []


@pytest.mark.parametrize("edition", ["", "edition: 1\n", "edition:\n"])
def test_a_flow_is_of_edition_1_unless_it_says_otherwise(edition):
    assert advice_on(edition + STEP) == []


@pytest.mark.parametrize(
    ("edition", "shown"),
    [
        ("'2'", "'2' (text)"),
        ("'1'", "'1' (text)"),
        ("2.0", "2.0 (a number)"),
        ("1.0", "1.0 (a number)"),
        ("true", "true (true or false)"),
        ("3", "3"),
        ("0", "0"),
        ("[2]", "[2] (a list)"),
    ],
)
def test_another_edition_is_refused(edition, shown):
    assert problems_in(f"edition: {edition}\n{STEP}") == [
        f"edition (line 1, column 10): must be the number 1 or 2, not {shown}"
    ]


def test_a_flow_of_edition_2_is_refused_with_its_problems():
    assert problems_in("edition: 2\n" + STEP.replace("id: a", "ID: a")) == [
        "steps[0].ID (line 4, column 9): the key 'ID' is not known; did you mean 'id'?"
    ]


@pytest.mark.parametrize("is_lenient", [True, False])
def test_a_valid_flow_of_edition_2_is_refused_as_long_as_no_server_runs_it(is_lenient):
    document = parse_yaml(f"edition: 2\n{STEP}".encode())
    with pytest.raises(InputError) as caught:
        read_flow(document, is_lenient=is_lenient)
    assert [str(problem) for problem in caught.value.problems] == [
        "edition (line 1, column 10): edition 2 can be checked with flyte lint, but this server"
        " does not run it yet; leave the key out for edition 1"
    ]
