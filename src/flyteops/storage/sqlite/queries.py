"""Queries for people: executions, actions and events, and the plain lists.

Lists are walked in the order of an index, latest first, and only as far as the page needs. A filter
that few actions or events can satisfy, according to the names of queues and sources, begins with
those instead.
"""

import heapq
import sqlite3
from collections.abc import Iterable, Sequence

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
from flyteops.storage.base import ActionFilter, ActionStatus, EventFilter, ExecutionFilter, Page, Rows, readable
from flyteops.storage.row import (
    DELAYED,
    action_of,
    current_of,
    decode_declaration,
    decode_flow,
    decode_labels,
    event_of,
    item_of,
    name_of,
    pack_of,
    readable_decisions,
    status_of,
    to_instant,
    to_microseconds,
    up_to_page,
)

FEW = 2000
"""The number of matches up to which they are sorted; beyond, walking in order is faster."""

SINCE = "CAST(substr(states, length(rtrim(states, '0123456789')) + 1) AS INTEGER)"
"""SQL for the time of an action's last change of state: the end of `states`."""

ANY_OF = "IN (SELECT value FROM json_each(?))"


def _json(numbers: Iterable[int]) -> str:
    return msgspec.json.encode(list(numbers)).decode()


EVENT_COLUMNS = "v.seq, v.event_id, s.name, s.pack_id, s.pack_name, s.labels, v.payload, v.received_at, v.created_at, v.failure"


def read_events(connection: sqlite3.Connection, seqs: Iterable[int]) -> dict[int, Event]:
    """Return the events with these sequence numbers, by number."""
    rows = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM event v JOIN source s ON s.source_id = v.source_id WHERE v.seq {ANY_OF}",  # noqa: S608 - constant SQL, bound values
        (_json(seqs),),
    )
    return {row[0]: event_of(row[1:]) for row in rows}


