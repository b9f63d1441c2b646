"""The house stays as it is drawn: the layers, the length of modules, and the lints of security."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flyteops"
PACKAGES = [SOURCE, ROOT / "chaos" / "flyteops_chaos"]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def test_every_room_imports_downwards_only():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


LONGEST_MODULE = 600


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_grows_beyond_what_a_reader_holds(path):
    assert len(path.read_text().splitlines()) < LONGEST_MODULE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_conditional_expression_stands_inside_another(path):
    nested = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for outer in ast.walk(ast.parse(path.read_text()))
        if isinstance(outer, ast.IfExp)
        for inner in ast.walk(outer)
        if isinstance(inner, ast.IfExp) and inner is not outer
    ]
    assert nested == []


SECRETS = {"token", "hash", "digest", "signature"}
# What the vault has read before and what it reads now; nobody sends either.
COMPARED = {"known.token == token"}


def test_what_somebody_could_guess_is_compared_in_constant_time():
    found = {
        ast.unparse(node)
        for room in ("service", "web")
        for path in (ROOT / "src/flyteops" / room).rglob("*.py")
        if path.parent.name != "auditlog"  # the hashes of entries are public
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        if SECRETS
        & {
            getattr(side, "attr", getattr(side, "id", ""))
            for side in (node.left, *node.comparators)
        }
    }
    assert found == COMPARED


def test_no_lint_of_security_is_switched_off_without_a_reason():
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"# noqa: [^-]*\bS\d+", line)
        and not re.search(r"# noqa: [A-Z0-9, ]+ - \w", line)
    ]
    assert not bare


WATCHES = {"monotonic", "perf_counter", "process_time"}
# Promises about time are part of what these check of real processes and servers.
TIMED = {"e2e", "contract"}


def test_no_test_asserts_how_long_something_took():
    timed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        if TIMED.isdisjoint(path.parts)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
        if any(
            isinstance(part, ast.Attribute) and part.attr in WATCHES for part in ast.walk(node.test)
        )
        if not (isinstance(node.test, ast.Compare) and ast.unparse(node.test).endswith("deadline"))
    ]
    assert timed == []


BACKENDS = {"sqlite", "postgres", "mongodb"}
# The same idea twice.
TWICE = {
    "Action": "an action, and its record in the model of edition 2",
    "Attempt": "an attempt, and its record in the model of edition 2",
    "Decision": "a decision, and its record in the model of edition 2",
    "Environment": "the settings of a pack's process, and what one rendering may use",
    "Event": "an event as it is stored, and as a pack reads it",
    "Execution": "an execution, and its record in the model of edition 2",
    "Pack": "a pack as it is registered, and as its author declares it",
    "Question": "a question to people, of the chat packs and in the model of edition 2",
    "Reaction": "a reaction to a message, in the playground and in Matrix",
    "ReceivedMessage": "the event of a message, with the fields of its chat",
    "Request": "an HTTP request that arrives, and one that the pack Http sends",
    "Response": "an HTTP response that is sent, and one that the pack Http receives",
    "SendMessage": "the input of the command, with the fields of its chat",
    "UpdateMessage": "the input of the command, with the fields of its chat",
    "User": "a person in a chat, in the playground and as flows see it",
}


def homonyms(modules):
    """The names of public classes that are defined in several modules."""
    homes = {}
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(path)
    return {name for name, paths in homes.items() if len(paths) > 1}


def test_public_classes_of_one_name_are_one_idea():
    # Nothing outside of a backend of the storage sees the classes inside.
    shared = [path for path in MODULES if BACKENDS.isdisjoint(path.parts)]
    assert homonyms(shared) == TWICE.keys()


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_backend_has_no_two_classes_of_one_name(backend):
    assert homonyms([path for path in MODULES if backend in path.parts]) == set()


def test_two_classes_of_one_name_are_found(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("class Room: pass\nclass _Room: pass\n")
    assert homonyms(tmp_path.glob("*.py")) == {"Room"}


LONGEST = 50


def long_functions(module):
    """The functions of more lines than a reader takes in at once, with their length."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length > LONGEST:
                yield f"{module.name}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_grows_beyond_what_a_reader_holds(path):
    assert list(long_functions(path)) == []


def test_a_long_function_is_found(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n" + "    x = 1\n" * LONGEST)
    assert list(long_functions(tmp_path / "a.py")) == ["a.py:1 f has 51 lines"]


UNIT = ROOT / "tests" / "unit"
# Tests of one subject that several modules of a room share.
SUBJECTS = {
    "cli/test_interrupt.py": "every command ends quietly with Ctrl-C",
    "packs/test_discovery.py": "how installed packs are found: packs/__init__.py",
    "service/test_bound.py": "what bounds the audit log and the flow versions",
    "service/test_shared.py": "two servers on one store",
    **{
        f"simulator/test_{each}.py": "the rules of edition 2, by parts of the specification"
        for each in (
            "commands",
            "dependencies",
            "failures",
            "groups",
            "limits",
            "specification",
            "triggers",
            "waits",
        )
    },
    "storage/sqlite/test_files.py": "the files of a database",
    "storage/sqlite/test_memory.py": "what the writer keeps in memory",
    "template/test_conformance.py": "the language, by cases",
}


def has_module(test):
    """Whether a unit test stands where the module or package that it tests stands in the source."""
    room = test.parent.relative_to(UNIT)
    name = test.stem.removeprefix("test_")
    home = SOURCE / room
    if room.parts[:1] == ("chaos",):
        home = ROOT / "chaos" / "flyteops_chaos" / room.relative_to("chaos")
    return (home / f"{name}.py").exists() or (home / name).is_dir()


def test_unit_tests_stand_where_their_modules_stand():
    alone = {
        test.relative_to(UNIT).as_posix()
        for test in UNIT.rglob("test_*.py")
        if not has_module(test)
    }
    assert alone == SUBJECTS.keys()
