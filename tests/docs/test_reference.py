"""The reference is complete: what the code knows is on the pages, and the figures are the code's."""

from pathlib import Path

import pytest

from flyteops.cli.store import NOUNS
from flyteops.model import Command, EventPattern, Flow, Step
from flyteops.storage.record import KINDS
from flyteops.template import DEFAULT_LIMITS
from flyteops.template.filter import FILTERS
from flyteops.template.function import FUNCTIONS
from flyteops.template.tag import TAGS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "flow.md").read_text()


@pytest.mark.parametrize("name", [*FILTERS, *TAGS])
def test_every_filter_and_tag_is_on_the_page(name):
    assert f"`{name}`" in PAGE or f"`{name} " in PAGE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_on_the_page(name):
    assert f"`{name}(" in PAGE


@pytest.mark.parametrize("kind", [Flow, Step, EventPattern, Command])
def test_every_key_of_a_flow_is_on_the_page(kind):
    for name in kind.__struct_encode_fields__:
        assert f"{name}`" in PAGE or f"[].{name}." in PAGE


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
    assert f"| `{kind}` |" in (Path(__file__).parents[2] / "docs" / "reference" / "backup.md").read_text()
    assert kind in NOUNS
