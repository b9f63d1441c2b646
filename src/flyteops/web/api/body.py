"""Request bodies: events by the shortest way, others as documents with all errors at once."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw

from flyteops.convert import read
from flyteops.document import MAX_DEPTH, Document, first_json, parse_json, parse_yaml, repair_json
from flyteops.errors import InputError, Problem, TooLargeError
from flyteops.model import FATAL, DataItem, JsonValue, NewEvent, PackDeclaration
from flyteops.timeformat import parse_nanosecond, parse_timestamp
from flyteops.web.api.link import collides
from flyteops.web.api.request import Request, size_text
from flyteops.web.api.response import LARGE
from flyteops.web.api.schemas.wire import EventBody, EventText, PresenceReport, ResolveRequest
from flyteops.web.http.multipart import FormPart, parse_form

DEFAULT_CONTENT_TYPE = "text/plain; charset=us-ascii"

MAX_CONTENT_TYPE_LENGTH = 255

MAX_KEY_LENGTH = 255

T = TypeVar("T")

_decode_any = msgspec.json.Decoder().decode
_decode_text = msgspec.json.Decoder(EventText).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def parse_event(request: Request) -> NewEvent:
    """Return the event in the body; raise `InputError` with all of its errors."""
    return event_of_yaml(request.body) if request.head.is_yaml else event_of_json(request.body)


async def parse_large_event(request: Request) -> NewEvent:
    """Return the event in a large body, which is read in a thread; raise `InputError`."""
    return await asyncio.to_thread(parse_event, request)


def event_of_json(body: bytes) -> NewEvent:
    """Return the event in a JSON body; raise `InputError` with all of its errors."""
    event = decode_event(body)
    if event is None:
        fixed = first_json(repair_json(body))
        event = decode_event(fixed) or _event(_json(body), lambda _: _payload_text(fixed))
    return event


def event_of_yaml(body: bytes) -> NewEvent:
    """Return the event in a YAML body; raise `InputError` with all of its errors."""
    return _event(_yaml(body), lambda event: msgspec.json.encode(event.payload))


def decode_event(body: bytes) -> NewEvent | None:
    """Return the event if its body has the common form, or None if it needs a closer look."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        return None
    try:
        # The event decoder checks a payload left as raw text only roughly: not its numbers or its
        # UTF-8.
        _decode_any(body)
        text = _decode_text(body)
        created_at = parse_timestamp(text.created_at, "createdAt")
        return NewEvent(
            text.event,
            bytes(text.payload),
            created_at,
            parse_nanosecond(text.created_at),
            text.failure,
        )
    except (msgspec.MsgspecError, ValueError, RecursionError, InputError):
        return None


def _event(document: Document, payload: Callable[[EventBody], bytes]) -> NewEvent:
    problems: list[Problem] = []
    event = EventBody("")
    created_at, nanosecond = None, 0
    try:
        event = read(document, EventBody)
    except InputError as error:
        problems.extend(error.problems)
    try:
        given = event.created_at or _given(document.value, "createdAt")
        given = given if isinstance(given, str) else None
        created_at, nanosecond = parse_timestamp(given, "createdAt"), parse_nanosecond(given)
    except InputError as error:
        problems.extend(
            document.problem(("createdAt",), problem.message) for problem in error.problems
        )
    if problems:
        raise InputError(
            f"The body does not have the expected form: {problems[0]}.", problems=problems
        )
    return NewEvent(event.event, payload(event), created_at, nanosecond, event.failure)


def _given(value: JsonValue, name: str) -> JsonValue:
    if not isinstance(value, dict):
        return None
    return value.get(
        name, next((value[key] for key in value if key.casefold() == name.casefold()), None)
    )


def _payload_text(body: bytes) -> bytes:
    fields = _decode_fields(body)
    folded = {key.casefold(): text for key, text in reversed(fields.items())}
    return bytes(fields.get("payload", folded.get("payload", Raw(b"null"))))


def _document(request: Request) -> Document:
    return _yaml(request.body) if request.head.is_yaml else _json(request.body)


def _yaml(body: bytes) -> Document:
    document = parse_yaml(body)
    try:
        msgspec.json.encode(document.value)
    except (ValueError, OverflowError, RecursionError) as error:
        problem = Problem("", "it holds text or numbers that JSON cannot express")
        raise InputError(
            f"The body is not valid: {problem.message}.", problems=[problem]
        ) from error
    return document


