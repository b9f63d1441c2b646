"""`flyte audit`: the audit log with its authors, and its verification."""

from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import unified_diff
from typing import get_args

import click
import msgspec

from flyteops.cli.api import connect, decode, path
from flyteops.cli.command import FlyteGroup, WholeNumber, json_option, url_option
from flyteops.cli.output import clean, dim, local_time, print_json, print_table
from flyteops.cli.verify import verify
from flyteops.service.auditlog.entry import AuditEntry, Origin, ResourceKind, ResourceState
from flyteops.timeformat import format_timestamp, parse_duration


@click.group(cls=FlyteGroup)
def audit() -> None:
    """Show all changes with their authors, and detect tampering.

    Every change of a flow, datastore item, pack or token is kept, and every resolution of an action
    by a person.
    """


audit.add_command(verify)


class ChangePage(msgspec.Struct):
    """A page of changes in a response."""

    changes: list[AuditEntry]


@audit.command("changes")
@click.option(
    "--kind", type=click.Choice(get_args(ResourceKind)), help="Only changes of this kind."
)
@click.option(
    "--name", metavar="NAME", help="Only changes of the resource with this name, key or id."
)
@click.option(
    "--who",
    metavar="WHO",
    help="Only changes by this person or token (id or name), or by `server`.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Only changes since then: a duration such as 7d, or a time such as 2026-03-01T12:30.",
)
@click.option("--until", metavar="TIME", help="Only changes before then.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=WholeNumber(1, 1000),
    default=50,
    show_default=True,
    help="Maximum number, newest first.",
)
@click.option("--diff", is_flag=True, help="Show the differences made by each change.")
@url_option
@json_option
async def list_changes(  # noqa: PLR0913, PLR0917 - one for each option
    kind: str | None,
    name: str | None,
    who: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    diff: bool,
    as_json: bool,
) -> None:
    """List changes, newest first: their time, author, subject and origin."""
    wanted = {
        "kind": kind,
        "name": name,
        "who": who,
        "from": parse_time_option(since, "--since"),
        "until": parse_time_option(until, "--until"),
    }
    params = {field: value for field, value in wanted.items() if value is not None}
    async with connect() as client:
        answer = await client.request(
            "GET", path("audit", "changes"), params={**params, "limit": str(limit)}
        )
    if as_json:
        print_json(answer.content)
        return
    found = decode(answer.content, ChangePage).changes
    empty = "No change matches." if params else "Nothing has been changed yet."
    if diff and found:
        click.echo("\n\n".join("\n".join(change_lines(change)) for change in found))
        return
    print_table(
        ["change", "when", "who", "from", "what", "done"],
        [_row(change) for change in found],
        empty=empty,
    )


def parse_time_option(text: str | None, option: str) -> str | None:
    """Return the time given by an option, in the format of the API.

    A duration is before now; a time without a zone is local.
    """
    if text is None:
        return None
    try:
        at = datetime.now(UTC) - parse_duration(text)
    except (ValueError, OverflowError):
        try:
            at = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            message = (
                f"{text!r} is neither a duration such as 7d nor a time such as 2026-03-01 or"
                " 2026-03-01T12:30+01:00"
            )
            raise click.BadParameter(
                message, click.get_current_context(), param_hint=option
            ) from error
    return format_timestamp(at)


def _row(change: AuditEntry) -> list[str]:
    is_address = change.who.kind == "address"  # not to be mistaken for a token of that name
    who = str(change.who) if is_address else change.who.name or change.who.id or change.who.kind
    what = f"{change.kind} {change.name}"
    return [
        str(change.seq),
        local_time(change.time),
        who,
        change.place.address,
        what,
        _done(change),
    ]


def _done(change: AuditEntry) -> str:
    return change.action if change.about is None else f"{change.action}: {change.about}"


@audit.command("show")
@click.argument("seq", metavar="CHANGE", type=WholeNumber(1))
@url_option
@json_option
async def show_change(seq: int, as_json: bool) -> None:
    """Show a change: its author and origin, and the differences."""
    async with connect() as client:
        answer = await client.request("GET", path("audit", "changes", str(seq)))
    if as_json:
        print_json(answer.content)
        return
    for line in change_lines(decode(answer.content, AuditEntry)):
        click.echo(line)


def change_lines(change: AuditEntry) -> Iterator[str]:
    """Return a change as text for people."""
    yield clean(
        f"change {change.seq}  {local_time(change.time)}  {change.kind} {change.name}:"
        f" {_done(change)}"
    ).replace("\n", " ")
    yield f"  by    {clean(str(change.who))}"
    if where := ", ".join(_where(change.place)):
        yield f"  from  {clean(where)}"
    yield dim(f"  hash  {change.hash}")
    is_item = change.kind == "datastore"
    before, after = (
        list(_lines(state, is_item=is_item)) for state in (change.before, change.after)
    )
    for line in list(unified_diff(before, after, lineterm=""))[2:]:
        yield "  " + click.style(
            clean(line), fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        )


def _where(place: Origin) -> Iterator[str]:
    if place.address:
        yield place.address
    if place.forwarded_for:
        yield f"for {place.forwarded_for}, as it says"
    if place.agent:
        yield f"with {place.agent}"


def _lines(state: ResourceState | None, *, is_item: bool) -> Iterator[str]:
    if state is None:
        return
    if is_item:
        yield f"content type: {state.content_type}"
        if state.description:
            yield f"description: {state.description}"
    if state.is_secret:
        yield f"(a secret, encrypted as {state.sha256[:16]}...)"
    elif state.text is None:
        yield f"({state.size} bytes that are not text, SHA-256 {state.sha256})"
    else:
        yield from _readable(state).splitlines()
    if state.is_cut:
        yield f"(cut here; {state.size} bytes in all, SHA-256 {state.sha256})"


def _readable(state: ResourceState) -> str:
    """Return the text of a state; for JSON, with a line for each value."""
    text = state.text or ""
    if state.content_type != "application/json":
        return text
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    try:
        # Yaml is not part of the base install.
        from flyteops.document import to_yaml  # noqa: PLC0415
    except ModuleNotFoundError:
        return msgspec.json.format(text, indent=2)
    return to_yaml(value).decode()
