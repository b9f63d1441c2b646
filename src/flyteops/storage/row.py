"""Conversion of values to columns and back, for every database that has columns."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from typing import Any

import msgspec

from flyteops import name as naming
from flyteops.model import (
    Action,
    ActionState,
    Attempt,
    Basis,
    DataItem,
    Decision,
    Event,
    EventRecord,
    Flow,
    FlowVersion,
    NewAction,
    Pack,
    PackDeclaration,
    PackRef,
    Transition,
)
from flyteops.storage.query import PAGE_BYTES, ActionStatus, EventFilter
from flyteops.storage.record import (
    StoredAction,
    StoredAttempt,
    StoredFlow,
    StoredKey,
    StoredVersion,
)
from flyteops.transition import ScheduleEntry

LOGGER = logging.getLogger("flyte.store")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

REVISION = "length(a.states) - length(replace(a.states, ',', ''))"
"""The number of changes of an action's state: a comma separates two states."""

DELAYED = "LATER"
"""The state of a NEW action that may not be taken yet, so that takers need not look at the time."""

STATES = {**{state.value: state for state in ActionState}, DELAYED: ActionState.NEW}
"""The public state for each stored state."""

UNREADABLE = "\0unreadable"
"""The key of the only label of a row whose labels are damaged.

No pack has it, since no label may contain a NUL.
"""

MICROSECOND = timedelta(microseconds=1)

encode_json = msgspec.json.Encoder(order="deterministic").encode
_encode = msgspec.json.Encoder().encode
_decode_decisions = msgspec.json.Decoder(tuple[Decision, ...]).decode
decode_strings = msgspec.json.Decoder(dict[str, str]).decode
decode_flow = msgspec.json.Decoder(Flow).decode
decode_declaration = msgspec.json.Decoder(PackDeclaration).decode


class _Evaluated(msgspec.Struct, frozen=True, omit_defaults=True):
    basis: Basis
    decisions: tuple[Decision, ...] = ()


_decode_evaluated = msgspec.json.Decoder(_Evaluated).decode

BASIS_KEY = "\x1f"
"""The beginning of the key of a basis among the names of flows under which events are listed.

The names of flows that begin with it are listed under keys that begin with two of them.
"""


def encode_decisions(decisions: Sequence[Decision], basis: Basis | None = None) -> bytes | None:
    """Return the column for the decisions about an event; None if there is nothing to store."""
    if basis is not None:
        return _encode(_Evaluated(basis, tuple(decisions)))
    return _encode(decisions) if decisions else None


def decode_decisions(text: bytes | None) -> tuple[tuple[Decision, ...], Basis | None]:
    """Read the column for the decisions about an event: a list, or with a basis an object."""
    if text is None:
        return (), None
    if text[:1] == b"{":
        evaluated = _decode_evaluated(text)
        return evaluated.decisions, evaluated.basis
    return _decode_decisions(text), None


def basis_key(number: int) -> str:
    """Return the key under which the events with a basis are listed."""
    return f"{BASIS_KEY}{number}"


def _flow_key(name: str) -> str:
    """Return the key under which the events with a decision about a flow are listed."""
    return f"{BASIS_KEY}{name}" if name.startswith(BASIS_KEY) else name


def listing_keys(decisions: Sequence[Decision], basis: Basis | None) -> list[str]:
    """Return the keys under which an event is listed: flows with a decision, and the basis."""
    keys = {_flow_key(decision.flow_name) for decision in decisions}
    if basis is not None:
        keys.add(basis_key(basis.number))
    return sorted(keys)


def filter_keys(which: EventFilter) -> Sequence[str] | None:
    """Return the keys under which the wanted events are listed; None for all events."""
    if which.flow_name is None:
        return None
    return [_flow_key(which.flow_name), *map(basis_key, which.bases)]


