"""What a pack consists of, as it stands when the pack begins to run."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from flyteops.errors import InputError
from flyteops.model import FATAL
from flyteops.sdk.event import Event, EventType
from flyteops.sdk.source import Source

Handler = Callable[..., Awaitable[Event]]
Task = Callable[[], Awaitable[None]]
Check = Callable[[], Awaitable[str]]


class Command(msgspec.Struct, frozen=True, eq=False):
    """A command with its handler; `decoder` is None when the handler does not want the input."""

    name: str
    handler: Handler
    events: tuple[EventType[Any], ...]
    decoder: msgspec.json.Decoder[Any] | None
    takes: Any = Any
    help_url: str | None = None

    async def answer(self, raw_input: msgspec.Raw) -> Event:
        """Run the handler; raise `InputError` when the input or the handler's event is not what was declared."""
        arguments = () if self.decoder is None else (self._decode(self.decoder, raw_input),)
        event: object = await self.handler(*arguments)
        names = [kind.name for kind in self.events]
        if not isinstance(event, Event):
            message = f"the command {self.name} returned {type(event).__name__}, not an event"
            raise InputError(message)
        if event.name not in (*names, FATAL):
            message = f"the command {self.name} returned {event.name}, but declares {', '.join(names) or 'no events'}"
            raise InputError(message)
        return event

    def _decode(self, decoder: msgspec.json.Decoder[Any], raw_input: msgspec.Raw) -> Any:
        try:
            return decoder.decode(raw_input)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"the input of {self.name} is not valid: {error}"
            raise InputError(message) from error


class Declaration(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A pack as one session runs it."""

    name: str
    labels: dict[str, str] = {}
    help_url: str | None = None
    events: dict[str, EventType[Any]] = {}
    commands: dict[str, Command] = {}
    tasks: tuple[Task, ...] = ()
    sources: tuple[Source, ...] = ()
    checks: dict[str, Check] = {}
    poll_interval: float = 5.0
    concurrency: int = 10
    stop_timeout: float = 25.0
    health_port: int | None = 8090

    def registration(self) -> bytes:
        """Return the body that registers the pack."""
        body: dict[str, Any] = {
            "name": self.name,
            "events": [
                {"name": event.name, **_schema("payloadSchema", event.payload), **_help(event.help_url)}
                for event in self.events.values()
            ],
            "commands": [
                {
                    "name": command.name,
                    "events": [event.name for event in command.events],
                    **_schema("inputSchema", command.takes),
                    **_help(command.help_url),
                }
                for command in self.commands.values()
            ],
            "links": _help(self.help_url).get("links", []),
        }
        if self.labels:
            body["labels"] = self.labels
        return msgspec.json.encode(body)


def _help(url: str | None) -> dict[str, Any]:
    return {} if url is None else {"links": [{"href": url, "rel": "help"}]}


def _schema(key: str, kind: Any) -> dict[str, Any]:
    """Describe a type as JSON Schema, for whoever shows or writes flows; servers that do not know the key ignore it."""
    if kind is Any:
        return {}
    try:
        return {key: msgspec.json.schema(kind)}
    except TypeError:  # some types can be read and written, but not described
        return {}


def input_decoder(handler: Handler) -> msgspec.json.Decoder[Any] | None:
    """Make the decoder for a handler's only parameter; None if it has no parameter.

    Decoding is lenient about text that stands for a number, a boolean or null, because a template in a flow always
    renders text (the number 3 as `3.000000`).
    """
    parameters = list(inspect.signature(handler, eval_str=True).parameters.values())
    if not parameters:
        return None
    if len(parameters) > 1:
        message = f"{handler.__qualname__} takes {len(parameters)} parameters; a command has one input"
        raise TypeError(message)
    annotation = parameters[0].annotation
    kind = Any if annotation is inspect.Parameter.empty else annotation
    return msgspec.json.Decoder(kind, strict=False)
