"""Timers: the extension, release and loss of leases, and steps that are due.

Each verb is one transaction. Servers that do this at the same time skip rows locked by others.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg

from flyteops.model import Evaluation, RoutingKey
from flyteops.storage import rules
from flyteops.storage.base import Check, ProcessedTimers, TimerKey
from flyteops.storage.postgres.actions import (
    Completion,
    EventInsert,
    end,
    find,
    find_seq,
    record,
)
from flyteops.storage.postgres.driver import Connection, Row
from flyteops.storage.postgres.pool import LOST
from flyteops.storage.postgres.recent import ActionRow
from flyteops.storage.row import MICROSECOND, decode_labels, to_instant, to_microseconds
from flyteops.storage.rules import (
    ATTENDED,
    CLOCK_SLACK,
    StateChange,
    TimerBatch,
    first_of,
    has_been_away,
)
from flyteops.storage.statements import load_statements
from flyteops.transition import DueSchedule, FailAction, NeedsOperator, RetryAction

SQL = load_statements("flyteops.storage.postgres", "timer")

OWN_FAULTS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""The server's errors about a statement and its values.

All other errors concern the whole transaction.
"""


async def extend(
    connection: Connection, action_id: str, at: datetime, check: Check
) -> datetime | None:
    """See `Store.extend`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    rules.require_pending(found.progress)
    if found.timeout is None:
        return None
    due_at = to_microseconds(at) + found.timeout
    await connection.execute(SQL.extend_lease, due_at, found.seq)
    return to_instant(due_at)


async def release(
    connection: Connection, action_id: str, at: datetime, check: Check, *, counts: bool
) -> RoutingKey:
    """See `Store.release`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    rules.require_releasable(found.progress)
    now = to_microseconds(at)
    if counts:
        await _lose(connection, found, now)
    else:
        await connection.execute(SQL.undo_attempt, found.seq, found.attempt)
        await connection.execute(SQL.uncount_attempt, found.seq)
    await _change(connection, found, rules.released(now), now)
    return found.progress.routing_key


async def renew(connection: Connection, at: datetime, if_unattended_for: timedelta | None) -> bool:
    """See `Store.renew_leases`. Servers that do this at the same time wait for each other."""
    known = await connection.fetchval(SQL.last_activity, ATTENDED)
    now = await connection.fetchval(SQL.now)
    is_away = if_unattended_for is None or has_been_away(known, now, if_unattended_for)
    if is_away:
        await connection.execute(SQL.renew_leases, to_microseconds(at), CLOCK_SLACK)
    await connection.execute(
        SQL.set_last_activity,
        ATTENDED,
        str(now).encode(),
    )
    return is_away


