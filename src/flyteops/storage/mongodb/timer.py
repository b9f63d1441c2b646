"""Timers: the extension, release and loss of leases, and steps that are due."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from pymongo.errors import DocumentTooLarge, DuplicateKeyError, PyMongoError

from flyteops.errors import BusyError, NotFoundError
from flyteops.model import Note, RoutingKey
from flyteops.storage import rules
from flyteops.storage.base import Check, ProcessedTimers, TimerKey
from flyteops.storage.mongodb.actions import ActionCollection, ActionDocument, transition_update
from flyteops.storage.mongodb.client import ask_server
from flyteops.storage.mongodb.document import NEVER, address_of, extra
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.execution import Change
from flyteops.storage.mongodb.flow import set_next
from flyteops.storage.mongodb.note import note_document
from flyteops.storage.row import DELAYED, MICROSECOND, to_instant, to_microseconds
from flyteops.storage.rules import (
    ATTENDED,
    CLOCK_SLACK,
    TimerBatch,
    first_of,
    has_been_away,
    step_key,
)
from flyteops.transition import DueSchedule, FailAction, NeedsOperator, RetryAction, ScheduledRun

OWN_FAULTS = (DocumentTooLarge, DuplicateKeyError)
"""The server's errors about one document; all other errors concern every timer."""


class LostAction(NamedTuple):
    """A lost action, and the ruling on it."""

    found: ActionDocument
    ruling: RetryAction | NeedsOperator | FailAction


class DueRun(NamedTuple):
    """A due step, the place of its due time, and the ruling on it."""

    flow: Document
    row: Document
    step: DueSchedule
    firing: ScheduledRun


