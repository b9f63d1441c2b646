"""Takeover of the original's executions: each gets a document that lists its actions.

Nothing that the original knows is changed. Actions that have ended stay exactly as they are, and
Flyte's additional data is derived when they are read; the others get it as a field, so that they
can be handed out and finished. Later writes by the original are recognized by the absence of that
field and from the execution's document.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pymongo import UpdateOne

from flyteops.model import Flow
from flyteops.storage.mongodb.bulk import insert_new, write_all
from flyteops.storage.mongodb.document import (
    NEVER,
    address_of,
    extra,
    member_of,
    state_of,
    states_of,
)
from flyteops.storage.mongodb.driver import Cursor, Database, Document
from flyteops.storage.mongodb.execution import document_size
from flyteops.storage.mongodb.flow import find_version
from flyteops.storage.mongodb.queue import Queues, queue_of, route_of
from flyteops.storage.row import STATES

LOGGER = logging.getLogger("flyte.store")

AT_ONCE = 200
"""The number of executions re-examined together."""

TRIES = 10
"""The number of tries to enter an execution that others change meanwhile."""

FOREIGN = {"flyte.seq": None}
"""The filter of actions without a `flyte` field."""

CREATED = [("states.time", 1), ("_id", 1)]
"""The order in which the original has created actions."""

OPEN = ("NEW", "PENDING")

HEAD = dict.fromkeys(
    (
        "correlationId",
        "flowName",
        "flowUUID",
        "stepId",
        "name",
        "packName",
        "packLabels",
        "state",
        "states",
        "flyte",
    ),
    1,
)
"""The fields of an action that are enough to enter an execution that has ended."""

Flows = dict[str, Flow | None]
"""Versions of flows by uuid; None for one that is missing or unreadable."""


class ExecutionActions(NamedTuple):
    """The actions of an execution: those in `action`, and those in `audit`."""

    run: str
    live: Sequence[Document]
    copies: Sequence[Document]

    def documents(self) -> list[Document]:
        """Return each action once, oldest first."""
        known = {each["_id"] for each in self.live}
        found = [*self.live, *(each for each in self.copies if each["_id"] not in known)]
        return (
            found
            if len(found) == 1
            else sorted(found, key=lambda each: (began_at(each), str(each["_id"])))
        )


async def adopt(
    database: Database, queues: Queues, runs: Sequence[str], *, marks: bool = False
) -> int:
    """Take over executions with all of their actions; return the number of new ones.

    With `marks`, all of their actions get the `flyte` field, also those that have ended.
    """
    # Actions that name no execution belong to one without a name.
    which = {"correlationId": {"$in": [*runs, None] if "" in runs else list(runs)}}
    entered = 0
    for _ in range(TRIES):
        live = await database.action.find(which).to_list()
        copies = await database.audit.find(which).to_list()
        done, again = await enter(database, queues, grouped(live, copies), {}, marks=marks)
        entered += done
        if not again:
            break
    return entered


def grouped(live: Iterable[Document], copies: Iterable[Document]) -> list[ExecutionActions]:
    """Return actions by execution."""
    groups: dict[str, ExecutionActions] = {}
    for place, documents in ((1, live), (2, copies)):
        for document in documents:
            run = run_of(document)
            groups.setdefault(run, ExecutionActions(run, [], []))[place].append(document)  # type: ignore[union-attr]
    return list(groups.values())


def run_of(document: Mapping[str, Any]) -> str:
    """Return the execution of an action."""
    return str(document.get("correlationId") or "")


async def enter(  # noqa: PLR0913 - two by keyword
    database: Database,
    queues: Queues,
    groups: Sequence[ExecutionActions],
    flows: Flows,
    *,
    marks: bool = False,
    is_partial: bool = False,
) -> tuple[int, list[str]]:
    """Enter executions of which all actions are given.

    Return the number of new ones, and those to be examined again. Of those that have ended, the
    heads of the actions are enough. With `is_partial`, known ones may have more actions than are
    given, and are to be examined again when they lack some of these.

    May be done by several servers at a time, and repeatedly: equal actions make equal documents.
    """
    known = {run["_id"]: run async for run in _known(database, [group.run for group in groups])}
    await _load_flows(database, groups, flows)
    entries = [
        entry
        for group in groups
        if (entry := _entry(group, known.get(group.run), flows)) is not None
    ]
    new = [entry for entry in entries if entry.known is None]
    lost: set[str] = set()
    for entry in entries:
        if (
            entry.known is not None
            and entry.missing
            and (is_partial or not await _extend(database, entry, entry.known["version"]))
        ):
            lost.add(entry.run)
    # Another server was faster.
    lost |= await insert_new(database.flyte_execution, [entry.execution for entry in new])
    kept = [entry for entry in entries if entry.run not in lost]
    await _mark(
        database, queues, [entry for entry in kept if marks or not entry.execution["isFinished"]]
    )
    return sum(entry.known is None for entry in kept), sorted(lost)


def _known(database: Database, runs: Sequence[str]) -> Cursor:
    fields = {"actions.id": 1, "actions.index": 1, "actions.seq": 1, "version": 1}
    return database.flyte_execution.find({"_id": {"$in": list(runs)}}, fields)


class _Entry(NamedTuple):
    """An execution to be entered.

    `foreign` are the actions without a `flyte` field in `action` and in `audit`.
    """

    group: ExecutionActions
    documents: Sequence[Document]
    known: Mapping[str, Any] | None
    missing: Sequence[Document]
    foreign: tuple[Sequence[str], Sequence[str]]
    execution: Document

    @property
    def run(self) -> str:
        return self.group.run


def _execution(group: ExecutionActions, documents: Sequence[Document]) -> Document:
    """Return the document of a new execution."""
    first, is_finished = documents[0], is_over(documents)
    return {
        "_id": group.run,
        "flowName": first.get("flowName") or "",
        "flowUUID": first.get("flowUUID") or "",
        "seq": extra(first)["seq"],
        "isFinished": is_finished,
        "isArchived": not group.live,
        "actions": [member_of(each) for each in documents],
        "changedAt": _changed_at(documents),
        "version": 1,
        # The heads do not include the size of an action; for executions that have ended it is
        # determined when needed.
        **(
            {"bytes": 0, "isUnsized": True}
            if is_finished
            else {"bytes": sum(map(_size, documents))}
        ),
    }


def _entry(group: ExecutionActions, known: Mapping[str, Any] | None, flows: Flows) -> _Entry | None:
    """Return an execution with Flyte's additional data; None, with a log line, if unreadable."""
    try:
        documents = group.documents()
        foreign = (_foreign(group.live), _foreign(group.copies))
        flow = flows.get(documents[0].get("flowUUID") or "")
        members = () if known is None else known.get("actions", ())
        complete(documents, members, flow)
        ids = {member["id"] for member in members}
        missing = [each for each in documents if each["_id"] not in ids]
        entry = _Entry(group, documents, known, missing, foreign, _execution(group, documents))
    # The documents may hold anything; an error concerns this execution alone.
    except Exception as error:  # noqa: BLE001
        LOGGER.warning(
            "Execution %r of an earlier server cannot be read and is left as it is: %s: %s",
            group.run,
            type(error).__name__,
            error,
        )
        return None
    return entry


