"""ARCHITECTURE.md leads to places that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flyteops"
PLACE = re.compile(r"`((?:[\w-]+/)*(?:[\w-]+\.(?:py|md)|[\w-]+/))(?::([\w.]+))?`")
PLACES = PLACE.findall(
    re.sub(r"```.*?```", "", (ROOT / "ARCHITECTURE.md").read_text(), flags=re.DOTALL)
)


def located(path: str) -> Path | None:
    return next((folder / path for folder in (SOURCE, ROOT) if (folder / path).exists()), None)


def defines(tree: ast.AST, name: str) -> bool:
    """Whether a module has a function or class; `A.b` is a method of a class."""
    first, _, rest = name.partition(".")
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = next(
        (
            node
            for node in ast.iter_child_nodes(tree)
            if isinstance(node, kinds) and node.name == first
        ),
        None,
    )
    return found is not None and (not rest or defines(found, rest))


def fault(path: str, name: str) -> str | None:
    place = located(path)
    if place is None:
        return f"{path} does not exist"
    return (
        None if not name or defines(ast.parse(place.read_text()), name) else f"{path} has no {name}"
    )


def test_every_place_on_the_page_exists():
    assert [found for path, name in sorted(set(PLACES)) if (found := fault(path, name))] == []


def test_every_room_of_the_package_is_on_the_page():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = {path.partition("/")[0] for path, _ in PLACES}
    assert rooms - named == set()


def test_the_page_names_places_at_all():
    assert len(PLACES) > 50
    assert ("engine/evaluation.py", "evaluate") in PLACES


def test_a_name_that_a_module_lacks_is_found_out():
    tree = ast.parse("class A:\n  async def b(self): pass\ndef c(): pass")
    assert [name for name in ("A", "A.b", "c", "A.c", "b", "d") if not defines(tree, name)] == [
        "A.c",
        "b",
        "d",
    ]


def test_a_place_that_does_not_exist_is_found_out():
    assert fault("errors.py", "FlyteError") is None
    assert fault("errors.py", "NoError") == "errors.py has no NoError"
    assert fault("nowhere.py", "") == "nowhere.py does not exist"
