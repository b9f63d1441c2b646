"""The session of `flyte dev` once its children run: load flows and data, greet, and chat."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import click

from flyteops import __version__
from flyteops.cli.api import DEFAULT_URL, connect
from flyteops.cli.apply import apply_reading
from flyteops.cli.chat import chat_at_prompt, chat_through_pipe, is_interactive, joined
from flyteops.cli.data import chatops_problems, check_content, guess_type, put_item
from flyteops.cli.dev.hint import suggest_messages
from flyteops.cli.dev.processes import ProcessGroup
from flyteops.cli.excerpt import Excerpts
from flyteops.cli.flow import load_flows
from flyteops.cli.output import clean, dim
from flyteops.cli.source import FlowSource, ReadResult, collect, format_problem, read_content
from flyteops.errors import InputError, UnavailableError
from flyteops.model import DataItem, Flow
from flyteops.packs.chat import Room
from flyteops.sdk.client import Client

BUILT_IN = "hello.yaml"


class DevSession(NamedTuple):
    """The options: the folder of flows, packs beside the chat, the URL, and the wait of pipes."""

    flows: Path | None
    packs: Sequence[str]
    environ: Mapping[str, str]
    url: str
    wait: float


async def run_dev_session(
    processes: ProcessGroup, stop: asyncio.Event, session: DevSession
) -> None:
    """Chat until the person leaves or `stop` is set; raise if a child ends before."""
    working = asyncio.create_task(_work(processes, stop, session))
    watching = asyncio.create_task(processes.watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and isinstance(working.exception(), UnavailableError):
            # If the server has just died, its last output explains more than a failed connection.
            await asyncio.wait({watching}, timeout=1)
        (watching if watching.done() else working).result()
    finally:
        stop.set()
        for task in (watching, working):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _work(processes: ProcessGroup, stop: asyncio.Event, session: DevSession) -> None:
    async with connect() as client:
        await client.request("GET", "/health")
        for name in session.packs:
            await processes.start(name, ["pack", "run", name, "--attached"], session.environ)
        await _fill(client, session.flows)
    flows = await load_flows()
    room = Room()
    async with joined(room, {}, stop) as pack:
        click.echo(greeting(session, flows))
        if is_interactive():
            await chat_at_prompt(room, pack, stop)
        else:
            await chat_through_pipe(room, pack, stop, session.wait)


async def _fill(client: Client, directory: Path | None) -> None:
    """Send the flows and datastore items of a directory.

    Without a directory, an empty server gets an example flow.
    """
    if directory is None:
        if not await load_flows():
            await apply_reading(client, _built_in())
        return
    collection = collect([directory])
    for file, content in _data_files(directory):
        item = DataItem(file.stem, guess_type(file, content), content)
        try:
            check_content(item, is_guessed=False)
        except InputError as error:
            for problem in error.problems:
                click.echo(
                    f"flyte: {clean(format_problem(str(file), problem))}; it is not stored",
                    err=True,
                )
            continue
        await put_item(client, item)
        for problem in chatops_problems(item):
            click.echo(f"flyte: {clean(str(file))}: {clean(str(problem))}", err=True)
    for reading in collection.readings:
        result = await apply_reading(client, reading)
        excerpts = Excerpts(reading.source.content)
        for problem in result.problems:
            click.echo(f"flyte: {clean(format_problem(reading.source.file, problem))}", err=True)
            for line in excerpts.of(problem):
                click.echo(f"       {dim(line)}", err=True)


def _data_files(directory: Path) -> list[tuple[Path, bytes]]:
    return [
        (file, file.read_bytes())
        for file in sorted(directory.glob("**/datastore/*"))
        if file.is_file()
    ]


def _built_in() -> ReadResult:
    return read_content(
        FlowSource(BUILT_IN, (files("flyteops.cli") / BUILT_IN).read_bytes(), is_yaml=True)
    )


def greeting(session: DevSession, flows: Sequence[Flow]) -> str:
    """Return the greeting, with the first steps for a new user."""
    names = [flow.name for flow in flows]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    advice = f"none yet; send some with: flyte --url {session.url} apply FILE"
    lines = [
        click.style(f"Flyte {__version__} runs at {session.url}", bold=True)
        + f"  (the API, to try: {session.url}/swagger)",
        f"  packs  {', '.join(session.packs)}, Chat; data and logs are in .flyte",
        f"  flows  {clean(shown) or advice}",
    ]
    if session.url != DEFAULT_URL:
        lines.append(f"  In other terminals: export FLYTE_API={session.url}")
    words = list(suggest_messages(flows))
    if words:
        lines.append(
            "  try    " + "   or   ".join(click.style(each, fg="green") for each in words[:3])
        )
    if is_interactive():
        lines.append("  /help lists all commands; Ctrl-D stops everything.")
    return "\n".join(lines)
