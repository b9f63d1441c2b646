"""The pages about packs: their examples run, and no setting is missing."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from flyteops.document import parse_yaml
from flyteops.packs import chat, email, http, list_packs, load_pack, manifest, shell, slack, ticker
from flyteops.packs.project import Project
from flyteops.packs.slack.pack import NEEDED_SCOPES
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


@pytest.mark.slow
def test_the_packs_of_the_how_to_pass_the_tests_of_the_how_to(tmp_path: Path) -> None:
    for block in blocks("howto/write-a-pack.md"):
        first = re.match(r"# (\w+\.py)\n", block)
        assert first is not None, f"say which file this is: {block[:60]}"
        (tmp_path / first[1]).write_text(block)
    outcome = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            ".",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout
    assert "7 passed" in outcome.stdout
    for name in ("polite", "backup", "mover", "doorbell", "shouter"):
        subprocess.run(
            [sys.executable, "-W", "error", "-c", f"import {name}"], cwd=tmp_path, check=True
        )


def test_the_how_to_begins_with_what_a_new_project_holds() -> None:
    files = Project.called("Greeter").files()
    for name in ("greeter.py", "test_greeter.py"):
        (block,) = [
            block for block in blocks("howto/write-a-pack.md") if block.startswith(f"# {name}\n")
        ]
        shown, made = [
            [line for line in text.splitlines()[1:] if line] for text in (block, files[name])
        ]
        assert sorted(shown) == sorted(made)


@pytest.mark.parametrize("block", blocks("reference/sdk.md"))
def test_the_examples_of_the_reference_are_valid(block: str) -> None:
    exec(compile(block, "reference/sdk.md", "exec"), {})


def test_every_variable_is_in_the_reference() -> None:
    environment = Recorder(FLYTE_API_URL="http://flyte.test")
    Environment.read(environment)
    sdk_page = (DOCS / "reference/sdk.md").read_text()
    assert {name for name in environment.asked if f"| `{name}` |" not in sdk_page} == set()
    assert len(environment.asked) == 13


REQUIRED = {
    "FLYTE_EMAIL_IMAP_URL": "imaps://flyte@mail.example.com",
    "FLYTE_MATRIX_HOMESERVER": "https://matrix.example.org",
    "FLYTE_MATRIX_TOKEN": "x",
    "FLYTE_SLACK_TOKEN": "xoxb-1",
    "SMTPSERVER": "mail.example.com",
}
"""What packs need to have all their commands and events."""


@pytest.mark.parametrize(
    ("pack", "count"),
    [(chat, 1), (email, 12), (http, 6), (shell, 2), (slack, 6), (ticker, 1)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_variable_of_a_pack_is_on_its_page(pack: ModuleType, count: int) -> None:
    environment = Recorder(**REQUIRED)
    pack.create(environment)
    page = (DOCS / "reference/packs" / f"{pack.__name__.rpartition('.')[2]}.md").read_text()
    assert {name for name in environment.asked if f"| `{name}` |" not in page} == set()
    assert len(environment.asked) == count


@pytest.mark.parametrize("name", [pack.name for pack in list_packs() if pack.package == "flyteops"])
def test_every_command_and_event_of_a_pack_is_on_its_page(name: str) -> None:
    declaration = load_pack(name, REQUIRED).declaration()
    page = (DOCS / "reference/packs" / f"{name.lower()}.md").read_text()
    assert {
        each for each in [*declaration.commands, *declaration.events] if f"`{each}`" not in page
    } == set()
    assert f"(packs/{name.lower()}.md)" in (DOCS / "reference/packs.md").read_text()


def test_the_manifest_of_slack_has_the_scopes_that_its_events_and_commands_need() -> None:
    app = parse_yaml(manifest("Slack").encode()).value
    scopes = set(app["oauth_config"]["scopes"]["bot"])
    assert scopes >= NEEDED_SCOPES
    assert app["settings"]["socket_mode_enabled"] is True
    assert app["settings"]["interactivity"]["is_enabled"] is True
    needed = {
        "message.channels": "channels:history",
        "message.groups": "groups:history",
        "message.im": "im:history",
    }
    for event in app["settings"]["event_subscriptions"]["bot_events"]:
        assert needed.get(event, "reactions:read") in scopes
