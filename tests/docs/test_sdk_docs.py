"""The pages about packs: their examples run, and no setting is missing."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flyteops.packs import chat, shell, ticker
from flyteops.sdk import Environment

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return FENCE.findall((DOCS / page).read_text())


class Recorder(Mapping[str, str]):
    """An empty environment that remembers what was asked for."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


def test_the_packs_of_the_how_to_pass_the_tests_of_the_how_to(tmp_path: Path) -> None:
    for block in blocks("howto/write-a-pack.md"):
        first = re.match(r"# (\w+\.py)\n", block)
        assert first is not None, f"say which file this is: {block[:60]}"
        (tmp_path / first[1]).write_text(block)
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function", "."],

        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout
    assert "5 passed" in outcome.stdout
    for name in ("polite", "orders", "stock"):
        subprocess.run([sys.executable, "-W", "error", "-c", f"import {name}"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("block", blocks("reference/sdk.md"))
def test_the_examples_of_the_reference_are_valid(block: str) -> None:
    exec(compile(block, "reference/sdk.md", "exec"), {})


def test_every_variable_is_in_the_reference() -> None:
    environment = Recorder(FLYTE_API_URL="http://flyte.test")
    Environment.read(environment)
    packs = Recorder()
    for pack in (chat, shell, ticker):
        pack.create(packs)
    sdk_page, packs_page = ((DOCS / "reference" / name).read_text() for name in ("sdk.md", "packs.md"))
    assert {name for name in environment.asked if f"| `{name}` |" not in sdk_page} == set()
    assert {name for name in packs.asked if f"| `{name}` |" not in packs_page} == set()
    assert len(environment.asked) == 11
    assert len(packs.asked) == 4
