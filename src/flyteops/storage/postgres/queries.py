"""Queries for people: executions, actions and events. Each verb runs in one snapshot."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from flyteops.model import Action, ActionState, Attempt, Event, EventRecord, Execution
from flyteops.storage import rules
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.query import (
    ActionFilter,
    ActionStatus,
    EventFilter,
    ExecutionFilter,
    Page,
    readable,
)
from flyteops.storage.row import (
    DELAYED,
    action_of,
    basis_key,
    event_of,
    filter_keys,
    record_of,
    status_of,
    to_instant,
    to_microseconds,
    to_text,
    up_to_page,
)
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.postgres", "queries")

CONTAINS = r"CASE WHEN a.labels !~ '(^|[^\\])(\\\\)*\\u0000' THEN a.labels::jsonb @> {}::jsonb END"
"""Whether labels contain others.

Those with a NUL, which `jsonb` rejects, do not belong to any pack.
"""


class Where:
    """The conditions of a query, and their values by number."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: object) -> None:
        """Add a condition; each ``{}`` stands for the next of the values."""
        numbers = []
        for value in values:
            self.values.append(value)
            numbers.append(f"${len(self.values)}")
        self._conditions.append(condition.format(*numbers))

    def __str__(self) -> str:
        return " AND ".join(self._conditions) or "TRUE"


async def list_events(
    connection: Connection, which: EventFilter, start: int, limit: int
) -> Page[EventRecord]:
    """See `Store.list_events`."""
    where = Where()
    keys = filter_keys(which)
    if keys is not None:
        where.values.append(keys)
    if which.event_name is not None:
        where.add("v.name = {}", which.event_name)
    if which.pack_name is not None:
        where.add("v.pack_name = {}", which.pack_name)
    if keys is None:
        page = f"{SQL.event_page} WHERE {where}"
    else:
        newest = f"AND {where} ORDER BY f.event_seq DESC LIMIT {start + limit:d}"
        page = f"{SQL.listed_event_page} {newest}) c"
    rows = await connection.fetch(
        f"{page} ORDER BY seq DESC LIMIT {limit:d} OFFSET {start:d}", *where.values
    )
    sizes: dict[int, int] = dict(map(tuple, rows))
    kept = up_to_page(list(sizes), sizes)
    return Page(
        await event_records(connection, kept, which.flow_name), is_cut=len(kept) < len(sizes)
    )


async def get_event(connection: Connection, event_id: str) -> EventRecord:
    """See `Store.get_event`."""
    row = await connection.fetchval(SQL.event_seq, event_id)
    seq = rules.found(row, "event", event_id)
    return (await event_records(connection, [seq], None))[0]


async def find_unused_bases(connection: Connection, numbers: Collection[int]) -> Collection[int]:
    """See `Store.find_unused_bases`."""
    keys = {basis_key(number): number for number in numbers}
    rows = await connection.fetch(SQL.unused_keys, list(keys))
    return [keys[key] for (key,) in rows]


async def event_records(
    connection: Connection, seqs: Sequence[int], flow_name: str | None
) -> list[EventRecord]:
    """Return these events in this order, with the decisions of the flow (None: of all flows)."""
    events = await read_events(connection, seqs)
    rows = await connection.fetch(
        SQL.decisions,
        list(seqs),
    )
    records = {}
    for seq, encoded, action_id in rows:
        records[seq] = record_of(events[seq], encoded, action_id, flow_name)
    return [records[seq] for seq in seqs]


async def read_events(connection: Connection, seqs: Iterable[int]) -> dict[int, Event]:
    """Return the events with these numbers, by number."""
    rows = await connection.fetch(SQL.events, list(seqs))
    return {row[0]: event_of(tuple(row)[1:]) for row in rows}


async def list_executions(
    connection: Connection, which: ExecutionFilter, start: int, limit: int
) -> Page[Execution]:
    """See `Store.list_executions`."""
    where, action = Where(), Where()
    if which.flow_name is not None:
        where.add("e.flow_name = {}", which.flow_name)
    for condition, value in (
        ("a.step_id = {}", which.step_id),
        ("a.command = {}", which.action_name),
        ("a.pack_name = {}", which.action_pack_name),
        (CONTAINS, to_text(which.action_pack_labels) if which.action_pack_labels else None),
    ):
        if value is not None:
            action.values = where.values
            action.add(condition, value)
    if str(action) != "TRUE":
        where.add(f"EXISTS (SELECT FROM flyte_action a WHERE a.execution_seq = e.seq AND {action})")
    rows = await connection.fetch(
        f"{SQL.execution_page} WHERE {where} ORDER BY e.changed_at DESC, e.seq DESC LIMIT {limit:d}"
        f" OFFSET {start:d}",
        *where.values,
    )
    seqs = [seq for (seq,) in rows]
    kept = up_to_page(seqs, await _sizes(connection, seqs))
    return Page(await executions(connection, kept), is_cut=len(kept) < len(seqs))


