"""The end of executions, and the failures that are reported."""

from flyteops.model import SERVER, JsonValue
from flyteops.simulator.record import Event, Execution, ExecutionState, StepRun, Task
from flyteops.simulator.world import World


def end_if_over(world: World, execution: Execution) -> None:
    """End an execution with no open action, no waiting step and no task left.

    It has FAILED if a failure stayed unanswered.
    """
    if execution.is_over or execution.state == "QUEUED":
        return
    runs = execution.steps.values()
    if any(run.is_open or not run.continued for run in runs):
        return
    if any(task.execution_id == execution.execution_id for task in world.tasks):
        return
    failed = any(run.answered is False for run in runs)
    end(world, execution, "FAILED" if failed else "SUCCEEDED")


def end(world: World, execution: Execution, state: ExecutionState) -> None:
    """End an execution: cancel all that is open, and let those go on that depend on its end."""
    if execution.is_over:
        return
    execution.state = state
    execution.ended_at = world.now
    for run in execution.steps.values():
        cancel_step(world, run)
    world.queue = [s for s in world.queue if s.execution_id != execution.execution_id]
    for action_id in execution.callers:
        caller = world.action(action_id)
        world.add_task(
            Task(
                kind="flowFinished",
                execution_id=caller.execution_id,
                subject=action_id,
                other=execution.execution_id,
            )
        )
    if execution.flow.concurrency is not None:
        world.add_task(Task(kind="next", subject=execution.flow.name))


def cancel_step(world: World, run: StepRun) -> None:
    """Cancel the open actions of a step, their questions and the executions that they wait for.

    An execution for which others wait as well goes on, and so does one that has not begun.
    """
    for action in run.actions:
        if not action.is_open:
            continue
        action.state = "CANCELLED"
        for question in world.questions:
            if question.action_id == action.action_id:
                question.open = False
        for child in world.executions:
            if action.action_id in child.callers:
                child.callers.remove(action.action_id)
                if not child.callers:
                    end(world, child, "CANCELLED")
    run.waits = False


def report_failure(
    world: World, execution: Execution, reason: str, event: Event | None = None
) -> None:
    """Send `StepFailed` about an execution, or the result of one of its steps, as a task.

    None is sent in a chain that began with one, or in an execution for which a `RunFlow` waits.
    """
    if execution.trigger.after_failure or execution.callers:
        return
    payload: dict[str, JsonValue] = {
        "flow": execution.flow.name,
        "step": None if event is None or event.result_of is None else event.result_of[1],
        "execution": execution.execution_id,
        "reason": reason,
        "event": None if event is None else event.name,
        "payload": None if event is None else event.payload,
        "message": execution.message or _message_of(event),
        "link": execution.link,
    }
    failed = step_failed(payload, execution.depth)
    world.add_task(Task(kind="send", execution_id=execution.execution_id, event=failed))


def step_failed(payload: JsonValue, depth: int) -> Event:
    """Return the event `StepFailed`; none follows in the chain that it begins."""
    return Event(pack=SERVER, name="StepFailed", payload=payload, depth=depth, after_failure=True)


def reason_of(event: Event) -> str:
    """Return the reason of a failure by the result of the step."""
    by_server = {"TimedOut": "timedOut", "Expired": "expired", "Error": "error"}
    if is_loss(event):
        return "lost"
    return by_server.get(event.name, "failed") if event.pack == SERVER else "failed"


def is_loss(event: Event) -> bool:
    """Return whether a result was made by the server because the pack fell silent."""
    return isinstance(event.payload, dict) and event.payload.get("reason") == "lost"


def _message_of(event: Event | None) -> JsonValue:
    payload = None if event is None else event.payload
    return payload.get("message") if isinstance(payload, dict) else None
