"""Results of actions: success or failure, another attempt, or all that follows from them."""

import msgspec

from flyteops.definition import StepState
from flyteops.document import decode_json
from flyteops.engine.edition2.change import (
    ActionResult,
    CommandExpired,
    CommandLost,
    ExecutionStopped,
    OpenAction,
)
from flyteops.engine.edition2.document import ExecutionDocument, Occurrence, raw
from flyteops.engine.edition2.draft import SERVER_PACK, Draft, context_of
from flyteops.engine.edition2.ending import end, report
from flyteops.engine.edition2.group import end_action, item_of
from flyteops.engine.edition2.outcome import ActionEnd, ActionRetry
from flyteops.engine.edition2.plan import PlannedCommand, PlannedStep
from flyteops.engine.edition2.production import call_server
from flyteops.engine.edition2.rendering import StepRenderer
from flyteops.errors import TemplateError
from flyteops.flow.policy import StepPolicy
from flyteops.model import FATAL, SERVER


def apply_result(draft: Draft, change: ActionResult) -> bool:
    """Give an action the result of its pack; return false if the step has ended already."""
    action, result = change.action, change.result
    if change.is_late or not _is_open(draft, action):
        step = draft.planned(action.step_id)
        draft.decide(result.event.event_id, step, "skipped", *_lateness(draft.document))
        return False
    draft.learn(result.event)
    state = judge(draft, action, result)
    settle(draft, action, _placed(draft, action, result, state), kind="failed")
    return True


def _lateness(document: ExecutionDocument) -> tuple[str, str]:
    """Return the reason and its words why nothing follows from a result."""
    if document.state == "CANCELLED":
        return "cancelled", "the execution was cancelled"
    if document.is_over:
        return "ended", f"the execution is {document.state}"
    return "timedOut", "the result came too late"


def _is_open(draft: Draft, action: OpenAction) -> bool:
    record = draft.steps.get(action.step_id)
    return record is not None and record.open > 0 and not draft.document.is_over


def _placed(draft: Draft, action: OpenAction, result: Occurrence, state: StepState) -> Occurrence:
    """Return a result with its place in the execution."""
    document = draft.document
    return msgspec.structs.replace(
        result,
        depth=document.depth,
        after_failure=document.after_failure,
        execution_id=document.execution_id,
        flow_name=document.flow_name,
        step_id=action.step_id,
        state=state,
    )


def _command(step: PlannedStep) -> PlannedCommand:
    assert step.command is not None  # noqa: S101 - only steps with a command have actions
    return step.command


def _renderer(draft: Draft, action: OpenAction, result: Occurrence, place: str) -> StepRenderer:
    step = draft.planned(action.step_id)
    context = context_of(draft.steps[step.id])
    head = draft.learn(result.event)
    renderer = draft.renderer(step.id, head, context, place, action.index, action.attempt)
    if action.index is not None:
        reads_item = "Item" in _command(step).reads
        item = item_of(draft, step, action.index) if reads_item else None
        renderer.scope.update(Index=action.index, Item=item, Previous=None)
    return renderer


def judge(draft: Draft, action: OpenAction, result: Occurrence) -> StepState:
    """Return the state that a result gives: `FATAL` always means failure, else `failsWhen` decides.

    Without `failsWhen` it has failed by its mark, or by its name.
    """
    command, event = _command(draft.planned(action.step_id)), result.event
    if event.name == FATAL:
        return "FAILED"
    if command.fails_when is not None:
        try:
            renderer = _renderer(draft, action, result, "failsWhen")
            has_failed = renderer.truth(command.fails_when, "command.failsWhen")
        except TemplateError:
            has_failed = True
        return "FAILED" if has_failed else "SUCCEEDED"
    has_failed = event.failure is True or draft.ctx.is_failure(event.pack.name, event.name)
    return "FAILED" if has_failed else "SUCCEEDED"