async def process_due(
    connection: Connection, at: datetime, batch: TimerBatch, shift: timedelta | None
) -> ProcessedTimers:
    """See `Store.process_due`."""
    now = to_microseconds(at)
    if shift is not None:
        await _shift(connection, now, shift // MICROSECOND)
    arrived = await _make_available(connection, now, batch)
    done = len(arrived)
    for outcome in (
        *await _rule_on_lost(connection, now, batch),
        *await _fire(connection, now, batch),
    ):
        arrived += rules.available_actions(outcome)
        done += 1
    return ProcessedTimers(
        done, await _next_at(connection, batch), tuple(arrived), tuple(batch.failed)
    )


def concerns_all(error: Exception) -> bool:
    """Return whether an error is about the whole transaction, and so about every timer in it."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # the driver refuses a value before it sends it
    return isinstance(error, (asyncpg.PostgresError, *LOST)) and not isinstance(error, OWN_FAULTS)


@asynccontextmanager
async def _alone(connection: Connection, batch: TimerBatch, key: TimerKey) -> AsyncIterator[None]:
    """Undo the changes made inside if it fails, and continue with the other timers."""
    try:
        async with connection.transaction():
            yield
    # Any error concerns this timer alone, or is raised again.
    except Exception as error:  # noqa: BLE001
        batch.fail(key, error)


async def _shift(connection: Connection, now: int, by: int) -> None:
    await connection.execute(SQL.shift_timers, by)
    for statement in (SQL.shorten_leases, SQL.shorten_delays):
        await connection.execute(statement, now, CLOCK_SLACK)


async def _make_available(connection: Connection, now: int, batch: TimerBatch) -> list[RoutingKey]:
    """Make actions NEW that may be taken from now on; return their addresses."""
    rows = await connection.fetch(
        SQL.due_delays,
        now,
        batch.read_limit,
    )
    arrived = {
        seq: RoutingKey(pack_name, decode_labels(labels), command)
        for seq, _, pack_name, labels, command in batch.select(rows, lambda row: TimerKey(row[1]))
    }
    if arrived:
        await connection.execute(SQL.end_delays, list(arrived))
    return list(arrived.values())


async def _rule_on_lost(connection: Connection, now: int, batch: TimerBatch) -> list[Evaluation]:
    rows = await connection.fetch(
        SQL.due_leases,
        now,
        batch.read_limit,
    )
    outcomes: list[Evaluation] = []
    for seq, action_id in batch.select(rows, lambda row: TimerKey(row[1])):
        async with _alone(connection, batch, TimerKey(action_id)):
            found = await find_seq(connection, seq)
            outcome = (
                None
                if found is None
                else await _apply(connection, found, batch.on_timeout(found.progress), now)
            )
            outcomes += [] if outcome is None else [outcome]
    return outcomes


async def _apply(
    connection: Connection,
    found: ActionRow,
    ruling: RetryAction | NeedsOperator | FailAction,
    now: int,
) -> Evaluation | None:
    """Apply the ruling on a lost action.

    Return None when its execution has changed meanwhile: it is still due, and ruled on again.
    """
    if isinstance(ruling, FailAction):
        if not all(await end(connection, [Completion(found, ruling.event, ruling.outcome)])):
            return None
        await _lose(connection, found, now)
        return ruling.outcome
    await _lose(connection, found, now)
    await _change(connection, found, rules.after_loss(ruling, now), now)
    return Evaluation()


async def _fire(connection: Connection, now: int, batch: TimerBatch) -> list[Evaluation]:
    rows = await connection.fetch(
        SQL.due_schedules,
        now,
        batch.read_limit,
    )
    outcomes = []
    for flow_name, flow_uuid, step_index, rule, next_at in batch.select(rows, _step_key):
        async with _alone(connection, batch, TimerKey(flow_name, flow_uuid, step_index)):
            firing = batch.on_due(
                DueSchedule(flow_name, flow_uuid, step_index, rule, to_instant(next_at))
            )
            if firing.event is not None:
                await record(connection, [EventInsert(firing.event, firing.outcome)])
            await connection.execute(
                SQL.set_next_run,
                None if firing.next_at is None else to_microseconds(firing.next_at),
                flow_name,
                step_index,
            )
            outcomes.append(firing.outcome)
    return outcomes


def _step_key(row: Row) -> TimerKey:
    flow_name, flow_uuid, step_index, *_ = row
    return TimerKey(flow_name, flow_uuid, step_index)


async def _next_at(connection: Connection, batch: TimerBatch) -> datetime | None:
    aside = batch.excluded
    actions = await connection.fetch(SQL.next_actions, len(aside) + 1)
    steps = await connection.fetch(
        SQL.next_schedules,
        len(aside) + 1,
    )
    times = [due_at for action_id, due_at in actions if TimerKey(action_id) not in aside]
    return first_of(times + [row[3] for row in steps if _step_key(row) not in aside])


async def _lose(connection: Connection, found: ActionRow, now: int) -> None:
    await connection.execute(
        SQL.lose_attempt,
        now,
        found.seq,
        found.attempt,
    )


async def _change(connection: Connection, found: ActionRow, change: StateChange, now: int) -> None:
    await connection.execute(
        SQL.change_state,
        change.state,
        now,
        f",{change.entry}",
        change.due_at,
        change.wait,
        found.seq,
    )
    await connection.execute(SQL.touch_execution, now, found.execution_seq)
