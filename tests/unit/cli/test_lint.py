"""`flyte lint` and `flyte schema`: flow files checked without a server."""

import json
from pathlib import Path

import pytest

from flyteops.cli import main

DATA = Path(__file__).parents[2] / "data" / "flow"


@pytest.fixture
def flyte(capsys):
    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_valid_flows_of_both_editions_are_listed(flyte, tmp_path):
    first = tmp_path / "first.yaml"
    first.write_text("edition: 1\nname: first\nsteps: []\n")
    code, out, err = flyte("lint", str(first), str(DATA / "release-train.yaml"))
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["valid", "first"],
        ["valid", "release-train"],
    ]


def test_all_problems_are_shown_with_their_lines(flyte, tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text(
        "name: one\nsteps: []\n---\nedition: 2\nname: two\nsteps:\n- id: a\n  evnt: {}\n- id: 2\n"
    )
    code, out, err = flyte("lint", str(file))
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["valid", "failed"]
    assert f"{file}:8:9: steps[0].evnt: the key 'evnt' is not known; did you mean 'event'?" in err
    assert "8 |   evnt: {}\n" in err
    assert f"{file}:9:7: steps[1].id: must be text, not a number" in err


def test_advice_is_no_failure(flyte, tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("edition: 2\nname: f\nsteps:\n- {id: a, event: {packName: flyte}}\n")
    code, _, err = flyte("lint", str(file))
    assert code == 0
    assert "(warning)" in err


def test_the_result_is_json_if_wanted(flyte, tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("edition: 2\nname: f\nsteps: []\n")
    code, out, _ = flyte("lint", "--json", str(file))
    (result,) = json.loads(out)
    assert code == 1
    assert (result["edition"], result["result"]) == (2, "failed")
    assert result["problems"] == [
        {"path": "steps", "message": "must hold at least one step", "line": 3, "column": 8}
    ]


def test_an_unknown_edition_is_a_problem(flyte, tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("edition: 3\nname: f\nsteps: []\n")
    code, _, err = flyte("lint", str(file))
    assert code == 1
    assert "must be the number 1 or 2, not 3" in err


def test_a_directory_without_flows_is_reported(flyte, tmp_path):
    assert flyte("lint", str(tmp_path)) == (1, "", "flyte: no flows found\n")


def test_apply_refuses_a_flow_of_edition_2(flyte):
    code, out, err = flyte("apply", "--dry-run", str(DATA / "release-train.yaml"))
    assert code == 1
    assert out.startswith("failed")
    assert "edition 2 can be checked with flyte lint, but this server does not run it yet" in err
    assert "is ignored" not in err


@pytest.mark.parametrize("edition", ["1", "2"])
def test_the_schema_of_an_edition_is_printed(flyte, edition):
    code, out, _ = flyte("schema", "--edition", edition)
    name = {"1": "#/$defs/Edition1Flow", "2": "#/$defs/FlowDefinition"}[edition]
    assert code == 0
    assert json.loads(out)["$ref"] == name


def test_the_schema_of_both_editions_is_printed(flyte):
    _, out, _ = flyte("schema")
    assert json.loads(out)["if"]["properties"] == {"edition": {"const": 2}}
