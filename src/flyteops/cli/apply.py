"""`flyte apply`: send flow files to the server."""

from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from flyteops.cli.api import connect, fetch, path
from flyteops.cli.command import FlyteCommand, json_option, url_option
from flyteops.cli.complaint import complaints
from flyteops.cli.output import clean, coloured, dim, print_json
from flyteops.cli.source import ReadResult, SourceCollection, collect
from flyteops.document import to_yaml
from flyteops.errors import InputError, NotFoundError, Problem, UnavailableError
from flyteops.model import Flow
from flyteops.sdk.client import Client

DIFF_LINES = 20


class ApplyResult(NamedTuple):
    """The outcome for one source: created, changed, unchanged, valid (not compared) or failed."""

    reading: ReadResult
    word: str
    problems: tuple[Problem, ...] = ()
    diff: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.reading.flow.name if self.reading.flow is not None else "-"


@click.command(cls=FlyteCommand)
@click.argument(
    "paths",
    metavar="FILE|DIRECTORY...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
)
@click.option(
    "--dry-run", is_flag=True, help="Dry run: only report what would be done; a server is optional."
)
@click.option(
    "--force",
    is_flag=True,
    help=(
        "Save a flow even if some templates cannot be parsed: their steps fail when they should"
        " run, the others work."
    ),
)
@url_option
@json_option
async def apply(paths: tuple[Path, ...], dry_run: bool, force: bool, as_json: bool) -> None:
    """Create and change flows from files of YAML or JSON; - is standard input.

    A YAML file may hold several flows, with lines of --- between them.

    In directories, *.yaml, *.yml and *.json files that hold flows are taken. All faults of a flow
    are reported at once, with file, line, column and the line itself, and do not keep the other
    flows from being applied.
    """
    collection = collect(paths, is_lenient=force)
    async with connect() as client:
        results = [
            await apply_reading(client, reading, dry_run=dry_run) for reading in collection.readings
        ]
    if as_json:
        print_json([_as_json(result) for result in results])
    else:
        _print(collection, results, dry_run=dry_run)
    if any(result.word == "failed" for result in results) or not results:
        click.get_current_context().exit(1)


async def apply_reading(
    client: Client, reading: ReadResult, *, dry_run: bool = False
) -> ApplyResult:
    """Send a flow unless the server has an identical one."""
    if reading.flow is None:
        return ApplyResult(reading, "failed", reading.problems)
    try:
        current = await fetch(client, path("flows", reading.flow.name), Flow)
    except NotFoundError:
        current = None
    except UnavailableError:
        if dry_run:
            return ApplyResult(reading, "valid")
        raise
    if current == reading.flow:
        return ApplyResult(reading, "unchanged")
    if not dry_run:
        try:
            source = reading.source
            await client.request(
                "POST", path("flows"), content=source.content, content_type=source.content_type
            )
        except InputError as error:
            return ApplyResult(reading, "failed", error.problems or (Problem("", error.message),))
    if current is None:
        return ApplyResult(reading, "created")
    return ApplyResult(reading, "changed", diff=tuple(_diff(current, reading.flow)))


def _diff(old: Flow, new: Flow) -> Iterator[str]:
    before, after = (
        to_yaml(msgspec.to_builtins(flow)).decode().splitlines() for flow in (old, new)
    )
    lines = list(unified_diff(before, after, lineterm="", n=0))[2:]
    changes = [line for line in lines if not line.startswith("@@")]
    yield from changes[:DIFF_LINES]
    if len(changes) > DIFF_LINES:
        yield f"... and {len(changes) - DIFF_LINES} lines more"


def _print(collection: SourceCollection, results: Iterable[ApplyResult], *, dry_run: bool) -> None:
    results = list(results)
    width = max((len(result.name) for result in results), default=0)
    for result in results:
        file = result.reading.source.file
        gap = " " * (9 - len(result.word))
        name = clean(result.name).ljust(width)
        click.echo(f"{coloured(result.word)}{gap}  {name}  {dim(file)}")
        for line in result.diff:
            click.echo("  " + click.style(clean(line), fg={"+": "green", "-": "red"}.get(line[:1])))
        reading = result.reading
        for line in complaints(reading.source, result.problems, reading.warnings):
            click.echo(f"  {line}", err=True)
    for other in collection.others:
        click.echo(dim(f"left out  {other} is not a flow{_as_data(other)}"), err=True)
    if not results:
        click.echo("flyte: no flows found", err=True)
    elif dry_run:
        click.echo(dim("This was a dry run; nothing was changed."), err=True)


def _as_data(file: Path) -> str:
    return (
        f"; for templates: flyte data set {file.stem} {file}"
        if file.parent.name == "datastore"
        else ""
    )


def _as_json(result: ApplyResult) -> dict[str, Any]:
    return {
        "file": result.reading.source.file,
        "flow": None if result.reading.flow is None else result.reading.flow.name,
        "result": result.word,
        "problems": result.problems,
        "warnings": result.reading.warnings,
        "diff": result.diff,
    }
