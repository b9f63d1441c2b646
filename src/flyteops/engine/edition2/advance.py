"""The verbs of the engine: begin an execution, and apply one change to it."""

from collections.abc import Collection, Sequence
from functools import singledispatch
from typing import NamedTuple

from flyteops.engine.edition2.advancecontext import AdvanceContext
from flyteops.engine.edition2.change import (
    ActionResult,
    Cancelled,
    Change,
    CommandExpired,
    CommandLost,
    DelayOver,
    EventArrived,
    ExecutionStopped,
    FlowTimeout,
    StepTimeout,
    TaskDone,
)
from flyteops.engine.edition2.continuation import continue_execution
from flyteops.engine.edition2.document import (
    EMPTY,
    Caller,
    EventHead,
    ExecutionDocument,
    Occurrence,
    StepRecord,
)
from flyteops.engine.edition2.draft import Draft, context_of
from flyteops.engine.edition2.ending import end, report
from flyteops.engine.edition2.outcome import Advance, NewTimer
from flyteops.engine.edition2.pattern import fitting, labels_fit
from flyteops.engine.edition2.plan import Plan, PlannedStep
from flyteops.engine.edition2.readiness import Settling
from flyteops.engine.edition2.result import apply_result, expire, lose, stop
from flyteops.engine.edition2.running import (
    end_gate,
    fail_step,
    new_run,
    perform,
    run_step,
    time_out,
)
from flyteops.errors import TemplateError


class Beginning(NamedTuple):
    """The circumstances in which an execution begins, beside its event.

    `execution_id` is that of an execution that was queued. It is one deeper than its event, unless
    a person begins a chain with a `depth`. `callers` wait for its end; it may repeat another one.
    """

    execution_id: str | None = None
    depth: int | None = None
    callers: tuple[Caller, ...] = ()
    rerun_of: str | None = None


ORDINARY = Beginning()


def start(
    event: Occurrence,
    plan: Plan,
    steps: Collection[str],
    ctx: AdvanceContext,
    beginning: Beginning = ORDINARY,
) -> Advance:
    """Begin an execution in which the triggers that passed run, in the order of the file.

    A flow timeout that cannot be rendered fails all of them.
    """
    draft = _begun(event, plan, ctx, beginning)
    head = draft.document.trigger
    triggers = _unpassed_triggers_end(draft, steps)
    try:
        if plan.timeout is not None:
            renderer = draft.renderer("", head, {}, "timeout")
            length = renderer.duration(plan.timeout, "timeout")
            draft.timers.append(NewTimer("flowTimeout", "", draft.now + length))
    except TemplateError as error:
        return _failed(draft, triggers, error)
    for step in triggers:
        run_step(draft, step, head, EMPTY)
    continue_execution(draft)
    return draft.outcome()


def start_failed(
    event: Occurrence, plan: Plan, steps: Collection[str], error: TemplateError, ctx: AdvanceContext
) -> Advance:
    """Begin an execution whose triggers fail at once, as the key of a limit could not be read."""
    draft = _begun(event, plan, ctx, ORDINARY)
    return _failed(draft, _unpassed_triggers_end(draft, steps), error)


def _begun(event: Occurrence, plan: Plan, ctx: AdvanceContext, beginning: Beginning) -> Draft:
    document = ExecutionDocument(
        execution_id=beginning.execution_id or ctx.evaluation.new_id(),
        flow_name=plan.name,
        flow_uuid=plan.version.uuid,
        trigger=EventHead.of(event.event),
        depth=event.depth + 1 if beginning.depth is None else beginning.depth,
        started_at=ctx.evaluation.now,
        after_failure=event.after_failure,
        callers=beginning.callers,
        rerun_of=beginning.rerun_of,
    )
    draft = Draft(document, plan, ctx)
    draft.learn(event.event)
    return draft


def _unpassed_triggers_end(draft: Draft, passed: Collection[str]) -> list[PlannedStep]:
    """Note that the other triggers never run; return those that passed."""
    triggers = [draft.plan.steps[each] for each in draft.plan.triggers]
    settling = Settling(draft)
    for step in triggers:
        if step.id not in passed:
            settling.end(step)
    return [step for step in triggers if step.id in passed]


