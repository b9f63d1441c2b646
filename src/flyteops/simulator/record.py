"""The records of the model: events, executions, steps, actions and all that is kept about them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from flyteops.definition import FlowDefinition, StepDefinition, StepState
from flyteops.model import SERVER, JsonValue

ExecutionState = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
ActionState = Literal["NEW", "PENDING", "UNKNOWN", "SUCCESS", "FATAL", "CANCELLED"]
Outcome = Literal["ran", "skipped", "failed"]
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of an event that is not recorded yet."""

Verdict = tuple[Outcome, str, str]
"""An outcome with its reason and detail."""

Key = str | int | float | bool | None
"""The key of a wait or of a limit."""


@dataclass(kw_only=True)
class Event:
    """An event, in the order of the commits.

    `result_of` is the execution and the step whose result it is. `state` is set for results.
    `after_failure` marks the chain of events that began with `StepFailed`. No flow sees a `hidden`
    one: a result that was retried, or that came too late. `for_step` is the step that a schedule
    is for. The number, id and time are given when it is recorded.
    """

    pack: str
    name: str
    payload: JsonValue = None
    number: int = 0
    event_id: str = ""
    received_at: datetime = NEVER
    labels: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    depth: int = 0
    after_failure: bool = False
    result_of: tuple[str, str] | None = None
    failure: bool = False
    state: StepState | None = None
    for_step: str | None = None
    hidden: bool = False


@dataclass(kw_only=True)
class Attempt:
    """One hand-out of an action; `lost_at` is the end of the pack's time to be heard of."""

    number: int
    lease: str
    taken_at: datetime
    lost_at: datetime | None = None
    lost: bool = False
    result: Event | None = None


@dataclass(kw_only=True)
class Action:
    """A command of a step for a pack; `index` is that of the item or of the round, else None.

    `silence` is the time in which a pack must be heard of, `expires` that in which one must take
    it; each attempt has both anew.
    """

    action_id: str
    execution_id: str
    step_id: str
    pack: str
    name: str
    labels: dict[str, str]
    input: JsonValue
    created_at: datetime
    due_at: datetime
    silence: timedelta | None = None
    expires: timedelta | None = None
    index: int | None = None
    item: JsonValue = None
    state: ActionState = "NEW"
    outcome: StepState | None = None
    attempts: list[Attempt] = field(default_factory=list)
    result: Event | None = None
    late_results: list[Event] = field(default_factory=list)
    finished_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.state in {"NEW", "PENDING", "UNKNOWN"}

    @property
    def for_server(self) -> bool:
        """Whether the server itself executes it."""
        return self.pack == SERVER


@dataclass(kw_only=True)
class StepRun:
    """A step that has run in an execution.

    `event` made it run. It is open until it has a result, and waits while `waits` holds.
    `continued` says that the steps that depend on it were tried with its result, and `answered`
    whether its failure made a step run; None while that is not known.
    """

    step: StepDefinition
    event: Event
    number: int
    started_at: datetime
    context: dict[str, JsonValue]
    not_before: datetime
    waits: bool = False
    key: Key = None
    actions: list[Action] = field(default_factory=list)
    items: list[JsonValue] = field(default_factory=list)
    outcomes: list[dict[str, JsonValue]] = field(default_factory=list)
    made: int = 0
    input: JsonValue = None
    result: Event | None = None
    result_number: int = 0
    state: StepState | None = None
    finished_at: datetime | None = None
    continued: bool = False
    answered: bool | None = None

    @property
    def is_open(self) -> bool:
        return self.state is None

    @property
    def payload(self) -> JsonValue:
        return None if self.result is None else self.result.payload


@dataclass(kw_only=True)
class Execution:
    """An execution of a version of a flow; `steps` are those that have run, by id, in order.

    `tried` are the joins whose condition was met once. `callers` are the actions of `RunFlow` that
    wait for it, `inputs` those that a person has replaced, by step.
    """

    execution_id: str
    number: int
    flow: FlowDefinition
    trigger: Event
    depth: int
    state: ExecutionState = "QUEUED"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    steps: dict[str, StepRun] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    concurrency_key: Key = None
    callers: list[str] = field(default_factory=list)
    inputs: dict[str, JsonValue] = field(default_factory=dict)
    rerun_of: str | None = None
    output: JsonValue = None
    message: str | None = None

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    @property
    def link(self) -> str:
        return f"/executions/{self.execution_id}"

    @property
    def context(self) -> dict[str, JsonValue]:
        """The contexts of all steps, merged in the order of their results; open ones last."""
        runs = sorted(self.steps.values(), key=lambda run: (run.is_open, run.result_number))
        return {key: value for run in runs for key, value in run.context.items()}

    @property
    def failed_steps(self) -> list[str]:
        """The ids of the steps that have failed, in the order of their results."""
        failed = [run for run in self.steps.values() if run.state == "FAILED"]
        return [run.step.id for run in sorted(failed, key=lambda run: run.result_number)]


@dataclass(kw_only=True, frozen=True)
class Decision:
    """The reason why a step did or did not run for an event, or why a start was refused."""

    event_id: str
    flow: str
    step: str
    outcome: Outcome
    reason: str
    detail: str = ""
    execution_id: str | None = None


@dataclass(kw_only=True)
class Question:
    """A question of the command `Ask`, open until an answer, a timeout or a cancellation.

    `who` are the people who may answer; None means all who may operate the flow.
    """

    question_id: str
    action_id: str
    text: str
    options: list[str]
    who: list[str] | None
    requested_by: str | None
    by_self: bool
    where: JsonValue
    due_at: datetime
    open: bool = True


@dataclass(kw_only=True)
class Item:
    """An item of the datastore."""

    value: JsonValue
    expires_at: datetime | None = None


@dataclass(kw_only=True)
class Start:
    """A start of a flow that has passed its triggers; `keys` are those of its limits, by name.

    `members` are the events that it stands for, one unless it is a batch. One `by_person` begins a
    chain of its own.
    """

    start_id: str
    flow: FlowDefinition
    event: Event
    members: list[Event]
    steps: list[str]
    keys: dict[str, Key] = field(default_factory=dict)
    callers: list[str] = field(default_factory=list)
    since: datetime
    by_person: bool = False
    execution_id: str | None = None
    rerun_of: str | None = None


@dataclass(kw_only=True)
class Task:
    """Something that any server carries out at once, exactly once and in a commit of its own.

    Those of one execution are carried out in order. `subject` is the id of a step or an action, or
    the name of a flow; `other` is the execution of a caller's flow, or the reason why none begins.
    """

    kind: str
    number: int = 0
    execution_id: str | None = None
    subject: str = ""
    start: Start | None = None
    event: Event | None = None
    timer: "Timer | None" = None
    other: str = ""


@dataclass(kw_only=True)
class Timer:
    """Something that is due at a time, unless it has become pointless by then.

    `length` is the whole wait, for those that get a moment more after a time without servers.
    """

    kind: str
    due_at: datetime
    number: int = 0
    execution_id: str | None = None
    subject: str = ""
    attempt: int = 0
    length: timedelta | None = None
