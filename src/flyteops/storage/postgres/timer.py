"""What time brings: leases that are kept alive, given back or lost, and steps whose time has come.

Each verb is one transaction. Servers that do this at the same time pass over what another has its hands on.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from flyteops.errors import ConflictError
from flyteops.model import Address, Outcome
from flyteops.ruling import DueStep, Fail, Repeat
from flyteops.storage.base import Advanced, Check, Rules
from flyteops.storage.postgres.ledger import Ending, Entry, Found, end, find, find_seq, record
from flyteops.storage.row import LATER, MICROSECOND, UNFINISHED, decode_labels, to_instant, to_microseconds


async def extend(connection: Any, action_id: str, at: datetime, check: Check) -> datetime | None:
    """See `Store.extend`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    if found.state != "PENDING":
        state = found.progress.state
        raise ConflictError(f"Action {action_id!r} is {state}; only of a PENDING action a lease can be extended.")
    if found.timeout is None:
        return None
    due_at = to_microseconds(at) + found.timeout
    await connection.execute("UPDATE flyte_action SET due_at = $1 WHERE seq = $2", due_at, found.seq)
    return to_instant(due_at)


async def release(connection: Any, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
    """See `Store.release`."""
    found = await find(connection, action_id, locks=True)
    check(found.progress)
    if found.state not in UNFINISHED:
        state = found.progress.state
        raise ConflictError(f"Action {action_id!r} is {state}; only a PENDING or UNKNOWN one can be handed out again.")
    now = to_microseconds(at)
    if counts:
        await _lose(connection, found, now)
    else:
        await connection.execute("DELETE FROM flyte_attempt WHERE action_seq = $1 AND number = $2", found.seq, found.attempt)
        await connection.execute("UPDATE flyte_action SET attempt = attempt - 1 WHERE seq = $1", found.seq)
    await _change(connection, found, "NEW", now, None)
    return found.progress.address


async def advance(connection: Any, at: datetime, rules: Rules, limit: int, shift: timedelta | None) -> Advanced:
    """See `Store.advance`."""
    now = to_microseconds(at)
    if shift is not None:
        await _shift(connection, now, shift // MICROSECOND)
    arrived = await _make_available(connection, now, limit)
    done = len(arrived)
    for happened in (_rule_on_lost(connection, now, rules, limit), _fire(connection, now, rules, limit)):
        async for outcome in happened:
            arrived += [action.address for action in outcome.actions if action.not_before is None]
            done += 1
    return Advanced(done, await _next_at(connection), tuple(arrived))


async def _shift(connection: Any, now: int, by: int) -> None:
    await connection.execute("UPDATE flyte_action SET due_at = due_at + $1 WHERE due_at IS NOT NULL", by)
    # Of whatever the clock said when it was taken or began to wait: nothing may take longer than was meant, from now on.
    for state, length in (("PENDING", "timeout"), (LATER, "wait")):
        await connection.execute(
            f"UPDATE flyte_action SET due_at = $1 + {length}"  # noqa: S608 - texts of ours
            f" WHERE due_at > $1 AND state = '{state}' AND due_at > $1 + {length}",
            now,
        )


async def _make_available(connection: Any, now: int, limit: int) -> list[Address]:
    """Make NEW what may be taken from now on; return whom it is for."""
    rows = await connection.fetch(
        "UPDATE flyte_action SET state = 'NEW', due_at = NULL WHERE seq IN"
        " (SELECT seq FROM flyte_action WHERE due_at <= $1 AND state = $2 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)"
        " RETURNING pack_name, labels, command",
        now,
        LATER,
        limit,
    )
    return [Address(pack_name, decode_labels(labels), command) for pack_name, labels, command in rows]


async def _rule_on_lost(connection: Any, now: int, rules: Rules, limit: int) -> AsyncIterator[Outcome]:
    rows = await connection.fetch(
        "SELECT seq FROM flyte_action WHERE due_at <= $1 AND state = 'PENDING' ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    for (seq,) in rows:
        found = await find_seq(connection, seq)
        if found is None:
            continue
        ruling = rules.lost(found.progress)
        if isinstance(ruling, Fail):
            if all(await end(connection, [Ending(found, ruling.event, ruling.outcome)])):
                await _lose(connection, found, now)
                yield ruling.outcome
            # Otherwise its execution has changed meanwhile: it is still due, and ruled on again.
            continue
        await _lose(connection, found, now)
        if isinstance(ruling, Repeat):
            await _change(connection, found, "NEW", now, to_microseconds(ruling.at))
        else:
            await _change(connection, found, "UNKNOWN", now, None)
        yield Outcome()


async def _fire(connection: Any, now: int, rules: Rules, limit: int) -> AsyncIterator[Outcome]:
    rows = await connection.fetch(
        "SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at"
        " FROM flyte_timetable t JOIN flyte_flow f ON f.name = t.flow_name"
        " WHERE t.next_at <= $1 ORDER BY t.next_at LIMIT $2 FOR UPDATE OF t SKIP LOCKED",
        now,
        limit,
    )
    for flow_name, flow_uuid, step_index, rule, next_at in rows:
        firing = rules.due(DueStep(flow_name, flow_uuid, step_index, rule, to_instant(next_at)))
        if firing.event is not None:
            await record(connection, [Entry(firing.event, firing.outcome)])
        await connection.execute(
            "UPDATE flyte_timetable SET next_at = $1 WHERE flow_name = $2 AND step_index = $3",
            None if firing.next_at is None else to_microseconds(firing.next_at),
            flow_name,
            step_index,
        )
        yield firing.outcome


async def _next_at(connection: Any) -> datetime | None:
    found: int | None = await connection.fetchval(
        "SELECT least((SELECT min(due_at) FROM flyte_action WHERE due_at IS NOT NULL),"
        " (SELECT min(next_at) FROM flyte_timetable WHERE next_at IS NOT NULL))"
    )
    return None if found is None else to_instant(found)


async def _lose(connection: Any, found: Found, now: int) -> None:
    await connection.execute(
        "UPDATE flyte_attempt SET lost_at = $1 WHERE action_seq = $2 AND number = $3 AND lost_at IS NULL",
        now,
        found.seq,
        found.attempt,
    )


async def _change(connection: Any, found: Found, state: str, now: int, due_at: int | None) -> None:
    await connection.execute(
        "UPDATE flyte_action SET state = $1, since = $2, states = states || $3, due_at = $4, wait = $5 WHERE seq = $6",
        state if due_at is None else LATER,
        now,
        f",{state} {now}",
        due_at,
        None if due_at is None else max(due_at - now, 0),
        found.seq,
    )
    await connection.execute(
        "UPDATE flyte_execution SET changed_at = greatest(changed_at, $1) WHERE seq = $2", now, found.execution_seq
    )
