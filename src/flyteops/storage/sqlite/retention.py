"""Bounds on the file's growth, in the writer's thread: removing old data, returning free pages."""

from collections.abc import Iterable, Sequence

import msgspec

from flyteops.storage import rules
from flyteops.storage.query import Purged, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import decode_decisions, listing_keys, to_microseconds
from flyteops.storage.rules import FOREVER, surplus
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.sqlite", "retention")

VACUUM_PAGES = 256
"""The number of free pages returned to the file system in one step."""


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
    kept = msgspec.json.encode(sorted(what.kept)).decode()
    table.execute(SQL.mark_versions_used, (kept,))
    table.execute(SQL.mark_versions_unused, (to_microseconds(what.at), kept))
    unused = table.execute(SQL.unused_versions)
    chosen, left = surplus(unused, what, limit)
    table.connection.executemany(SQL.delete_version, [(uuid,) for uuid in chosen])
    return PurgedVersions(len(chosen), left)


def used_bytes(table: ActionTable) -> int:
    """Return the number of bytes of the file in use."""
    pages, free, size = (
        table.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def vacuum(table: ActionTable) -> int:
    """Return a bounded number of free pages to the file system; return the number left."""
    table.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    left: int = table.execute("PRAGMA freelist_count").fetchone()[0]
    return left


def _old(table: ActionTable, before: int, limit: int) -> Sequence[int]:
    rows = table.execute(SQL.old_executions, (before, limit))
    return [seq for (seq,) in rows]


def _finished(table: ActionTable, before: int, limit: int) -> Sequence[int]:
    """Return the oldest finished executions.

    Those before `finished_from` were examined: they are not finished, and will be found after it
    once they are.
    """
    rows = table.execute(
        SQL.finished_executions,
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
        SQL.oldest_finished_execution,
        (table.finished_from,),
    ).fetchone()[0]
    event = table.execute(SQL.oldest_free_event).fetchone()[0]
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
        actions = table.execute(SQL.delete_actions, (seq,)).fetchall()
        for queue_id, trigger_seq, result_seq, action_seq, timeout in actions:
            queue_ids.add(queue_id)
            late = () if timeout is None else _remove_attempts(table, action_seq)
            referred += [
                (event_seq,)
                for event_seq in (trigger_seq, result_seq, *late)
                if event_seq is not None
            ]
    table.connection.executemany(SQL.release_event, referred)
    table.connection.executemany(SQL.delete_execution, [(seq,) for seq in seqs])
    table.in_flight.clear()
    table.queues.drop_unused(queue_ids)
    return len(seqs)


def _remove_attempts(table: ActionTable, action_seq: int) -> Iterable[int | None]:
    rows = table.execute(SQL.delete_attempts, (action_seq,)).fetchall()
    return [late_seq for (late_seq,) in rows]


def _remove_events(table: ActionTable, before: int, limit: int) -> int:
    found = table.execute(
        SQL.delete_events,
        (before, limit),
    ).fetchall()
    damaged: list[int] = []
    for seq, _, decisions in found:
        try:
            keys = listing_keys(*decode_decisions(decisions))
        except (msgspec.MsgspecError, UnicodeError):
            damaged.append(seq)
            continue
        table.connection.executemany(SQL.delete_flow_event, [(key, seq) for key in keys])
    if damaged:  # no index leads to their rows
        table.execute(SQL.delete_damaged_flow_events, (msgspec.json.encode(damaged).decode(),))
    table.sources.drop_unused({source_id for _, source_id, _ in found})
    return len(found)


def _remove_keys(table: ActionTable, before: int, limit: int) -> int:
    return table.execute(SQL.delete_keys, (before, limit)).rowcount
