"""`flyte why`: the reasons why steps ran or did not run."""

import re
from collections.abc import AsyncIterator

import click
import msgspec

from flyteops.cli.api import connect, decode, fetch, get_all, get_first, path
from flyteops.cli.command import FlyteCommand, WholeNumber, json_option, url_option
from flyteops.cli.decision import decision_lines, event_lines, no_subscribers_lines, trigger_lines
from flyteops.cli.flow import load_flows
from flyteops.cli.output import clean, print_json
from flyteops.cli.silent import merged, silent_events
from flyteops.errors import NotFoundError
from flyteops.model import Flow
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.audit import AuditEvent, AuditEventList
from flyteops.web.api.schemas.wire import FlowList, PackList, PackView

EVENT_ID = re.compile(r"[0-9a-f]{24}")


@click.command(cls=FlyteCommand)
@click.argument("subject", required=False, metavar="[EVENT_ID | FLOW]")
@click.option("--event", "event_name", metavar="NAME", help="Only events of this name.")
@click.option("--pack", metavar="NAME", help="Only events of packs of this name.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=WholeNumber(1, 1000),
    default=10,
    show_default=True,
    help="Maximum number of events, newest first.",
)
@url_option
@json_option
async def why(
    subject: str | None, event_name: str | None, pack: str | None, limit: int, as_json: bool
) -> None:
    """Explain why steps ran or did not run: for one event, for a flow, or for the latest events.

    \b
    flyte why                             the latest events, with the decisions about them
    flyte why 6923a1f09c1e55d0b7a4e2c1    one event; `flyte send-event` prints its id
    flyte why deployment                  the events about which steps of that flow were decided
    """  # noqa: D301 - click takes the backspace for "do not wrap"
    async with connect() as client:
        event = await find_event(client, subject)
        if event is None:
            await _list(
                client, subject, {"event": event_name, "packName": pack}, limit, as_json=as_json
            )
        elif as_json:
            print_json(event)
        else:
            async for line in explanation(decode(event, AuditEvent)):
                click.echo(line)


async def find_event(client: Client, subject: str | None) -> bytes | None:
    """Return the event of that id as JSON text.

    Return None if the subject is not an id, or is the name of a flow.
    """
    if subject is None or not EVENT_ID.fullmatch(subject):
        return None
    try:
        return (await client.request("GET", path("audit", "events", subject))).content
    except NotFoundError:
        if await _is_flow(client, subject):
            return None
        message = f"there is no event {subject!r}; it may have been removed for its age"
        raise NotFoundError(message) from None


async def _is_flow(client: Client, name: str) -> bool:
    try:
        await client.request("GET", path("flows", name))
    except NotFoundError:
        return False
    return True


async def explanation(event: AuditEvent) -> AsyncIterator[str]:
    """Describe an event and its outcome."""
    for line in event_lines(event):
        yield line
    async for line in describe_outcome(event):
        yield line


async def describe_outcome(event: AuditEvent) -> AsyncIterator[str]:
    """Describe the outcome of an event, and if there was none, the reason."""
    for decision in event.decisions:
        for line in decision_lines(decision):
            yield line
    if not event.decisions:
        for line in no_subscribers_lines(event.event, event.pack.name, await load_flows()):
            yield line


async def _list(
    client: Client, flow: str | None, wanted: dict[str, str | None], limit: int, *, as_json: bool
) -> None:
    params = {
        name: value for name, value in {**wanted, "flowName": flow}.items() if value is not None
    }
    content = await get_first(client, path("audit", "events"), "events", params, limit)
    found = decode(content, AuditEventList)
    silent = [] if flow is None else await silent_events(client, flow, found, wanted, limit)
    if as_json:
        print_json(msgspec.json.encode(merged(found, silent, limit)) if silent else content)
        return
    events = merged(found, silent, limit).events
    reasons = {each.event.id: each for each in silent}
    for number, event in enumerate(events):
        if number:
            click.echo()
        lines = explanation(event) if event.id not in reasons else reasons[event.id].explanation()
        async for line in lines:
            click.echo(line)
    if not found.events and not any(each.event.action_id for each in silent):
        if events:
            click.echo()
        async for line in no_events_message(
            client, flow, filtered=len(params) > (flow is not None)
        ):
            click.echo(line)


async def no_events_message(
    client: Client, flow: str | None, *, filtered: bool
) -> AsyncIterator[str]:
    """Explain why there are no events about a flow, or none at all."""
    if flow is None:
        yield (
            "No event matches."
            if filtered
            else "No event has been sent yet; `flyte send-event PACK_ID EVENT` sends one."
        )
        return
    try:
        found = await fetch(client, path("flows", flow), Flow)
    except NotFoundError:
        names = [
            each.name
            for each in decode(await get_all(client, path("flows"), "flows"), FlowList).flows
        ]
        message = (
            f"there is neither a flow nor an event {flow!r}; flows: {', '.join(names) or 'none'}"
        )
        raise NotFoundError(message) from None
    yield (
        "No event has reached a step of flow"
        f" {clean(flow)}{' that matches' if filtered else ' yet'}."
    )
    # Events that do not match may have come, so there is nothing to say about their senders.
    for line in trigger_lines(found, None if filtered else await _declared(client)):
        yield line


async def _declared(client: Client) -> list[tuple[str, list[str]]]:
    packs = decode(await get_all(client, path("packs"), "packs"), PackList).packs
    views = [await fetch(client, path("packs", pack.id), PackView) for pack in packs]
    return [
        (
            view.id,
            [event.name for event in view.events]
            + [name for each in view.commands for name in each.events],
        )
        for view in views
    ]