def settle(draft: Draft, action: OpenAction, result: Occurrence, *, kind: str) -> None:
    """Give an action a result: another attempt, or the step goes on with it.

    `kind` is ``failed`` or ``lost`` if the result may be retried.
    """
    state: StepState = result.state or "FAILED"
    if state == "FAILED" and retry(draft, action, result, kind):
        return
    head = draft.learn(result.event)
    draft.published.append(result)
    draft.ends.append(ActionEnd(action.action_id, head.event_id, state))
    step = draft.planned(action.step_id)
    if action.index is not None:
        end_action(draft, step, action, result, state)
        return
    record = draft.steps[step.id]
    draft.change(step.id, open=record.open - 1)
    draft.finish(step.id, head, state, is_lost=kind == "lost")


def retry(draft: Draft, action: OpenAction, result: Occurrence, kind: str) -> bool:
    """Return an action to its queue if its policy wants it; `when` must be true for that."""
    command = _command(draft.planned(action.step_id))
    policy = command.retry
    if policy is None or kind not in policy.on or action.attempt >= policy.attempts:
        return False
    try:
        renderer = _renderer(draft, action, result, "retry")
        if not renderer.truth(command.retry_when, "command.retry.when"):
            return False
        terms = StepPolicy(
            backoff=renderer.duration(command.backoff, "command.retry.backoff"),
            max_backoff=renderer.duration(command.max_backoff, "command.retry.maxBackoff"),
        )
    except TemplateError:
        return False
    not_before = draft.now + terms.retry_delay(action.attempt, draft.ctx.evaluation.jitter())
    draft.unseen.append(result)
    draft.retries.append(
        ActionRetry(
            action.action_id,
            action.attempt,
            not_before,
            result.event.event_id,
            is_lost=kind == "lost",
        )
    )
    if command.command.pack_name == SERVER:
        call_server(draft, action.step_id, action.action_id, not_before)
    return True


# -------------------------------------------------------------------------- results of the server


def lose(draft: Draft, change: CommandLost) -> bool:
    """Decide the fate of an action whose pack was silent for too long.

    It is retried, or an operator is asked (`onLost: ask`), or it gets the result `FATAL`.
    """
    action = change.action
    if not _is_open(draft, action):
        return False
    payload = {
        "reason": "lost",
        "message": f"no pack {action.pack.name!r} reported a result in time",
        "actionId": action.action_id,
        "attempts": action.attempt,
    }
    result = draft.occurrence(action.step_id, FATAL, payload, action.pack, "FAILED")
    draft.learn(result.event)
    if _command(draft.planned(action.step_id)).command.on_lost != "ask":
        settle(draft, action, result, kind="lost")
    elif not retry(draft, action, result, "lost"):
        draft.unknown.append(action.action_id)
    return True


def expire(draft: Draft, change: CommandExpired) -> bool:
    """Give an action that no pack took in time the result `Expired`."""
    action = change.action
    if not _is_open(draft, action):
        return False
    message = f"no pack {action.pack.name!r} took it in time"
    payload = {"message": message}
    result = draft.occurrence(action.step_id, "Expired", payload, SERVER_PACK, "FAILED")
    settle(draft, action, result, kind="expired")
    step = draft.planned(action.step_id)
    draft.decide(result.event.event_id, step, "failed", "expired", message)
    return True


def stop(draft: Draft, change: ExecutionStopped) -> bool:
    """End an execution by `Return` or `Fail`; no step follows from that."""
    action, state = change.action, change.state
    if not _is_open(draft, action):
        return False
    value = decode_json(action.input)
    name = "Returned" if state == "SUCCEEDED" else "Failed"
    result = draft.occurrence(action.step_id, name, value, SERVER_PACK, state)
    draft.unseen.append(result)
    head = draft.learn(result.event)
    draft.ends.append(ActionEnd(action.action_id, head.event_id, state))
    if action.index is None:
        draft.finish(action.step_id, head, state)
        draft.results.clear()
    if state == "SUCCEEDED":
        draft.fields["output"] = raw(value)
        end(draft, state)
        return True
    message = str(value.get("message")) if isinstance(value, dict) else None
    draft.fields["message"] = message
    end(draft, state)
    report(draft, "fail", step_id=action.step_id, event_id=head.event_id, message=message)
    return True