def to_microseconds(at: datetime) -> int:
    """Return the microseconds since the epoch."""
    passed = at - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def to_instant(microseconds: int) -> datetime:
    """Return the instant so many microseconds after the epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_instant_or_none(microseconds: int | None) -> datetime | None:
    """Return the instant for a column that may be NULL."""
    return None if microseconds is None else to_instant(microseconds)


def to_microseconds_or_none(at: datetime | None) -> int | None:
    """Return the column that may be NULL for an instant."""
    return None if at is None else to_microseconds(at)


def to_length(microseconds: int | None) -> timedelta | None:
    """Read a column that holds a duration."""
    return None if microseconds is None else timedelta(microseconds=microseconds)


def of_length(length: timedelta | None) -> int | None:
    """Return the column for a duration."""
    return None if length is None else length // MICROSECOND


def to_text(labels: Mapping[str, str]) -> str:
    """Return the labels as JSON in key order: equal labels are equal texts."""
    return encode_json(labels).decode() if labels else "{}"


def decode_labels(text: str) -> dict[str, str]:
    """Read labels from JSON; damaged ones become labels of no pack, to keep other rows readable."""
    try:
        return decode_strings(text)
    except (msgspec.MsgspecError, UnicodeError):
        return {UNREADABLE: text}


def read_queue(pack_name: str, text: str, command: str) -> dict[str, str]:
    """Read the labels of a queue; if no pack can have them, log it once."""
    labels = decode_labels(text)
    fault = next((each for each in naming.faults_of_labels(labels) if each[0]), None)
    if fault is not None:
        _report_set_aside(pack_name, command, text, fault[1])
    return labels


@cache
def _report_set_aside(pack_name: str, command: str, labels: str, reason: str) -> None:
    LOGGER.error(
        "Commands %r for pack %r are set aside, because no pack can have their labels: a label %s."
        " The labels are %.200s. They stay NEW, as `flyte actions list` shows, until retention"
        " removes them.",
        command,
        pack_name,
        reason,
        labels,
    )


def subsets(labels: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Return all label sets that actions for a pack may request: twice as many for each label."""
    pairs = sorted(labels.items())
    return (
        dict(chosen) for count in range(len(pairs) + 1) for chosen in combinations(pairs, count)
    )


def to_transitions(states: str) -> tuple[Transition, ...]:
    """Read the `states` column of an action."""
    pairs = (entry.split(" ") for entry in states.split(","))
    return tuple(Transition(ActionState(state), to_instant(int(at))) for state, at in pairs)


def readable_transitions(states: str) -> tuple[Transition, ...]:
    """Read the readable parts of a `states` column, for a list; UNKNOWN since long ago if none."""
    found: list[Transition] = []
    for entry in str(states).split(","):
        with suppress(ValueError, OverflowError):
            found += to_transitions(entry)
    return tuple(found) or (Transition(ActionState.UNKNOWN, EPOCH),)


def record_of(
    event: Event, text: bytes | None, action_id: str | None, flow_name: str | None
) -> EventRecord:
    """Return an event with the decisions about it, those of one flow if it is named.

    There are none if they are damaged.
    """
    try:
        decisions, basis = decode_decisions(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError):
        decisions, basis = (), None
    record = EventRecord(event, decisions, action_id, basis)
    return record if flow_name is None else of_flow(record, flow_name)


def of_flow(record: EventRecord, flow_name: str) -> EventRecord:
    """Return an event with the decisions about one flow."""
    begun = 0 if record.basis is None else record.basis.begun
    kept = [
        (place < begun, each)
        for place, each in enumerate(record.decisions)
        if each.flow_name == flow_name
    ]
    basis = record.basis
    if basis is not None:
        basis = msgspec.structs.replace(basis, begun=sum(begins for begins, _ in kept))
    decisions = tuple([each for _, each in kept])
    return msgspec.structs.replace(record, decisions=decisions, basis=basis)


def _readable_context(text: bytes) -> dict[str, str]:
    try:
        return decode_strings(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError):
        return {}


def _readable_instant(microseconds: int | None) -> datetime | None:
    try:
        return None if microseconds is None else to_instant(microseconds)
    except (TypeError, OverflowError):
        return None


def created_at_of(text: str | None) -> datetime | None:
    """Read the `created_at` column of an event."""
    try:
        return None if text is None else datetime.fromisoformat(text)
    except (ValueError, TypeError):  # the time claimed by a pack, which nothing depends on
        return None


