"""The parts of a pack, fixed when the pack begins to run."""

import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from flyteops.errors import InputError
from flyteops.model import FATAL
from flyteops.sdk.conversion import is_model, schema
from flyteops.sdk.event import Event, EventType
from flyteops.sdk.function import full_name, signature
from flyteops.sdk.health import Endpoint
from flyteops.sdk.input import Input
from flyteops.sdk.source import Source

Handler = Callable[..., Any]
Task = Callable[[], Awaitable[None]]
Check = Callable[[], Awaitable[str]]


class CommandHandler(msgspec.Struct, frozen=True, eq=False):
    """A command with its handler.

    `results` are the types whose values the handler may return in place of an event.
    """

    name: str
    handler: Callable[..., Awaitable[Any]]
    events: tuple[EventType[Any], ...]
    input: Input
    results: dict[type, EventType[Any]] = {}
    takes: Any = Any
    help_url: str | None = None

    async def answer(self, raw_input: msgspec.Raw) -> Event:
        """Run the handler.

        Raise `InputError` if the input or the handler's event does not match the declaration.
        """
        try:
            places, names = self.input.arguments(raw_input)
        except InputError as error:
            message = f"the input of {self.name} is not valid: {error}"
            raise InputError(message, problems=error.problems) from error
        return self._event(await self.handler(*places, **names))

    def _event(self, result: object) -> Event:
        if type(result) in self.results:
            return self.results[type(result)](result)
        names = [kind.name for kind in self.events]
        if not isinstance(result, Event):
            message = f"the command {self.name} returned {type(result).__name__}, not an event"
            raise InputError(message)
        if result.name not in (*names, FATAL):
            message = (
                f"the command {self.name} returned {result.name}, but declares"
                f" {', '.join(names) or 'no events'}"
            )
            raise InputError(message)
        return result


class Declaration(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A pack as run by one session."""

    name: str
    labels: dict[str, str] = {}
    items: tuple[str, ...] = ()
    help_url: str | None = None
    events: dict[str, EventType[Any]] = {}
    commands: dict[str, CommandHandler] = {}
    tasks: tuple[Task, ...] = ()
    sources: tuple[Source, ...] = ()
    checks: dict[str, Check] = {}
    poll_interval: float = 5.0
    concurrency: int = 10
    stop_timeout: float = 25.0
    health: Endpoint = Endpoint()
    sessions: set[Any] = msgspec.field(default_factory=set)
    """The runs of the pack in this process that have not ended."""

    def registration(self) -> bytes:
        """Return the body that registers the pack."""
        body: dict[str, Any] = {
            "name": self.name,
            "events": [
                {
                    "name": event.name,
                    **_schema("payloadSchema", event.payload),
                    **_help(event.help_url),
                    **({"failure": True} if event.failure else {}),
                }
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
        if self.items:
            body["items"] = self.items
        return msgspec.json.encode(body)


def _help(url: str | None) -> dict[str, Any]:
    return {} if url is None else {"links": [{"href": url, "rel": "help"}]}


def _schema(key: str, kind: object) -> dict[str, Any]:
    """Return a type as JSON Schema, for authors of flows and their tools.

    Servers that do not know the key ignore it.
    """
    described = None if kind is None and key == "inputSchema" else schema(kind)
    return {} if described is None else {key: described}


def results(handler: Handler) -> list[type]:
    """Return the classes in a handler's return annotation, except events.

    Raise `TypeError` for a type that cannot name an event.
    """
    returned = signature(handler).return_annotation
    members = get_args(returned) if get_origin(returned) in (Union, UnionType) else (returned,)
    found = [each for each in members if each not in (Event, Any, inspect.Signature.empty)]
    wrong = next((each for each in found if not _is_record(each)), None)
    if wrong is not None:
        message = (
            f"{full_name(handler)} returns {getattr(wrong, '__name__', wrong)}; a command returns"
            " an Event, or a Struct, dataclass or pydantic model of the event's name"
        )
        raise TypeError(message)
    return found


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and (
        issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or is_model(kind)
    )
