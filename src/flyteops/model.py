"""The data types of Flyte: frozen, comparable values without behaviour beyond simple arithmetic.

Field names become camelCase in types that are also a file or wire format (`Flow` and its parts).
Instants end in `_at` and are aware; the server stamps UTC, while an event's `created_at` keeps the
offset that its sender gave.
"""

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

JsonValue = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

Labels = Mapping[str, str]

FATAL = "FATAL"
"""The reserved event name for "the command failed badly"."""


def has_labels(offered: Labels, wanted: Labels) -> bool:
    """Return whether `offered` contains every pair of `wanted`."""
    return wanted.items() <= offered.items()


# -------------------------------------------------------------------------------------------- packs


class Link(msgspec.Struct, frozen=True):
    """A hypertext link; clients look it up by the end of `rel`."""

    href: str = ""
    rel: str = ""


class CommandDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command that a pack declares, and the names of the events that may result from it.

    The schema is a JSON Schema of its input, for authors of flows: inputs are not validated against
    it.
    """

    name: str = ""
    events: tuple[str, ...] = ()
    input_schema: JsonValue = msgspec.field(default=None, name="inputSchema")


class EventDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that a pack declares.

    An event is never refused for being undeclared or for not matching its schema. `failure` marks a
    result that means that the command has failed.
    """

    name: str = ""
    links: tuple[Link, ...] = ()
    payload_schema: JsonValue = msgspec.field(default=None, name="payloadSchema")
    failure: bool = False


class PackRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pack as declared by the sender of an event.

    Enough to match labels, and independent of later registrations.
    """

    id: str
    name: str
    labels: dict[str, str] = {}


class PackDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """The declaration of a pack at registration.

    `items` are the keys of the datastore items that it reads.
    """

    name: str
    labels: dict[str, str] = {}
    commands: tuple[CommandDeclaration, ...] = ()
    events: tuple[EventDeclaration, ...] = ()
    links: tuple[Link, ...] = ()
    items: tuple[str, ...] = ()

    def seen(self, at: datetime) -> "Pack":
        """Return the pack as last seen at that time."""
        return Pack(
            name=self.name,
            labels=self.labels,
            commands=self.commands,
            events=self.events,
            links=self.links,
            items=self.items,
            last_seen_at=at,
        )


class Pack(PackDeclaration, frozen=True, omit_defaults=True, kw_only=True):
    """A program that watches a system, sends events and executes commands.

    Registering is an upsert by `id`.

    `stopped_at` is the time at which its last instance reported that it stops, None if it is
    running or has fallen silent.
    """

    last_seen_at: datetime
    stopped_at: datetime | None = None

    @property
    def id(self) -> str:
        """The name, then ``.key.value`` for each label in key order."""
        return pack_id(self.name, self.labels)

    @property
    def declaration(self) -> PackDeclaration:
        return PackDeclaration(
            self.name, self.labels, self.commands, self.events, self.links, self.items
        )

    @property
    def ref(self) -> PackRef:
        return PackRef(self.id, self.name, self.labels)


def pack_id(name: str, labels: Labels) -> str:
    """Return the id of the pack with this name and these labels."""
    return ".".join([name, *(f"{key}.{labels[key]}" for key in sorted(labels))])


# -------------------------------------------------------------------------------------------- flows


class EventPattern(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The trigger of a step: an event's name, and a pack's name and labels (templates)."""

    name: str
    pack_name: str
    pack_labels: dict[str, str] | None = None


