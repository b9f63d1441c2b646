"""The evaluation of events: which steps of which flows run, and with which commands.

Pure and deterministic.

Time, seed and datastore are arguments. The same event, flows, execution and `EvaluationContext`
give the same outcome, on which tests in flow files, dry runs, replay and "why did it not run" rely.
The rules are in the docs under "The life of an event".
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Self

import msgspec

from flyteops import template
from flyteops.engine.compiled import CompiledFlow, CompiledStep, FlowIndex, _join, trigger_steps
from flyteops.engine.context import EvaluationContext
from flyteops.engine.join import StepStatus, find_unmet_dependency, why_missed
from flyteops.engine.subscribers import Entry, Subscribers
from flyteops.errors import TemplateError, TemplateTimeError
from flyteops.flow.policy import StepPolicy, first_due_at, schedule_rule
from flyteops.model import (
    FATAL,
    SCHEDULED,
    ActionSnapshot,
    Basis,
    Decision,
    Evaluation,
    Event,
    JsonValue,
    NewAction,
    PackRef,
    Step,
    has_labels,
    pack_id,
)
from flyteops.name import label_problems, name_problems
from flyteops.template import Template, Time, ValueTemplate
from flyteops.template.condition import TRUE
from flyteops.transition import FailAction, NeedsOperator, RetryAction, ScheduleEntry

FALSE = frozenset(["0", "f", "F", "FALSE", "false", "False"])
"""The rendered criteria that count as false: the texts that the original reads as booleans."""

UNFORESEEN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors that a template should never raise; if one does, only its own step fails."""

SHOWN = 200
"""The maximum number of characters of a text in a decision."""

_UNREAD = object()

NOTHING = Evaluation()
"""The outcome of nearly all events."""


def evaluate(event: Event, index: FlowIndex, ctx: EvaluationContext) -> Evaluation:
    """Return the outcome of an event.

    For each flow that listens, it has a new execution if any of the flow's trigger steps passes.
    """
    subscribers = index.subscribers(event)
    return _Evaluator(event, ctx).begin(subscribers).outcome if subscribers else NOTHING


def evaluate_triggers(
    event: Event, flow: CompiledFlow, ctx: EvaluationContext
) -> tuple[Decision, ...]:
    """Return the decisions on the steps with which an event could begin an execution of a flow.

    Computes those that `evaluate` left out, given the seed, time, flow version and datastore items
    of then.
    """
    return _Evaluator(event, ctx).begin_all([(flow, trigger_steps(flow, event))]).outcome.decisions


def evaluate_result(
    event: Event,
    index: FlowIndex,
    flow: CompiledFlow,
    snapshot: ActionSnapshot,
    ctx: EvaluationContext,
) -> Evaluation:
    """Return the outcome of the result of an action.

    New executions as for any event, and the continuation of its own execution. `flow` is the
    version that the execution began with.
    """
    subscribers, waiting = index.subscribers(event), flow.waiting(event)
    if not subscribers and not waiting and not flow.joins:
        return NOTHING
    return _Evaluator(event, ctx).begin(subscribers).resume(flow, waiting, snapshot).outcome


def evaluate_schedule(
    flow: CompiledFlow, step_index: int, due_at: datetime, ctx: EvaluationContext
) -> tuple[Event, Evaluation]:
    """Return the event of a due schedule, and its outcome: an execution of this flow alone."""
    prepared = flow.steps[step_index]
    named = {"flow": flow.version.flow.name, "step": prepared.step.id, "scheduledAt": due_at}
    event = Event(
        event_id=ctx.new_id(),
        name=SCHEDULED.name,
        pack=PackRef(SCHEDULED.pack_name, SCHEDULED.pack_name),
        payload=msgspec.json.encode(named),
        received_at=ctx.now,
        created_at=due_at,
    )
    return event, _Evaluator(event, ctx).begin_all([(flow, (prepared,))]).outcome


def schedule_entries(flow: CompiledFlow, now: datetime) -> tuple[ScheduleEntry, ...]:
    """Return the first due times of the steps of a flow that have a schedule."""
    return tuple(
        ScheduleEntry(
            prepared.position,
            prepared.step.id,
            schedule_rule(prepared.step.schedule),
            first_due_at(prepared.step.schedule, now),
        )
        for prepared in flow.steps
        if prepared.step.schedule is not None and prepared.fault is None
    )


