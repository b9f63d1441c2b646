"""Every page and message has install lines that work in a checkout, and keep it editable."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "chaos" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.py")),
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
].keys()

LINE = re.compile(r"pip install (?P<what>[^`\n#]+)")
EDITABLE = re.compile(
    r'-e (\\?")?(\.|\.\./flyte)(\[(?P<extras>[a-z,]+|\{extra\}|server,\{extra\})\])?'
)
OTHERS = {
    "pytest-asyncio",  # another package
    ".",  # a pack's own project
    '".[slack]"',  # what decision 5 warns of
}


def install_lines(path: Path) -> list[str]:
    return [found["what"].strip() for found in LINE.finditer(path.read_text())]


@pytest.mark.parametrize(
    "path", [path for path in TEXTS if install_lines(path)], ids=lambda path: path.name
)
def test_flyte_is_installed_from_its_source_and_stays_editable(path: Path) -> None:
    for line in install_lines(path):
        if line in OTHERS:
            continue
        found = EDITABLE.match(line)
        assert found, f"{path.name}: pip install {line}"
        extras = (found["extras"] or "").split(",")
        assert {extra for extra in extras if extra and "{" not in extra} <= EXTRAS


def test_nothing_names_the_package_on_an_index() -> None:
    assert [
        path for path in TEXTS if re.search(r"install (-e )?[\"']?flyteops", path.read_text())
    ] == []


def test_make_packs_installs_any_extra_of_a_pack() -> None:
    named = re.findall(r"make packs PACKS=([a-z]+)", (ROOT / "docs/reference/packs.md").read_text())
    assert {"email", "matrix", "slack"} == set(named) <= EXTRAS


@pytest.mark.parametrize(
    ("given", "installed", "unknown"),
    [
        ("slack", ".[slack]", ""),
        ("Slack, matrix", ".[slack,matrix]", ""),
        ("chat email", ".[email]", ""),
        ("slak email", ".[email]", "slak"),
    ],
)
def test_make_packs_takes_names_as_they_are_written_and_knows_all_of_them(
    given: str, installed: str, unknown: str
) -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "packs", f"PACKS={given}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f'-e "{installed}"' in plan
    assert f'test -z "{unknown}" || {{' in plan
