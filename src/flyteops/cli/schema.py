"""`flyte schema`: the JSON Schema of flow files."""

import click

from flyteops.cli.command import FlyteCommand
from flyteops.cli.output import print_json
from flyteops.flow.schema import flow_schema


@click.command(cls=FlyteCommand)
@click.option(
    "--edition",
    type=click.Choice(["1", "2"]),
    help="The edition; default: both, chosen by the key `edition` of a file.",
)
def schema(edition: str | None) -> None:
    """Print a JSON Schema with which an editor completes and checks flow files."""
    print_json(flow_schema(None if edition is None else int(edition)))
