"""The reception of calls: each is verified, read, and accepted as an event once, or refused.

The reason of a refusal is recorded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
from msgspec.structs import replace

from flyteops.errors import FlyteError, InputError, NotFoundError, TooLargeError, UnauthorizedError
from flyteops.model import EventRecord, JsonValue, NewEvent
from flyteops.service.hook.compression import decompressed, is_compressed
from flyteops.service.hook.content import collect_fields, event_headers, field_at, read_content
from flyteops.service.hook.hook import Hook
from flyteops.service.hook.record import MAX_BODY_LENGTH, HookCall, record_of_call
from flyteops.service.hook.registry import PACK, HookRegistry
from flyteops.service.hook.scheme import sign, verify
from flyteops.service.hook.signing import HookRequest, Proof, Rejection, Signing, check_timestamp
from flyteops.timeformat import format_timestamp

LOGGER = logging.getLogger("flyte.hooks")

REFUSED = (
    "The call was not accepted: the hook does not exist or rejected the credentials. Operators see"
    " why on the page /hooks."
)
"""The answer to every refused caller, so that it does not reveal which hooks exist."""

NOBODY = Signing(scheme="hmac", header="X-Signature-256")

LARGE = 64 * 1024
"""The size from which a thread verifies and reads a call, so that other requests do not wait."""

MAX_NUMBER_LENGTH = 255

Accept = Callable[[str, NewEvent, str | None], Awaitable[tuple[str, bool]]]
"""Accepts an event of a pack under a key; returns its id, and whether it is new."""


class VerifiedCall(NamedTuple):
    """The content of a call, and the key that identifies a repetition.

    `challenge` is for the answer, and makes no event.
    """

    new_event: NewEvent
    key: str | None
    challenge: str = ""


FindEvent = Callable[[str], Awaitable[EventRecord]]
"""Returns an event of the audit; raises `NotFoundError`."""


class HookReceiver:
    """Receives calls."""

    def __init__(
        self,
        hooks: HookRegistry,
        accept: Accept,
        clock: Callable[[], datetime],
        find_event: FindEvent,
    ) -> None:
        self._find_event = find_event
        self._hooks = hooks
        self._accept = accept
        self._clock = clock

    async def receive(self, name: str, request: HookRequest, peer: str) -> HookCall:
        """Receive a call; on return, its event and all consequences are durable.

        They may come from an earlier call. Raise `UnauthorizedError` unless the hook exists and the
        call is genuine, and `InputError` if it cannot be read.
        """
        hook = self._hooks.find(name)
        now = self._clock()
        if hook is None:
            # As much work as for a hook, so that the duration does not reveal whether it exists.
            verify(
                NOBODY, [name], HookRequest({"x-signature-256": "0" * 64}, b"", request.body), now
            )
            LOGGER.info(
                "A call from %s was refused: there is no hook %r", peer, name[:MAX_NUMBER_LENGTH]
            )
            raise UnauthorizedError(REFUSED)
        note = record_of_call(request, hook.secret_headers, peer, now)
        verification = self._verification(hook, request, now)
        is_large = len(request.body) >= LARGE or (is_compressed(request) and request.body != b"")
        verified = await asyncio.to_thread(verification) if is_large else verification()
        if isinstance(verified, Rejection):
            self._refuse(hook, note("refused", code=verified.code, reason=verified.reason))
            raise _error_of(verified)
        if verified.challenge:
            reason = f"{hook.caller.title} verified the address; this is not an event"
            call = replace(note("accepted", reason=reason), challenge=verified.challenge)
            self._hooks.calls.add(hook.name, call)
            return call
        try:
            event_id, is_new = await self._accept_call(verified)
        except FlyteError as error:
            self._refuse(hook, note("refused", code=error.code, reason=error.message))
            raise
        call = note("accepted" if is_new else "repeated", event_id=event_id)
        self._hooks.calls.add(hook.name, call)
        return call

    def is_signed(self, name: str, request: HookRequest) -> bool:
        """Return whether a request is proven to come from the hook's vendor.

        Only a hook with a secret allows such a proof.
        """
        hook = self._hooks.find(name)
        if hook is None or hook.signing.scheme == "none":
            return False
        return isinstance(
            verify(hook.signing, self._hooks.secrets_of(hook), request, self._clock()), Proof
        )

    def reject(self, name: str, request: HookRequest, peer: str, error: FlyteError) -> None:
        """Record a call that could not even be received."""
        hook = self._hooks.find(name)
        if hook is not None:
            note = record_of_call(request, hook.secret_headers, peer, self._clock())
            self._refuse(
                hook, note("refused", code=error.code, reason=error.message, is_whole=False)
            )

    def _refuse(self, hook: Hook, call: HookCall) -> None:
        LOGGER.info(
            "A call of the hook %r from %s was refused: %s", hook.name, call.peer, call.reason
        )
        self._hooks.calls.add(hook.name, call)

    def _verification(
        self, hook: Hook, request: HookRequest, now: datetime
    ) -> Callable[[], VerifiedCall | Rejection]:
        known = self._hooks.secrets_of(hook)

        def verify_and_read() -> VerifiedCall | Rejection:
            if not known and hook.secrets:
                return Rejection(
                    "no-secret",
                    "no key of this server decrypts the secret of the hook; rotate the secret, or"
                    " configure the key",
                )
            return verify_call(hook, known, request, now)

        return verify_and_read

    async def _accept_call(self, verified: VerifiedCall) -> tuple[str, bool]:
        try:
            return await self._accept(PACK, verified.new_event, verified.key)
        except NotFoundError:  # the pack was removed
            await self._hooks.register_pack()
            return await self._accept(PACK, verified.new_event, verified.key)

    async def resend(self, name: str, event_id: str) -> HookCall:
        """Make another event of an accepted call, with the same payload; raise `NotFoundError`."""
        self._hooks.get(name)
        try:
            event = (await self._find_event(event_id)).event
        except NotFoundError as error:
            raise NotFoundError(
                f"There is no event {event_id!r} any more, so the call cannot be sent again."
            ) from error
        if event.pack.name != PACK or event.name != name:
            raise NotFoundError(f"The event {event_id!r} is not from a call of the hook {name!r}.")
        try:
            payload = msgspec.json.decode(event.payload, type=dict[str, msgspec.Raw])
        except msgspec.MsgspecError as error:  # a client sent it in the name of the pack
            raise NotFoundError(
                f"The event {event_id!r} is not from a call of the hook {name!r}."
            ) from error
        again = payload | {"resentFrom": msgspec.Raw(msgspec.json.encode(event_id))}
        sent_id, _ = await self._accept_call(
            VerifiedCall(NewEvent(name, msgspec.json.encode(again)), None)
        )
        call = _resent_call(payload, event_id, sent_id, self._clock())
        self._hooks.calls.add(name, call)
        return call

    async def send_test(self, name: str, body: bytes, content_type: str, event: str) -> HookCall:
        """Make a call signed with the hook's secret.

        Raise `NotFoundError`, or as `receive` does.
        """
        hook = self._hooks.get(name)
        number = uuid4()
        headers = {
            "Content-Type": content_type,
            "User-Agent": "flyte-hooks-test",
            **_test_headers(hook, event, number),
        }
        known = self._hooks.secrets_of(hook)
        if known:
            headers |= sign(hook.signing, known[0], body, self._clock(), str(number))
        request = HookRequest(
            {header.lower(): value for header, value in headers.items()}, b"", body
        )
        try:
            return await self.receive(name, request, "flyte hooks test")
        except UnauthorizedError as error:
            raise InputError(
                "The hook rejected the call; its last calls show the reason."
            ) from error


def _resent_call(
    payload: Mapping[str, msgspec.Raw], event_id: str, sent_id: str, now: datetime
) -> HookCall:
    body = bytes(payload.get("body", b""))
    return HookCall(
        received_at=now,
        peer="flyte hooks resend",
        outcome="accepted",
        reason=f"resent from event {event_id}",
        event_id=sent_id,
        body=body[:MAX_BODY_LENGTH].decode("utf-8", "replace"),
        size=len(body),
    )


def _error_of(refusal: Rejection) -> FlyteError:
    """Return the error for the caller, which learns details only if the call is genuine."""
    match refusal.code:
        case "unreadable":
            return InputError(refusal.reason)
        case "too-large":
            return TooLargeError(refusal.reason)
        case _:
            return UnauthorizedError(REFUSED)


def _test_headers(hook: Hook, event: str, number: UUID) -> dict[str, str]:
    return hook.caller.test_headers(event, number)


def verify_call(
    hook: Hook, secrets: Sequence[str], request: HookRequest, now: datetime
) -> VerifiedCall | Rejection:
    """Verify a call and read it.

    The signature may be of the compressed or of the decompressed body.
    """
    plain, fault = request, None
    if is_compressed(request):
        try:
            plain = decompressed(request)
        except InputError as error:
            fault = error
    proof = verify(hook.signing, secrets, request, now)
    if isinstance(proof, Rejection) and proof.code == "bad-signature" and plain is not request:
        proof = verify(hook.signing, secrets, plain, now)
    if isinstance(proof, Rejection):
        return proof
    try:
        if fault is not None:
            raise fault
        return read_call(hook, plain, proof, now)
    except TooLargeError as error:
        return Rejection(error.code, error.message)
    except InputError as error:
        return Rejection("unreadable", error.message)


def read_call(
    hook: Hook, request: HookRequest, proof: Proof, now: datetime
) -> VerifiedCall | Rejection:
    """Return the content of a genuine call, or a refusal if its body is too old.

    Raise `InputError` if it cannot be read.
    """
    content = read_content(request)
    signing = hook.signing
    # The time cannot be removed from a signed body, so a body that never had one is accepted.
    stamp = field_at(content.value, signing.timestamp_field) if signing.timestamp_field else None
    if stamp is not None and (refusal := check_timestamp(stamp, now, signing)):
        return refusal
    configured = _configured_number(signing, request, content.value)
    number = configured or hook.caller.delivery(request)
    payload = {
        "hook": hook.name,
        "vendor": hook.vendor,
        "event": hook.caller.event(request, content.value),
        "deliveryId": number,
        "receivedAt": format_timestamp(now),
        "contentType": content.media_type,
        "headers": event_headers(request, hook.secret_headers),
        "query": collect_fields(request.query.decode("latin-1")),
        "body": content.text,
    }
    # A signed id comes first; a vendor that signs anew with each attempt is identified by the id
    # that stays the same.
    identity = proof.identity or configured or proof.digest or number
    key = None if identity is None else _key(hook, identity)
    return VerifiedCall(
        NewEvent(hook.name, msgspec.json.encode(payload)), key, hook.caller.challenge(content.value)
    )


def _configured_number(signing: Signing, request: HookRequest, body: JsonValue) -> str | None:
    number = field_at(body, signing.delivery_field) if signing.delivery_field else None
    return number or (request.header(signing.delivery_header) if signing.delivery_header else None)


def _key(hook: Hook, identity: str) -> str:
    is_short = identity.isascii() and identity.isprintable() and len(identity) <= MAX_NUMBER_LENGTH
    # A deleted and recreated hook is a different hook, in spite of its name.
    part = identity if is_short else sha256(identity.encode()).hexdigest()
    return f"hook:{hook.name}:{hook.created_at.timestamp():.3f}:{part}"
