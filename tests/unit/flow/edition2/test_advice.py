"""Advice about valid flows of edition 2."""

from pathlib import Path

import pytest

from flyteops.document import parse_yaml
from flyteops.flow.edition2 import lint_definition, read_definition

DATA = Path(__file__).parents[3] / "data" / "flow"
RUN = "id: a, event: {packName: P, name: E}, command: {packName: Q, name: C}"


def advice_on(*steps, more=""):
    lines = "".join(f"- {{{step}}}\n" for step in steps)
    document = parse_yaml(f"edition: 2\nname: f\n{more}steps:\n{lines}".encode())
    return [str(each) for each in lint_definition(document, read_definition(document))]


@pytest.mark.parametrize("file", sorted(DATA.glob("*.yaml")), ids=lambda file: file.stem)
def test_good_flows_get_no_advice(file):
    document = parse_yaml(file.read_bytes())
    assert list(lint_definition(document, read_definition(document))) == []


def test_two_steps_whose_contexts_meet_should_not_set_the_same_key():
    steps = [
        f"{RUN}, context: {{x: 1}}",
        "id: b, dependsOn: [a], context: {k: 1}",
        "id: c, dependsOn: [a], context: {k: 2}",
        "id: d, dependsOn: {all: [b, c]}",
        "id: e, dependsOn: [d]",
    ]
    assert advice_on(*steps) == [
        "steps[3].dependsOn (line 7, column 22): 'b' and 'c' set 'k' in their context; in step 'd',"
        " the later result wins"
    ]
    steps[3] += ", context: {k: 3}"
    assert advice_on(*steps) == []


def test_a_later_step_of_a_branch_replaces_a_key():
    assert (
        advice_on(
            f"{RUN}, context: {{k: 1}}",
            "id: b, dependsOn: [a]",
            "id: c, dependsOn: [a]",
            "id: d, dependsOn: {all: [b, c]}, context: {k: 2}",
        )
        == []
    )


@pytest.mark.parametrize(
    ("steps", "more", "advice"),
    [
        pytest.param(
            [
                "id: a, event: {packName: Flyte, name: Again}, command: {packName: Flyte, name:"
                " SendEvent, input: {event: Again}}"
            ],
            "",
            "steps[0].command.input.event (line 4, column 109): this event triggers the flow"
            " itself; see that it comes to an end",
            id="a flow that sends its own event",
        ),
        pytest.param(
            [
                "id: a, event: {packName: Flyte, name: Called}, command: {packName: Flyte, name:"
                " RunFlow, input: {flow: f}}"
            ],
            "",
            "steps[0].command.input.flow (line 4, column 107): the flow runs itself; see that it"
            " comes to an end",
            id="a flow that runs itself",
        ),
        pytest.param(
            ["id: a, event: {packName: Flyte, name: Calld}"],
            "",
            "steps[0].event.name (line 4, column 42): the server sends no event 'Calld'; did you"
            " mean 'Called'?",
            id="an event of the server that is misspelt",
        ),
        pytest.param(
            ["id: a, event: {packName: flyte, name: Called}"],
            "",
            "steps[0].event.packName (line 4, column 29): did you mean 'Flyte', the server itself?",
            id="the pack of a trigger in lower case",
        ),
        pytest.param(
            ["id: a, event: {packName: P}, command: {packName: flyte, name: Ask}"],
            "",
            "steps[0].command.packName (line 4, column 53): did you mean 'Flyte', the server"
            " itself?",
            id="the pack of a command in lower case",
        ),
        pytest.param(
            [RUN],
            "inputs: {type: object}\n",
            "inputs (line 3, column 9): describes the payload of Called, and no step has that event"
            " of the pack Flyte",
            id="inputs without Called",
        ),
        pytest.param(
            [RUN],
            "dedupe: {key: Event.Payload.id, within: 1m}\n",
            "dedupe.key (line 3, column 15): has no {{ }}, so every event has the same key",
            id="a key without braces",
        ),
        pytest.param(
            [RUN, "id: b, dependsOn: [a, a]"],
            "",
            "steps[1].dependsOn[1] (line 5, column 26): 'a' is named twice",
            id="a dependency that is named twice",
        ),
        pytest.param(
            ["id: a, event: {packName: P}, criteria: '{{ Event.payload == 1 }}'"],
            "",
            "steps[0].criteria (line 4, column 43): an event has no 'payload'; did you mean"
            " 'Payload'?",
            id="a field that events lack",
        ),
        pytest.param(
            [
                "id: a, event: {packName: P}, context: {user: 1}",
                "id: b, dependsOn: [a], criteria: '{{ Context.usr == 1 }}'",
            ],
            "",
            "steps[1].criteria (line 5, column 37): no step sets 'usr' in its context; did you mean"
            " 'user'?",
            id="a context key that is never set",
        ),
    ],
)
def test_what_is_rarely_meant_is_advised_against(steps, more, advice):
    assert advice_on(*steps, more=more) == [advice]


def test_the_amount_of_advice_is_bounded():
    steps = [f"id: s{n}, event: {{packName: flyte}}" for n in range(1_000)]
    assert len(advice_on(*steps)) == 50
