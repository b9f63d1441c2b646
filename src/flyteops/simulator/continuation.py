"""The continuation of an execution: the steps that a result makes run, in the order of the file."""

from collections.abc import Sequence
from functools import partial

from flyteops.definition import StepDefinition
from flyteops.errors import TemplateError
from flyteops.simulator.dependency import (
    Fits,
    all_settled,
    can_run,
    counts,
    dependencies,
    finished,
    is_complete,
    is_finally,
    is_join,
    is_unanswered,
)
from flyteops.simulator.ending import end_if_over, reason_of, report_failure
from flyteops.simulator.pattern import fitting, labels_fit
from flyteops.simulator.record import (
    Decision,
    Event,
    Execution,
    Start,
    StepRun,
    Task,
    Timer,
    Verdict,
)
from flyteops.simulator.rendering import Renderer
from flyteops.simulator.running import fail_step, finish_step, new_run, perform, run_step
from flyteops.simulator.world import World


def begin_execution(world: World, start: Start) -> Execution:
    """Begin an execution in which every trigger that passed runs, in the order of the file.

    One that was queued has its record already. A failing flow timeout fails all of the triggers.
    """
    execution = _queued(world, start) or new_execution(world, start)
    execution.state, execution.started_at = "RUNNING", world.now
    flow, event = execution.flow, execution.trigger
    _release_callers(world, execution)
    try:
        if flow.timeout is not None:
            timeout = Renderer(world, flow, event).with_vars().duration(flow.timeout, "timeout")
            world.add_timer(
                Timer(
                    kind="flowTimeout",
                    due_at=world.now + timeout,
                    execution_id=execution.execution_id,
                )
            )
    except TemplateError as error:
        fail_start(world, execution, start, error)
        return execution
    for step in flow.steps:
        if step.id in start.steps:
            run_step(world, execution, step, event, {})
    continue_execution(world, execution)
    return execution


def new_execution(world: World, start: Start) -> Execution:
    """Record the execution of a start; it is one deeper than the event that begins it."""
    number = world.number()
    execution = Execution(
        execution_id=f"execution-{number}",
        number=number,
        flow=start.flow,
        trigger=start.event,
        depth=1 if start.by_person else start.event.depth + 1,
        concurrency_key=start.keys.get("concurrency"),
        callers=start.callers,
        rerun_of=start.rerun_of,
    )
    world.executions.append(execution)
    start.execution_id = execution.execution_id
    return execution


def _release_callers(world: World, execution: Execution) -> None:
    """Let each `RunFlow` go on that does not wait for the end."""
    for action_id in list(execution.callers):
        action = world.action(action_id)
        if action.input.get("wait", True) is False:
            execution.callers.remove(action_id)
            world.add_task(
                Task(
                    kind="flowStarted",
                    execution_id=action.execution_id,
                    subject=action_id,
                    other=execution.execution_id,
                )
            )


def _queued(world: World, start: Start) -> Execution | None:
    return None if start.execution_id is None else world.execution(start.execution_id)


def fail_start(world: World, execution: Execution, start: Start, error: TemplateError) -> None:
    """Fail the triggers of an execution that could not begin: a limit's key, or its timeout."""
    execution.state, execution.started_at = "RUNNING", world.now
    for step in execution.flow.steps:
        if step.id in start.steps:
            run = new_run(world, execution, step, execution.trigger, {})
            fail_step(world, execution, run, error)
    continue_execution(world, execution)


def continue_execution(world: World, execution: Execution) -> None:
    """Try the steps behind every new result, in the order of the results.

    For each: the steps that depend on it in the order of the file, then each `settled` whose
    condition now holds, which may depend on it only indirectly. Results of gates and `Error` follow
    in the same commit. Then failures are judged, and the execution may end.
    """
    if execution.is_over:
        return
    fits = partial(_fits, world, execution)
    while (run := _next_result(execution)) is not None:
        run.continued = True
        earlier = len(world.decisions)
        for step in execution.flow.steps:
            if run.step.id in dependencies(step) and not is_finally(step):
                _try_after(world, execution, step, run, fits)
        while (step_behind := _next_finally(execution, fits)) is not None:
            execution.tried.add(step_behind.id)
            _try(world, execution, step_behind, _result(run), [])
        _note_unreachable(world, execution, run, fits, earlier)
    _judge_failures(world, execution, fits)
    end_if_over(world, execution)


