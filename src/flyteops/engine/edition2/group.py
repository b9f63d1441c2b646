"""Steps with several actions and one result: `forEach` and `repeat`.

Items and outcomes are attachments, so that the document stays small. Each outcome is written once
and all are read once, when the step completes.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from flyteops.definition import MAX_ITEMS, ForEach, StepState
from flyteops.document import decode_json
from flyteops.engine.edition2.change import OpenAction
from flyteops.engine.edition2.document import GroupState, Occurrence, raw
from flyteops.engine.edition2.draft import Draft, context_of
from flyteops.engine.edition2.plan import PlannedStep
from flyteops.engine.edition2.production import make_action
from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.model import JsonValue

CHUNK = 100
"""The number of items in an attachment."""


def make_items(draft: Draft, step: PlannedStep, items: JsonValue) -> None:
    """Begin a `forEach`: keep the items, and make as many actions as may be open."""
    if not isinstance(items, list):
        raise TemplateRenderError(f"forEach.in must give a list, not {items!r:.80}")
    if len(items) > MAX_ITEMS:
        raise TemplateRenderError(f"forEach.in gives {len(items)} items; at most {MAX_ITEMS}")
    for first in range(0, len(items), CHUNK):
        draft.attach(step.id, _chunk_key(step, first), items[first : first + CHUNK])
    draft.change(step.id, group=GroupState(total=len(items)))
    _go_on(draft, step)


def item_of(draft: Draft, step: PlannedStep, index: int) -> JsonValue:
    """Return an item of a `forEach`, null for a round of `repeat`."""
    if step.items is None:
        return None
    return draft.attached(_chunk_key(step, index))[index % CHUNK]


def _chunk_key(step: PlannedStep, index: int) -> str:
    return f"items/{step.id}/{index // CHUNK}"


def _outcome_key(step: PlannedStep, index: int) -> str:
    return f"outcomes/{step.id}/{index}"


def _group(draft: Draft, step: PlannedStep) -> GroupState:
    group = draft.steps[step.id].group
    assert group is not None  # noqa: S101 - it is an open step with several actions
    return group


def _go_on(draft: Draft, step: PlannedStep) -> None:
    """Make as many actions as may be open, or complete the step after the last.

    An item whose input cannot be rendered has failed with `Error`.
    """
    for_each = step.step.for_each
    assert for_each is not None  # noqa: S101 - for the type checker
    while _has_next(draft, step, for_each):
        group = _group(draft, step)
        index, item = group.made, item_of(draft, step, group.made)
        draft.change(step.id, group=msgspec.structs.replace(group, made=index + 1))
        try:
            make_action(draft, step, index=index, item=item)
        except TemplateError as error:
            payload = raw({"message": error.message})
            _note(draft, step, _Outcome(index, raw(item), "FAILED", "Error", payload))
    if not draft.steps[step.id].open:
        group = _group(draft, step)
        _complete(draft, step, group.total, failed=group.failed > 0)


def _has_next(draft: Draft, step: PlannedStep, for_each: ForEach) -> bool:
    record, group = draft.steps[step.id], _group(draft, step)
    is_stopped = for_each.on_failure == "stop" and group.failed > 0
    return group.made < group.total and record.open < for_each.parallel and not is_stopped


def end_action(
    draft: Draft, step: PlannedStep, action: OpenAction, result: Occurrence, state: StepState
) -> None:
    """Go on with a step of which one action has its last result."""
    assert action.index is not None  # noqa: S101 - it is one of several
    record = draft.steps[step.id]
    draft.change(step.id, open=record.open - 1)
    event = result.event
    item, payload = raw(item_of(draft, step, action.index)), msgspec.Raw(event.payload)
    _note(draft, step, _Outcome(action.index, item, state, event.name, payload))
    if step.items is not None:
        _go_on(draft, step)
    else:
        _end_round(draft, step, action, result, state)


def _note(draft: Draft, step: PlannedStep, outcome: "_Outcome") -> None:
    """Keep the outcome of an item or of a round."""
    draft.attach(step.id, _outcome_key(step, outcome.index), outcome)
    group = _group(draft, step)
    field = "succeeded" if outcome.state == "SUCCEEDED" else "failed"
    changed = msgspec.structs.replace(group, **{field: getattr(group, field) + 1})
    draft.change(step.id, group=changed)


# ----------------------------------------------------------------------------------------- repeat


def make_round(
    draft: Draft, step: PlannedStep, previous: object, not_before: datetime | None = None
) -> None:
    """Make the next round of a `repeat`; `previous` is the last one, None before the first."""
    group = draft.steps[step.id].group or GroupState()
    made = group.made + 1
    if not_before is not None:
        draft.change(step.id, not_before=not_before)
    draft.change(step.id, group=msgspec.structs.replace(group, made=made, total=made))
    make_action(draft, step, index=group.made, previous=previous)


def _end_round(
    draft: Draft, step: PlannedStep, action: OpenAction, result: Occurrence, state: StepState
) -> None:
    """Make the next round of a `repeat`, or complete the step.

    A failure ends it, and so do a failing `while` and the maximum of rounds, which are failures.
    """
    repeat, made = step.step.repeat, _group(draft, step).finished
    assert repeat is not None  # noqa: S101 - for the type checker
    if state == "FAILED":
        _complete(draft, step, made, failed=True)
        return
    try:
        is_again = _continues(draft, step, action, result)
        if is_again and made < repeat.max:
            _next_round(draft, step, action, result, state)
            return
    except TemplateError as error:
        _complete(draft, step, made, failed=True, message=error.message)
        return
    message = f"the maximum of {repeat.max} rounds was reached" if is_again else None
    _complete(draft, step, made, failed=is_again, message=message)


def _continues(draft: Draft, step: PlannedStep, action: OpenAction, result: Occurrence) -> bool:
    assert step.repeat_while is not None  # noqa: S101 - for the type checker
    head = draft.learn(result.event)
    context = context_of(draft.steps[step.id])
    renderer = draft.renderer(step.id, head, context, "while", action.index)
    return renderer.truth(step.repeat_while, "repeat.while")


def _next_round(
    draft: Draft, step: PlannedStep, action: OpenAction, result: Occurrence, state: StepState
) -> None:
    at = draft.now
    if step.repeat_delay is not None:
        head = draft.learn(result.event)
        context = context_of(draft.steps[step.id])
        renderer = draft.renderer(step.id, head, context, "delay", action.index)
        at += renderer.duration(step.repeat_delay, "repeat.delay")
    event = result.event
    previous = {
        "Payload": decode_json(event.payload),
        "Event": event.name,
        "State": state,
        "Input": decode_json(action.input),
        "StartedAt": action.created_at,
        "FinishedAt": draft.now,
    }
    made = _group(draft, step).made
    try:
        make_round(draft, step, previous, at)
    except TemplateError:
        group = msgspec.structs.replace(_group(draft, step), made=made, total=made)
        draft.change(step.id, group=group)
        raise


# -------------------------------------------------------------------------------------- completion


def _complete(
    draft: Draft, step: PlannedStep, total: int, *, failed: bool, message: str | None = None
) -> None:
    """Give a step with several actions its one result, `Completed`."""
    group = _group(draft, step)
    payload: dict[str, Any] = {
        "total": total,
        "succeeded": group.succeeded,
        "failed": group.failed,
        "results": list(_results(draft, step, group.made)),
    }
    if message is not None:
        payload["message"] = message
    state: StepState = "FAILED" if failed else "SUCCEEDED"
    draft.finish(step.id, draft.record(step.id, "Completed", payload, state), state)


class _Outcome(msgspec.Struct, omit_defaults=True, rename="camel"):
    index: int
    item: msgspec.Raw
    state: str
    event: str
    payload: msgspec.Raw
    payload_left_out: bool = False


def _results(draft: Draft, step: PlannedStep, made: int) -> Iterator[_Outcome]:
    """Yield the outcomes in order, without the payloads that do not fit in the limit of a body."""
    left = draft.ctx.evaluation.allowance.body_length
    for index in range(made):
        data = draft.attachment(_outcome_key(step, index))
        outcome = msgspec.json.decode(data, type=_Outcome)
        left -= len(bytes(outcome.payload))
        if left < 0:
            outcome.payload, outcome.payload_left_out = msgspec.Raw(b"null"), True
        yield outcome
