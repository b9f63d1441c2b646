"""The command `flyte torture`."""

import tempfile
from pathlib import Path
from typing import Any

import click

from flyteops.cli.command import FlyteCommand
from flyteops.cli.store import checked_store
from flyteops.errors import ConflictError
from flyteops.storage import open_store
from flyteops_chaos import ChaosRun
from flyteops_chaos.planted import FAULTS
from flyteops_chaos.power_loss import PowerLoss, can_be_checked

MAX_SHOWN = 20


async def check_is_for_this(url: str) -> None:
    """Raise unless several servers may use the store and it is empty."""
    async with open_store(url) as store:
        if not store.is_shared:
            raise click.UsageError(
                "--store is for one that servers share; without it, an SQLite file is made for the"
                " run"
            )
        if (await store.begin_load()).records:
            raise ConflictError("The store is being loaded; name one that is empty.")
        await store.end_load()


async def lost_with_the_power(folder: Path, seed: int, bug: str | None) -> list[str]:
    """Return the losses of a power failure; empty if they cannot be determined here."""
    if not can_be_checked():
        click.echo(
            "Not checked: the loss of data in a power failure. That needs the program strace."
        )
        return []
    return await PowerLoss(folder, seed=seed, bug=bug, report=click.echo).run()


@click.command(cls=FlyteCommand)
@click.option(
    "--minutes",
    metavar="NUMBER",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    help="How long to run.",
)
@click.option(
    "--seed",
    metavar="NUMBER",
    type=int,
    default=1,
    show_default=True,
    help="The seed of all random choices.",
)
@click.option(
    "--store",
    metavar="URL",
    help="An empty store that servers share; by default, a new SQLite file.",
)
@click.option(
    "--servers",
    metavar="NUMBER",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="The number of servers; more than one needs --store.",
)
@click.option(
    "--bug",
    metavar="NAME",
    type=click.Choice(list(FAULTS)),
    hidden=True,
    help="Plant a fault, to see that it is found.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Leave the store and the server's log there.",
)
async def torture(minutes: float, keep: Path | None, store: str | None, **how: Any) -> None:
    """Inject faults into servers on a scratch store, and check the guarantees.

    Packs crash, hang, answer late and disconnect while they take an action; the server is killed at
    random, frozen, starved of disk and given a wrong clock. Of several servers on one store, two
    are killed at a time, and their clocks differ by as much as servers accept. Then the store is
    compared with the responses to the clients: every acknowledged event, call of a hook and
    scheduled time is there exactly once, every acknowledged result with all that follows from it,
    late results are kept and not applied, nothing is handed out twice or too early, nothing is
    stuck, nothing is removed too early, there is no unexpected 5xx and no traceback in a log.

    With SQLite and the program strace, the writes and syncs of another server are replayed up to
    many moments at which the power could fail. Exit code 1 if a promise was broken.
    """
    if store is not None:
        await check_is_for_this(checked_store("--store", {}, store, must_be_there=False))
    elif how["servers"] > 1:
        raise click.UsageError(
            "several servers need a store that they share; name an empty one with --store"
        )
    with tempfile.TemporaryDirectory(prefix="flyte-torture-") as scratch:
        folder = Path(scratch) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        faults = await ChaosRun(folder, store=store, report=click.echo, **how).run(minutes * 60)
        if store is None:
            faults += await lost_with_the_power(folder, how["seed"], how["bug"])
    for fault in faults[:MAX_SHOWN]:
        click.echo(f"BROKEN  {fault}", err=True)
    if faults:
        click.echo(f"{len(faults)} promises were broken.", err=True)
        click.get_current_context().exit(1)
    click.echo("Every promise was kept.")