class RetryPolicy(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The retry policy of a lost command: the maximum of hand-outs, and the waits (durations)."""

    attempts: int | None = None
    backoff: str | None = None
    max_backoff: str | None = None


class Command(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The command of a step and the pack that it is for.

    Labels and every string inside `input` are templates. With a `timeout` (a duration), a pack that
    was silent for that long has lost the command, and `on_lost` decides its fate: retry, fail or
    ask.
    """

    name: str
    pack_name: str
    pack_labels: dict[str, str] | None = None
    input: JsonValue = None
    timeout: str | None = None
    retry: RetryPolicy | None = None
    on_lost: str | None = None


class Schedule(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The schedule of a step: a cron expression in a time zone, and a policy for missed firings."""

    cron: str
    time_zone: str | None = None
    catch_up: str | None = None


class Dependencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps that must have finished first: all of `all`, and at least one of `any` if not empty."""

    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()


SERVER = "Flyte"
"""The name under which the server itself sends events."""

SCHEDULED = EventPattern(name="Scheduled", pack_name=SERVER)
"""The trigger of a step that has a schedule."""


class Step(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One "if this happens, do that" of a flow. `depends_on` as a list means any of them.

    A step has either an `event` or a `schedule`; `delay` is a duration before a pack may take its
    command.
    """

    id: str = ""
    depends_on: tuple[str, ...] | Dependencies | None = None
    event: EventPattern = SCHEDULED
    schedule: Schedule | None = None
    delay: str | None = None
    context: dict[str, str] | None = None
    criteria: str | None = None
    command: Command

    @property
    def dependencies(self) -> Dependencies:
        if isinstance(self.depends_on, Dependencies):
            return self.depends_on
        return Dependencies(any=self.depends_on or ())

    @property
    def is_trigger(self) -> bool:
        """Whether an event can begin an execution with it: it has no dependency and no schedule."""
        if self.schedule is not None:
            return False
        wanted = self.dependencies
        return not wanted.all and not wanted.any


class Flow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named workflow, as its author wrote it."""

    name: str
    description: str = ""
    steps: tuple[Step, ...] = ()


class FlowVersion(msgspec.Struct, frozen=True):
    """A flow as it was saved once; executions continue with the version that they began with."""

    uuid: str
    flow: Flow
    saved_at: datetime


# ------------------------------------------------------------------------------------------- events


class NewEvent(msgspec.Struct, frozen=True):
    """An event as sent by a pack: its name, its payload as JSON text, and its time or None.

    `failure` marks a result: the command has failed. It has no meaning in other events.
    """

    name: str
    payload: bytes
    created_at: datetime | None = None
    created_nanosecond: int = 0
    failure: bool = False


class Event(msgspec.Struct, frozen=True):
    """A recorded event.

    `payload` is the JSON text as it was sent, so that nothing of it is lost in translation (large
    integers, key order); `created_at` is None when the sender gave no time. `created_nanosecond` is
    the part of that time that does not fit into a `datetime`, 0 to 999: templates print it while
    the event is evaluated, and it is not stored. `failure` of a result is true if the command has
    failed; it is UNSET for other events and for results recorded before it was stored, so that
    backups of these stay byte for byte the same.
    """

    event_id: str
    name: str
    pack: PackRef
    payload: bytes
    received_at: datetime
    created_at: datetime | None = None
    created_nanosecond: int = 0
    failure: bool | msgspec.UnsetType = msgspec.UNSET


class ActionState(enum.StrEnum):
    """The states of an action: NEW → PENDING → SUCCESS | FATAL.

    A lost one returns to NEW, or goes to UNKNOWN, where it waits for an operator.
    """

    NEW = "NEW"
    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    SUCCESS = "SUCCESS"
    FATAL = "FATAL"

    @property
    def is_finished(self) -> bool:
        return self is _SUCCESS or self is _FATAL


# Looking up a member of an enumeration costs more than the comparison.
_SUCCESS, _FATAL = ActionState.SUCCESS, ActionState.FATAL


class Transition(msgspec.Struct, frozen=True):
    """A state and the time at which it was reached."""

    state: ActionState
    at: datetime


class Attempt(msgspec.Struct, frozen=True):
    """One hand-out of an action with a time limit.

    `late_result` came after the attempt was lost, and was not applied.
    """

    number: int
    pack_id: str
    taken_at: datetime
    lost_at: datetime | None = None
    late_result: Event | None = None


class Action(msgspec.Struct, frozen=True):
    """A command for a pack, created by a step in an execution.

    `input` is JSON text, `context` the strings carried on. `states` is in order of time and never
    empty; `result` is None until a pack has answered. `due_at` is the earliest time to take a NEW
    action, if it is delayed, and the time at which a PENDING one counts as lost. `attempts` are
    kept for those with a time limit.
    """

    action_id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    input: bytes
    correlation_id: str
    flow_name: str
    flow_uuid: str
    step_id: str
    step_index: int
    context: dict[str, str]
    trigger: Event
    states: tuple[Transition, ...]
    result: Event | None = None
    due_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def state(self) -> ActionState:
        return self.states[-1].state


class Execution(msgspec.Struct, frozen=True):
    """One run of a flow: the actions that resulted from one event, oldest first."""

    correlation_id: str
    flow_name: str
    flow_uuid: str
    actions: tuple[Action, ...]


# ---------------------------------------------------------------------------------------- decisions


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reason why a step did or did not run for an event.

    `reason` is the deciding cause; `detail` describes it in words; `values` holds the values that
    were read, by template expression (``Event.Payload.message``), each as compact JSON, cut when
    long. `path`, `line` and `column` give the place of an error in the step. `correlation_id` is
    the execution that was continued or begun; `action_id` is set only if the step ran.
    """

    flow_name: str
    flow_uuid: str
    step_id: str
    step_index: int
    outcome: Literal["ran", "skipped", "failed"]
    reason: Literal["passed", "alreadyRan", "dependsOn", "packLabels", "criteria", "error"]
    detail: str
    values: dict[str, str] = {}
    path: str | None = None
    line: int | None = None
    column: int | None = None
    correlation_id: str | None = None
    action_id: str | None = None


DEFAULT_BODY_LENGTH = 10 * 1024 * 1024
"""The default of the maximum length of a request's body, in bytes."""


class Basis(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is needed to compute the decisions about an event that are not stored.

    These are the decisions to skip a step with which the event could have begun an execution. The
    flow versions that listened, and the versions of the datastore items, are stored once under a
    `number`. The first `begun` stored decisions are about beginnings as well. `nanosecond` is
    `Event.created_nanosecond`; `body_length` is the maximum length of a request's body, which
    determines the limits on the length of texts.
    """

    number: int = msgspec.field(name="n")
    seed: bytes = msgspec.field(name="s")
    begun: int = msgspec.field(name="b", default=0)
    nanosecond: int = msgspec.field(name="ns", default=0)
    body_length: int = msgspec.field(name="l", default=DEFAULT_BODY_LENGTH)


class EventRecord(msgspec.Struct, frozen=True):
    """An event with the decisions about it; with a `basis`, some of them are to be computed.

    `action_id` names the action whose result it is, if any.
    """

    event: Event
    decisions: tuple[Decision, ...]
    action_id: str | None = None
    basis: Basis | None = None


# -------------------------------------------------------------- between the evaluator and the store


class NewAction(msgspec.Struct, frozen=True):
    """An action to be created; its trigger is the event that is stored along with it."""

    action_id: str
    correlation_id: str
    flow_name: str
    flow_uuid: str
    step_id: str
    step_index: int
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    input: bytes
    context: dict[str, str]
    not_before: datetime | None = None
    timeout: timedelta | None = None

    @property
    def routing_key(self) -> "RoutingKey":
        return RoutingKey(self.pack_name, self.pack_labels, self.name)


class RoutingKey(msgspec.Struct, frozen=True):
    """Routing key: which packs may take an action, and the command it runs."""

    pack_name: str
    pack_labels: dict[str, str]
    command: str

    def accepts(self, pack: PackRef, command: str | None = None) -> bool:
        """Return whether the pack may take the action when it requests `command` (None: any)."""
        return (
            pack.name == self.pack_name
            and command in (None, self.command)
            and has_labels(pack.labels, self.pack_labels)
        )


class Evaluation(msgspec.Struct, frozen=True):
    """The outcome of an event: the decisions about it, and the actions that they create.

    An action whose `correlation_id` is not known to the store begins that execution. With a
    `basis`, decisions that can be computed from it are left out.
    """

    decisions: tuple[Decision, ...] = ()
    actions: tuple[NewAction, ...] = ()
    basis: Basis | None = None


class Sibling(msgspec.Struct, frozen=True):
    """An action of an execution, as far as the evaluation of the next steps needs it."""

    step_id: str
    step_index: int
    state: ActionState


class Lease(msgspec.Struct, frozen=True):
    """The right of one attempt to end its action.

    The lease that the pack must show, and whether it has been lost.
    """

    number: int
    token: str
    is_lost: bool = False


class ActionSnapshot(msgspec.Struct, frozen=True):
    """An action and its execution, as they are when a result is applied.

    `siblings` are all actions of the execution, this one included. `result` is the event that
    finished it, if one did. `attempt` counts its hand-outs; `leases` are those of all attempts,
    none without a time limit. `revision` grows with every change of its state, so that no two
    claims have the same one, even if one was taken back in between.
    """

    action_id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    correlation_id: str
    flow_name: str
    flow_uuid: str
    step_id: str
    context: dict[str, str]
    state: ActionState
    siblings: tuple[Sibling, ...]
    result: Event | None = None
    step_index: int = 0
    attempt: int = 0
    leases: tuple[Lease, ...] = ()
    timeout: timedelta | None = None
    due_at: datetime | None = None
    revision: int = 0

    @property
    def routing_key(self) -> RoutingKey:
        return RoutingKey(self.pack_name, self.pack_labels, self.name)


# ----------------------------------------------------------------------------------- server records


class Note(msgspec.Struct, frozen=True):
    """A record that stores do not interpret: a `value` under a `key` within its `kind`."""

    kind: str
    key: str
    value: bytes


# ---------------------------------------------------------------------------------------- datastore


class DataItem(msgspec.Struct, frozen=True):
    """A piece of shared configuration: bytes under a key, and a content type.

    The content type decides how templates see the value. If the item `is_secret`, only packs get
    the value.
    """

    key: str
    content_type: str
    value: bytes
    description: str = ""
    is_secret: bool = False

    @property
    def is_json(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() in (
            "application/json",
            "text/json",
        )
