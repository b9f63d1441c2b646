"""Readiness: counters of the dependencies of a step, and the steps that can no longer run.

Each pair of a step and one that it depends on is counted once in an execution, so that a long flow
costs as much as its results and not as much as all pairs of its steps.
"""

from heapq import heappop, heappush
from typing import NamedTuple

import msgspec

from flyteops.document import decode_json
from flyteops.engine.edition2.document import Readiness
from flyteops.engine.edition2.draft import UNTOUCHED, Draft, Result
from flyteops.engine.edition2.pattern import fitting, labels_fit
from flyteops.engine.edition2.plan import PlannedStep
from flyteops.engine.edition2.running import merged_context
from flyteops.engine.edition2.view import Deferred
from flyteops.errors import TemplateError


class Count(NamedTuple):
    """Whether a result counts for a step; with a `fault` it does, to fail the step."""

    is_counted: bool
    fault: str | None = None


def count(draft: Draft, step: PlannedStep, result: Result) -> Count:
    """Return whether a result counts for a step.

    Without `event` a result counts if it has SUCCEEDED; with `event`, if it fits a pattern.
    """
    if not step.judges_by_pattern:
        return Count(result.state == "SUCCEEDED")
    patterns = list(fitting(step, result.event, result.state, of=result.step_id))
    if not patterns:
        return Count(is_counted=False)
    if not patterns[0].labels:  # they are tried in order, and the first that fits is enough
        return Count(is_counted=True)
    context = Deferred(lambda: decode_json(bytes(merged_context(draft, step))))
    renderer = draft.renderer(step.id, result.event, context, "labels")
    try:
        labels = result.event.pack.labels
        return Count(any(labels_fit(each, labels, renderer) for each in patterns))
    except TemplateError as error:
        return Count(is_counted=True, fault=error.message)


def why_not(step: PlannedStep, result: Result) -> tuple[str, str]:
    """Return the reason and its words why a result does not count for a step."""
    found = f"the result of {result.step_id} is {result.event.name} ({result.state})"
    if not step.judges_by_pattern:
        return "state", f"{found}; it runs after success"
    for state in ("SUCCEEDED", "FAILED"):
        for each in fitting(step, result.event, state, of=result.step_id):
            if each.pattern.state not in (None, result.state):
                return "state", f"{found}, which is another state than the pattern's"
    return "dependsOn", f"{found}, which fits no pattern"


def missing(draft: Draft, step: PlannedStep) -> list[str]:
    """Return the steps depended on that have no continued result yet."""
    ids = (draft.plan.steps[need].id for need in step.needs)
    return sorted(
        each
        for each in ids
        if each in draft.uncontinued or each not in draft.steps or draft.steps[each].state is None
    )


class Settling:
    """The steps that become settled in one turn, and the `settled` steps that become ready."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._ready: list[int] = []

    def next_ready(self) -> PlannedStep | None:
        """Return the next `settled` step that is ready, in the order of the file."""
        return self._draft.plan.steps[heappop(self._ready)] if self._ready else None

    def add_result(self, step: PlannedStep, *, counts: bool, fault: str | None = None) -> None:
        """Count a continued result for a step that depends on it."""
        if self._settle(step, counts=counts, fault=fault):
            self.end(step)

    def end(self, step: PlannedStep) -> None:
        """Count a step that can no longer run, and all that can therefore no longer run either."""
        plan, stack = self._draft.plan, [step.position]
        while stack:
            position = stack.pop()
            answer_less(self._draft, plan.steps[position])
            stack += (
                each
                for each in (*plan.dependents[position], *plan.finallys[position])
                if self._settle(plan.steps[each], counts=False)
            )

    def _settle(self, step: PlannedStep, *, counts: bool, fault: str | None = None) -> bool:
        """Count a settled step for one that depends on it; return whether that is dead by it."""
        draft = self._draft
        old = draft.readiness.get(step.id, UNTOUCHED)
        if step.id in draft.steps or old.is_over:
            return False
        new = Readiness(old.settled + 1, old.results + counts, fault=old.fault or fault)
        is_last = new.settled == len(step.needs)
        if step.mode == "all":
            is_dead = new.results < new.settled
        elif step.mode == "settled":
            is_dead = is_last and not new.results
            if is_last and new.results:
                heappush(self._ready, step.position)
        else:
            is_dead = is_last
        if is_dead:
            new = msgspec.structs.replace(new, is_dead=True)
            draft.unreachable.append(step.id)
        draft.readiness[step.id] = new
        return is_dead


def complete(draft: Draft, step: PlannedStep) -> Readiness | None:
    """Return the progress of a join that one more result completes, else None."""
    found = draft.readiness.get(step.id, UNTOUCHED)
    is_complete = not found.is_over and found.results + 1 == len(step.needs)
    return found if is_complete else None


def mark_tried(draft: Draft, step: PlannedStep) -> None:
    """Note that the condition of a join or of a `settled` step was met; it is not tried again."""
    old = draft.readiness.get(step.id, UNTOUCHED)
    draft.readiness[step.id] = msgspec.structs.replace(old, is_tried=True)


def is_live(draft: Draft, step: PlannedStep) -> bool:
    """Return whether a step has not run and still may."""
    if step.mode == "trigger" or step.id in draft.steps:
        return False
    return not draft.readiness.get(step.id, UNTOUCHED).is_over


def answer_less(draft: Draft, step: PlannedStep) -> None:
    """Note that a step which has run, or can no longer run, answers no failure any more."""
    if not draft.failures or step.mode == "settled":
        return
    for need in step.needs:
        step_id = draft.plan.steps[need].id
        failure = draft.failures.get(step_id)
        if failure is not None:
            draft.failures[step_id] = msgspec.structs.replace(failure, live=failure.live - 1)
