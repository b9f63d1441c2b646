"""The actions that wait at the heads of their queues, and their data before they are handed out."""

from collections import deque
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

import msgspec

from flyteops.model import ActionState, NewAction, has_labels
from flyteops.storage.row import REVISION, STATES, subsets

PREFETCH = 64
"""The number of actions read from a queue at a time."""

SMALL = 16_384
"""Bytes of input kept with a prefetched action; longer ones are read when it is claimed."""

SHORT = 1_024
"""Bytes of context kept in memory with a handed-out action; longer ones are read when it ends."""

SPARE = 64
"""The number of stale entries that even the smallest heap may have."""

MAX_MATCHES = 10_000
"""The number of cached lookups of a pack's queues before all are dropped."""

Key = tuple[tuple[str, str], ...]


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


FIND = f"""
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, a.state, a.context, a.result_seq, a.attempt,
  a.timeout, a.due_at, e.correlation_id, e.flow_name, e.flow_uuid, {REVISION}
FROM action a JOIN execution e ON e.seq = a.execution_seq
WHERE """  # noqa: S608 - constant SQL

NEXT = f"""
SELECT a.seq, a.execution_seq, a.action_id, a.step_id, a.step_index, a.queue_id, 'PENDING',
  iif(length(a.context) <= ?, a.context, x''), NULL, a.attempt + 1, a.timeout, NULL, e.correlation_id, e.flow_name, e.flow_uuid,
  {REVISION} + 1, NOT EXISTS (SELECT 1 FROM action other WHERE other.execution_seq = a.execution_seq AND other.seq <> a.seq),
  iif(length(a.input) <= ?, a.input, NULL)
FROM action a JOIN execution e ON e.seq = a.execution_seq WHERE a.queue_id = ? AND a.state = 'NEW' ORDER BY a.seq LIMIT ?
"""  # noqa: S608 - constant SQL
"""The head of a queue, as it will be found once it is handed out."""


class QueuedAction(msgspec.Struct, frozen=True):
    """A NEW action at the head of its queue, as it will be once handed out.

    `input` is None when it is long.
    """

    action: ActionRow
    input: bytes | None


class Placement(NamedTuple):
    """A new action's place: execution, in which it may be alone, queue, and context as JSON."""

    execution_seq: int
    queue_id: int
    context: bytes
    is_only_action: bool


def queued_action(seq: int, action: NewAction, place: Placement, timeout: int | None) -> QueuedAction:
    """Return a new action in the form in which `NEXT` will find it."""
    found = ActionRow(
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
        1,
        place.is_only_action,
    )
    return QueuedAction(found, action.input if len(action.input) <= SMALL else None)


Refill = Callable[["Queue"], bool]
"""Reads the heads of a queue, and returns whether there are any."""


class Queue:
    """Actions with the same command and packs.

    `heads` are its oldest NEW actions, all of them when it `is_complete`. `is_waiting` may be True of
    a queue without NEW actions, never False of one that has some. `bound` is not greater than the
    number of its oldest NEW action.
    """

    __slots__ = ("bound", "command", "heads", "is_complete", "is_waiting", "labels", "pack_name", "queue_id")

    def __init__(self, queue_id: int, pack_name: str, command: str, labels: dict[str, str]) -> None:
        self.queue_id = queue_id
        self.pack_name = pack_name
        self.command = command
        self.labels = labels
        self.heads: deque[QueuedAction] = deque()
        self.is_waiting = True
        self.is_complete = False
        self.bound = 0

    @property
    def key(self) -> tuple[str, str, Key]:
        return self.pack_name, self.command, labels_key(self.labels)

    def append(self, new: QueuedAction) -> None:
        """Add a new action at the end; behind many others it is left to be read in its turn."""
        self.is_complete = self.is_complete and len(self.heads) < PREFETCH
        if self.is_complete:
            self.heads.append(new)

    def drop_heads(self) -> None:
        """Drop the heads, so that they are read again."""
        self.heads.clear()
        self.is_complete = False

    def head(self, refill: Refill) -> int | None:
        """Return the number of the oldest NEW action, None if there is none."""
        if self.is_waiting and not self.heads and not refill(self):
            self.is_waiting = False
        return self.heads[0].action.seq if self.is_waiting else None


