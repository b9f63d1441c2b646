"""The state of one execution as one document, and its JSON text.

JSON values of flows are kept as their text: integers stay exact, and nothing is parsed before a
template reads it. Payloads and inputs of results are kept only where a template names them.
"""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flyteops.definition import StepState
from flyteops.model import Event, JsonValue, PackRef

ExecutionState = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]

EMPTY = Raw(b"{}")
"""The context of a step that sets none."""


class Occurrence(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An event, its place in a chain, and for a result its execution, its step and its state.

    It is as deep as the execution that it comes from, 0 if it comes from none. `after_failure`
    marks a chain that began with `StepFailed`.
    """

    event: Event
    depth: int = 0
    after_failure: bool = False
    execution_id: str | None = None
    flow_name: str | None = None
    step_id: str | None = None
    state: StepState | None = None


class EventHead(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An event without its payload."""

    event_id: str
    name: str
    pack: PackRef
    received_at: datetime
    created_at: datetime | None = None

    @classmethod
    def of(cls, event: Event) -> "EventHead":
        return cls(event.event_id, event.name, event.pack, event.received_at, event.created_at)


class GroupState(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The progress of a step with several actions; outcomes and items are attachments.

    `total` is the number of items, of `repeat` that of the rounds that were made.
    """

    total: int = 0
    made: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def finished(self) -> int:
        return self.succeeded + self.failed


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A step that has run; without a `state`, it has no result yet.

    `number` and `order` give the order of the runs and of the results. `event` made it run, or
    ended its wait; it is left out once there is a result. `open` counts the actions without a
    result.
    """

    number: int
    started_at: datetime
    event: EventHead | None = None
    context: Raw = EMPTY
    not_before: datetime | None = None
    is_waiting: bool = False
    has_timer: bool = False
    open: int = 0
    group: GroupState | None = None
    input: Raw | UnsetType = UNSET
    state: StepState | None = None
    order: int = 0
    result_id: str = ""
    result_name: str = ""
    payload: Raw | UnsetType = UNSET
    finished_at: datetime | None = None


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The progress of a step that has not run.

    `settled` counts the steps depended on that were continued or can no longer run, `results` the
    results that count. `fault` is the first error in the labels of a pattern that a result fits.
    """

    settled: int = 0
    results: int = 0
    is_tried: bool = False
    is_dead: bool = False
    fault: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the step can no longer run."""
        return self.is_tried or self.is_dead


class UnansweredFailure(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A failure that no step has answered yet, and the number of steps that still may."""

    live: int
    reason: str


class Caller(msgspec.Struct, frozen=True, rename="camel"):
    """An action of `RunFlow` that waits for the end of an execution."""

    action_id: str
    execution_id: str


class ExecutionDocument(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The whole state of an execution.

    With `has_failed`, a failure has stayed unanswered; `failures` are not answered yet. `readiness`
    is that of steps that have not run and on which a result had an influence, `unreachable` are
    those whose end is to be decided with the next result. `made` is the last of the numbers that
    give the order of runs and results, `open` counts the steps without a result.
    """

    execution_id: str
    flow_name: str
    flow_uuid: str
    trigger: EventHead
    depth: int
    state: ExecutionState = "RUNNING"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    after_failure: bool = False
    made: int = 0
    open: int = 0
    steps: dict[str, StepRecord] = {}
    readiness: dict[str, Readiness] = {}
    unreachable: tuple[str, ...] = ()
    failures: dict[str, UnansweredFailure] = {}
    failed_steps: tuple[str, ...] = ()
    has_failed: bool = False
    callers: tuple[Caller, ...] = ()
    output: Raw | UnsetType = UNSET
    message: str | None = None
    rerun_of: str | None = None

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ExecutionDocument)


def encode_document(document: ExecutionDocument) -> bytes:
    """Return the JSON text of a document."""
    return _ENCODER.encode(document)


def decode_document(data: bytes) -> ExecutionDocument:
    """Return the document of a JSON text; raise `msgspec.DecodeError`."""
    return _DECODER.decode(data)


def raw(value: JsonValue) -> Raw:
    """Return a JSON value as text."""
    return Raw(_ENCODER.encode(value))
