"""README and tutorial say the truth: their blocks are run, in order, in an empty folder, against
real processes.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyteops.document import parse_yaml
from flyteops.flow.file import lint, read_flow
from tests.docs.blocks import blocks_of, commands_of, matches, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path):
    """An environment with `flyte` on the path and a port of its own, and `.venv/bin` where the
    README has it.
    """
    scripts = Path(sys.executable).parent
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "PACK_"))
    }
    return kept | {
        "PATH": f"{scripts}:{kept['PATH']}",
        "FLYTE_PORT": str(port),
        "FLYTE_API": f"http://127.0.0.1:{port}",
        "FLYTE_PACK_HEALTH_PORT": "off",
        "FLYTE_PACK_POLL_INTERVAL": "200ms",
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def background(tmp_path, environment):
    """Start programs that go on; all of them end with the test."""
    started = []

    def start(line):
        log = (tmp_path / f"background-{len(started)}.log").open("w")
        started.append(
            subprocess.Popen(
                ["bash", "-c", f"exec env {line}"],
                cwd=tmp_path,
                env=environment,
                stdout=log,
                stderr=log,
            )
        )
        log.close()

    yield start
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(command, folder, environment):
    """Wait until a command succeeds: a reader would look at the other terminal."""
    deadline = time.monotonic() + 20
    while subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, f"{command} did not succeed"


def follow(page, folder, environment, background):
    for block in blocks_of(page):
        if block.info.startswith("file="):
            (folder / block.info.removeprefix("file=")).write_text(block.text)
        elif block.info == "background":
            background(block.text.strip())
            ready = "flyte packs show Shell" if "pack run" in block.text else "flyte packs list"
            wait_for(ready, folder, environment)
        elif block.language == "console":
            for command in commands_of(block):
                printed = run(command, folder, environment)
                assert matches(command.expected, printed), (
                    f"$ {command.line}\n{printed}\n--- expected ---\n{command.expected}"
                )


@pytest.mark.slow
def test_the_tutorial_can_be_followed(tmp_path, environment, background):
    follow(ROOT / "docs" / "tutorial" / "first-flow.md", tmp_path, environment, background)


@pytest.mark.slow
def test_backing_up_and_moving_can_be_followed(tmp_path, environment, background):
    follow(ROOT / "docs" / "howto" / "move-and-backup.md", tmp_path, environment, background)


@pytest.mark.slow
def test_the_how_to_about_who_changed_what_can_be_followed(tmp_path, environment, background):
    follow(
        ROOT / "docs" / "howto" / "find-out-who-changed-it.md", tmp_path, environment, background
    )


@pytest.mark.slow
def test_the_commands_for_troubleshooting_can_be_run(tmp_path, environment, background):
    follow(ROOT / "docs" / "howto" / "troubleshoot.md", tmp_path, environment, background)


@pytest.mark.slow
def test_the_how_to_about_webhooks_can_be_followed(tmp_path, environment, background):
    follow(ROOT / "docs" / "howto" / "receive-webhooks.md", tmp_path, environment, background)


@pytest.mark.slow
def test_the_how_to_about_commands_in_a_chat_can_be_followed(tmp_path, environment, background):
    background("flyte serve")
    wait_for("flyte packs list", tmp_path, environment)
    background("flyte pack run Shell")
    wait_for("flyte packs show Shell", tmp_path, environment)
    follow(ROOT / "docs" / "howto" / "chat-ops.md", tmp_path, environment, background)


@pytest.mark.slow
def test_the_readme_can_be_followed(tmp_path, environment, background):
    background("flyte serve")
    wait_for("flyte packs list", tmp_path, environment)
    background("flyte pack run Shell")
    wait_for("flyte packs show Shell", tmp_path, environment)
    follow(ROOT / "README.md", tmp_path, environment, background)
    background(".venv/bin/python greeter.py")
    wait_for("flyte packs show Greeter", tmp_path, environment)


def test_the_flow_on_the_first_screen_fits_on_it():
    flow = next(block for block in blocks_of(ROOT / "README.md") if block.language == "yaml")
    assert len(flow.text.splitlines()) <= 12


PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flows_on_pages_are_valid_and_need_no_advice(page):
    for block in blocks_of(page):
        if block.language == "yaml" and block.text.startswith("name:"):
            document = parse_yaml(block.text.encode())
            assert not lint(document, read_flow(document))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def rows_of(page):
    """Return the numbers of cells of the rows of each table of a page."""
    tables, is_code = [[]], False
    for line in page.read_text().splitlines():
        is_code ^= line.lstrip().startswith("```")
        if line.startswith("|") and not is_code:
            tables[-1].append(len(re.findall(r"(?<!\\)\|", line)))
        elif tables[-1]:
            tables.append([])
    return [rows for rows in tables if rows]


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rows_of_a_table_have_as_many_cells_as_its_head(page):
    """A bar within code begins another cell unless it is escaped."""
    assert [rows for rows in rows_of(page) if len(set(rows)) > 1] == []
