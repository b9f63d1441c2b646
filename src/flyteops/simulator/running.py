"""The run of one step: context, then its command, wait, items or rounds, until it has a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flyteops.definition import MAX_ITEMS, CommandDefinition, StepDefinition, StepState
from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.model import SERVER, JsonValue
from flyteops.simulator.ending import cancel_step
from flyteops.simulator.record import Action, Event, Execution, StepRun, Task, Timer, Verdict
from flyteops.simulator.rendering import Renderer, action_value
from flyteops.simulator.waiting import begin_wait
from flyteops.simulator.world import World


def new_run(
    world: World,
    execution: Execution,
    step: StepDefinition,
    event: Event,
    context: Mapping[str, JsonValue],
) -> StepRun:
    """Return a step that begins to run; from now on it cannot run again."""
    run = StepRun(
        step=step,
        event=event,
        number=world.number(),
        started_at=world.now,
        context=dict(context),
        not_before=world.now,
    )
    execution.steps[step.id] = run
    return run


def run_step(
    world: World,
    execution: Execution,
    step: StepDefinition,
    event: Event,
    context: Mapping[str, JsonValue],
) -> None:
    """Run a step whose criteria hold: `with` of a wait, or `context` and then the command.

    A failing template gives the result `Error` (FAILED).
    """
    run = new_run(world, execution, step, event, context)
    try:
        if step.correlate is not None:
            begin_wait(world, execution, run)
            _decide_run(
                world, execution, run, ("ran", "waiting", "it waits for an event with its key")
            )
            return
        perform(world, execution, run)
    except TemplateError as error:
        fail_step(world, execution, run, error)
        return
    _decide_run(world, execution, run, ("ran", "passed", ""))


def _decide_run(world: World, execution: Execution, run: StepRun, verdict: Verdict) -> None:
    world.decide(run.event, execution.flow, run.step.id, verdict, execution)


def perform(world: World, execution: Execution, run: StepRun) -> None:
    """Render the context, then begin the command, items, rounds or the delay of a gate."""
    step = run.step
    renderer = renderer_of(world, execution, run)
    run.context = {**run.context, **(renderer.value(step.context or {}))}
    renderer.with_context(run.context)
    if step.delay is not None:
        run.not_before = renderer.due(step.delay, "delay")
    timeout = None
    if step.timeout is not None and step.correlate is None:
        timeout = renderer.duration(step.timeout, "timeout")
    if step.command is None:
        _pass_gate(world, execution, run)
    elif step.for_each is not None:
        run.items = _items(renderer.value(step.for_each.in_))
        make_items(world, execution, run)
    elif step.repeat is not None:
        _make_round(world, execution, run, None)
    else:
        run.input = make_action(world, execution, run).input
    if timeout is not None and run.is_open:
        world.add_timer(_timer("stepTimeout", world.now + timeout, execution, run))


def _timer(kind: str, due_at: datetime, execution: Execution, run: StepRun) -> Timer:
    return Timer(kind=kind, due_at=due_at, execution_id=execution.execution_id, subject=run.step.id)


def renderer_of(
    world: World,
    execution: Execution,
    run: StepRun,
    event: Event | None = None,
    *parts: object,
) -> Renderer:
    """Return the templates' view of a step that runs."""
    return Renderer(world, execution.flow, event or run.event, run.step.id, *parts).with_execution(
        execution, run.context
    )


def _pass_gate(world: World, execution: Execution, run: StepRun) -> None:
    """Let a gate have its result: the event that ran it, which counts as SUCCEEDED."""
    if run.not_before > world.now:
        world.add_timer(_timer("gate", run.not_before, execution, run))
    else:
        finish_step(world, run, run.event, "SUCCEEDED")


def finish_step(world: World, run: StepRun, event: Event, state: StepState) -> None:
    """Give a step its result; the steps that depend on it are tried afterwards."""
    run.result = event
    run.state = state
    run.finished_at = world.now
    run.result_number = world.number()
    run.waits = False


