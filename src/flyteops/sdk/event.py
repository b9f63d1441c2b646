"""Events: what a pack tells the server."""

from typing import Any, Generic, TypeVar, overload

import msgspec

from flyteops.errors import InputError
from flyteops.model import FATAL
from flyteops.sdk.conversion import check_type, convert, plain

T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """One event with its payload as plain JSON values.

    The payload is encoded when the event is made, so that an event that exists can also be sent; what cannot be
    encoded raises `InputError`. Two events are equal when they look the same on the wire.
    """

    name: str
    payload: Any = None

    def __post_init__(self) -> None:
        try:
            msgspec.structs.force_setattr(self, "payload", plain(self.payload))
        except ValueError as error:
            message = f"the payload of {self.name} cannot be written as JSON: {error}"
            raise InputError(message) from error


class EventType(Generic[T]):
    """A kind of event that a pack declares; call it with a payload to make one."""

    def __init__(self, name: str, payload: Any = Any, *, help_url: str | None = None) -> None:
        try:
            check_type(payload)
        except TypeError as error:
            message = f"the event {name} cannot have this payload: {error}"
            raise TypeError(message) from error
        self.name = name
        self.payload = payload
        self.help_url = help_url

    def __repr__(self) -> str:
        return f"EventType({self.name!r})"

    @overload
    def __call__(self: "EventType[None]") -> Event: ...
    @overload
    def __call__(self, payload: T) -> Event: ...
    def __call__(self, payload: Any = None) -> Event:
        """Make an event; a payload that is not of the declared type raises `InputError`."""
        event = Event(self.name, payload)
        try:
            convert(event.payload, self.payload, strict=True)
        except msgspec.ValidationError as error:
            message = f"the payload of {self.name} is not valid: {error}"
            raise InputError(message) from error
        return event


def fatal(payload: Any = "") -> Event:
    """Make the event that says: the command failed badly."""
    return Event(FATAL, payload)