async def _sizes(connection: Connection, seqs: Sequence[int]) -> Mapping[int, int]:
    rows = await connection.fetch(
        SQL.execution_sizes,
        seqs,
    )
    return {seq: int(size) for seq, size in rows}


async def get_execution(connection: Connection, correlation_id: str) -> Execution:
    """See `Store.get_execution`."""
    row = await connection.fetchval(SQL.execution_seq, correlation_id)
    seq = rules.found(row, "execution", correlation_id)
    return (await executions(connection, [seq]))[0]


async def get_action(connection: Connection, action_id: str) -> Action:
    """See `Store.get_action`."""
    row = await connection.fetchval(SQL.action_place, action_id)
    seq = rules.found(row, "action", action_id)
    with readable(f"The action {action_id!r}"):  # a row that it needs may be missing
        (execution,) = await executions(connection, [seq])
        return {action.action_id: action for action in execution.actions}[action_id]


async def executions(connection: Connection, seqs: Sequence[int]) -> list[Execution]:
    """Return these executions, in this order, all actions and events included."""
    heads = {
        row[0]: (row[1], row[2], row[3])
        for row in await connection.fetch(SQL.executions, list(seqs))
    }
    rows = await connection.fetch(
        SQL.actions,
        list(seqs),
    )
    events = await read_events(
        connection, {seq for row in rows for seq in tuple(row)[1:3] if seq is not None}
    )
    attempts = await _attempts(
        connection, [row["seq"] for row in rows if row["timeout"] is not None]
    )
    actions: dict[int, list[Action]] = {seq: [] for seq in seqs}
    for execution_seq, trigger_seq, result_seq, *columns, action_seq, _ in rows:
        known = heads[execution_seq], events[trigger_seq], events.get(result_seq)
        actions[execution_seq].append(action_of(columns, *known, attempts.get(action_seq, ())))
    return [Execution(*heads[seq], tuple(actions[seq])) for seq in seqs]


async def _attempts(
    connection: Connection, action_seqs: Sequence[int]
) -> Mapping[int, Sequence[Attempt]]:
    if not action_seqs:
        return {}
    rows = await connection.fetch(
        SQL.attempts,
        action_seqs,
    )
    late = await read_events(
        connection, [row["late_seq"] for row in rows if row["late_seq"] is not None]
    )
    found: dict[int, list[Attempt]] = {}
    for action_seq, number, pack_id, taken_at, lost_at, late_seq in rows:
        lost = None if lost_at is None else to_instant(lost_at)
        found.setdefault(action_seq, []).append(
            Attempt(number, pack_id, to_instant(taken_at), lost, late.get(late_seq))
        )
    return found


async def list_actions(
    connection: Connection, which: ActionFilter, start: int, limit: int
) -> Sequence[ActionStatus]:
    """See `Store.list_actions`."""
    where = Where()
    if which.states is not None:
        stored = [state.value for state in which.states] + (
            [DELAYED] if ActionState.NEW in which.states else []
        )
        where.add("a.state = ANY({}::text[])", stored)
    if which.flow_name is not None:
        where.add("e.flow_name = {}", which.flow_name)
    if which.pack_name is not None:
        where.add("a.pack_name = {}", which.pack_name)
    if which.overdue_since is not None:
        now = 0 if which.now is None else to_microseconds(which.now)
        where.add("a.state IN ('PENDING', 'UNKNOWN')")
        where.add(
            "(a.state = 'UNKNOWN' OR a.due_at <= {} OR a.since < {})",
            now,
            to_microseconds(which.overdue_since),
        )
    rows = await connection.fetch(
        f"{SQL.action_page} WHERE {where} ORDER BY a.seq LIMIT {limit:d} OFFSET {start:d}",
        *where.values,
    )
    return [status_of(row) for row in rows]
