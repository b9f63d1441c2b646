"""The JSON Schema of flow files agrees with the readers on keys, types and values."""

from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from flyteops.definition import StepDefinition
from flyteops.document import parse_yaml
from flyteops.errors import InputError
from flyteops.flow.edition2 import read_definition
from flyteops.flow.edition2.builtin import COMMANDS
from flyteops.flow.edition2.field import DESCRIPTIONS, FORMS
from flyteops.flow.file import read_flow
from flyteops.flow.schema import flow_schema

ROOT = Path(__file__).parents[3]
FLOWS = sorted((ROOT / "tests" / "data" / "flow").glob("*.yaml"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
RUN = "id: a, event: {packName: P, name: E}, command: {packName: Q, name: C}"
GATE = "id: a, event: {packName: P, name: E}"


def flow(*steps, more=""):
    lines = "".join(f"- {{{step}}}\n" for step in steps)
    return parse_yaml(f"edition: 2\nname: f\n{more}steps:\n{lines}".encode())


def is_valid(document, edition=2):
    return jsonschema_rs.Draft202012Validator(flow_schema(edition)).is_valid(document.value)


@pytest.mark.parametrize("edition", [None, 1, 2])
def test_it_is_a_json_schema(edition):
    schema = flow_schema(edition)
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_field_has_a_description():
    for kind, descriptions in DESCRIPTIONS.items():
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        assert sorted(names) == sorted(descriptions), kind
    assert {kind for kind, _ in FORMS} <= set(DESCRIPTIONS)
    assert all(key in DESCRIPTIONS[kind] for kind, key in FORMS)
    step = flow_schema(2)["$defs"]["StepDefinition"]["properties"]
    assert step["timeout"]["description"] == DESCRIPTIONS[StepDefinition]["timeout"]


@pytest.mark.parametrize("file", FLOWS, ids=lambda file: file.stem)
def test_valid_flows_are_valid(file):
    document = parse_yaml(file.read_bytes())
    assert is_valid(document)
    assert is_valid(document, None)
    assert not is_valid(document, 1)


@pytest.mark.parametrize(
    "document",
    [
        flow(RUN, more="zzz: 1\n"),
        flow(RUN, more="mode: x\n"),
        flow(),
        flow("event: {packName: P}"),
        flow("id: 1st, event: {packName: P}"),
        flow("id: a, event: {packName: P, Name: E}"),
        flow("id: a, event: []"),
        flow("id: a, event: {packName: '{{ Event.Name }}'}"),
        flow("id: a, command: {packName: Q, name: C}"),
        flow(RUN, more="timeout: 30\n"),
        flow(RUN, more="timeout: 5 minutes\n"),
        flow(RUN, more="timeout:\n"),
        flow(f"{GATE}, delay: tomorrow"),
        flow(f"{GATE}, criteria: Event.Payload.x == 1"),
        flow(f"{GATE}, criteria: true"),
        flow(f"{GATE}, forEach: {{in: [1]}}"),
        flow(f"{RUN}, forEach: {{in: hosts}}"),
        flow(f"{RUN}, forEach: {{in: [1], parallel: 0}}"),
        flow(f"{RUN}, forEach: {{in: [1]}}, repeat: {{while: true}}"),
        flow(f"{RUN}, schedule: {{cron: '@daily'}}"),
        flow(RUN, "id: b, dependsOn: []"),
        flow(RUN, "id: b, dependsOn: {}"),
        flow(RUN, "id: b, dependsOn: {all: [a], any: [a]}"),
        flow(RUN, "id: b, dependsOn: [a], correlate: {event: '{{ Event.Name }}', with: x}"),
        flow(RUN, "id: b, event: {resultOf: a, state: failed}"),
        flow(f"{GATE}, command: {{packName: Q, name: C, onLost: ask}}"),
        flow(f"{GATE}, command: {{packName: Q, name: C, retry: {{attempts: 2}}}}"),
        flow(f"{GATE}, command: {{packName: Q, name: C, retry: {{on: [failed, lost]}}}}"),
        flow(f"{GATE}, command: {{packName: Q, name: C, retry: {{on: []}}}}"),
        flow(f"{GATE}, command: {{packName: Flyte, name: SetDate}}"),
        flow(f"{GATE}, command: {{packName: Flyte, name: SetData, input: {{key: a}}}}"),
        flow(f"{GATE}, command: {{packName: Flyte, name: Ask, input: {{question: a, of: b}}}}"),
        flow(RUN, more="batch: {within: 1s}\ndebounce: {for: 1s}\n"),
        flow(RUN, more="concurrency: {whenFull: cancel}\n"),
        flow(RUN, more="inputs: {type: objekt}\n"),
    ],
    ids=lambda document: str(document.value)[28:],
)
def test_faults_of_a_flow_are_faults_for_both(document):
    with pytest.raises(InputError):
        read_definition(document)
    assert not is_valid(document)
    assert not is_valid(document, None)


def test_a_flow_without_edition_is_checked_as_one_of_edition_1():
    document = parse_yaml(b"name: f\nsteps: []\nlabels: 1\n")
    assert is_valid(document, None)
    assert not is_valid(document, 2)
    assert read_flow(document).name == "f"


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_flows_of_edition_1_are_valid(file):
    document = parse_yaml(file.read_bytes())
    try:
        read_flow(document)
    except InputError:
        return
    assert is_valid(document, 1)
    assert is_valid(document, None)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("name: f\nsteps: [{event: {packName: P, name: E}}]\n", False),
        ("edition: 1\nname: f\n", True),
        ("edition: '2'\nname: f\nsteps: []\n", False),
        ("steps: []\n", False),
    ],
)
def test_edition_1_is_checked_too(text, valid):
    document = parse_yaml(text.encode())
    assert is_valid(document, 1) is valid
    assert is_valid(document, None) is valid


def test_the_commands_of_the_server_are_in_it():
    command = flow_schema(2)["$defs"]["CommandDefinition"]
    assert list(COMMANDS) in [
        each["then"].get("properties", {}).get("name", {}).get("enum") for each in command["allOf"]
    ]
