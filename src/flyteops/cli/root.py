"""The root of the commands: loads only the requested command, and reports its outcome."""

import json
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from flyteops import __version__

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "flyte.commands"
"""The entry points by which other distributions add commands."""

NAME = re.compile(r"\w[\w.-]*")
"""Names of entry points that can be typed as a command."""

SERVER_EXTRA = 'pip install -e ".[server]"'

INTERRUPTED = 130


class CommandEntry(NamedTuple):
    """The location of a command, and its line in the list, so that the list loads no commands."""

    module: str
    attribute: str
    help: str
    section: str


TRY, RUN, SHOW, MORE, HIDDEN = (
    "Try it",
    "Run it",
    "Inspect and change the server's content",
    "More",
    "",
)

COMMANDS = {
    "dev": CommandEntry(
        "dev.command", "dev", "Start everything on this computer, and chat with it.", TRY
    ),
    "chat": CommandEntry("chat", "chat", "Talk to the flows of a server.", TRY),
    "render": CommandEntry("render", "render", "Try a template without a server.", TRY),
    "lint": CommandEntry("lint", "lint", "Check flow files without a server.", TRY),
    "schema": CommandEntry("schema", "schema", "Print the JSON Schema of flow files.", TRY),
    "serve": CommandEntry("serve", "serve", "Run the server.", RUN),
    "health": CommandEntry(
        "health", "health", "Check the health of the server on this machine.", RUN
    ),
    "backup": CommandEntry("backup", "backup", "Write the content of a store to a file.", RUN),
    "restore": CommandEntry("backup", "restore", "Load a backup into an empty store.", RUN),
    "move": CommandEntry("move", "move", "Copy the content of a store to another one.", RUN),
    "pack": CommandEntry("pack", "pack", "Run packs, and list those installed here.", RUN),
    "apply": CommandEntry("apply", "apply", "Send flow files to the server.", SHOW),
    "flows": CommandEntry("flow", "flows", "List, show and delete flows.", SHOW),
    "packs": CommandEntry(
        "pack", "packs", "List, show and delete the packs that registered.", SHOW
    ),
    "data": CommandEntry("data", "data", "List, get, set and delete datastore items.", SHOW),
    "executions": CommandEntry(
        "execution", "executions", "List and show executions of flows.", SHOW
    ),
    "actions": CommandEntry(
        "action", "actions", "List actions with their states, and resolve lost ones.", SHOW
    ),
    "send-event": CommandEntry(
        "event", "send_event", "Send an event as a pack would, and show the outcome.", SHOW
    ),
    "tokens": CommandEntry(
        "token", "tokens", "Create, list and revoke tokens for packs and people.", SHOW
    ),
    "hooks": CommandEntry(
        "hook", "hooks", "Receive webhooks from GitHub, Alertmanager and others.", SHOW
    ),
    "why": CommandEntry("why", "why", "Show why steps ran or did not run.", SHOW),
    "audit": CommandEntry(
        "audit", "audit", "Show changes and their authors, and detect tampering.", SHOW
    ),
    "auth": CommandEntry("auth", "auth", "Explain the decisions of an auth policy.", MORE),
    "version": CommandEntry(
        "version", "version", "Show the versions of this program and of the server.", MORE
    ),
    "completion": CommandEntry(
        "completion", "completion", "Print the completion script of a shell.", MORE
    ),
    "upload": CommandEntry(
        "upload", "upload", "Upload a file as the earlier command line did.", HIDDEN
    ),
}


def added_commands() -> dict[str, "EntryPoint"]:
    """Return the commands that other distributions add, by name.

    None replaces a command of Flyte.
    """
    # Slow, and most commands are found without it.
    from flyteops.entry_point import find_entry_points  # noqa: PLC0415

    points = find_entry_points(GROUP)
    return {
        point.name: point
        for point in points
        if point.name not in COMMANDS and NAME.fullmatch(point.name)
    }


