"""How values become columns and columns values again."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from flyteops.model import ActionState, Decision, Flow, PackDeclaration, Transition

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATER = "LATER"
"""The state of a NEW action that may not be taken yet, so that whoever takes need not look at the time."""

SINCE = "CAST(substr(states, length(rtrim(states, '0123456789')) + 1) AS INTEGER)"
"""In SQL, when an action came to its state: the end of `states`."""

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