class Group:
    """The queues with the same pack name and labels, which a pack may take from or not.

    `_order` is a heap with an entry for each queue that is waiting: its bound and its id. Entries
    with another bound are stale, and dropped at the top. The heap is never empty while an action
    waits, so that any thread may check it.
    """

    def __init__(self) -> None:
        self._by_command: dict[str, Queue] = {}
        self._by_id: dict[int, Queue] = {}
        self._order: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, queue: Queue) -> None:
        """Add a queue."""
        self._by_command[queue.command] = queue
        self._by_id[queue.queue_id] = queue
        self.mark_ready(queue, queue.bound)

    def remove(self, queue: Queue) -> None:
        """Remove a queue."""
        del self._by_command[queue.command]
        del self._by_id[queue.queue_id]

    def mark_ready(self, queue: Queue, bound: int) -> None:
        """Note that a queue may have NEW actions from this number on."""
        queue.is_waiting = True
        queue.bound = bound
        if len(self._order) > 2 * len(self._by_id) + SPARE:
            order = [(each.bound, each.queue_id) for each in self._by_id.values() if each.is_waiting]
            heapify(order)
            self._order = order
        else:
            heappush(self._order, (bound, queue.queue_id))

    def may_have_actions(self, command: str | None) -> bool:
        """Return whether an action may wait. From any thread."""
        if command is None:
            return bool(self._order)
        queue = self._by_command.get(command)
        return queue is not None and queue.is_waiting

    def oldest(self, command: str | None, refill: Refill) -> Queue | None:
        """Return the queue with the oldest NEW action, with its heads read; None without one."""
        if command is not None:
            queue = self._by_command.get(command)
            return None if queue is None or queue.head(refill) is None else queue
        order = self._order
        while order:
            bound, queue_id = order[0]
            queue = self._by_id.get(queue_id)
            head = None if queue is None or queue.bound != bound else queue.head(refill)
            if queue is None or head is None:
                heappop(order)
            elif head == bound:
                return queue
            else:
                queue.bound = head
                heapreplace(order, (head, queue_id))
        return None


class PackQueues:
    """The queues for packs of one name, by their labels."""

    def __init__(self) -> None:
        self._groups: dict[Key, Group] = {}
        self._matches: dict[Key, list[Group]] = {}

    def group(self, labels: Key) -> Group:
        """Return the queues with these labels."""
        found = self._groups.get(labels)
        if found is None:
            found = self._groups[labels] = Group()
            # The result of another thread's concurrent search in the former groups ends up in a
            # dictionary that is no longer used.
            self._matches = {}
        return found

    def remove(self, queue: Queue) -> bool:
        """Remove a queue; return whether others are left."""
        labels = labels_key(queue.labels)
        group = self._groups[labels]
        group.remove(queue)
        if not group:
            del self._groups[labels]
            self._matches = {}
        return bool(self._groups)

    def serving(self, labels: Mapping[str, str]) -> list[Group]:
        """Return the groups that a pack with these labels may take from. From any thread."""
        matches = self._matches
        key = labels_key(labels)
        found = matches.get(key)
        if found is None:
            found = self._look(key, labels)
            if len(matches) >= MAX_MATCHES:
                matches.clear()
            matches[key] = found
        return found

    def _look(self, key: Key, labels: Mapping[str, str]) -> list[Group]:
        if 2 ** len(key) <= len(self._groups):
            asked = (tuple(subset.items()) for subset in subsets(labels))
            return [group for each in asked if (group := self._groups.get(each)) is not None]
        return [group for each, group in tuple(self._groups.items()) if has_labels(labels, dict(each))]


def labels_key(labels: Mapping[str, str]) -> Key:
    """Return labels as a key, in order."""
    return tuple(sorted(labels.items()))
