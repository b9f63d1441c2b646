"""Triggers: which steps of a flow can begin an execution with an event."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flyteops.document import decode_json
from flyteops.engine.context import EvaluationContext
from flyteops.engine.edition2.document import EventHead, Occurrence
from flyteops.engine.edition2.outcome import EventDecision
from flyteops.engine.edition2.pattern import fitting, labels_fit
from flyteops.engine.edition2.plan import Plan, PlannedPattern, PlannedStep
from flyteops.engine.edition2.rendering import Key, StepRenderer
from flyteops.engine.edition2.view import VarsView, event_view
from flyteops.errors import TemplateError
from flyteops.model import SERVER, Decision


class PassedTriggers(NamedTuple):
    """The triggers of a flow that an event passes, and the decisions on the others."""

    steps: tuple[str, ...]
    decisions: tuple[EventDecision, ...]


def passing_triggers(
    event: Occurrence, plan: Plan, ctx: EvaluationContext, *, due_step: str | None = None
) -> PassedTriggers:
    """Try the triggers of a flow: pattern, own results, labels, criteria.

    Events that fit no pattern, such as nearly all, get no decision. A step with a schedule passes
    with its own event alone, when it is `due_step`.
    """
    ctx.begin_event()
    head = EventHead.of(event.event)
    passed: list[str] = []
    decisions: list[EventDecision] = []
    for step, patterns in _matching(event, head, plan, due_step):
        refusal = _refusal(event, plan, step, patterns, ctx)
        if refusal is None:
            passed.append(step.id)
        else:
            decisions.append(EventDecision(head.event_id, _decision(plan, step, *refusal)))
    return PassedTriggers(tuple(passed), tuple(decisions))


def _matching(
    event: Occurrence, head: EventHead, plan: Plan, due_step: str | None
) -> Iterator[tuple[PlannedStep, list[PlannedPattern]]]:
    """Yield the triggers with a pattern that an event fits, labels aside; a due one has none."""
    for position in plan.triggers:
        step = plan.steps[position]
        if due_step is not None:
            if step.id == due_step:
                yield step, []
        elif step.step.schedule is None and (patterns := list(fitting(step, head, event.state))):
            yield step, patterns


def _refusal(
    event: Occurrence,
    plan: Plan,
    step: PlannedStep,
    patterns: Sequence[PlannedPattern],
    ctx: EvaluationContext,
) -> tuple[str, str, str] | None:
    """Return outcome, reason and words why a trigger does not pass, None if it does."""
    if _is_own(event, plan):
        return "skipped", "ownResult", "the event comes from this flow"
    renderer = _renderer(event, plan, step.id, ctx)
    try:
        labels = event.event.pack.labels
        if patterns and not any(labels_fit(each, labels, renderer) for each in patterns):
            return "skipped", "packLabels", "the labels of the sender do not match"
        if not renderer.truth(step.criteria, "criteria"):
            return "skipped", "criteria", "the criteria are false"
    except TemplateError as error:
        return "failed", "error", error.message
    return None


def _renderer(event: Occurrence, plan: Plan, step_id: str, ctx: EvaluationContext) -> StepRenderer:
    head = EventHead.of(event.event)
    key = "\0".join([plan.version.uuid, step_id, head.event_id])
    renderer = StepRenderer(ctx, key)
    renderer.scope.update(
        Event=event_view(head, lambda: event.event.payload), Vars=VarsView(plan, renderer)
    )
    return renderer


def _is_own(event: Occurrence, plan: Plan) -> bool:
    """Return whether an event is a result of a flow itself, or a `StepFailed` about it."""
    if event.step_id is not None:
        return event.flow_name == plan.name
    head = event.event
    if (head.pack.name, head.name) != (SERVER, "StepFailed"):
        return False
    about = decode_json(head.payload)
    return isinstance(about, dict) and about.get("flow") == plan.name


def _decision(plan: Plan, step: PlannedStep, outcome: str, reason: str, detail: str) -> Decision:
    return Decision(
        flow_name=plan.name,
        flow_uuid=plan.version.uuid,
        step_id=step.id,
        step_index=step.position,
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,  # type: ignore[arg-type]
        detail=detail,
    )


def limit_keys(event: Occurrence, plan: Plan, ctx: EvaluationContext) -> dict[str, Key]:
    """Return the keys of an event by limit; without a `key`, one serves the flow.

    Raise `TemplateError`, with which `start_failed` begins an execution that has FAILED.
    """
    renderer = _renderer(event, plan, "", ctx)
    return {
        name: "" if key is None else renderer.key(key, f"{name}.key")
        for name, key in plan.limit_keys.items()
    }