def _json(body: bytes) -> Document:
    try:
        return parse_json(body)
    except InputError:
        first = first_json(body)
        if first == body:
            raise
    return parse_json(first)


def idempotency_key(key: bytes | None) -> str | None:
    """Return the key that identifies an event that is sent again; raise `InputError`."""
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_KEY_LENGTH or not key.isascii():
        message = f"must be 1 to {MAX_KEY_LENGTH} ASCII characters"
        raise InputError(
            f"Idempotency-Key {message}.", problems=[Problem("Idempotency-Key", message)]
        )
    return key.decode()


async def parse_document_body(request: Request, use: Callable[[Document], T]) -> T:
    """Return the result of `use` for the body; a large body is read in a thread."""
    if len(request.body) >= LARGE:
        return await asyncio.to_thread(lambda: use(_document(request)))
    return use(_document(request))


def resolution(document: Document) -> ResolveRequest:
    """Return a person's resolution of an action; raise `InputError`."""
    parsed = read(document, ResolveRequest)
    problems = []
    if parsed.resolution == "retry" and (parsed.event is not None or parsed.payload is not UNSET):
        problems.append(
            document.problem((), "an action to be retried takes no event and no payload")
        )
    if parsed.resolution == "failed" and parsed.event not in (None, FATAL):
        problems.append(
            document.problem(("event",), f"must be {FATAL} or left out: a failure has that name")
        )
    if parsed.resolution == "succeeded" and parsed.event in ("", FATAL):
        problems.append(
            document.problem(("event",), "must be the name of an event that means success")
        )
    if problems:
        raise InputError(f"The resolution is not valid: {problems[0].message}.", problems=problems)
    return parsed


def presence(document: Document) -> PresenceReport:
    """Return the presence report of an instance of a pack; raise `InputError`."""
    return read(document, PresenceReport)


def declaration(document: Document) -> PackDeclaration:
    """Return the declaration of a pack.

    Raise `InputError`, also for a link of its own that clients would take for one of ours.
    """
    pack = read(document, PackDeclaration, null_elements=True)
    problems = [
        document.problem(
            ("links", index, "rel"),
            f"{link.rel!r} is a relation reserved for the server's own links",
        )
        for index, link in enumerate(pack.links)
        if collides(link.rel)
    ]
    if problems:
        raise InputError(
            "A link of the pack has a relation reserved for the server.", problems=problems
        )
    return pack


class ItemUpload(NamedTuple):
    """A datastore item as it was sent, and whether the form gives a description."""

    item: DataItem
    has_description: bool


def data_item(request: Request) -> ItemUpload:
    """Return the datastore item in a form; raise `InputError`."""
    form = parse_form(request.headers.get(b"content-type", b""), request.body)
    value = form.get("value")
    if value is None:
        raise InputError("The form has no part 'value'.", problems=[Problem("value", "is missing")])
    if len(value.value) > request.options.max_body_bytes:
        raise TooLargeError(
            f"The value is larger than the {size_text(request.options.max_body_bytes)} that this"
            " server accepts."
        )
    description = form.get("description")
    item = DataItem(
        key=request.params["key"],
        content_type=_content_type(value.content_type),
        value=value.value,
        description="" if description is None else _text(description.value),
        is_secret=_is_secret(form.get("secret")),
    )
    return ItemUpload(item, description is not None)


def _is_secret(part: FormPart | None) -> bool:
    if part is None:
        return False
    given = part.value.strip().lower()
    if given not in (b"true", b"false"):
        message = "must be true or false"
        raise InputError(f"'secret' {message}.", problems=[Problem("secret", message)])
    return given == b"true"


def _content_type(given: bytes | None) -> str:
    text = (given or b"").decode("latin-1").strip()
    if len(text) > MAX_CONTENT_TYPE_LENGTH or not text.isascii() or not text.isprintable():
        message = "must have a content type of printable ASCII characters, 255 at most"
        raise InputError(f"The value {message}.", problems=[Problem("value", message)])
    return text or DEFAULT_CONTENT_TYPE


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            "The description is not UTF-8 text.",
            problems=[Problem("description", "must be UTF-8 text")],
        ) from error
