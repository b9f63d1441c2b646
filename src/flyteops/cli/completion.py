"""`flyte completion`: the script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

from flyteops.cli.command import FlyteCommand
from flyteops.cli.root import root

PLACES = {
    "bash": "in ~/.bashrc:  source <(flyte completion bash)",
    "zsh": "in ~/.zshrc:  source <(flyte completion zsh)",
    "fish": "as ~/.config/fish/completions/flyte.fish",
}


@click.command(cls=FlyteCommand)
@click.argument("shell", type=click.Choice(list(PLACES)))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash put `source <(flyte completion bash)` into ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all three
    click.echo(f"# Put this {PLACES[shell]}")
    click.echo(kind(root, {}, "flyte", "_FLYTE_COMPLETE").source())
