"""Conversion of events and actions to documents and back.

Data that the original does not know is in a separate field `flyte`: exact times (BSON has
milliseconds), exact texts, and the data of time limits. A document without it is read with the
original's meaning.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Timestamp
from bson.datetime_ms import DatetimeMS
from msgspec import UNSET

from flyteops.model import (
    Action,
    Attempt,
    Event,
    NewAction,
    PackRef,
    RoutingKey,
    Transition,
    pack_id,
)
from flyteops.storage.base import lease_token
from flyteops.storage.mongodb.driver import Document, Value
from flyteops.storage.mongodb.value import json_of, of_json, of_strings, strings_of
from flyteops.storage.query import ActionStatus
from flyteops.storage.row import (
    DELAYED,
    EPOCH,
    MICROSECOND,
    STATES,
    created_at_of,
    failure_column,
    readable_transitions,
    to_instant,
    to_microseconds,
    to_text,
)

ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""The time that stands for none, as in Go."""

NOT_GIVEN = ""
"""The value kept for an event without time of creation; the original shows its time of receipt."""

WRITTEN = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))? ?(Z|[+-]\d\d:?\d\d)(?: [A-Z]{1,5})?(?:"
    r" m=\S+)?",
    re.ASCII,
)
"""A time as text: RFC 3339, or as Go prints it."""

NEVER = 2**61
"""The base of `due` for an action without a time limit: a claim adds its time to it in any case."""

SHOWN = {DELAYED: "NEW", "UNKNOWN": "PENDING"}
"""The states shown to the original in place of those that it does not know."""


def shown_state(state: str, at: int) -> Document:
    """Return a state in the original's format."""
    return {"value": SHOWN.get(state, state), "time": to_instant(at)}


