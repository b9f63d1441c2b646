"""Queries for people: executions, actions and events, and the plain lists.

Lists are walked in the order of an index, latest first, and only as far as the page needs. A filter
that few actions or events can satisfy, according to the names of queues and sources, begins with
those instead.
"""

import heapq
import sqlite3
from collections.abc import Collection, Iterable, Sequence

import msgspec

from flyteops.model import (
    Action,
    ActionState,
    Attempt,
    DataItem,
    Event,
    EventRecord,
    Execution,
    FlowVersion,
    Note,
    Pack,
    has_labels,
)
from flyteops.storage import rules
from flyteops.storage.query import (
    ActionFilter,
    ActionStatus,
    EventFilter,
    ExecutionFilter,
    Page,
    Rows,
    readable,
)
from flyteops.storage.row import (
    DELAYED,
    action_of,
    basis_key,
    current_of,
    decode_declaration,
    decode_flow,
    decode_labels,
    event_of,
    filter_keys,
    item_of,
    name_of,
    pack_of,
    record_of,
    status_of,
    to_instant,
    to_microseconds,
    up_to_page,
)
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "queries")

FEW = 2000
"""The number of matches up to which they are sorted; beyond, walking in order is faster."""


def _json(numbers: Iterable[int]) -> str:
    return msgspec.json.encode(list(numbers)).decode()


def read_events(connection: sqlite3.Connection, seqs: Iterable[int]) -> dict[int, Event]:
    """Return the events with these sequence numbers, by number."""
    rows = connection.execute(SQL.events, (_json(seqs),))
    return {row[0]: event_of(row[1:]) for row in rows}


