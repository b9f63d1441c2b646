"""`flyte upload`: the commands of the earlier command line, for scripts that use them."""

from pathlib import Path

import click

from flyteops.cli.api import api_url, connect, path
from flyteops.cli.command import FlyteGroup, url_option
from flyteops.cli.data import CONTENT_TYPES, UNKNOWN_TYPE, put_item, read_bytes
from flyteops.errors import InputError
from flyteops.model import DataItem

FLOW_TYPES = {
    ".json": "application/json",
    ".yaml": "application/x-yaml",
    ".yml": "application/x-yaml",
}


class UploadGroup(FlyteGroup):
    """A group that knows `ds` as well."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "datastore" if cmd_name == "ds" else cmd_name)


@click.group(cls=UploadGroup)
def upload() -> None:
    """Upload a file as the earlier command line did; `flyte apply` and `flyte data set` do more."""


@upload.command("flow")
@click.option(
    "-f",
    "--filename",
    "file",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The flow file.",
)
@click.option(
    "-c",
    "--content-type",
    metavar="TYPE",
    help="The content type; default: from the file extension.",
)
@url_option
async def upload_flow(file: Path, content_type: str | None) -> None:
    """Upload a flow."""
    kind = content_type or FLOW_TYPES.get(file.suffix.lower())
    if kind is None:
        message = "cannot upload flow: unsupported file type it must be JSON or YAML"
        raise InputError(message)
    async with connect() as client:
        answer = await client.request(
            "POST", path("flows"), content=read_bytes(file), content_type=kind
        )
    click.echo(f"Location: {answer.headers.get('Location', '')}")


@upload.command("datastore")
@click.option(
    "-f",
    "--filename",
    "file",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file.",
)
@click.option(
    "-n", "--name", metavar="KEY", help="The key; default: the file's name without its extension."
)
@click.option(
    "-d",
    "--description",
    metavar="TEXT",
    help="A description; without this option, the old one stays.",
)
@click.option(
    "-c",
    "--content-type",
    metavar="TYPE",
    help="The content type; default: from the file extension.",
)
@url_option
async def upload_datastore(
    file: Path, name: str | None, description: str | None, content_type: str | None
) -> None:
    """Upload a datastore item."""
    key = name or file.stem
    kind = content_type or CONTENT_TYPES.get(file.suffix.lower(), UNKNOWN_TYPE)
    async with connect() as client:
        await put_item(client, DataItem(key, kind, read_bytes(file)), description)
    click.echo(f"Location: {api_url().rstrip('/')}{path('datastore', key)}")
