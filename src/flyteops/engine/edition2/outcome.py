"""The outcome of a change: the next document, and the rows that a store commits along with it."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from flyteops.definition import StepState
from flyteops.engine.edition2.document import ExecutionDocument, Occurrence
from flyteops.model import Decision, RoutingKey

TimerKind = Literal["delay", "stepTimeout", "waitTimeout", "flowTimeout", "command"]
TaskKind = Literal["command", "stepFailed", "flowFinished"]


class PlannedAction(msgspec.Struct, frozen=True):
    """An action to be created. With a pack other than the server's it goes to a queue.

    `expires_at` holds while no pack has taken it, `timeout` from then on. With `needs_lease`, a
    result must show its lease. `number` orders the actions of an execution.
    """

    action_id: str
    step_id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str]
    input: bytes
    created_at: datetime
    index: int | None = None
    not_before: datetime | None = None
    expires: timedelta | None = None
    expires_at: datetime | None = None
    timeout: timedelta | None = None
    needs_lease: bool = False

    @property
    def routing_key(self) -> RoutingKey:
        return RoutingKey(self.pack_name, self.pack_labels, self.name)


class ActionRetry(msgspec.Struct, frozen=True):
    """An action returns to its queue for another attempt, not before a time.

    `event_id` is the result of the attempt that has failed; no flow sees it. One with `is_lost` was
    made by the server.
    """

    action_id: str
    attempt: int
    not_before: datetime
    event_id: str
    is_lost: bool = False


class ActionEnd(msgspec.Struct, frozen=True):
    """An action has its result."""

    action_id: str
    event_id: str
    outcome: StepState


class NewTimer(msgspec.Struct, frozen=True):
    """A timer of an execution, one for each kind, step and action.

    `length` is that of a wait, which gets a moment more after a time without servers.
    """

    kind: TimerKind
    step_id: str
    due_at: datetime
    action_id: str | None = None
    length: timedelta | None = None


class Subscription(msgspec.Struct, frozen=True):
    """One pattern of a wait, and the template that gives the key of its events."""

    pack_name: str | None
    name: str | None
    state: StepState | None
    key_source: str


class NewWait(msgspec.Struct, frozen=True):
    """A step that waits for an event whose key equals `key`, see `key_bytes`.

    With `since`, events that came from then on count as well, if the execution had begun.
    """

    step_id: str
    key: bytes
    subscriptions: tuple[Subscription, ...]
    since: datetime | None = None


class NewTask(msgspec.Struct, frozen=True):
    """A task that any server carries out at once, exactly once and in a commit of its own.

    Those of one `execution_id` are carried out in order.
    """

    kind: TaskKind
    execution_id: str
    subject: str = ""
    reason: str | None = None
    event_id: str | None = None
    message: str | None = None


class AttachedValue(msgspec.Struct, frozen=True):
    """A value beside the document that is written once, by execution and `key`."""

    step_id: str
    key: str
    value: bytes


class EventDecision(msgspec.Struct, frozen=True):
    """A decision, and the event that it is about."""

    event_id: str
    decision: Decision


class Advance(msgspec.Struct, frozen=True):
    """All that follows from a change, to be committed as one transaction.

    `is_accepted` is false if the change came too late: the step or the execution has ended, so that
    a result is only kept. `published` are the events that others may see: the accepted result, and
    those of the server, which are to be recorded; `unseen` are results of the server to be recorded
    for an attempt alone. `closed` are steps that have ended: what is left of their open actions and
    questions is cancelled, their wait and timers are cleared and their attachments dropped; the
    wait of those `resumed` ends with its timer. When the execution has ended, all of that goes.
    """

    document: ExecutionDocument
    is_accepted: bool = True
    actions: tuple[PlannedAction, ...] = ()
    retries: tuple[ActionRetry, ...] = ()
    ends: tuple[ActionEnd, ...] = ()
    unknown: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()
    timers: tuple[NewTimer, ...] = ()
    waits: tuple[NewWait, ...] = ()
    tasks: tuple[NewTask, ...] = ()
    published: tuple[Occurrence, ...] = ()
    unseen: tuple[Occurrence, ...] = ()
    decisions: tuple[EventDecision, ...] = ()
    attachments: tuple[AttachedValue, ...] = ()