def _conditions(which: ActionFilter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if which.states is not None:
        stored = sorted(which.states) + ([DELAYED] if ActionState.NEW in which.states else [])
        conditions.append(f"a.state IN {SQL.numbers}")
        values.append(msgspec.json.encode(stored).decode())
    if which.flow_name is not None:
        conditions.append("e.flow_name = ?")
        values.append(which.flow_name)
    if which.pack_name is not None:
        conditions.append("q.pack_name = ?")
        values.append(which.pack_name)
    if which.overdue_since is not None:
        conditions.append(SQL.is_overdue)
        values.extend(
            [
                0 if which.now is None else to_microseconds(which.now),
                to_microseconds(which.overdue_since),
            ]
        )
    return conditions, values


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


class Queries:
    """The read-only verbs of the port.

    Each belongs inside one transaction, so that it sees one snapshot.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --------------------------------------------------------------------------------------- events

    def get_event(self, event_id: str) -> EventRecord:
        row = self._connection.execute(SQL.event_seq, (event_id,)).fetchone()
        (seq,) = rules.found(row, "event", event_id)
        return self._event_records([seq], None)[0]

    def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        is_any = which.event_name is None and which.pack_name is None
        sources = None if is_any else self._sources(which)
        keys = filter_keys(which)
        if keys is not None:
            seqs = self._newest_listed(keys, sources, start, limit)
        elif sources is not None and len(sources) <= FEW:
            seqs = self._newest_of(sources, start, limit)
        else:
            seqs = self._walk_events(None, sources, start, limit)
        sizes = self._sizes(SQL.event_sizes, seqs)
        kept = up_to_page(seqs, sizes)
        return Page(self._event_records(kept, which.flow_name), is_cut=len(kept) < len(seqs))

    def _sizes(self, statement: str, seqs: Sequence[int]) -> dict[int, int]:
        rows = self._connection.execute(statement, (_json(seqs),))
        return dict(rows.fetchall())

    def _sources(self, which: EventFilter) -> list[int]:
        rows = self._connection.execute(
            SQL.sources,
            (which.event_name, which.pack_name),
        )
        return [row[0] for row in rows]

    def _newest_of(self, sources: Sequence[int], start: int, limit: int) -> list[int]:
        """Merge the newest events of each source."""
        newest = (
            row[0]
            for source_id in sources
            for row in self._connection.execute(SQL.newest_events, (source_id, start + limit))
        )
        return heapq.nlargest(start + limit, newest)[start:]

    def _newest_listed(
        self, keys: Sequence[str], sources: Sequence[int] | None, start: int, limit: int
    ) -> list[int]:
        """Merge the newest events of each key under which events are listed."""
        if len(keys) == 1:
            return self._walk_events(keys[0], sources, start, limit)
        newest = {seq for key in keys for seq in self._walk_events(key, sources, 0, start + limit)}
        return sorted(newest, reverse=True)[start : start + limit]

    def find_unused_bases(self, numbers: Collection[int]) -> list[int]:
        return [
            number for number in numbers if not self._walk_events(basis_key(number), None, 0, 1)
        ]

    def _walk_events(
        self, key: str | None, sources: Sequence[int] | None, start: int, limit: int
    ) -> list[int]:
        conditions = []
        values: list[object] = []
        page, order, source = SQL.event_page, "v.seq", "+v.source_id"
        if key is not None:
            page, order, source = SQL.flow_event_page, "f.event_seq", "v.source_id"
            conditions.append("f.flow_name = ?")
            values.append(key)
        if sources is not None:
            conditions.append(f"{source} IN {SQL.numbers}")
            values.append(_json(sources))
        rows = self._connection.execute(
            f"{page} {_where(conditions)} ORDER BY {order} DESC LIMIT ? OFFSET ?",
            (*values, limit, start),
        )
        return [row[0] for row in rows]

    def _event_records(self, seqs: Sequence[int], flow_name: str | None) -> list[EventRecord]:
        events = read_events(self._connection, seqs)
        rows = self._connection.execute(
            SQL.decisions,
            (_json(seqs),),
        )
        records = {
            seq: record_of(events[seq], decisions, action_id, flow_name)
            for seq, decisions, action_id in rows
        }
        return [records[seq] for seq in seqs]

    # ----------------------------------------------------------------------------------- executions

    def get_execution(self, correlation_id: str) -> Execution:
        row = self._connection.execute(SQL.execution_seq, (correlation_id,)).fetchone()
        (seq,) = rules.found(row, "execution", correlation_id)
        return self._executions([seq])[0]

    def get_action(self, action_id: str) -> Action:
        row = self._connection.execute(SQL.action_place, (action_id,)).fetchone()
        row = rules.found(row, "action", action_id)
        with readable(f"The action {action_id!r}"):  # a row that it needs may be missing
            (execution,) = self._executions([row[1]])
            return {action.action_id: action for action in execution.actions}[action_id]

    def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> Page[Execution]:
        seqs = self._page_of_executions(which, start, limit)
        sizes = self._sizes(SQL.execution_sizes, seqs)
        kept = up_to_page(seqs, sizes)
        return Page(self._executions(kept), is_cut=len(kept) < len(seqs))

    def _page_of_executions(self, which: ExecutionFilter, start: int, limit: int) -> list[int]:
        queues = self._queues(which)
        conditions = []
        values: list[object] = []
        if which.flow_name is not None:
            conditions.append("e.flow_name = ?")
            values.append(which.flow_name)
        condition, more = self._step_condition(which.step_id, queues)
        if condition is not None:
            conditions.append(condition)
            values.extend(more)
        rows = self._connection.execute(
            f"{SQL.execution_page} {_where(conditions)} ORDER BY e.changed_at DESC, e.seq DESC"
            " LIMIT ? OFFSET ?",
            (*values, limit, start),
        )
        return [row[0] for row in rows]

    def _queues(self, which: ExecutionFilter) -> list[int] | None:
        """Return the queues that match the filter's command and pack, or None without these."""
        if (
            which.action_name is None
            and which.action_pack_name is None
            and not which.action_pack_labels
        ):
            return None
        wanted = which.action_pack_labels or {}
        rows = self._connection.execute(
            SQL.queues,
            (which.action_name, which.action_pack_name),
        )
        return [
            queue_id
            for queue_id, labels in rows
            if not wanted or has_labels(decode_labels(labels), wanted)
        ]

    def _step_condition(
        self, step_id: str | None, queues: Sequence[int] | None
    ) -> tuple[str | None, Sequence[object]]:
        """Return the condition for the step and queue of one action, and its values."""
        if queues is None:
            return (None, ()) if step_id is None else (SQL.has_step, (step_id,))
        numbers = _json(queues)
        if self._are_few(queues):
            if step_id is None:
                return SQL.in_few_queues, (numbers,)
            return SQL.in_few_queues_with_step, (numbers, step_id)
        if step_id is None:
            return SQL.has_queue, (numbers,)
        return SQL.has_step_in_queue, (step_id, numbers)

    def _are_few(self, queues: Sequence[int]) -> bool:
        (count,) = self._connection.execute(SQL.count_actions, (_json(queues), FEW + 1)).fetchone()
        return bool(count <= FEW)

    def _executions(self, seqs: Sequence[int]) -> list[Execution]:
        """Return the executions with these numbers, in that order, with all actions and events."""
        heads = {
            row[0]: (row[1], row[2], row[3])
            for row in self._connection.execute(
                SQL.executions,
                (_json(seqs),),
            )
        }
        rows = self._connection.execute(
            SQL.actions,
            (_json(seqs),),
        ).fetchall()
        events = read_events(
            self._connection, {seq for row in rows for seq in row[1:3] if seq is not None}
        )
        attempts = self._attempts([row[-2] for row in rows if row[-1] is not None])
        actions: dict[int, list[Action]] = {seq: [] for seq in seqs}
        for execution_seq, trigger_seq, result_seq, *columns, action_seq, _ in rows:
            known = heads[execution_seq], events[trigger_seq], events.get(result_seq)
            actions[execution_seq].append(action_of(columns, *known, attempts.get(action_seq, ())))
        return [Execution(*heads[seq], tuple(actions[seq])) for seq in seqs]

    def _attempts(self, action_seqs: Sequence[int]) -> dict[int, list[Attempt]]:
        if not action_seqs:
            return {}
        rows = self._connection.execute(
            SQL.attempts,
            (_json(action_seqs),),
        ).fetchall()
        late = read_events(self._connection, [row[-1] for row in rows if row[-1] is not None])
        found: dict[int, list[Attempt]] = {}
        for action_seq, number, pack_id, taken_at, lost_at, late_seq in rows:
            lost = None if lost_at is None else to_instant(lost_at)
            found.setdefault(action_seq, []).append(
                Attempt(number, pack_id, to_instant(taken_at), lost, late.get(late_seq))
            )
        return found

    # -------------------------------------------------------------------------------------- actions

    def list_actions(self, which: ActionFilter, start: int, limit: int) -> list[ActionStatus]:
        conditions, values = _conditions(which)
        rows = self._connection.execute(
            f"{SQL.action_page} {_where(conditions)} ORDER BY a.seq LIMIT ? OFFSET ?",
            (*values, limit, start),
        )
        return [status_of(row) for row in rows]

    # ------------------------------------------------------------------- packs, flows and datastore

    def find_pack(self, pack_id: str) -> Pack | None:
        row = self._connection.execute(SQL.pack, (pack_id,)).fetchone()
        return None if row is None else decode_declaration(row[0]).seen(to_instant(row[1]))

    def list_packs(self) -> Rows[Pack]:
        rows = self._connection.execute(SQL.packs)
        return Rows.read(rows, name_of, pack_of)

    def list_flows(self) -> Rows[FlowVersion]:
        rows = self._connection.execute(SQL.flows)
        return Rows.read(rows, name_of, current_of)

    def list_current(self) -> dict[str, str]:
        return dict(self._connection.execute(SQL.current_versions).fetchall())

    def get_flow_version(self, uuid: str) -> FlowVersion:
        row = self._connection.execute(SQL.flow_version, (uuid,)).fetchone()
        row = rules.found(row, "flow version", uuid)
        with readable(f"The flow version {uuid!r}"):
            return FlowVersion(uuid, decode_flow(row[0]), to_instant(row[1]))

    def list_items(self) -> Rows[DataItem]:
        rows = self._connection.execute(SQL.items)
        return Rows.read(rows, name_of, item_of)

    def is_loading(self) -> bool:
        return self._connection.execute(SQL.loading).fetchone() is not None

    def list_notes(
        self, kind: str, after: str | None, limit: int | None, *, backwards: bool
    ) -> list[Note]:
        if after is None:
            statement = SQL.notes_backwards if backwards else SQL.notes
        else:
            statement = SQL.notes_before if backwards else SQL.notes_after
        rows = self._connection.execute(
            statement,
            (kind, after, -1 if limit is None else limit),
        )
        return [Note(kind, *row) for row in rows]

    def find_nothing(self) -> None:
        """Read as little as possible, to check that reading works."""
        self._connection.execute(SQL.nothing).fetchone()
