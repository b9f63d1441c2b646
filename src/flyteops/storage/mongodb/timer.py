"""What time brings: leases that are kept alive, given back or lost, and steps whose time has come."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import Address
from flyteops.ruling import Ask, DueStep, Fail, Firing, Repeat
from flyteops.storage.base import Advanced, Check, Rules
from flyteops.storage.mongodb.document import NEVER, Document, address_of, extra
from flyteops.storage.mongodb.execution import Change
from flyteops.storage.mongodb.flow import set_next
from flyteops.storage.mongodb.ledger import Found, Ledger, moving
from flyteops.storage.row import LATER, MICROSECOND, UNFINISHED, to_instant, to_microseconds


class Ruled(NamedTuple):
    """A lost action, and what is ruled on it."""

    found: Found
    ruling: Repeat | Ask | Fail


class Fired(NamedTuple):
    """A due step, where its time is kept, and what is ruled on it."""

    flow: Document
    row: Document
    firing: Firing


class Timer:
    """Carries out what has to do with time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def extend(self, database: Any, action_id: str, at: datetime, check: Check) -> tuple[datetime | None] | None:
        """See `Store.extend`; None when it must be tried again."""
        found = await self._ledger.find(database, action_id)
        check(found.progress)
        if found.state != "PENDING":
            state = found.progress.state
            raise ConflictError(f"Action {action_id!r} is {state}; only of a PENDING action a lease can be extended.")
        if found.progress.timeout is None:
            return (None,)
        due_at = to_microseconds(at) + found.progress.timeout // MICROSECOND
        done = await self._ledger.commit(database, found, Change(action_id, 0, {"$set": {"flyte.due": due_at}}))
        return (to_instant(due_at),) if done else None

    async def release(self, database: Any, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address | None:
        """See `Store.release`; None when it must be tried again."""
        found = await self._ledger.find(database, action_id)
        check(found.progress)
        if found.state not in UNFINISHED:
            state = found.progress.state
            raise ConflictError(f"Action {action_id!r} is {state}; only a PENDING or UNKNOWN one can be handed out again.")
        now = to_microseconds(at)
        update = moving(found, "NEW", now, is_lost=counts)
        timeout = extra(found.action).get("timeout")
        update["$set"] |= {"flyte.due": NEVER if timeout is None else timeout}
        if not counts:
            update["$pop"] = {"flyte.attempts": 1}
            update["$inc"] = {"flyte.attempt": -1}
        address = found.progress.address
        return (
            address if await self._ledger.commit(database, found, Change(action_id, now, update, addresses=(address,))) else None
        )

    async def advance(self, database: Any, at: datetime, rules: Rules, limit: int, shift: timedelta | None) -> Advanced:
        """See `Store.advance`. First everything is ruled on, so that a rule that raises leaves all as it was."""
        now = to_microseconds(at)
        if shift is not None:
            await _shift(database, now, shift // MICROSECOND)
        lost = [Ruled(found, rules.lost(found.progress)) for found in await self._lost(database, now, limit)]
        fired = [Fired(flow, row, rules.due(step)) for flow, row, step in await _due(database, now, limit)]
        arrived = await self._make_available(database, now, limit)
        done = len(arrived)
        for ruled in lost:
            outcome = await self._apply(database, ruled, now)
            if outcome is not None:
                arrived += outcome
                done += 1
        for each in fired:
            outcome = await self._fire(database, each)
            if outcome is not None:
                arrived += outcome
                done += 1
        return Advanced(done, await _next_at(database), tuple(arrived))

    async def _make_available(self, database: Any, now: int, limit: int) -> list[Address]:
        """Make NEW what may be taken from now on; return whom it is for."""
        arrived = []
        fields = {"trigger": 0, "input": 0, "context": 0, "result": 0}
        due = (
            await database.action.find({"flyte.state": LATER, "flyte.due": {"$lte": now}}, fields)
            .sort("flyte.due", 1)
            .to_list(limit)
        )
        await self._ledger.queues.ensure(database, [address_of(action) for action in due])
        for action in due:
            kept = extra(action)
            changed = await database.action.update_one(
                {"_id": action["_id"], "flyte.state": LATER, "flyte.due": kept["due"]},
                {"$set": {"flyte.state": "NEW", "flyte.due": kept.get("timeout", NEVER)}},
            )
            if changed.modified_count:
                arrived.append(address_of(action))
        return arrived

    async def _lost(self, database: Any, now: int, limit: int) -> list[Found]:
        found = []
        which = {"flyte.state": "PENDING", "flyte.due": {"$lte": now}}
        for action in await database.action.find(which, {"_id": 1}).sort("flyte.due", 1).to_list(limit):
            try:
                each = await self._ledger.find(database, action["_id"])
            except NotFoundError:
                continue
            if each.state == "PENDING" and extra(each.action)["due"] <= now:
                found.append(each)
        return found

    async def _apply(self, database: Any, ruled: Ruled, now: int) -> list[Address] | None:
        """Do what was ruled on a lost action; None when it or its execution has changed, and must be ruled on again."""
        found, ruling = ruled
        if isinstance(ruling, Fail):
            if not await self._ledger.end(database, found, ruling.event, ruling.outcome, is_lost=True):
                return None
            return [action.address for action in ruling.outcome.actions if action.not_before is None]
        if isinstance(ruling, Repeat):
            due = to_microseconds(ruling.at)
            update = moving(found, LATER, now, is_lost=True)
            update["$set"] |= {"flyte.due": due, "flyte.wait": max(due - now, 0)}
            addresses: tuple[Address, ...] = (found.progress.address,)
        else:
            update = moving(found, "UNKNOWN", now, is_lost=True)
            addresses = ()
        change = Change(found.progress.action_id, now, update, addresses=addresses)
        return [] if await self._ledger.commit(database, found, change) else None

    async def _fire(self, database: Any, fired: Fired) -> list[Address] | None:
        """Record the event of a due step, once however many servers do so; None when another has done it."""
        flow, row, firing = fired
        is_first = True
        if firing.event is not None:
            key = f"timetable\n{flow['name']}\n{row['stepIndex']}\n{row['rule']}\n{row['nextAt']}"
            event_id = await self._ledger.record(database, firing.event, firing.outcome, key, is_again=False)
            is_first = event_id == firing.event.event_id
        is_set = await set_next(database, flow["_id"], flow["uuid"], row, firing.next_at)
        if firing.event is None:
            is_first = is_set
        if not is_first:
            return None
        return [action.address for action in firing.outcome.actions if action.not_before is None]


async def _shift(database: Any, now: int, by: int) -> None:
    timed = {"flyte.state": {"$in": ["PENDING", LATER]}, "flyte.due": {"$lt": NEVER}}
    if by:
        await database.action.update_many(timed, {"$inc": {"flyte.due": by}})
    # Of whatever the clock said when it was taken or began to wait: nothing may take longer than was meant, from now on.
    async for action in database.action.find({**timed, "flyte.due": {"$gt": now, "$lt": NEVER}}, {"flyte": 1}):
        kept = action["flyte"]
        longest = now + (kept.get("wait", 0) if kept["state"] == LATER else kept.get("timeout", 0))
        if kept["due"] > longest:
            await database.action.update_one({"_id": action["_id"], "flyte.due": kept["due"]}, {"$set": {"flyte.due": longest}})


async def _due(database: Any, now: int, limit: int) -> Sequence[tuple[Document, Document, DueStep]]:
    found = []
    which = {"flyte.timetables": {"$elemMatch": {"nextAt": {"$lte": now}}}}
    async for flow in database.flow.find(which, {"name": 1, "uuid": 1, "flyte.timetables": 1}).limit(limit):
        for row in flow["flyte"]["timetables"]:
            if row["nextAt"] is not None and row["nextAt"] <= now:
                step = DueStep(flow["name"], flow["uuid"], row["stepIndex"], row["rule"], to_instant(row["nextAt"]))
                found.append((flow, row, step))
    found.sort(key=lambda each: each[2].due_at)
    return found[:limit]


async def _next_at(database: Any) -> datetime | None:
    times = []
    for state in (LATER, "PENDING"):
        which = {"flyte.state": state, "flyte.due": {"$lt": NEVER}}
        first = await database.action.find_one(which, {"flyte.due": 1}, sort=[("flyte.due", 1)])
        if first is not None:
            times.append(first["flyte"]["due"])
    async for flow in database.flow.find({"flyte.timetables.nextAt": {"$gt": -NEVER}}, {"flyte.timetables": 1}):
        times += [row["nextAt"] for row in flow["flyte"]["timetables"] if row["nextAt"] is not None]
    return to_instant(min(times)) if times else None
