"""`flyte chat`: a chat with flows, through a room of its own."""

import asyncio
import contextlib
import logging
import os
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module

import click

from flyteops.cli.api import api_url, connect, fetch, path
from flyteops.cli.command import FlyteCommand, url_option
from flyteops.cli.dev.answer import follow, is_open, open_text, post_replies_of_other_chats, settled
from flyteops.cli.dev.conversation import Conversation
from flyteops.cli.output import clean
from flyteops.errors import NotFoundError, UnauthorizedError
from flyteops.model import PackRef, pack_id
from flyteops.packs.chat import PostStream, Room, User, pack_for, plain_lines
from flyteops.packs.chat.console import read_lines
from flyteops.sdk import Environment
from flyteops.server.signals import stop_on_signal
from flyteops.web.api.schemas.wire import PackView

WAIT = 10.0
"""Seconds for flows that were begun from a pipe to end."""

AT_WORK = timedelta(seconds=5)
"""The longest time since a connected chat pack was last seen; it asks for work all the time."""


@click.command(cls=FlyteCommand)
@click.option(
    "--name",
    metavar="NAME",
    default="Chat",
    show_default=True,
    help="The pack to impersonate, such as Slack.",
)
@click.option(
    "--channel",
    metavar="NAME",
    default="general",
    show_default=True,
    help="The channel to begin in.",
)
@click.option(
    "--user", metavar="NAME", help="The name of the speaker; default: the logged-in user."
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=WAIT,
    show_default=True,
    help="How long to wait for unfinished work after the end of piped input.",
)
@url_option
async def chat(name: str, channel: str, user: str | None, wait: float) -> None:
    """Talk to the flows of a server: typed lines become events, and messages of flows are shown.

    On a terminal there is a prompt; /help lists its commands. Otherwise each line of standard input
    is sent, and at its end the command stays until everything that these lines began has ended, for
    --wait seconds at most.
    """
    room = Room(
        user=None if user is None else User.named(user), channels=[channel.removeprefix("#")]
    )
    await run_chat(room, name, wait)


def is_interactive() -> bool:
    """Return whether input and output are terminals."""
    return sys.stdin.isatty() and sys.stdout.isatty()


async def run_chat(room: Room, name: str, wait: float) -> None:
    """Connect a room to the server as the pack of that name, and chat in it until the end."""
    if is_interactive():
        # A missing module is reported before anything else.
        import_module("flyteops.cli.dev.prompt")
    is_taken = await _is_at_work(name)
    async with stop_on_signal() as stop, joined(room, {"PACK_NAME": name}, stop) as pack:
        if is_interactive():
            place = (
                f"You are {clean(room.user.name)} in #{clean(room.channels[0].name)}, at"
                f" {api_url()}"
            )
            if is_taken:
                click.echo(
                    f"Another {clean(name)} is connected: each gets the answers to its own words;"
                    " messages that flows send to a channel by its name appear in one of the two."
                )
            click.echo(f"{place}. /help lists all commands, Ctrl-D quits.")
            await chat_at_prompt(room, pack, stop)
        else:
            await chat_through_pipe(room, pack, stop, wait)


async def _is_at_work(name: str) -> bool:
    """Return whether a pack of this name was just seen.

    Raise `UnavailableError` without a server.
    """
    async with connect() as client:
        try:
            pack = await fetch(client, path("packs", name), PackView)
        except NotFoundError:
            return False
    return (
        pack.stopped_at is None
        and datetime.now(UTC) - datetime.fromisoformat(pack.last_seen) < AT_WORK
    )


@contextlib.asynccontextmanager
async def joined(
    room: Room, environ: Mapping[str, str], stop: asyncio.Event
) -> AsyncIterator[PackRef]:
    """Connect a room to the server until `stop` is set, and yield its pack; set `stop` at the end.

    An error that breaks the connection off, such as a refusal of the server, sets `stop` and is
    raised at the end.
    """
    environment = Environment.read(
        {**_pack_variables(), "FLYTE_API": api_url(), "FLYTE_PACK_HEALTH_PORT": "off", **environ}
    )
    pack = pack_for(room)
    declaration = pack.declaration(environment)
    if not logging.getLogger().handlers:
        logging.basicConfig(format="! %(message)s", level="WARNING")
    serving = asyncio.create_task(pack.serve(environment, stop=stop))
    serving.add_done_callback(lambda _: stop.set())
    try:
        yield PackRef(
            pack_id(declaration.name, declaration.labels), declaration.name, declaration.labels
        )
    finally:
        stop.set()
        await serving


def _pack_variables() -> dict[str, str]:
    names = (
        "FLYTE_JWT",
        "FLYTE_JWT_FILE",
        "FLYTE_API_TIMEOUT",
        "FLYTE_CA_CERT_FILE",
        "FLYTE_LABELS",
    )
    impatient = {"FLYTE_PACK_POLL_INTERVAL": "100ms", "FLYTE_PACK_STOP_TIMEOUT": "1"}
    return {name: os.environ[name] for name in names if name in os.environ} | impatient


async def chat_at_prompt(room: Room, pack: PackRef, stop: asyncio.Event) -> None:
    """Run the chat of a person at a prompt."""
    # Slow to import, and pipes do without.
    from flyteops.cli.dev.prompt import chat_on_terminal  # noqa: PLC0415

    talk = Conversation(room, click.echo, echo=True)

    async def show() -> None:
        async for message in posts:
            talk.show(message)

    posts = room.posted()
    tasks = [asyncio.create_task(show()), asyncio.create_task(follow(room, pack, talk.said))]
    try:
        await chat_on_terminal(talk, stop)
    finally:
        for task in tasks:
            task.cancel()


async def chat_through_pipe(room: Room, pack: PackRef, stop: asyncio.Event, wait: float) -> None:
    """Send the lines of standard input, if it offers any, and show messages of flows.

    Return when all is done.
    """
    talk = Conversation(room, click.echo, echo=False)
    showing = asyncio.create_task(_show_plain(room.posted()))
    saying = asyncio.create_task(_say_all(talk, pack, wait) if offers_lines(0) else stop.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({saying, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if saying.done():
            saying.result()
    finally:
        for task in (showing, saying, stopped):
            task.cancel()


async def _show_plain(posts: PostStream) -> None:
    async for message in posts:
        for line in filter(str.strip, plain_lines(message)):
            click.echo(clean(line))


async def _say_all(talk: Conversation, pack: PackRef, wait: float) -> None:
    async for line in read_lines(0):
        await talk.obey(line)
        if talk.is_over:
            break
    try:
        async with connect() as client:
            actions = await settled(client, pack, talk.said, wait)
    except UnauthorizedError:
        await asyncio.sleep(wait)
        click.echo(
            f"flyte: answers of the first {wait:g} s were shown; this token may not read"
            " executions, so whether flows are still at work is not known",
            err=True,
        )
        return
    post_replies_of_other_chats(talk.room, pack, actions)
    await asyncio.sleep(0)  # lets the last messages be shown
    unfinished = [action for action in actions if is_open(action)]
    for action in unfinished:
        click.echo(f"flyte: gave up waiting for: {clean(open_text(action))}", err=True)
    if unfinished:
        click.get_current_context().exit(1)


def offers_lines(descriptor: int) -> bool:
    """Return whether a descriptor can supply lines: a pipe, file or socket, but no null device."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
