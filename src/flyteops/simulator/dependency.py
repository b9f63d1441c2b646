"""Dependencies: which steps are ready, which can no longer run, and which failures are answered.

This is the table of the specification. `fits` says whether the result of a step fits the patterns
of another one.
"""

from collections.abc import Callable, Iterator

from flyteops.definition import StepDefinition
from flyteops.simulator.record import Execution, StepRun

Fits = Callable[[StepDefinition, StepRun], bool]


def dependencies(step: StepDefinition) -> tuple[str, ...]:
    """Return the ids of the steps that a step depends on."""
    wanted = step.dependency
    return () if wanted is None else wanted.any or wanted.all or wanted.settled or ()


def is_finally(step: StepDefinition) -> bool:
    """Return whether a step depends on others with `settled`."""
    return step.dependency is not None and step.dependency.settled is not None


def is_join(step: StepDefinition) -> bool:
    """Return whether a step depends on others with `all`."""
    return step.dependency is not None and step.dependency.all is not None


def counts(step: StepDefinition, run: StepRun, fits: Fits) -> bool:
    """Return whether a result counts for a step.

    Without `event` a result counts if it has SUCCEEDED; with `event`, if it fits a pattern. The
    `event` of a wait is that from outside, so a wait counts results like a step without one.
    """
    if step.patterns and step.correlate is None:
        return fits(step, run)
    return run.state == "SUCCEEDED"


def finished(execution: Execution, step: StepDefinition) -> list[StepRun]:
    """Return the results of the steps that a step depends on, in the order of the results.

    One that was not continued yet is left out: its turn comes later in the same commit.
    """
    runs = [execution.steps[each] for each in dependencies(step) if each in execution.steps]
    done = {run.step.id: run for run in runs if run.continued}
    return sorted(done.values(), key=lambda run: run.result_number)


def is_complete(execution: Execution, step: StepDefinition, fits: Fits) -> bool:
    """Return whether the condition of an `all` holds: all have results that count."""
    runs = finished(execution, step)
    return len(runs) == len(set(dependencies(step))) and all(
        counts(step, run, fits) for run in runs
    )


def is_settled(execution: Execution, step_id: str, fits: Fits) -> bool:
    """Return whether a step has a result that was continued, or can no longer run."""
    if step_id in execution.steps:
        return execution.steps[step_id].continued
    return not can_run(execution, _step(execution, step_id), fits)


def all_settled(execution: Execution, step: StepDefinition, fits: Fits) -> bool:
    """Return whether the condition of a `settled` holds: all are settled, and one has a result."""
    return bool(finished(execution, step)) and all(
        is_settled(execution, each, fits) for each in dependencies(step)
    )


def can_run(execution: Execution, step: StepDefinition, fits: Fits) -> bool:
    """Return whether a step that has not run may still do so.

    A trigger never runs later. A step can no longer run once all that it depends on is settled and
    was continued without running it; an `all` as soon as one result does not count or one step
    cannot run.
    """
    if step.is_trigger or step.id in execution.steps or step.id in execution.tried:
        return False
    needed = dependencies(step)
    if is_join(step):
        return all(counts(step, run, fits) for run in finished(execution, step)) and all(
            _may_matter(execution, each, fits) or each in execution.steps for each in needed
        )
    if is_finally(step) and finished(execution, step):
        return True
    return any(_may_matter(execution, each, fits) for each in needed)


def _may_matter(execution: Execution, step_id: str, fits: Fits) -> bool:
    """Return whether a step may yet have a result that the steps behind it were not tried with."""
    if step_id in execution.steps:
        return not execution.steps[step_id].continued
    return can_run(execution, _step(execution, step_id), fits)


def is_unanswered(execution: Execution, run: StepRun, fits: Fits) -> bool:
    """Return whether a failure made no step run, and no step that depends on it can still run.

    A `settled` step is a "finally": it runs whether or not the step failed, so it answers nothing.
    A wait that a failure made ready cannot exist, as waits count results that have SUCCEEDED.
    """
    if run.state != "FAILED" or run.answered is not None or not run.continued:
        return False
    return not any(can_run(execution, step, fits) for step in behind(execution, run))


def behind(execution: Execution, run: StepRun) -> Iterator[StepDefinition]:
    """Yield the steps that depend on a step, `settled` ones aside, in the order of the file."""
    for step in execution.flow.steps:
        if run.step.id in dependencies(step) and not is_finally(step):
            yield step


def _step(execution: Execution, step_id: str) -> StepDefinition:
    return next(step for step in execution.flow.steps if step.id == step_id)
