"""The JSON shapes of the audit: executions and their actions, and the decisions about events."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, Self

from msgspec import UNSET, Raw, UnsetType, field

from flyteops.engine.failure import has_failed
from flyteops.model import (
    Action,
    Attempt,
    Decision,
    Event,
    EventRecord,
    Execution,
    Link,
    PackRef,
    Step,
    Transition,
)
from flyteops.storage.query import ActionStatus
from flyteops.timeformat import format_timestamp
from flyteops.web.api.link import Links
from flyteops.web.api.schemas.wire import ResponseBody, Timestamp

StateName = Literal["NEW", "PENDING", "UNKNOWN", "SUCCESS", "FATAL"]
OutcomeName = Literal["SUCCEEDED", "FAILED"]


class PackRefView(ResponseBody, kw_only=True):
    """A pack at the time when it sent an event."""

    id: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pack: PackRef) -> Self:
        return cls(id=pack.id, name=pack.name, labels=pack.labels)


class EventView(ResponseBody, kw_only=True):
    """An event in the audit."""

    event: str
    pack: PackRefView
    payload: Raw | UnsetType = UNSET
    created_at: Timestamp
    received_at: Timestamp

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(
            event=event.name,
            pack=PackRefView.of(event.pack),
            payload=_unless_null(event.payload),
            created_at=format_timestamp(event.created_at or event.received_at),
            received_at=format_timestamp(event.received_at),
        )


NO_EVENT = EventView(
    event="",
    pack=PackRefView(id="", name=""),
    created_at="0001-01-01T00:00:00Z",
    received_at="0001-01-01T00:00:00Z",
)
"""The result of an action that has none yet, as in the original: scripts read `result.event`."""


class StateView(ResponseBody, kw_only=True):
    """A state of an action and when it was reached."""

    value: StateName
    time: Timestamp

    @classmethod
    def of(cls, transition: Transition) -> Self:
        return cls(value=transition.state.value, time=format_timestamp(transition.at))


class AttemptView(ResponseBody, kw_only=True):
    """One attempt of an action with a time limit.

    `lateResult` arrived after it was lost, and was not applied.
    """

    number: int
    pack_id: str
    taken_at: Timestamp
    lost_at: Timestamp | None = None
    late_result: EventView | None = None

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        return cls(
            number=attempt.number,
            pack_id=attempt.pack_id,
            taken_at=format_timestamp(attempt.taken_at),
            lost_at=_written(attempt.lost_at),
            late_result=None if attempt.late_result is None else EventView.of(attempt.late_result),
        )


class AuditAction(ResponseBody, kw_only=True):
    """An action with its history, its trigger and its result.

    The `result` has empty fields until there is one. `dueAt` is when the action may be taken, if
    not at once, or when the pack that holds it loses it.
    """

    id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str] = field(default_factory=dict)
    input: Raw | UnsetType = UNSET
    state: StateView
    states: list[StateView]
    correlation_id: str
    flow_name: str
    flow_uuid: str = field(name="flowUUID")
    step_id: str
    context: dict[str, str] = field(default_factory=dict)
    trigger: EventView
    result: EventView | None = None
    due_at: Timestamp | None = None
    attempts: list[AttemptView] = field(default_factory=list)

    @property
    def ended_by(self) -> EventView | None:
        """The event that is the result; None until there is one."""
        return None if self.result in (None, NO_EVENT) else self.result

    @classmethod
    def of(cls, action: Action) -> Self:
        states = [StateView.of(transition) for transition in action.states]
        return cls(
            id=action.action_id,
            name=action.name,
            pack_name=action.pack_name,
            pack_labels=action.pack_labels,
            input=Raw(action.input),
            state=states[-1],
            states=states,
            correlation_id=action.correlation_id,
            flow_name=action.flow_name,
            flow_uuid=action.flow_uuid,
            step_id=action.step_id,
            context=action.context,
            trigger=EventView.of(action.trigger),
            result=NO_EVENT if action.result is None else EventView.of(action.result),
            due_at=_written(action.due_at),
            attempts=[AttemptView.of(attempt) for attempt in action.attempts],
        )


class ExecutionView(ResponseBody, kw_only=True):
    """One run of a flow: the steps of its version, and the actions so far by step id."""

    name: str
    uuid: str
    correlation_id: str
    steps: tuple[Step, ...]
    actions: Mapping[str, AuditAction]
    links: list[Link]

    @classmethod
    def of(cls, execution: Execution, steps: tuple[Step, ...], site: Links) -> Self:
        return cls(
            name=execution.flow_name,
            uuid=execution.flow_uuid,
            correlation_id=execution.correlation_id,
            steps=steps,
            actions={action.step_id: AuditAction.of(action) for action in execution.actions},
            links=[site.execution(execution.correlation_id)],
        )


class ExecutionList(ResponseBody, kw_only=True):
    """Executions, latest activity first."""

    flows: list[ExecutionView]
    links: list[Link]

    @classmethod
    def of(
        cls,
        executions: Iterable[Execution],
        steps: Mapping[str, tuple[Step, ...]],
        site: Links,
        following: str | None,
    ) -> Self:
        return cls(
            flows=[
                ExecutionView.of(execution, steps.get(execution.flow_uuid, ()), site)
                for execution in executions
            ],
            links=site.page("/v1/audit/flows", "/v1", "/flowExecs", following),
        )


class RunAction(AuditAction, kw_only=True):
    """An action with its `outcome`: success or failure, left out until there is a result.

    An action in the state SUCCESS has FAILED if its result is marked with `failure`, or if its pack
    has registered that event as a failure.
    """

    outcome: OutcomeName | None = None

    @classmethod
    def of(cls, action: Action) -> Self:
        view = super().of(action)
        if action.result is not None:
            view.outcome = "FAILED" if has_failed(action.result) else "SUCCEEDED"
        return view


class RunView(ExecutionView, kw_only=True):
    """One run of a flow, with the outcome of each action."""

    actions: Mapping[str, RunAction]

    @classmethod
    def of(cls, execution: Execution, steps: tuple[Step, ...], site: Links) -> Self:
        view = super().of(execution, steps, site)
        view.actions = {action.step_id: RunAction.of(action) for action in execution.actions}
        view.links = [site.run(execution.correlation_id)]
        return view


class RunList(ResponseBody, kw_only=True):
    """Executions with the outcome of each action, latest activity first."""

    executions: list[RunView]
    links: list[Link]

    @classmethod
    def of(
        cls,
        executions: Iterable[Execution],
        steps: Mapping[str, tuple[Step, ...]],
        site: Links,
        following: str | None,
    ) -> Self:
        return cls(
            executions=[
                RunView.of(execution, steps.get(execution.flow_uuid, ()), site)
                for execution in executions
            ],
            links=site.page("/v1/executions", "/v1", "/execution", following),
        )


class ActionStatusView(ResponseBody, kw_only=True):
    """The current status of an action: its state since when, its attempts, and when it is due."""

    id: str
    name: str
    pack_name: str
    pack_labels: dict[str, str] = field(default_factory=dict)
    correlation_id: str
    flow_name: str
    step_id: str
    state: StateName
    since: Timestamp
    created_at: Timestamp
    attempt: int
    due_at: Timestamp | None = None
    links: list[Link]

    @classmethod
    def of(cls, status: ActionStatus, site: Links) -> Self:
        return cls(
            id=status.action_id,
            name=status.name,
            pack_name=status.pack_name,
            pack_labels=status.pack_labels,
            correlation_id=status.correlation_id,
            flow_name=status.flow_name,
            step_id=status.step_id,
            state=status.state.value,
            since=format_timestamp(status.since),
            created_at=format_timestamp(status.created_at),
            attempt=status.attempt,
            due_at=_written(status.due_at),
            links=[
                site.execution(
                    status.correlation_id, f"{site.base}/swagger#!/flowAudit/getFlowExecution"
                ),
                site.resolution(status.action_id),
            ],
        )


class ActionStatusList(ResponseBody, kw_only=True):
    """The current status of actions, oldest first."""

    actions: list[ActionStatusView]
    links: list[Link]

    @classmethod
    def of(cls, found: Iterable[ActionStatus], site: Links) -> Self:
        links = site.around("/v1/actions", "/v1", "/action")
        return cls(actions=[ActionStatusView.of(status, site) for status in found], links=links)


class DecisionView(ResponseBody, kw_only=True):
    """The reason why a step did or did not run for an event, and the deciding place, if any."""

    flow_name: str
    flow_uuid: str = field(name="flowUUID")
    step_id: str
    step_index: int
    outcome: Literal["ran", "skipped", "failed"]
    reason: Literal["passed", "alreadyRan", "dependsOn", "packLabels", "criteria", "error"]
    detail: str
    values: dict[str, str] = field(default_factory=dict)
    path: str | None = None
    line: int | None = None
    column: int | None = None
    correlation_id: str | None = None
    action_id: str | None = None
    links: list[Link] = field(default_factory=list)

    @classmethod
    def of(cls, decision: Decision, site: Links) -> Self:
        execution = decision.correlation_id
        return cls(
            flow_name=decision.flow_name,
            flow_uuid=decision.flow_uuid,
            step_id=decision.step_id,
            step_index=decision.step_index,
            outcome=decision.outcome,
            reason=decision.reason,
            detail=decision.detail,
            values=decision.values,
            path=decision.path,
            line=decision.line,
            column=decision.column,
            correlation_id=execution,
            action_id=decision.action_id,
            links=[]
            if execution is None
            else [site.execution(execution, f"{site.base}/swagger#!/flowAudit/getFlowExecution")],
        )


class AuditEvent(ResponseBody, kw_only=True):
    """An event with all decisions about it; `actionId` names the action whose result it is.

    `failure` means that the command of that action has failed.
    """

    id: str
    event: str
    pack: PackRefView
    payload: Raw
    created_at: Timestamp | None = None
    received_at: Timestamp
    action_id: str | None = None
    failure: bool = False
    decisions: list[DecisionView]
    links: list[Link]

    @classmethod
    def of(cls, record: EventRecord, site: Links) -> Self:
        event = record.event
        return cls(
            id=event.event_id,
            event=event.name,
            pack=PackRefView.of(event.pack),
            payload=Raw(event.payload),
            created_at=None if event.created_at is None else format_timestamp(event.created_at),
            received_at=format_timestamp(event.received_at),
            action_id=record.action_id,
            failure=record.action_id is not None and has_failed(event),
            decisions=[DecisionView.of(decision, site) for decision in record.decisions],
            links=site.event(event.event_id),
        )


class AuditEventList(ResponseBody, kw_only=True):
    """Events, newest first."""

    events: list[AuditEvent]
    links: list[Link]

    @classmethod
    def of(cls, records: Iterable[EventRecord], site: Links, following: str | None) -> Self:
        links = site.page("/v1/audit/events", "/v1", "/eventAudit", following)
        return cls(events=[AuditEvent.of(record, site) for record in records], links=links)


def _written(at: datetime | None) -> str | None:
    return None if at is None else format_timestamp(at)


def _unless_null(text: bytes) -> Raw | UnsetType:
    return UNSET if text == b"null" else Raw(text)
