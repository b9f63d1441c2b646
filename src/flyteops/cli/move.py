"""`flyte move`: transfer of a server to another store."""

import click

from flyteops.cli.command import FlyteCommand
from flyteops.cli.store import ProgressDisplay, checked_store, contents
from flyteops.storage import open_store, shown
from flyteops.storage.dump import move as move_all


@click.command(cls=FlyteCommand)
@click.option(
    "--from",
    "source",
    metavar="URL",
    required=True,
    help="The store to copy from; it is not changed.",
)
@click.option(
    "--to",
    "target",
    metavar="URL",
    required=True,
    help="The store to copy to, which must be empty.",
)
async def move(source: str, target: str) -> None:
    """Copy all contents of a store into another one, of the same kind or another.

    Stores are named as in FLYTE_STORE. Stop the servers first. The copy is read again and compared
    with the original. When interrupted, the same command resumes the copy; until it has ended no
    server starts on the target.
    """
    source = checked_store("--from", {}, source, must_be_there=True)
    target = checked_store("--to", {}, target, must_be_there=False)
    if source == target:
        raise click.UsageError("--from and --to name the same store")
    progress = ProgressDisplay()
    try:
        async with open_store(source) as old, open_store(target) as new:
            moved = await move_all(old, new, progress)
    finally:
        progress.end()
    click.echo(
        f"moved to {shown(target)}: {contents(moved)}; checksum {moved.checkpoint.checksum[:16]}"
    )
