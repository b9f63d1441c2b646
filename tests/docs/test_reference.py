"""The reference is complete: what the code knows is on the pages, and the figures are the
code's.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from flyteops.cli.store import NOUNS
from flyteops.model import Dependencies, Flow
from flyteops.storage.record import KINDS
from flyteops.template import DEFAULT_LIMITS
from flyteops.template.filter import FILTERS
from flyteops.template.function import FUNCTIONS
from flyteops.template.tag import TAGS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "flow.md").read_text()


def section(title: str, page: str = PAGE) -> str:
    """The text under a heading, up to the next heading."""
    _, _, after = f"\n{page}".partition(f"\n{title}\n")
    assert after, f"there is no heading {title!r}"
    return re.split(r"^#", after, maxsplit=1, flags=re.MULTILINE)[0]


def words(text: str) -> set[str]:
    """What stands in backticks, each up to its first space or parenthesis: `for x in list` is
    `for`.
    """
    return {re.split(r"[ (]", code, maxsplit=1)[0] for code in re.findall(r"`([^`]+)`", text)}


def keys_in(table: str) -> set[str]:
    """The keys in the first column of a table; a cell "`a.b`, `.c`" has the keys `a.b` and
    `a.c`.
    """
    found: set[str] = set()
    for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        found |= {first, *(first.rpartition(".")[0] + other for other in others)}
    return found


def keys_of(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """The keys that a file may give for a type, down to those that hold no other keys."""
    for field in msgspec.structs.fields(kind):
        key = f"{prefix}{field.encode_name}"
        inner = next((each for each in struct_types(field.type) if each is not Dependencies), None)
        if inner is None:
            yield key
        else:
            yield from keys_of(inner, f"{key}[]." if key == "steps" else f"{key}.")


def struct_types(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in get_args(kind):
        yield from struct_types(argument)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_in_its_section(name):
    assert name in words(section("### Filters"))


@pytest.mark.parametrize("name", TAGS)
def test_every_tag_is_in_its_section(name):
    assert name in words(section("### Tags"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_in_its_section(name):
    assert name in words(section("### Functions"))


def test_each_key_of_a_flow_has_a_row_of_its_own_and_each_row_is_of_a_key():
    table = section("# Flow files and templates")
    # Rows about keys that hold other keys.
    groups = {"steps", "steps[].schedule", "steps[].command.retry"}
    assert keys_in(table) == set(keys_of(Flow)) | groups


def test_the_limits_on_the_page_are_the_ones_that_hold():
    limits = DEFAULT_LIMITS
    for number in (
        limits.source_length,
        limits.steps,
        limits.output_length,
        limits.list_length,
        limits.operators,
        limits.regexp_length,
    ):
        assert f"{number:,}" in PAGE
    assert f"| nesting of parentheses and tags | {limits.parse_depth} |" in PAGE
    assert f"| macros and `template()` inside of each other | {limits.call_depth} |" in PAGE


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_line_in_a_backup_is_on_its_page_and_has_a_name_for_people(kind):
    assert (
        f"| `{kind}` |"
        in (Path(__file__).parents[2] / "docs" / "reference" / "backup.md").read_text()
    )
    assert kind in NOUNS
