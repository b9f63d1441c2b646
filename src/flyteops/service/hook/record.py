"""The last calls of each hook, kept in the store, so that every server shows those of all.

Their number is bounded for any rate of calls. A call is recorded in memory and stored a little
later, so that callers do not wait for that. The records that a killed server had not stored yet are
lost; the events themselves are not.
"""

import secrets
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from flyteops.errors import NotFoundError, UnavailableError
from flyteops.model import Note
from flyteops.service.hook.content import is_secret
from flyteops.service.hook.signing import HookRequest
from flyteops.storage.base import Store

CALL = "hook-call"
"""The kind of the notes."""

KEPT = 20
"""The number kept of accepted calls, and of refused ones, so that neither displaces the other."""

MAX_BODY_LENGTH = 2048
MAX_HEADER_LENGTH = 200
MAX_HEADERS = 40

MASK = "***"

Outcome = Literal["accepted", "repeated", "refused"]

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class HookCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call as received, and its outcome; a `code` and a `reason` say why it was refused.

    `body` is the beginning of the body, as text; `size` is its length in bytes, None if it was not
    read to its end. A `repeated` call has the event of the first.
    """

    received_at: datetime
    peer: str
    outcome: Outcome
    code: str = ""
    reason: str = ""
    event_id: str = ""
    headers: dict[str, str] = {}
    query: str = ""
    body: str = ""
    size: int | None = None
    challenge: str = ""
    """The value that the caller expects in the answer, as Slack does to verify an address.

    There is no event then.
    """

    @property
    def group(self) -> str:
        """Retention bucket: the last 20 accepted and the last 20 refused calls are kept."""
        return "refused" if self.outcome == "refused" else "accepted"


def shown_headers(request: HookRequest, secret_headers: Sequence[str]) -> dict[str, str]:
    """Return the headers of a call as shown to users."""
    return {
        name[:MAX_HEADER_LENGTH]: MASK
        if is_secret(name, secret_headers)
        else value[:MAX_HEADER_LENGTH]
        for name, value in sorted(request.headers.items())[:MAX_HEADERS]
    }


class CallLog:
    """Keeps and shows the last calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[tuple[str, str], deque[HookCall]] = {}

    def add(self, hook: str, call: HookCall) -> None:
        """Record a call, to be stored soon."""
        self._waiting.setdefault((hook, call.group), deque(maxlen=KEPT)).append(call)

    def forget_others(self, hooks: Collection[str]) -> None:
        """Drop unstored calls of all other hooks, which were deleted meanwhile."""
        for hook, group in [key for key in self._waiting if key[0] not in hooks]:
            del self._waiting[hook, group]

    async def store(self) -> None:
        """Store the recorded calls, and remove those beyond the bound."""
        while self._waiting:
            (hook, group), calls = self._waiting.popitem()
            try:
                while calls:
                    await self._store.save_note(
                        Note(CALL, _key(hook, calls[0]), msgspec.json.encode(calls[0]))
                    )
                    calls.popleft()
            except UnavailableError:
                for call in [*calls, *self._waiting.pop((hook, group), [])]:
                    self.add(hook, call)
                raise
            await self._trim(hook, group)

    async def _trim(self, hook: str, group: str) -> None:
        for note in (await self._notes(hook, group, limit=3 * KEPT))[KEPT:]:
            await self._delete(note)

    async def _delete(self, note: Note) -> None:
        with suppress(NotFoundError):  # another server was faster
            await self._store.delete_note(CALL, note.key)

    async def _notes(self, hook: str, group: str, limit: int) -> list[Note]:
        """Return the notes of a group, newest first."""
        prefix = f"{hook}.{group}."
        notes = await self._store.list_notes(
            CALL, after=f"{prefix}:", limit=limit, backwards=True
        )  # a colon is behind all digits
        return [note for note in notes if note.key.startswith(prefix)]

    async def list(self, hook: str) -> Sequence[HookCall]:
        """Return the last calls, newest first."""
        await self.store()
        found = []
        for group in ("accepted", "refused"):
            for note in await self._notes(hook, group, KEPT):
                # A call that cannot be read is left out; the others are shown.
                with suppress(ValueError, RecursionError):
                    found.append(msgspec.json.decode(note.value, type=HookCall))
        return sorted(found, key=lambda call: call.received_at, reverse=True)

    async def forget(self, hook: str) -> None:
        """Remove all calls of a hook."""
        for group in ("accepted", "refused"):
            self._waiting.pop((hook, group), None)
            while notes := await self._notes(hook, group, limit=100):
                for note in notes:
                    await self._delete(note)


def _key(hook: str, call: HookCall) -> str:
    micros = (call.received_at - EPOCH) // timedelta(microseconds=1)
    return f"{hook}.{call.group}.{micros:018d}{secrets.randbelow(10**9):09d}"


def record_of_call(
    request: HookRequest, secret_headers: Sequence[str], peer: str, at: datetime
) -> Callable[..., HookCall]:
    """Return a function that records a call once its outcome is known."""

    def note(
        outcome: Outcome,
        *,
        code: str = "",
        reason: str = "",
        event_id: str = "",
        is_whole: bool = True,
    ) -> HookCall:
        return HookCall(
            received_at=at,
            peer=peer,
            outcome=outcome,
            code=code,
            reason=reason,
            event_id=event_id,
            headers=shown_headers(request, secret_headers),
            query=request.query.decode("latin-1")[:MAX_HEADER_LENGTH],
            body=request.body[:MAX_BODY_LENGTH].decode("utf-8", "replace"),
            size=len(request.body) if is_whole else None,
        )

    return note
