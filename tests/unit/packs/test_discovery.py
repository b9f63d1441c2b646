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
    """Install a package with a pack that works, one that cannot be imported, and one that is
    none.
    """
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "greeter_for_tests.py").write_text(
        "from flyteops.sdk import Pack\npack = Pack('Greeter')\nnumber = 1\n"
    )
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
        "Wrong": (
            "TypeError: greeter_for_tests:number is neither a Pack nor a function that makes one"
        ),
    }
    assert load_pack("Greeter", {}).name == "Greeter"
    with pytest.raises(
        FlyteError, match=r"Broken \(broken_for_tests:pack\) cannot be loaded: ModuleNotFoundError"
    ):
        load_pack("Broken", {})


@pytest.mark.parametrize(("name", "hint"), [("shell", "Shell"), ("Tiker", "Ticker")])
def test_an_unknown_name_gets_the_nearest_right_one(name: str, hint: str) -> None:
    with pytest.raises(
        NotFoundError, match=f"there is no pack '{name}'; did you mean {hint}\\? Installed: .*Chat"
    ):
        load_pack(name, {})


def test_faults_of_the_pack_and_of_the_environment_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        prepare("Shell", {"FLYTE_SHELL_TIMEOUT": "soon", "FLYTE_LABELS": "x"})
    assert [problem.path for problem in caught.value.problems] == [
        "FLYTE_SHELL_TIMEOUT",
        "FLYTE_API",
        "FLYTE_LABELS",
    ]


MODULE = """
from flyteops.sdk import Pack
{body}
"""

ONE = "pack = Pack('Greeter')"
TWO = "one, two = Pack('One'), Pack('Two')"
CREATE = "def create(environ): return Pack(environ['HERE'])"


@pytest.mark.parametrize(
    ("body", "name", "found"),
    [
        (ONE, "", "Greeter"),
        (ONE, ":pack", "Greeter"),
        (TWO, ":two", "Two"),
        (CREATE, "", "Made"),
        (CREATE, ":create", "Made"),
    ],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_a_pack_is_found_at_the_place_of_its_code(
    body: str, name: str, found: str, is_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"found_{abs(hash((body, name)))}_{is_file}"
    (tmp_path / f"{module}.py").write_text(MODULE.format(body=body))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    place = (
        f"./{module}.py{name}"
        if is_file
        else f"{module}{name or (':pack' if body == ONE else ':create')}"
    )
    assert load_pack(place, {"HERE": "Made"}).name == found


@pytest.mark.parametrize(
    ("body", "place", "why"),
    [
        (ONE, "./no_such.py", "there is no file ./no_such.py"),
        (
            ONE,
            "no_such_module:pack",
            (
                "the pack no_such_module:pack cannot be loaded: ModuleNotFoundError: No module"
                " named 'no_such_mo"
            ),
        ),
        (ONE, "{module}.py:paket", "{module}.py has no 'paket'; its packs: pack"),
        (
            TWO,
            "{module}.py",
            "{module}.py has several packs; choose one: {module}.py:one or {module}.py:two",
        ),
        (
            "",
            "{module}.py",
            "{module}.py has neither a pack nor a function `create` that makes one",
        ),
        (
            "number = 1",
            "{module}.py:number",
            "TypeError: {module}.py:number is neither a Pack nor a function that makes one",
        ),
        (
            "def create(environ): return 1",
            "{module}.py",
            "TypeError: {module}.py returns int, not a Pack",
        ),
        (
            f"{ONE}; pack.run()",
            "{module}.py",
            'put `pack.run()` below `if __name__ == "__main__":`',
        ),
        (
            "1 / 0",
            "{module}.py",
            "the pack {module}.py cannot be loaded: ZeroDivisionError: division by zero",
        ),
        (
            "def",
            "{module}.py",
            "the pack {module}.py cannot be loaded: SyntaxError: invalid syntax",
        ),
    ],
)
def test_a_place_without_a_pack_is_explained(
    body: str, place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"absent_{abs(hash((body, place)))}"
    (tmp_path / f"{module}.py").write_text(MODULE.format(body=body))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlyteError) as caught:
        load_pack(place.format(module=module), {})
    assert why.format(module=module) in str(caught.value)


def test_running_with_a_wrong_environment_exits_with_2_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run("Shell", {})
    assert caught.value.code == 2
    assert "FLYTE_API: is not set" in capsys.readouterr().err
