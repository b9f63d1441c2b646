"""How installed packs are found."""

import sys
from pathlib import Path

import pytest

from flyteops.errors import FlyteError, NotFoundError, SettingsError
from flyteops.packs import list_packs, load_pack, prepare, run

ENTRY_POINTS = """\
[flyte.packs]
Greeter = greeter_for_tests:pack
Broken = broken_for_tests:pack
Wrong = greeter_for_tests:number
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with a pack that works, one that cannot be imported, and one that is none."""
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "greeter_for_tests.py").write_text("from flyteops.sdk import Pack\npack = Pack('Greeter')\nnumber = 1\n")
    (tmp_path / "broken_for_tests.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_the_packs_that_we_ship_are_found() -> None:
    assert {pack.name: pack.fault for pack in list_packs() if pack.package == "flyteops"} == {
        "Chat": None,
        "Email": None,
        "Http": None,
        "Matrix": None,
        "Shell": None,
        "Slack": None,
        "Ticker": None,
    }
    for name in ("Chat", "Http", "Shell", "Ticker"):
        assert load_pack(name, {}).name == name


@pytest.mark.usefixtures("others")
def test_a_pack_that_cannot_be_imported_is_shown_with_its_reason_and_hides_no_other() -> None:
    faults = {pack.name: pack.fault for pack in list_packs() if pack.package == "others"}
    assert faults == {
        "Broken": "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        "Greeter": None,
        "Wrong": "TypeError: greeter_for_tests:number is neither a Pack nor a function that makes one",
    }
    assert load_pack("Greeter", {}).name == "Greeter"
    with pytest.raises(FlyteError, match=r"Broken \(broken_for_tests:pack\) cannot be loaded: ModuleNotFoundError"):
        load_pack("Broken", {})


@pytest.mark.parametrize(("name", "hint"), [("shell", "Shell"), ("Tiker", "Ticker")])
def test_an_unknown_name_gets_the_nearest_right_one(name: str, hint: str) -> None:
    with pytest.raises(NotFoundError, match=f"there is no pack '{name}'; did you mean {hint}\\? Installed: .*Chat"):
        load_pack(name, {})


def test_faults_of_the_pack_and_of_the_environment_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        prepare("Shell", {"FLYTE_SHELL_TIMEOUT": "soon", "FLYTE_LABELS": "x"})
    assert [problem.path for problem in caught.value.problems] == ["FLYTE_SHELL_TIMEOUT", "FLYTE_API", "FLYTE_LABELS"]


def test_running_with_a_wrong_environment_exits_with_2_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("Shell", {})
    assert caught.value.code == 2
    assert "FLYTE_API: is not set" in capsys.readouterr().err
