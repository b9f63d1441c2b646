"""The rules on ending an action and on its result. Pure: called inside the store's transactions."""

from hmac import compare_digest
from typing import Literal

import msgspec

from flyteops.engine.context import Moment
from flyteops.errors import ConflictError
from flyteops.model import FATAL, Action, ActionState, Event, Lease, PackRef, Progress, has_labels, pack_id
from flyteops.ruling import Late

Resolution = Literal["succeeded", "failed", "retry"]
"""The outcome of an action that a person reports."""

RESOLVED = "Resolved"
"""The default event by which a person reports that a command has succeeded."""

UNFINISHED = (ActionState.PENDING, ActionState.UNKNOWN)


def rule_on_result(event: Event, progress: Progress, lease: str | None) -> Late | bool:
    """Return whether to apply a result, or `Late` to keep it only; raise `ConflictError`.

    False is for a result that was applied before.
    """
    check_may_complete(event.pack, progress)
    if progress.result is not None and is_same_result(event, progress.result):
        return False
    if progress.timeout is not None:
        shown = shown_lease(progress, lease)
        if shown.number != progress.attempt or (shown.is_lost and progress.state is not ActionState.UNKNOWN):
            return Late(shown.number)
    if progress.result is not None:
        raise ConflictError(f"Action {progress.action_id!r} has ended with another result already.")
    if progress.state not in UNFINISHED:
        raise ConflictError(f"Action {progress.action_id!r} is {progress.state}; only a PENDING action takes a result.")
    return True


def accept(_progress: Progress) -> None:
    """Accept every state: a person may do all that the state of the action allows."""


def is_open(action: Action | Progress) -> bool:
    """Return True for an action that a person may end; raise `ConflictError` for others."""
    if action.state in UNFINISHED:
        return True
    raise ConflictError(f"Action {action.action_id!r} is {action.state}; only what is PENDING or UNKNOWN can be resolved.")


def shown_lease(progress: Progress, token: str | None) -> Lease:
    """Return the lease for a token; raise `ConflictError` for one never given to the pack.

    Without a token, only the first attempt can be meant, and only as long as there is no other.
    """
    if token is None and progress.attempt == 1 and progress.leases:
        return progress.leases[0]
    for lease in progress.leases:
        if token is not None and compare_digest(lease.token.encode(), token.encode(errors="replace")):
            return lease
    raise ConflictError(
        f"Action {progress.action_id!r} has a time limit and was handed out {progress.attempt} times;"
        " use the link that came with it."
    )


def check_may_complete(pack: PackRef, progress: Progress) -> None:
    """Raise `ConflictError` unless this pack could have taken the action."""
    if pack.name != progress.pack_name or not has_labels(pack.labels, progress.pack_labels):
        raise ConflictError(f"Action {progress.action_id!r} is not for pack {pack.id!r}.")


def check_may_extend(pack: PackRef, progress: Progress, lease: str | None) -> None:
    """Raise `ConflictError` unless this attempt of the pack holds the current lease, if any."""
    check_may_complete(pack, progress)
    if progress.timeout is not None and shown_lease(progress, lease).number != progress.attempt:
        raise ConflictError(f"Action {progress.action_id!r} was lost and handed out again.")


def check_may_return(pack: PackRef, progress: Progress, lease: str | None, revision: int) -> None:
    """Raise `ConflictError` unless the action is PENDING, and of this claim of the pack."""
    check_may_complete(pack, progress)
    if progress.state is not ActionState.PENDING:
        raise ConflictError(f"Action {progress.action_id!r} is {progress.state}; only a PENDING action can be given back.")
    if progress.timeout is None:
        is_current = revision == progress.revision
    else:
        is_current = bool(lease) and shown_lease(progress, lease).number == progress.attempt
    if not is_current:
        raise ConflictError(f"Action {progress.action_id!r} was given back or lost, and handed out again.")


def result_of(resolution: Resolution, action: Action, name: str | None, payload: bytes | None, moment: Moment) -> Event:
    """Return the event that an operator reports as the result of an action."""
    return Event(
        event_id=moment.new_id(),
        name=FATAL if resolution == "failed" else name or RESOLVED,
        pack=PackRef(pack_id(action.pack_name, action.pack_labels), action.pack_name, action.pack_labels),
        payload=msgspec.json.encode({"resolution": resolution}) if payload is None else payload,
        received_at=moment.now,
        failure=resolution == "failed",
    )


def is_same_result(event: Event, earlier: Event) -> bool:
    """Return whether a result equals an earlier one, as when a client did not get the answer."""
    if event.name != earlier.name:
        return False
    return event.payload == earlier.payload or _canonical(event.payload) == _canonical(earlier.payload)


def _canonical(payload: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
