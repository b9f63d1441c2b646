"""`flyte flows`: the flows of the server."""

import asyncio
from collections.abc import Callable

import click
import msgspec

from flyteops.cli.api import connect, decode, fetch, get_all, path
from flyteops.cli.command import FlyteGroup, json_option, url_option
from flyteops.cli.output import print_json, print_table
from flyteops.model import Flow
from flyteops.web.api.schemas.wire import FlowList


@click.group(cls=FlyteGroup)
def flows() -> None:
    """List, show and delete flows. `flyte apply` creates and changes them."""


@flows.command("list")
@url_option
@json_option
async def list_flows(as_json: bool) -> None:
    """List the flows, by name."""
    async with connect() as client:
        content = await get_all(client, path("flows"), "flows")
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=FlowList).flows
    print_table(
        ["name", "description"],
        [[flow.name, flow.description] for flow in found],
        empty="There are no flows; `flyte apply FILE` sends some.",
    )


@flows.command("show")
@click.argument("name")
@url_option
@json_option
async def show_flow(name: str, as_json: bool) -> None:
    """Show a flow as YAML, ready to be changed and applied again."""
    show = print_json if as_json else _yaml_printer()
    async with connect() as client:
        show(await fetch(client, path("flows", name), Flow))


def _yaml_printer() -> Callable[[Flow], None]:
    """Return a function that prints flows.

    The import comes first, so that a missing yaml, which is not part of the base install, is
    reported before anything else.
    """
    from flyteops.document import to_yaml  # noqa: PLC0415

    return lambda flow: click.echo(to_yaml(msgspec.to_builtins(flow)), nl=False)


@flows.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@url_option
@json_option
async def delete_flows(names: tuple[str, ...], as_json: bool) -> None:
    """Delete flows. Their running executions go on, and stay in the audit."""
    async with connect() as client:
        for name in names:
            await client.request("DELETE", path("flows", name))
            if not as_json:
                click.echo(f"deleted flow {name}")
    if as_json:
        print_json({"deleted": names})


async def load_flows() -> list[Flow]:
    """Return every flow of the server."""
    async with connect() as client:
        found = decode(await get_all(client, path("flows"), "flows"), FlowList)
        return await asyncio.gather(
            *(fetch(client, path("flows", flow.name), Flow) for flow in found.flows)
        )
