"""Bounds on the file's growth, in the writer's thread: removing old data, returning free pages."""

from collections.abc import Iterable, Sequence

from flyteops.storage import rules
from flyteops.storage.base import Purged, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import decode_decisions, to_microseconds
from flyteops.storage.rules import FOREVER, surplus
from flyteops.storage.sqlite.actions import ActionTable

VACUUM_PAGES = 256
"""The number of free pages returned to the file system in one step."""

IS_FINISHED = "NOT EXISTS (SELECT 1 FROM action a WHERE a.execution_seq = e.seq AND a.state NOT IN ('SUCCESS', 'FATAL'))"


IS_UNUSED = (
    "uuid NOT IN (SELECT uuid FROM flow) AND NOT EXISTS (SELECT 1 FROM execution WHERE execution.flow_uuid = flow_version.uuid)"
)


def purge(table: ActionTable, what: Retention, limit: int) -> Purged:
    """Remove at most `limit` executions, events and keys; `more` when there may be more."""
    table.flush()
    before, finished_before = to_microseconds(what.before), rules.finished_limit(what)
    executions = _remove(table, _old(table, before, limit))
    executions += _remove(table, _finished(table, finished_before, limit - executions))
    events = _remove_events(table, finished_before, limit)
    keys = _remove_keys(table, to_microseconds(what.keys_before), limit)
    over = 0
    if what.max_bytes is not None and not executions and not events:
        over = max(0, used_bytes(table) - what.max_bytes)
    if over > what.spared_bytes:
        executions, events = _remove_oldest(table, limit)
    return rules.purged(executions, events, keys, limit=limit, excess=over)


def purge_versions(table: ActionTable, what: VersionBound, limit: int) -> PurgedVersions:
    """See `Store.purge_versions`."""
    table.flush()
    table.execute(f"UPDATE flow_version SET unused_since = NULL WHERE unused_since IS NOT NULL AND NOT ({IS_UNUSED})")  # noqa: S608 - constant SQL
    table.execute(
        f"UPDATE flow_version SET unused_since = ? WHERE unused_since IS NULL AND {IS_UNUSED}",  # noqa: S608 - constant SQL
        (to_microseconds(what.at),),
    )
    unused = table.execute(
        "SELECT uuid, length(flow), unused_since FROM flow_version WHERE unused_since IS NOT NULL ORDER BY saved_at, uuid"
    )
    chosen, left = surplus(unused, what, limit)
    table.connection.executemany("DELETE FROM flow_version WHERE uuid = ?", [(uuid,) for uuid in chosen])
    return PurgedVersions(len(chosen), left)


def used_bytes(table: ActionTable) -> int:
    """Return the number of bytes of the file in use."""
    pages, free, size = (table.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def vacuum(table: ActionTable) -> int:
    """Return a bounded number of free pages to the file system; return the number left."""
    table.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    left: int = table.execute("PRAGMA freelist_count").fetchone()[0]
    return left


def _old(table: ActionTable, before: int, limit: int) -> Sequence[int]:
    rows = table.execute("SELECT seq FROM execution WHERE changed_at < ? ORDER BY changed_at LIMIT ?", (before, limit))
    return [seq for (seq,) in rows]


def _finished(table: ActionTable, before: int, limit: int) -> Sequence[int]:
    """Return the oldest finished executions.

    Those before `finished_from` were examined: they are not finished, and will be found after it
    once they are.
    """
    rows = table.execute(
        "SELECT e.seq, e.changed_at FROM execution e WHERE e.changed_at >= ? AND e.changed_at < ?"  # noqa: S608 - constant SQL
        f" AND {IS_FINISHED} ORDER BY e.changed_at LIMIT ?",
        (table.finished_from, before, limit),
    ).fetchall()
    if len(rows) == limit:
        table.finished_from = rows[-1][1] if rows else table.finished_from
    elif before < FOREVER:
        table.finished_from = max(table.finished_from, before)
    return [seq for seq, _ in rows]


def _remove_oldest(table: ActionTable, limit: int) -> tuple[int, int]:
    """Remove the oldest finished executions, or events that led to none.

    Return the number of each.
    """
    execution = table.execute(
        f"SELECT min(e.changed_at) FROM execution e WHERE e.changed_at >= ? AND {IS_FINISHED}",  # noqa: S608 - constant SQL
        (table.finished_from,),
    ).fetchone()[0]
    event = table.execute("SELECT min(received_at) FROM event WHERE referrers = 0").fetchone()[0]
    if execution is None and event is None:
        return 0, 0
    if rules.is_execution_older(execution, event):
        return _remove(table, _finished(table, FOREVER, limit)), 0
    return 0, _remove_events(table, FOREVER, limit)


def _remove(table: ActionTable, seqs: Sequence[int]) -> int:
    """Remove executions with their actions; events are removed with their last reference."""
    queue_ids: set[int] = set()
    referred: list[tuple[int]] = []
    for seq in seqs:
        actions = table.execute(
            "DELETE FROM action WHERE execution_seq = ? RETURNING queue_id, trigger_seq, result_seq, seq, timeout", (seq,)
        ).fetchall()
        for queue_id, trigger_seq, result_seq, action_seq, timeout in actions:
            queue_ids.add(queue_id)
            late = () if timeout is None else _remove_attempts(table, action_seq)
            referred += [(event_seq,) for event_seq in (trigger_seq, result_seq, *late) if event_seq is not None]
    table.connection.executemany("UPDATE event SET referrers = referrers - 1 WHERE seq = ?", referred)
    table.connection.executemany("DELETE FROM execution WHERE seq = ?", [(seq,) for seq in seqs])
    table.in_flight.clear()
    table.queues.drop_unused(queue_ids)
    return len(seqs)


def _remove_attempts(table: ActionTable, action_seq: int) -> Iterable[int | None]:
    rows = table.execute("DELETE FROM attempt WHERE action_seq = ? RETURNING late_seq", (action_seq,)).fetchall()
    return [late_seq for (late_seq,) in rows]


def _remove_events(table: ActionTable, before: int, limit: int) -> int:
    # Ordered by time like the index, so that the oldest are removed first.
    found = table.execute(
        "DELETE FROM event WHERE seq IN"
        " (SELECT seq FROM event WHERE referrers = 0 AND received_at < ? ORDER BY received_at LIMIT ?)"
        " RETURNING seq, source_id, decisions",
        (before, limit),
    ).fetchall()
    for seq, _, decisions in found:
        if decisions is not None:
            rows = {(decision.flow_name, seq) for decision in decode_decisions(decisions)}
            table.connection.executemany("DELETE FROM flow_event WHERE flow_name = ? AND event_seq = ?", rows)
    table.sources.drop_unused({source_id for _, source_id, _ in found})
    return len(found)


def _remove_keys(table: ActionTable, before: int, limit: int) -> int:
    return table.execute(
        "DELETE FROM event_key WHERE key IN (SELECT key FROM event_key WHERE kept_at < ? LIMIT ?)", (before, limit)
    ).rowcount
