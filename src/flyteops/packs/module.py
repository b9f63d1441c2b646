"""Packs by the place of their code: `module:name`, or a file."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from flyteops.errors import FlyteError, NotFoundError
from flyteops.sdk import Pack
from flyteops.sdk.pack import is_loading

Announced = Pack | Callable[[Mapping[str, str]], Pack]


def is_place(name: str) -> bool:
    """Return whether a pack is given by a place, and not by its announced name."""
    return ":" in name or name.endswith(".py") or "/" in name


@contextmanager
def loading() -> Iterator[None]:
    """Import a module to find a pack in it, which must not run by that."""
    token = is_loading.set(True)
    try:
        yield
    finally:
        is_loading.reset(token)


def find_announced(place: str) -> Announced:
    """Return the object at a place.

    Raise `NotFoundError` if there is none, and any error of the import. Without a name it is the
    only pack of the module, or its function `create`.
    """
    where, _, name = place.partition(":")
    with loading():
        module = _module(where)
    if name:
        found = getattr(module, name, None)
        if found is None:
            message = f"{where} has no {name!r}{_has(module)}"
            raise NotFoundError(message)
        return as_announced(found, place)
    packs = _packs(module)
    if len(packs) > 1:
        message = (
            f"{where} has several packs; choose one:"
            f" {' or '.join(f'{where}:{each}' for each in packs)}"
        )
        raise FlyteError(message)
    found = next(iter(packs.values()), None) or getattr(module, "create", None)
    if found is None:
        message = f"{where} has neither a pack nor a function `create` that makes one"
        raise NotFoundError(message)
    return as_announced(found, place)


def as_announced(found: object, place: str) -> Announced:
    """Return the object if it is a pack or may make one; raise `TypeError` for everything else."""
    if isinstance(found, Pack) or callable(found):
        return found
    message = f"{place} is neither a Pack nor a function that makes one"
    raise TypeError(message)


def _module(where: str) -> ModuleType:
    path = Path(where)
    if path.suffix != ".py" and "/" not in where:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(where)
    if not path.is_file():
        message = f"there is no file {where}"
        raise NotFoundError(message)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for modules beside it
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        message = f"{where} is not a Python file"
        raise NotFoundError(message)
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _packs(module: ModuleType) -> dict[str, Pack]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Pack)}


def _has(module: ModuleType) -> str:
    packs = _packs(module)
    return f"; its packs: {', '.join(packs)}" if packs else ""
