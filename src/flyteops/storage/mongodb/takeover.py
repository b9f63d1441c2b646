"""Taking over what the original has written: its actions get what ours have besides, and their executions a document.

Nothing of what the original knows is changed. What it has written since we were here last is found in the same way, as its
documents have no number.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo import UpdateOne

from flyteops.model import Flow
from flyteops.storage.mongodb.bulk import write_all
from flyteops.storage.mongodb.document import (
    NEVER,
    Document,
    address_of,
    extra,
    member_of,
    state_of,
    states_of,
)
from flyteops.storage.mongodb.execution import document_size
from flyteops.storage.mongodb.flow import find_version
from flyteops.storage.mongodb.queue import Queues, queue_of
from flyteops.storage.row import STATES

LOGGER = logging.getLogger("flyte.store")

AT_ONCE = 200
"""How many executions are taken over, or looked at again, together."""

FOREIGN = {"flyte.seq": None}
"""The filter of what we have not seen yet."""

OPEN = ("NEW", "PENDING")


async def take_over(database: Any, queues: Queues) -> int:
    """Take over all that the original has written since; return how many executions that was."""
    done = 0
    for collection in (database.action, database.audit):
        while foreign := await collection.find(FOREIGN, {"correlationId": 1}).limit(AT_ONCE).to_list():
            runs = list(dict.fromkeys(each.get("correlationId") or "" for each in foreign))
            await adopt(database, queues, runs)
            done += len(runs)
            if done % 10_000 < AT_ONCE:
                LOGGER.info("%d executions of the database were taken over so far", done)
    return done


async def adopt(database: Any, queues: Queues, runs: Sequence[str]) -> None:
    """Take over executions with all of their actions."""
    # Whatever says of no execution that it belongs to it is one without a name.
    which = {"correlationId": {"$in": [*runs, None] if "" in runs else list(runs)}}
    live = await database.action.find(which).to_list()
    copies = await database.audit.find(which).to_list()
    known = {each["_id"] for each in live}
    members: dict[str, list[Document]] = {}
    for document in [*live, *(each for each in copies if each["_id"] not in known)]:
        members.setdefault(document.get("correlationId") or "", []).append(document)
    flows = await _flows(database, members.values())
    for documents in members.values():
        documents.sort(key=_began_at)
        _complete(documents, flows[documents[0].get("flowUUID") or ""])
    everything = {each["_id"]: each for documents in members.values() for each in documents}
    await queues.ensure(database, [address_of(each) for each in everything.values() if state_of(each) in OPEN])
    await _enter(database, members, {each["_id"] for each in live})
    for collection, found in ((database.action, live), (database.audit, copies)):
        changes = [
            UpdateOne({"_id": each["_id"], **FOREIGN}, {"$set": {"flyte": everything[each["_id"]]["flyte"]}}) for each in found
        ]
        await write_all(collection, changes)


async def _flows(database: Any, runs: Iterable[Sequence[Document]]) -> Mapping[str, Flow | None]:
    """Return the versions of flows that executions began with, by uuid."""
    flows: dict[str, Flow | None] = {}
    for uuid in {each.get("flowUUID") or "" for documents in runs for each in documents}:
        found = await find_version(database, uuid)
        flows[uuid] = None if found is None else found.flow
    return flows


def _began_at(document: Document) -> int:
    return int(states_of(document)[0].rpartition(" ")[2])


def _complete(documents: Sequence[Document], flow: Flow | None) -> None:
    """Give the actions of an execution, oldest first, what ours have besides."""
    taken = {extra(each)["stepIndex"] for each in documents if "stepIndex" in extra(each)}
    for place, document in enumerate(documents):
        if "seq" in extra(document):
            continue
        states = states_of(document)
        index = _step_index(document, flow, taken)
        taken.add(index)
        attempts = sum(text.startswith("PENDING ") for text in states)
        document["flyte"] = {
            "seq": _began_at(document) + place,
            "stepIndex": index,
            "state": state_of(document),
            "since": int(states[-1].rpartition(" ")[2]),
            "states": states,
            "queue": queue_of(address_of(document)),
            "due": NEVER,
            "attempt": attempts,
            "attempts": [{"seed": b"", "pack": "", "at": 0}] * attempts,
            "change": 0,
            "bytes": document_size(document),
        }


def _step_index(document: Mapping[str, Any], flow: Flow | None, taken: set[int]) -> int:
    """Return which step of the flow an action is of; a number below zero when nobody knows."""
    steps = () if flow is None else flow.steps
    wanted = (document.get("stepId") or "", document.get("packName"), document.get("name"))
    for index, step in enumerate(steps):
        if index not in taken and (step.id, step.command.pack_name, step.command.name) == wanted:
            return index
    for index, step in enumerate(steps):
        if index not in taken and step.id == wanted[0]:
            return index
    return min([0, *taken]) - 1


async def _enter(database: Any, members: Mapping[str, Sequence[Document]], live: set[str]) -> None:
    """Have a document for each execution, which knows all of its actions."""
    known: dict[str, set[str]] = {}
    async for run in database.flyte_execution.find({"_id": {"$in": list(members)}}, {"actions.id": 1}):
        known[run["_id"]] = {member["id"] for member in run["actions"]}
    changes = []
    for run, documents in members.items():
        missing = [each for each in documents if each["_id"] not in known.get(run, ())]
        is_live = any(each["_id"] in live for each in documents)
        changes.append(_entering(run, documents, missing, is_live=is_live))
    await write_all(database.flyte_execution, changes)


def _entering(run: str, documents: Sequence[Document], missing: Sequence[Document], *, is_live: bool) -> UpdateOne:
    first = documents[0]
    head = {
        "flowName": first.get("flowName") or "",
        "flowUUID": first.get("flowUUID") or "",
        "seq": extra(first)["seq"],
    }
    return UpdateOne(
        {"_id": run, "actions.id": {"$nin": [each["_id"] for each in missing]}},
        {
            "$setOnInsert": head,
            "$set": {"isFinished": is_over(documents), "isArchived": not is_live},
            "$push": {"actions": {"$each": [member_of(each) for each in missing]}},
            "$max": {"changedAt": _changed_at(documents)},
            "$inc": {"version": 1, "bytes": sum(extra(each).get("bytes", 0) for each in missing)},
        },
        upsert=True,
    )


def _changed_at(documents: Iterable[Document]) -> int:
    return max(int(text.rpartition(" ")[2]) for each in documents for text in states_of(each))


def is_over(documents: Iterable[Document]) -> bool:
    """Tell whether all of the actions have ended."""
    return all(state_of(each) in STATES and STATES[state_of(each)].is_finished for each in documents)


async def look_again(database: Any, queues: Queues) -> None:
    """Let our fields follow what the original did to actions that we knew, in executions that were not finished then."""
    runs = [run["_id"] async for run in database.flyte_execution.find({"isFinished": False}, {"_id": 1})]
    for start in range(0, len(runs), AT_ONCE):
        part = runs[start : start + AT_ONCE]
        fields = {"trigger": 0, "input": 0, "context": 0, "result": 0}
        found: dict[str, list[Document]] = {}
        async for document in database.action.find({"correlationId": {"$in": part}}, fields):
            found.setdefault(document["correlationId"], []).append(document)
        strayed = [each for documents in found.values() for each in documents if _has_strayed(each)]
        await queues.ensure(database, [address_of(each) for each in strayed if state_of(each) in OPEN])
        await write_all(database.action, [UpdateOne({"_id": each["_id"]}, _following(each)) for each in strayed])
        of_strayed = {each["correlationId"] for each in strayed}
        await write_all(
            database.flyte_execution,
            [_followed(run, documents) for run, documents in found.items() if run in of_strayed],
        )


def _has_strayed(document: Document) -> bool:
    return "state" in extra(document) and extra(document)["state"] != state_of(document)


def _following(document: Document) -> Document:
    states, kept = states_of(document), extra(document)
    lacking = len(states) - len(kept.get("states", ()))
    handed_out = [{"seed": b"", "pack": "", "at": 0}] * sum(text.startswith("PENDING ") for text in states[-lacking:] if lacking)
    return {
        "$set": {
            "flyte.state": state_of(document),
            "flyte.since": int(states[-1].rpartition(" ")[2]),
            "flyte.states": states,
            "flyte.due": NEVER,
            "flyte.attempt": kept.get("attempt", 0) + len(handed_out),
            "flyte.attempts": [*kept.get("attempts", ()), *handed_out],
        },
        "$unset": {"flyte.timeout": 1},
    }


def _followed(run: str, documents: Sequence[Document]) -> UpdateOne:
    change = {"$set": {"isFinished": is_over(documents)}, "$max": {"changedAt": _changed_at(documents)}, "$inc": {"version": 1}}
    return UpdateOne({"_id": run}, change)
