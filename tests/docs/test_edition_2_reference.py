"""The page about flow files of edition 2 has every key, name and command that the reader knows."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flyteops.definition import Dependency, FlowDefinition, StepDefinition
from flyteops.flow.edition2.builtin import COMMANDS, SERVER_EVENTS, WHERE
from flyteops.flow.edition2.field import RESERVED
from flyteops.flow.edition2.place import NAMES
from tests.docs.test_reference import section, struct_types, words

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "flow-edition-2.md").read_text()


def keys_in(text: str) -> set[str]:
    """The keys in the first column of the tables of a text: "`a.b`, `.c`" are `a.b`, `a.c`."""
    found: set[str] = set()
    for row in re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        owner = first.rpartition(".")[0]
        found |= {first, *(owner + each if each.startswith(".") else each for each in others)}
    return found


def keys_of(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        key = f"{prefix}{field.encode_name}"
        inner = [each for each in struct_types(field.type) if each is not Dependency]
        if inner and inner[0] is not StepDefinition:
            yield from keys_of(inner[0], f"{key}.")
        else:
            yield key


def test_each_key_has_a_row_and_each_row_is_of_a_key():
    limits = {"dedupe", "debounce", "batch", "threshold", "rateLimit", "concurrency"}
    groups = limits | {"event", "schedule", "command"}
    known = set(keys_of(FlowDefinition)) | set(keys_of(StepDefinition)) | groups
    known -= {each for each in known if each.startswith("schedule.")}
    shown = keys_in(
        "".join(section(title, PAGE) for title in ("## The flow", "## Steps", "## Limits"))
    )
    assert shown == known


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_templates_is_in_its_table(name):
    assert name in keys_in(section("## Names in templates", PAGE))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_server_is_in_its_table(name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
    assert words(row) == {name, *(COMMANDS[name].arguments or ())}


@pytest.mark.parametrize("word", [*SERVER_EVENTS, *RESERVED, *WHERE])
def test_every_other_word_is_on_the_page(word):
    assert f"`{word}`" in PAGE
