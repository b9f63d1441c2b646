"""What .ci/audit takes for a fault of what we depend on."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
loader = SourceFileLoader("audit", str(ROOT / ".ci/audit"))
audit = module_from_spec(spec_from_loader("audit", loader))
loader.exec_module(audit)


def a_package(*, is_yanked=False, **metadata):
    return {"is_yanked": is_yanked, "metadata": {"name": "n", "version": "1", **metadata}}


def test_everything_is_locked_with_hashes():
    assert not [
        fault for lock in (ROOT / "requirements").glob("*.lock") for fault in audit.unlocked(lock)
    ]


@pytest.mark.parametrize(
    "line", ["click", "click>=8 --hash=sha256:00", "click==8.1", "click @ https://host/click.whl"]
)
def test_what_is_not_locked_is_a_fault(tmp_path, line):
    (tmp_path / "x.lock").write_text(f"# about\n{line}\n")
    assert len(list(audit.unlocked(tmp_path / "x.lock"))) == 1


@pytest.mark.parametrize(
    ("metadata", "faults"),
    [
        ({"license_expression": "Apache-2.0 OR GPL-3.0"}, 0),
        ({"license": "MIT\n\nPermission is hereby granted"}, 0),
        ({"classifier": ["License :: OSI Approved :: BSD License"]}, 0),
        ({"license_expression": "MIT AND GPL-3.0"}, 1),
        ({"license_expression": "AGPL-3.0-only"}, 1),
        ({}, 1),
    ],
)
def test_a_licence_must_go_with_ours(metadata, faults):
    assert len(list(audit.faults_of(a_package(**metadata), "image.lock"))) == faults


def test_what_was_withdrawn_is_a_fault():
    (fault,) = audit.faults_of(a_package(is_yanked=True), "dev.lock")
    assert fault.endswith("n 1 was withdrawn")


@pytest.mark.parametrize(
    ("told", "holes", "missed"),
    [
        (
            (
                '{"dependencies": [{"name": "n", "version": "1", "vulns": [{"id": "X-1",'
                ' "fix_versions": ["2"]}]}]}'
            ),
            1,
            "",
        ),
        ('{"dependencies": [{"name": "n", "version": "1", "vulns": []}]}', 0, ""),
        ('{"dependencies": [{"name": "n", "skip_reason": "not found"}]}', 0, "1 of 1 packages"),
        ("no connection", 0, "pip-audit ended with"),
    ],
)
def test_that_nobody_could_tell_of_holes_is_not_taken_for_none(
    tmp_path, capsys, told, holes, missed
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{told}'\n")
    python.chmod(0o755)
    assert len(list(audit.holes(str(python)))) == holes
    out = capsys.readouterr().out
    assert (missed in out) if missed else not out
