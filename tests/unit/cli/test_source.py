"""Finding flow files, and saying where what is wrong with them."""

import pytest

from flyteops.cli.dev.hint import example_of, suggest_messages
from flyteops.cli.source import collect, format_problem, looks_like_flow
from flyteops.errors import Problem
from flyteops.model import Command, EventPattern, Flow, Step

FLOW = (
    "name: {name}\nsteps:\n  - event: {{packName: A, name: B}}\n    command: {{packName: C, name:"
    " D}}\n"
)


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_directory_is_walked_and_what_holds_no_flow_is_left_out(tmp_path):
    write(
        tmp_path,
        one_yaml=FLOW.format(name="one"),
        sub__two_yml=FLOW.format(name="two"),
        sub__teams_json='{"a": 1}',
        note_txt="x",
    )
    found = collect([tmp_path])
    assert [reading.flow.name for reading in found.readings] == ["one", "two"]
    assert [other.name for other in found.others] == ["teams.json"]


def test_hidden_files_are_not_looked_at(tmp_path):
    write(tmp_path, a_yaml=FLOW.format(name="a"))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.yaml").write_text("{")
    assert len(collect([tmp_path]).readings) == 1


def test_a_file_that_is_named_is_a_flow_whatever_it_looks_like(tmp_path):
    write(tmp_path, teams_json='{"a": 1}')
    (reading,) = collect([tmp_path / "teams.json"]).readings
    assert reading.flow is None
    assert "'name' is missing" in reading.problems[0].message


def test_a_file_with_steps_and_faults_is_a_flow_with_problems(tmp_path):
    write(
        tmp_path,
        bad_yaml="steps:\n  - event: {packName: A, name: B}\n    criteria: '{{ 1|nofilter }}'\n",
    )
    (reading,) = collect([tmp_path]).readings
    lines = [format_problem("bad.yaml", problem) for problem in reading.problems]
    assert any(line.startswith("bad.yaml:1:1: ") and "'name' is missing" in line for line in lines)
    assert any(
        line.startswith("bad.yaml:2:5: ") and "'command' is missing" in line for line in lines
    )
    assert any(line.startswith("bad.yaml:3:15: steps[0].criteria") for line in lines)


def test_text_that_cannot_be_parsed_is_told_with_its_place(tmp_path):
    write(tmp_path, bad_yaml="name: [\nsteps:", chart_yaml="{{ not yaml")
    (reading,) = collect([tmp_path]).readings
    assert reading.source.file.endswith("bad.yaml")
    assert reading.problems[0].line is not None


def test_advice_comes_with_the_flow(tmp_path):
    write(tmp_path, a_yaml=FLOW.format(name="a") + "autor: me\n")
    (reading,) = collect([tmp_path]).readings
    assert reading.flow is not None
    assert [warning.line for warning in reading.warnings] == [5]


def test_the_second_flow_of_a_name_is_refused(tmp_path):
    write(tmp_path, a_yaml=FLOW.format(name="same"), b_yaml=FLOW.format(name="same"))
    first, second = collect([tmp_path]).readings
    assert first.flow is not None
    assert second.flow is None
    assert "a.yaml too" in second.problems[0].message


def test_a_file_may_hold_several_documents_with_their_own_places(tmp_path):
    flow = (
        "name: {}\nsteps:\n  - id: s\n    event: {{packName: P, name: E}}\n    command: {{packName:"
        " P, name: C}}\n"
    )
    texts = {
        "plain": flow.format("a") + "---\n" + flow.format("b"),
        "framed": "# comment\r\n---\r\n"
        + flow.format("a")
        + "...\n%YAML 1.1\n--- # next\n"
        + flow.format("b")
        + "---\n",
        "spaced": "---\n---\n"
        + flow.format("a")
        + "--- \n# nothing\n---\n"
        + flow.format("b")
        + "...\n---\n...\n",
        "text": flow.format("a")
        + "description: |\n  ---\n  é \N{GRINNING FACE}\n---\n"
        + flow.format("b"),
    }
    for name, text in texts.items():
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(text.encode())
        readings = collect([file]).readings
        assert [(reading.flow and reading.flow.name, reading.problems) for reading in readings] == [
            ("a", ()),
            ("b", ()),
        ], name

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        flow.format("a")
        + "---\nname: b\nsteps: 1\n---\n"
        + flow.format("a")
        + "---\nname: [\n---\nname: c\n"
    )
    first, second, third, fourth = collect([wrong]).readings
    assert first.flow.name == "a"
    assert [problem.line for problem in second.problems] == [8]
    assert "document 1 of" in third.problems[0].message
    assert fourth.flow is None
    assert fourth.problems[0].line >= 15


def test_in_a_directory_documents_that_are_no_flows_are_left_out(tmp_path):
    (tmp_path / "mixed.yaml").write_text("kind: other\n---\nname: a\nsteps: []\n")
    collection = collect([tmp_path])
    assert ([reading.source.number for reading in collection.readings], collection.others) == (
        [2],
        [],
    )


def test_a_file_that_does_not_exist_is_a_problem_of_that_file(tmp_path):
    (reading,) = collect([tmp_path / "none.yaml"]).readings
    assert (
        format_problem("none.yaml", reading.problems[0])
        == "none.yaml: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"steps": 1}, True),
        ({"name": "x"}, True),
        ({"name": "x", "colour": "red"}, False),
        ({}, False),
        ([], False),
        ("x", False),
    ],
)
def test_what_looks_like_a_flow(value, expected):
    assert looks_like_flow(value) is expected


def test_places_are_written_as_compilers_do():
    assert (
        format_problem("f.yaml", Problem("steps[0]", "is odd", 3, 5))
        == "f.yaml:3:5: steps[0]: is odd"
    )


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("^hello$", "hello"),
        (r"^(?i)(hello|hi)\b", "hello"),
        (r"^flyte\s+uk-bank-holidays(\s+\d{4})?$", "flyte uk-bank-holidays"),
        (r"^flyte(\s+)ping$", "flyte ping"),
        (r"^deploy [a-z]+$", None),
        (r"(", None),
        (r"a.c", None),
    ],
)
def test_a_simple_pattern_gives_words_that_match_it(pattern, words):
    assert example_of(pattern) == words


def flow_on(criteria, event="ReceivedMessage", pack="Chat"):
    step = Step(
        event=EventPattern(event, pack), command=Command("Shell", "Shell"), criteria=criteria
    )
    return Flow("f", steps=(step,))


def test_only_flows_that_surely_listen_are_suggested():
    flows = [
        flow_on("{{ Event.Payload.message|match:'^one$' }}"),
        flow_on("{{ Event.Payload.message|match:'^two$' && Event.Payload.user.name == 'ann' }}"),
        flow_on("{{ Event.Payload.message|match:'^three$' }}", event="ReactionAdded"),
        flow_on("{{ Event.Payload.message|match:'^four$' }}", pack="Slack"),
        flow_on(None),
    ]
    assert list(suggest_messages(flows)) == ["one"]


def test_a_message_that_triggers_several_flows_is_suggested_once():
    listener = flow_on("{{ Event.Payload.message|match:'^one$' }}")
    assert list(suggest_messages([listener, listener])) == ["one"]
