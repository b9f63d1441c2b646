"""The queues of actions in memory: the heads of those with NEW actions, and an index by pack."""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush, heapreplace

from flyteops.model import NewAction, PackRef, RoutingKey, has_labels
from flyteops.storage.row import read_queue, subsets, to_text
from flyteops.storage.sqlite.action_row import SHORT, SMALL, ActionRow, QueuedAction
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "queues")

PREFETCH = 64
"""The number of actions read from a queue at a time."""

MAX_EXTRA = 4_096
"""The number of actions beyond `PREFETCH` of each queue that all queues together keep in memory."""

SPARE = 64
"""The number of stale entries that even the smallest heap may have."""

MAX_MATCHES = 10_000
"""The number of cached lookups of a pack's queues before all are dropped."""

Key = tuple[tuple[str, str], ...]

Refill = Callable[["Queue"], bool]
"""Reads the heads of a queue, and returns whether there are any."""


class Queue:
    """Actions with the same command and packs.

    `heads` are its oldest NEW actions, all of them when it `is_complete`. `is_waiting` may be True
    of a queue without NEW actions, never False of one that has some. `bound` is not greater than
    the number of its oldest NEW action.
    """

    __slots__ = (
        "bound",
        "command",
        "heads",
        "is_complete",
        "is_waiting",
        "labels",
        "pack_name",
        "queue_id",
    )

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

    def head(self, refill: Refill) -> int | None:
        """Return the number of the oldest NEW action, None if there is none."""
        if self.is_waiting and not self.heads and not refill(self):
            self.is_waiting = False
        return self.heads[0].action.seq if self.is_waiting else None


class QueueGroup:
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
            order = [
                (each.bound, each.queue_id) for each in self._by_id.values() if each.is_waiting
            ]
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
        self._groups: dict[Key, QueueGroup] = {}
        self._matches: dict[Key, list[QueueGroup]] = {}

    def group(self, labels: Key) -> QueueGroup:
        """Return the queues with these labels."""
        found = self._groups.get(labels)
        if found is None:
            found = self._groups[labels] = QueueGroup()
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

    def serving(self, labels: Mapping[str, str]) -> list[QueueGroup]:
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

    def _look(self, key: Key, labels: Mapping[str, str]) -> list[QueueGroup]:
        if 2 ** len(key) <= len(self._groups):
            asked = (tuple(subset.items()) for subset in subsets(labels))
            return [group for each in asked if (group := self._groups.get(each)) is not None]
        return [
            group for each, group in tuple(self._groups.items()) if has_labels(labels, dict(each))
        ]


def labels_key(labels: Mapping[str, str]) -> Key:
    """Return labels as a key, in order."""
    return tuple(sorted(labels.items())) if labels else ()


