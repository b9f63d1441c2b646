"""The control of flows and executions by people."""

from dataclasses import replace

from flyteops.definition import FlowDefinition
from flyteops.errors import ConflictError, ForbiddenError, InputError, NotFoundError
from flyteops.flow.policy import first_due_at
from flyteops.model import SERVER, JsonValue
from flyteops.simulator.builtin import Outcome, check_inputs, finish, members_of
from flyteops.simulator.continuation import continue_execution, merged_context, new_execution
from flyteops.simulator.dependency import dependencies, finished
from flyteops.simulator.dispatch import send_scheduled
from flyteops.simulator.ending import end
from flyteops.simulator.limiting import go_on
from flyteops.simulator.pattern import fitting
from flyteops.simulator.record import Event, Execution, Start, Timer
from flyteops.simulator.running import run_step
from flyteops.simulator.starting import admit, limit_keys, start_flow
from flyteops.simulator.world import World


def save(world: World, flow: FlowDefinition) -> None:
    """Save a flow as a new version; its schedules count from now."""
    world.flows[flow.name] = flow
    world.versions[flow.name] = world.versions.get(flow.name, 0) + 1
    for step in flow.steps:
        if step.schedule is not None:
            due_at = first_due_at(step.schedule, world.now)
            if due_at is not None:
                subject = f"{flow.name}\0{step.id}\0{world.versions[flow.name]}"
                world.add_timer(Timer(kind="schedule", due_at=due_at, subject=subject))


def delete(world: World, name: str) -> None:
    """Delete a flow with its held and queued events; its running executions go on."""
    world.flow(name)
    del world.flows[name]
    for kind, held in world.held.items():
        world.held[kind] = [each for each in held if each.flow.name != name]
    for start in [each for each in world.queue if each.flow.name == name]:
        if start.execution_id is not None:
            end(world, world.execution(start.execution_id), "CANCELLED")
    world.parked = [each for each in world.parked if each.flow.name != name]
    world.tasks = [
        task for task in world.tasks if task.start is None or task.start.flow.name != name
    ]


def resume_flow(world: World, name: str) -> None:
    """End the pause of a flow; `enabled: false` stays until another version is saved."""
    if not world.flow(name).enabled:
        raise ConflictError(f"The flow {name!r} has `enabled: false`; change its file.")
    world.paused.discard(name)


def run(world: World, name: str, payload: JsonValue) -> Event:
    """Start the `Called` trigger of a flow, or else its first schedule, also when it is paused."""
    flow = world.flow(name)
    if not flow.enabled:
        raise ConflictError(f"The flow {name!r} has `enabled: false`; change its file.")
    check_inputs(world, name, payload)
    called = Event(pack=SERVER, name="Called", payload=payload)
    if any(each.is_trigger and any(fitting(each, called)) for each in flow.steps):
        world.record(called)
        start_flow(world, flow, called, past_pause=True)
        return called
    for step in flow.steps:
        if step.schedule is not None:
            return send_scheduled(world, flow, step.id, world.now, past_pause=True)
    raise ConflictError(f"The flow {name!r} has neither a trigger for Called nor a schedule.")


def cancel(world: World, execution: Execution) -> None:
    """Cancel an execution that has not ended: all that is open in it ends, and nothing follows."""
    if execution.is_over:
        raise ConflictError(f"The execution is {execution.state} already.")
    end(world, execution, "CANCELLED")


# ------------------------------------------------------------------------------------------ reruns