def _foreign(documents: Iterable[Document]) -> list[str]:
    return [each["_id"] for each in documents if "seq" not in extra(each)]


async def _load_flows(database: Database, groups: Sequence[ExecutionActions], flows: Flows) -> None:
    """Add the versions of flows that executions began with."""
    for uuid in {
        each.get("flowUUID") or "" for group in groups for each in (*group.live, *group.copies)
    }:
        if uuid not in flows:
            found = await find_version(database, uuid)
            flows[uuid] = None if found is None else found.flow


def began_at(document: Mapping[str, Any]) -> int:
    """Return when an action was created, in microseconds."""
    return _time_of(states_of(document)[0])


def _time_of(state: str) -> int:
    return int(state.rpartition(" ")[2])


def complete(
    documents: Sequence[Document], members: Sequence[Mapping[str, Any]], flow: Flow | None
) -> None:
    """Add Flyte's data to the actions of an execution, oldest first, as far as they lack it.

    `members` are those listed in the execution's document.
    """
    known = {member["id"]: member for member in members}
    taken = {member["index"] for member in members}
    taken |= {extra(each)["stepIndex"] for each in documents if "stepIndex" in extra(each)}
    for place, document in enumerate(documents):
        if "seq" in extra(document):
            continue
        member = known.get(document["_id"])
        index = _step_index(document, flow, taken) if member is None else member["index"]
        taken.add(index)
        states = states_of(document)
        seq = _time_of(states[0]) + place if member is None else member["seq"]
        document["flyte"] = _fields(document, index, seq, states)


def _fields(document: Document, index: int, seq: int, states: Sequence[str]) -> Document:
    """Return the `flyte` field. Its first fields are in this order for `_mark`."""
    attempts = sum(text.startswith("PENDING ") for text in states)
    return {
        "seq": seq,
        "stepIndex": index,
        "change": 0,
        "attempt": attempts,
        "state": state_of(document),
        "since": _time_of(states[-1]),
        "states": states,
        "queue": queue_of(address_of(document)),
        "due": NEVER,
        "attempts": [{"seed": b"", "pack": "", "at": 0}] * attempts,
        "route": route_of(address_of(document)),
    }


def _size(document: Document) -> int:
    """Return the size of an action without the `flyte` field."""
    kept = extra(document).get("bytes")
    return document_size({**document, "flyte": None}) if kept is None else int(kept)


def _step_index(document: Mapping[str, Any], flow: Flow | None, taken: set[int]) -> int:
    """Return the index of an action's step in the flow; a number below zero when it is unknown."""
    steps = () if flow is None else flow.steps
    wanted = (document.get("stepId") or "", document.get("packName"), document.get("name"))
    for index, step in enumerate(steps):
        if index not in taken and (step.id, step.command.pack_name, step.command.name) == wanted:
            return index
    for index, step in enumerate(steps):
        if index not in taken and step.id == wanted[0]:
            return index
    return min([0, *taken]) - 1


