"""The registry of installed packs: ours, and those announced under the same entry point group."""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import msgspec

from flyteops.entry_point import distribution_of, find_entry_points
from flyteops.errors import FlyteError, InputError, NotFoundError, Problem, SettingsError
from flyteops.model import pack_id
from flyteops.packs.module import Announced, as_announced, find_announced, is_place, loading
from flyteops.sdk import Environment, Pack
from flyteops.sdk.environment import settings_error

GROUP = "flyte.packs"


class InstalledPack(msgspec.Struct, frozen=True):
    """A pack that an installed package announces; `fault` is the reason if it cannot be used."""

    name: str
    source: str
    package: str
    fault: str | None = None


def list_packs() -> list[InstalledPack]:
    """Return every announced pack, sorted by name.

    Each is imported, and one that fails does not hide the others.
    """
    return [
        InstalledPack(point.name, point.value, distribution_of(point), _fault(point))
        for point in find_entry_points(GROUP)
    ]


def load_pack(name: str, environ: Mapping[str, str]) -> Pack:
    """Return the pack of that name, with its own settings read from `environ`.

    Instead of a name, a place may be given: `module:pack`, or a file. Raise `NotFoundError` for an
    unknown name, `SettingsError` for wrong settings, and `FlyteError` when the pack cannot be
    imported. The object found is either a `Pack` or a function that makes one from the environment.
    """
    point = None if is_place(name) else _entry_point(name)
    try:
        announced = find_announced(name) if point is None else _load(point)
        return _made(announced, name, environ)
    except FlyteError:
        raise
    except (Exception, SystemExit) as error:  # code of others
        what = name if point is None else f"{name} ({point.value})"
        message = f"the pack {what} cannot be loaded: {type(error).__name__}: {error}"
        raise FlyteError(message) from error


def manifest(name: str) -> str:
    """Return the manifest of a pack, for its counterpart such as a Slack app.

    The pack is not imported. Raise `NotFoundError` for an unknown name, and for a pack without one:
    there is no `manifest.yaml` in its package.
    """
    spec = find_spec(_entry_point(name).module)
    folders = [] if spec is None else spec.submodule_search_locations or []
    file = next(
        (file for folder in folders if (file := Path(folder) / "manifest.yaml").is_file()), None
    )
    if file is None:
        message = f"the pack {name} has no manifest and needs none"
        raise NotFoundError(message)
    return file.read_text(encoding="utf-8")


def prepare(name: str, environ: Mapping[str, str]) -> tuple[Pack, Environment]:
    """Return a pack and the environment to run it in.

    One `SettingsError` reports the faults of both.
    """
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


def prepare_all(
    environs: Sequence[tuple[str, Mapping[str, str]]],
) -> list[tuple[Pack, Environment]]:
    """Prepare several packs, each with its own environment.

    One error reports all of their faults.
    """
    found: list[tuple[Pack, Environment]] = []
    problems: dict[Problem, None] = {}
    for name, environ in environs:
        try:
            found.append(prepare(name, environ))
        except SettingsError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise settings_error(list(problems))
    ids = [_id(pack, environment) for pack, environment in found]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        message = f"two packs are called {twice}; rename one of them: --name PACK=NAME"
        raise InputError(message)
    return found


def _id(pack: Pack, environment: Environment) -> str:
    declaration = pack.declaration(environment)
    return pack_id(declaration.name, declaration.labels)


def run(name: str, environ: Mapping[str, str] | None = None) -> None:
    """Run a pack as a program, as `Pack.run` does.

    An unknown or broken pack and a wrong environment exit with 2.
    """
    try:
        pack, environment = prepare(name, os.environ if environ is None else environ)
    except FlyteError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)
    pack.run(environment=environment)


def _entry_point(name: str) -> EntryPoint:
    points = {point.name: point for point in reversed(find_entry_points(GROUP))}
    if name not in points:
        raise NotFoundError(_unknown(name, sorted(points)))
    return points[name]


def _load(point: EntryPoint) -> Announced:
    with loading():
        return as_announced(point.load(), point.value)


def _made(announced: Announced, name: str, environ: Mapping[str, str]) -> Pack:
    pack: object = announced if isinstance(announced, Pack) else announced(environ)
    if isinstance(pack, Pack):
        return pack
    message = f"{name} returns {type(pack).__name__}, not a Pack"
    raise TypeError(message)


def _fault(point: EntryPoint) -> str | None:
    try:
        _load(point)
    except FlyteError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others
        return f"{type(error).__name__}: {error}"
    return None


def _unknown(name: str, known: list[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"; did you mean {by_lower[nearest[0]]}?" if nearest else "."
    return f"there is no pack {name!r}{hint} Installed: {', '.join(known) or 'none'}"