def fail_step(world: World, execution: Execution, run: StepRun, error: TemplateError) -> None:
    """Give a step whose templates failed the result `Error`; its actions end."""
    cancel_step(world, run)
    _finish_by_server(world, execution, run, "Error", {"message": error.message})
    _decide_run(world, execution, run, ("failed", "error", error.message))


def time_out(world: World, execution: Execution, run: StepRun, message: str) -> None:
    """Give a step the result `TimedOut`; its actions end."""
    cancel_step(world, run)
    event = _finish_by_server(world, execution, run, "TimedOut", {"message": message})
    world.decide(event, execution.flow, run.step.id, ("failed", "timedOut", message), execution)


def _finish_by_server(
    world: World, execution: Execution, run: StepRun, name: str, payload: JsonValue
) -> Event:
    failed = Event(pack=SERVER, name=name, payload=payload, failure=True, state="FAILED")
    event = world.record(failed, execution=execution, step_id=run.step.id)
    finish_step(world, run, event, "FAILED")
    return event


# ---------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Turn:
    """The place of an action among those of its step; without an index, it is the only one."""

    index: int | None = None
    item: JsonValue = None
    previous: Action | None = None


ONCE = Turn()


def make_action(
    world: World,
    execution: Execution,
    run: StepRun,
    turn: Turn = ONCE,
) -> Action:
    """Render the labels and the input of the command, and make an action of them.

    Commands of the server are tasks; their input must not have secrets.
    """
    command = command_of(run)
    renderer = renderer_of(world, execution, run, None, turn.index)
    if turn.index is not None:
        renderer.with_item(turn.index, turn.item, action_value(turn.previous))
    action = Action(
        action_id=world.new_id("action"),
        execution_id=execution.execution_id,
        step_id=run.step.id,
        pack=command.pack_name,
        name=command.name,
        labels={k: str(renderer.value(v)) for k, v in (command.pack_labels or {}).items()},
        input=execution.inputs[run.step.id]
        if run.step.id in execution.inputs
        else renderer.value(command.input, secrets=command.pack_name != SERVER),
        created_at=world.now,
        due_at=max(world.now, run.not_before),
        index=turn.index,
        item=turn.item,
    )
    if command.timeout is not None:
        action.silence = renderer.duration(command.timeout, "command.timeout")
    if command.expires is not None:
        action.expires = renderer.duration(command.expires, "command.expires")
    world.actions.append(action)
    run.actions.append(action)
    hand_out(world, action)
    return action


def hand_out(world: World, action: Action) -> None:
    """Make an action available from its due time: to packs, or to the server as a task."""
    timer = Timer(
        kind="command" if action.for_server else "expires",
        due_at=action.due_at + (action.expires or timedelta()),
        execution_id=action.execution_id,
        subject=action.action_id,
        attempt=len(action.attempts),
    )
    if not action.for_server:
        if action.expires is not None:
            world.add_timer(timer)
    elif action.due_at > world.now:
        timer.due_at = action.due_at
        world.add_timer(timer)
    else:
        world.add_task(
            Task(kind="command", execution_id=action.execution_id, subject=action.action_id)
        )


def command_of(run: StepRun) -> CommandDefinition:
    """Return the command of a step that has one."""
    assert run.step.command is not None  # noqa: S101 - for the type checker
    return run.step.command


def action_done(world: World, execution: Execution, action: Action, event: Event) -> None:
    """Go on with the step of an action that has its last result: the next item, or the result."""
    run = execution.steps[action.step_id]
    state: StepState = action.outcome or "FAILED"
    if action.index is None:
        finish_step(world, run, event, state)
        return
    run.outcomes.append(_outcome(action.index, action.item, state, event.name, event.payload))
    if run.step.for_each is not None:
        make_items(world, execution, run)
    else:
        _go_round(world, execution, run, action)


def _outcome(
    index: int, item: JsonValue, state: StepState, event: str, payload: JsonValue
) -> dict[str, JsonValue]:
    return {"index": index, "item": item, "state": state, "event": event, "payload": payload}