def on_timeout(
    index: FlowIndex, flow: CompiledFlow | None, snapshot: ActionSnapshot, ctx: EvaluationContext
) -> RetryAction | NeedsOperator | FailAction:
    """Decide the fate of an action whose pack was silent for too long.

    `flow` is its version, None if that no longer exists.
    """
    policy = StepPolicy() if flow is None else flow.steps[snapshot.step_index].policy
    if snapshot.attempt < policy.attempts:
        return RetryAction(ctx.now + policy.retry_delay(snapshot.attempt, ctx.jitter()))
    if policy.asks_operator:
        return NeedsOperator()
    event = _loss(snapshot, ctx)
    outcome = (
        evaluate(event, index, ctx)
        if flow is None
        else evaluate_result(event, index, flow, snapshot, ctx)
    )
    return FailAction(event, outcome)


def _loss(snapshot: ActionSnapshot, ctx: EvaluationContext) -> Event:
    """Return the result of a lost action, as its pack would have sent it."""
    labels = snapshot.pack_labels
    times = "once" if snapshot.attempt == 1 else f"{snapshot.attempt} times"
    payload = {
        "reason": "lost",
        "message": (
            f"{snapshot.name!r} was handed out {times}, and no pack {snapshot.pack_name!r} reported"
            " a result in time"
        ),
        "actionId": snapshot.action_id,
        "attempts": snapshot.attempt,
    }
    return Event(
        event_id=ctx.new_id(),
        name=FATAL,
        pack=PackRef(pack_id(snapshot.pack_name, labels), snapshot.pack_name, dict(labels)),
        payload=msgspec.json.encode(payload),
        received_at=ctx.now,
        failure=True,
    )


