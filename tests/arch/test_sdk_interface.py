"""The names and signatures that authors of packs use change on purpose only.

After a change on purpose, with its line in the changelog:
`.venv/bin/python -m tests.arch.test_sdk_interface >tests/data/sdk.txt`.
"""

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec

from flyteops import sdk
from flyteops.sdk import testing

PINNED = Path(__file__).parents[1] / "data" / "sdk.txt"


def interface(module: ModuleType) -> Iterator[str]:
    """A line for each public name, and for each public member of a class."""
    for name in sorted(module.__all__):
        value = getattr(module, name)
        yield f"{module.__name__}.{name}{signature(value)}"
        if isinstance(value, type):
            yield from members(value)


def members(kind: type) -> Iterator[str]:
    fields = (
        {field.name for field in msgspec.structs.fields(kind)}
        if issubclass(kind, msgspec.Struct)
        else set()
    )
    if dataclasses.is_dataclass(kind):
        fields = {field.name for field in dataclasses.fields(kind)}
    for name in sorted(name for name in dir(kind) if not name.startswith("_")):
        declared = inspect.getattr_static(kind, name)
        if name in fields:
            continue  # it is in the signature of the class
        if isinstance(declared, property):
            yield f"    .{name} -> {signature(declared.fget).rpartition(' -> ')[2]}"
        elif callable(getattr(kind, name)):
            yield f"    .{name}{signature(getattr(kind, name))}"


def signature(value: object) -> str:
    if not callable(value) or (isinstance(value, type) and issubclass(value, BaseException)):
        return ""
    try:
        return str(inspect.signature(value)).replace("pathlib._local.", "pathlib.")
    except ValueError:
        return "(...)"


def public() -> list[str]:
    return [line for module in (sdk, testing) for line in interface(module)]


def test_the_interface_of_the_sdk_is_the_pinned_one():
    assert public() == PINNED.read_text().splitlines()


def test_every_public_name_exists_once():
    for module in (sdk, testing):
        assert len(set(module.__all__)) == len(module.__all__)


if __name__ == "__main__":
    sys.stdout.write("\n".join([*public(), ""]))
