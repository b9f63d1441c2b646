"""The rules on ending an action and on its result. Pure: called inside the store's transactions."""

from hmac import compare_digest
from typing import Literal

import msgspec

from flyteops.engine.context import EvaluationContext
from flyteops.errors import ConflictError
from flyteops.model import (
    FATAL,
    Action,
    ActionSnapshot,
    ActionState,
    Event,
    Lease,
    PackRef,
    has_labels,
    pack_id,
)
from flyteops.transition import LateResult

Resolution = Literal["succeeded", "failed", "retry"]
"""The outcome of an action that a person reports."""

RESOLVED = "Resolved"
"""The default event by which a person reports that a command has succeeded."""

UNFINISHED = (ActionState.PENDING, ActionState.UNKNOWN)


def rule_on_result(event: Event, snapshot: ActionSnapshot, lease: str | None) -> LateResult | bool:
    """Return whether to apply a result, or `LateResult` to keep it only; raise `ConflictError`.

    False is for a result that was applied before.
    """
    check_may_complete(event.pack, snapshot)
    if snapshot.result is not None and is_same_result(event, snapshot.result):
        return False
    if snapshot.timeout is not None:
        shown = shown_lease(snapshot, lease)
        if shown.number != snapshot.attempt or (
            shown.is_lost and snapshot.state is not ActionState.UNKNOWN
        ):
            return LateResult(shown.number)
    if snapshot.result is not None:
        raise ConflictError(f"Action {snapshot.action_id!r} has ended with another result already.")
    if snapshot.state not in UNFINISHED:
        raise ConflictError(
            f"Action {snapshot.action_id!r} is {snapshot.state}; only a PENDING action takes a"
            " result."
        )
    return True


def accept(_progress: ActionSnapshot) -> None:
    """Accept every state: a person may do all that the state of the action allows."""


def is_open(action: Action | ActionSnapshot) -> bool:
    """Return True for an action that a person may end; raise `ConflictError` for others."""
    if action.state in UNFINISHED:
        return True
    raise ConflictError(
        f"Action {action.action_id!r} is {action.state}; only what is PENDING or UNKNOWN can be"
        " resolved."
    )


def shown_lease(snapshot: ActionSnapshot, token: str | None) -> Lease:
    """Return the lease for a token; raise `ConflictError` for one never given to the pack.

    Without a token, only the first attempt can be meant, and only as long as there is no other.
    """
    if token is None and snapshot.attempt == 1 and snapshot.leases:
        return snapshot.leases[0]
    for lease in snapshot.leases:
        if token is not None and compare_digest(
            lease.token.encode(), token.encode(errors="replace")
        ):
            return lease
    raise ConflictError(
        f"Action {snapshot.action_id!r} has a time limit and was handed out {snapshot.attempt}"
        " times; use the link that came with it."
    )


def check_may_complete(pack: PackRef, snapshot: ActionSnapshot) -> None:
    """Raise `ConflictError` unless this pack could have taken the action."""
    if pack.name != snapshot.pack_name or not has_labels(pack.labels, snapshot.pack_labels):
        raise ConflictError(f"Action {snapshot.action_id!r} is not for pack {pack.id!r}.")


def check_may_extend(pack: PackRef, snapshot: ActionSnapshot, lease: str | None) -> None:
    """Raise `ConflictError` unless this attempt of the pack holds the current lease, if any."""
    check_may_complete(pack, snapshot)
    if snapshot.timeout is not None and shown_lease(snapshot, lease).number != snapshot.attempt:
        raise ConflictError(f"Action {snapshot.action_id!r} was lost and handed out again.")


def check_may_return(
    pack: PackRef, snapshot: ActionSnapshot, lease: str | None, revision: int
) -> None:
    """Raise `ConflictError` unless the action is PENDING, and of this claim of the pack."""
    check_may_complete(pack, snapshot)
    if snapshot.state is not ActionState.PENDING:
        raise ConflictError(
            f"Action {snapshot.action_id!r} is {snapshot.state}; only a PENDING action can be given"
            " back."
        )
    if snapshot.timeout is None:
        is_current = revision == snapshot.revision
    else:
        is_current = bool(lease) and shown_lease(snapshot, lease).number == snapshot.attempt
    if not is_current:
        raise ConflictError(
            f"Action {snapshot.action_id!r} was given back or lost, and handed out again."
        )


def result_of(
    resolution: Resolution,
    action: Action,
    name: str | None,
    payload: bytes | None,
    ctx: EvaluationContext,
) -> Event:
    """Return the event that an operator reports as the result of an action."""
    return Event(
        event_id=ctx.new_id(),
        name=FATAL if resolution == "failed" else name or RESOLVED,
        pack=PackRef(
            pack_id(action.pack_name, action.pack_labels), action.pack_name, action.pack_labels
        ),
        payload=msgspec.json.encode({"resolution": resolution}) if payload is None else payload,
        received_at=ctx.now,
        failure=resolution == "failed",
    )


def is_same_result(event: Event, earlier: Event) -> bool:
    """Return whether a result equals an earlier one, as when a client did not get the answer."""
    if event.name != earlier.name:
        return False
    return event.payload == earlier.payload or _canonical(event.payload) == _canonical(
        earlier.payload
    )


def _canonical(payload: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
