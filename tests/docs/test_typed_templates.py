"""The reference of the templates of edition 2 has every operator, function and tag, and its
examples give the results beside them.
"""

import json
import re
from pathlib import Path

import pytest

from flyteops.errors import TemplateError
from flyteops.template import Runtime
from flyteops.template.typed import compile_typed, to_json
from flyteops.template.typed.document import DocumentParser
from flyteops.template.typed.function import FUNCTIONS
from flyteops.template.typed.operation import COMPARISONS, PRODUCTS, SUMS
from flyteops.template.typed.statement import ForLoop
from tests.docs.test_reference import section, words

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "templates-edition-2.md").read_text()
EXAMPLES = re.findall(r"^\| `(.+)` \| `(.*)` \|$", section("## Examples", PAGE), re.MULTILINE)


def test_every_function_is_described():
    rows = re.findall(r"^\| `(\w+)\(", section("## Functions", PAGE), re.MULTILINE)
    assert sorted(rows) == sorted([*FUNCTIONS, "datastore", "secret"])


def test_every_operator_is_described():
    described = set(re.findall(r"`([^`]+)`", section("## Operators", PAGE)))
    assert {*COMPARISONS, *SUMS, *PRODUCTS, "and", "or", "not", "~"} <= described


def test_every_tag_is_described():
    described = set(re.findall(r"\{% (\w+)", section("## Tags", PAGE)))
    parts = {"elif", "else", "endif", "endfor", "endverbatim", "endcomment"}
    assert described - parts == {*DocumentParser("", Runtime().limits).tags, "verbatim", "comment"}


def test_every_counter_of_a_loop_is_described():
    scope: dict[str, object] = {}
    loop = "{% for x in [1] %}{{ loop }}{% endfor %}"
    counters = json.loads(compile_typed(loop).render(scope))
    assert isinstance(compile_typed(loop).tree.parts[0], ForLoop)
    described = {word.rpartition(".")[2] for word in words(section("## Tags", PAGE))}
    assert set(counters) <= described


def test_all_rows_of_the_examples_are_read():
    assert len(EXAMPLES) == section("## Examples", PAGE).count("\n| `") > 10


@pytest.mark.parametrize(("template", "result"), EXAMPLES)
def test_an_example_gives_the_result_beside_it(template, result):
    rendered = to_json(compile_typed(template).render({}))
    assert (type(rendered), rendered) == (type(json.loads(result)), json.loads(result))


@pytest.mark.parametrize("source", ["&&", "||", "!", "<>", "^"])
def test_the_operators_of_edition_1_are_refused(source):
    with pytest.raises(TemplateError, match="is not an operator"):
        compile_typed("{{ a " + source + " b }}")
