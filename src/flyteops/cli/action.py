"""`flyte actions`: actions with their present states, and the resolution of lost ones."""

from typing import Any

import click
import msgspec

from flyteops.cli.api import connect, path
from flyteops.cli.command import FlyteGroup, WholeNumber, json_option, url_option
from flyteops.cli.output import clean, local_time, print_json, print_table
from flyteops.timeformat import parse_duration
from flyteops.web.api.schemas.audit import ActionStatusList, ActionStatusView

STATES = ("NEW", "PENDING", "UNKNOWN", "SUCCESS", "FATAL")
RESOLUTIONS = ("succeeded", "failed", "retry")


@click.group(cls=FlyteGroup)
def actions() -> None:
    """List actions with their present states, and resolve lost ones."""


@actions.command("list")
@click.option(
    "--overdue",
    is_flag=True,
    help="Only those that need attention: lost, or with a pack for too long.",
)
@click.option(
    "--after",
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="Age at which an action without a timeout is overdue.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only those in this state.",
)
@click.option("--flow", metavar="NAME", help="Only those of this flow.")
@click.option("--pack", metavar="NAME", help="Only those for this pack.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=WholeNumber(1, 1000),
    default=50,
    show_default=True,
    help="Maximum number, oldest first.",
)
@url_option
@json_option
async def list_actions(  # noqa: PLR0913, PLR0917 - one for each option
    overdue: bool,
    after: str,
    states: tuple[str, ...],
    flow: str | None,
    pack: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List actions, oldest first."""
    try:
        seconds = parse_duration(after).total_seconds()
    except ValueError as error:
        raise click.UsageError(f"--after: {error}", click.get_current_context()) from error
    wanted = {"state": ",".join(states) or None, "flowName": flow, "packName": pack}
    params = {name: value for name, value in wanted.items() if value is not None} | {
        "limit": str(limit)
    }
    if overdue:
        params |= {"overdue": "true", "after": f"{seconds:g}"}
    async with connect() as client:
        answer = await client.request("GET", path("actions"), params=params)
    if as_json:
        print_json(answer.content)
        return
    found = msgspec.json.decode(answer.content, type=ActionStatusList).actions
    rows = [_row(action) for action in found]
    empty = "Nothing is overdue." if overdue else "There are no such actions."
    print_table(
        ["action", "state", "since", "flow", "step", "command", "attempt", "due"], rows, empty=empty
    )


def _row(action: ActionStatusView) -> list[str]:
    labels = "".join(f" {key}={value}" for key, value in action.pack_labels.items())
    return [
        action.id,
        action.state,
        local_time(action.since),
        action.flow_name,
        action.step_id or "(no id)",
        f"{action.pack_name}{labels}: {action.name}",
        str(action.attempt),
        local_time(action.due_at) if action.due_at else "",
    ]


@actions.command("resolve")
@click.argument("action_id", metavar="ID")
@click.argument("resolution", type=click.Choice(RESOLUTIONS))
@click.option(
    "--event",
    metavar="NAME",
    help="The name of the result event; default: Resolved, or FATAL for a failure.",
)
@click.option("--payload", metavar="JSON", help="The payload of that event.")
@url_option
async def resolve(action_id: str, resolution: str, event: str | None, payload: str | None) -> None:
    """Resolve an action whose pack reports no result: it succeeded, failed, or is to be retried.

    Only for actions that are PENDING or UNKNOWN; flows go on from there.
    """
    body: dict[str, Any] = {"resolution": resolution}
    if event is not None:
        body["event"] = event
    if payload is not None:
        try:
            body["payload"] = msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            raise click.UsageError(
                f"--payload is not valid JSON: {error}", click.get_current_context()
            ) from error
    async with connect() as client:
        await client.request("POST", path("actions", action_id, "resolution"), json=body)
    done = {"succeeded": "has succeeded", "failed": "has failed", "retry": "is handed out again"}
    click.echo(f"action {clean(action_id)} {done[resolution]}")
