"""`flyte hooks`: addresses for calls of GitHub, Alertmanager and others, which become events."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from flyteops.cli.api import connect, decode, fetch, path
from flyteops.cli.command import FlyteGroup, json_option, url_option
from flyteops.cli.data import CONTENT_TYPES, read_bytes
from flyteops.cli.output import (
    clean,
    coloured,
    dim,
    format_ago,
    local_time,
    print_json,
    print_table,
)
from flyteops.cli.why import describe_outcome
from flyteops.errors import NotFoundError
from flyteops.sdk.client import Client
from flyteops.service.hook.signing import Scheme
from flyteops.service.hook.vendor import GENERIC, VENDORS
from flyteops.web.api.hook import (
    KEEP_OLD,
    HookCallList,
    HookCallView,
    HookDefinition,
    HookList,
    HookView,
    NewHook,
    RotateSecretRequest,
)
from flyteops.web.api.schemas.audit import AuditEvent

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=FlyteGroup)
def hooks() -> None:
    """Receive calls of GitHub, GitLab, Alertmanager, PagerDuty, Stripe and others, and show them.

    A call becomes an event of the pack Webhook with the name of the hook. The page /hooks shows the
    last calls.
    """


def secret_file_option(function: F) -> F:
    """Add `--secret-file`."""
    return click.option(
        "--secret-file",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Read the secret from this file (- is standard input) instead of generating one.",
    )(function)


@hooks.command("create")
@click.argument("name")
@click.option(
    "--vendor",
    type=click.Choice(list(VENDORS)),
    default=GENERIC,
    show_default=True,
    help="Who calls.",
)
@click.option(
    "--scheme",
    type=click.Choice(get_args(Scheme)),
    help="How callers authenticate; default: as the vendor does it.",
)
@click.option("--header", metavar="NAME", help="The header with the signature or the secret.")
@click.option("--prefix", metavar="TEXT", help="The prefix of the signature, such as sha256=.")
@click.option("--algorithm", metavar="NAME", help="The digest: sha256, sha512 or sha1.")
@click.option("--encoding", metavar="NAME", help="The encoding of the signature: hex or base64.")
@click.option(
    "--timestamp-header",
    metavar="NAME",
    help="The header with the timestamp that is signed with the body.",
)
@click.option("--username", metavar="NAME", help="The user name for Basic authentication.")
@click.option(
    "--window", metavar="DURATION", help="Maximum age of a signed timestamp; default: 5m."
)
@click.option(
    "--signed",
    metavar="PATTERN",
    help="The signed content, from {timestamp}, {id} and {body}: v0:{timestamp}:{body}.",
)
@click.option(
    "--timestamp-prefix",
    metavar="TEXT",
    help="The prefix of the timestamp in its header, such as t=.",
)
@click.option(
    "--timestamp-field",
    metavar="PATH",
    help="The field of the signed JSON body with the timestamp.",
)
@click.option(
    "--timestamp-format",
    metavar="NAME",
    help="The format of the timestamp: seconds, milliseconds or iso8601.",
)
@click.option(
    "--secret-encoding", metavar="NAME", help="The encoding of the secret: text, hex or base64."
)
@click.option(
    "--delivery-header",
    metavar="NAME",
    help="The header with the delivery id, by which repeated calls are detected.",
)
@click.option(
    "--delivery-field",
    metavar="PATH",
    help="The field of the JSON body with the delivery id, such as event.id.",
)
@click.option(
    "--secret-limit",
    type=int,
    metavar="NUMBER",
    help="Maximum number of secrets valid at a time; default: 2.",
)
@click.option("--description", metavar="TEXT", default="", help="A description.")
@secret_file_option
@url_option
@json_option
async def create_hook(name: str, secret_file: Path | None, as_json: bool, **settings: Any) -> None:
    """Create a hook, and print the address and the secret to enter at its vendor.

    The secret is not shown again. For example:

    flyte hooks create github --vendor github
    """
    order = HookDefinition(name=name, secret=read_secret(secret_file), **settings)
    async with connect() as client:
        answer = await client.request("POST", path("hooks"), json=order)
    show_new(answer.content, as_json=as_json)


def read_secret(file: Path | None) -> str | None:
    """Return the secret in a file, without the end of its line; None without a file."""
    if file is None:
        return None
    try:
        return read_bytes(file).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        message = "the file is not text"
        raise click.BadParameter(
            message, click.get_current_context(), param_hint="--secret-file"
        ) from error


def show_new(content: bytes, *, as_json: bool) -> None:
    """Print a hook with its new secret."""
    if as_json:
        print_json(content)
        return
    hook = decode(content, NewHook)
    click.echo(f"url     {hook.url}")
    if hook.secret is not None:
        click.echo(f"secret  {hook.secret}")
        click.echo("The secret is not shown again.", err=True)
    for warning in hook.warnings:
        click.echo(clean(f"Warning: {warning}"), err=True)


@hooks.command("list")
@url_option
@json_option
async def list_hooks(as_json: bool) -> None:
    """List the hooks."""
    async with connect() as client:
        answer = await client.request("GET", path("hooks"))
    if as_json:
        print_json(answer.content)
        return
    rows = [
        [hook.name, hook.vendor, hook.scheme, hook.url, hook.description]
        for hook in decode(answer.content, HookList).hooks
    ]
    print_table(
        ["name", "vendor", "scheme", "url", "description"],
        rows,
        empty="No hooks; create one with `flyte hooks create`.",
    )


@hooks.command("show")
@click.argument("name")
@url_option
@json_option
async def show_hook(name: str, as_json: bool) -> None:
    """Show a hook, without its secret."""
    async with connect() as client:
        answer = await client.request("GET", path("hooks", name))
    if as_json:
        print_json(answer.content)
        return
    hook = decode(answer.content, HookView)
    for word, value in hook_words(hook):
        if value:
            click.echo(clean(f"{word:<10} {value}"))


def hook_words(hook: HookView) -> Iterator[tuple[str, str]]:
    """Yield the labelled settings of a hook; some may be empty."""
    yield "url", hook.url
    yield "vendor", hook.vendor
    yield "scheme", hook.scheme
    yield "header", hook.header
    yield "prefix", hook.prefix
    yield "algorithm", " ".join(filter(None, [hook.algorithm, hook.encoding]))
    yield "time in", hook.timestamp_header
    yield "user name", hook.username
    yield "window", hook.window
    yield "signed", hook.signed
    if hook.timestamp_header or hook.timestamp_field:
        yield (
            "time is",
            " ".join(
                filter(None, [hook.timestamp_prefix, hook.timestamp_field, hook.timestamp_format])
            ),
        )
    yield "number in", " ".join(filter(None, [hook.delivery_header, hook.delivery_field]))
    yield "created", local_time(hook.created_at)
    yield "for", hook.description
    for secret in hook.secrets:
        ends = "" if secret.ends_at is None else f", valid until {local_time(secret.ends_at)}"
        yield "secret", f"made {local_time(secret.created_at)}{ends}"


@hooks.command("calls")
@click.argument("name")
@click.option("--bodies", is_flag=True, help="Also show headers and bodies.")
@url_option
@json_option
async def list_calls(name: str, bodies: bool, as_json: bool) -> None:
    """List the last calls of a hook, with the reasons of refusals."""
    async with connect() as client:
        answer = await client.request("GET", path("hooks", name, "calls"))
    if as_json:
        print_json(answer.content)
        return
    calls = decode(answer.content, HookCallList).calls
    if bodies and calls:
        for call in calls:
            show_call(call)
        return
    rows = [
        [format_ago(call.received_at), call.peer, call.outcome, result_of(call)] for call in calls
    ]
    print_table(
        ["when", "from", "outcome", "reason or event"], rows, empty=f"No calls of {name} yet."
    )


def result_of(call: HookCallView) -> str:
    """Return the outcome of a call, with its reason."""
    return ", ".join(filter(None, [f"event {call.event_id}" if call.event_id else "", call.reason]))


def show_call(call: HookCallView) -> None:
    """Print a call as received."""
    click.echo(
        clean(f"{local_time(call.received_at)}  {call.peer}  {call.outcome}  {result_of(call)}")
    )
    for header, value in call.headers.items():
        click.echo(dim(clean(f"  {header}: {value}")))
    click.echo("  " + clean(call.body).replace("\n", "\n  "))


@hooks.command("test")
@click.argument("name")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The body; - is standard input. Default: a JSON object.",
)
@click.option(
    "-c",
    "--content-type",
    metavar="TYPE",
    help="Its content type; default: from the file extension, or JSON.",
)
@click.option(
    "--event",
    metavar="NAME",
    default="",
    help="The vendor's name of the event, if a header carries it: push.",
)
@url_option
@json_option
async def test_hook(
    name: str, file: Path | None, content_type: str | None, event: str, as_json: bool
) -> None:
    """Call a hook as its vendor would, correctly signed, and show which steps ran because of it.

    The server signs and calls by itself: its network is not tried.
    """
    body = b'{"test": true}' if file is None else read_bytes(file)
    kind = content_type or (
        "application/json"
        if file is None
        else CONTENT_TYPES.get(file.suffix.lower(), "application/json")
    )
    async with connect() as client:
        answer = await client.request(
            "POST",
            path("hooks", name, "test"),
            content=body,
            content_type=kind,
            params={"event": event} if event else None,
        )
        if as_json:
            print_json(answer.content)
            return
        await show_outcome(client, decode(answer.content, HookCallView))


async def show_outcome(client: Client, call: HookCallView) -> None:
    """Print the outcome of a call."""
    click.echo(f"{coloured(call.outcome)}  event {call.event_id}")
    record = await fetch(client, path("audit", "events", call.event_id), AuditEvent)
    async for line in describe_outcome(record):
        click.echo(line)


@hooks.command("resend")
@click.argument("name")
@click.argument("call")
@url_option
@json_option
async def resend_call(name: str, call: str, as_json: bool) -> None:
    """Send a call again, and show which steps ran because of it.

    CALL is the event of the call, as `flyte hooks calls` shows it, or `last` for the last accepted
    call. When a vendor sends a call again, nothing happens, because its id is known.
    """
    async with connect() as client:
        event_id = await last_event(client, name) if call == "last" else call
        answer = await client.request("POST", path("hooks", name, "calls", event_id, "resend"))
        if as_json:
            print_json(answer.content)
            return
        await show_outcome(client, decode(answer.content, HookCallView))


async def last_event(client: Client, name: str) -> str:
    """Return the event of the last accepted call."""
    calls = (await fetch(client, path("hooks", name, "calls"), HookCallList)).calls
    found = next((call.event_id for call in calls if call.event_id), None)
    if found is None:
        raise NotFoundError(f"The hook {name!r} has not accepted a call yet.")
    return found


@hooks.command("rotate")
@click.argument("name")
@click.option(
    "--keep-old-for",
    metavar="DURATION",
    default=KEEP_OLD,
    show_default=True,
    help="How long the current secret stays valid.",
)
@click.option(
    "--add",
    is_flag=True,
    help="Keep the current secrets valid indefinitely, as for a second sender.",
)
@secret_file_option
@url_option
@json_option
async def rotate_hook(
    name: str, keep_old_for: str, add: bool, secret_file: Path | None, as_json: bool
) -> None:
    """Give a hook another secret; the present one stays valid for a while."""
    order = RotateSecretRequest(secret=read_secret(secret_file), keep_old_for=keep_old_for, add=add)
    async with connect() as client:
        answer = await client.request("POST", path("hooks", name, "secret"), json=order)
    show_new(answer.content, as_json=as_json)


@hooks.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@url_option
@json_option
async def delete_hooks(names: tuple[str, ...], as_json: bool) -> None:
    """Delete hooks: from now on, their calls are refused."""
    async with connect() as client:
        for name in names:
            await client.request("DELETE", path("hooks", name))
            if not as_json:
                click.echo(f"deleted hook {name}")
    if as_json:
        print_json({"deleted": names})
