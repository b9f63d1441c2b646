"""`flyte send-event`: send an event in place of a pack."""

import sys
from urllib.parse import unquote

import click
import msgspec

from flyteops.cli.api import connect, decode, path
from flyteops.cli.command import FlyteCommand, json_option, url_option
from flyteops.cli.output import print_json
from flyteops.cli.why import describe_outcome
from flyteops.errors import NotFoundError
from flyteops.model import JsonValue
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.audit import AuditEvent


@click.command("send-event", cls=FlyteCommand)
@click.argument("pack_id")
@click.argument("event")
@click.argument("payload", required=False)
@click.option("--text", is_flag=True, help="Send the payload as text, even if it looks like JSON.")
@click.option(
    "--register", is_flag=True, help="Register the pack first if the server does not know it."
)
@click.option(
    "--why/--no-why",
    "explain",
    default=True,
    show_default=True,
    help="Show the decisions about the event.",
)
@url_option
@json_option
async def send_event(  # noqa: PLR0913, PLR0917 - one for each option
    pack_id: str,
    event: str,
    payload: str | None,
    text: bool,
    register: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Send an event as the pack PACK_ID would, and show which steps ran because of it.

    PAYLOAD is JSON, or else plain text; - reads it from standard input.

    \b
    flyte send-event Chat ReceivedMessage '{"message": "deploy shop 1.2"}'
    """  # noqa: D301 - click takes the backspace for "do not wrap"
    body = {"event": event, "payload": read_payload(payload, as_text=text)}
    async with connect() as client:
        location = await _send(client, pack_id, body, register=register)
        event_id = unquote(location.rstrip("/").rpartition("/")[2])
        if as_json:
            record = await client.request("GET", location) if explain and location else None
            print_json({"eventId": event_id} if record is None else record.content)
            return
        click.echo(f"sent event {event_id}" if event_id else "sent")
        if explain and location:
            answer = await client.request("GET", location)
            async for line in describe_outcome(decode(answer.content, AuditEvent)):
                click.echo(line)


def read_payload(text: str | None, *, as_text: bool = False) -> JsonValue:
    """Return a payload given as JSON or as text; None without one."""
    if text is None:
        return None
    if text == "-":
        text = sys.stdin.read()
    if as_text:
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


async def _send(client: Client, pack_id: str, body: dict[str, JsonValue], *, register: bool) -> str:
    try:
        answer = await client.request("POST", path("packs", pack_id, "events"), json=body)
    except NotFoundError:
        if not register:
            message = (
                f"there is no pack {pack_id!r}; `flyte packs list` shows the registered packs,"
                " --register adds it"
            )
            raise NotFoundError(message) from None
        await client.request(
            "POST",
            path("packs"),
            json={"name": pack_id, "events": [{"name": body["event"]}], "links": []},
        )
        answer = await client.request("POST", path("packs", pack_id, "events"), json=body)
    return str(answer.headers.get("Location", ""))
