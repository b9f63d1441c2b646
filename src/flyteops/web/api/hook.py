"""Hooks over HTTP: the calls of third parties, and the management of hooks."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Self

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from flyteops.convert import read
from flyteops.document import Document, parse_json, parse_yaml
from flyteops.errors import InputError, TooLargeError, UnauthorizedError
from flyteops.model import Link
from flyteops.service.hook.hook import Hook, HookSpec, StoredSecret
from flyteops.service.hook.record import HookCall
from flyteops.service.hook.signing import (
    DEFAULT_SECRET_LIMIT,
    SETTINGS,
    HookRequest,
    Scheme,
    SecretEncoding,
    TimestampFormat,
)
from flyteops.service.hook.vendor import GENERIC, VENDORS
from flyteops.timeformat import format_duration, format_timestamp, parse_duration
from flyteops.web.api.body import parse_document_body
from flyteops.web.api.link import Links, event_path, hook_path
from flyteops.web.api.request import Request
from flyteops.web.api.response import LARGE, HeaderList, Response
from flyteops.web.api.schemas.wire import ResponseBody, Timestamp

KEEP_OLD = "1d"
"""Time for which the previous secret stays valid, unless the request gives another."""

NOT_KEPT: HeaderList = ((b"cache-control", b"no-store"),)

Word = Annotated[str | None, Meta(description="as the vendor does it, if left out")]


class HookDefinition(Struct, rename="camel"):
    """The definition of a hook.

    Fields left out have the vendor's values; a secret left out is generated. An update that does
    not name the vendor keeps everything that it leaves out.
    """

    name: Annotated[
        str, Meta(description="the last part of its address, and the name of its events")
    ] = ""
    vendor: Annotated[
        str | None,
        Meta(description=f"{GENERIC} for a new hook", extra_json_schema={"enum": list(VENDORS)}),
    ] = None
    scheme: Scheme | None = None
    header: Word = None
    prefix: Word = None
    algorithm: Word = None
    encoding: Word = None
    timestamp_header: Word = None
    username: Word = None
    window: Annotated[str | None, Meta(description="how old a signed time may be, such as 5m")] = (
        None
    )
    signed: Annotated[
        str | None,
        Meta(
            description="the signed bytes, of {timestamp}, {id} and {body}: v0:{timestamp}:{body}"
        ),
    ] = None
    timestamp_prefix: Annotated[
        str | None, Meta(description="the prefix of the time in its header, such as t=")
    ] = None
    timestamp_field: Annotated[
        str | None, Meta(description="the field of the signed body with the time")
    ] = None
    timestamp_format: Annotated[
        TimestampFormat | None, Meta(description="how the signed time is written")
    ] = None
    secret_encoding: Annotated[
        SecretEncoding | None, Meta(description="how the secret stands for the key")
    ] = None
    delivery_header: Annotated[str | None, Meta(description="the header that numbers calls")] = None
    delivery_field: Annotated[
        str | None, Meta(description="the field of the body that numbers calls, such as event.id")
    ] = None
    secret_limit: Annotated[
        int | None, Meta(description="how many secrets may be valid at a time")
    ] = None
    description: str | None = None
    secret: str | None = None


class RotateSecretRequest(Struct, rename="camel"):
    """Another secret for a hook, and how long the present one stays valid.

    A secret left out is generated.
    """

    secret: str | None = None
    keep_old_for: Annotated[str, Meta(description="a duration such as 1d, or 0s")] = KEEP_OLD
    add: Annotated[bool, Meta(description="keep the present secrets without an end")] = False


class SecretView(ResponseBody, kw_only=True):
    """When a secret was made, and when it ends if it was replaced.

    The secret itself is not shown.
    """

    created_at: Timestamp
    ends_at: Timestamp | None = None

    @classmethod
    def of(cls, kept: StoredSecret) -> Self:
        ends_at = None if kept.ends_at is None else format_timestamp(kept.ends_at)
        return cls(created_at=format_timestamp(kept.created_at), ends_at=ends_at)


class HookView(ResponseBody, kw_only=True):
    """A hook; `url` is the address to configure at its vendor."""

    name: str
    vendor: str
    scheme: Scheme
    header: str = ""
    prefix: str = ""
    algorithm: str = ""
    encoding: str = ""
    timestamp_header: str = ""
    username: str = ""
    window: str
    signed: str = ""
    timestamp_prefix: str = ""
    timestamp_field: str = ""
    timestamp_format: TimestampFormat = "seconds"
    secret_encoding: SecretEncoding = "text"  # noqa: S105 - a setting
    delivery_header: str = ""
    delivery_field: str = ""
    secret_limit: int = DEFAULT_SECRET_LIMIT
    description: str = ""
    url: str
    created_at: Timestamp
    secrets: list[SecretView] = field(default_factory=list)
    links: list[Link]

    @classmethod
    def of(
        cls, hook: Hook, site: Links, secret: str | None = None, warnings: Sequence[str] = ()
    ) -> "NewHook":
        scheme, path = hook.signing, hook_path(hook.name)
        settings: dict[str, Any] = {name: getattr(scheme, name) for name in SETTINGS}
        if scheme.scheme != "hmac":
            settings |= {"algorithm": "", "encoding": ""}
        return NewHook(
            **settings,
            name=hook.name,
            vendor=hook.vendor,
            window=format_duration(scheme.window),
            description=hook.description,
            url=site.base + path,
            created_at=format_timestamp(hook.created_at),
            secrets=[SecretView.of(kept) for kept in hook.secrets],
            secret=secret,
            warnings=warnings,
            links=[
                *site.around(path, "/v1/hooks", "/hook"),
                site.named(f"{path}/calls", "hook/listHookCalls"),
            ],
        )


class NewHook(HookView, kw_only=True):
    """A hook that was just made or got another secret.

    `secret` is to be configured at its vendor, and is never shown again.
    """

    secret: str | None = None
    warnings: Sequence[str] = ()


class HookList(ResponseBody, kw_only=True):
    """All hooks, by name."""

    links: list[Link]
    hooks: list[HookView]

    @classmethod
    def of(cls, hooks: Iterable[Hook], site: Links) -> Self:
        return cls(
            links=site.around("/v1/hooks", "/v1", "/hook"),
            hooks=[HookView.of(hook, site) for hook in hooks],
        )


class HookCallView(ResponseBody, kw_only=True):
    """A call: its content, origin and outcome.

    `body` is its beginning; `size` is its length in bytes.
    """

    received_at: Timestamp
    outcome: str
    code: str = ""
    reason: str = ""
    peer: str = ""
    event_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    body: str = ""
    size: int | None = None
    links: list[Link] = field(default_factory=list)

    @classmethod
    def of(cls, call: HookCall, site: Links) -> Self:
        return cls(
            received_at=format_timestamp(call.received_at),
            outcome=call.outcome,
            code=call.code,
            reason=call.reason,
            peer=call.peer,
            event_id=call.event_id,
            headers=call.headers,
            query=call.query,
            body=call.body,
            size=call.size,
            links=[site.named(event_path(call.event_id), "eventAudit/getEvent")]
            if call.event_id
            else [],
        )


class HookCallList(ResponseBody, kw_only=True):
    """The last calls of a hook, the newest first."""

    links: list[Link]
    calls: list[HookCallView]


WANTED_FIELDS = frozenset(name.casefold() for name in HookDefinition.__struct_encode_fields__)
SHOWN_FIELDS = WANTED_FIELDS | {name.casefold() for name in NewHook.__struct_encode_fields__}
"""The fields of a definition, and those of an answer, which clients may send back unchanged."""

HOW_TO_UPDATE = (
    "A PUT updates a hook only if its body is a JSON or YAML object with these fields and no"
    " others: " + ", ".join(HookDefinition.__struct_encode_fields__) + "."
)


def hook_spec_of(document: Document) -> HookSpec:
    """Return the definition of a hook; raise `InputError`."""
    wanted = read(document, HookDefinition)
    settings: dict[str, Any] = {name: getattr(wanted, name) for name in SETTINGS}
    return HookSpec(
        name=wanted.name,
        vendor=wanted.vendor,
        **settings,
        window=None if wanted.window is None else _duration(document, "window", wanted.window),
        description=wanted.description,
        secret=wanted.secret,
    )


def rotation_of(document: Document) -> tuple[str | None, timedelta | None]:
    """Return the new secret, and how long the present ones are to stay, None for ever.

    Raise `InputError`.
    """
    wanted = read(document, RotateSecretRequest)
    keep_for = _duration(document, "keepOldFor", wanted.keep_old_for)
    return wanted.secret, None if wanted.add else keep_for


def _duration(document: Document, name: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"{error}.", problems=[document.problem((name,), str(error))]) from error


# -------------------------------------------------------------------------------------------- calls


def _signed(request: Request) -> HookRequest:
    headers = {
        name.decode("latin-1"): value.decode("latin-1").strip()
        for name, value in request.all_headers.items()
    }
    return HookRequest(headers, request.query_string, request.body, request.options.max_body_bytes)


def _peer(request: Request) -> str:
    return request.peer[0] if request.peer else ""


async def call_hook(request: Request) -> Response:
    """Call a hook, as GitHub, Alertmanager or others do.

    The caller needs no token of this server: a signature or a secret, as the hook requires, admits
    it. The call becomes an event of the pack `Webhook` with the name of the hook. A call that was
    already accepted within the last day is answered alike, and makes no event. 401 means that there
    is no such hook or that it does not admit the caller; its last calls show why.
    """
    await _read(request)
    return await _receive(request)


async def _read(request: Request) -> None:
    try:
        await request.read(keep=True)
    except TooLargeError as error:
        request.service.hook_receiver.reject(
            request.params["hookName"], _signed(request), _peer(request), error
        )
        raise


async def _receive(request: Request) -> Response:
    received = await request.service.hook_receiver.receive(
        request.params["hookName"], _signed(request), _peer(request)
    )
    if received.challenge:
        return Response(200, {"challenge": received.challenge})
    return Response(202, headers=(request.site.location(event_path(received.event_id)),))


# --------------------------------------------------------------------------------------- management


async def create_hook(request: Request) -> Response:
    """Make a hook.

    The answer has the address for its vendor and the secret, this once only, unless the secret was
    given.
    """
    hook, made = await request.service.hooks.create(
        await parse_document_body(request, hook_spec_of), request.author
    )
    return _with_secret(201, hook, made, request.site, request.site.location(hook_path(hook.name)))


def _with_secret(
    status: int, hook: Hook, made: str | None, site: Links, *headers: tuple[bytes, bytes]
) -> Response:
    """Return the answer with a new secret, which is shown this once."""
    return Response(
        status,
        HookView.of(hook, site, made, tuple(_warnings(hook, made))),
        headers=(*headers, *NOT_KEPT),
    )


def _warnings(hook: Hook, made: str | None) -> Iterable[str]:
    if made is not None and hook.caller.makes_secret:
        yield (
            f"{hook.caller.title} makes the secret itself: tell it the URL, then give the hook its"
            f" secret with `flyte hooks rotate {hook.name} --secret-file FILE`; until then only"
            " test calls are accepted."
        )
    if hook.signing.scheme == "none":
        yield (
            "Anyone who knows the address can call it: the scheme none does not authenticate"
            " callers."
        )
    elif not all(kept.is_sealed for kept in hook.secrets):
        yield (
            "The secret is stored unencrypted: this server has no key for secrets; set"
            " FLYTE_SECRETS_KEY_FILE."
        )


async def list_hooks(request: Request) -> Response:
    """List the hooks, by name."""
    return Response(200, HookList.of(request.service.hooks.list(), request.site))


async def get_hook(request: Request) -> Response:
    """Show a hook, without its secret."""
    return Response(
        200, HookView.of(request.service.hooks.get(request.params["hookName"]), request.site)
    )


async def put_hook(request: Request) -> Response:
    """Update a hook, or call it if the body is not the definition of a hook.

    A definition is an object with fields of a hook only. One that names the vendor is complete:
    fields that it leaves out have that vendor's values. One that does not keeps everything that it
    leaves out. A hook keeps its name and secrets. Any other body, and any request that is signed as
    the hook demands, is a call of the hook, as by POST, and changes nothing about it.
    """
    await _read(request)
    document = _definition(request)
    if document is not None and not request.service.hook_receiver.is_signed(
        request.params["hookName"], _signed(request)
    ):
        return await _update(request, document)
    try:
        return await _receive(request)
    except UnauthorizedError as error:
        raise UnauthorizedError(f"{error.message} {HOW_TO_UPDATE}") from error


def _definition(request: Request) -> Document | None:
    """Return the body if it is the definition of a hook, or None if it must be a call."""
    if len(request.body) >= LARGE:
        return None
    try:
        document = parse_yaml(request.body) if request.head.is_yaml else parse_json(request.body)
    except InputError:
        return None
    fields = document.value
    if not isinstance(fields, dict) or not {name.casefold() for name in fields} <= SHOWN_FIELDS:
        return None
    return document if any(name.casefold() in WANTED_FIELDS for name in fields) else None


async def _update(request: Request, document: Document) -> Response:
    request.service.check_started()
    spec = hook_spec_of(document)
    name = request.params["hookName"]
    if spec.name not in ("", name):
        problem = document.problem(
            ("name",), f"must be {name!r} or left out: a hook keeps its name"
        )
        raise InputError("A hook keeps its name.", problems=[problem])
    hook = await request.service.hooks.update(replace(spec, name=name), request.author)
    return Response(200, HookView.of(hook, request.site))


async def delete_hook(request: Request) -> Response:
    """Remove a hook with its last calls.

    The events of its calls stay in the audit.
    """
    await request.service.hooks.delete(request.params["hookName"], request.author)
    return Response(204)


async def rotate_hook(request: Request) -> Response:
    """Give a hook another secret.

    The present one stays valid for a day, or as long as `keepOldFor` says, so that there is time to
    configure the new one at the vendor.
    """
    secret, keep_for = await parse_document_body(request, rotation_of)
    hook, made = await request.service.hooks.rotate(
        request.params["hookName"], secret, keep_for, request.author
    )
    return _with_secret(200, hook, made, request.site)


async def list_hook_calls(request: Request) -> Response:
    """Show the last calls of a hook, and why some were refused.

    The last 20 accepted and the last 20 refused calls are kept, without secrets. Other servers on
    the same store add theirs within a few seconds.
    """
    hook = request.service.hooks.get(request.params["hookName"])
    calls = await request.service.hooks.calls.list(hook.name)
    path = f"{hook_path(hook.name)}/calls"
    links = request.site.around(path, hook_path(hook.name), "/hook")
    return Response(
        200,
        HookCallList(calls=[HookCallView.of(each, request.site) for each in calls], links=links),
    )


async def test_hook(request: Request) -> Response:
    """Request a hook with this body, signed as its vendor would.

    The server makes the call itself, so this does not test the connection from the vendor to the
    server. The event is a real one.
    """
    content_type = request.headers.get(b"content-type", b"").decode("latin-1")
    event = request.query().text("event") or ""
    received = await request.service.hook_receiver.send_test(
        request.params["hookName"], request.body, content_type, event
    )
    return Response(200, HookCallView.of(received, request.site))


async def resend_hook_call(request: Request) -> Response:
    """Send a call again: a new event with the same payload, and `resentFrom`.

    A call that its vendor sends again makes no event, since its delivery id is known; this is for
    flows that were corrected.
    """
    name, event_id = request.params["hookName"], request.params["eventId"]
    return Response(
        200,
        HookCallView.of(await request.service.hook_receiver.resend(name, event_id), request.site),
    )
