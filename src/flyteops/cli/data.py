"""`flyte data`: the datastore, which templates read with `datastore('key')`."""

import json
import re
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from flyteops.cli.api import connect, get_all, path
from flyteops.cli.command import FlyteGroup, json_option, url_option
from flyteops.cli.output import clean, print_json, print_table
from flyteops.errors import InputError, Problem
from flyteops.model import DataItem
from flyteops.packs.chatops.catalog import DATA_KEY, read_catalog
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.wire import DataItemList, DataItemSummary

CONTENT_TYPES = {
    ".json": "application/json",
    ".yaml": "application/x-yaml",
    ".yml": "application/x-yaml",
    ".sh": "application/x-sh",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}
UNKNOWN_TYPE = "application/octet-stream"
_BEGINS_LIKE_JSON = re.compile(rb"""(?:\[\s*)*(?:\{\s*(?:["'}]|[\w-]+"?\s*:)|\[\s*["'])""")
_BEGINS_LIKE_LIST = re.compile(rb"\[\s*(?:\[|\]|-?\d|true\b|false\b|null\b)")

TEXT_TYPE = "text/plain; charset=utf-8"


@click.group(cls=FlyteGroup)
def data() -> None:
    """List, get, set and delete datastore items, which templates read with `datastore('key')`."""


@data.command("list")
@url_option
@json_option
async def list_items(as_json: bool) -> None:
    """List the datastore items, by key."""
    async with connect() as client:
        content = await get_all(client, path("datastore"), "datastore")
    if as_json:
        print_json(content)
        return
    items = msgspec.json.decode(content, type=DataItemList).datastore
    rows = [
        [
            item.key,
            f"{item.content_type} (secret)" if item.secret else item.content_type,
            item.description,
        ]
        for item in items
    ]
    print_table(
        ["key", "content type", "description"],
        rows,
        empty="The datastore is empty; `flyte data set KEY FILE` fills it.",
    )


@data.command("get")
@click.argument("key")
@url_option
async def get_item(key: str) -> None:
    """Write the value of an item to standard output, byte for byte."""
    async with connect() as client:
        answer = await client.request("GET", path("datastore", key))
    sys.stdout.buffer.write(answer.content)


@data.command("show")
@click.argument("key")
@url_option
@json_option
async def show_item(key: str, as_json: bool) -> None:
    """Show an item: its type, its description and its value as text."""
    async with connect() as client:
        listed = await get_all(client, path("datastore"), "datastore")
        items = msgspec.json.decode(listed, type=DataItemList).datastore
        found = next((item for item in items if item.key == key), None)
        if found is not None and found.secret:
            _show_secret(found, as_json=as_json)
            return
        answer = await client.request("GET", path("datastore", key))
    description = "" if found is None else found.description
    content_type, text = (
        answer.headers.get("Content-Type", ""),
        answer.content.decode(errors="replace"),
    )
    if as_json:
        print_json(
            {"key": key, "contentType": content_type, "description": description, "value": text}
        )
        return
    click.echo(f"key           {clean(key)}\ncontent type  {clean(content_type)}")
    if description:
        click.echo(f"description   {clean(description)}")
    click.echo(f"size          {len(answer.content)} bytes\n\n{clean(text)}")


def _show_secret(item: DataItemSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "key": item.key,
                "contentType": item.content_type,
                "description": item.description,
                "secret": True,
            }
        )
        return
    click.echo(f"key           {clean(item.key)}\ncontent type  {clean(item.content_type)}")
    if item.description:
        click.echo(f"description   {clean(item.description)}")
    click.echo("\nIt is a secret: only packs receive its value, where flows use secret('key').")


@data.command("new-key")
def print_key() -> None:
    """Print a new key for the encryption of secrets.

    Put it into a file of its own, as its first line, and set FLYTE_SECRETS_KEY_FILE of the server
    to that file.
    """
    click.echo(urlsafe_b64encode(secrets.token_bytes(32)).decode())


