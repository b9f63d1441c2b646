"""`flyte render`: try a template without a server."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import click
import msgspec

from flyteops import template
from flyteops.cli.command import FlyteCommand, json_option
from flyteops.cli.data import guess_type, read_bytes
from flyteops.cli.event import read_payload
from flyteops.cli.output import clean, print_json
from flyteops.document import path_text
from flyteops.engine.context import DatastoreSnapshot
from flyteops.errors import InputError, Problem, TemplateError
from flyteops.model import DataItem, JsonValue, pack_id
from flyteops.template import Runtime
from flyteops.template.typed import compile_typed, to_json


class EventParts(NamedTuple):
    """The parts of an event that templates see."""

    name: str
    payload: JsonValue
    pack_id: str
    pack_name: str
    pack_labels: dict[str, str]
    created_at: datetime
    received_at: datetime


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
@click.option(
    "--edition",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="The edition of the flow language.",
)
@click.option(
    "--scope",
    metavar="JSON|FILE",
    help="Edition 2: other names that the template sees, such as Steps, as an object.",
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
    edition: int,
    scope: str | None,
    values: bool,
    as_json: bool,
) -> None:
    """Render TEMPLATE as a flow would, and print the text or, in edition 2, the value it gives.

    \b
    flyte render '{{ Event.Payload.message|upper }}' --payload '{"message": "hello"}'
    flyte render '{{ datastore("teams").a.room }}' --data teams=teams.json
    flyte render --edition 2 '{{ Event.Payload.sizes|sum }}' --payload '{"sizes": [1, 2]}'
    """  # noqa: D301 - click takes the backspace for "do not wrap"
    if (text is None) == (file is None):
        raise click.UsageError(
            "give either a TEMPLATE or a file with -f", click.get_current_context()
        )
    if edition == 1 and scope is not None:
        raise click.UsageError("--scope needs --edition 2", click.get_current_context())
    source = text if text is not None else _decoded(read_bytes(file or Path("-")))
    runtime, given = _runtime(data), read_event(event, payload)
    names: dict[str, object] = {"Context": _pairs("--context", context)}
    try:
        if edition == 1:
            names["Event"] = template.event_value(**given._asdict())
            result, seen = _rendered(source, names, runtime)
        else:
            names |= {
                "Event": _typed_event(given),
                **({} if scope is None else _object(scope, "scope")),
            }
            result, seen = _typed(source, names, runtime)
    except TemplateError as error:
        raise located(error, source) from error
    if as_json:
        print_json({"result": result, **({"values": seen} if values else {})})
        return
    click.echo(result if isinstance(result, str) else msgspec.json.encode(result).decode())
    for name, value in seen.items() if values else ():
        click.echo(clean(f"{name} = {value}"), err=True)


def _runtime(data: tuple[str, ...]) -> Runtime:
    items = {key: _item(key, Path(name)) for key, name in _pairs("--data", data).items()}
    return Runtime(
        datastore=DatastoreSnapshot(items),
        random=cache(Random),
        now=datetime.now(UTC),
        clock=time.monotonic,
    )


Rendered = tuple[JsonValue, Mapping[str, str]]
"""The result of a template, and the values that it read, as JSON."""


def _rendered(source: str, scope: Mapping[str, object], runtime: Runtime) -> Rendered:
    compiled = template.compile(source)
    return compiled.render(scope, runtime), compiled.values(scope, runtime)


def _typed(source: str, scope: Mapping[str, object], runtime: Runtime) -> Rendered:
    compiled = compile_typed(source)
    result = to_json(compiled.render(scope, runtime))
    return result, {
        path_text(path): msgspec.json.encode(to_json(_read(scope, path))).decode()
        for path in compiled.paths
    }


def _read(scope: Mapping[str, object], path: tuple[str | int, ...]) -> object:
    """Return the value at a path; None if it is missing."""
    value: Any = scope
    for step in path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value


def _typed_event(event: EventParts) -> Mapping[str, object]:
    """Return an event as the templates of edition 2 see it."""
    pack = {"Id": event.pack_id, "Name": event.pack_name, "Labels": event.pack_labels}
    return {
        "Name": event.name,
        "Payload": event.payload,
        "Pack": pack,
        "CreatedAt": event.created_at,
        "ReceivedAt": event.received_at,
    }


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


def read_event(event: str | None, payload: str | None) -> EventParts:
    """Return the given parts of an event; missing ones are empty."""
    given = {} if event is None else _object(event, "event")
    pack = given.get("pack") or {}
    if not isinstance(pack, dict):
        raise _not_usable("pack must be an object with name and labels")
    name, labels = str(pack.get("name", "")), pack.get("labels") or {}
    received = datetime.now(UTC)
    try:
        return EventParts(
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


def _object(text: str, noun: str) -> dict[str, JsonValue]:
    content = text.encode() if text.lstrip().startswith("{") else read_bytes(Path(text))
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_usable(str(error), noun) from error


def _not_usable(fault: str, noun: str = "event") -> InputError:
    return InputError(f"the {noun} cannot be used: {fault}")


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
