"""Tasks and timers: each kind with the rule that carries it out."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from flyteops.definition import FlowDefinition
from flyteops.flow.policy import first_due_at
from flyteops.model import SERVER
from flyteops.simulator import builtin, limiting, result
from flyteops.simulator.continuation import end_delay, resume
from flyteops.simulator.ending import end, end_if_over, report_failure
from flyteops.simulator.record import Start, Task, Timer
from flyteops.simulator.starting import publish, start_flow
from flyteops.simulator.waiting import offer_to_waits
from flyteops.simulator.world import World
from flyteops.timeformat import format_timestamp


def end_commit(world: World) -> None:
    """Offer the events of a commit to the waits; each commit ends with this."""
    for event in world.fresh:
        offer_to_waits(world, event)
    world.fresh = []


def run_task(world: World, task: Task) -> None:
    """Carry out a task in a commit of its own; the execution may end with its last one."""
    world.tasks.remove(task)
    TASKS[task.kind](world, task)
    if task.execution_id is not None:
        end_if_over(world, world.execution(task.execution_id))
    end_commit(world)


def fire(world: World, timer: Timer) -> None:
    """Fire a timer, or put it behind the tasks that its execution has left.

    So a wait goes on with an event that was committed before its time ran out.
    """
    world.timers.remove(timer)
    execution_id = timer.execution_id
    if execution_id is not None and any(t.execution_id == execution_id for t in world.tasks):
        arguments = {"timer": timer.kind, "attempt": timer.attempt}
        world.add_task("timer", execution_id, timer.subject, arguments=arguments)
    else:
        _fire(world, timer.kind, execution_id, timer.subject, timer.attempt, timer.due_at)
    end_commit(world)


def _fire(
    world: World,
    kind: str,
    execution_id: str | None,
    subject: str,
    attempt: int,
    due_at: datetime,
) -> None:
    if execution_id is None:
        FLOW_TIMERS[kind](world, subject, due_at)
    elif not world.execution(execution_id).is_over:
        EXECUTION_TIMERS[kind](world, execution_id, subject, attempt)


# ------------------------------------------------------------------------------------------- tasks


def _required_start(task: Task) -> Start:
    assert task.start is not None  # noqa: S101 - for the type checker
    return task.start


def _resume(world: World, task: Task) -> None:
    assert task.event is not None  # noqa: S101 - for the type checker
    resume(world, world.execution(str(task.execution_id)), task.subject, task.event)


def _step_failed(world: World, task: Task) -> None:
    """Send `StepFailed`, as deep as its execution; it begins a chain without another one."""
    depth = 0 if task.event is None else task.event.depth
    if task.execution_id is not None:
        depth = world.execution(task.execution_id).depth
    event = world.record(
        SERVER, "StepFailed", task.arguments, depth=depth, after_failure=True
    )
    publish(world, event)


def _late_timer(world: World, task: Task) -> None:
    arguments = task.arguments
    _fire(
        world, arguments["timer"], task.execution_id, task.subject, arguments["attempt"], world.now
    )


TASKS: Mapping[str, Callable[[World, Task], None]] = MappingProxyType(
    {
        "start": lambda world, task: limiting.go_on(world, _required_start(task)),
        "next": lambda world, task: limiting.start_next(world, task.subject),
        "resume": _resume,
        "command": lambda world, task: builtin.execute(world, task.subject),
        "stepFailed": _step_failed,
        "flowFinished": lambda world, task: builtin.flow_finished(
            world, task.subject, world.execution(task.arguments["child"])
        ),
        "flowStarted": lambda world, task: builtin.flow_started(
            world, task.subject, world.execution(task.arguments["child"])
        ),
        "flowRefused": lambda world, task: builtin.flow_refused(
            world, task.subject, task.arguments["reason"]
        ),
        "timer": _late_timer,
    }
)

# ------------------------------------------------------------------------------------------ timers


def _gate(world: World, execution_id: str, step_id: str, attempt: int) -> None:
    execution = world.execution(execution_id)
    run = execution.steps[step_id]
    if run.is_open:
        end_delay(world, execution, run)


def _step_timeout(world: World, execution_id: str, step_id: str, attempt: int) -> None:
    result.end_step_in_time(world, execution_id, step_id, "it took longer than its timeout")


def _wait_timeout(world: World, execution_id: str, step_id: str, attempt: int) -> None:
    if world.execution(execution_id).steps[step_id].waits:
        result.end_step_in_time(world, execution_id, step_id, "no event came in time")


def _command(world: World, execution_id: str, action_id: str, attempt: int) -> None:
    world.add_task("command", execution_id, action_id)


def _flow_timeout(world: World, execution_id: str, subject: str, attempt: int) -> None:
    execution = world.execution(execution_id)
    execution.message = "it ran longer than its timeout"
    end(world, execution, "FAILED")
    report_failure(world, execution, "flowTimeout", message=execution.message)


def _question_timeout(world: World, execution_id: str, question_id: str, attempt: int) -> None:
    builtin.question_timed_out(world, world.question(question_id))


EXECUTION_TIMERS: Mapping[str, Callable[[World, str, str, int], None]] = MappingProxyType(
    {
        "gate": _gate,
        "stepTimeout": _step_timeout,
        "waitTimeout": _wait_timeout,
        "command": _command,
        "flowTimeout": _flow_timeout,
        "questionTimeout": _question_timeout,
        "expires": lambda world, _, action, attempt: result.expire(
            world, world.action(action), attempt
        ),
        "lost": lambda world, _, action, attempt: result.lose(world, world.action(action), attempt),
    }
)


def _schedule(world: World, subject: str, due_at: datetime) -> None:
    """Send `Scheduled` for a due step, to this step alone, and set its next time.

    A timer of an earlier version of the flow does nothing.
    """
    name, step_id, version = subject.split("\0")
    flow = world.flows.get(name)
    if flow is None or world.versions[name] != int(version):
        return
    step = next(each for each in flow.steps if each.id == step_id)
    if step.schedule is not None:
        send_scheduled(world, flow, step_id, due_at)
        next_at = first_due_at(step.schedule, due_at)
        if next_at is not None:
            world.add_timer("schedule", next_at, None, subject)


def send_scheduled(
    world: World, flow: FlowDefinition, step_id: str, due_at: datetime, *, past_pause: bool = False
) -> None:
    """Send the event of a schedule to its step."""
    payload = {"flow": flow.name, "step": step_id, "scheduledAt": format_timestamp(due_at)}
    event = world.record(SERVER, "Scheduled", payload, for_flow=flow.name)
    start_flow(world, flow, event, step_id=step_id, past_pause=past_pause)


FLOW_TIMERS: Mapping[str, Callable[[World, str, datetime], None]] = MappingProxyType(
    {
        "debounce": lambda world, subject, _: limiting.end_debounce(world, subject),
        "batch": lambda world, subject, _: limiting.end_batch(world, subject),
        "schedule": _schedule,
    }
)
