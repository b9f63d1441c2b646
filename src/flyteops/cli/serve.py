"""`flyte serve`: the server, with an option for each setting."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import click
import uvloop

from flyteops.cli.command import FlyteCommand
from flyteops.server.check import checked_settings
from flyteops.server.logs import configure
from flyteops.server.run import run_server, run_workers
from flyteops.server.socket import open_listener
from flyteops.settings import default_text, option_of, table


def setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every setting."""
    for field, setting in reversed(table()):
        shown = default_text(field, setting)
        meaning = f"{setting.help}  [{setting.variable}{f'; default: {shown}' if shown else ''}]"
        function = click.option(option_of(field), field, metavar=setting.metavar, help=meaning)(
            function
        )
    return function


@click.command(cls=FlyteCommand)
@setting_options
@click.option(
    "--fd",
    type=int,
    hidden=True,
    help="Serve on an open listening socket, given as a file descriptor.",
)
@click.option("--attached", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option(
    "--worker",
    is_flag=True,
    hidden=True,
    help="Share the port with other processes, and report when it listens.",
)
def serve(fd: int | None, attached: bool, worker: bool, **given: str | None) -> None:
    """Run the server until SIGTERM or SIGINT.

    SIGHUP loads certificates, the auth policy and the issuer's keys again, SIGUSR1 opens the log
    file again.

    Every option is also a setting in the environment, named in brackets; the option takes
    precedence.
    """
    overrides = {field: value for field, value in given.items() if value is not None}
    settings = checked_settings(os.environ, overrides)
    configure(settings)
    if settings.workers > 1 and fd is None and not worker:
        environ = os.environ | {
            setting.variable: overrides[field] for field, setting in table() if field in overrides
        }
        click.get_current_context().exit(run_workers(settings, environ))
    listener = (
        socket.socket(fileno=fd)
        if fd is not None
        else open_listener(settings.host, settings.port, shares=worker)
    )
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_server(settings, listener, attached=attached, worker=worker))
