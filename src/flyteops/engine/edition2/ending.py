"""The end of an execution, and the failures that are reported."""

from flyteops.engine.edition2.document import ExecutionState
from flyteops.engine.edition2.draft import Draft, Result
from flyteops.engine.edition2.outcome import NewTask
from flyteops.model import SERVER

REASONS = (("TimedOut", "timedOut"), ("Expired", "expired"), ("Error", "error"))
"""The results of the server that mean failure, with the reasons in `StepFailed`."""


def end_if_over(draft: Draft) -> None:
    """End an execution with no open action, no waiting step and no task left.

    It has FAILED if a failure stayed unanswered.
    """
    document = draft.document
    if document.is_over or draft.open or draft.results or draft.ctx.has_tasks:
        return
    if any(task.execution_id == document.execution_id for task in draft.tasks):
        return
    end(draft, "FAILED" if document.has_failed else "SUCCEEDED")


def end(draft: Draft, state: ExecutionState) -> None:
    """End an execution: cancel its open steps, and notify the callers that wait for the end."""
    draft.fields.update(state=state, ended_at=draft.now)
    for step_id, record in draft.steps.items():
        if record.state is None:
            draft.change(step_id, is_waiting=False, open=0)
    for caller in draft.document.callers:
        draft.tasks.append(NewTask("flowFinished", caller.execution_id, caller.action_id))


def report(
    draft: Draft,
    reason: str,
    *,
    step_id: str = "",
    event_id: str | None = None,
    message: str | None = None,
) -> None:
    """Send `StepFailed`, as a task; its event gives the rest of the payload.

    None is sent in a chain that began with one, or in an execution for which a `RunFlow` waits.
    """
    document = draft.document
    if document.after_failure or document.callers:
        return
    task = NewTask("stepFailed", document.execution_id, step_id, reason, event_id, message)
    draft.tasks.append(task)


def reason_of(result: Result) -> str:
    """Return the reason of a failure by the result of the step."""
    if result.is_lost:
        return "lost"
    event = result.event
    if event.pack.name == SERVER:
        return next((reason for name, reason in REASONS if name == event.name), "failed")
    return "failed"
