"""The reference of edition 2 has every filter, and its examples give the results beside them."""

import re
from pathlib import Path

import pytest

from flyteops.template import Runtime
from flyteops.template.typed import compile_typed
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter import FILTERS
from flyteops.template.typed.value import text_of
from tests.docs.test_reference import keys_in, section

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "templates-edition-2-filters.md").read_text()
TABLE, EXAMPLES = section("## The filters", PAGE), section("## Examples", PAGE)
ROWS = re.findall(r"^\| `(.+)` \| `(.*)` \|$", EXAMPLES, re.MULTILINE)


def test_every_filter_has_a_row_and_every_row_a_filter():
    assert keys_in(TABLE) == set(FILTERS)


def test_all_rows_of_the_examples_are_read():
    assert len(ROWS) == EXAMPLES.count("\n| `") > 5


@pytest.mark.parametrize(("expression", "printed"), ROWS)
def test_an_example_prints_the_result_beside_it(expression, printed):
    template = compile_typed("{{ " + expression.replace("\\|", "|") + " }}")
    result = template.render({}, Runtime())
    assert text_of(result, Environment(Runtime())) == printed