@data.command("set")
@click.argument("key")
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@click.option("--value", metavar="TEXT", help="The value itself, instead of a file.")
@click.option(
    "--content-type", metavar="TYPE", help="The content type; default: from the file extension."
)
@click.option(
    "--description", metavar="TEXT", help="A description; without this option, the old one stays."
)
@click.option("--secret", is_flag=True, help="Encrypt the value, and give it to packs only.")
@url_option
async def set_item(  # noqa: PLR0913, PLR0917 - one for each option
    key: str,
    file: Path | None,
    value: str | None,
    content_type: str | None,
    description: str | None,
    secret: bool,
) -> None:
    """Create or replace an item from a FILE, from standard input (-) or from --value.

    Templates see JSON when the content type is application/json, else text. A secret is text, and
    templates refer to it by secret('key').
    """
    if (file is None) == (value is None):
        raise click.UsageError(
            "give either a FILE (- for standard input) or --value", click.get_current_context()
        )
    content = value.encode() if value is not None else read_bytes(file or Path("-"))
    item = DataItem(key, content_type or guess_type(file, content), content, is_secret=secret)
    check_content(item, is_guessed=content_type is None)
    async with connect() as client:
        is_new = await put_item(client, item, description)
    click.echo(f"{'created' if is_new else 'replaced'} datastore item {key}")
    problems = chatops_problems(item)
    for problem in problems:
        click.echo(f"warning: {DATA_KEY}: {clean(str(problem))}", err=True)
    if problems:
        click.echo(
            "warning: the chat packs use the previous declaration until this is valid", err=True
        )


@data.command("delete")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@url_option
@json_option
async def delete_items(keys: tuple[str, ...], as_json: bool) -> None:
    """Delete items."""
    async with connect() as client:
        for key in keys:
            await client.request("DELETE", path("datastore", key))
            if not as_json:
                click.echo(f"deleted datastore item {key}")
    if as_json:
        print_json({"deleted": keys})


def chatops_problems(item: DataItem) -> Sequence[Problem]:
    """Return every fault of the item that declares the commands of chats; none for other items."""
    if item.key != DATA_KEY:
        return []
    try:
        is_json = item.content_type.partition(";")[0].strip().lower() == "application/json"
        read_catalog(
            msgspec.json.decode(item.value) if is_json else item.value.decode("utf-8", "replace")
        )
    except InputError as error:
        return error.problems
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [Problem("", f"the value is not valid JSON: {error}")]
    return []


async def put_item(client: Client, item: DataItem, description: str | None = None) -> bool:
    """Create or replace an item; return True if it is new.

    Without a description, it keeps the present one.
    """
    fields = {"description": description, "secret": "true" if item.is_secret else None}
    answer = await client.request(
        "PUT",
        path("datastore", item.key),
        files={"value": (item.key, item.value, item.content_type)},
        data={name: text for name, text in fields.items() if text is not None} or None,
    )
    return answer.status_code == 201


def guess_type(file: Path | None, content: bytes) -> str:
    """Return the content type for a file's extension.

    Without a file, JSON for an object or a list.
    """
    if file is not None and str(file) != "-":
        return CONTENT_TYPES.get(file.suffix.lower(), UNKNOWN_TYPE)
    if content.lstrip()[:1] in (b"{", b"["):
        try:
            msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return TEXT_TYPE
        return "application/json"
    return TEXT_TYPE


def check_content(item: DataItem, *, is_guessed: bool) -> None:
    """Raise `InputError` for a value that is declared as JSON but invalid.

    Each template that reads it would fail. The same applies to a value without a given type that
    looks like JSON.
    """
    looks_like_it = (
        is_guessed
        and item.content_type == TEXT_TYPE
        and not item.is_secret
        and _looks_like_json(item.value)
    )
    if not item.is_json and not looks_like_it:
        return
    try:
        json.loads(item.value.decode("utf-8"), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        problem = Problem("", error.msg, error.lineno, error.colno)
    except (ValueError, RecursionError) as error:
        problem = Problem("", str(error))
    else:
        return
    what = "looks like JSON but is not" if looks_like_it else "is not JSON"
    message = (
        f"The value of {item.key} {what}; correct it, or store it as text with --content-type"
        " text/plain."
    )
    raise InputError(message, problems=[problem])


def _looks_like_json(value: bytes) -> bool:
    """Return whether invalid JSON was meant as JSON, unlike templates and log lines."""
    text = value.strip()
    return _BEGINS_LIKE_JSON.match(text) is not None or (
        _BEGINS_LIKE_LIST.match(text) is not None and text.endswith(b"]")
    )


def _refuse(constant: str) -> None:
    message = f"{constant} is not JSON"
    raise ValueError(message)


def read_bytes(file: Path) -> bytes:
    """Read a file, or standard input for `-`."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        message = f"cannot read {str(file)!r}: {error.strerror}"
        raise InputError(message) from error
