"""What a new project of a pack is called."""

import sys
from pathlib import Path

import pytest

from flyteops.document import parse_yaml
from flyteops.errors import InputError
from flyteops.flow.file import lint, read_flow
from flyteops.packs import load_pack
from flyteops.packs.project import Project
from tests.docs.blocks import blocks_of


@pytest.mark.parametrize(
    ("name", "folder", "module"),
    [
        ("Deploy App", "deploy-app", "deploy_app"),
        ("DeployApp", "deploy-app", "deploy_app"),
        ("deploy_app", "deploy-app", "deploy_app"),
        ("Grüße", "grue", "grue"),
        ("class", "class", "class_pack"),
        ("JSON", "json", "json_pack"),
        ("pytest", "pytest", "pytest_pack"),
        ("2fa", "2fa", "pack_2fa"),
        ("--  odd --", "odd", "odd"),
    ],
)
def test_odd_names_make_sane_ones(
    name: str, folder: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Project.called(name).write(tmp_path) == tmp_path / folder
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_pack(str(tmp_path / folder / f"{module}.py"), {}).name == name.strip()
    compile((tmp_path / folder / f"test_{module}.py").read_text(), "test", "exec")
    (flow,) = [
        block.text
        for block in blocks_of(tmp_path / folder / "README.md")
        if block.language == "yaml"
    ]
    document = parse_yaml(flow.encode())
    assert not lint(document, read_flow(document))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "..",
            (
                "'..' cannot be the name of a pack: it holds '.', not only letters, digits, blanks,"
                " - and _"
            ),
        ),
        (
            "a/b",
            (
                "'a/b' cannot be the name of a pack: it holds '/', not only letters, digits,"
                " blanks, - and _"
            ),
        ),
        ('a"b\n', "it holds '\"', not only letters"),
        ("", "'' has no letters from a to z"),
        ("部署", "'部署' has no letters from a to z"),
        ("123", "'123' has no letters from a to z"),
        ("x" * 61, "has 60 letters at most; this one has 61"),
    ],
)
def test_names_that_nothing_can_be_called_by_are_explained(name: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        Project.called(name)
    assert why in str(caught.value)


def test_the_data_of_a_server_tried_there_is_not_committed() -> None:
    assert ".flyte/" in Project.called("Greeter").files()[".gitignore"].splitlines()
