"""The threat model tells what is so: every attack has a test, and each test that it names is
there.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/explanation/threat-model.md").read_text()
NAMES = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", TEXT)
ROWS = [
    line
    for line in TEXT.partition("## Attacks")[2].partition("## What is not defended")[0].splitlines()
    if line.startswith("| ")
]


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMES)))
def test_every_test_that_is_named_is_there(file, name):
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert name in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_attack_has_a_test():
    attacks = [row for row in ROWS if not row.startswith("| Attack")]
    assert len(attacks) > 40
    assert not [row for row in attacks if "::test_" not in row]
