"""Bounds on the database's growth: removal of old data.

The server's own vacuum returns the space.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flyteops.storage import rules
from flyteops.storage.base import Purged, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import to_microseconds
from flyteops.storage.rules import FOREVER, surplus

IS_FINISHED = "NOT EXISTS (SELECT FROM flyte_action a WHERE a.execution_seq = x.seq AND a.state NOT IN ('SUCCESS', 'FATAL'))"

IS_UNUSED = (
    "NOT EXISTS (SELECT FROM flyte_flow f WHERE f.uuid = v.uuid)"
    " AND NOT EXISTS (SELECT FROM flyte_execution x WHERE x.flow_uuid = v.uuid)"
)

DELETE_ACTIONS = """
WITH gone AS (DELETE FROM flyte_action WHERE execution_seq = ANY($1)
    RETURNING seq, trigger_seq, result_seq, 700 + pg_column_size(input) + pg_column_size(context) AS bytes),
  attempts AS (DELETE FROM flyte_attempt WHERE action_seq IN (SELECT seq FROM gone) RETURNING late_seq),
  referred AS (
    SELECT seq, count(*)::int AS times
    FROM (
      SELECT trigger_seq AS seq FROM gone UNION ALL SELECT result_seq FROM gone UNION ALL SELECT late_seq FROM attempts
    ) events
    WHERE seq IS NOT NULL GROUP BY seq
  ),
  released AS (
    UPDATE flyte_event v SET referrers = v.referrers - referred.times FROM referred WHERE v.seq = referred.seq
  )
