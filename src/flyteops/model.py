"""The nouns of Flyte. Values only: frozen, comparable, without behaviour beyond their own arithmetic.

Field names become camelCase where a noun is also a file or wire format (`Flow` and what it holds). Instants end in `_at`
and are aware; the server stamps UTC, while an event's `created_at` keeps the offset that its sender gave.
"""

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

Labels = Mapping[str, str]

FATAL = "FATAL"
"""The reserved event name for "the command failed badly"."""


def has_labels(offered: Labels, wanted: Labels) -> bool:
    """Tell whether `offered` contains every pair of `wanted`."""
    return wanted.items() <= offered.items()


# --------------------------------------------------------------------------------------------------------------- packs


class Link(msgspec.Struct, frozen=True):
    """A hypertext link; clients look it up by the end of `rel`."""

    href: str = ""
    rel: str = ""


class CommandDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command that a pack says it can execute, and the names of the events that may come of it.

    The schema is a JSON Schema of its input, for those who write flows: nothing is held to it.
    """

    name: str = ""
    events: tuple[str, ...] = ()
    input_schema: Json = msgspec.field(default=None, name="inputSchema")


class EventDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that a pack says it may send. Nothing is ever refused for being undeclared, or for not being like its schema.

    `failure` says that a command with this result has failed.
    """

    name: str = ""
    links: tuple[Link, ...] = ()
    payload_schema: Json = msgspec.field(default=None, name="payloadSchema")
    failure: bool = False


class PackRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pack as the sender of an event saw itself: enough to match labels, and independent of later registrations."""

    id: str
    name: str
    labels: dict[str, str] = {}


class PackDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a pack says of itself when it registers; `items` are the keys of the datastore items that it reads."""

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
    """A program that watches a system, sends events and executes commands. Registering is an upsert by `id`.

    `stopped_at` is when its last instance reported that it stops, None if it is at work or has fallen silent.
    """

    last_seen_at: datetime
    stopped_at: datetime | None = None

    @property
    def id(self) -> str:
        """The name, then ``.key.value`` for each label in key order."""
        return pack_id(self.name, self.labels)

    @property
    def declaration(self) -> PackDeclaration:
        return PackDeclaration(self.name, self.labels, self.commands, self.events, self.links, self.items)

    @property
    def ref(self) -> PackRef:
        return PackRef(self.id, self.name, self.labels)


def pack_id(name: str, labels: Labels) -> str:
    """Return the id of the pack with this name and these labels."""
    return ".".join([name, *(f"{key}.{labels[key]}" for key in sorted(labels))])


# --------------------------------------------------------------------------------------------------------------- flows


