"""Timers, in the writer's thread: extension, release and loss of leases, and due steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from flyteops.model import Address, Outcome
from flyteops.ruling import Ask, DueStep, Fail, Repeat
from flyteops.storage import rules
from flyteops.storage.base import Advanced, Check, TimerKey
from flyteops.storage.row import DELAYED, MICROSECOND, to_instant, to_microseconds
from flyteops.storage.rules import CLOCK_SLACK, StateChange, TimerBatch, first_of
from flyteops.storage.sqlite.action_row import ActionRow
from flyteops.storage.sqlite.actions import ActionTable

DUE_STEPS = "FROM timetable t JOIN flow f ON f.name = t.flow_name WHERE true"
"""Steps with a time of their own, of the current versions of their flows."""


def extend(table: ActionTable, action_id: str, at: datetime, check: Check) -> datetime | None:
    """See `Store.extend`."""
    table.flush()
    found = table.find(action_id)
    action = table.progress_of(found)
    check(action)
    rules.require_pending(action)
    if found.timeout is None:
        return None
    due_at = to_microseconds(at) + found.timeout
    table.execute("UPDATE action SET due_at = ? WHERE seq = ?", (due_at, found.seq))
    return to_instant(due_at)


def release(table: ActionTable, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
    """See `Store.release`."""
    table.flush()
    found = table.find(action_id)
    action = table.progress_of(found)
    check(action)
    rules.require_releasable(action)
    now = to_microseconds(at)
    if counts:
        _lose(table, found, now)
    else:
        table.execute("DELETE FROM attempt WHERE action_seq = ? AND number = ?", (found.seq, found.attempt))
        table.execute("UPDATE action SET attempt = attempt - 1 WHERE seq = ?", (found.seq,))
    _change(table, found, rules.released(now), now)
    table.in_flight.discard(action_id)
    table.queues.make_available([found.queue_id])
    return table.queues.address(found.queue_id)


def renew(table: ActionTable, at: datetime) -> None:
    """See `Store.renew_leases`."""
    table.flush()
    table.execute(
        "UPDATE action SET due_at = :at + timeout WHERE state = 'PENDING'"
        " AND (due_at <= :at + timeout OR due_at > :at + timeout + :slack)",
        {"at": to_microseconds(at), "slack": CLOCK_SLACK},
    )


def advance(table: ActionTable, at: datetime, batch: TimerBatch, shift: timedelta | None) -> Advanced:
    """See `Store.advance`."""
    table.flush()
    now = to_microseconds(at)
    if shift is not None:
        _shift(table, now, shift // MICROSECOND)
    available = _make_available(table, now, batch)
    arrived = [table.queues.address(queue_id) for queue_id in available]
    done = len(available)
    for outcome in (*_rule_on_lost(table, now, batch), *_fire(table, now, batch)):
        arrived += rules.available_actions(outcome)
        done += 1
    return Advanced(done, _next_at(table, batch), tuple(arrived), tuple(batch.failed))


@contextmanager
def _alone(table: ActionTable, batch: TimerBatch, key: TimerKey) -> Iterator[None]:
    """Undo the changes made inside if it fails, and continue with the other timers."""
    table.execute("SAVEPOINT timer")
    try:
        yield
        # The next one may be of the same execution.
        table.flush()
    except Exception as error:  # any error concerns this timer alone, or is raised again
        batch.fail(key, error)
        table.execute("ROLLBACK TO timer")
        table.on_rollback()
    table.execute("RELEASE timer")


def _shift(table: ActionTable, now: int, by: int) -> None:
    table.execute("UPDATE action SET due_at = due_at + ? WHERE due_at IS NOT NULL", (by,))
    # Regardless of the clock when it was taken or began to wait, nothing may take longer than
    # intended from now on.
    for state, length in (("PENDING", "timeout"), (DELAYED, "wait")):
        table.execute(
            f"UPDATE action SET due_at = ? + {length} WHERE due_at > ? AND state = ? AND due_at > ? + {length}",  # noqa: S608 - constant SQL, bound values
            (now, now, state, now),
        )


def _make_available(table: ActionTable, now: int, batch: TimerBatch) -> list[int]:
    """Make actions NEW that may be taken from now on; return their queues."""
    rows = table.execute(
        "SELECT seq, action_id, queue_id FROM action WHERE due_at <= ? AND state = ? ORDER BY due_at LIMIT ?",
        (now, DELAYED, batch.read_limit),
    ).fetchall()
    queue_ids = []
    for seq, action_id, queue_id in batch.select(rows, lambda row: TimerKey(row[1])):
        with _alone(table, batch, TimerKey(action_id)):
            table.queues.address(queue_id)
            table.execute("UPDATE action SET state = 'NEW', due_at = NULL WHERE seq = ?", (seq,))
            queue_ids.append(queue_id)
    table.queues.make_available(queue_ids)
    return queue_ids


def _rule_on_lost(table: ActionTable, now: int, batch: TimerBatch) -> Iterator[Outcome]:
    rows = table.execute(
        "SELECT seq, action_id FROM action WHERE due_at <= ? AND state = 'PENDING' ORDER BY due_at LIMIT ?",
        (now, batch.read_limit),
    ).fetchall()
    outcomes = []
    for seq, action_id in batch.select(rows, lambda row: TimerKey(row[1])):
        with _alone(table, batch, TimerKey(action_id)):
            for found in table.find_all([seq]):
                ruling = batch.lost(table.progress_of(found))
                _lose(table, found, now)
                outcome = _apply(table, found, ruling, now)
                table.flush()
                outcomes.append(outcome)
    yield from outcomes


def _apply(table: ActionTable, found: ActionRow, ruling: Repeat | Ask | Fail, now: int) -> Outcome:
    if isinstance(ruling, Fail):
        table.end(found, ruling.event, ruling.outcome)
        return ruling.outcome
    _change(table, found, rules.after_loss(ruling, now), now)
    return Outcome()


def _fire(table: ActionTable, now: int, batch: TimerBatch) -> Iterator[Outcome]:
    rows = table.execute(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at {DUE_STEPS} AND t.next_at <= ? ORDER BY t.next_at LIMIT ?",
        (now, batch.read_limit),
    ).fetchall()
    outcomes = []
    for flow_name, flow_uuid, step_index, rule, next_at in batch.select(rows, lambda row: TimerKey(*row[:3])):
        with _alone(table, batch, TimerKey(flow_name, flow_uuid, step_index)):
            firing = batch.due(DueStep(flow_name, flow_uuid, step_index, rule, to_instant(next_at)))
            if firing.event is not None:
                table.record(firing.event, firing.outcome)
            due_at = None if firing.next_at is None else to_microseconds(firing.next_at)
            table.flush()
            table.execute(
                "UPDATE timetable SET next_at = ? WHERE flow_name = ? AND step_index = ?", (due_at, flow_name, step_index)
            )
            outcomes.append(firing.outcome)
    yield from outcomes


def _next_at(table: ActionTable, batch: TimerBatch) -> datetime | None:
    aside = batch.excluded
    actions = table.execute(
        "SELECT action_id, due_at FROM action WHERE due_at IS NOT NULL ORDER BY due_at LIMIT ?", (len(aside) + 1,)
    )
    steps = table.execute(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.next_at {DUE_STEPS} AND t.next_at IS NOT NULL ORDER BY t.next_at LIMIT ?",
        (len(aside) + 1,),
    )
    times = [due_at for action_id, due_at in actions if TimerKey(action_id) not in aside]
    return first_of(times + [next_at for *key, next_at in steps if TimerKey(*key) not in aside])


def _lose(table: ActionTable, found: ActionRow, now: int) -> None:
    table.execute(
        "UPDATE attempt SET lost_at = ? WHERE action_seq = ? AND number = ? AND lost_at IS NULL", (now, found.seq, found.attempt)
    )


def _change(table: ActionTable, found: ActionRow, change: StateChange, now: int) -> None:
    table.execute(
        "UPDATE action SET state = ?, states = states || ?, due_at = ?, wait = ? WHERE seq = ?",
        (change.state, f",{change.entry}", change.due_at, change.wait, found.seq),
    )
    table.buffer.touch(found.execution_seq, now)