# ------------------------------------------------------------------------------- forEach and repeat


def _items(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise TemplateRenderError(f"forEach.in must give a list, not {value!r:.80}")
    if len(value) > MAX_ITEMS:
        raise TemplateRenderError(f"forEach.in gives {len(value)} items; at most {MAX_ITEMS}")
    return value


def make_items(world: World, execution: Execution, run: StepRun) -> None:
    """Make as many actions as may be open, or complete the step after the last.

    An item whose input cannot be rendered has failed with `Error`.
    """
    for_each = run.step.for_each
    assert for_each is not None  # noqa: S101 - for the type checker
    while (
        run.made < len(run.items)
        and sum(action.is_open for action in run.actions) < for_each.parallel
        and not (for_each.on_failure == "stop" and _has_failure(run))
    ):
        index, run.made = run.made, run.made + 1
        item = run.items[index]
        try:
            make_action(world, execution, run, Turn(index, item))
        except TemplateError as error:
            payload = {"message": error.message}
            run.outcomes.append(_outcome(index, item, "FAILED", "Error", payload))
    if not any(action.is_open for action in run.actions):
        _complete(world, execution, run, failed=_has_failure(run))


def _has_failure(run: StepRun) -> bool:
    return any(each["state"] == "FAILED" for each in run.outcomes)


def _go_round(world: World, execution: Execution, run: StepRun, last: Action) -> None:
    """Make the next round of a `repeat`, or complete the step.

    A failure ends it, and so do a failing `while` and the maximum of rounds, which are failures.
    """
    repeat, made = run.step.repeat, len(run.outcomes)
    assert repeat is not None  # noqa: S101 - for the type checker
    if last.outcome == "FAILED":
        _complete(world, execution, run, failed=True)
        return
    renderer = renderer_of(world, execution, run, last.result, last.index)
    try:
        again = renderer.truth(repeat.while_, "repeat.while")
        if again and made < repeat.max:
            delay = timedelta()
            if repeat.delay is not None:
                delay = renderer.duration(repeat.delay, "repeat.delay")
            _make_round(world, execution, run, last, world.now + delay)
            return
    except TemplateError as error:
        _complete(world, execution, run, failed=True, message=error.message)
        return
    message = f"the maximum of {repeat.max} rounds was reached" if again else None
    _complete(world, execution, run, failed=again, message=message)


def _make_round(
    world: World,
    execution: Execution,
    run: StepRun,
    previous: Action | None,
    due_at: datetime | None = None,
) -> None:
    if due_at is not None:
        run.not_before = due_at
    index = 0 if previous is None else len(run.outcomes)
    make_action(world, execution, run, Turn(index, previous=previous))


def _complete(
    world: World,
    execution: Execution,
    run: StepRun,
    *,
    failed: bool,
    message: str | None = None,
) -> None:
    """Give a step with several actions its one result, `Completed`."""
    results = sorted(run.outcomes, key=lambda each: each["index"])
    payload: dict[str, JsonValue] = {
        "total": len(run.outcomes) if run.step.for_each is None else len(run.items),
        "succeeded": sum(each["state"] == "SUCCEEDED" for each in results),
        "failed": sum(each["state"] == "FAILED" for each in results),
        "results": _within(world.setting.body_length, results),
    }
    if message is not None:
        payload["message"] = message
    state: StepState = "FAILED" if failed else "SUCCEEDED"
    completed = Event(pack=SERVER, name="Completed", payload=payload, failure=failed, state=state)
    event = world.record(completed, execution=execution, step_id=run.step.id)
    finish_step(world, run, event, state)


def _within(limit: int, results: list[dict[str, JsonValue]]) -> list[JsonValue]:
    """Return the results without the payloads that do not fit in the limit of a body."""
    kept: list[JsonValue] = []
    for each in results:
        limit -= len(repr(each["payload"]))
        kept.append(each if limit >= 0 else {**each, "payload": None, "payloadLeftOut": True})
    return kept
