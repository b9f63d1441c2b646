"""Timers, in the writer's thread: extension, release and loss of leases, and due steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from flyteops.model import Evaluation, RoutingKey
from flyteops.storage import rules
from flyteops.storage.base import Check, ProcessedTimers, TimerKey
from flyteops.storage.row import MICROSECOND, to_instant, to_microseconds
from flyteops.storage.rules import CLOCK_SLACK, StateChange, TimerBatch, first_of
from flyteops.storage.sqlite.action_row import ActionRow
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.statements import load_statements
from flyteops.transition import DueSchedule, FailAction, NeedsOperator, RetryAction

SQL = load_statements("flyteops.storage.sqlite", "timer")


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
    table.execute(SQL.extend_lease, (due_at, found.seq))
    return to_instant(due_at)


def release(
    table: ActionTable, action_id: str, at: datetime, check: Check, *, counts: bool
) -> RoutingKey:
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
        table.execute(SQL.undo_attempt, (found.seq, found.attempt))
        table.execute(SQL.uncount_attempt, (found.seq,))
    _change(table, found, rules.released(now), now)
    table.in_flight.discard(action_id)
    table.queues.make_available([found.queue_id])
    return table.queues.address(found.queue_id)


def renew(table: ActionTable, at: datetime) -> None:
    """See `Store.renew_leases`."""
    table.flush()
    table.execute(SQL.renew_leases, {"at": to_microseconds(at), "slack": CLOCK_SLACK})


def process_due(
    table: ActionTable, at: datetime, batch: TimerBatch, shift: timedelta | None
) -> ProcessedTimers:
    """See `Store.process_due`."""
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
    return ProcessedTimers(done, _next_at(table, batch), tuple(arrived), tuple(batch.failed))


@contextmanager
def _alone(table: ActionTable, batch: TimerBatch, key: TimerKey) -> Iterator[None]:
    """Undo the changes made inside if it fails, and continue with the other timers."""
    table.execute("SAVEPOINT timer")
    try:
        yield
        # The next one may be of the same execution.
        table.flush()
    # Any error concerns this timer alone, or is raised again.
    except Exception as error:  # noqa: BLE001
        batch.fail(key, error)
        table.execute("ROLLBACK TO timer")
        table.on_rollback()
    table.execute("RELEASE timer")


def _shift(table: ActionTable, now: int, by: int) -> None:
    table.execute(SQL.shift_timers, (by,))
    table.execute(SQL.shorten_leases, (now,))
    table.execute(SQL.shorten_delays, (now,))


def _make_available(table: ActionTable, now: int, batch: TimerBatch) -> list[int]:
    """Make actions NEW that may be taken from now on; return their queues."""
    rows = table.execute(
        SQL.due_delays,
        (now, batch.read_limit),
    ).fetchall()
    queue_ids = []
    for seq, action_id, queue_id in batch.select(rows, lambda row: TimerKey(row[1])):
        with _alone(table, batch, TimerKey(action_id)):
            table.queues.address(queue_id)
            table.execute(SQL.end_delay, (seq,))
            queue_ids.append(queue_id)
    table.queues.make_available(queue_ids)
    return queue_ids


def _rule_on_lost(table: ActionTable, now: int, batch: TimerBatch) -> Iterator[Evaluation]:
    rows = table.execute(
        SQL.due_leases,
        (now, batch.read_limit),
    ).fetchall()
    outcomes = []
    for seq, action_id in batch.select(rows, lambda row: TimerKey(row[1])):
        with _alone(table, batch, TimerKey(action_id)):
            for found in table.find_all([seq]):
                ruling = batch.on_timeout(table.progress_of(found))
                _lose(table, found, now)
                outcome = _apply(table, found, ruling, now)
                table.flush()
                outcomes.append(outcome)
    yield from outcomes


def _apply(
    table: ActionTable, found: ActionRow, ruling: RetryAction | NeedsOperator | FailAction, now: int
) -> Evaluation:
    if isinstance(ruling, FailAction):
        table.end(found, ruling.event, ruling.outcome)
        return ruling.outcome
    _change(table, found, rules.after_loss(ruling, now), now)
    return Evaluation()


def _fire(table: ActionTable, now: int, batch: TimerBatch) -> Iterator[Evaluation]:
    rows = table.execute(
        SQL.due_schedules,
        (now, batch.read_limit),
    ).fetchall()
    outcomes = []
    for flow_name, flow_uuid, step_index, rule, next_at in batch.select(
        rows, lambda row: TimerKey(*row[:3])
    ):
        with _alone(table, batch, TimerKey(flow_name, flow_uuid, step_index)):
            firing = batch.on_due(
                DueSchedule(flow_name, flow_uuid, step_index, rule, to_instant(next_at))
            )
            if firing.event is not None:
                table.record(firing.event, firing.outcome)
            due_at = None if firing.next_at is None else to_microseconds(firing.next_at)
            table.flush()
            table.execute(SQL.set_next_run, (due_at, flow_name, step_index))
            outcomes.append(firing.outcome)
    yield from outcomes


def _next_at(table: ActionTable, batch: TimerBatch) -> datetime | None:
    aside = batch.excluded
    actions = table.execute(SQL.next_actions, (len(aside) + 1,))
    steps = table.execute(
        SQL.next_schedules,
        (len(aside) + 1,),
    )
    times = [due_at for action_id, due_at in actions if TimerKey(action_id) not in aside]
    return first_of(times + [next_at for *key, next_at in steps if TimerKey(*key) not in aside])


def _lose(table: ActionTable, found: ActionRow, now: int) -> None:
    table.execute(SQL.lose_attempt, (now, found.seq, found.attempt))


def _change(table: ActionTable, found: ActionRow, change: StateChange, now: int) -> None:
    table.execute(
        SQL.change_state,
        (change.state, f",{change.entry}", change.due_at, change.wait, found.seq),
    )
    table.buffer.touch(found.execution_seq, now)
