"""The actions that wait at the heads of their queues, and what is known of them before they are handed out."""

from collections import deque
from typing import NamedTuple

import msgspec

from flyteops.model import ActionState, NewAction, PackRef, has_labels
from flyteops.storage.row import STATES

PREFETCH = 64
"""How many actions are read from a queue at a time."""

SMALL = 16_384
"""Bytes of input that are kept in memory with a prefetched action; longer ones are read when the action is claimed."""

SHORT = 1_024
"""Bytes of context that are kept in memory with an action that is handed out; those with more are read when they end."""

Key = tuple[tuple[str, str], ...]


class Found(msgspec.Struct, frozen=True):
    """An action as it is in the database, with its execution; `is_alone` when that is known to have no other.

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
    is_alone: bool = False

    @property
    def visible_state(self) -> ActionState:
        return STATES[self.state]


FIND = (
    "SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, a.state, a.context, a.result_seq,"
    " a.attempt, a.timeout, a.due_at, e.correlation_id, e.flow_name, e.flow_uuid"
    " FROM action a JOIN execution e ON e.seq = a.execution_seq WHERE "
)

NEXT = (
    "SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, 'PENDING',"
    " iif(length(a.context) <= ?, a.context, x''), NULL, a.attempt + 1, a.timeout, NULL, e.correlation_id, e.flow_name,"
    " e.flow_uuid, NOT EXISTS (SELECT 1 FROM action other WHERE other.execution_seq = a.execution_seq AND other.seq <> a.seq),"
    " iif(length(a.input) <= ?, a.input, NULL)"
    " FROM action a JOIN execution e ON e.seq = a.execution_seq WHERE a.queue_id = ? AND a.state = 'NEW' ORDER BY a.seq LIMIT ?"
)
"""The head of a queue, as it will be found once it is handed out."""


class Waiting(msgspec.Struct, frozen=True):
    """A NEW action at the head of its queue, as it will be once it is handed out; `input` is None when it is long."""

    action: Found
    input: bytes | None


class Place(NamedTuple):
    """Where a new action belongs: its execution, in which it may be alone, and its queue; with its context as JSON."""

    execution_seq: int
    queue_id: int
    context: bytes
    is_alone: bool


def waiting_as(seq: int, action: NewAction, place: Place, timeout: int | None) -> Waiting:
    """Return an action that has just come as `NEXT` will find it."""
    found = Found(
        seq,
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
        place.is_alone,
    )
    return Waiting(found, action.input if len(action.input) <= SMALL else None)


class Queue:
    """Actions that ask the same of the same packs. `heads` are its oldest NEW actions, all of them when it `is_whole`.

    `is_waiting` may be True of a queue without NEW actions, never False of one that has some.
    """

    __slots__ = ("command", "heads", "is_waiting", "is_whole", "labels", "pack_name", "queue_id")

    def __init__(self, queue_id: int, pack_name: str, command: str, labels: dict[str, str]) -> None:
        self.queue_id = queue_id
        self.pack_name = pack_name
        self.command = command
        self.labels = labels
        self.heads: deque[Waiting] = deque()
        self.is_waiting = True
        self.is_whole = False

    @property
    def key(self) -> tuple[str, str, Key]:
        return self.pack_name, self.command, tuple(sorted(self.labels.items()))

    def serves(self, pack: PackRef, command: str | None) -> bool:
        if pack.name != self.pack_name or command not in (None, self.command):
            return False
        return has_labels(pack.labels, self.labels)

    def append(self, new: Waiting) -> None:
        """Add a new action at the end; behind many others it is left to be read when its turn comes."""
        self.is_waiting = True
        self.is_whole = self.is_whole and len(self.heads) < PREFETCH
        if self.is_whole:
            self.heads.append(new)

    def drop_heads(self) -> None:
        """Have them read again."""
        self.heads.clear()
        self.is_whole = False