def event_of(columns: Iterable[Any]) -> Event:
    """Return an event from its columns.

    These are id, name, pack's id, name and labels, payload, times of receipt and creation, and
    failure.
    """
    event_id, name, pack_id, pack_name, labels, payload, received_at, created_at, failure = columns
    pack = PackRef(pack_id, pack_name, decode_labels(labels))
    return Event(
        event_id=event_id,
        name=name,
        pack=pack,
        payload=payload,
        received_at=to_instant(received_at),
        created_at=created_at_of(created_at),
        failure=msgspec.UNSET if failure is None else bool(failure),
    )


def failure_column(event: Event) -> bool | None:
    """Return the `failure` column of an event."""
    return None if event.failure is msgspec.UNSET else event.failure


def created_column(event: Event) -> str | None:
    """Return the `created_at` column of an event: the time as it was given, with its offset."""
    return None if event.created_at is None else event.created_at.isoformat()


def action_of(
    columns: Iterable[Any],
    head: tuple[str, str, str],
    trigger: Event,
    result: Event | None,
    attempts: Sequence[Attempt],
) -> Action:
    """Return an action from its columns, its execution's and flow's ids, and related records."""
    action_id, name, pack_name, labels, input_, step_id, step_index, context, states, due_at = (
        columns
    )
    correlation_id, flow_name, flow_uuid = head
    return Action(
        action_id=action_id,
        name=name,
        pack_name=pack_name,
        pack_labels=decode_labels(labels),
        input=input_,
        correlation_id=correlation_id,
        flow_name=flow_name,
        flow_uuid=flow_uuid,
        step_id=step_id,
        step_index=step_index,
        context=_readable_context(context),
        trigger=trigger,
        states=readable_transitions(states),
        result=result,
        due_at=_readable_instant(due_at),
        attempts=tuple(attempts),
    )


def status_of(columns: Iterable[Any]) -> ActionStatus:
    """Return the status of an action from its columns."""
    (
        action_id,
        name,
        pack_name,
        labels,
        correlation_id,
        flow_name,
        step_id,
        states,
        attempt,
        due_at,
    ) = columns
    transitions = readable_transitions(states)
    return ActionStatus(
        action_id=action_id,
        name=name,
        pack_name=pack_name,
        pack_labels=decode_labels(labels),
        correlation_id=correlation_id,
        flow_name=flow_name,
        step_id=step_id,
        state=transitions[-1].state,
        since=transitions[-1].at,
        created_at=transitions[0].at,
        attempt=attempt,
        due_at=_readable_instant(due_at),
    )


def stored_version_of(columns: Iterable[Any]) -> StoredVersion:
    """Return the version of a flow for another store from its uuid, text and time."""
    uuid, flow, saved_at = columns
    return StoredVersion(FlowVersion(uuid, decode_flow(flow), to_instant(saved_at)))


def timetable_of(columns: Iterable[Any]) -> ScheduleEntry:
    """Return a timetable from its step's index and id, rule and next time."""
    step_index, step_id, rule, next_at = columns
    return ScheduleEntry(step_index, step_id, rule, to_instant_or_none(next_at))


def stored_attempt_of(columns: Iterable[Any], lease: str) -> StoredAttempt:
    """Return an attempt for another store from its columns.

    These are number, pack's id, times of taking and loss, and the late event's id.
    """
    number, pack_id, taken_at, lost_at, late_id = columns
    return StoredAttempt(
        number, lease, pack_id, to_instant(taken_at), to_instant_or_none(lost_at), late_id
    )


