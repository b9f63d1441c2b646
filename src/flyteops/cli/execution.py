"""`flyte executions`: runs of flows, with their steps."""

from datetime import datetime

import click
import msgspec

from flyteops.cli.api import connect, decode, path
from flyteops.cli.command import FlyteGroup, WholeNumber, json_option, url_option
from flyteops.cli.output import (
    clean,
    coloured,
    dim,
    local_time,
    one_line,
    print_json,
    print_table,
    value_text,
)
from flyteops.errors import NotFoundError, UnauthorizedError
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.audit import EventView, RunAction, RunView


class ExecutionListing(msgspec.Struct):
    """A list of executions; `flows` is their name in JSON output, as scripts expect it."""

    flows: list[RunView]


@click.group(cls=FlyteGroup)
def executions() -> None:
    """List and show executions: runs of flows, each begun by one event."""


@executions.command("list")
@click.option("--flow", metavar="NAME", help="Only those of this flow.")
@click.option("--step", metavar="ID", help="Only those in which this step ran.")
@click.option("--action", metavar="COMMAND", help="Only those with an action of this command.")
@click.option("--pack", metavar="NAME", help="Only those with an action for this pack.")
@click.option(
    "--label",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    help="Only those with an action for packs with this label.",
)
@click.option(
    "--limit",
    metavar="NUMBER",
    type=WholeNumber(1, 1000),
    default=20,
    show_default=True,
    help="Maximum number, latest first.",
)
@url_option
@json_option
async def list_executions(  # noqa: PLR0913, PLR0917 - one for each option
    flow: str | None,
    step: str | None,
    action: str | None,
    pack: str | None,
    labels: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """List executions, latest activity first. All filters must hold for one and the same action."""
    wanted = {
        "flowName": flow,
        "stepId": step,
        "actionName": action,
        "actionPackName": pack,
        "actionPackLabels": _labels(labels),
    }
    params = {name: value for name, value in wanted.items() if value is not None}
    async with connect() as client:
        content = await _list(client, {**params, "limit": str(limit)})
    if as_json:
        print_json(content)
        return
    found = decode(content, ExecutionListing).flows
    empty = (
        "No execution matches."
        if params
        else "No flow has run yet; `flyte why` explains the decisions about events."
    )
    print_table(
        ["execution", "flow", "last activity", "steps"],
        [_row(execution) for execution in found],
        empty=empty,
    )


async def _list(client: Client, params: dict[str, str]) -> bytes:
    """Return executions as JSON.

    From an older server, or if the auth policy denies the new path, they lack outcomes.
    """
    try:
        content = (await client.request("GET", path("executions"), params=params)).content
    except (NotFoundError, UnauthorizedError):
        return (await client.request("GET", path("audit", "flows"), params=params)).content
    answer = decode(content, dict[str, msgspec.Raw])
    return msgspec.json.encode(
        {"flows" if key == "executions" else key: value for key, value in answer.items()}
    )


async def _get(client: Client, execution_id: str) -> bytes:
    try:
        return (await client.request("GET", path("executions", execution_id))).content
    except (NotFoundError, UnauthorizedError):
        return (await client.request("GET", path("audit", "flows", execution_id))).content


def _labels(labels: tuple[str, ...]) -> str | None:
    for label in labels:
        if not label.partition("=")[2]:
            raise click.UsageError(
                f"--label {label!r} is not of the form KEY=VALUE", click.get_current_context()
            )
    return ",".join(label.replace("=", ":", 1) for label in labels) or None


def _row(execution: RunView) -> list[str]:
    actions = list(execution.actions.values())
    latest = max((action.state.time for action in actions), key=datetime.fromisoformat, default="")
    steps = ", ".join(f"{action.step_id or '(no id)'} {_ending(action)}" for action in actions)
    return [execution.correlation_id, execution.name, local_time(latest) if latest else "", steps]


@executions.command("show")
@click.argument("execution_id", metavar="ID")
@url_option
@json_option
async def show_execution(execution_id: str, as_json: bool) -> None:
    """Show an execution: its trigger, and each step with its states, input and result."""
    async with connect() as client:
        content = await _get(client, execution_id)
    if as_json:
        print_json(content)
        return
    for line in execution_lines(decode(content, RunView)):
        click.echo(line)


def execution_lines(execution: RunView) -> list[str]:
    """Return an execution as text for people."""
    actions = sorted(
        execution.actions.values(), key=lambda action: datetime.fromisoformat(action.states[0].time)
    )
    lines = [f"execution {execution.correlation_id} of flow {clean(execution.name)}"]
    if actions:
        began = actions[0].trigger
        lines.append(f"  began {local_time(began.received_at)} with {_event(began)}")
    context: dict[str, str] = {}
    for action in actions:
        lines += ["", *_action_lines(action, context)]
        context = action.context
    waiting = [step.id or "(no id)" for step in execution.steps if step.id not in execution.actions]
    if waiting:
        lines += [
            "",
            dim(
                f"  did not run: {clean(', '.join(waiting))}  (flyte why {clean(execution.name)}"
                " tells why)"
            ),
        ]
    return lines


def _action_lines(action: RunAction, context: dict[str, str]) -> list[str]:
    labels = "".join(f" {key}={value}" for key, value in action.pack_labels.items())
    head = (
        f"  {clean(action.step_id) or '(no id)'}: {clean(action.name)} by pack"
        f" {clean(action.pack_name + labels)}"
    )
    lines = [f"{head}  {_coloured_ending(action)}", f"    states  {_times(action)}"]
    new = {key: value for key, value in action.context.items() if context.get(key) != value}
    lines += [f"    context {clean(key)} = {one_line(value, 300)}" for key, value in new.items()]
    lines += _block("input", value_text(action.input, 2000))
    if action.ended_by is not None:
        lines += _block("result", _event(action.ended_by))
    for attempt in action.attempts:
        lost = f", lost {local_time(attempt.lost_at)}" if attempt.lost_at else ""
        lines += _block(
            "attempt",
            f"{attempt.number} by pack {clean(attempt.pack_id)} at"
            f" {local_time(attempt.taken_at)}{lost}",
        )
        if attempt.late_result is not None:
            lines += _block("late", f"not applied: {_event(attempt.late_result)}")
    return lines


def _ending(action: RunAction) -> str:
    """Return the state and the event of the result: SUCCESS may be a message that was not sent."""
    result = action.ended_by
    if result is None or result.event == action.state.value:
        return action.state.value
    mark = ", failure" if action.outcome == "FAILED" else ""
    return f"{action.state.value} ({result.event}{mark})"


def _coloured_ending(action: RunAction) -> str:
    text = clean(_ending(action))
    if action.outcome == "FAILED":
        return click.style(text, fg="red")
    return coloured(action.state.value) + text.removeprefix(action.state.value)


def _times(action: RunAction) -> str:
    first = datetime.fromisoformat(action.states[0].time)
    parts = [f"{action.states[0].value} {local_time(action.states[0].time)}"]
    parts += [
        f"{state.value} after {(datetime.fromisoformat(state.time) - first).total_seconds():.3f} s"
        for state in action.states[1:]
    ]
    return ", ".join(parts)


def _event(event: EventView) -> str:
    payload = value_text(event.payload, 2000)
    return clean(f"{event.event} of pack {event.pack.id}") + (f": {payload}" if payload else "")


def _block(title: str, text: str) -> list[str]:
    return [f"    {title:<7} {text}"] if text else []
