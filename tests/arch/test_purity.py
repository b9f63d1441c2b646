"""Pure rooms stay pure: no clock, no randomness, no input or output, no log, no async, no state of
a module.

The rooms are those of the layers at and below the engine in pyproject.toml, so that a new one is
held to it from its first day. Those that cannot be pure are named here with the reason. Above the
engine, a module whose docstring says "pure" is held to its word.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flyteops"

NOT_PURE = {
    "background": "supervises tasks of the event loop",
    "entry_point": "looks for installed distributions",
    "retry": "waits, and draws its jitter",
    "sdk": "talks to the server",
    "storage": "keeps data; its rules say that they are pure, and are held to it by that",
}
OUTSIDE = {
    "asyncio",
    "concurrent",
    "httpx2",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
# Parts of such modules that have no effect and depend on nothing outside of their arguments.
HARMLESS = {
    ("io", "StringIO"),
    ("io", "BytesIO"),
    ("random", "Random"),
    ("threading", "Lock"),
    ("uuid", "UUID"),
    ("uuid", "uuid5"),
}
CLOCKS_AND_FILES = {
    "date.today",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "input",
    "open",
    "print",
}
CONTAINERS = {"bytearray", "defaultdict", "deque", "dict", "list", "set", "Counter", "OrderedDict"}
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTATORS = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "setdefault",
    "update",
}


def layers() -> list[str]:
    """The rooms of the top-level contract, from the highest layer to the lowest."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return next(contract for contract in contracts if contract["type"] == "layers")["layers"]


def pure_rooms() -> list[str]:
    names = [[room.strip() for room in layer.split("|")] for layer in layers()]
    first = next(number for number, rooms in enumerate(names) if "engine" in rooms)
    return [room for rooms in names[first:] for room in rooms]


def modules(room: str) -> list[Path]:
    file = SOURCE / f"{room}.py"
    return [file] if file.exists() else sorted((SOURCE / room).rglob("*.py"))


def says_pure(path: Path) -> bool:
    return (
        re.search(r"\bpure\b", ast.get_docstring(ast.parse(path.read_text())) or "", re.IGNORECASE)
        is not None
    )


IN_ROOMS = {path for room in pure_rooms() if room not in NOT_PURE for path in modules(room)}
PURE = sorted(IN_ROOMS | {path for path in SOURCE.rglob("*.py") if says_pure(path)})
each_pure_module = pytest.mark.parametrize(
    "path", PURE, ids=lambda path: str(path.relative_to(SOURCE))
)


def impurities(tree: ast.Module) -> Iterator[str]:
    """What keeps a module from being pure, with its line."""
    for node in ast.walk(tree):
        for fault in _faults(node):
            yield f"line {getattr(node, 'lineno', '?')}: {fault}"
    yield from _module_state(tree)


def _faults(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            yield "async"
        case ast.Import():
            yield from (
                f"import {alias.name}"
                for alias in node.names
                if alias.name.partition(".")[0] in OUTSIDE
            )
        case ast.ImportFrom(module=module) if module and module.partition(".")[0] in OUTSIDE:
            yield from (
                f"from {module} import {a.name}"
                for a in node.names
                if (module, a.name) not in HARMLESS
            )
        case ast.Call() if ast.unparse(node.func) in CLOCKS_AND_FILES:
            yield f"{ast.unparse(node.func)}()"
        case ast.Global():
            yield f"global {', '.join(node.names)}"


def _module_state(tree: ast.Module) -> Iterator[str]:
    """Containers of the module that are not written as constants, or that a function changes."""
    names = dict(_containers(tree))
    yield from (
        f"line {line}: {name} is not a constant"
        for name, line in names.items()
        if not _is_constant(name)
    )
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            yield from (
                f"line {line}: changes {name}" for name, line in _changes(function) if name in names
            )


def _containers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        value = getattr(node, "value", None)
        made = (
            isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in CONTAINERS
        )
        if made or isinstance(value, DISPLAYS):
            yield from (
                (target.id, node.lineno) for target in targets if isinstance(target, ast.Name)
            )


def _is_constant(name: str) -> bool:
    return name.isupper() or (name.startswith("__") and name.endswith("__"))


def _changes(function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """The names whose values a function changes: by an item, or by a method that changes them."""
    for node in ast.walk(function):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name, node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if (
                attribute in MUTATORS
            ):
                yield name, node.lineno


@each_pure_module
def test_pure_modules_have_no_clock_no_chance_no_effect_and_no_state(path):
    assert list(impurities(ast.parse(path.read_text()))) == []


def test_the_rooms_that_are_not_pure_exist_and_are_not_pure():
    for room in NOT_PURE:
        assert room in pure_rooms(), f"{room} is not in the layers at or below the engine"
        assert any(list(impurities(ast.parse(path.read_text()))) for path in modules(room)), (
            f"{room} is pure"
        )


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import random",
        "from os import path",
        "import logging",
        "import socket",
        "import asyncio",
        "async def f(): pass",
        "now = datetime.now()",
        "seen = []",
        "_cache: dict[str, int] = {}",
        "SEEN = set()\ndef f(x): SEEN.add(x)",
        "TABLE = {}\ndef f(x): TABLE[x] = 1",
        "TABLE = {1: 2}\ndef f(x): del TABLE[x]",
        "n = 0\ndef f():\n    global n\n    n = 1",
    ],
)
def test_each_kind_of_impurity_is_found(source):
    assert list(impurities(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    ["from random import Random", "TABLE = {1: 2}\ndef f(x): return TABLE[x]", "__all__ = ['f']"],
)
def test_tables_that_nothing_changes_are_pure(source):
    assert not list(impurities(ast.parse(source)))
