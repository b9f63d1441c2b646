"""The rows that the writer gathers in a transaction and writes in bulk."""

import sqlite3

from flyteops.model import Evaluation, Event, NewAction
from flyteops.storage import rules
from flyteops.storage.row import created_column, failure_column, listing_keys, to_microseconds
from flyteops.storage.sqlite.action_row import ActionRow, EventRow, Placement
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "buffer")


class WriteBuffer:
    """Inserts and updates that are not in the database yet.

    Invariant: whatever is read from the database after `flush` is as if each change had been made
    at once. Before it, a read is up to date if it concerns no buffered row: an execution that is
    not `is_dirty` has no buffered changes, and a key that `find_key` does not return is not
    buffered. `clear` drops the changes, and belongs to a rollback.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._write = connection.executemany
        self.clear()

    def clear(self) -> None:
        """Drop all changes."""
        self.count = 0
        """The number of changes since the last flush, for comparison only."""
        self._events: list[tuple[object, ...]] = []
        self._flow_events: list[tuple[str, int]] = []
        self._executions: list[tuple[object, ...]] = []
        self._actions: list[tuple[object, ...]] = []
        self._claims: list[tuple[str, int, int]] = []
        self._results: list[tuple[str, str, int, int]] = []
        self._attempts: list[tuple[object, ...]] = []
        self._due: list[tuple[int | None, int]] = []
        self._keys: dict[str, tuple[str, int]] = {}
        self._touched: dict[int, int] = {}
        self._dirty: set[int] = set()

    def flush(self) -> None:
        """Write all changes."""
        if not self.count:
            return
        write = self._write
        if self._events:
            write(SQL.insert_event, self._events)
        if self._flow_events:
            write(SQL.insert_flow_event, self._flow_events)
        if self._executions:
            write(SQL.insert_execution, self._executions)
        if self._actions:
            write(SQL.insert_action, self._actions)
        if self._claims:
            write(SQL.claim_action, self._claims)
        self._flush_leases()
        if self._results:
            write(SQL.finish_action, self._results)
        if self._keys:
            write(SQL.set_key, [(key, *kept) for key, kept in self._keys.items()])
        if self._touched:
            write(SQL.touch_execution, [(at, seq, at) for seq, at in self._touched.items()])
        self.clear()

    def _flush_leases(self) -> None:
        # Separate from the others, as few actions have a time limit, and it maintains an index.
        if self._attempts:
            self._write(SQL.insert_attempt, self._attempts)
        if self._due:
            self._write(SQL.set_due, self._due)

    def is_dirty(self, execution_seq: int) -> bool:
        """Return whether actions of this execution may have buffered changes."""
        return execution_seq in self._dirty

    def find_key(self, key: str) -> tuple[str, int] | None:
        """Return the event with this key and its time, if it is buffered."""
        return self._keys.get(key)

    def set_key(self, key: str, event_id: str, at: int) -> None:
        """Note that an event came with this key."""
        self._keys[key] = event_id, at
        self.count += 1

    def add_execution(self, seq: int, action: NewAction, now: int) -> None:
        """Begin the execution of an action."""
        self._executions.append(
            (seq, action.correlation_id, action.flow_name, action.flow_uuid, now)
        )
        self.count += 1

    def add_event(
        self, event: Event, row: EventRow, outcome: Evaluation, decisions: bytes | None
    ) -> None:
        """Add an event and the decisions about it, which are also given as JSON."""
        self._events.append(
            (
                row.seq,
                event.event_id,
                row.source_id,
                row.received_at,
                created_column(event),
                row.action_seq,
                row.referrers,
                event.payload,
                decisions,
                failure_column(event),
            )
        )
        if decisions is not None:
            self._flow_events.extend(
                [(key, row.seq) for key in listing_keys(outcome.decisions, outcome.basis)]
            )
        self.count += 1

    def add_action(
        self, action: NewAction, place: Placement, trigger: EventRow, timeout: int | None
    ) -> int | None:
        """Add an action that an event creates; return its due time."""
        now = trigger.received_at
        state, due_at, wait = "NEW", None, None
        if action.not_before is not None:
            due_at = to_microseconds(action.not_before)
            state, wait = rules.initial_state(due_at), rules.wait_until(due_at, now)
        self._actions.append(
            (
                place.seq,
                action.action_id,
                place.execution_seq,
                action.step_index,
                action.step_id,
                place.queue_id,
                trigger.seq,
                state,
                f"NEW {now}",
                place.context,
                action.input,
                timeout,
                due_at,
                wait,
            )
        )
        self._dirty.add(place.execution_seq)
        self.count += 1
        return due_at

    def claim(self, action: ActionRow, now: int) -> None:
        """Make an action PENDING; it is given as it is once claimed."""
        self._claims.append((f",PENDING {now}", action.attempt, action.seq))
        self.touch(action.execution_seq, now)

    def begin_attempt(
        self, action: ActionRow, lease: str, pack_id: str, now: int, due_at: int
    ) -> None:
        """Begin an attempt with a lease, which ends at `due_at`."""
        self.count += 1
        self._dirty.add(action.execution_seq)  # a long input has flushed the claim itself
        self._attempts.append((action.seq, action.attempt, lease, pack_id, now))
        self._due.append((due_at, action.seq))

    def finish(self, action: ActionRow, state: str, result_seq: int, now: int) -> None:
        """End an action with a result."""
        self._results.append((state, f",{state} {now}", result_seq, action.seq))
        if action.timeout is not None:
            self._due.append((None, action.seq))
        self.touch(action.execution_seq, now)

    def touch(self, execution_seq: int, now: int) -> None:
        """Note activity in an execution."""
        self.count += 1
        self._touched[execution_seq] = max(now, self._touched.get(execution_seq, now))
        self._dirty.add(execution_seq)
