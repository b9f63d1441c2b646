"""Timers, in the writer's thread: extension, release and loss of leases, and due steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from flyteops.errors import ConflictError
from flyteops.model import Address, Outcome
from flyteops.ruling import Ask, DueStep, Fail, Repeat
from flyteops.storage.base import Advanced, Check, TimerKey
from flyteops.storage.due import CLOCK_SLACK, Desk, first_of
from flyteops.storage.row import LATER, MICROSECOND, UNFINISHED, to_instant, to_microseconds
from flyteops.storage.sqlite.ledger import Ledger
from flyteops.storage.sqlite.waiting import Found

DUE_STEPS = "FROM timetable t JOIN flow f ON f.name = t.flow_name WHERE true"
"""Steps with a time of their own, of the current versions of their flows."""


def extend(ledger: Ledger, action_id: str, at: datetime, check: Check) -> datetime | None:
    """See `Store.extend`."""
    ledger.flush()
    found = ledger.find(action_id)
    check(ledger.progress_of(found))
    if found.state != "PENDING":
        raise ConflictError(f"Action {action_id!r} is {found.visible_state}; only of a PENDING action a lease can be extended.")
    if found.timeout is None:
        return None
    due_at = to_microseconds(at) + found.timeout
    ledger.execute("UPDATE action SET due_at = ? WHERE seq = ?", (due_at, found.seq))
    return to_instant(due_at)


def release(ledger: Ledger, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
    """See `Store.release`."""
    ledger.flush()
    found = ledger.find(action_id)
    check(ledger.progress_of(found))
    if found.state not in UNFINISHED:
        raise ConflictError(
            f"Action {action_id!r} is {found.visible_state}; only a PENDING or UNKNOWN one can be handed out again."
        )
    now = to_microseconds(at)
    if counts:
        _lose(ledger, found, now)
    else:
        ledger.execute("DELETE FROM attempt WHERE action_seq = ? AND number = ?", (found.seq, found.attempt))
        ledger.execute("UPDATE action SET attempt = attempt - 1 WHERE seq = ?", (found.seq,))
    _change(ledger, found, "NEW", now, None)
    ledger.forget_handed_out(action_id)
    ledger.make_available([found.queue_id])
    return ledger.address(found.queue_id)


def renew(ledger: Ledger, at: datetime) -> None:
    """See `Store.renew_leases`."""
    ledger.flush()
    ledger.execute(
        "UPDATE action SET due_at = :at + timeout WHERE state = 'PENDING'"
        " AND (due_at <= :at + timeout OR due_at > :at + timeout + :slack)",
        {"at": to_microseconds(at), "slack": CLOCK_SLACK},
    )


def advance(ledger: Ledger, at: datetime, desk: Desk, shift: timedelta | None) -> Advanced:
    """See `Store.advance`."""
    ledger.flush()
    now = to_microseconds(at)
    if shift is not None:
        _shift(ledger, now, shift // MICROSECOND)
    available = _make_available(ledger, now, desk)
    arrived = [ledger.address(queue_id) for queue_id in available]
    done = len(available)
    for outcome in (*_rule_on_lost(ledger, now, desk), *_fire(ledger, now, desk)):
        arrived += [action.address for action in outcome.actions if action.not_before is None]
        done += 1
    return Advanced(done, _next_at(ledger, desk), tuple(arrived), tuple(desk.failed))


@contextmanager
def _alone(ledger: Ledger, desk: Desk, key: TimerKey) -> Iterator[None]:
    """Undo the changes made inside if it fails, and continue with the other timers."""
    ledger.execute("SAVEPOINT timer")
    try:
        yield
        # The next one may be of the same execution.
        ledger.flush()
    except Exception as error:  # any error concerns this timer alone, or is raised again
        desk.fail(key, error)
        ledger.execute("ROLLBACK TO timer")
        ledger.forget()
    ledger.execute("RELEASE timer")


def _shift(ledger: Ledger, now: int, by: int) -> None:
    ledger.execute("UPDATE action SET due_at = due_at + ? WHERE due_at IS NOT NULL", (by,))
    # Regardless of the clock when it was taken or began to wait, nothing may take longer than
    # intended from now on.
    for state, length in (("PENDING", "timeout"), (LATER, "wait")):
        ledger.execute(
            f"UPDATE action SET due_at = ? + {length} WHERE due_at > ? AND state = ? AND due_at > ? + {length}",  # noqa: S608 - constant SQL, bound values
            (now, now, state, now),
        )


def _make_available(ledger: Ledger, now: int, desk: Desk) -> list[int]:
    """Make actions NEW that may be taken from now on; return their queues."""
    rows = ledger.execute(
        "SELECT seq, action_id, queue_id FROM action WHERE due_at <= ? AND state = ? ORDER BY due_at LIMIT ?",
        (now, LATER, desk.reach),
    ).fetchall()
    queue_ids = []
    for seq, action_id, queue_id in desk.chosen(rows, lambda row: TimerKey(row[1])):
        with _alone(ledger, desk, TimerKey(action_id)):
            ledger.address(queue_id)
            ledger.execute("UPDATE action SET state = 'NEW', due_at = NULL WHERE seq = ?", (seq,))
            queue_ids.append(queue_id)
    ledger.make_available(queue_ids)
    return queue_ids


def _rule_on_lost(ledger: Ledger, now: int, desk: Desk) -> Iterator[Outcome]:
    rows = ledger.execute(
        "SELECT seq, action_id FROM action WHERE due_at <= ? AND state = 'PENDING' ORDER BY due_at LIMIT ?", (now, desk.reach)
    ).fetchall()
    outcomes = []
    for seq, action_id in desk.chosen(rows, lambda row: TimerKey(row[1])):
        with _alone(ledger, desk, TimerKey(action_id)):
            for found in ledger.find_all([seq]):
                ruling = desk.lost(ledger.progress_of(found))
                _lose(ledger, found, now)
                outcome = _apply(ledger, found, ruling, now)
                ledger.flush()
                outcomes.append(outcome)
    yield from outcomes


def _apply(ledger: Ledger, found: Found, ruling: Repeat | Ask | Fail, now: int) -> Outcome:
    if isinstance(ruling, Fail):
        ledger.end(found, ruling.event, ruling.outcome)
        return ruling.outcome
    if isinstance(ruling, Ask):
        _change(ledger, found, "UNKNOWN", now, None)
    else:
        _change(ledger, found, "NEW", now, to_microseconds(ruling.at))
    return Outcome()


def _fire(ledger: Ledger, now: int, desk: Desk) -> Iterator[Outcome]:
    rows = ledger.execute(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.rule, t.next_at {DUE_STEPS} AND t.next_at <= ? ORDER BY t.next_at LIMIT ?",
        (now, desk.reach),
    ).fetchall()
    outcomes = []
    for flow_name, flow_uuid, step_index, rule, next_at in desk.chosen(rows, lambda row: TimerKey(*row[:3])):
        with _alone(ledger, desk, TimerKey(flow_name, flow_uuid, step_index)):
            firing = desk.due(DueStep(flow_name, flow_uuid, step_index, rule, to_instant(next_at)))
            if firing.event is not None:
                ledger.record(firing.event, firing.outcome)
            due_at = None if firing.next_at is None else to_microseconds(firing.next_at)
            ledger.flush()
            ledger.execute(
                "UPDATE timetable SET next_at = ? WHERE flow_name = ? AND step_index = ?", (due_at, flow_name, step_index)
            )
            outcomes.append(firing.outcome)
    yield from outcomes


def _next_at(ledger: Ledger, desk: Desk) -> datetime | None:
    aside = desk.passed_over
    actions = ledger.execute(
        "SELECT action_id, due_at FROM action WHERE due_at IS NOT NULL ORDER BY due_at LIMIT ?", (len(aside) + 1,)
    )
    steps = ledger.execute(
        f"SELECT t.flow_name, f.uuid, t.step_index, t.next_at {DUE_STEPS} AND t.next_at IS NOT NULL ORDER BY t.next_at LIMIT ?",
        (len(aside) + 1,),
    )
    times = [due_at for action_id, due_at in actions if TimerKey(action_id) not in aside]
    return first_of(times + [next_at for *key, next_at in steps if TimerKey(*key) not in aside])


def _lose(ledger: Ledger, found: Found, now: int) -> None:
    ledger.execute(
        "UPDATE attempt SET lost_at = ? WHERE action_seq = ? AND number = ? AND lost_at IS NULL", (now, found.seq, found.attempt)
    )


def _change(ledger: Ledger, found: Found, state: str, now: int, due_at: int | None) -> None:
    stored = LATER if due_at is not None else state
    ledger.execute(
        "UPDATE action SET state = ?, states = states || ?, due_at = ?, wait = ? WHERE seq = ?",
        (stored, f",{state} {now}", due_at, None if due_at is None else max(due_at - now, 0), found.seq),
    )
    ledger.touch(found.execution_seq, now)
