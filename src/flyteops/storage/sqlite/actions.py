"""The writer's verbs on events, actions and their consequences, inside its transaction.

`ActionTable` reads and decides; the rows to write are gathered in a `WriteBuffer`, and the data in
memory (queues, in-flight actions, sources) mirrors the database, which has no other writer. Each
part documents the invariant that the others rely on.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from flyteops.model import ActionSnapshot, Evaluation, Event, Lease, NewAction, PackRef, Sibling
from flyteops.storage import rules
from flyteops.storage.base import Claimed, Decide
from flyteops.storage.row import (
    MICROSECOND,
    STATES,
    decode_strings,
    encode_decisions,
    encode_json,
    to_instant,
    to_microseconds,
)
from flyteops.storage.sqlite.action_row import ActionRow, EventRow, Placement, queued_action
from flyteops.storage.sqlite.buffer import WriteBuffer
from flyteops.storage.sqlite.inflight import InFlightCache
from flyteops.storage.sqlite.queries import read_events
from flyteops.storage.sqlite.queues import MAX_EXTRA, PREFETCH, Queue, QueueCache
from flyteops.storage.sqlite.sources import SourceCache
from flyteops.storage.statements import load_statements
from flyteops.transition import LateResult

SQL = load_statements("flyteops.storage.sqlite", "actions")


class ActionTable:
    """The verbs on an open transaction.

    Used by the writer's thread alone, except for `queues.may_have_actions`.

    Invariants: `_last_event`, `_last_execution` and `_last_action` are the largest numbers in use,
    buffered rows included. `_begun` holds each execution that this transaction has begun. No
    finished execution has been active before `finished_from`.

    An execution that an event begins has a newly generated id. It is looked up only with
    `check_existing_executions`, which the writer sets after a batch has failed, as it may be the
    reason.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        prefetch: int = PREFETCH,
        max_extra: int = MAX_EXTRA,
    ) -> None:
        self.connection = connection
        self.execute = self._execute = connection.execute
        self.check_existing_executions = False
        self.buffer = WriteBuffer(connection)
        self.flush = self.buffer.flush
        self.queues = QueueCache(connection, self.flush, prefetch, max_extra)
        self.in_flight = InFlightCache()
        self.sources = SourceCache(connection)
        self._begun: dict[str, int] = {}
        self.finished_from = 0
        self._read_numbers()

    # ------------------------------------------------------------------------------ the transaction

    @property
    def mark(self) -> tuple[int, int]:
        """A value that differs after a job with changes, be they buffered or written."""
        return self.connection.total_changes, self.buffer.count

    def on_commit(self) -> None:
        """Note that all changes so far are committed."""
        self._begun.clear()

    def on_rollback(self) -> None:
        """Drop the buffer and the caches, as the transaction or a part of it was rolled back."""
        self.buffer.clear()
        self.reload()

    def reload(self) -> None:
        """Drop the caches and read them again; buffered rows must have been written before."""
        self._begun.clear()
        self.in_flight.clear()
        self.finished_from = 0
        self.sources.clear()
        self.queues.reload()
        self._read_numbers()

    def _read_numbers(self) -> None:
        self._last_event: int = self._execute(SQL.last_event).fetchone()[0]
        self._last_execution: int = self._execute(SQL.last_execution).fetchone()[0]
        self._last_action: int = self._execute(SQL.last_action).fetchone()[0]

    # --------------------------------------------------------------------------------------- events

    def record(self, event: Event, outcome: Evaluation, key: str | None = None) -> str:
        """See `Store.record`."""
        known = None if key is None else self._find_key(key, event)
        if known is not None:
            return known
        self.add(event, outcome, None)
        if key is not None:
            self.buffer.set_key(key, event.event_id, to_microseconds(event.received_at))
        return event.event_id

    def _find_key(self, key: str, event: Event) -> str | None:
        """Return the id of an earlier event with this key, if within the retention of keys."""
        kept = self.buffer.find_key(key) or self._execute(SQL.find_key, (key,)).fetchone()
        if kept is None or kept[1] < rules.oldest_valid_key(to_microseconds(event.received_at)):
            return None
        event_id: str = kept[0]
        return event_id

    def add(self, event: Event, outcome: Evaluation, action: ActionRow | None) -> int:
        """Buffer an event, the result of an action or not, and its consequences.

        Return its number.
        """
        now = to_microseconds(event.received_at)
        # All that can fail comes first, so that a job that failed has buffered nothing.
        actions = [
            (each, encode_json(each.context), self.queues.queue_id(each))
            for each in outcome.actions
        ]
        decisions = encode_decisions(outcome.decisions, outcome.basis)
        source_id = self.sources.source_id(event)
        last = self._last_execution
        executions = [self._execution_seq(each, now) for each in outcome.actions]
        own, action_seq = (None, None) if action is None else (action.execution_seq, action.seq)
        if executions and (continued := [seq for seq in executions if seq <= last and seq != own]):
            self._continue(continued, now)
        self._last_event += 1
        row = EventRow(
            self._last_event, source_id, now, action_seq, len(actions) + (action_seq is not None)
        )
        self.buffer.add_event(event, row, outcome, decisions)
        for (each, context, queue_id), execution_seq in zip(actions, executions, strict=True):
            is_only = execution_seq > last and executions.count(execution_seq) == 1
            self._last_action += 1
            self._add_action(
                each, Placement(self._last_action, execution_seq, queue_id, context, is_only), row
            )
        return row.seq

    def _continue(self, executions: Sequence[int], now: int) -> None:
        """Note that actions are added to executions that another event has begun."""
        self.in_flight.clear()
        self.queues.drop_heads()
        for seq in executions:
            self.buffer.touch(seq, now)

    def _add_action(self, action: NewAction, place: Placement, trigger: EventRow) -> None:
        timeout = None if action.timeout is None else action.timeout // MICROSECOND
        due_at = self.buffer.add_action(action, place, trigger, timeout)
        if due_at is None:
            self.queues.append(place.queue_id, queued_action(action, place, timeout))

    def _execution_seq(self, action: NewAction, now: int) -> int:
        correlation_id = action.correlation_id
        seq = self._begun.get(correlation_id)
        if seq is None:
            seq = self._find_execution(correlation_id) if self.check_existing_executions else None
            if seq is None:
                self._last_execution += 1
                seq = self._last_execution
                self.buffer.add_execution(seq, action, now)
            self._begun[correlation_id] = seq
        return seq

    def _find_execution(self, correlation_id: str) -> int | None:
        row = self._execute(SQL.find_execution, (correlation_id,)).fetchone()
        return None if row is None else row[0]

    # --------------------------------------------------------------------------------------- claims

    def claim(
        self, pack: PackRef, at: datetime, command: str | None, limit: int = 1, seed: bytes = b""
    ) -> list[Claimed]:
        """See `Store.claim`."""
        claimed: list[Claimed] = []
        while len(claimed) < limit and (queue := self.queues.oldest(pack, command)) is not None:
            claimed.append(self._claim_first(queue, pack, at, seed))
        return claimed

    def _claim_first(self, queue: Queue, pack: PackRef, at: datetime, seed: bytes) -> Claimed:
        first = self.queues.pop(queue)
        action, given = first.action, first.input
        now = to_microseconds(at)
        self.buffer.claim(action, now)
        if given is None:
            self.flush()
            given = self._execute(SQL.input, (action.seq,)).fetchone()[0]
        claimed = Claimed(
            action.action_id, queue.command, given, action.attempt, revision=action.revision
        )
        if action.timeout is None:
            self.in_flight.add(action)
            return claimed
        claimed = rules.with_lease(claimed, action.timeout, now, seed)
        self.buffer.begin_attempt(action, str(claimed.lease), pack.id, now, now + action.timeout)
        return claimed

    # -------------------------------------------------------------------------------------- results

    def finish(
        self, action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        """See `Store.finish`."""
        row = self.find(action_id)
        action = self.progress_of(row)
        ruling = decide(action)
        if ruling is None:
            return None
        if isinstance(ruling, LateResult):
            self._keep_late(row, result, ruling.number)
            return ruling
        rules.require_finishable(action)
        self.end(row, result, ruling)
        return ruling

    def end(self, action: ActionRow, result: Event, outcome: Evaluation) -> None:
        """End an action with a result."""
        self.in_flight.discard(action.action_id)
        self._begun[action.correlation_id] = action.execution_seq
        result_seq = self.add(result, outcome, action)
        self.buffer.finish(
            action, rules.final_state(result), result_seq, to_microseconds(result.received_at)
        )

    def _keep_late(self, action: ActionRow, result: Event, number: int) -> None:
        attempt = self._execute(SQL.late_result, (action.seq, number)).fetchone()
        if attempt is None or attempt[0] is not None:
            return
        seq = self.add(result, Evaluation(), action)
        self.flush()
        self._execute(SQL.set_late_result, (seq, action.seq, number))

    # ---------------------------------------------------------------------------------------- reads

    def find(self, action_id: str) -> ActionRow:
        """Return the current state of an action; raise `NotFoundError`."""
        row = self.in_flight.find(action_id)
        if row is not None:
            return row
        row = self._find(SQL.find_by_id, action_id)
        if row is None or self.buffer.is_dirty(row.execution_seq):
            self.flush()
            row = self._find(SQL.find_by_id, action_id)
        return rules.found(row, "action", action_id)

    def find_all(self, seqs: Sequence[int]) -> list[ActionRow]:
        """Return the actions with these numbers; buffered rows must have been written before."""
        return [row for seq in seqs if (row := self._find(SQL.find_by_seq, seq)) is not None]

    def _find(self, statement: str, value: object) -> ActionRow | None:
        row = self._execute(statement, (value,)).fetchone()
        return None if row is None else ActionRow(*row)

    def progress_of(self, action: ActionRow) -> ActionSnapshot:
        """Return the progress of an action and its execution."""
        queue = self.queues.get(action.queue_id)
        return ActionSnapshot(
            action_id=action.action_id,
            name=queue.command,
            pack_name=queue.pack_name,
            pack_labels=queue.labels,
            correlation_id=action.correlation_id,
            flow_name=action.flow_name,
            flow_uuid=action.flow_uuid,
            step_id=action.step_id,
            step_index=action.step_index,
            context=decode_strings(action.context),
            state=action.visible_state,
            siblings=self._siblings(action),
            result=self._result_of(action),
            attempt=action.attempt,
            leases=() if action.timeout is None else self._leases(action.seq),
            timeout=None if action.timeout is None else timedelta(microseconds=action.timeout),
            due_at=None if action.due_at is None else to_instant(action.due_at),
            revision=action.revision,
        )

    def _siblings(self, action: ActionRow) -> tuple[Sibling, ...]:
        if action.is_only_action:
            return (Sibling(action.step_id, action.step_index, action.visible_state),)
        if self.buffer.is_dirty(action.execution_seq):
            self.flush()
        rows = self._execute(SQL.siblings, (action.execution_seq,))
        return tuple(
            [Sibling(step_id, step_index, STATES[state]) for step_id, step_index, state in rows]
        )

    def _result_of(self, action: ActionRow) -> Event | None:
        if action.result_seq is None:
            return None
        return read_events(self.connection, [action.result_seq])[action.result_seq]

    def _leases(self, seq: int) -> tuple[Lease, ...]:
        rows = self._execute(SQL.leases, (seq,))
        return tuple([Lease(number, lease, bool(is_lost)) for number, lease, is_lost in rows])