class _Skipped(Exception):  # noqa: N818 - not an error: a step that is not meant to run
    def __init__(self, reason: str, detail: str, values: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.values = values or {}


class _FailedError(Exception):
    def __init__(
        self, path: str, error: TemplateError, values: dict[str, str] | None = None
    ) -> None:
        super().__init__(path)
        self.path = path
        self.error = error
        self.values = values or {}


class _Parent:
    """The parent of a new action: an execution, and the context that is carried over from it.

    One that begins has no id before a step runs, so that the ids of others do not depend on it.
    """

    def __init__(
        self, correlation_id: str | None = None, context: Mapping[str, str] | None = None
    ) -> None:
        self.begins = correlation_id is None
        self.correlation_id = correlation_id
        self.context = context or {}

    def id(self, ctx: EvaluationContext) -> str:
        """Return the id of the execution."""
        if self.correlation_id is None:
            self.correlation_id = ctx.new_id()
        return self.correlation_id


class _Evaluator:
    """The evaluation of one event: its payload is parsed once, and only if a step reads it.

    `_not_again` are the places of decisions to skip that cannot be computed again from a basis.
    """

    def __init__(self, event: Event, ctx: EvaluationContext) -> None:
        ctx.begin_event()
        self._event = event
        self._ctx = ctx
        self._event_value: object = None
        self._payload: JsonValue = _UNREAD
        self._decisions: list[Decision] = []
        self._actions: list[NewAction] = []
        self._basis: Basis | None = None
        self._not_again: set[int] = set()

    @property
    def outcome(self) -> Evaluation:
        return Evaluation(tuple(self._decisions), tuple(self._actions), self._basis)

    def _read_payload(self) -> JsonValue:
        if self._payload is _UNREAD:
            self._payload = msgspec.json.decode(self._event.payload)
        return self._payload

    def _scope(self, context: Mapping[str, str]) -> dict[str, object]:
        if self._event_value is None:
            self._event_value = self._make_event_value()
        return {"Event": self._event_value, "Context": context}

    def _make_event_value(self) -> object:
        event = self._event
        return template.event_value(
            name=event.name,
            payload=self._read_payload(),
            pack_id=event.pack.id,
            pack_name=event.pack.name,
            pack_labels=event.pack.labels,
            created_at=event.received_at
            if event.created_at is None
            else Time(event.created_at, event.created_nanosecond),
            received_at=event.received_at,
        )

    def begin(self, subscribers: Subscribers) -> Self:
        """Try the steps that may run; leave out the decisions that can be computed again."""
        ctx = self._ctx
        if ctx.basis_number is None or not subscribers:
            return self.begin_all(subscribers.entries)
        candidates = subscribers.candidates(self._event, self._read_payload, ctx.monotonic)
        self.begin_all(candidates)
        kept = [
            each
            for place, each in enumerate(self._decisions)
            if each.outcome != "skipped" or place in self._not_again
        ]
        if len(kept) < subscribers.step_count:
            number = ctx.basis_number(subscribers, subscribers.item_keys)
            self._decisions = kept
            self._basis = Basis(
                number,
                ctx.seed,
                len(kept),
                self._event.created_nanosecond,
                ctx.allowance.body_length,
            )
        return self

    def begin_all(self, entries: Iterable[Entry]) -> Self:
        """Try steps with which the event could begin an execution of their flow."""
        for flow, steps in entries:
            parent = _Parent()
            for prepared in steps:
                self._decisions.append(self._try(flow, prepared, parent))
        return self

    def resume(
        self, flow: CompiledFlow, waiting: Sequence[CompiledStep], snapshot: ActionSnapshot
    ) -> Self:
        parent = _Parent(snapshot.correlation_id, snapshot.context)
        status = StepStatus.of(snapshot)
        made = len(self._actions)
        held: list[int] = []
        name, uuid, execution = flow.version.flow.name, flow.version.uuid, parent.correlation_id
        for prepared in waiting:
            step = prepared.step
            unmet = find_unmet_dependency(step, prepared.dependencies, status)
            if unmet is None:
                decision = self._try(flow, prepared, parent)
            else:
                reason, detail = unmet
                if reason == "dependsOn":
                    held.append(len(self._decisions))
                # By position, as a long flow makes hundreds of these for each result.
                decision = Decision(
                    name,
                    uuid,
                    step.id,
                    prepared.position,
                    "skipped",
                    reason,
                    detail,
                    correlation_id=execution,
                )
            self._decisions.append(decision)
        is_over = len(self._actions) == made and status.is_idle
        if is_over:
            for place in held:
                self._decisions[place] = _hopeless(self._decisions[place])
        self._report_missed_joins(flow, waiting, snapshot, status, is_over=is_over)
        return self

    def _report_missed_joins(
        self,
        flow: CompiledFlow,
        tried: Sequence[CompiledStep],
        snapshot: ActionSnapshot,
        status: "StepStatus",
        *,
        is_over: bool,
    ) -> None:
        """Decide about joins that this event does not run.

        Those that it completes, and all that have begun if it ends the execution.
        """
        for prepared in flow.joins:
            if any(each is prepared for each in tried):
                continue
            detail = why_missed(
                prepared.step, snapshot.step_id, self._event, status, is_over=is_over
            )
            if detail is not None:
                decision = _decision(
                    flow,
                    prepared,
                    "skipped",
                    "dependsOn",
                    detail,
                    correlation_id=snapshot.correlation_id,
                )
                self._decisions.append(_hopeless(decision) if is_over else decision)

    def _try(self, flow: CompiledFlow, prepared: CompiledStep, parent: _Parent) -> Decision:
        try:
            step = f"{flow.version.uuid} {prepared.position} {parent.begins:d}".encode()
            self._ctx.begin_step(step, parent.context)
            action, detail, values = self._pass(flow, prepared, parent)
        except _Skipped as skipped:
            if prepared.item_keys is None and self._ctx.has_read_items:
                self._not_again.add(len(self._decisions))
            return _decision(
                flow, prepared, "skipped", skipped.reason, skipped.detail, values=skipped.values
            )
        except _FailedError as failed:
            if isinstance(failed.error, TemplateTimeError):
                self._ctx.late_steps.add(prepared.position)
            return _failure(flow, prepared, failed)
        except TemplateError as error:
            return _failure(flow, prepared, _FailedError("", error))
        except UNFORESEEN as error:
            return _failure(
                flow, prepared, _FailedError("", TemplateError(f"{type(error).__name__}: {error}"))
            )
        self._ctx.end_step()
        self._actions.append(action)
        return Decision(
            flow_name=action.flow_name,
            flow_uuid=action.flow_uuid,
            step_id=action.step_id,
            step_index=action.step_index,
            outcome="ran",
            reason="passed",
            detail=detail,
            values=values,
            correlation_id=action.correlation_id,
            action_id=action.action_id,
        )

    def _pass(
        self, flow: CompiledFlow, prepared: CompiledStep, parent: _Parent
    ) -> tuple[NewAction, str, dict[str, str]]:
        if prepared.fault is not None:
            raise _FailedError(*prepared.fault)
        scope = self._scope(parent.context)
        context = {**parent.context, **self._render_all("context", prepared.context, scope)}
        scope["Context"] = context
        if prepared.event_labels:
            self._check_labels(self._render_all("event.packLabels", prepared.event_labels, scope))
        detail, values = self._check_criteria(prepared.criteria, scope)
        command = prepared.step.command
        labels = self._render_all("command.packLabels", prepared.command_labels, scope)
        _check_names(prepared.step, labels)
        command_input = self._render_input(prepared.command_input, scope)
        action = NewAction(
            correlation_id=parent.id(self._ctx),
            action_id=self._ctx.new_id(),
            flow_name=flow.version.flow.name,
            flow_uuid=flow.version.uuid,
            step_id=prepared.step.id,
            step_index=prepared.position,
            name=command.name,
            pack_name=command.pack_name,
            pack_labels=labels,
            input=command_input,
            context=context,
            not_before=self._ctx.now + prepared.policy.delay if prepared.policy.delay else None,
            timeout=prepared.policy.timeout,
        )
        return action, detail, values

    def _check_labels(self, wanted: Mapping[str, str]) -> None:
        sender = self._event.pack
        if not has_labels(sender.labels, wanted):
            missing = ", ".join(
                f"{key}={value}" for key, value in wanted.items() if sender.labels.get(key) != value
            )
            values = {f"event.packLabels.{key}": _quoted(value) for key, value in wanted.items()}
            values |= {
                f"Event.Pack.Labels.{key}": _quoted(value) for key, value in sender.labels.items()
            }
            raise _Skipped(
                "packLabels",
                f"the event came from pack {sender.id!r}, which does not have {missing}",
                values,
            )

    def _check_criteria(
        self, criteria: Template | None, scope: Mapping[str, object]
    ) -> tuple[str, dict[str, str]]:
        if criteria is None:
            return "there are no criteria", {}
        text = self._render("criteria", criteria, scope)
        values = criteria.values(scope, self._ctx.runtime)
        if text in TRUE:
            return "the criteria are true", values
        if text in FALSE:
            raise _Skipped("criteria", "the criteria are false", values)
        raise _FailedError(
            "criteria",
            TemplateError(f"the criteria gave {_quoted(text)}, which is neither true nor false"),
            values,
        )

    def _render_input(
        self, command_input: ValueTemplate | None, scope: Mapping[str, object]
    ) -> bytes:
        if command_input is None:
            return b"null"
        self._ctx.is_input = True
        try:
            return msgspec.json.encode(command_input.resolve(scope, self._ctx.runtime))
        except TemplateError as error:
            raise _FailedError(_join("command.input", error), error) from error
        finally:
            self._ctx.is_input = False

    def _render_all(
        self, path: str, templates: Mapping[str, Template], scope: Mapping[str, object]
    ) -> dict[str, str]:
        if not templates:
            return {}
        return {
            key: self._render(f"{path}.{key}", compiled, scope)
            for key, compiled in templates.items()
        }

    def _render(self, path: str, compiled: Template, scope: Mapping[str, object]) -> str:
        try:
            return compiled.render(scope, self._ctx.runtime)
        except TemplateError as error:
            raise _FailedError(path, error, compiled.values(scope, self._ctx.runtime)) from error


def _check_names(step: Step, labels: Mapping[str, str]) -> None:
    """Raise unless every store accepts the names of an action.

    So this step fails, and not the event.
    """
    names = {
        "id": step.id,
        "command.name": step.command.name,
        "command.packName": step.command.pack_name,
    }
    faults_of_labels = label_problems("command.packLabels", labels) if labels else ()
    for problem in chain(name_problems(names), faults_of_labels):
        raise _FailedError(problem.path, TemplateError(problem.message))


def _hopeless(decision: Decision) -> Decision:
    detail = f"{decision.detail}; it can no longer run in this execution, which has no open actions"
    return msgspec.structs.replace(decision, detail=detail)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text[:SHOWN]).decode()


def _decision(
    flow: CompiledFlow,
    prepared: CompiledStep,
    outcome: str,
    reason: str,
    detail: str,
    **more: object,
) -> Decision:
    return Decision(
        flow_name=flow.version.flow.name,
        flow_uuid=flow.version.uuid,
        step_id=prepared.step.id,
        step_index=prepared.position,
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,  # type: ignore[arg-type]
        detail=detail,
        **more,  # type: ignore[arg-type]
    )


def _failure(flow: CompiledFlow, prepared: CompiledStep, failed: _FailedError) -> Decision:
    place = {"path": failed.path, "line": failed.error.line, "column": failed.error.column}
    return _decision(
        flow, prepared, "failed", "error", failed.error.message, values=failed.values, **place
    )