SELECT coalesce(sum(bytes), 0) FROM gone
"""
"""Returns the approximate bytes: rows and index entries by a mean, long values by stored size."""


async def purge(connection: Any, what: Retention, limit: int) -> Purged:
    """Remove at most `limit` executions, events and keys; `more` when there may be more."""
    before, finished_before = to_microseconds(what.before), rules.finished_limit(what)
    executions, _ = await _remove(connection, await _old(connection, before, limit))
    executions += (await _remove(connection, await _finished(connection, finished_before, limit - executions)))[0]
    events, _ = await _remove_events(connection, finished_before, limit)
    keys = await connection.fetch(
        "DELETE FROM flyte_event_key WHERE key IN"
        " (SELECT key FROM flyte_event_key WHERE kept_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_microseconds(what.keys_before),
        limit,
    )
    over = 0
    if what.max_bytes is not None and not executions and not events:
        room = await _room(connection, what.max_bytes)
        over = max(0, room.size - room.freed - what.max_bytes)
        if over > what.spared_bytes:
            executions, events = await _remove_oldest(connection, limit, room)
    return rules.purged(executions, events, len(keys), limit=limit, excess=over)


async def purge_versions(connection: Any, what: VersionBound, limit: int) -> PurgedVersions:
    """See `Store.purge_versions`."""
    await connection.execute(
        f"UPDATE flyte_flow_version v SET unused_since = NULL WHERE unused_since IS NOT NULL AND NOT ({IS_UNUSED})"  # noqa: S608 - constant SQL
    )
    await connection.execute(
        f"UPDATE flyte_flow_version v SET unused_since = $1 WHERE unused_since IS NULL AND {IS_UNUSED}",  # noqa: S608 - constant SQL
        to_microseconds(what.at),
    )
    rows = await connection.fetch(
        "SELECT uuid, octet_length(flow), unused_since FROM flyte_flow_version WHERE unused_since IS NOT NULL"
        " ORDER BY saved_at, uuid"
    )
    chosen, left = surplus([(row[0], row[1], row[2]) for row in rows], what, limit)
    await connection.execute("DELETE FROM flyte_flow_version WHERE uuid = ANY($1)", chosen)
    return PurgedVersions(len(chosen), left)


async def used_bytes(connection: Any) -> int:
    """Return the bytes that the tables take, of which some may be free for new rows."""
    found: int = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
        " WHERE c.relkind = 'r' AND starts_with(c.relname, 'flyte_') AND pg_table_is_visible(c.oid)"
    )
    return int(found or 0)


class _Room(NamedTuple):
    """The size of the tables, and the part freed since rows were removed for lack of space."""

    size: int
    freed: int


async def _room(connection: Any, max_bytes: int) -> _Room:
    """Return the space in use and free.

    PostgreSQL does not shrink a table when rows are removed, but reuses their space for new ones,
    and extends the table only when none is left. So removed rows count as free space until the
    tables grow.
    """
    size = await used_bytes(connection)
    rows = await connection.fetch(
        "SELECT name, value FROM flyte_number WHERE name IN ('freed', 'sizeThen') ORDER BY name FOR UPDATE"
    )
    numbers = dict(map(tuple, rows))
    freed, then = numbers.get("freed", 0), numbers.get("sizeThen", 0)
    if size > then + max_bytes // 50:
        freed = 0
    return _Room(size, max(0, freed - max(0, then - size)))


async def _note_freed(connection: Any, room: _Room, more: int) -> None:
    for name, value in (("freed", room.freed + more), ("sizeThen", room.size)):
        await connection.execute(
            "INSERT INTO flyte_number VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value
        )


async def _old(connection: Any, before: int, limit: int) -> Sequence[int]:
    rows = await connection.fetch(
        "SELECT seq FROM flyte_execution WHERE changed_at < $1 ORDER BY changed_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED",
        before,
        limit,
    )
    return [seq for (seq,) in rows]


async def _finished(connection: Any, before: int, limit: int) -> Sequence[int]:
    rows = await connection.fetch(
        f"SELECT x.seq FROM flyte_execution x WHERE x.changed_at < $1 AND {IS_FINISHED}"  # noqa: S608 - constant SQL
        " ORDER BY x.changed_at, x.seq LIMIT $2 FOR UPDATE SKIP LOCKED",
        before,
        limit,
    )
    return [seq for (seq,) in rows]


async def _remove_oldest(connection: Any, limit: int, room: _Room) -> tuple[int, int]:
    """Remove the oldest finished executions, or events that led to none.

    Return the number of each.
    """
    execution = await connection.fetchval(f"SELECT min(x.changed_at) FROM flyte_execution x WHERE {IS_FINISHED}")  # noqa: S608 - constant SQL, bound values
    event = await connection.fetchval("SELECT min(received_at) FROM flyte_event WHERE referrers = 0")
    if execution is None and event is None:
        return 0, 0
    if rules.is_execution_older(execution, event):
        executions, freed = await _remove(connection, await _finished(connection, FOREVER, limit))
        await _note_freed(connection, room, freed)
        return executions, 0
    events, freed = await _remove_events(connection, FOREVER, limit)
    await _note_freed(connection, room, freed)
    return 0, events


async def _remove(connection: Any, seqs: Sequence[int]) -> tuple[int, int]:
    """Remove executions with their actions; events are removed with their last reference.

    Return their number and bytes.
    """
    if not seqs:
        return 0, 0
    freed = await connection.fetchval(DELETE_ACTIONS, seqs)
    await connection.execute("DELETE FROM flyte_execution WHERE seq = ANY($1)", seqs)
    return len(seqs), int(freed) + 300 * len(seqs)


async def _remove_events(connection: Any, before: int, limit: int) -> tuple[int, int]:
    rows = await connection.fetch(
        "WITH gone AS (DELETE FROM flyte_event WHERE seq IN"
        " (SELECT seq FROM flyte_event WHERE referrers = 0 AND received_at < $1 ORDER BY received_at LIMIT $2"
        " FOR UPDATE SKIP LOCKED)"
        " RETURNING seq, 400 + pg_column_size(payload) + coalesce(pg_column_size(decisions), 0) AS bytes),"
        " decided AS (DELETE FROM flyte_flow_event WHERE event_seq IN (SELECT seq FROM gone))"
        " SELECT bytes FROM gone",
        before,
        limit,
    )
    return len(rows), sum(size for (size,) in rows)