class Timer:
    """Carries out the timers of actions and steps."""

    def __init__(self, actions: ActionCollection) -> None:
        self._actions = actions

    async def extend(
        self, database: Database, action_id: str, at: datetime, check: Check
    ) -> tuple[datetime | None] | None:
        """See `Store.extend`; None when it must be retried."""
        found = await self._actions.find(database, action_id)
        check(found.progress)
        rules.require_pending(found.progress)
        if found.progress.timeout is None:
            return (None,)
        due_at = to_microseconds(at) + found.progress.timeout // MICROSECOND
        done = await self._actions.commit(
            database, found, Change(action_id, 0, {"$set": {"flyte.due": due_at}})
        )
        return (to_instant(due_at),) if done else None

    async def release(
        self, database: Database, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey | None:
        """See `Store.release`; None when it must be retried."""
        found = await self._actions.find(database, action_id)
        check(found.progress)
        rules.require_releasable(found.progress)
        now = to_microseconds(at)
        update = transition_update(found, rules.released(now), now, is_lost=counts)
        timeout = extra(found.action).get("timeout")
        update["$set"] |= {"flyte.due": NEVER if timeout is None else timeout}
        if not counts:
            update["$pop"] = {"flyte.attempts": 1}
            update["$inc"] = {"flyte.attempt": -1}
        address = found.progress.routing_key
        return (
            address
            if await self._actions.commit(
                database, found, Change(action_id, now, update, addresses=(address,))
            )
            else None
        )

    async def process_due(
        self, database: Database, at: datetime, batch: TimerBatch, shift: timedelta | None
    ) -> ProcessedTimers:
        """See `Store.process_due`.

        All rulings come first, so that a rule that ends the verb leaves everything unchanged.
        """
        now = to_microseconds(at)
        if shift is not None:
            await _shift(database, now, shift // MICROSECOND)
        lost = await self._lost(database, now, batch)
        fired = await _due(database, now, batch)
        arrived = await self._make_available(database, now, batch)
        done = len(arrived)
        work = [
            (TimerKey(each.found.progress.action_id), partial(self._apply, database, each, now))
            for each in lost
        ]
        work += [(step_key(each.step), partial(self._fire, database, each)) for each in fired]
        for key, carry_out in work:
            try:
                outcome = await carry_out()
            # Any error concerns this timer alone, or is raised again.
            except Exception as error:  # noqa: BLE001
                batch.fail(key, error)
            else:
                if outcome is not None:
                    arrived += outcome
                    done += 1
        return ProcessedTimers(
            done, await _next_at(database, batch), tuple(arrived), tuple(batch.failed)
        )

    async def _make_available(
        self, database: Database, now: int, batch: TimerBatch
    ) -> list[RoutingKey]:
        """Make actions NEW that may be taken from now on; return their addresses."""
        arrived = []
        fields = {"trigger": 0, "input": 0, "context": 0, "result": 0}
        due = (
            await database.action.find({"flyte.state": DELAYED, "flyte.due": {"$lte": now}}, fields)
            .sort("flyte.due", 1)
            .to_list(batch.read_limit)
        )
        for action in batch.select(due, _action_key):
            try:
                address = address_of(action)
                await self._actions.queues.ensure(database, [address])
                kept = extra(action)
                changed = await database.action.update_one(
                    {"_id": action["_id"], "flyte.state": DELAYED, "flyte.due": kept["due"]},
                    {"$set": {"flyte.state": "NEW", "flyte.due": kept.get("timeout", NEVER)}},
                )
            # Any error concerns this timer alone, or is raised again.
            except Exception as error:  # noqa: BLE001
                batch.fail(_action_key(action), error)
                continue
            if changed.modified_count:
                arrived.append(address)
        return arrived

    async def _lost(self, database: Database, now: int, batch: TimerBatch) -> list[LostAction]:
        ruled = []
        which = {"flyte.state": "PENDING", "flyte.due": {"$lte": now}}
        due = (
            await database.action.find(which, {"_id": 1})
            .sort("flyte.due", 1)
            .to_list(batch.read_limit)
        )
        for action in batch.select(due, _action_key):
            try:
                each = await self._actions.find(database, action["_id"])
                if each.state == "PENDING" and extra(each.action)["due"] <= now:
                    ruled.append(LostAction(each, batch.on_timeout(each.progress)))
            except NotFoundError:
                continue
            # Any error concerns this timer alone, or is raised again.
            except Exception as error:  # noqa: BLE001
                batch.fail(_action_key(action), error)
        return ruled

    async def _apply(
        self, database: Database, ruled: LostAction, now: int
    ) -> list[RoutingKey] | None:
        """Apply the ruling on a lost action.

        Return None when it or its execution has changed, and must be ruled on again.
        """
        found, ruling = ruled
        if isinstance(ruling, FailAction):
            if not await self._actions.end(
                database, found, ruling.event, ruling.outcome, is_lost=True
            ):
                return None
            return rules.available_actions(ruling.outcome)
        state_change = rules.after_loss(ruling, now)
        update = transition_update(found, state_change, now, is_lost=True)
        addresses: tuple[RoutingKey, ...] = ()
        if state_change.due_at is not None:
            update["$set"] |= {"flyte.due": state_change.due_at, "flyte.wait": state_change.wait}
            addresses = (found.progress.routing_key,)
        change = Change(found.progress.action_id, now, update, addresses=addresses)
        return [] if await self._actions.commit(database, found, change) else None

    async def _fire(self, database: Database, fired: DueRun) -> list[RoutingKey] | None:
        """Record the event of a due step, once for any number of servers; None if another has."""
        flow, row, _, firing = fired
        is_first = True
        if firing.event is not None:
            key = f"timetable\n{flow['name']}\n{row['stepIndex']}\n{row['rule']}\n{row['nextAt']}"
            event_id = await self._actions.record(
                database, firing.event, firing.outcome, key, is_again=False
            )
            is_first = event_id == firing.event.event_id
        is_set = await set_next(database, flow["_id"], flow["uuid"], row, firing.next_at)
        if firing.event is None:
            is_first = is_set
        if not is_first:
            return None
        return rules.available_actions(firing.outcome)


async def renew(database: Database, at: datetime, if_unattended_for: timedelta | None) -> bool:
    """See `Store.renew_leases`.

    The note is written last, so that no server rules on a lease before all were restarted.
    """
    document = note_document(Note(ATTENDED, "", b""))
    which = {"_id": document["_id"]}
    known = await database.flyte_note.find_one(which)
    now = await _now(database)
    value = None if known is None else bytes(known["value"])
    is_away = if_unattended_for is None or has_been_away(value, now, if_unattended_for)
    if is_away:
        leased: Document = {"flyte.state": "PENDING", "flyte.due": {"$lt": NEVER}}
        for timeout in await database.action.distinct("flyte.timeout", leased):
            if not isinstance(timeout, int):
                continue  # it is set aside once it is due
            due = to_microseconds(at) + timeout
            other = [{"flyte.due": {"$lte": due}}, {"flyte.due": {"$gt": due + CLOCK_SLACK}}]
            await database.action.update_many(
                {**leased, "flyte.timeout": timeout, "$or": other}, {"$set": {"flyte.due": due}}
            )
    await database.flyte_note.replace_one(
        which, {**document, "value": str(now).encode()}, upsert=True
    )
    return is_away


async def _now(database: Database) -> int:
    """Return the time by the clock of the database."""
    return to_microseconds((await ask_server(database))["localTime"])


async def _shift(database: Database, now: int, by: int) -> None:
    timed = {"flyte.state": {"$in": ["PENDING", DELAYED]}, "flyte.due": {"$lt": NEVER}}
    if by:
        await database.action.update_many(timed, {"$inc": {"flyte.due": by}})
    # Regardless of the clock when it was taken or began to wait, nothing may take longer than
    # intended from now on.
    async for action in database.action.find(
        {**timed, "flyte.due": {"$gt": now, "$lt": NEVER}}, {"flyte": 1}
    ):
        kept = action["flyte"]
        length = kept.get("wait" if kept["state"] == DELAYED else "timeout", 0)
        longest = now + (length if isinstance(length, int) else 0)
        if kept["due"] > longest + CLOCK_SLACK:
            await database.action.update_one(
                {"_id": action["_id"], "flyte.due": kept["due"]}, {"$set": {"flyte.due": longest}}
            )


def concerns_all(error: Exception) -> bool:
    """Return whether an error is about the database, and so about every timer in it."""
    return isinstance(error, (PyMongoError, BusyError)) and not isinstance(error, OWN_FAULTS)


def _flow_key(flow: Document, row: Document) -> TimerKey:
    index = row.get("stepIndex")
    return TimerKey(
        str(flow.get("name")), str(flow.get("uuid")), index if isinstance(index, int) else 0
    )


def _action_key(action: Document) -> TimerKey:
    return TimerKey(str(action["_id"]))


async def _due(database: Database, now: int, batch: TimerBatch) -> Sequence[DueRun]:
    found: list[tuple[TimerKey, Document, Document]] = []
    which = {"flyte.timetables": {"$elemMatch": {"nextAt": {"$lte": now}}}}
    async for flow in database.flow.find(
        which, {"name": 1, "uuid": 1, "flyte.timetables": 1}
    ).limit(batch.read_limit):
        found += [
            (_flow_key(flow, row), flow, row)
            for row in _timetables(flow)
            if isinstance(row.get("nextAt"), int) and row["nextAt"] <= now
        ]
    found.sort(key=lambda each: each[2]["nextAt"])
    fired = []
    for key, flow, row in batch.select(found, lambda each: each[0]):
        try:
            due_at = to_instant(row["nextAt"])
            step = DueSchedule(flow["name"], flow["uuid"], row["stepIndex"], row["rule"], due_at)
            fired.append(DueRun(flow, row, step, batch.on_due(step)))
        # Any error concerns this timer alone, or is raised again.
        except Exception as error:  # noqa: BLE001
            batch.fail(key, error)
    return fired


def _timetables(flow: Document) -> Sequence[Document]:
    """Return the rows about scheduled steps; other entries cannot be due."""
    rows = flow["flyte"]["timetables"]
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


async def _next_at(database: Database, batch: TimerBatch) -> datetime | None:
    aside = batch.excluded
    times = []
    for state in (DELAYED, "PENDING"):
        which = {"flyte.state": state, "flyte.due": {"$lt": NEVER}}
        first = (
            await database.action.find(which, {"flyte.due": 1})
            .sort("flyte.due", 1)
            .to_list(len(aside) + 1)
        )
        times += [action["flyte"]["due"] for action in first if _action_key(action) not in aside]
    fields = {"name": 1, "uuid": 1, "flyte.timetables": 1}
    async for flow in database.flow.find({"flyte.timetables.nextAt": {"$gt": -NEVER}}, fields):
        for row in _timetables(flow):
            if _flow_key(flow, row) not in aside:
                times.append(row.get("nextAt"))
    return first_of(times)
