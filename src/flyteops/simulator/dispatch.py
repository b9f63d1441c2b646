"""Tasks and timers: each kind with the rule that carries it out."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from flyteops.definition import FlowDefinition
from flyteops.flow.policy import next_run_of
from flyteops.model import SERVER
from flyteops.simulator import builtin, limiting, result
from flyteops.simulator.continuation import end_delay, resume
from flyteops.simulator.ending import end, end_if_over, report_failure
from flyteops.simulator.record import Event, Execution, Task, Timer
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
    if execution_id is not None and not _matters(world, world.execution(execution_id), timer):
        return
    if execution_id is not None and any(t.execution_id == execution_id for t in world.tasks):
        world.add_task(Task(kind="timer", execution_id=execution_id, timer=timer))
    else:
        _fire(world, timer)
    end_commit(world)


def _matters(world: World, execution: Execution, timer: Timer) -> bool:
    """Return whether a timer of an execution still has a point."""
    if execution.is_over:
        return False
    if timer.kind in {"gate", "stepTimeout"}:
        return execution.steps[timer.subject].is_open
    if timer.kind == "waitTimeout":
        return execution.steps[timer.subject].waits
    if timer.kind == "questionTimeout":
        return world.question(timer.subject).open
    if timer.kind == "flowTimeout":
        return True
    action = world.action(timer.subject)
    wanted = "PENDING" if timer.kind == "lost" else "NEW"
    return action.state == wanted and len(action.attempts) == timer.attempt


def _fire(world: World, timer: Timer) -> None:
    if timer.execution_id is None:
        FLOW_TIMERS[timer.kind](world, timer)
    else:
        execution = world.execution(timer.execution_id)
        if not execution.is_over:
            EXECUTION_TIMERS[timer.kind](world, execution, timer)


# ------------------------------------------------------------------------------------------- tasks


def _start(world: World, task: Task) -> None:
    if task.start is not None:
        limiting.go_on(world, task.start)


def _resume(world: World, task: Task) -> None:
    if task.event is not None and task.execution_id is not None:
        resume(world, world.execution(task.execution_id), task.subject, task.event)


def _send(world: World, task: Task) -> None:
    if task.event is not None:
        publish(world, world.record(task.event))


def _late_timer(world: World, task: Task) -> None:
    if task.timer is not None:
        _fire(world, task.timer)


TASKS: Mapping[str, Callable[[World, Task], None]] = MappingProxyType(
    {
        "start": _start,
        "next": lambda world, task: limiting.start_next(world, task.subject),
        "resume": _resume,
        "command": lambda world, task: builtin.execute(world, task.subject),
        "send": _send,
        "flowFinished": lambda world, task: builtin.flow_finished(
            world, task.subject, world.execution(task.other)
        ),
        "flowStarted": lambda world, task: builtin.flow_started(
            world, task.subject, world.execution(task.other)
        ),
        "flowRefused": lambda world, task: builtin.flow_refused(world, task.subject, task.other),
        "timer": _late_timer,
    }
)

# ------------------------------------------------------------------------------------------ timers


def _gate(world: World, execution: Execution, timer: Timer) -> None:
    run = execution.steps[timer.subject]
    if run.is_open:
        end_delay(world, execution, run)


def _step_timeout(world: World, execution: Execution, timer: Timer) -> None:
    result.end_step_in_time(world, execution, timer.subject, "it took longer than its timeout")


def _wait_timeout(world: World, execution: Execution, timer: Timer) -> None:
    if execution.steps[timer.subject].waits:
        result.end_step_in_time(world, execution, timer.subject, "no event came in time")


def _command(world: World, execution: Execution, timer: Timer) -> None:
    task = Task(kind="command", execution_id=execution.execution_id, subject=timer.subject)
    world.add_task(task)


def _flow_timeout(world: World, execution: Execution, timer: Timer) -> None:
    execution.message = "it ran longer than its timeout"
    end(world, execution, "FAILED")
    report_failure(world, execution, "flowTimeout")


EXECUTION_TIMERS: Mapping[str, Callable[[World, Execution, Timer], None]] = MappingProxyType(
    {
        "gate": _gate,
        "stepTimeout": _step_timeout,
        "waitTimeout": _wait_timeout,
        "command": _command,
        "flowTimeout": _flow_timeout,
        "questionTimeout": lambda world, _, timer: builtin.question_timed_out(
            world, world.question(timer.subject)
        ),
        "expires": lambda world, _, timer: result.expire(
            world, world.action(timer.subject), timer.attempt
        ),
        "lost": lambda world, _, timer: result.lose(
            world, world.action(timer.subject), timer.attempt
        ),
    }
)


def _schedule(world: World, timer: Timer) -> None:
    """Send `Scheduled` for a due step, to this step alone, and set its next time.

    A timer of an earlier version of the flow does nothing.
    """
    name, step_id, version = timer.subject.split("\0")
    flow = world.flows.get(name)
    if flow is None or world.versions[name] != int(version):
        return
    step = next(each for each in flow.steps if each.id == step_id)
    if step.schedule is not None:
        run = next_run_of(step.schedule, timer.due_at, world.now)
        if run.fires_for is not None:
            send_scheduled(world, flow, step_id, run.fires_for)
        if run.next_at is not None:
            world.add_timer(Timer(kind="schedule", due_at=run.next_at, subject=timer.subject))


def send_scheduled(
    world: World, flow: FlowDefinition, step_id: str, due_at: datetime, *, past_pause: bool = False
) -> Event:
    """Send the event of a schedule to its step, and return it."""
    payload = {"flow": flow.name, "step": step_id, "scheduledAt": format_timestamp(due_at)}
    event = world.record(Event(pack=SERVER, name="Scheduled", payload=payload, for_step=step_id))
    start_flow(world, flow, event, past_pause=past_pause)
    return event


FLOW_TIMERS: Mapping[str, Callable[[World, Timer], None]] = MappingProxyType(
    {
        "debounce": lambda world, timer: limiting.end_debounce(world, timer.subject),
        "batch": lambda world, timer: limiting.end_batch(world, timer.subject),
        "schedule": _schedule,
    }
)
