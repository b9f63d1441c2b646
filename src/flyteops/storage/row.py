"""How values become columns and columns values again, in every database that has columns."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from flyteops.model import Action, ActionState, Attempt, Decision, Event, Flow, PackDeclaration, PackRef, Transition
from flyteops.storage.base import PAGE_BYTES, ActionStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATER = "LATER"
"""The state of a NEW action that may not be taken yet, so that whoever takes need not look at the time."""

UNFINISHED = frozenset(["PENDING", "UNKNOWN"])
"""The states in which an action may be finished."""

STATES = {**{state.value: state for state in ActionState}, LATER: ActionState.NEW}
"""What everybody sees of a stored state."""

MICROSECOND = timedelta(microseconds=1)

encode_json = msgspec.json.Encoder(order="deterministic").encode
encode_decisions = msgspec.json.Encoder().encode
decode_decisions = msgspec.json.Decoder(tuple[Decision, ...]).decode
decode_strings = msgspec.json.Decoder(dict[str, str]).decode
decode_flow = msgspec.json.Decoder(Flow).decode
decode_declaration = msgspec.json.Decoder(PackDeclaration).decode


def to_microseconds(at: datetime) -> int:
    """Return the microseconds since the epoch."""
    passed = at - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def to_instant(microseconds: int) -> datetime:
    """Return the instant so many microseconds after the epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_text(labels: Mapping[str, str]) -> str:
    """Return the labels as JSON in key order: equal labels are equal texts."""
    return encode_json(labels).decode() if labels else "{}"


def to_transitions(states: str) -> tuple[Transition, ...]:
    """Read the `states` column of an action."""
    pairs = (entry.split(" ") for entry in states.split(","))
    return tuple(Transition(ActionState(state), to_instant(int(at))) for state, at in pairs)


def created_at_of(text: str | None) -> datetime | None:
    """Read the `created_at` column of an event."""
    return None if text is None else datetime.fromisoformat(text)


def event_of(columns: Sequence[Any]) -> Event:
    """Return an event from its id, name, pack's id, name and labels, payload, and times of receipt and creation."""
    event_id, name, pack_id, pack_name, labels, payload, received_at, created_at = columns
    pack = PackRef(pack_id, pack_name, decode_strings(labels))
    return Event(event_id, name, pack, payload, to_instant(received_at), created_at_of(created_at))


def action_of(
    columns: Sequence[Any],
    head: tuple[str, str, str],
    trigger: Event,
    result: Event | None,
    attempts: Sequence[Attempt],
) -> Action:
    """Return an action from its columns, the ids of its execution and flow, and what belongs to it."""
    action_id, name, pack_name, labels, input_, step_id, step_index, context, states, due_at = columns
    correlation_id, flow_name, flow_uuid = head
    return Action(
        action_id=action_id,
        name=name,
        pack_name=pack_name,
        pack_labels=decode_strings(labels),
        input=input_,
        correlation_id=correlation_id,
        flow_name=flow_name,
        flow_uuid=flow_uuid,
        step_id=step_id,
        step_index=step_index,
        context=decode_strings(context),
        trigger=trigger,
        states=to_transitions(states),
        result=result,
        due_at=None if due_at is None else to_instant(due_at),
        attempts=tuple(attempts),
    )


def status_of(columns: Sequence[Any]) -> ActionStatus:
    """Return from its columns how an action stands."""
    action_id, name, pack_name, labels, correlation_id, flow_name, step_id, states, attempt, due_at = columns
    transitions = to_transitions(states)
    return ActionStatus(
        action_id=action_id,
        name=name,
        pack_name=pack_name,
        pack_labels=decode_strings(labels),
        correlation_id=correlation_id,
        flow_name=flow_name,
        step_id=step_id,
        state=transitions[-1].state,
        since=transitions[-1].at,
        created_at=transitions[0].at,
        attempt=attempt,
        due_at=None if due_at is None else to_instant(due_at),
    )


def up_to_page(seqs: Sequence[int], sizes: Mapping[int, int]) -> Sequence[int]:
    """Return as many of these as fit on a page, given their sizes in bytes; at least one."""
    room = PAGE_BYTES
    for index, seq in enumerate(seqs):
        room -= sizes.get(seq, 0)
        if room < 0:
            return seqs[: max(index, 1)]
    return seqs
