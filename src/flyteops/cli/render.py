"""`flyte render`: try a template without a server."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import click
import msgspec

from flyteops import template
from flyteops.cli.command import FlyteCommand, json_option
from flyteops.cli.data import guess_type, read_bytes
from flyteops.cli.event import read_payload
from flyteops.cli.output import clean, print_json
from flyteops.engine.context import DatastoreSnapshot
from flyteops.errors import InputError, Problem, TemplateError
from flyteops.model import DataItem, JsonValue, pack_id
from flyteops.template import Runtime


@click.command(cls=FlyteCommand)
@click.argument("text", metavar="TEMPLATE", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Read the template from a file; - is standard input.",
)
@click.option(
    "--event", metavar="JSON|FILE", help="The event: an object with event, payload and pack."
)
@click.option(
    "--payload",
    metavar="JSON|TEXT",
    help="Only the payload of the event; overrides that of --event.",
)
@click.option(
    "--context",
    metavar="KEY=VALUE",
    multiple=True,
    help="A value that earlier steps set in the context.",
)
@click.option(
    "--data",
    metavar="KEY=FILE",
    multiple=True,
    help="A datastore item; JSON if the file is named .json.",
)
@click.option("--values", is_flag=True, help="Also show the values that the template read.")
@json_option
def render(  # noqa: PLR0913, PLR0917 - one for each option
    text: str | None,
    file: Path | None,
    event: str | None,
    payload: str | None,
    context: tuple[str, ...],
    data: tuple[str, ...],
    values: bool,
    as_json: bool,
) -> None:
    """Render TEMPLATE as a flow would, and print the text that it gives.

    \b
    flyte render '{{ Event.Payload.message|upper }}' --payload '{"message": "hello"}'
    flyte render '{{ datastore("teams").a.room }}' --data teams=teams.json
    """  # noqa: D301 - click takes the backspace for "do not wrap"
    if (text is None) == (file is None):
        raise click.UsageError(
            "give either a TEMPLATE or a file with -f", click.get_current_context()
        )
    source = text if text is not None else _decoded(read_bytes(file or Path("-")))
    scope = {"Event": read_event(event, payload), "Context": _pairs("--context", context)}
    runtime = Runtime(
        datastore=DatastoreSnapshot(
            {key: _item(key, Path(name)) for key, name in _pairs("--data", data).items()}
        ),
        random=cache(Random),
        now=datetime.now(UTC),
        clock=time.monotonic,
    )
    try:
        compiled = template.compile(source)
        result = compiled.render(scope, runtime)
    except TemplateError as error:
        raise located(error, source) from error
    seen = compiled.values(scope, runtime) if values else {}
    if as_json:
        print_json({"result": result, **({"values": seen} if values else {})})
        return
    click.echo(result)
    for name, value in seen.items():
        click.echo(clean(f"{name} = {value}"), err=True)


def located(error: TemplateError, source: str) -> InputError:
    """Return an error that shows the line of the template with a caret under the place."""
    message = str(error)
    problem = Problem("", error.message, error.line, error.column)
    if error.line is None or error.column is None:
        return InputError(message, problems=[problem])
    line = (source.splitlines() or [""])[min(error.line, source.count("\n") + 1) - 1].replace(
        "\t", " "
    )
    return CaretError(message, problem, line)


class CaretError(InputError):
    """A fault in a template."""

    code = "template"

    def __init__(self, message: str, problem: Problem, line: str) -> None:
        super().__init__(message, problems=[problem])
        self.drawing = (line, " " * ((problem.column or 1) - 1) + "^")


def read_event(event: str | None, payload: str | None) -> object:
    """Return the event of the context, made from the given parts; missing ones are empty."""
    given = {} if event is None else _object(event)
    pack = given.get("pack") or {}
    if not isinstance(pack, dict):
        raise _not_usable("pack must be an object with name and labels")
    name, labels = str(pack.get("name", "")), pack.get("labels") or {}
    received = datetime.now(UTC)
    try:
        return template.event_value(
            name=str(given.get("event", given.get("name", ""))),
            payload=given.get("payload") if payload is None else read_payload(payload),
            pack_id=pack_id(name, labels),
            pack_name=name,
            pack_labels=msgspec.convert(labels, dict[str, str]),
            created_at=msgspec.convert(given["createdAt"], datetime)
            if given.get("createdAt")
            else received,
            received_at=received,
        )
    except msgspec.ValidationError as error:
        raise _not_usable(str(error)) from error


def _object(text: str) -> dict[str, JsonValue]:
    content = text.encode() if text.lstrip().startswith("{") else read_bytes(Path(text))
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_usable(str(error)) from error


def _not_usable(fault: str) -> InputError:
    return InputError(f"the event cannot be used: {fault}")


def _pairs(option: str, given: tuple[str, ...]) -> Mapping[str, str]:
    pairs = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(
                f"{option} {pair!r} is not of the form KEY=VALUE", click.get_current_context()
            )
        pairs[key] = value
    return pairs


def _item(key: str, file: Path) -> DataItem:
    content = read_bytes(file)
    return DataItem(key, guess_type(file, content), content)


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = f"the template is not UTF-8 text: {error.reason}"
        raise InputError(message) from error
