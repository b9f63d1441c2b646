"""What becomes of a call: it is verified, read, and taken in as an event, once; or refused, and why is noted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from flyteops import instant
from flyteops.errors import FlyteError, InputError, NotFoundError, UnauthorizedError
from flyteops.model import Happening
from flyteops.service.hook.book import PACK, HookBook
from flyteops.service.hook.content import gathered, read_content, told_headers
from flyteops.service.hook.hook import Hook
from flyteops.service.hook.record import HookCall, noted
from flyteops.service.hook.scheme import Proof, Refusal, Request, Signing, sign, verify

LOGGER = logging.getLogger("flyte.hooks")

REFUSED = "The call was not accepted: there is no such hook, or it does not let you in. Who may, sees why: on the page /hooks."
"""What everybody is told, so that nobody learns which hooks there are."""

NOBODY = Signing(scheme="hmac", header="X-Signature-256")

LARGE = 64 * 1024
"""From this size on a call is verified and read in a thread, so that others need not wait for it."""

LONGEST_NUMBER = 255

Accept = Callable[[str, Happening, str | None], Awaitable[tuple[str, bool]]]
"""Takes in an event of a pack, under a key; returns its id, and whether it is new."""


class Told(NamedTuple):
    """What a call says, and the key by which it is known when it comes again."""

    happening: Happening
    key: str | None


class Reception:
    """Takes calls."""

    def __init__(self, book: HookBook, accept: Accept, clock: Callable[[], datetime]) -> None:
        self._book = book
        self._accept = accept
        self._clock = clock

    async def receive(self, name: str, request: Request, peer: str) -> HookCall:
        """Take a call in; when this returns, its event and all that follows are durable, from this call or an earlier one.

        Raise `UnauthorizedError` unless there is such a hook and the call is genuine, and `InputError` when it cannot be read.
        """
        hook = self._book.find(name)
        now = self._clock()
        if hook is None:
            # As much work as for a hook, so that nobody can tell by the time that it takes.
            verify(NOBODY, [name], Request({"x-signature-256": "0" * 64}, b"", request.body), now)
            LOGGER.info("A call from %s was refused: there is no hook %r", peer, name[:LONGEST_NUMBER])
            raise UnauthorizedError(REFUSED)
        note = noted(request, hook.secret_headers, peer, now)
        judged = self._judge(hook, request, now)
        told = await asyncio.to_thread(judged) if len(request.body) >= LARGE else judged()
        if isinstance(told, Refusal):
            self._refuse(hook, note("refused", code=told.code, reason=told.reason))
            raise InputError(told.reason) if told.code == "unreadable" else UnauthorizedError(REFUSED)
        try:
            event_id, is_new = await self._take_in(told)
        except FlyteError as error:
            self._refuse(hook, note("refused", code=error.code, reason=error.message))
            raise
        call = note("accepted" if is_new else "repeated", event_id=event_id)
        self._book.calls.add(hook.name, call)
        return call

    def is_signed(self, name: str, request: Request) -> bool:
        """Tell whether a request proves that it comes from the hook's vendor, which only a hook with a secret allows."""
        hook = self._book.find(name)
        if hook is None or hook.signing.scheme == "none":
            return False
        return isinstance(verify(hook.signing, self._book.secrets_of(hook), request, self._clock()), Proof)

    def turn_away(self, name: str, request: Request, peer: str, error: FlyteError) -> None:
        """Note that a call could not even be received."""
        hook = self._book.find(name)
        if hook is not None:
            note = noted(request, hook.secret_headers, peer, self._clock())
            self._refuse(hook, note("refused", code=error.code, reason=error.message, is_whole=False))

    def _refuse(self, hook: Hook, call: HookCall) -> None:
        LOGGER.info("A call of the hook %r from %s was refused: %s", hook.name, call.peer, call.reason)
        self._book.calls.add(hook.name, call)

    def _judge(self, hook: Hook, request: Request, now: datetime) -> Callable[[], Told | Refusal]:
        known = self._book.secrets_of(hook)

        def judge() -> Told | Refusal:
            if not known and hook.secrets:
                return Refusal(
                    "no-secret", "no key of this server opens the secret of the hook; rotate it, or give the server the key"
                )
            proof = verify(hook.signing, known, request, now)
            if isinstance(proof, Refusal):
                return proof
            try:
                return read_call(hook, request, proof, now)
            except InputError as error:
                return Refusal("unreadable", error.message)

        return judge

    async def _take_in(self, told: Told) -> tuple[str, bool]:
        try:
            return await self._accept(PACK, told.happening, told.key)
        except NotFoundError:  # somebody has removed the pack
            await self._book.register()
            return await self._accept(PACK, told.happening, told.key)

    async def try_out(self, name: str, body: bytes, content_type: str, event: str) -> HookCall:
        """Make a call as somebody would who knows the secret; raise `NotFoundError`, or as `receive` does."""
        hook = self._book.get(name)
        number = uuid4()
        headers = {"Content-Type": content_type, "User-Agent": "flyte-hooks-test", **_test_headers(hook, event, number)}
        known = self._book.secrets_of(hook)
        if known:
            headers |= sign(hook.signing, known[0], body, self._clock(), str(number))
        request = Request({header.lower(): value for header, value in headers.items()}, b"", body)
        try:
            return await self.receive(name, request, "flyte hooks test")
        except UnauthorizedError as error:
            raise InputError("The hook does not let the call in; its last calls say why.") from error


def _test_headers(hook: Hook, event: str, number: UUID) -> dict[str, str]:
    return hook.caller.test_headers(event, number)


def read_call(hook: Hook, request: Request, proof: Proof, now: datetime) -> Told:
    """Return what a genuine call says; raise `InputError` when that cannot be read."""
    content = read_content(request)
    number = hook.caller.delivery(request)
    payload = {
        "hook": hook.name,
        "vendor": hook.vendor,
        "event": hook.caller.event(request, content.value),
        "deliveryId": number,
        "receivedAt": instant.write(now),
        "contentType": content.media_type,
        "headers": told_headers(request, hook.secret_headers),
        "query": gathered(request.query.decode("latin-1")),
        "body": content.text,
    }
    identity = proof.identity or number
    return Told(Happening(hook.name, msgspec.json.encode(payload)), None if identity is None else _key(hook, identity))


def _key(hook: Hook, identity: str) -> str:
    is_short = identity.isascii() and identity.isprintable() and len(identity) <= LONGEST_NUMBER
    # Another hook of the same name is another one.
    return f"hook:{hook.name}:{hook.created_at.timestamp():.3f}:{identity if is_short else sha256(identity.encode()).hexdigest()}"