def _next_result(execution: Execution) -> StepRun | None:
    new = [run for run in execution.steps.values() if not run.is_open and not run.continued]
    return min(new, key=lambda run: run.result_number, default=None)


def _fits(world: World, execution: Execution, step: StepDefinition, run: StepRun) -> bool:
    """Return whether a result fits a pattern of a step; failing labels fit, to fail the step."""
    event = _result(run)
    renderer = _renderer(world, execution, step, event)
    try:
        return any(
            labels_fit(pattern, event, renderer)
            for pattern in fitting(step, event, of=run.step.id, state=run.state)
        )
    except TemplateError:
        return True


def _renderer(world: World, execution: Execution, step: StepDefinition, event: Event) -> Renderer:
    context = merged_context(execution, step)
    return Renderer(world, execution.flow, event, step.id).with_execution(execution, context)


def merged_context(execution: Execution, step: StepDefinition) -> dict[str, object]:
    """Return the contexts of the steps depended on, in the order of their results: the last wins.

    Those that have no result yet give nothing.
    """
    return {k: v for run in finished(execution, step) for k, v in run.context.items()}


def _result(run: StepRun) -> Event:
    assert run.result is not None  # noqa: S101 - for the type checker
    return run.result


# ------------------------------------------------------------------------------ readiness of a step


def _try_after(
    world: World, execution: Execution, step: StepDefinition, run: StepRun, fits: Fits
) -> None:
    """Try a step that depends on a step with a result: `any` at each that counts, `all` once."""
    skip = partial(_skip, world, execution, step, run)
    if step.id in execution.steps:
        skip(("alreadyRan", "it has run in this execution"))
    elif not counts(step, run, fits):
        skip(_why_not(step, run))
    elif is_join(step) and not is_complete(execution, step, fits):
        missing = sorted(set(dependencies(step)) - {r.step.id for r in finished(execution, step)})
        skip(("dependsOn", f"it waits for {', '.join(missing) or 'results that fit'}"))
    elif is_join(step):
        execution.tried.add(step.id)
        _try(world, execution, step, _result(run), finished(execution, step))
    else:
        _try(world, execution, step, _result(run), [run])


def _why_not(step: StepDefinition, run: StepRun) -> tuple[str, str]:
    event = _result(run)
    found = f"the result of {run.step.id} is {event.name} ({run.state})"
    if not step.patterns or step.correlate is not None:
        return "state", f"{found}; it runs after success"
    if any(
        pattern.state not in {None, run.state}
        for state in ("SUCCEEDED", "FAILED")
        for pattern in fitting(step, event, of=run.step.id, state=state)
    ):
        return "state", f"{found}, which is another state than the pattern's"
    return "dependsOn", f"{found}, which fits no pattern"


def _skip(
    world: World, execution: Execution, step: StepDefinition, run: StepRun, why: tuple[str, str]
) -> None:
    world.decide(_result(run), execution.flow, step.id, ("skipped", *why), execution)


def _next_finally(execution: Execution, fits: Fits) -> StepDefinition | None:
    """Return the first `settled` step that is ready; one that does not run may settle another."""
    for step in execution.flow.steps:
        passed = step.id in execution.steps or step.id in execution.tried
        if is_finally(step) and not passed and all_settled(execution, step, fits):
            return step
    return None


