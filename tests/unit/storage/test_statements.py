"""SQL in named files: what is malformed is found when it is loaded, and what is unused by a
test.
"""

import ast
import re
from pathlib import Path

import pytest

import flyteops.storage
from flyteops.storage.statements import StatementError, Statements, load_statements

STORAGE = Path(flyteops.storage.__file__).parent
FILES = sorted(STORAGE.glob("*/sql/*.sql"))


def test_a_file_is_read_by_names_without_its_comments() -> None:
    found = Statements(
        "-- About it.\n\n-- name: first\n-- why\nSELECT 1\n\n-- name: second\nSELECT\n  2\n",
        "x.sql",
    )
    assert (found.first, found.second) == ("SELECT 1", "SELECT\n  2")
    assert found.names() == {"first", "second"}


def test_a_statement_includes_an_earlier_one() -> None:
    found = Statements("-- name: part\na = 1\n-- name: whole\nSELECT '{}' WHERE {part}\n", "x.sql")
    assert found.whole == "SELECT '{}' WHERE a = 1"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SELECT 1\n-- name: a\nSELECT 1", "before the first name"),
        ("-- nothing", "no statements"),
        ("-- name: a\n-- name: b\nSELECT 1", "'a' is empty"),
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "two statements 'a'"),
        ("-- name: a\nSELECT {b}\n-- name: b\nSELECT 1", "includes 'b'"),
        ("-- name: a b\nSELECT 1", "does not name"),
        ("-- name:a\nSELECT 1", "does not name"),
    ],
)
def test_a_malformed_file_is_refused(text: str, fault: str) -> None:
    with pytest.raises(StatementError, match=fault):
        Statements(text, "x.sql")


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"no statement 'b' in x\.sql"):
        _ = Statements("-- name: a\nSELECT 1", "x.sql").b


def used_names(backend: Path, name: str) -> set[str]:
    """Return the statements of a file that the modules of its backend use."""
    used: set[str] = set()
    modules = {path.stem: ast.parse(path.read_text()) for path in backend.glob("*.py")}
    loaded = {
        stem
        for stem, tree in modules.items()
        if f"'{name}')" in ast.unparse(tree) and "load_statements" in ast.unparse(tree)
    }
    for stem, tree in modules.items():
        imports = [
            node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for each in node.names
            if each.name == "SQL"
        ]
        if stem not in loaded and not any(
            module.rpartition(".")[2] in loaded for module in imports
        ):
            continue
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "SQL"
        }
    return used


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_every_statement_is_used_and_every_used_one_exists(path: Path) -> None:
    backend = path.parent.parent
    names = load_statements(f"flyteops.storage.{backend.name}", path.stem).names()
    included = set(re.findall(r"\{(\w+)\}", path.read_text()))
    assert names - included == used_names(backend, path.stem) - included


def test_there_are_files_of_both_databases() -> None:
    assert {path.parts[-3] for path in FILES} == {"sqlite", "postgres"}


STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s+\S")
# Settings are literals there, as some proxies pass no parameters before a session is known.
BUILT = {"postgres/connector.py"}


def statements_in(module: Path) -> list[str]:
    """Return the SQL statements that stand in a module as text."""
    return [
        node.value
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STATEMENT.match(node.value)
    ]


def test_statements_stand_in_files_except_for_those_of_the_schema() -> None:
    modules = [
        path for backend in ("sqlite", "postgres") for path in (STORAGE / backend).glob("*.py")
    ]
    found = {
        path.relative_to(STORAGE).as_posix()
        for path in modules
        if path.stem != "schema" and statements_in(path)
    }
    assert found == BUILT


def test_a_statement_in_a_module_is_found(tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text('X = f"""\nSELECT 1, {1}"""\nY = "With care"\nZ = "DELETE FROM a"\n')
    assert statements_in(module) == ["DELETE FROM a", "\nSELECT 1, "]
