"""`flyte lint`: check flow files without a server."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from flyteops.cli.command import FlyteCommand, json_option
from flyteops.cli.complaint import complaints
from flyteops.cli.output import clean, coloured, dim, print_json
from flyteops.cli.source import FlowSource, ReadResult, collect
from flyteops.definition import EDITION
from flyteops.errors import InputError, Problem
from flyteops.flow.edition2 import lint_definition, read_definition
from flyteops.flow.edition2.reader import edition_of
from flyteops.flow.file import parse


class CheckResult(NamedTuple):
    """The problems and warnings of one flow; `edition` is None for text that is no flow."""

    source: FlowSource
    name: str | None
    edition: int | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def word(self) -> str:
        return "failed" if self.problems else "valid"


@click.command(cls=FlyteCommand)
@click.argument(
    "paths",
    metavar="FILE|DIRECTORY...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
)
@json_option
def lint(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check flow files of both editions, and show all problems and warnings with their places.

    In directories, *.yaml, *.yml and *.json files that hold flows are checked; - is standard input.
    Flows of edition 2 are checked only: the server does not run them yet.
    """
    results = [check_reading(reading) for reading in collect(paths).readings]
    if as_json:
        print_json([_as_json(result) for result in results])
    else:
        _print(results)
    if any(result.problems for result in results) or not results:
        click.get_current_context().exit(1)


def check_reading(reading: ReadResult) -> CheckResult:
    """Return the faults of a flow of either edition."""
    source = reading.source
    name = None if reading.flow is None else reading.flow.name
    try:
        document = parse(source.content, is_yaml=source.is_yaml)
        edition = edition_of(document)
    except InputError:
        return CheckResult(source, name, None, reading.problems, reading.warnings)
    if edition != EDITION:
        return CheckResult(source, name, edition, reading.problems, reading.warnings)
    try:
        definition = read_definition(document)
    except InputError as error:
        return CheckResult(source, None, edition, error.problems)
    warnings = tuple(lint_definition(document, definition))
    return CheckResult(source, definition.name, edition, (), warnings)


def _print(results: Iterable[CheckResult]) -> None:
    results = list(results)
    width = max((len(result.name or "-") for result in results), default=0)
    for result in results:
        gap = " " * (7 - len(result.word))
        name = clean(result.name or "-").ljust(width)
        click.echo(f"{coloured(result.word)}{gap} {name}  {dim(result.source.file)}")
        for line in complaints(result.source, result.problems, result.warnings):
            click.echo(f"  {line}", err=True)
    if not results:
        click.echo("flyte: no flows found", err=True)


def _as_json(result: CheckResult) -> dict[str, Any]:
    return {
        "file": result.source.file,
        "flow": result.name,
        "edition": result.edition,
        "result": result.word,
        "problems": result.problems,
        "warnings": result.warnings,
    }