def _failed(draft: Draft, triggers: Sequence[PlannedStep], error: TemplateError) -> Advance:
    for step in triggers:
        new_run(draft, step, draft.document.trigger, EMPTY)
        fail_step(draft, step, error)
    continue_execution(draft)
    return draft.outcome()


def advance(
    document: ExecutionDocument, plan: Plan, change: Change, ctx: AdvanceContext
) -> Advance:
    """Apply a change to an execution and return all that follows.

    A change that comes too late has no effect but a decision at the most. The arguments stay as
    they are.
    """
    draft = Draft(document, plan, ctx)
    draft.is_accepted = _apply(change, draft)
    if not draft.document.is_over:
        continue_execution(draft)
    return draft.outcome()


@singledispatch
def _apply(change: object, draft: Draft) -> bool:
    """Apply a change; return false if it came too late."""
    raise TypeError(f"{type(change).__name__} is not a change of an execution")


_apply.register(TaskDone, lambda change, draft: True)
_apply.register(ActionResult, lambda change, draft: apply_result(draft, change))
_apply.register(CommandExpired, lambda change, draft: expire(draft, change))
_apply.register(CommandLost, lambda change, draft: lose(draft, change))
_apply.register(ExecutionStopped, lambda change, draft: stop(draft, change))


@_apply.register
def _(change: Cancelled, draft: Draft) -> bool:
    if draft.document.is_over:
        return False
    end(draft, "CANCELLED")
    return True


@_apply.register
def _(change: FlowTimeout, draft: Draft) -> bool:
    if draft.document.is_over:
        return False
    message = "it ran longer than its timeout"
    draft.fields["message"] = message
    end(draft, "FAILED")
    report(draft, "flowTimeout", message=message)
    return True


def _open_record(draft: Draft, step_id: str) -> StepRecord | None:
    record = draft.steps.get(step_id)
    is_open = record is not None and record.state is None and not draft.document.is_over
    return record if is_open else None


@_apply.register
def _(change: DelayOver, draft: Draft) -> bool:
    if _open_record(draft, change.step_id) is None:
        return False
    end_gate(draft, draft.planned(change.step_id))
    return True


@_apply.register
def _(change: StepTimeout, draft: Draft) -> bool:
    record = _open_record(draft, change.step_id)
    if record is None or (change.is_wait and not record.is_waiting):
        return False
    message = "no event came in time" if change.is_wait else "it took longer than its timeout"
    time_out(draft, draft.planned(change.step_id), message)
    return True


@_apply.register
def _(change: EventArrived, draft: Draft) -> bool:
    """Carry on a wait; while its criteria are false or fail, it goes on.

    The execution takes over a greater depth.
    """
    step, event = draft.planned(change.step_id), change.event
    head = draft.learn(event.event)
    refusal = _refusal(draft, step, event, head)
    if refusal is not None:
        outcome = "failed" if refusal[0] == "error" else "skipped"
        draft.decide(head.event_id, step, outcome, *refusal)
        return False
    draft.resumed.append(step.id)
    draft.change(step.id, is_waiting=False, event=head)
    draft.fields["depth"] = max(draft.document.depth, event.depth)
    draft.decide(head.event_id, step, "ran", "resumed", "the event ended the wait")
    try:
        perform(draft, step)
    except TemplateError as error:
        fail_step(draft, step, error)
    return True


def _refusal(
    draft: Draft, step: PlannedStep, event: Occurrence, head: EventHead
) -> tuple[str, str] | None:
    """Return the reason and its words why an event does not end a wait, None if it does."""
    state = draft.document.state
    if draft.document.is_over:
        return "cancelled" if state == "CANCELLED" else "ended", f"the execution is {state}"
    record = draft.steps.get(step.id)
    if record is None or not record.is_waiting:
        return "alreadyRan", "the wait is over"
    renderer = draft.renderer(step.id, head, context_of(record), "criteria")
    try:
        patterns = fitting(step, head, event.state)
        if not any(labels_fit(each, head.pack.labels, renderer) for each in patterns):
            return "packLabels", "the labels of the sender do not match"
        if not renderer.truth(step.criteria, "criteria"):
            return "criteria", "the criteria are false; the wait goes on"
    except TemplateError as error:
        return "error", f"{error.message}; the wait goes on"
    return None
