"""`flyte pack new`: somebody who begins to write a pack."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flyteops.packs import load_pack
from flyteops.packs.chat import Room, pack_for
from flyteops.packs.project import Project
from tests.docs.blocks import blocks_of
from tests.e2e.test_pack_pages import answer_to, running


def flyte(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flyteops", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LANG": "C.UTF-8"},
    )


@pytest.mark.slow
def test_a_new_project_is_told_of_and_its_tests_pass(tmp_path: Path) -> None:
    made = flyte("pack", "new", "Greeter", folder=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == (
        "created greeter with greeter.py, test_greeter.py, pyproject.toml, README.md, .gitignore\n"
        "\n  cd greeter\n  python -m pytest\n  flyte pack run greeter.py\n"
    )
    python = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
    ]
    tested = subprocess.run(
        python, cwd=tmp_path / "greeter", capture_output=True, text=True, check=False
    )
    assert (tested.returncode, "2 passed" in tested.stdout) == (0, True), tested.stdout


def test_a_second_project_of_the_name_changes_nothing(tmp_path: Path) -> None:
    flyte("pack", "new", "Greeter", folder=tmp_path)
    (tmp_path / "greeter" / "greeter.py").write_text("mine")
    made = flyte("pack", "new", "greeter", folder=tmp_path)
    assert (made.returncode, made.stdout, made.stderr) == (
        1,
        "",
        "flyte: greeter exists already; nothing was changed\n",
    )
    assert (tmp_path / "greeter" / "greeter.py").read_text() == "mine"


@pytest.mark.slow
async def test_the_flow_of_a_new_project_greets(server: str, tmp_path: Path) -> None:
    folder = Project.called("Deploy App").write(tmp_path)
    (flow,) = [block.text for block in blocks_of(folder / "README.md") if block.language == "yaml"]
    room = Room()
    async with running(server, flow, pack_for(room), load_pack(str(folder / "deploy_app.py"), {})):
        assert await answer_to(room, "greet me") == f"Hello {room.user.name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Greeter", "Deploy App"])
def test_a_new_project_can_be_installed(name: str, tmp_path: Path) -> None:
    flyte("pack", "new", name, folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path / "dist"),
        ".",
    ]
    subprocess.run(pip, cwd=folder, check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as contents:
        (entry_points,) = [
            each for each in contents.namelist() if each.endswith("entry_points.txt")
        ]
        module = folder.name.replace("-", "_")
        assert contents.read(entry_points).decode().split("\n")[:2] == [
            "[flyte.packs]",
            f"{name} = {module}:pack",
        ]
        assert f"{module}.py" in contents.namelist()
