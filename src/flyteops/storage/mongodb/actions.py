"""The changes to actions: events with their consequences, results, and everything in between.

An event is stored as one document with the actions that it creates. That is when it has happened;
creating the actions may be repeated by any server until the document records it as done.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import bson
from pymongo.errors import DuplicateKeyError

from flyteops.errors import ConflictError, UnreadableError
from flyteops.model import (
    ActionSnapshot,
    Basis,
    Decision,
    Evaluation,
    Event,
    Lease,
    NewAction,
    Sibling,
)
from flyteops.storage import rules
from flyteops.storage.finish import FinishRequest
from flyteops.storage.mongodb.bulk import insert_new
from flyteops.storage.mongodb.client import OPTIONS
from flyteops.storage.mongodb.document import (
    action_document,
    address_of,
    context_of,
    due_of,
    event_document,
    extra,
    labels_of,
    lease_of,
    member_of,
    result_of,
    revision_of,
    shown_state,
    state_of,
)
from flyteops.storage.mongodb.driver import Database, Document
from flyteops.storage.mongodb.execution import (
    Change,
    begin,
    begin_only,
    check_size,
    decoded,
    encoded,
    event_fields,
    size_of,
    triggered,
)
from flyteops.storage.mongodb.later import DeferredWrites
from flyteops.storage.mongodb.legacy import adopt
from flyteops.storage.mongodb.queue import Queues, queue_of, route_of
from flyteops.storage.mongodb.recent import RecentActions
from flyteops.storage.row import STATES, encode_decisions, listing_keys, to_instant, to_microseconds
from flyteops.storage.rules import StateChange
from flyteops.transition import LateResult

ABANDONED_AFTER = 2.0
"""The seconds after which a change begun by one server is completed by others."""


class ActionDocument(NamedTuple):
    """An action as it is in the database, its execution, and values derived from them."""

    action: Document
    run: Document
    states: Mapping[str, str]
    progress: ActionSnapshot

    @property
    def state(self) -> str:
        return self.states[self.progress.action_id]

    @property
    def attempt(self) -> int:
        return self.progress.attempt


def record_document(
    event: Event, decisions: Sequence[Decision], basis: Basis | None, seq: int
) -> Document:
    """Return the document of an event with the decisions about it."""
    encoded = encode_decisions(decisions, basis)
    document = {
        "_id": event.event_id,
        **event_document(event),
        "seq": seq,
        "at": to_microseconds(event.received_at),
        "flows": listing_keys(decisions, basis),
        "executions": [],
        "bytes": len(event.payload) + len(encoded or b""),
    }
    return document if encoded is None else {**document, "decisions": encoded}


class ActionCollection:
    """Keeps events and actions."""

    def __init__(self) -> None:
        self.later = DeferredWrites()
        self._recent = RecentActions()
        self.queues = Queues(self.later, self._recent)
        self._last = 0

    def numbers(self, count: int) -> range:
        """Return ordering numbers: microseconds of the clock, but always larger than any before."""
        first = max(time.time_ns() // 1000, self._last + 1)
        self._last = first + count - 1
        return range(first, first + count)

    async def continue_numbers(self, database: Database) -> None:
        """Make all numbers larger than those that are in the database."""
        for collection in (database.flyte_event, database.flyte_execution):
            last = await collection.find_one({}, {"seq": 1}, sort=[("seq", -1)])
            self._last = max(self._last, 0 if last is None else last["seq"])

    # --------------------------------------------------------------------------------------- events

    async def record(
        self,
        database: Database,
        event: Event,
        outcome: Evaluation,
        key: str | None,
        *,
        is_again: bool,
    ) -> str:
        """See `Store.record`. `is_again`: it may have been done before, by this very event."""
        looks = is_again or len(outcome.actions) > 1
        earlier = None if key is None or not looks else await self._earlier(database, key, event)
        if earlier is not None:
            return earlier
        if (
            is_again
            and (known := await database.flyte_event.find_one({"_id": event.event_id})) is not None
        ):
            await self.complete_event(database, known)
            return event.event_id
        if looks:
            await self._refuse_taken(database, outcome.actions, None)
        document, created = self.documents(event, outcome)
        if created:
            document |= {
                "open": True,
                "todo": bson.encode({"created": created}, codec_options=OPTIONS),
            }
        if key is not None:
            document["key"] = key
        size_of(document)
        earlier = await self._insert(database, document, event, key)
        if earlier is not None:
            return earlier
        if looks:
            await self.complete_event(database, document)
        elif created:
            await self._create_only(
                database, document, triggered(created, document)[0], outcome.actions
            )
        return event.event_id

    async def _insert(
        self, database: Database, document: Document, event: Event, key: str | None
    ) -> str | None:
        """Insert an event; return the id of an earlier one with its key, if there is one."""
        while True:
            try:
                await database.flyte_event.insert_one(document)
            except DuplicateKeyError as error:
                earlier = None if key is None else await self._earlier(database, key, event)
                if earlier is not None:
                    return earlier
                known = await database.flyte_event.find_one({"_id": event.event_id}, {"_id": 1})
                if known is not None or key is None:
                    raise rules.taken("event", event.event_id) from error
            else:
                return None

    async def _create_only(
        self, database: Database, event: Document, action: Document, actions: Sequence[NewAction]
    ) -> None:
        """Create the only action of a new event.

        Raise `ConflictError` when it cannot be created, and remove the event. The look before is
        saved by that: ids are random, so that they are taken only if somebody chose them.
        """
        await self.queues.ensure(database, [address_of(action)])
        run = await begin_only(database, action, event["at"])
        if run is None or await insert_new(database.action, [action]):
            await _undo(database, event, None if run is None else action)
            await self._refuse_taken(database, actions, None)
            raise rules.taken("action", action["_id"])
        if run["version"] == 1:
            self._recent.begun(run)
        self.later.copy([action])
        self.later.close_event(event["_id"])

    async def _earlier(self, database: Database, key: str, event: Event) -> str | None:
        """Return the event that has the key; remove the key from one that is too old."""
        while (holder := await database.flyte_event.find_one({"key": key}, {"at": 1})) is not None:
            if holder["at"] >= rules.oldest_valid_key(to_microseconds(event.received_at)):
                return str(holder["_id"])
            await database.flyte_event.update_one(
                {"_id": holder["_id"], "key": key}, {"$unset": {"key": 1}}
            )
        return None

    def documents(
        self, event: Event, outcome: Evaluation, action: Document | None = None
    ) -> tuple[Document, list[Document]]:
        """Return an event as a document, and the actions that it creates, still without trigger.

        `action` is the one whose result it is.
        """
        at = to_microseconds(event.received_at)
        seq, *seqs = self.numbers(1 + len(outcome.actions))
        document = record_document(event, outcome.decisions, outcome.basis, seq)
        created = []
        for each, number in zip(outcome.actions, seqs, strict=True):
            made = action_document(each, event_fields(document), at, number)
            made["flyte"] |= {
                "queue": queue_of(each.routing_key),
                "route": route_of(each.routing_key),
                "bytes": size_of(made),
            }
            del made["trigger"]
            created.append(made)
        runs = {each.correlation_id for each in outcome.actions} | (
            {action["correlationId"]} if action else set()
        )
        document["executions"] = sorted(runs)
        if action:
            document["action"] = action["_id"]
        return document, created

    async def _refuse_taken(
        self, database: Database, actions: Sequence[NewAction], own: Document | None
    ) -> None:
        """Raise `ConflictError` when one of the actions cannot be created."""
        if not actions:
            return
        steps: dict[str, list[int]] = {}
        for action in actions:
            steps.setdefault(action.correlation_id, []).append(action.step_index)
        taken, runs = await asyncio.gather(
            database.action.find_one(
                {"_id": {"$in": [action.action_id for action in actions]}}, {"_id": 1}
            ),
            database.flyte_execution.find(
                {"_id": {"$in": list(steps)}}, {"actions.index": 1}
            ).to_list(),
        )
        if taken is not None:
            raise rules.taken("action", taken["_id"])
        known = {
            run["_id"]: {member["index"] for member in run["actions"]}
            for run in [*runs, *([own] if own else [])]
        }
        for run, indexes in steps.items():
            if known.get(run, set()).intersection(indexes) or len(set(indexes)) < len(indexes):
                raise ConflictError(
                    f"A step of execution {run!r} has its action already; nothing was changed."
                )

    async def complete_event(self, database: Database, event: Document) -> None:
        """Create the actions of an event, unless that was done."""
        if "todo" not in event:
            return
        created = bson.decode(event["todo"], codec_options=OPTIONS)["created"]
        await self._create(database, triggered(created, event), event["at"])
        self.later.close_event(event["_id"])

    async def _create(
        self, database: Database, actions: Sequence[Document], at: int, own: str | None = None
    ) -> None:
        """Create actions; those of the `own` execution are already entered there."""
        if not actions:
            return
        await self.queues.ensure(database, [address_of(action) for action in actions])
        others = await begin(
            database, [action for action in actions if action["correlationId"] != own], at
        )
        known = {action["_id"] for action in others}
        wanted = [
            action for action in actions if action["correlationId"] == own or action["_id"] in known
        ]
        await insert_new(database.action, wanted)
        self.later.copy(wanted)

    # -------------------------------------------------------------------------------------- results

    async def finish(self, database: Database, request: FinishRequest, *, is_again: bool) -> bool:
        """Apply a result as `Store.finish` does; see its decision.

        Return False when another server was faster, and it must be decided again.
        """
        remembered = None if is_again else self._remembered(request.action_id)
        decided = None if remembered is None else request.decide_early(remembered.progress)
        if remembered is not None and decided is not None:
            return await self.end(database, remembered, request.result, decided)
        found = await self.find(database, request.action_id)
        known = found.progress.result
        if is_again and known is not None and known.event_id == request.result.event_id:
            return True
        decision = request.decide(found.progress)
        if decision is None:
            return True
        if isinstance(decision, LateResult):
            return await self._keep_late(database, found, request.result, decision.number)
        rules.require_finishable(found.progress)
        return await self.end(database, found, request.result, decision)

    def _remembered(self, action_id: str) -> ActionDocument | None:
        """Return an action as it was handed out by this server, if that is remembered."""
        known = self._recent.pop(action_id)
        if known is None:
            return None
        action, run = known
        return _found(action, run, {action_id: state_of(action)})

    async def end(
        self,
        database: Database,
        found: ActionDocument,
        result: Event,
        outcome: Evaluation,
        *,
        is_lost: bool = False,
    ) -> bool:
        """End an action with a result.

        Return False, with nothing done, when its execution has changed.
        """
        await self._refuse_taken(database, outcome.actions, found.run)
        now = to_microseconds(result.received_at)
        state = rules.final_state(result)
        event, created = self.documents(result, outcome, found.action)
        update = transition_update(
            found, StateChange(state, f"{state} {now}"), now, is_lost=is_lost
        )
        update["$unset"] = {"flyte.claim": 1}
        others = [
            each
            for action_id, each in found.states.items()
            if action_id != found.progress.action_id
        ]
        own = found.progress.correlation_id
        return await self.commit(
            database,
            found,
            Change(
                action_id=found.progress.action_id,
                at=now,
                update=update,
                event=event,
                place="result",
                created=tuple(created),
                is_finished=all(STATES[each].is_finished for each in others)
                and all(action.correlation_id != own for action in outcome.actions),
            ),
        )

    async def _keep_late(
        self, database: Database, found: ActionDocument, result: Event, number: int
    ) -> bool:
        attempts = extra(found.action).get("attempts", ())
        if number > len(attempts) or "late" in attempts[number - 1]:
            return True
        event, _ = self.documents(result, Evaluation(), found.action)
        place = f"flyte.attempts.{number - 1}.late"
        return await self.commit(
            database, found, Change(found.progress.action_id, 0, {}, event=event, place=place)
        )

    # -------------------------------------------------------------------------------------- changes

    async def commit(self, database: Database, found: ActionDocument, change: Change) -> bool:
        """Commit a change and carry it out.

        Return False, with nothing done, when the execution has changed.
        """
        own = [each for each in change.created if each["correlationId"] == found.run["_id"]]
        added = 0
        if change.event is not None:
            size_of(change.event)
            added = len(bson.encode(event_fields(change.event), codec_options=OPTIONS))
            check_size(extra(found.action).get("bytes", 0) + added)
        body, version = encoded(change), found.run["version"]
        check_size(len(body))
        update: Document = {
            "$set": {
                "pending": body,
                "open": True,
                "change": version + 1,
                "isFinished": change.is_finished,
            },
            "$inc": {"version": 1, "bytes": added + sum(each["flyte"]["bytes"] for each in own)},
            "$max": {"changedAt": change.at},
        }
        if own:
            update["$push"] = {"actions": {"$each": [member_of(each) for each in own]}}
        done = await database.flyte_execution.update_one(
            {"_id": found.run["_id"], "version": version, "pending": None}, update
        )
        if not done.modified_count:
            return False
        await self.carry_out(database, found.run["_id"], version + 1, body)
        return True

    async def carry_out(self, database: Database, run: str, number: int, body: bytes) -> None:
        """Carry out a change, as far as that was not done."""
        change = decoded(body)
        update = {
            **change.update,
            "$set": {**change.update.get("$set", {}), "flyte.change": number},
        }
        if change.event is not None and change.place is not None:
            update["$set"][change.place] = event_fields(change.event)
        await self.queues.ensure(database, change.addresses)
        changed = await database.action.find_one_and_update(
            {"_id": change.action_id, "flyte.change": {"$lt": number}}, update, return_document=True
        )
        if changed is None:  # it was carried out in part
            changed = await database.action.find_one({"_id": change.action_id})
        if changed is not None and "$push" in change.update:
            self.later.copy([changed])
        if change.event is not None:
            await self._create(
                database, triggered(change.created, change.event), change.at, own=run
            )
        self.later.close_change(run, number, change.event)

    async def complete_pending(
        self, database: Database, *, patience: float = ABANDONED_AFTER, limit: int = 100
    ) -> None:
        """Complete the changes that a server has begun and left, longer ago than `patience`."""
        before = (time.time_ns() // 1000) - int(patience * 1_000_000)
        async for event in database.flyte_event.find({"open": True, "seq": {"$lte": before}}).limit(
            limit
        ):
            await self.complete_event(database, event)
        async for run in database.flyte_execution.find(
            {"open": True}, {"pending": 1, "change": 1}
        ).limit(limit):
            if "pending" in run and not self.later.has_change(run["_id"]):
                await self.carry_out(database, run["_id"], run["change"], run["pending"])
        await self.later.write(database)

    # ---------------------------------------------------------------------------------------- looks

    async def find(self, database: Database, action_id: str) -> ActionDocument:
        """Return the current state of an action.

        Raise `NotFoundError`, or `UnreadableError` if it exists and cannot be read.
        """
        is_adopted = False
        while True:
            head = await database.action.find_one(
                {"_id": action_id}, {"correlationId": 1, "flyte.seq": 1}
            )
            head = rules.found(head, "action", action_id)
            correlation_id = head.get("correlationId") or ""
            run = await database.flyte_execution.find_one({"_id": correlation_id})
            if run is None or "seq" not in extra(head):
                if is_adopted:
                    raise UnreadableError(f"The action {action_id!r} in the store cannot be read.")
                is_adopted = True
                await adopt(database, self.queues, [correlation_id], marks=True)
            elif "pending" in run:
                if not self.later.has_change(run["_id"]):
                    await self.carry_out(database, run["_id"], run["change"], run["pending"])
                await self.later.write(database)
            else:
                action, states = await asyncio.gather(
                    database.action.find_one({"_id": action_id}, {"trigger": 0, "input": 0}),
                    _states(database, run),
                )
                if action is not None:
                    return _found(action, run, {**states, action_id: state_of(action)})


async def _undo(database: Database, event: Document, begun: Document | None) -> None:
    """Remove a new event, and the entry of its action in an execution."""
    if begun is not None:
        run = begun["correlationId"]
        await database.flyte_execution.update_one(
            {"_id": run, "actions.id": begun["_id"]},
            {"$pull": {"actions": {"id": begun["_id"]}}, "$inc": {"version": 1}},
        )
        await database.flyte_execution.delete_one({"_id": run, "actions": []})
    await database.flyte_event.delete_one({"_id": event["_id"], "open": True})


async def _states(database: Database, run: Document) -> dict[str, str]:
    """Return the states of an execution's actions; that of the copy for those no longer kept."""
    fields = {"state": 1, "flyte.state": 1}
    found = {
        each["_id"]: state_of(each)
        async for each in database.action.find({"correlationId": run["_id"]}, fields)
    }
    missing = [member["id"] for member in run["actions"] if member["id"] not in found]
    if missing:
        async for each in database.audit.find({"_id": {"$in": missing}}, fields):
            found[each["_id"]] = state_of(each)
    # Actions that the store no longer keeps ended long ago.
    return {member["id"]: found.get(member["id"], "SUCCESS") for member in run["actions"]}