def _conditions(which: ActionFilter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    if which.states is not None:
        stored = sorted(which.states) + ([DELAYED] if ActionState.NEW in which.states else [])
        conditions.append(f"a.state {ANY_OF}")
        values.append(msgspec.json.encode(stored).decode())
    if which.flow_name is not None:
        conditions.append("e.flow_name = ?")
        values.append(which.flow_name)
    if which.pack_name is not None:
        conditions.append("q.pack_name = ?")
        values.append(which.pack_name)
    if which.overdue_since is not None:
        conditions.append(f"(a.state = 'UNKNOWN' OR (a.state = 'PENDING' AND (a.due_at <= ? OR {SINCE} < ?)))")
        values.extend([0 if which.now is None else to_microseconds(which.now), to_microseconds(which.overdue_since)])
    return conditions, values


class Queries:
    """The read-only verbs of the port.

    Each belongs inside one transaction, so that it sees one snapshot.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # ---------------------------------------------------------------------------------------------------------- events

    def get_event(self, event_id: str) -> EventRecord:
        row = self._connection.execute("SELECT seq FROM event WHERE event_id = ?", (event_id,)).fetchone()
        (seq,) = rules.found(row, "event", event_id)
        return self._event_records([seq], None)[0]

    def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        is_any = which.event_name is None and which.pack_name is None
        sources = None if is_any else self._sources(which)
        if sources is not None and len(sources) <= FEW and which.flow_name is None:
            seqs = self._newest_of(sources, start, limit)
        else:
            seqs = self._walk_events(which.flow_name, sources, start, limit)
        sizes = self._sizes("SELECT seq, length(payload) + ifnull(length(decisions), 0) FROM event", "seq", seqs)
        kept = up_to_page(seqs, sizes)
        return Page(self._event_records(kept, which.flow_name), is_cut=len(kept) < len(seqs))

    def _sizes(self, selection: str, key: str, seqs: Sequence[int]) -> dict[int, int]:
        rows = self._connection.execute(f"{selection} WHERE {key} {ANY_OF} GROUP BY 1", (_json(seqs),))
        return dict(rows.fetchall())

    def _sources(self, which: EventFilter) -> list[int]:
        rows = self._connection.execute(
            "SELECT source_id FROM source WHERE name = ifnull(?, name) AND pack_name = ifnull(?, pack_name)",
            (which.event_name, which.pack_name),
        )
        return [row[0] for row in rows]

    def _newest_of(self, sources: Sequence[int], start: int, limit: int) -> list[int]:
        """Merge the newest events of each source."""
        statement = "SELECT seq FROM event WHERE source_id = ? ORDER BY seq DESC LIMIT ?"
        newest = (row[0] for source_id in sources for row in self._connection.execute(statement, (source_id, start + limit)))
        return heapq.nlargest(start + limit, newest)[start:]

    def _walk_events(self, flow_name: str | None, sources: Sequence[int] | None, start: int, limit: int) -> list[int]:
        conditions = []
        values: list[object] = []
        origin = "event v"
        if flow_name is not None:
            origin = "flow_event f CROSS JOIN event v ON v.seq = f.event_seq"
            conditions.append("f.flow_name = ?")
            values.append(flow_name)
        if sources is not None:
            conditions.append(f"v.source_id {ANY_OF}" if flow_name is not None else f"+v.source_id {ANY_OF}")
            values.append(_json(sources))
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "v.seq" if flow_name is None else "f.event_seq"
        rows = self._connection.execute(
            f"SELECT v.seq FROM {origin} {where} ORDER BY {order} DESC LIMIT ? OFFSET ?",  # noqa: S608 - constant SQL
            (*values, limit, start),
        )
        return [row[0] for row in rows]

    def _event_records(self, seqs: Sequence[int], flow_name: str | None) -> list[EventRecord]:
        events = read_events(self._connection, seqs)
        rows = self._connection.execute(
            "SELECT v.seq, v.decisions, a.action_id FROM event v LEFT JOIN action a ON a.seq = v.action_seq"  # noqa: S608 - constant SQL, bound values
            f" WHERE v.seq {ANY_OF}",
            (_json(seqs),),
        )
        records = {}
        for seq, encoded, action_id in rows:
            decisions = readable_decisions(encoded)
            if flow_name is not None:
                decisions = tuple(decision for decision in decisions if decision.flow_name == flow_name)
            records[seq] = EventRecord(events[seq], decisions, action_id)
        return [records[seq] for seq in seqs]

    # ---------------------------------------------------------------------------------------------------------- executions

    def get_execution(self, correlation_id: str) -> Execution:
        row = self._connection.execute("SELECT seq FROM execution WHERE correlation_id = ?", (correlation_id,)).fetchone()
        (seq,) = rules.found(row, "execution", correlation_id)
        return self._executions([seq])[0]

    def get_action(self, action_id: str) -> Action:
        row = self._connection.execute("SELECT seq, execution_seq FROM action WHERE action_id = ?", (action_id,)).fetchone()
        row = rules.found(row, "action", action_id)
        with readable(f"The action {action_id!r}"):  # a row that it needs may be missing
            (execution,) = self._executions([row[1]])
            return {action.action_id: action for action in execution.actions}[action_id]

    def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> Page[Execution]:
        seqs = self._page_of_executions(which, start, limit)
        # The length of a column is in its row's header: none of the potentially long data is read
        # for it.
        sizes = self._sizes(
            "SELECT a.execution_seq, ifnull(length(v.flow), 0)"
            " + sum(length(a.input) + length(a.context) + length(t.payload) + ifnull(length(r.payload), 0))"
            " FROM action a JOIN event t ON t.seq = a.trigger_seq LEFT JOIN event r ON r.seq = a.result_seq"
            " JOIN execution e ON e.seq = a.execution_seq LEFT JOIN flow_version v ON v.uuid = e.flow_uuid",
            "a.execution_seq",
            seqs,
        )
        kept = up_to_page(seqs, sizes)
        return Page(self._executions(kept), is_cut=len(kept) < len(seqs))

    def _page_of_executions(self, which: ExecutionFilter, start: int, limit: int) -> list[int]:
        queues = self._queues(which)
        conditions = []
        values: list[object] = []
        if which.flow_name is not None:
            conditions.append("e.flow_name = ?")
            values.append(which.flow_name)
        if queues is not None and self._are_few(queues):
            step = "" if which.step_id is None else "AND step_id = ?"
            conditions.append(f"e.seq IN (SELECT execution_seq FROM action WHERE queue_id {ANY_OF} {step})")  # noqa: S608 - constant SQL, bound values
            values.extend([_json(queues)] if which.step_id is None else [_json(queues), which.step_id])
        elif queues is not None or which.step_id is not None:
            step = "" if which.step_id is None else "AND a.step_id = ?"
            queue = "" if queues is None else f"AND a.queue_id {ANY_OF}"
            conditions.append(f"EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq {step} {queue})")  # noqa: S608 - constant SQL, bound values
            values.extend([] if which.step_id is None else [which.step_id])
            values.extend([] if queues is None else [_json(queues)])
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._connection.execute(
            f"SELECT e.seq FROM execution e {where} ORDER BY e.changed_at DESC, e.seq DESC LIMIT ? OFFSET ?",  # noqa: S608 - constant SQL, bound values
            (*values, limit, start),
        )
        return [row[0] for row in rows]

    def _queues(self, which: ExecutionFilter) -> list[int] | None:
        """Return the queues that match the filter's command and pack, None without such conditions."""
        if which.action_name is None and which.action_pack_name is None and not which.action_pack_labels:
            return None
        wanted = which.action_pack_labels or {}
        rows = self._connection.execute(
            "SELECT queue_id, labels FROM queue WHERE command = ifnull(?, command) AND pack_name = ifnull(?, pack_name)",
            (which.action_name, which.action_pack_name),
        )
        return [queue_id for queue_id, labels in rows if not wanted or has_labels(decode_labels(labels), wanted)]

    def _are_few(self, queues: Sequence[int]) -> bool:
        found = self._connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM action WHERE queue_id {ANY_OF} LIMIT ?)",  # noqa: S608 - constant SQL, bound values
            (_json(queues), FEW + 1),
        )
        return bool(found.fetchone()[0] <= FEW)

    def _executions(self, seqs: Sequence[int]) -> list[Execution]:
        """Return the executions with these numbers, in that order, with all actions and events."""
        heads = {
            row[0]: (row[1], row[2], row[3])
            for row in self._connection.execute(
                f"SELECT seq, correlation_id, flow_name, flow_uuid FROM execution WHERE seq {ANY_OF}",  # noqa: S608 - constant SQL, bound values
                (_json(seqs),),
            )
        }
        rows = self._connection.execute(
            "SELECT a.execution_seq, a.trigger_seq, a.result_seq, a.action_id, q.command, q.pack_name, q.labels, a.input,"  # noqa: S608 - constant SQL, bound values
            " a.step_id, a.step_index, a.context, a.states, a.due_at, a.seq, a.timeout"
            f" FROM action a JOIN queue q ON q.queue_id = a.queue_id WHERE a.execution_seq {ANY_OF} ORDER BY a.seq",
            (_json(seqs),),
        ).fetchall()
        events = read_events(self._connection, {seq for row in rows for seq in row[1:3] if seq is not None})
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
            "SELECT action_seq, number, pack_id, taken_at, lost_at, late_seq FROM attempt"  # noqa: S608 - constant SQL
            f" WHERE action_seq {ANY_OF} ORDER BY action_seq, number",
            (_json(action_seqs),),
        ).fetchall()
        late = read_events(self._connection, [row[-1] for row in rows if row[-1] is not None])
        found: dict[int, list[Attempt]] = {}
        for action_seq, number, pack_id, taken_at, lost_at, late_seq in rows:
            lost = None if lost_at is None else to_instant(lost_at)
            found.setdefault(action_seq, []).append(Attempt(number, pack_id, to_instant(taken_at), lost, late.get(late_seq)))
        return found

    # --------------------------------------------------------------------------------------------------------- actions

    def list_actions(self, which: ActionFilter, start: int, limit: int) -> list[ActionStatus]:
        conditions, values = _conditions(which)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._connection.execute(
            "SELECT a.action_id, q.command, q.pack_name, q.labels, e.correlation_id, e.flow_name, a.step_id, a.states, a.attempt,"  # noqa: S608 - constant SQL, bound values
            " a.due_at FROM action a JOIN queue q ON q.queue_id = a.queue_id JOIN execution e ON e.seq = a.execution_seq"
            f" {where} ORDER BY a.seq LIMIT ? OFFSET ?",
            (*values, limit, start),
        )
        return [status_of(row) for row in rows]

    # ------------------------------------------------------------------------------------------ packs, flows and datastore

    def find_pack(self, pack_id: str) -> Pack | None:
        row = self._connection.execute("SELECT declaration, last_seen_at FROM pack WHERE pack_id = ?", (pack_id,)).fetchone()
        return None if row is None else decode_declaration(row[0]).seen(to_instant(row[1]))

    def list_packs(self) -> Rows[Pack]:
        rows = self._connection.execute("SELECT pack_id, declaration, last_seen_at FROM pack ORDER BY name, pack_id")
        return Rows.read(rows, name_of, pack_of)

    def list_flows(self) -> Rows[FlowVersion]:
        rows = self._connection.execute(
            "SELECT f.name, f.uuid, v.flow, v.saved_at FROM flow f LEFT JOIN flow_version v ON v.uuid = f.uuid ORDER BY f.name"
        )
        return Rows.read(rows, name_of, current_of)

    def list_current(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT name, uuid FROM flow").fetchall())

    def get_flow_version(self, uuid: str) -> FlowVersion:
        row = self._connection.execute("SELECT flow, saved_at FROM flow_version WHERE uuid = ?", (uuid,)).fetchone()
        row = rules.found(row, "flow version", uuid)
        with readable(f"The flow version {uuid!r}"):
            return FlowVersion(uuid, decode_flow(row[0]), to_instant(row[1]))

    def list_items(self) -> Rows[DataItem]:
        rows = self._connection.execute("SELECT key, content_type, value, description FROM data_item ORDER BY key")
        return Rows.read(rows, name_of, item_of)

    def is_loading(self) -> bool:
        return self._connection.execute("SELECT 1 FROM loading").fetchone() is not None

    def list_notes(self, kind: str, after: str | None, limit: int | None, *, backwards: bool) -> list[Note]:
        sign, direction = ("<", "DESC") if backwards else (">", "ASC")
        # With "?2 IS NULL OR" in it, the search would begin at the first key each time.
        behind = "" if after is None else f"AND key {sign} ?2"
        rows = self._connection.execute(
            f"SELECT key, value FROM note WHERE kind = ?1 {behind} ORDER BY key {direction} LIMIT ?3",  # noqa: S608 - constant SQL, bound values
            (kind, after, -1 if limit is None else limit),
        )
        return [Note(kind, *row) for row in rows]

    def find_nothing(self) -> None:
        """Read as little as possible, to check that reading works."""
        self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
