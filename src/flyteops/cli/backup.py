"""`flyte backup` and `flyte restore`: the contents of a store as a file."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from flyteops.cli.command import FlyteCommand
from flyteops.cli.store import ProgressDisplay, checked_store, contents
from flyteops.storage import open_store, shown
from flyteops.storage.backup import restore_backup, write_backup

STANDARD = "-"


@click.command(cls=FlyteCommand)
@click.argument("file")
@click.option(
    "--store",
    metavar="URL",
    help="The store to read; default: that of `flyte serve` in this environment and folder.",
)
async def backup(file: str, store: str | None) -> None:
    """Write all contents of a store into FILE; - is standard output.

    Servers may go on working meanwhile: the backup is the state at one moment, with everything that
    was acknowledged before the command was given. FILE is replaced when the new backup is complete,
    and not before; only its owner may read it.
    """
    url = checked_store("--store", os.environ, store, must_be_there=True)
    progress = ProgressDisplay()
    try:
        with _output(file) as out:
            tally = await write_backup(
                open_store(url, scratch=_scratch(file)), out, datetime.now(UTC), progress
            )
    finally:
        progress.end()
    click.echo(
        f"saved {shown(url)}: {contents(tally)}; checksum {tally.checkpoint.checksum[:16]}",
        err=file == STANDARD,
    )


@click.command(cls=FlyteCommand)
@click.argument("file")
@click.option(
    "--to",
    "target",
    metavar="URL",
    required=True,
    help="The store to restore to, which must be empty.",
)
async def restore(file: str, target: str) -> None:
    """Load the backup FILE into an empty store of any kind; - is standard input.

    The file is read to its end before anything is written, and refused if it is cut off or altered.
    When interrupted, the same command resumes the restore; until it has ended no server starts on
    the store.
    """
    url = checked_store("--to", {}, target, must_be_there=False)
    progress = ProgressDisplay()
    try:
        with _input(file) as source:
            tally = await restore_backup(source, open_store(url), progress)
    finally:
        progress.end()
    click.echo(
        f"restored to {shown(url)}: {contents(tally)}; checksum {tally.checkpoint.checksum[:16]}"
    )


def _scratch(name: str) -> Path:
    """Return the folder for a temporary copy of the database.

    It is beside the backup, which needs room there as well.
    """
    path = Path(name)
    if name == STANDARD or (path.exists() and not path.is_file()):
        return Path(tempfile.gettempdir())
    return path.parent


@contextlib.contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces the one of this name on success."""
    path = Path(name)
    if name == STANDARD:
        if sys.stdout.isatty():
            raise click.UsageError(
                "cannot write a backup to a terminal; give a file, or redirect the output"
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif path.exists() and not path.is_file():
        with _told("written", name), path.open("wb") as pipe:
            yield pipe
    else:
        with _told("written", name), _replacement(path) as out:
            yield out


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:  # on any failure, no part of a backup stays
        Path(name).unlink()
        raise


@contextlib.contextmanager
def _input(name: str) -> Iterator[BinaryIO]:
    """Yield a file that can be read repeatedly."""
    if name != STANDARD:
        with _told("read", name), Path(name).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield copy


@contextlib.contextmanager
def _told(done: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(
            f"{name!r} cannot be {done}: {error.strerror or error}"
        ) from error