class EventPattern(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What triggers a step: an event of this name from a pack of this name that has these labels (templates)."""

    name: str
    pack_name: str
    pack_labels: dict[str, str] | None = None


class Retry(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a lost command is repeated: how often it is handed out at most, and how long to wait before that (durations)."""

    attempts: int | None = None
    backoff: str | None = None
    max_backoff: str | None = None


class Command(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a step asks of which pack; labels and every string inside `input` are templates.

    With a `timeout` (a duration), a pack that was silent for so long has lost the command, and `on_lost` says what becomes of it:
    retry, fail or ask.
    """

    name: str
    pack_name: str
    pack_labels: dict[str, str] | None = None
    input: Json = None
    timeout: str | None = None
    retry: Retry | None = None
    on_lost: str | None = None


class Schedule(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """When a step runs by itself: a cron expression in a time zone, and what to do about firings that were missed."""

    cron: str
    time_zone: str | None = None
    catch_up: str | None = None


class Dependencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps that must have finished first: all of `all`, and at least one of `any` unless that is empty."""

    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()


SERVER = "Flyte"
"""The name under which the server itself sends events."""

SCHEDULED = EventPattern(name="Scheduled", pack_name=SERVER)
"""What triggers a step that has a schedule."""


class Step(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One "if this happens, do that" of a flow. `depends_on` as a list means any of them.

    A step has either an `event` or a `schedule`; `delay` is a duration before a pack may take its command.
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
        """Whether an event can begin an execution with the step: it depends on nothing, and on no schedule."""
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
    """A flow as it was saved once; executions go on with the version that they began with."""

    uuid: str
    flow: Flow
    saved_at: datetime


# -------------------------------------------------------------------------------------------------------------- events


class Happening(msgspec.Struct, frozen=True):
    """What a pack tells: the name of an event, its payload as JSON text, and when it was, None if it does not say.

    `failure` marks a result: the command has failed. It means nothing in other events.
    """

    name: str
    payload: bytes
    created_at: datetime | None = None
    created_nanosecond: int = 0
    failure: bool = False


class Event(msgspec.Struct, frozen=True):
    """Something that a pack said has happened.

    `payload` is the JSON text as it was sent, so that nothing of it is lost in translation (large integers, key order);
    `created_at` is None when the sender gave no time. `created_nanosecond` is the part of that time for which a `datetime`
    has no room, 0 to 999: templates print it while the event is evaluated, and it is not stored. `failure` says of a result
    whether the command has failed; UNSET of other events, and of results from before that was stored, so that backups of these
    stay as they were written.
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

    A lost one goes back to NEW, or over UNKNOWN, where it waits for a person.
    """

    NEW = "NEW"
    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    SUCCESS = "SUCCESS"
    FATAL = "FATAL"

    @property
    def is_finished(self) -> bool:
        return self in (ActionState.SUCCESS, ActionState.FATAL)


class Transition(msgspec.Struct, frozen=True):
    """A state and when it was reached."""

    state: ActionState
    at: datetime


class Attempt(msgspec.Struct, frozen=True):
    """One handing out of an action with a time limit; `late_result` came when it was no longer wanted, and was not applied."""

    number: int
    pack_id: str
    taken_at: datetime
    lost_at: datetime | None = None
    late_result: Event | None = None


class Action(msgspec.Struct, frozen=True):
    """A command for a pack, created by a step in an execution. `input` is JSON text, `context` the strings carried on.

    `states` is in order of time and never empty; `result` is None until a pack has answered. `due_at` is when a NEW action may
    be taken if not at once, and when a PENDING one counts as lost. `attempts` are kept for those with a time limit.
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
    """One run of a flow: the actions that came of one event, oldest first."""

    correlation_id: str
    flow_name: str
    flow_uuid: str
    actions: tuple[Action, ...]


# ----------------------------------------------------------------------------------------------------------- decisions


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a step did or did not run for an event.

    `reason` says what settled it; `detail` says it in words; `values` holds the text of what was looked at, by template
    expression (``Event.Payload.message``), each value as compact JSON, cut when long. `path`, `line` and `column` give the
    place in the step where an error arose. `correlation_id` is the execution that was continued or begun; `action_id` only when
    the step ran.
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


class EventRecord(msgspec.Struct, frozen=True):
    """An event with everything that was decided about it; `action_id` names the action whose result it is, if any."""

    event: Event
    decisions: tuple[Decision, ...]
    action_id: str | None = None


# ------------------------------------------------------------------------------------- between the evaluator and the store


class NewAction(msgspec.Struct, frozen=True):
    """An action to be created; the event that is stored along with it is its trigger."""

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
    def address(self) -> "Address":
        return Address(self.pack_name, self.pack_labels, self.name)


class Address(msgspec.Struct, frozen=True):
    """Whom an action is for, and what it asks."""

    pack_name: str
    pack_labels: dict[str, str]
    command: str

    def accepts(self, pack: PackRef, command: str | None = None) -> bool:
        """Tell whether the pack may take such an action, when it asks for this command (None: any)."""
        return pack.name == self.pack_name and command in (None, self.command) and has_labels(pack.labels, self.pack_labels)


class Outcome(msgspec.Struct, frozen=True):
    """What follows from an event: the decisions about it, and the actions that they create.

    An action whose `correlation_id` is not known to the store begins that execution.
    """

    decisions: tuple[Decision, ...] = ()
    actions: tuple[NewAction, ...] = ()


class Sibling(msgspec.Struct, frozen=True):
    """An action of an execution, as far as the evaluation of the next steps needs it."""

    step_id: str
    step_index: int
    state: ActionState


class Lease(msgspec.Struct, frozen=True):
    """The right of one attempt to end its action: what the pack must show, and whether it has lost it meanwhile."""

    number: int
    token: str
    is_lost: bool = False


class Progress(msgspec.Struct, frozen=True):
    """An action and the execution it belongs to, as they stand at the moment when a result is applied.

    `siblings` are all actions of the execution, this one included. `result` is the event that finished it, if one did.
    `attempt` counts how often it was handed out; `leases` are those of all attempts, none without a time limit. `revision`
    grows with every change of its state, so that no two claims have the same one, even if one was taken back in between.
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
    def address(self) -> Address:
        return Address(self.pack_name, self.pack_labels, self.name)


# ------------------------------------------------------------------------------------------------------ what servers keep


class Note(msgspec.Struct, frozen=True):
    """Something that servers keep and no store looks into: a `value` under a `key` among those of its `kind`."""

    kind: str
    key: str
    value: bytes


# ----------------------------------------------------------------------------------------------------------- datastore


class DataItem(msgspec.Struct, frozen=True):
    """A piece of shared configuration: bytes under a key, with the content type that says how templates see them.

    Of one that `is_secret`, nobody but packs gets the value.
    """

    key: str
    content_type: str
    value: bytes
    description: str = ""
    is_secret: bool = False

    @property
    def is_json(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() in ("application/json", "text/json")