def stored_action_of(columns: Iterable[Any], attempts: Sequence[StoredAttempt]) -> StoredAction:
    """Return an action for another store from its columns.

    These are its own, those of its execution, and the ids of its events.
    """
    (
        action_id,
        correlation_id,
        flow_name,
        flow_uuid,
        step_id,
        step_index,
        name,
        pack_name,
        labels,
        *rest,
    ) = columns
    input_, context, timeout, trigger_id, states, result_id, due_at, wait, attempt = rest
    action = NewAction(
        action_id=action_id,
        correlation_id=correlation_id,
        flow_name=flow_name,
        flow_uuid=flow_uuid,
        step_id=step_id,
        step_index=step_index,
        name=name,
        pack_name=pack_name,
        pack_labels=decode_labels(labels),
        input=input_,
        context=decode_strings(context),
        timeout=to_length(timeout),
    )
    return StoredAction(
        action=action,
        trigger_id=trigger_id,
        states=to_transitions(states),
        result_id=result_id,
        due_at=to_instant_or_none(due_at),
        wait=to_length(wait),
        attempt=attempt,
        attempts=tuple(attempts),
    )


def name_of(columns: Iterable[Any]) -> str:
    """Return the first column, which identifies a row."""
    return str(next(iter(columns)))


def pack_of(columns: Iterable[Any]) -> Pack:
    """Return a pack from its id, declaration and time of last contact."""
    _, declaration, last_seen_at = columns
    return decode_declaration(declaration).seen(to_instant(last_seen_at))


def current_of(columns: Iterable[Any]) -> FlowVersion:
    """Return the current version of a flow from its name, uuid, text and time."""
    _, uuid, flow, saved_at = columns
    return FlowVersion(uuid, decode_flow(flow), to_instant(saved_at))


def item_of(columns: Iterable[Any]) -> DataItem:
    """Return a datastore item from its key, content type, value and description."""
    key, content_type, value, description = columns
    item = {"key": key, "content_type": content_type, "value": value, "description": description}
    return msgspec.convert(item, DataItem, builtin_types=(bytes,))


def pack_row(pack: Pack) -> tuple[object, ...]:
    """Return the row of a pack."""
    return pack.id, pack.name, encode_json(pack.declaration), to_microseconds(pack.last_seen_at)


def version_row(version: FlowVersion) -> tuple[object, ...]:
    """Return the row of a version of a flow."""
    return (
        version.uuid,
        version.flow.name,
        encode_json(version.flow),
        to_microseconds(version.saved_at),
    )


def item_row(item: DataItem) -> tuple[object, ...]:
    """Return the row of a datastore item."""
    return item.key, item.content_type, item.description, item.value


def timetable_rows(flow: StoredFlow) -> list[tuple[object, ...]]:
    """Return the rows of a flow's timetables."""
    return [
        (flow.name, each.step_index, each.step_id, each.rule, to_microseconds_or_none(each.next_at))
        for each in flow.timetables
    ]


def key_row(key: StoredKey) -> tuple[object, ...]:
    """Return the row of an event's key."""
    return key.key, key.event_id, to_microseconds(key.kept_at)


def execution_row(record: StoredAction) -> tuple[object, ...]:
    """Return the row of an action's execution, with the latest activity known from this action."""
    action = record.action
    return (
        action.correlation_id,
        action.flow_name,
        action.flow_uuid,
        max(to_microseconds(each.at) for each in record.states),
    )


def attempt_row(record: StoredAction, each: StoredAttempt) -> tuple[object, ...]:
    """Return the row of an attempt, with the action's id first and the late event's last."""
    times = to_microseconds(each.taken_at), to_microseconds_or_none(each.lost_at)
    return record.action.action_id, each.lease, each.number, each.pack_id, *times, each.late_id


def stored_state_of(action: StoredAction) -> str:
    """Return the `state` column of an action."""
    state = action.states[-1].state
    return DELAYED if state is ActionState.NEW and action.due_at is not None else state.value


def to_states(states: Sequence[Transition]) -> str:
    """Return the `states` column of an action."""
    return ",".join(f"{each.state.value} {to_microseconds(each.at)}" for each in states)


def up_to_page(seqs: Sequence[int], sizes: Mapping[int, int]) -> Sequence[int]:
    """Return as many of these as fit on a page, given their sizes in bytes; at least one."""
    room = PAGE_BYTES
    for index, seq in enumerate(seqs):
        room -= sizes.get(seq, 0)
        if room < 0:
            return seqs[: max(index, 1)]
    return seqs
