"""Timers: the extension, release and loss of leases, and steps that are due.

Each verb is one transaction. Servers that do this at the same time skip rows locked by others.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from flyteops.model import Address, Outcome
from flyteops.ruling import Ask, DueStep, Fail, Repeat
from flyteops.storage import rules
from flyteops.storage.base import Advanced, Check, TimerKey
from flyteops.storage.postgres.actions import ActionRow, Completion, EventInsert, end, find, find_seq, record
from flyteops.storage.postgres.pool import LOST
from flyteops.storage.row import DELAYED, MICROSECOND, decode_labels, to_instant, to_microseconds
from flyteops.storage.rules import ATTENDED, CLOCK_SLACK, StateChange, TimerBatch, first_of, has_been_away

OWN_FAULTS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
"""The server's errors about a statement and its values.

All other errors concern the whole transaction.
"""

DUE_STEPS = "FROM flyte_timetable t JOIN flyte_flow f ON f.name = t.flow_name WHERE true"
"""Steps with a time of their own, of the current versions of their flows."""


async def extend(connection: Any, action_id: str, at: datetime, check: Check) -> datetime | None:
    """See `Store.extend`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    rules.require_pending(found.progress)
    if found.timeout is None:
        return None
    due_at = to_microseconds(at) + found.timeout
    await connection.execute("UPDATE flyte_action SET due_at = $1 WHERE seq = $2", due_at, found.seq)
    return to_instant(due_at)


