"""Bulk insertion of actions into a PostgreSQL database that a server has prepared.

It uses SQL, since HTTP would take hours.
"""

from typing import Any

from flyteops.storage.postgres.actions import CLAIM_BY_LABELS

EVENTS = """
INSERT INTO flyte_event (event_id, name, pack_id, pack_name, labels, payload, received_at,
    referrers)
SELECT 'fill-' || n, 'Fill', 'Source', 'Source', '{}', '{"message":"deploy app-1"}',
    1700000000000000 + n, 1
FROM generate_series($1::int, $2::int) n
"""

EXECUTIONS = """
INSERT INTO flyte_execution (correlation_id, flow_name, flow_uuid, changed_at)
SELECT 'fill-' || n, 'fill', 'fill', 1700000000000000 + n FROM generate_series($1::int, $2::int) n
"""

ACTIONS = """
INSERT INTO flyte_action (action_id, execution_seq, step_index, step_id, pack_name, labels, command,
    trigger_seq, state, since,
  states, context, input)
SELECT v.event_id, x.seq, 0, 'first', 'Worker', '{"env":"else' || x.seq % 50 || '"}', 'Work', v.seq,
    $3, v.received_at,
  'NEW ' || v.received_at, '{}', '{"text":"deploy app-1"}'
FROM generate_series($1::int, $2::int) n JOIN flyte_event v ON v.event_id = 'fill-' || n
  JOIN flyte_execution x ON x.correlation_id = v.event_id
"""

PART = 50_000


async def fill(connection: Any, actions: int, state: str) -> None:
    """Insert so many actions in that state, each with its event and execution.

    They are for packs with labels that no pack has.
    """
    for first in range(0, actions, PART):
        part = first, min(first + PART, actions) - 1
        await connection.execute(EVENTS, *part)
        await connection.execute(EXECUTIONS, *part)
        await connection.execute(ACTIONS, *part, state)
    await connection.execute("ANALYZE flyte_event, flyte_execution, flyte_action")


async def plan_of_take(connection: Any) -> str:
    """Return the query plan of a take for a pack without labels, as text; nothing is changed."""
    values = ("Worker", ["{}"], None, 1, 0, "plan", b"", "Worker")
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS) {CLAIM_BY_LABELS[0]}", *values
        )
    finally:
        await transaction.rollback()
    return "\n".join(line for (line,) in rows)