def extra(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data that is kept in addition to the original's."""
    found = document.get("flyte")
    return found if isinstance(found, dict) else {}


def revision_of(action: Mapping[str, Any]) -> int:
    """Return the number of changes of an action's state."""
    return len(extra(action).get("states") or ()) - 1


def microseconds_of(value: Value, exact: int | None = None) -> int:
    """Return the microseconds of a time: the exact ones, if they are of the same millisecond.

    Old servers, imports and repairs by hand have left times as text, as milliseconds, and as
    timestamps of MongoDB.
    """
    at = _microseconds_of(value)
    return exact if exact is not None and exact // 1000 == at // 1000 else at


def _microseconds_of(value: Value) -> int:
    if isinstance(value, datetime):
        return to_microseconds(value)
    if isinstance(value, str):
        return _read_time(value)
    if isinstance(value, Timestamp):
        return int(value.time) * 1_000_000
    if isinstance(value, (DatetimeMS, int, float)) and not isinstance(value, bool):
        return int(value) * 1000
    return 0


def _read_time(text: str) -> int:
    """Return the microseconds of a time that was kept as text, 0 if it is not a time."""
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        return 0
    date, time, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{date}T{time}{zone}")
    except ValueError:
        return 0
    return to_microseconds(at) + int((fraction or "")[:6].ljust(6, "0"))


# ------------------------------------------------------------------------------------------- events


def event_document(event: Event) -> Document:
    """Return an event as embedded in an action, and with an `_id` as a document of its own."""
    payload, labels = of_json(event.payload), of_strings(event.pack.labels)
    kept = {
        "id": event.event_id,
        "receivedAt": to_microseconds(event.received_at),
        "createdAt": NOT_GIVEN if event.created_at is None else event.created_at.isoformat(),
        "payload": payload.exact,
        "labels": labels.exact,
        "failure": failure_column(event),
    }
    return {
        "name": event.name,
        "pack": {"_id": event.pack.id, "name": event.pack.name, "labels": labels.value},
        "payload": payload.value,
        "createdAt": event.received_at if event.created_at is None else event.created_at,
        "receivedAt": event.received_at,
        "flyte": {key: value for key, value in kept.items() if value is not None},
    }


def event_of(document: Mapping[str, Any], otherwise: str) -> Event:
    """Return the event of a document; one of the original has no id and gets `otherwise`."""
    kept = extra(document)
    pack = document.get("pack") or {}
    labels = strings_of(pack.get("labels"), kept.get("labels"))
    name = pack.get("name") or ""
    return Event(
        event_id=kept.get("id") or otherwise,
        name=document.get("name") or document.get("event") or "",
        pack=PackRef(pack.get("_id") or pack.get("id") or pack_id(name, labels), name, labels),
        payload=json_of(document.get("payload"), kept.get("payload")),
        received_at=to_instant(microseconds_of(document.get("receivedAt"), kept.get("receivedAt"))),
        created_at=_created_at(document.get("createdAt"), kept),
        failure=kept.get("failure", UNSET),
    )


def _created_at(value: Value, kept: Mapping[str, Any]) -> datetime | None:
    if "createdAt" in kept:
        return None if kept["createdAt"] == NOT_GIVEN else created_at_of(kept["createdAt"])
    if isinstance(value, str):
        at = to_instant(_read_time(value))
        return at if at not in (EPOCH, ZERO) else None
    return value if isinstance(value, datetime) and value != ZERO else None


# ------------------------------------------------------------------------------------------ actions


def action_document(action: NewAction, trigger: Document, at: int, seq: int) -> Document:
    """Return the document of a new action."""
    labels, context, input_ = (
        of_strings(action.pack_labels),
        of_strings(action.context),
        of_json(action.input),
    )
    state = "NEW" if action.not_before is None else DELAYED
    kept = {
        "seq": seq,
        "stepIndex": action.step_index,
        "state": state,
        "since": at,
        "states": [f"NEW {at}"],
        "queue": None,
        **timing(action.timeout, action.not_before, at),
        "attempt": 0,
        "attempts": [],
        "change": 0,
        "labels": labels.exact,
        "context": context.exact,
        "input": input_.exact,
    }
    return {
        "_id": action.action_id,
        "name": action.name,
        "packName": action.pack_name,
        "packLabels": labels.value,
        "input": input_.value,
        "state": shown_state(state, at),
        "states": [shown_state(state, at)],
        "correlationId": action.correlation_id,
        "flowName": action.flow_name,
        "flowUUID": action.flow_uuid,
        "stepId": action.step_id,
        "context": context.value,
        "trigger": trigger,
        "flyte": {key: value for key, value in kept.items() if value is not None},
    }


def timing(timeout: timedelta | None, not_before: datetime | None, now: int) -> Document:
    """Return the timers of a NEW action.

    `due` is when it may be taken, or else its time limit once taken.
    """
    limit = None if timeout is None else timeout // MICROSECOND
    if not_before is None:
        return {"due": NEVER if limit is None else limit, "timeout": limit}
    due = to_microseconds(not_before)
    return {"due": due, "timeout": limit, "wait": max(due - now, 0)}


def state_of(document: Mapping[str, Any]) -> str:
    """Return the effective state: Flyte's, unless the original has changed it since."""
    shown, state = str((document.get("state") or {}).get("value")), extra(document).get("state")
    return str(state) if state is not None and SHOWN.get(state, state) == shown else shown


def states_of(document: Mapping[str, Any]) -> list[str]:
    """Return all states with their times, as text; times that only BSON has are in milliseconds."""
    exact = list(extra(document).get("states") or ())
    known = document.get("states") or [document.get("state") or {"value": "NEW"}]
    if len(exact) == len(known):
        return exact
    rest = [
        f"{each.get('value')} {microseconds_of(each.get('time'))}" for each in known[len(exact) :]
    ]
    return exact + rest


def transitions_of(document: Mapping[str, Any]) -> tuple[Transition, ...]:
    """Return the states of an action."""
    pairs = (str(text).partition(" ") for text in states_of(document))
    return readable_transitions(
        ",".join(f"{STATES.get(state, STATES['NEW'])} {at}" for state, _, at in pairs)
    )


def due_of(document: Mapping[str, Any]) -> int | None:
    """Return when an action may be taken or is lost, None if never."""
    due = extra(document).get("due")
    return (
        due
        if due is not None and state_of(document) in (DELAYED, "PENDING") and due < NEVER
        else None
    )


def labels_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that a pack must have."""
    return strings_of(document.get("packLabels"), extra(document).get("labels"))


def address_of(document: Mapping[str, Any]) -> RoutingKey:
    """Return the address of an action."""
    return RoutingKey(
        document.get("packName") or "", labels_of(document), document.get("name") or ""
    )


def context_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the context passed on."""
    return strings_of(document.get("context"), extra(document).get("context"))


def input_of(document: Mapping[str, Any]) -> bytes:
    """Return the input as JSON text."""
    return json_of(document.get("input"), extra(document).get("input"))


def action_of(document: Mapping[str, Any]) -> Action:
    """Return the action of a document."""
    kept, due, result = extra(document), due_of(document), document.get("result")
    action_id = str(document["_id"])
    return Action(
        action_id=action_id,
        name=document.get("name") or "",
        pack_name=document.get("packName") or "",
        pack_labels=labels_of(document),
        input=input_of(document),
        correlation_id=document.get("correlationId") or "",
        flow_name=document.get("flowName") or "",
        flow_uuid=document.get("flowUUID") or "",
        step_id=document.get("stepId") or "",
        step_index=kept.get("stepIndex", 0),
        context=context_of(document),
        trigger=event_of(document.get("trigger") or {}, f"{action_id}-trigger"),
        states=transitions_of(document),
        result=result_of(document) if result else None,
        due_at=None if due is None else to_instant(due),
        attempts=() if kept.get("timeout") is None else _attempts(kept.get("attempts") or ()),
    )


def result_of(document: Mapping[str, Any]) -> Event | None:
    """Return the event that finished an action; the original keeps an empty one until then."""
    result = document.get("result")
    if not isinstance(result, dict) or not (result.get("name") or result.get("event")):
        return None
    return event_of(result, f"{document['_id']}-result")


def lease_of(attempt: Mapping[str, Any], action_id: str, number: int) -> str:
    """Return the lease of an attempt: that from another store, or one derived from the seed."""
    return (
        str(attempt["lease"])
        if "lease" in attempt
        else lease_token(attempt["seed"], action_id, number)
    )


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> tuple[Attempt, ...]:
    return tuple(
        [
            Attempt(
                number,
                each["pack"],
                to_instant(each["at"]),
                to_instant(each["lost"]) if "lost" in each else None,
                event_of(each["late"], "") if "late" in each else None,
            )
            for number, each in enumerate(attempts, 1)
        ]
    )


def status_of(document: Mapping[str, Any]) -> ActionStatus:
    """Return the status of an action."""
    states, due = transitions_of(document), due_of(document)
    return ActionStatus(
        action_id=str(document["_id"]),
        name=document.get("name") or "",
        pack_name=document.get("packName") or "",
        pack_labels=labels_of(document),
        correlation_id=document.get("correlationId") or "",
        flow_name=document.get("flowName") or "",
        step_id=document.get("stepId") or "",
        state=states[-1].state,
        since=states[-1].at,
        created_at=states[0].at,
        attempt=extra(document).get("attempt", 0),
        due_at=None if due is None else to_instant(due),
    )


# --------------------------------------------------------------------------------------- executions


def member_of(document: Mapping[str, Any]) -> Document:
    """Return an action's entry in its execution.

    It has the fields that lists filter by, and those that mark its step as taken.
    """
    labels = labels_of(document)
    return {
        "id": document["_id"],
        "index": extra(document)["stepIndex"],
        "stepId": document.get("stepId") or "",
        "name": document.get("name") or "",
        "packName": document.get("packName") or "",
        "labels": pairs_of(labels),
        "seq": extra(document)["seq"],
    }


def pairs_of(labels: Mapping[str, str]) -> list[str]:
    """Return labels in a form that allows testing whether one list contains another."""
    return [to_text({key: value}) for key, value in labels.items()]