def _found(action: Document, run: Document, states: Mapping[str, str]) -> ActionDocument:
    kept = extra(action)
    action_id, timeout, due = str(action["_id"]), kept.get("timeout"), due_of(action)
    progress = ActionSnapshot(
        action_id=action_id,
        name=action.get("name") or "",
        pack_name=action.get("packName") or "",
        pack_labels=labels_of(action),
        correlation_id=run["_id"],
        flow_name=run["flowName"],
        flow_uuid=run["flowUUID"],
        step_id=action.get("stepId") or "",
        step_index=kept["stepIndex"],
        context=context_of(action),
        state=STATES[states[action_id]],
        siblings=tuple(
            [
                Sibling(member["stepId"], member["index"], STATES[states[member["id"]]])
                for member in run["actions"]
            ]
        ),
        result=result_of(action),
        attempt=kept.get("attempt", 0),
        leases=() if timeout is None else _leases(action_id, kept.get("attempts", ())),
        timeout=None if timeout is None else timedelta(microseconds=timeout),
        due_at=None if due is None else to_instant(due),
        revision=revision_of(action),
    )
    return ActionDocument(action, run, states, progress)


def _leases(action_id: str, attempts: Iterable[Mapping[str, Any]]) -> tuple[Lease, ...]:
    return tuple(
        [
            Lease(number, lease_of(each, action_id, number), "lost" in each)
            for number, each in enumerate(attempts, 1)
        ]
    )


def transition_update(
    found: ActionDocument, change: StateChange, now: int, *, is_lost: bool = False
) -> Document:
    """Return the update that moves an action to a state.

    If `is_lost`, its last attempt was lost.
    """
    shown = shown_state(change.state, now)
    update: Document = {
        "$set": {"state": shown, "flyte.state": change.state, "flyte.since": now},
        "$push": {"states": shown, "flyte.states": change.entry},
    }
    attempts = extra(found.action).get("attempts", ())
    if is_lost and attempts and "lost" not in attempts[-1]:
        update["$set"][f"flyte.attempts.{len(attempts) - 1}.lost"] = now
    return update