def _load(point: "EntryPoint") -> click.Command:
    """Return the command at an entry point.

    Raise `ClickException` if it cannot be loaded or is not a command.
    """
    from flyteops.entry_point import distribution_of  # noqa: PLC0415 - as above

    what = f"the command `flyte {point.name}` of the distribution {distribution_of(point)}"
    try:
        command = point.load()
    except (Exception, SystemExit) as error:  # code of others
        raise click.ClickException(
            f"{what} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"{what} cannot be run: {point.value} is not a click command")
    return command


class RootGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *added_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return self._get_added(ctx, cmd_name)
        try:
            command: click.Command = getattr(
                import_module(f"flyteops.cli.{entry.module}"), entry.attribute
            )
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "flyteops":
                raise
            raise missing_module(f"flyte {cmd_name}", error) from error
        return command

    @staticmethod
    def _get_added(ctx: click.Context, name: str) -> click.Command | None:
        point = added_commands().get(name)
        try:
            return None if point is None else _load(point)
        except click.ClickException:
            if ctx.resilient_parsing:  # completion, which asks for every command
                return None
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and name not in added_commands():
            from difflib import get_close_matches  # noqa: PLC0415 - needed for a mistake only

            commands = self.list_commands(ctx)
            near = [each for each in commands if name.startswith(each)] or get_close_matches(
                name, commands, n=1, cutoff=0.5
            )
            raise click.UsageError(
                f"there is no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                ctx,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in (TRY, RUN, SHOW, MORE):
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (name, entry.help)
                        for name, entry in COMMANDS.items()
                        if entry.section == section
                    ]
                )
        added = added_commands()
        if added:
            from flyteops.entry_point import summary_of  # noqa: PLC0415 - as above

            with formatter.section("Added by other distributions"):
                formatter.write_dl([(name, summary_of(point)) for name, point in added.items()])


def missing_module(what: str, error: ModuleNotFoundError) -> click.ClickException:
    """Return the error that explains how to install a missing module."""
    return click.ClickException(
        f"`{what}` needs {SERVER_EXTRA} in the folder of Flyte's source; {error.name} is not"
        " installed"
    )


def remember_url(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Keep the address of the server for the whole command line; the last one given counts."""
    if value is not None:
        ctx.meta["url"] = value


def print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version and leave."""
    if value and not ctx.resilient_parsing:
        click.echo(f"flyte {__version__}")
        ctx.exit()


@click.command(
    cls=RootGroup,
    name="flyte",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=(
        "Start with `flyte dev`. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 server"
        " not reachable."
    ),
)
@click.option(
    "--url",
    metavar="URL",
    expose_value=False,
    callback=remember_url,
    help="The server's address; default: FLYTE_API, else http://127.0.0.1:8080.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=print_version,
    help="Show the version and exit.",
)
def root() -> None:
    """Bind your tools into workflows: if this happens in system A, do that in B."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code."""
    given = list(sys.argv[1:] if args is None else args)
    try:
        code = root.main(
            given,
            prog_name="flyte",
            standalone_mode=False,
            color=False if os.environ.get("NO_COLOR") else None,
        )
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 0
    except click.ClickException as error:
        report(error, as_json="--json" in given)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of the output has closed it. The rest of the buffer must not raise an error at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        click.echo(f"flyte: the output cannot be written: {error.strerror or error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def report(error: click.ClickException, *, as_json: bool) -> None:
    """Print an error to standard error, for people or for programs."""
    if as_json:
        click.echo(json.dumps({"error": details(error)}, ensure_ascii=False), err=True)
        return
    click.echo(click.style("flyte:", fg="red") + f" {error.format_message()}", err=True)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)


def details(error: click.ClickException) -> dict[str, Any]:
    """Return an error as JSON values."""
    code = "usage" if isinstance(error, click.UsageError) else "error"
    return {"code": code, "message": error.format_message(), **getattr(error, "details", {})}