async def release(connection: Any, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
    """See `Store.release`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    rules.require_releasable(found.progress)
    now = to_microseconds(at)
    if counts:
        await _lose(connection, found, now)
    else:
        await connection.execute("DELETE FROM flyte_attempt WHERE action_seq = $1 AND number = $2", found.seq, found.attempt)
        await connection.execute("UPDATE flyte_action SET attempt = attempt - 1 WHERE seq = $1", found.seq)
    await _change(connection, found, rules.released(now), now)
    return found.progress.address


async def renew(connection: Any, at: datetime, if_unattended_for: timedelta | None) -> bool:
    """See `Store.renew_leases`. Servers that do this at the same time wait for each other."""
    known = await connection.fetchval("SELECT value FROM flyte_note WHERE kind = $1 AND key = '' FOR UPDATE", ATTENDED)
    now = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    is_away = if_unattended_for is None or has_been_away(known, now, if_unattended_for)
    if is_away:
        await connection.execute(
            "UPDATE flyte_action SET due_at = $1 + timeout WHERE state = 'PENDING'"
            " AND (due_at <= $1 + timeout OR due_at > $1 + timeout + $2)",
            to_microseconds(at),
            CLOCK_SLACK,
        )
    await connection.execute(
        "INSERT INTO flyte_note VALUES ($1, '', $2) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
        ATTENDED,
        str(now).encode(),
    )
    return is_away


async def advance(connection: Any, at: datetime, batch: TimerBatch, shift: timedelta | None) -> Advanced:
    """See `Store.advance`."""
    now = to_microseconds(at)
    if shift is not None:
        await _shift(connection, now, shift // MICROSECOND)
    arrived = await _make_available(connection, now, batch)
    done = len(arrived)
    for outcome in (*await _rule_on_lost(connection, now, batch), *await _fire(connection, now, batch)):
        arrived += rules.available_actions(outcome)
        done += 1
    return Advanced(done, await _next_at(connection, batch), tuple(arrived), tuple(batch.failed))


def concerns_all(error: Exception) -> bool:
    """Return whether an error is about the whole transaction, and so about every timer in it."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # the driver refuses a value before it sends it
    return isinstance(error, (asyncpg.PostgresError, *LOST)) and not isinstance(error, OWN_FAULTS)


@asynccontextmanager
async def _alone(connection: Any, batch: TimerBatch, key: TimerKey) -> AsyncIterator[None]:
    """Undo the changes made inside if it fails, and continue with the other timers."""
    try:
        async with connection.transaction():
            yield
    except Exception as error:  # any error concerns this timer alone, or is raised again
        batch.fail(key, error)


async def _shift(connection: Any, now: int, by: int) -> None:
    await connection.execute("UPDATE flyte_action SET due_at = due_at + $1 WHERE due_at IS NOT NULL", by)
    # Regardless of the clock when it was taken or began to wait, nothing may take longer than
    # intended from now on.
    for state, length in (("PENDING", "timeout"), (DELAYED, "wait")):
        await connection.execute(
            f"UPDATE flyte_action SET due_at = $1 + {length}"  # noqa: S608 - constant SQL
            f" WHERE due_at > $1 AND state = '{state}' AND due_at > $1 + {length} + $2",
            now,
            CLOCK_SLACK,
        )


async def _make_available(connection: Any, now: int, batch: TimerBatch) -> list[Address]:
    """Make actions NEW that may be taken from now on; return their addresses."""
    rows = await connection.fetch(
        "SELECT seq, action_id, pack_name, labels, command FROM flyte_action WHERE due_at <= $1 AND state = $2"
        " ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED",
        now,
        DELAYED,
        batch.read_limit,
    )
    arrived = {
        seq: Address(pack_name, decode_labels(labels), command)
        for seq, _, pack_name, labels, command in batch.select(rows, lambda row: TimerKey(row[1]))
    }
    if arrived:
        await connection.execute("UPDATE flyte_action SET state = 'NEW', due_at = NULL WHERE seq = ANY($1)", list(arrived))
    return list(arrived.values())


async def _rule_on_lost(connection: Any, now: int, batch: TimerBatch) -> list[Outcome]:
    rows = await connection.fetch(
        "SELECT seq, action_id FROM flyte_action WHERE due_at <= $1 AND state = 'PENDING'"
        " ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        batch.read_limit,
    )
    outcomes: list[Outcome] = []
    for seq, action_id in batch.select(rows, lambda row: TimerKey(row[1])):
        async with _alone(connection, batch, TimerKey(action_id)):
            found = await find_seq(connection, seq)
            outcome = None if found is None else await _apply(connection, found, batch.lost(found.progress), now)
            outcomes += [] if outcome is None else [outcome]
    return outcomes


async def _apply(connection: Any, found: ActionRow, ruling: Repeat | Ask | Fail, now: int) -> Outcome | None:
    """Apply the ruling on a lost action.

    Return None when its execution has changed meanwhile: it is still due, and ruled on again.
    """
    if isinstance(ruling, Fail):
        if not all(await end(connection, [Completion(found, ruling.event, ruling.outcome)])):
            return None
        await _lose(connection, found, now)
        return ruling.outcome
    await _lose(connection, found, now)
    await _change(connection, found, rules.after_loss(ruling, now), now)
    return Outcome()


async def _fire(connection: Any, now: int, batch: TimerBatch) -> list[Outcome]:
    rows = await connection.fetch(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at {DUE_STEPS}"
        " AND t.next_at <= $1 ORDER BY t.next_at LIMIT $2 FOR UPDATE OF t SKIP LOCKED",
        now,
        batch.read_limit,
    )
    outcomes = []
    for flow_name, flow_uuid, step_index, rule, next_at in batch.select(rows, _step_key):
        async with _alone(connection, batch, TimerKey(flow_name, flow_uuid, step_index)):
            firing = batch.due(DueStep(flow_name, flow_uuid, step_index, rule, to_instant(next_at)))
            if firing.event is not None:
                await record(connection, [EventInsert(firing.event, firing.outcome)])
            await connection.execute(
                "UPDATE flyte_timetable SET next_at = $1 WHERE flow_name = $2 AND step_index = $3",
                None if firing.next_at is None else to_microseconds(firing.next_at),
                flow_name,
                step_index,
            )
            outcomes.append(firing.outcome)
    return outcomes


def _step_key(row: Sequence[Any]) -> TimerKey:
    flow_name, flow_uuid, step_index, *_ = row
    return TimerKey(flow_name, flow_uuid, step_index)


async def _next_at(connection: Any, batch: TimerBatch) -> datetime | None:
    aside = batch.excluded
    actions = await connection.fetch(
        "SELECT action_id, due_at FROM flyte_action WHERE due_at IS NOT NULL ORDER BY due_at LIMIT $1", len(aside) + 1
    )
    steps = await connection.fetch(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.next_at {DUE_STEPS} AND t.next_at IS NOT NULL ORDER BY t.next_at LIMIT $1",
        len(aside) + 1,
    )
    times = [due_at for action_id, due_at in actions if TimerKey(action_id) not in aside]
    return first_of(times + [row[3] for row in steps if _step_key(row) not in aside])


async def _lose(connection: Any, found: ActionRow, now: int) -> None:
    await connection.execute(
        "UPDATE flyte_attempt SET lost_at = $1 WHERE action_seq = $2 AND number = $3 AND lost_at IS NULL",
        now,
        found.seq,
        found.attempt,
    )


async def _change(connection: Any, found: ActionRow, change: StateChange, now: int) -> None:
    await connection.execute(
        "UPDATE flyte_action SET state = $1, since = $2, states = states || $3, due_at = $4, wait = $5 WHERE seq = $6",
        change.state,
        now,
        f",{change.entry}",
        change.due_at,
        change.wait,
        found.seq,
    )
    await connection.execute(
        "UPDATE flyte_execution SET changed_at = greatest(changed_at, $1) WHERE seq = $2", now, found.execution_seq
    )
