"""The run of one step: its context, then its command, wait, items or rounds, until its result."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Raw

from flyteops.document import decode_json
from flyteops.engine.edition2.document import EMPTY, EventHead, StepRecord, raw
from flyteops.engine.edition2.draft import Draft, context_of
from flyteops.engine.edition2.group import make_items, make_round
from flyteops.engine.edition2.outcome import NewTimer
from flyteops.engine.edition2.plan import PlannedStep
from flyteops.engine.edition2.production import make_action
from flyteops.engine.edition2.rendering import StepRenderer
from flyteops.engine.edition2.waiting import begin_wait
from flyteops.errors import TemplateError
from flyteops.model import JsonValue


def new_run(draft: Draft, step: PlannedStep, event: EventHead, context: Raw) -> StepRecord:
    """Record that a step begins to run; from now on it cannot run again."""
    record = StepRecord(number=draft.number(), started_at=draft.now, event=event, context=context)
    draft.steps[step.id] = record
    draft.readiness.pop(step.id, None)
    draft.open += 1
    return record


def run_step(draft: Draft, step: PlannedStep, event: EventHead, context: Raw) -> None:
    """Run a step whose criteria hold: `with` of a wait, or `context` and then the command.

    A failing template gives the result `Error` (FAILED).
    """
    new_run(draft, step, event, context)
    try:
        if step.key is not None:
            begin_wait(draft, step)
            draft.decide(event.event_id, step, "ran", "waiting", "it waits for an event")
            return
        perform(draft, step)
    except TemplateError as error:
        fail_step(draft, step, error)
        return
    action_id = next(
        (each.action_id for each in reversed(draft.actions) if each.step_id == step.id), None
    )
    draft.decide(event.event_id, step, "ran", "passed", "", action_id=action_id)


def perform(draft: Draft, step: PlannedStep) -> None:
    """Render the context, then begin the command, items, rounds or the delay of a gate."""
    record = draft.steps[step.id]
    event = _event(record)
    renderer = draft.renderer(step.id, event, context_of(record))
    if step.context is not None:
        added = renderer.value(step.context)
        context = {**decode_json(bytes(record.context)), **added}
        draft.change(step.id, context=raw(context))
        renderer.scope["Context"] = context
    not_before = None if step.delay is None else renderer.due(step.delay, "delay")
    timeout = None
    if step.timeout is not None and step.key is None:
        timeout = renderer.duration(step.timeout, "timeout")
    draft.change(step.id, not_before=not_before)
    _begin(draft, step, renderer, not_before)
    if timeout is not None and draft.steps[step.id].state is None:
        draft.change(step.id, has_timer=True)
        draft.timers.append(NewTimer("stepTimeout", step.id, draft.now + timeout))


def _begin(
    draft: Draft, step: PlannedStep, renderer: StepRenderer, not_before: datetime | None
) -> None:
    if step.command is None:
        _pass_gate(draft, step, not_before)
    elif step.items is not None:
        make_items(draft, step, renderer.value(step.items))
    elif step.repeat_while is not None:
        make_round(draft, step, None)
    else:
        make_action(draft, step)


def _pass_gate(draft: Draft, step: PlannedStep, not_before: datetime | None) -> None:
    """Give a gate its result: the event that ran it, which counts as SUCCEEDED."""
    if not_before is not None and not_before > draft.now:
        draft.timers.append(NewTimer("delay", step.id, not_before))
        draft.change(step.id, has_timer=True)
    else:
        end_gate(draft, step)


def end_gate(draft: Draft, step: PlannedStep) -> None:
    """Give a gate its result."""
    draft.finish(step.id, _event(draft.steps[step.id]), "SUCCEEDED")


def _event(record: StepRecord) -> EventHead:
    assert record.event is not None  # noqa: S101 - a step without a result has it
    return record.event


def fail_step(draft: Draft, step: PlannedStep, error: TemplateError) -> None:
    """Give a step whose templates failed the result `Error`; its actions end."""
    event = _event(draft.steps[step.id])
    result = draft.record(step.id, "Error", {"message": error.message}, "FAILED")
    draft.finish(step.id, result, "FAILED")
    place = {"path": error.path, "line": error.line, "column": error.column}
    draft.decide(event.event_id, step, "failed", "error", error.message, **place)


def time_out(draft: Draft, step: PlannedStep, message: str) -> None:
    """Give a step the result `TimedOut`; its actions end."""
    result = draft.record(step.id, "TimedOut", {"message": message}, "FAILED")
    draft.finish(step.id, result, "FAILED")
    draft.decide(result.event_id, step, "failed", "timedOut", message)


def merged_context(draft: Draft, step: PlannedStep) -> Raw:
    """Return the contexts of the steps depended on, in the order of their results: the last wins.

    Those whose result was not continued yet give nothing.
    """
    records = []
    for need in step.needs:
        step_id = draft.plan.steps[need].id
        record = draft.steps.get(step_id)
        if record is not None and record.state is not None and step_id not in draft.uncontinued:
            records.append(record)
    return _merged(records)


def _merged(records: Sequence[StepRecord]) -> Raw:
    filled = [each for each in records if each.context != EMPTY]
    if len(filled) < 2:
        return filled[0].context if filled else EMPTY
    merged: dict[str, JsonValue] = {}
    for record in sorted(filled, key=lambda each: each.order):
        found: Mapping[str, JsonValue] = decode_json(bytes(record.context))
        merged.update(found)
    return raw(merged)
