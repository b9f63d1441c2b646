"""Bounds on the database's growth: removal of old data.

The server's own vacuum returns the space.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flyteops.storage import rules
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.pool import PLAN_EACH_TIME
from flyteops.storage.query import Purged, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import to_microseconds
from flyteops.storage.rules import FOREVER, surplus
from flyteops.storage.statements import load_statements

SQL = load_statements("flyteops.storage.postgres", "retention")


async def purge(connection: Connection, what: Retention, limit: int) -> Purged:
    """Remove at most `limit` executions, events and keys; `more` when there may be more."""
    await connection.execute(PLAN_EACH_TIME)
    before, finished_before = to_microseconds(what.before), rules.finished_limit(what)
    executions, _ = await _remove(connection, await _old(connection, before, limit))
    executions += (
        await _remove(connection, await _finished(connection, finished_before, limit - executions))
    )[0]
    events, _ = await _remove_events(connection, finished_before, limit)
    keys = await connection.fetch(
        SQL.delete_keys,
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


async def purge_versions(connection: Connection, what: VersionBound, limit: int) -> PurgedVersions:
    """See `Store.purge_versions`."""
    await connection.execute(PLAN_EACH_TIME)
    kept = list(what.kept)
    await connection.execute(SQL.mark_versions_used, kept)
    await connection.execute(SQL.mark_versions_unused, kept, to_microseconds(what.at))
    rows = await connection.fetch(SQL.unused_versions)
    chosen, left = surplus([(row[0], row[1], row[2]) for row in rows], what, limit)
    await connection.execute(SQL.delete_versions, chosen)
    return PurgedVersions(len(chosen), left)


async def used_bytes(connection: Connection) -> int:
    """Return the bytes that the tables take, of which some may be free for new rows."""
    found: int = await connection.fetchval(SQL.used_bytes)
    return int(found or 0)


class _Room(NamedTuple):
    """The size of the tables, and the part freed since rows were removed for lack of space."""

    size: int
    freed: int


async def _room(connection: Connection, max_bytes: int) -> _Room:
    """Return the space in use and free.

    PostgreSQL does not shrink a table when rows are removed, but reuses their space for new ones,
    and extends the table only when none is left. So removed rows count as free space until the
    tables grow.
    """
    size = await used_bytes(connection)
    rows = await connection.fetch(SQL.freed_bytes)
    numbers = dict(map(tuple, rows))
    freed, then = numbers.get("freed", 0), numbers.get("sizeThen", 0)
    if size > then + max_bytes // 50:
        freed = 0
    return _Room(size, max(0, freed - max(0, then - size)))


async def _note_freed(connection: Connection, room: _Room, more: int) -> None:
    for name, value in (("freed", room.freed + more), ("sizeThen", room.size)):
        await connection.execute(SQL.set_freed_bytes, name, value)


async def _old(connection: Connection, before: int, limit: int) -> Sequence[int]:
    rows = await connection.fetch(
        SQL.old_executions,
        before,
        limit,
    )
    return [seq for (seq,) in rows]


async def _finished(connection: Connection, before: int, limit: int) -> Sequence[int]:
    rows = await connection.fetch(
        SQL.finished_executions,
        before,
        limit,
    )
    return [seq for (seq,) in rows]


async def _remove_oldest(connection: Connection, limit: int, room: _Room) -> tuple[int, int]:
    """Remove the oldest finished executions, or events that led to none.

    Return the number of each.
    """
    execution = await connection.fetchval(SQL.oldest_finished_execution)
    event = await connection.fetchval(SQL.oldest_free_event)
    if execution is None and event is None:
        return 0, 0
    if rules.is_execution_older(execution, event):
        executions, freed = await _remove(connection, await _finished(connection, FOREVER, limit))
        await _note_freed(connection, room, freed)
        return executions, 0
    events, freed = await _remove_events(connection, FOREVER, limit)
    await _note_freed(connection, room, freed)
    return 0, events


async def _remove(connection: Connection, seqs: Sequence[int]) -> tuple[int, int]:
    """Remove executions with their actions; events are removed with their last reference.

    Return their number and bytes.
    """
    if not seqs:
        return 0, 0
    freed = await connection.fetchval(SQL.delete_actions, seqs)
    await connection.execute(SQL.delete_executions, seqs)
    return len(seqs), int(freed) + 300 * len(seqs)


async def _remove_events(connection: Connection, before: int, limit: int) -> tuple[int, int]:
    rows = await connection.fetch(
        SQL.delete_events,
        before,
        limit,
    )
    return len(rows), sum(size for (size,) in rows)
