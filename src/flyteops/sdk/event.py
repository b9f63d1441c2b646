"""Events that a pack sends to the server."""

from typing import Any, Generic, TypeVar, overload

import msgspec

from flyteops.errors import InputError
from flyteops.model import FATAL
from flyteops.sdk.conversion import check_type, convert, plain

T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """One event with its payload as plain JSON values.

    `failure` marks a result of a failed command.

    The payload is encoded when the event is made, so that every existing event can be sent; a
    payload that cannot be encoded raises `InputError`. Two events are equal when they are the same
    on the wire.
    """

    name: str
    payload: Any = None
    failure: bool = False

    def __post_init__(self) -> None:
        try:
            msgspec.structs.force_setattr(self, "payload", plain(self.payload))
        except ValueError as error:
            message = f"the payload of {self.name} cannot be written as JSON: {error}"
            raise InputError(message) from error


class EventType(Generic[T]):
    """A kind of event that a pack declares; call it with a payload to make an event."""

    def __init__(
        self,
        name: str,
        payload: object = Any,
        *,
        help_url: str | None = None,
        failure: bool = False,
    ) -> None:
        try:
            check_type(payload)
        except TypeError as error:
            message = f"the event {name} cannot have this payload: {error}"
            raise TypeError(message) from error
        self.name = name
        self.failure = failure
        self.payload = payload
        self.help_url = help_url

    def __repr__(self) -> str:
        return f"EventType({self.name!r})"

    @overload
    def __call__(self: "EventType[None]", *, failure: bool = False) -> Event: ...
    @overload
    def __call__(self, payload: T, *, failure: bool = False) -> Event: ...
    def __call__(self, payload: Any = None, *, failure: bool = False) -> Event:
        """Return an event; a payload that is not of the declared type raises `InputError`.

        `failure` is for results of events that otherwise mean success; an event that always means
        failure is declared so.
        """
        event = Event(self.name, payload, failure or self.failure)
        try:
            convert(event.payload, self.payload, strict=True)
        except msgspec.ValidationError as error:
            message = f"the payload of {self.name} is not valid: {error}"
            raise InputError(message) from error
        return event


def fatal(payload: object = "") -> Event:
    """Return the event that means that the command failed badly."""
    return Event(FATAL, payload)