async def supply(database: Database, documents: Sequence[Document]) -> list[Document]:
    """Derive the `flyte` field for actions read without it; leave out those that cannot be read.

    Nothing is stored.
    """
    foreign = {run_of(each) for each in documents if "seq" not in extra(each)}
    if not foreign:
        return list(documents)
    runs = {run["_id"]: run.get("actions", ()) async for run in _known(database, list(foreign))}
    return [each for each in documents if _is_supplied(each, runs.get(run_of(each), ()))]


def _is_supplied(document: Document, members: Sequence[Mapping[str, Any]]) -> bool:
    try:
        complete([document], members, None)
    except Exception as error:  # noqa: BLE001 - the document may hold anything
        LOGGER.warning(
            "Action %r of an earlier server cannot be read: %s: %s",
            document["_id"],
            type(error).__name__,
            error,
        )
        return False
    return True


async def _extend(database: Database, entry: _Entry, version: int) -> bool:
    """Add the rest of its actions to a known execution.

    Return False if it has changed meanwhile.
    """
    done = await database.flyte_execution.update_one(
        {"_id": entry.run, "version": version},
        {
            "$set": {field: entry.execution[field] for field in ("isFinished", "isArchived")},
            "$push": {"actions": {"$each": [member_of(each) for each in entry.missing]}},
            "$max": {"changedAt": entry.execution["changedAt"]},
            "$inc": {"version": 1, "bytes": sum(map(_size, entry.missing))},
        },
    )
    return bool(done.modified_count)


async def _mark(database: Database, queues: Queues, entries: Sequence[_Entry]) -> None:
    """Store the `flyte` field in actions that do not have it.

    The larger of two documents is the one with the larger value of the first field that differs,
    and a missing value is smaller than all. So `$max` leaves actions alone that were handed out (a
    larger `attempt`) or changed (a larger `change`) since another server has done the same; and the
    filter needs nothing but the `_id`.
    """
    documents = {each["_id"]: each for entry in entries for each in entry.documents}
    await queues.ensure(
        database, [address_of(each) for each in documents.values() if state_of(each) in OPEN]
    )
    for collection, place in ((database.action, 0), (database.audit, 1)):
        found = [key for entry in entries for key in entry.foreign[place]]
        fields = {key: {**documents[key]["flyte"], "bytes": _size(documents[key])} for key in found}
        await write_all(
            collection,
            [UpdateOne({"_id": key}, {"$max": {"flyte": each}}) for key, each in fields.items()],
        )


def _changed_at(documents: Iterable[Document]) -> int:
    return max(_time_of(text) for each in documents for text in states_of(each))


def is_over(documents: Iterable[Document]) -> bool:
    """Return whether all of the actions have ended."""
    return all(
        state_of(each) in STATES and STATES[state_of(each)].is_finished for each in documents
    )


async def look_again(database: Database, queues: Queues) -> None:
    """Update the `flyte` fields of known actions that the original has changed.

    Covers executions that were not finished at that time.
    """
    runs = [
        run["_id"] async for run in database.flyte_execution.find({"isFinished": False}, {"_id": 1})
    ]
    for start in range(0, len(runs), AT_ONCE):
        part = runs[start : start + AT_ONCE]
        fields = {"trigger": 0, "input": 0, "context": 0, "result": 0}
        found: dict[str, list[Document]] = {}
        async for document in database.action.find({"correlationId": {"$in": part}}, fields):
            found.setdefault(document["correlationId"], []).append(document)
        replaced = [
            run
            for run, documents in found.items()
            if any("seq" not in extra(each) for each in documents)
        ]
        if replaced:  # as a whole, by a server that keeps no fields that it does not know
            await adopt(database, queues, replaced, marks=True)
        strayed = [each for documents in found.values() for each in documents if _has_strayed(each)]
        await queues.ensure(
            database, [address_of(each) for each in strayed if state_of(each) in OPEN]
        )
        await write_all(
            database.action, [UpdateOne({"_id": each["_id"]}, _following(each)) for each in strayed]
        )
        of_strayed = {each["correlationId"] for each in strayed} | set(replaced)
        await write_all(
            database.flyte_execution,
            [_followed(run, documents) for run, documents in found.items() if run in of_strayed],
        )


def _has_strayed(document: Document) -> bool:
    return "state" in extra(document) and extra(document)["state"] != state_of(document)


def _following(document: Document) -> Document:
    states, kept = states_of(document), extra(document)
    lacking = len(states) - len(kept.get("states", ()))
    handed_out = [{"seed": b"", "pack": "", "at": 0}] * sum(
        text.startswith("PENDING ") for text in states[-lacking:] if lacking
    )
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
    change = {
        "$set": {"isFinished": is_over(documents)},
        "$max": {"changedAt": _changed_at(documents)},
        "$inc": {"version": 1},
    }
    return UpdateOne({"_id": run}, change)