def rerun(world: World, old: Execution, from_step: str | None, replacement: JsonValue) -> Execution:
    """Begin a linked execution of the current version, without the limits but `concurrency`.

    The triggers that ran before run again, unchecked: a person has decided that it runs. A
    `replacement` is the payload of the trigger, with `from_step` the input of that step. It begins
    a chain of its own.
    """
    flow = world.flow(old.flow.name)
    triggers = [step.id for step in flow.steps if step.is_trigger and step.id in old.steps]
    if not triggers:
        raise ConflictError("The current version of the flow has none of the triggers that ran.")
    event = old.trigger
    if replacement is not None and from_step is None:
        changed = Event(pack=event.pack, name=event.name, payload=replacement, labels=event.labels)
        event = world.record(changed)
    start = Start(
        start_id=world.new_id("start"),
        flow=flow,
        event=event,
        members=[event],
        steps=triggers,
        since=world.now,
        by_person=True,
        rerun_of=old.execution_id,
    )
    if from_step is not None:
        return _rerun_from(world, start, old, from_step, replacement)
    if flow.concurrency is not None:
        start.keys = {"concurrency": limit_keys(world, flow, event)["concurrency"]}
    go_on(world, start, "rateLimit")
    if start.execution_id is None:
        raise ConflictError("The limit `concurrency` of the flow dropped it.")
    return world.execution(start.execution_id)


def _rerun_from(
    world: World, start: Start, old: Execution, step_id: str, replacement: JsonValue
) -> Execution:
    """Take over all results but those of a step and the steps behind it, and run that step.

    It runs unchecked, with the event that made it run before, or else the last result of the steps
    that it depends on. Steps that had no result have none to take over, and do not run. It begins
    at once, whatever the limits.
    """
    step = next((each for each in start.flow.steps if each.id == step_id), None)
    if step is None:
        raise InputError(f"The current version of the flow has no step {step_id!r}.")
    done = finished(old, step)
    event = old.steps[step_id].event if step_id in old.steps else None
    if event is None and done:
        event = done[-1].result
    if event is None:
        raise ConflictError(f"None of the steps that {step_id!r} depends on has a result.")
    execution = new_execution(world, start)
    execution.state, execution.started_at = "RUNNING", world.now
    again = _behind(start.flow, step_id)
    for each in start.flow.steps:
        if each.id in old.steps and each.id not in again and not old.steps[each.id].is_open:
            execution.steps[each.id] = replace(old.steps[each.id], step=each, continued=True)
    if replacement is not None:
        execution.inputs[step_id] = replacement
    run_step(world, execution, step, event, merged_context(execution, step))
    continue_execution(world, execution)
    return execution


def _behind(flow: FlowDefinition, step_id: str) -> set[str]:
    """Return a step and all steps that depend on it, directly or not."""
    found = {step_id}
    for _ in flow.steps:
        found |= {step.id for step in flow.steps if found & set(dependencies(step))}
    return found


# --------------------------------------------------------------------------- parking and questions


def release(world: World, start_id: str) -> None:
    """Let a parked start go on, as if its event were of depth 0; the limits follow."""
    start = _parked(world, start_id)
    start.by_person = True
    world.parked.remove(start)
    admit(world, start)


def drop_parked(world: World, start_id: str) -> None:
    """Drop a parked start."""
    world.parked.remove(_parked(world, start_id))


def _parked(world: World, start_id: str) -> Start:
    for start in world.parked:
        if start.start_id == start_id:
            return start
    raise NotFoundError(f"There is no parked start {start_id!r}.")


def answer(
    world: World, question_id: str, option: str, person: str, comment: str | None
) -> Event | None:
    """Answer a question, once; `refuse` gives a result that has FAILED.

    A requester may not answer without `bySelf`, not even to refuse.
    """
    question = world.question(question_id)
    if not question.open:
        raise ConflictError("The question was answered already, or is over.")
    if option not in question.options:
        raise InputError(f"{option!r} is not an option; use {', '.join(question.options)}.")
    allowed = members_of(world, question)
    if allowed is not None and person not in allowed:
        raise ForbiddenError(f"{person} is not among those who may answer.")
    if person == question.requested_by and not question.by_self:
        raise ForbiddenError(f"{person} requested this, and may not answer it.")
    question.open = False
    action = world.action(question.action_id)
    payload = {"option": option, "person": person, "comment": comment}
    finish(world, action, Outcome("Answered", payload, failure=option == "refuse"))
    return action.result
