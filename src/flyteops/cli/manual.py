"""The reference page of the command line, generated from the commands."""

from collections.abc import Iterator
from inspect import cleandoc

import click

from flyteops.cli.root import COMMANDS, HIDDEN, root

INTRODUCTION = """\
# The command line

`flyte COMMAND --help` shows the same in the terminal. `--url` may be given before or after the
command; without it the variable `FLYTE_API` is used, and without that `http://127.0.0.1:8080`.
`FLYTE_JWT` is sent as a bearer token, `FLYTE_CA_CERT_FILE` names further certificates to
trust, and `FLYTE_API_TIMEOUT` is in seconds. Colours are used on terminals only; `NO_COLOR`
turns them off there.

Exit codes: 0 done; 1 failed or not found; 2 wrong usage or settings; 3 the server cannot be
reached; 130 interrupted with Ctrl-C. Errors go to standard error as `flyte: ...`, one line and
then a line for each problem; with `--json` as `{"error": {"code", "message", "problems"}}`.
`flyte` and its groups alone, such as `flyte flows`, list their commands and exit with 0.

`flyte serve`, `dev`, `apply`, `render` and `audit verify` need the dependencies that
`pip install -e ".[server]"` in the folder of Flyte's source installs, and so do the prompt of
`flyte chat` (lines from a pipe do not) and `flyte flows show` without `--json`. For everything
else `pip install -e .` is enough. `flyte torture` is a distribution of its own, in the folder
`chaos`: a checkout has it, and `pip install -e ./chaos` adds it elsewhere.
"""


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield each command that is not hidden with its full name, groups before their commands."""
    context = click.Context(root, info_name="flyte")
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if command is not None and not (name in COMMANDS and COMMANDS[name].section == HIDDEN):
            yield from _with_parts(f"flyte {name}", command)


def _with_parts(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from _with_parts(f"{words} {name}", part)


def reference() -> str:
    """Return the page, in Markdown."""
    lines = [INTRODUCTION.rstrip()]
    for words, command in every_command():
        lines += ["", f"## `{words}`", "", *_description(command)]
        if not isinstance(command, click.Group):
            lines += ["", *_usage(words, command), "", *_options(command)]
    return "\n".join([*lines, ""])


def _description(command: click.Command) -> Iterator[str]:
    verbatim = False
    for line in cleandoc(command.help or "").splitlines():
        if line == "\b":
            verbatim = True
            yield "```text"
        elif verbatim and not line:
            verbatim = False
            yield from ("```", "")
        else:
            yield line
    if verbatim:
        yield "```"


def _usage(words: str, command: click.Command) -> Iterator[str]:
    pieces = command.collect_usage_pieces(click.Context(command, info_name=words))
    yield f"    {' '.join([words, *pieces])}"


def _options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            record = parameter.get_help_record(click.Context(command))
            if record is not None:
                names, meaning = record
                yield f"- `{names}`: {meaning}"
