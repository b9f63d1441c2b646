"""`flyte torture`: see for yourself whether the promises hold."""

import tempfile
from pathlib import Path

import click

from flyteops.cli.command import Command
from flyteops.torture import Torture

MOST_SHOWN = 20


@click.command(cls=Command)
@click.option(
    "--minutes", metavar="NUMBER", type=click.FloatRange(0.05), default=1.0, show_default=True, help="How long to go on."
)
@click.option("--seed", metavar="NUMBER", type=int, default=1, show_default=True, help="What decides all that is left to chance.")
@click.option("--bug", metavar="NAME", hidden=True, help="Plant a fault, to see that it is found.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Leave the store and the server's log there.")
async def torture(minutes: float, seed: int, bug: str | None, keep: Path | None) -> None:
    """Mistreat a server of its own on a scratch store, and check that it kept its promises.

    Packs crash, hang and answer late, while the server is killed at random, frozen, starved of disk and given a wrong clock.
    Then what the clients were told is held against what the server has: every acknowledged event with its actions exactly
    once, every acknowledged result with what follows, nothing handed out twice, nothing stuck. Exit code 1 if one was broken.
    """
    with tempfile.TemporaryDirectory(prefix="flyte-torture-") as scratch:
        folder = Path(scratch) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        faults = await Torture(folder, seed=seed, bug=bug, report=click.echo).run(minutes * 60)
    for fault in faults[:MOST_SHOWN]:
        click.echo(f"BROKEN  {fault}", err=True)
    if faults:
        click.echo(f"{len(faults)} promises were broken.", err=True)
        click.get_current_context().exit(1)
    click.echo("Every promise was kept.")