class QueueCache:
    """All queues, with the oldest NEW actions of those that are claimed from.

    Used by the writer's thread alone, except for `may_have_actions`. `flush` writes buffered rows;
    `prefetch` is the number of actions read from a queue at a time. A queue that is complete keeps
    as many, and more while these are brief and all queues together have at most `max_extra` of
    them.

    Invariant: each queue of the database is here, and its heads are its oldest NEW actions without
    a gap, buffered ones included, as they are once claimed. So code that changes which actions are
    NEW by other means than `append` and `pop` calls `make_available` or `drop_heads`. A claim
    may be answered with nothing, without the database, only if no group has an entry.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        flush: Callable[[], None],
        prefetch: int,
        max_extra: int = MAX_EXTRA,
    ) -> None:
        self._prefetch = prefetch
        self._max_extra = max_extra
        self._execute = connection.execute
        self._flush = flush
        self.reload()

    def reload(self) -> None:
        """Read the queues again, without their heads."""
        queues = self._read_queues()
        self._extra = 0
        self._queues = {queue.queue_id: queue for queue in queues}
        self._queue_ids = {queue.key: queue.queue_id for queue in queues}
        by_pack: dict[str, PackQueues] = {}
        for queue in queues:
            by_pack.setdefault(queue.pack_name, PackQueues()).group(labels_key(queue.labels)).add(
                queue
            )
        self._by_pack = by_pack  # as a whole, as the event loop reads it

    def _read_queues(self) -> list[Queue]:
        return [
            Queue(queue_id, pack_name, command, read_queue(pack_name, labels, command))
            for queue_id, pack_name, command, labels in self._execute(SQL.list_queues)
        ]

    def may_have_actions(self, pack: PackRef, command: str | None) -> bool:
        """Return whether an action may wait for this pack. From any thread.

        It is never False once such an action was committed.
        """
        return any(group.may_have_actions(command) for group in self._serving(pack))

    def oldest(self, pack: PackRef, command: str | None) -> Queue | None:
        """Return the queue with the oldest action for a pack, with its heads read."""
        candidates = [
            queue
            for group in self._serving(pack)
            if (queue := group.oldest(command, self._refill)) is not None
        ]
        return min(candidates, key=lambda queue: queue.heads[0].action.seq, default=None)

    def get(self, queue_id: int) -> Queue:
        """Return the queue with this id."""
        return self._queues[queue_id]

    def address(self, queue_id: int) -> RoutingKey:
        """Return the address of a queue's actions."""
        queue = self._queues[queue_id]
        return RoutingKey(queue.pack_name, queue.labels, queue.command)

    def queue_id(self, action: NewAction) -> int:
        """Return the queue for a new action; create it at need."""
        key = (action.pack_name, action.name, labels_key(action.pack_labels))
        queue_id = self._queue_ids.get(key)
        if queue_id is None:
            queue_id = self._create(action)
            self._queue_ids[key] = queue_id
        return queue_id

    def _create(self, action: NewAction) -> int:
        row = (action.pack_name, action.name, to_text(action.pack_labels))
        queue_id: int = self._execute(SQL.insert_queue, row).fetchone()[0]
        queue = Queue(queue_id, action.pack_name, action.name, dict(action.pack_labels))
        queue.is_complete = True
        self._queues[queue_id] = queue
        self._group(queue).add(queue)
        return queue_id

    def pop(self, queue: Queue) -> QueuedAction:
        """Remove the oldest action of a queue from `oldest`, and return it."""
        if len(queue.heads) > self._prefetch:
            self._extra -= 1
        return queue.heads.popleft()

    def append(self, queue_id: int, new: QueuedAction) -> None:
        """Add a new action at the end of its queue.

        Behind many others it is left to be read in its turn.
        """
        queue = self._queues[queue_id]
        if queue.is_complete:
            if len(queue.heads) < self._prefetch:
                queue.heads.append(new)
            elif self._extra < self._max_extra and new.is_brief:
                self._extra += 1
                queue.heads.append(new)
            else:
                queue.is_complete = False
        if not queue.is_waiting:
            self._group(queue).mark_ready(queue, new.action.seq)

    def make_available(self, queue_ids: Iterable[int]) -> None:
        """Note that actions amid these queues became NEW; buffered rows must be written before."""
        for queue_id in queue_ids:
            queue = self._queues[queue_id]
            self._drop_heads(queue)
            self._group(queue).mark_ready(queue, 0)

    def drop_heads(self) -> None:
        """Drop the heads of all queues."""
        for queue in self._queues.values():
            self._drop_heads(queue)

    def _drop_heads(self, queue: Queue) -> None:
        """Drop the heads of a queue, so that they are read again."""
        self._extra -= max(0, len(queue.heads) - self._prefetch)
        queue.heads.clear()
        queue.is_complete = False

    def drop_unused(self, queue_ids: Iterable[int]) -> None:
        """Delete those of the queues without actions; buffered rows must be written before."""
        for queue_id in queue_ids:
            queue = self._queues.get(queue_id)
            if queue is None:  # it cannot be read
                continue
            self._drop_heads(queue)
            if self._execute(SQL.has_actions, (queue_id,)).fetchone() is None:
                self._execute(SQL.delete_queue, (queue_id,))
                del self._queues[queue_id]
                del self._queue_ids[queue.key]
                if not self._by_pack[queue.pack_name].remove(queue):
                    del self._by_pack[queue.pack_name]

    def _serving(self, pack: PackRef) -> list[QueueGroup]:
        # The event loop comes here as well.
        queues = self._by_pack.get(pack.name)
        return [] if queues is None else queues.serving(pack.labels)

    def _group(self, queue: Queue) -> QueueGroup:
        return self._by_pack.setdefault(queue.pack_name, PackQueues()).group(
            labels_key(queue.labels)
        )

    def _refill(self, queue: Queue) -> bool:
        if queue.is_complete:
            return False
        self._flush()
        rows = self._execute(SQL.head, (SHORT, SMALL, queue.queue_id, self._prefetch))
        queue.heads.extend([QueuedAction(ActionRow(*columns), given) for *columns, given in rows])
        queue.is_complete = len(queue.heads) < self._prefetch
        return bool(queue.heads)
