"""Find the packs that are installed: those we ship, and all that others announce under the same entry point group."""

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import msgspec

from flyteops.errors import FlyteError, NotFoundError, Problem, SettingsError
from flyteops.sdk import Environment, Pack
from flyteops.sdk.environment import settings_error

GROUP = "flyte.packs"


class InstalledPack(msgspec.Struct, frozen=True):
    """A pack that some installed package announces; `fault` says why it cannot be used, if so."""

    name: str
    source: str
    package: str
    fault: str | None = None


def list_packs() -> list[InstalledPack]:
    """Return every announced pack, sorted by name; each is imported, and one that fails does not hide the others."""
    return [
        InstalledPack(point.name, point.value, "" if point.dist is None else point.dist.name, _fault(point))
        for point in _entry_points()
    ]


def load_pack(name: str, environ: Mapping[str, str]) -> Pack:
    """Return the pack of that name, with its own settings read from `environ`.

    Raise `NotFoundError` for an unknown name, `SettingsError` for wrong settings, and `FlyteError` when the pack cannot
    be imported. An entry point names either a `Pack` or a function that makes one from the environment.
    """
    point = _entry_point(name)
    try:
        announced = _load(point)
        return announced if isinstance(announced, Pack) else announced(environ)
    except FlyteError:
        raise
    except Exception as error:  # code of others
        message = f"the pack {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        raise FlyteError(message) from error


def manifest(name: str) -> str:
    """Return the manifest of a pack: what its other side, such as an app of Slack, is made from. The pack is not imported.

    Raise `NotFoundError` for an unknown name, and for a pack without one: there is no `manifest.yaml` in its package.
    """
    spec = find_spec(_entry_point(name).module)
    folders = [] if spec is None else spec.submodule_search_locations or []
    file = next((file for folder in folders if (file := Path(folder) / "manifest.yaml").is_file()), None)
    if file is None:
        message = f"the pack {name} has no manifest, for it needs none"
        raise NotFoundError(message)
    return file.read_text(encoding="utf-8")


def prepare(name: str, environ: Mapping[str, str]) -> tuple[Pack, Environment]:
    """Return a pack and the environment to run it in; one `SettingsError` tells the faults of both."""
    problems: list[Problem] = []
    pack = environment = None
    try:
        pack = load_pack(name, environ)
    except SettingsError as error:
        problems.extend(error.problems)
    try:
        environment = Environment.read(environ)
    except SettingsError as error:
        problems.extend(error.problems)
    if pack is None or environment is None:
        raise settings_error(problems)
    return pack, environment


def run(name: str, environ: Mapping[str, str] | None = None) -> None:
    """Run a pack as a program, as `Pack.run` does; an unknown or broken pack and a wrong environment exit with 2."""
    try:
        pack, environment = prepare(name, os.environ if environ is None else environ)
    except FlyteError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)
    pack.run(environment=environment)


def _entry_points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _entry_point(name: str) -> EntryPoint:
    points = {point.name: point for point in reversed(_entry_points())}
    if name not in points:
        raise NotFoundError(_unknown(name, sorted(points)))
    return points[name]


def _load(point: EntryPoint) -> Pack | Callable[[Mapping[str, str]], Pack]:
    announced: object = point.load()
    if isinstance(announced, Pack) or callable(announced):
        return announced
    message = f"{point.value} is neither a Pack nor a function that makes one"
    raise TypeError(message)


def _fault(point: EntryPoint) -> str | None:
    try:
        _load(point)
    except FlyteError as error:
        return str(error)
    except Exception as error:  # code of others
        return f"{type(error).__name__}: {error}"
    return None


def _unknown(name: str, known: list[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"; did you mean {by_lower[nearest[0]]}?" if nearest else "."
    return f"there is no pack {name!r}{hint} Installed: {', '.join(known) or 'none'}"
