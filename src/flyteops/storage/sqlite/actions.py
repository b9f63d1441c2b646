"""The writer's operations on events, actions and their consequences, inside its transaction.

Rows of one kind are gathered and written in bulk by `flush`, which must precede any read of rows
that may have been gathered. The data in memory (names of queues and sources, the heads of queues,
handed-out actions) mirrors the database, which has no other writer; `forget` drops it after a
rollback.
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from flyteops.model import (
    Address,
    Event,
    Lease,
    NewAction,
    Outcome,
    PackRef,
    Progress,
    Sibling,
)
from flyteops.ruling import Late
from flyteops.storage import rules
from flyteops.storage.base import Claimed, Decide, lease_token
from flyteops.storage.row import (
    MICROSECOND,
    STATES,
    decode_strings,
    encode_decisions,
    encode_json,
    failure_column,
    read_queue,
    to_instant,
    to_microseconds,
    to_text,
)
from flyteops.storage.sqlite.queries import read_events
from flyteops.storage.sqlite.queues import (
    FIND,
    NEXT,
    PREFETCH,
    SHORT,
    SMALL,
    ActionRow,
    Group,
    Key,
    PackQueues,
    Placement,
    Queue,
    QueuedAction,
    labels_key,
    queued_action,
)

LOGGER = logging.getLogger("flyte.store")

MAX_IN_FLIGHT = 5_000
"""The number of handed-out actions to cache; beyond it, all are dropped, and read when they end."""

MAX_SOURCES = 10_000
"""The number of cached senders and event names, as packs may invent names; then all are dropped."""


class ActionTable:
    """The verbs on an open transaction.

    Used by the writer's thread alone, except for `may_have_actions`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        # An execution that an event begins has a newly generated id. It is looked up only after a
        # batch has failed, as it may be the reason.
        self.check_existing_executions = False
        self.execute = self._execute = connection.execute
        self._clear_buffer()
        self.on_rollback()

    # ------------------------------------------------------------------------------------------------ the transaction

    @property
    def mark(self) -> tuple[int, int]:
        """A value that differs after a job with changes, be they gathered or written."""
        return self.connection.total_changes, self._buffered

    def flush(self) -> None:
        """Write the gathered rows."""
        if not self._buffered:
            return
        many = self.connection.executemany
        if self._events:
            many("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?)", self._events)
        if self._flow_events:
            many("INSERT INTO flow_event VALUES (?,?)", self._flow_events)
        if self._executions:
            many("INSERT INTO execution VALUES (?,?,?,?,?)", self._executions)
        if self._actions:
            many("INSERT INTO action VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", self._actions)
        if self._claims:
            many("UPDATE action SET state = 'PENDING', states = states || ?, attempt = ? WHERE seq = ?", self._claims)
        self._flush_leases()
        if self._results:
            many("UPDATE action SET state = ?, states = states || ?, result_seq = ? WHERE seq = ?", self._results)
        self._flush_keys()
        if self._touched:
            rows = [(at, seq, at) for seq, at in self._touched.items()]
            many("UPDATE execution SET changed_at = ? WHERE seq = ? AND changed_at < ?", rows)
        self._clear_buffer()

    def _flush_leases(self) -> None:
        # Separate from the others, as few actions have a time limit, and it maintains an index.
        if self._attempts:
            self.connection.executemany("INSERT INTO attempt VALUES (?,?,?,?,?,NULL,NULL)", self._attempts)
        if self._due:
            self.connection.executemany("UPDATE action SET due_at = ? WHERE seq = ?", self._due)

    def _flush_keys(self) -> None:
        rows = [(key, *kept) for key, kept in self._keys.items()]
        if rows:
            self.connection.executemany("INSERT OR REPLACE INTO event_key VALUES (?,?,?)", rows)

    def on_commit(self) -> None:
        """Note that all changes so far are committed."""
        self._begun.clear()

    def on_rollback(self) -> None:
        """Drop the data in memory, because the transaction or a part of it was rolled back."""
        self._clear_buffer()
        self._begun: dict[str, int] = {}
        self._in_flight: dict[str, ActionRow] = {}
        self.finished_from = 0
        self._sources: dict[tuple[str, str, str, Key], int] = {}
        queues = self._read_queues()
        self._queues = {queue.queue_id: queue for queue in queues}
        self._queue_ids = {queue.key: queue.queue_id for queue in queues}
        by_pack: dict[str, PackQueues] = {}
        for queue in queues:
            by_pack.setdefault(queue.pack_name, PackQueues()).group(labels_key(queue.labels)).add(queue)
        self._by_pack = by_pack  # as a whole, as the event loop reads it
        self._last_event = self._last("event")
        self._last_execution = self._last("execution")
        self._last_action = self._last("action")

    def _read_queues(self) -> list[Queue]:
        rows = self._execute("SELECT queue_id, pack_name, command, labels FROM queue")
        return [
            Queue(queue_id, pack_name, command, read_queue(pack_name, labels, command))
            for queue_id, pack_name, command, labels in rows
        ]

    def _clear_buffer(self) -> None:
        self._buffered = 0
        self._events: list[tuple[object, ...]] = []
        self._flow_events: list[tuple[str, int]] = []
        self._executions: list[tuple[object, ...]] = []
        self._actions: list[tuple[object, ...]] = []
        self._claims: list[tuple[str, int, int]] = []
        self._due: list[tuple[int | None, int]] = []
        self._attempts: list[tuple[object, ...]] = []
        self._keys: dict[str, tuple[str, int]] = {}
        self._results: list[tuple[str, str, int, int]] = []
        self._touched: dict[int, int] = {}
        self._unsettled: set[int] = set()

    def _last(self, table: str) -> int:
        found: int | None = self._execute(f"SELECT max(seq) FROM {table}").fetchone()[0]  # noqa: S608 - constant names
        return found or 0

    # ------------------------------------------------------------------------------------------------------- life cycle

    def drop_queues(self, queue_ids: Iterable[int]) -> None:
        """Forget those of the queues without actions; gathered rows must be written before."""
        for queue_id in queue_ids:
            queue = self._queues.get(queue_id)
            if queue is None:  # it cannot be read
                continue
            queue.drop_heads()
            if self._execute("SELECT 1 FROM action WHERE queue_id = ? LIMIT 1", (queue_id,)).fetchone() is None:
                self._execute("DELETE FROM queue WHERE queue_id = ?", (queue_id,))
                del self._queues[queue_id]
                del self._queue_ids[queue.key]
                if not self._by_pack[queue.pack_name].remove(queue):
                    del self._by_pack[queue.pack_name]

    def drop_sources(self, source_ids: Iterable[int]) -> None:
        """Forget those of the sources without events; gathered rows must be written before."""
        for source_id in source_ids:
            if self._execute("SELECT 1 FROM event WHERE source_id = ? LIMIT 1", (source_id,)).fetchone() is None:
                self._execute("DELETE FROM source WHERE source_id = ?", (source_id,))
                self._sources.clear()

    def record(self, event: Event, outcome: Outcome, key: str | None = None) -> str:
        known = None if key is None else self._kept(key, event)
        if known is not None:
            return known
        self.add(event, outcome, None)
        if key is not None:
            self._keys[key] = event.event_id, to_microseconds(event.received_at)
        return event.event_id

    def _kept(self, key: str, event: Event) -> str | None:
        """Return the id of an earlier event with this key, if within the retention of keys."""
        kept = self._keys.get(key)
        if kept is None:
            kept = self._execute("SELECT event_id, kept_at FROM event_key WHERE key = ?", (key,)).fetchone()
        return None if kept is None or kept[1] < rules.oldest_valid_key(to_microseconds(event.received_at)) else kept[0]

    def may_have_actions(self, pack: PackRef, command: str | None) -> bool:
        """Return whether an action may wait for this pack. From any thread.

        It is never False once such an action was committed.
        """
        return any(group.may_have_actions(command) for group in self._serving(pack))

    def claim(self, pack: PackRef, at: datetime, command: str | None, limit: int = 1, seed: bytes = b"") -> list[Claimed]:
        claimed: list[Claimed] = []
        while len(claimed) < limit and (best := self._oldest(pack, command)) is not None:
            claimed.append(self._claim_first(best, pack, at, seed))
        return claimed

    def _claim_first(self, queue: Queue, pack: PackRef, at: datetime, seed: bytes) -> Claimed:
        first = queue.heads.popleft()
        action, given = first.action, first.input
        now = to_microseconds(at)
        lease = timeout = expires_at = None
        if action.timeout is not None:
            lease = lease_token(seed, action.action_id, action.attempt)
            timeout = timedelta(microseconds=action.timeout)
            due_at = now + action.timeout
            expires_at = to_instant(due_at)
            self._attempts.append((action.seq, action.attempt, lease, pack.id, now))
            self._due.append((due_at, action.seq))
        else:
            self._remember(action)
        self._claims.append((f",PENDING {now}", action.attempt, action.seq))
        self.touch(action.execution_seq, now)
        if given is None:
            self.flush()
            given = self._execute("SELECT input FROM action WHERE seq = ?", (action.seq,)).fetchone()[0]
        return Claimed(action.action_id, queue.command, given, action.attempt, lease, timeout, expires_at, action.revision)

    def _remember(self, action: ActionRow) -> None:
        """Cache an action that is handed out, as its result comes next.

        Nothing else happens to most of them.
        """
        if action.context:
            if len(self._in_flight) >= MAX_IN_FLIGHT:
                self._in_flight.clear()
            self._in_flight[action.action_id] = action

    def forget_in_flight(self, action_id: str | None = None) -> None:
        """Drop a handed-out action from the cache, or all, upon any event but its result."""
        if action_id is None:
            self._in_flight.clear()
        else:
            self._in_flight.pop(action_id, None)

    def _oldest(self, pack: PackRef, command: str | None) -> Queue | None:
        found = [queue for group in self._serving(pack) if (queue := group.oldest(command, self._refill)) is not None]
        return min(found, key=lambda queue: queue.heads[0].action.seq, default=None)

    def _serving(self, pack: PackRef) -> list[Group]:
        # The event loop comes here as well.
        queues = self._by_pack.get(pack.name)
        return [] if queues is None else queues.serving(pack.labels)

    def _group(self, queue: Queue) -> Group:
        return self._by_pack.setdefault(queue.pack_name, PackQueues()).group(labels_key(queue.labels))

    def _refill(self, queue: Queue) -> bool:
        if queue.is_complete:
            return False
        self.flush()
        rows = self._execute(NEXT, (SHORT, SMALL, queue.queue_id, PREFETCH))
        queue.heads.extend([QueuedAction(ActionRow(*columns), given) for *columns, given in rows])
        queue.is_complete = len(queue.heads) < PREFETCH
        return bool(queue.heads)

    def make_available(self, queue_ids: Iterable[int]) -> None:
        """Note that actions amid these queues became NEW; gathered rows must be written before."""
        for queue_id in queue_ids:
            queue = self._queues[queue_id]
            queue.drop_heads()
            self._group(queue).mark_ready(queue, 0)

    def address(self, queue_id: int) -> Address:
        """Return the address of a queue's actions."""
        queue = self._queues[queue_id]
        return Address(queue.pack_name, queue.labels, queue.command)

    def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        found = self.find(action_id)
        action = self.progress_of(found)
        ruling = decide(action)
        if ruling is None:
            return False
        if isinstance(ruling, Late):
            self._keep_late(found, result, ruling.number)
            return True
        rules.require_finishable(action)
        self.end(found, result, ruling)
        return True

    def end(self, found: ActionRow, result: Event, outcome: Outcome) -> None:
        """End an action with a result."""
        self.forget_in_flight(found.action_id)
        self._begun[found.correlation_id] = found.execution_seq
        result_seq = self.add(result, outcome, found.seq)
        state = rules.final_state(result)
        now = to_microseconds(result.received_at)
        self._results.append((state, f",{state} {now}", result_seq, found.seq))
        if found.timeout is not None:
            self._due.append((None, found.seq))
        self.touch(found.execution_seq, now)

    def _keep_late(self, found: ActionRow, result: Event, number: int) -> None:
        row = self._execute("SELECT late_seq FROM attempt WHERE action_seq = ? AND number = ?", (found.seq, number)).fetchone()
        if row is None or row[0] is not None:
            return
        seq = self.add(result, Outcome(), found.seq)
        self.flush()
        self._execute("UPDATE attempt SET late_seq = ? WHERE action_seq = ? AND number = ?", (seq, found.seq, number))

    def find(self, action_id: str) -> ActionRow:
        """Return the current state of an action; raise `NotFoundError`."""
        found = self._in_flight.get(action_id)
        if found is not None:
            return found
        found = self._find_action("a.action_id = ?", action_id)
        if found is None or found.execution_seq in self._unsettled:
            self.flush()
            found = self._find_action("a.action_id = ?", action_id)
        return rules.found(found, "action", action_id)

    def find_all(self, seqs: Sequence[int]) -> list[ActionRow]:
        """Return the actions with these numbers; gathered rows must have been written before."""
        return [found for seq in seqs if (found := self._find_action("a.seq = ?", seq)) is not None]

    def progress_of(self, found: ActionRow) -> Progress:
        """Return the progress of an action and its execution."""
        queue = self._queues[found.queue_id]
        return Progress(
            action_id=found.action_id,
            name=queue.command,
            pack_name=queue.pack_name,
            pack_labels=queue.labels,
            correlation_id=found.correlation_id,
            flow_name=found.flow_name,
            flow_uuid=found.flow_uuid,
            step_id=found.step_id,
            step_index=found.step_index,
            context=decode_strings(found.context),
            state=found.visible_state,
            siblings=self._siblings(found),
            result=self._result_of(found),
            attempt=found.attempt,
            leases=() if found.timeout is None else self._leases(found.seq),
            timeout=None if found.timeout is None else timedelta(microseconds=found.timeout),
            due_at=None if found.due_at is None else to_instant(found.due_at),
            revision=found.revision,
        )

    def _siblings(self, found: ActionRow) -> tuple[Sibling, ...]:
        if found.is_only_action:
            return (Sibling(found.step_id, found.step_index, found.visible_state),)
        if found.execution_seq in self._unsettled:
            self.flush()
        rows = self._execute("SELECT step_id, step_index, state FROM action WHERE execution_seq = ?", (found.execution_seq,))
        return tuple([Sibling(step_id, step_index, STATES[state]) for step_id, step_index, state in rows])

    def _result_of(self, found: ActionRow) -> Event | None:
        if found.result_seq is None:
            return None
        return read_events(self.connection, [found.result_seq])[found.result_seq]

    def _leases(self, seq: int) -> tuple[Lease, ...]:
        rows = self._execute(
            "SELECT number, lease, lost_at IS NOT NULL FROM attempt WHERE action_seq = ? ORDER BY number", (seq,)
        )
        return tuple([Lease(number, lease, bool(is_lost)) for number, lease, is_lost in rows])

    def _find_action(self, condition: str, value: object) -> ActionRow | None:
        row = self._execute(FIND + condition, (value,)).fetchone()
        return None if row is None else ActionRow(*row)

    def add(self, event: Event, outcome: Outcome, action_seq: int | None) -> int:
        """Gather an event and its consequences; return its sequence number."""
        now = to_microseconds(event.received_at)
        # All that can fail comes first, so that a job that failed has gathered nothing.
        actions = [(action, encode_json(action.context), self._queue_id(action)) for action in outcome.actions]
        decisions = encode_decisions(outcome.decisions) if outcome.decisions else None
        created_at = None if event.created_at is None else event.created_at.isoformat()
        source_id = self._source_id(event)
        last = self._last_execution
        executions = [self._execution_seq(action, now) for action in outcome.actions]
        if action_seq is None and any(execution_seq <= last for execution_seq in executions):
            self._invalidate_only_actions()
        self._last_event += 1
        seq = self._last_event
        referrers = len(actions) + (action_seq is not None)
        self._events.append(
            (
                seq,
                event.event_id,
                source_id,
                now,
                created_at,
                action_seq,
                referrers,
                event.payload,
                decisions,
                failure_column(event),
            )
        )
        if decisions is not None:
            self._flow_events.extend([(name, seq) for name in {decision.flow_name for decision in outcome.decisions}])
        for (action, context, queue_id), execution_seq in zip(actions, executions, strict=True):
            is_only_action = execution_seq > last and executions.count(execution_seq) == 1
            self._add_action(action, Placement(execution_seq, queue_id, context, is_only_action), seq, now)
        self._buffered += 1
        return seq

    def _add_action(self, action: NewAction, place: Placement, trigger_seq: int, now: int) -> None:
        self._last_action += 1
        seq = self._last_action
        due_at = None if action.not_before is None else to_microseconds(action.not_before)
        timeout = None if action.timeout is None else action.timeout // MICROSECOND
        self._actions.append(
            (
                seq,
                action.action_id,
                place.execution_seq,
                action.step_index,
                action.step_id,
                place.queue_id,
                trigger_seq,
                None,
                rules.initial_state(due_at),
                f"NEW {now}",
                place.context,
                action.input,
                0,
                timeout,
                due_at,
                rules.wait_until(due_at, now),
            )
        )
        if due_at is None:
            queue = self._queues[place.queue_id]
            queue.append(queued_action(seq, action, place, timeout))
            if not queue.is_waiting:
                self._group(queue).mark_ready(queue, seq)
        self._unsettled.add(place.execution_seq)

    def _invalidate_only_actions(self) -> None:
        """Drop the cached executions, as an event adds to one that was begun by another."""
        self._in_flight.clear()
        for queue in self._queues.values():
            queue.drop_heads()

    def touch(self, execution_seq: int, now: int) -> None:
        """Note activity in an execution."""
        self._buffered += 1
        self._touched[execution_seq] = max(now, self._touched.get(execution_seq, now))
        self._unsettled.add(execution_seq)

    def _execution_seq(self, action: NewAction, now: int) -> int:
        correlation_id = action.correlation_id
        seq = self._begun.get(correlation_id)
        if seq is None:
            seq = self._old_execution(correlation_id, now) if self.check_existing_executions else None
            if seq is None:
                self._last_execution += 1
                seq = self._last_execution
                self._executions.append((seq, correlation_id, action.flow_name, action.flow_uuid, now))
                self._buffered += 1
            self._begun[correlation_id] = seq
        return seq

    def _old_execution(self, correlation_id: str, now: int) -> int | None:
        """Return the existing execution of this id, if any."""
        row = self._execute("SELECT seq FROM execution WHERE correlation_id = ?", (correlation_id,)).fetchone()
        if row is None:
            return None
        self.touch(row[0], now)
        return int(row[0])

    # ------------------------------------------------------------------------------------------------- queues, sources

    def _queue_id(self, action: NewAction) -> int:
        key = (action.pack_name, action.name, tuple(sorted(action.pack_labels.items())))
        queue_id = self._queue_ids.get(key)
        if queue_id is None:
            queue_id = self._execute(
                "INSERT INTO queue (pack_name, command, labels) VALUES (?,?,?) RETURNING queue_id",
                (action.pack_name, action.name, to_text(action.pack_labels)),
            ).fetchone()[0]
            queue = Queue(queue_id, action.pack_name, action.name, dict(action.pack_labels))
            queue.is_complete = True
            self._queues[queue_id] = queue
            self._queue_ids[key] = queue_id
            self._group(queue).add(queue)
        return queue_id

    def _source_id(self, event: Event) -> int:
        pack = event.pack
        key = (event.name, pack.name, pack.id, tuple(sorted(pack.labels.items())))
        source_id = self._sources.get(key)
        if source_id is None:
            source_id = self._find_source(event) or self._add_source(event)
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
            self._sources[key] = source_id
        return source_id

    def _find_source(self, event: Event) -> int | None:
        row = self._execute(
            "SELECT source_id FROM source WHERE name = ? AND pack_name = ? AND pack_id = ? AND labels = ?",
            (event.name, event.pack.name, event.pack.id, to_text(event.pack.labels)),
        ).fetchone()
        return None if row is None else row[0]

    def _add_source(self, event: Event) -> int:
        source_id: int = self._execute(
            "INSERT INTO source (name, pack_name, pack_id, labels) VALUES (?,?,?,?) RETURNING source_id",
            (event.name, event.pack.name, event.pack.id, to_text(event.pack.labels)),
        ).fetchone()[0]
        return source_id
