"""`flyte version`: the versions of this program and of the server."""

import click

from flyteops import __version__
from flyteops.cli.api import api_url, connect, decode
from flyteops.cli.command import FlyteCommand, json_option, url_option
from flyteops.cli.output import print_json
from flyteops.errors import UnavailableError


@click.command(cls=FlyteCommand)
@url_option
@json_option
async def version(as_json: bool) -> None:
    """Show the version of this program, and the address and version of the server if reachable."""
    url, server = api_url(), None
    try:
        async with connect() as client:
            answer = await client.request("GET", "/v1/swagger")
        info = decode(answer.content, dict).get("info")
        server = str(info.get("version", "unknown")) if isinstance(info, dict) else "unknown"
    except UnavailableError:
        pass
    if as_json:
        print_json({"client": __version__, "api": "v1", "url": url, "server": server})
        return
    click.echo(f"Client version:  {__version__}\nAPI version:     v1\nAPI URL:         {url}")
    click.echo(f"Server version:  {server or 'not reachable'}")
