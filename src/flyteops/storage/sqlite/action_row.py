"""The rows of actions as the writer keeps them in memory."""

from typing import NamedTuple

import msgspec

from flyteops.model import ActionState, NewAction
from flyteops.storage.row import STATES

SMALL = 16_384
"""Bytes of input kept with a prefetched action; longer ones are read when it is claimed."""

SHORT = 1_024
"""Bytes of context kept in memory with an in-flight action; longer ones are read when it ends."""


BRIEF = 1_024
"""Bytes of input kept with an action that waits behind many others of its queue."""


class ActionRow(msgspec.Struct, frozen=True):
    """A stored action with its execution; `is_only_action` if known to be the only one of it.

    One that waits to be handed out has an empty context when that is long.
    """

    seq: int
    execution_seq: int
    action_id: str
    step_id: str
    step_index: int
    queue_id: int
    state: str
    context: bytes
    result_seq: int | None
    attempt: int
    timeout: int | None
    due_at: int | None
    correlation_id: str
    flow_name: str
    flow_uuid: str
    revision: int
    is_only_action: bool = False

    @property
    def visible_state(self) -> ActionState:
        return STATES[self.state]


class QueuedAction(msgspec.Struct, frozen=True):
    """A NEW action at the head of its queue, as it will be once handed out.

    `input` is None when it is long.
    """

    action: ActionRow
    input: bytes | None

    @property
    def is_brief(self) -> bool:
        return self.input is not None and len(self.input) <= BRIEF


class EventRow(NamedTuple):
    """The numbers of a new event's row; `referrers` is the number of actions that refer to it."""

    seq: int
    source_id: int
    received_at: int
    action_seq: int | None
    referrers: int


class Placement(NamedTuple):
    """A new action's numbers, context as JSON, and whether it is the only one of its execution."""

    seq: int
    execution_seq: int
    queue_id: int
    context: bytes
    is_only_action: bool


def queued_action(action: NewAction, place: Placement, timeout: int | None) -> QueuedAction:
    """Return a new action in the form in which it is read from the head of its queue."""
    row = ActionRow(
        place.seq,
        place.execution_seq,
        action.action_id,
        action.step_id,
        action.step_index,
        place.queue_id,
        "PENDING",
        place.context if len(place.context) <= SHORT else b"",
        None,
        1,
        timeout,
        None,
        action.correlation_id,
        action.flow_name,
        action.flow_uuid,
        1,
        place.is_only_action,
    )
    return QueuedAction(row, action.input if len(action.input) <= SMALL else None)