def _try(
    world: World,
    execution: Execution,
    step: StepDefinition,
    event: Event,
    answers: list[StepRun],
) -> None:
    """Check the labels and criteria of a step that is ready, and run it.

    `answers` are the results that make it run; the failures among them are answered then. The
    criteria of a wait come later, with the event that it waits for.
    """
    context = merged_context(execution, step)
    try:
        if step.correlate is None:
            renderer = _renderer(world, execution, step, event)
            for run in answers:
                _check_labels(world, execution, step, run)
            criteria = True if step.criteria is None else step.criteria
            if not renderer.truth(criteria, "criteria"):
                verdict: Verdict = ("skipped", "criteria", "they are false")
                world.decide(event, execution.flow, step.id, verdict, execution)
                return
    except TemplateError as error:
        fail_step(world, execution, new_run(world, execution, step, event, context), error)
    else:
        run_step(world, execution, step, event, context)
    for run in answers:
        run.answered = True


def _check_labels(world: World, execution: Execution, step: StepDefinition, run: StepRun) -> None:
    """Render the labels of the patterns that a result fits, for the error of a failing one.

    The patterns are tried in order, and the first that fits is enough.
    """
    event = _result(run)
    renderer = _renderer(world, execution, step, event)
    for pattern in fitting(step, event, of=run.step.id, state=run.state):
        if labels_fit(pattern, event, renderer):
            return


def _note_unreachable(
    world: World, execution: Execution, run: StepRun, fits: Fits, earlier: int
) -> None:
    """Decide once about each step that can no longer run.

    One that this result has just skipped by its state or criteria needs no second decision; those
    about it are behind the `earlier` ones.
    """
    for step in execution.flow.steps:
        passed = step.id in execution.steps or step.id in execution.tried or step.is_trigger
        if passed or step.id in execution.unreachable or can_run(execution, step, fits):
            continue
        execution.unreachable.add(step.id)
        if not _was_skipped(world.decisions[earlier:], execution, step):
            _skip(world, execution, step, run, ("unreachable", "it can no longer run"))


def _was_skipped(decisions: Sequence[Decision], execution: Execution, step: StepDefinition) -> bool:
    return any(
        decision.reason in {"state", "criteria"}
        for decision in decisions
        if (decision.execution_id, decision.step) == (execution.execution_id, step.id)
    )


def _judge_failures(world: World, execution: Execution, fits: Fits) -> None:
    """Report each failure that made no step run and that no step can answer any more."""
    for run in execution.steps.values():
        if is_unanswered(execution, run, fits):
            run.answered = False
            event = _result(run)
            report_failure(world, execution, reason_of(event), event)


# ------------------------------------------------------------------------------- the end of a wait


def resume(world: World, execution: Execution, step_id: str, event: Event) -> None:
    """Carry on a wait whose key an event has; while its criteria are false or fail, it goes on.

    The execution takes over a greater depth.
    """
    run = execution.steps[step_id]

    def decide(*verdict: *Verdict) -> None:
        world.decide(event, execution.flow, step_id, verdict, execution)

    if execution.is_over:
        reason = "cancelled" if execution.state == "CANCELLED" else "ended"
        decide("skipped", reason, f"the execution is {execution.state}")
        return
    if not run.waits:
        decide("skipped", "alreadyRan", "the wait is over")
        return
    renderer = Renderer(world, execution.flow, event, step_id).with_execution(
        execution, run.context
    )
    try:
        patterns = fitting(run.step, event, state=event.state)
        if not any(labels_fit(pattern, event, renderer) for pattern in patterns):
            decide("skipped", "packLabels", "the labels of the sender do not match")
            return
        criteria = True if run.step.criteria is None else run.step.criteria
        if not renderer.truth(criteria, "criteria"):
            decide("skipped", "criteria", "they are false; the wait goes on")
            return
    except TemplateError as error:
        decide("failed", "error", f"{error.message}; the wait goes on")
        return
    run.waits, run.event = False, event
    execution.depth = max(execution.depth, event.depth)
    decide("ran", "resumed", "the event ends the wait")
    try:
        perform(world, execution, run)
    except TemplateError as error:
        fail_step(world, execution, run, error)
    continue_execution(world, execution)


def end_delay(world: World, execution: Execution, run: StepRun) -> None:
    """Give a delayed gate its result."""
    finish_step(world, run, run.event, "SUCCEEDED")
    continue_execution(world, execution)
