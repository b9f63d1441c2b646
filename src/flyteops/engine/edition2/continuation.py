"""The continuation of an execution: the steps that its new results make run."""

from collections.abc import Sequence

from flyteops.document import decode_json
from flyteops.engine.edition2.document import UnansweredFailure
from flyteops.engine.edition2.draft import Draft, Result
from flyteops.engine.edition2.ending import end_if_over, reason_of, report
from flyteops.engine.edition2.plan import PlannedStep
from flyteops.engine.edition2.readiness import (
    Settling,
    answer_less,
    complete,
    count,
    is_live,
    mark_tried,
    missing,
    why_not,
)
from flyteops.engine.edition2.running import fail_step, merged_context, new_run, run_step
from flyteops.engine.edition2.view import Deferred
from flyteops.errors import TemplateError, TemplateRenderError


def continue_execution(draft: Draft) -> None:
    """Try the steps behind every new result, in the order of the results.

    For each: the steps that depend on it in the order of the file, then each `settled` step that
    became ready. Results of gates and `Error` follow in the same commit. Then failures are judged,
    and the execution may end.
    """
    while draft.results:
        result = draft.results.popleft()
        draft.uncontinued.discard(result.step_id)
        _Turn(draft, result).take()
    _judge_failures(draft)
    end_if_over(draft)


def _judge_failures(draft: Draft) -> None:
    """Report each failure that made no step run and that no step can answer any more."""
    lost = [step_id for step_id, failure in draft.failures.items() if not failure.live]
    for step_id in sorted(lost, key=lambda each: draft.steps[each].number):
        failure = draft.failures.pop(step_id)
        draft.fields["has_failed"] = True
        event_id = draft.steps[step_id].result_id
        report(draft, failure.reason, step_id=step_id, event_id=event_id)


class _Turn:
    """The continuation of one result."""

    def __init__(self, draft: Draft, result: Result) -> None:
        self._draft = draft
        self._result = result
        self._settling = Settling(draft)
        self._is_answered = False
        self._skipped: set[str] = set()

    def take(self) -> None:
        draft, plan = self._draft, self._draft.plan
        position = draft.planned(self._result.step_id).position
        dependents = [plan.steps[each] for each in plan.dependents[position]]
        for step in dependents:
            self._try_after(step)
        if self._result.state == "FAILED" and not self._is_answered:
            live = sum(is_live(draft, step) for step in dependents)
            draft.failures[self._result.step_id] = UnansweredFailure(live, reason_of(self._result))
        for each in plan.finallys[position]:
            self._settling.add_result(plan.steps[each], counts=True)
        while (ready := self._settling.next_ready()) is not None:
            self._try_finally(ready)
        self._note_unreachable()

    def _skip(self, step: PlannedStep, reason: str, detail: str) -> None:
        if reason in ("state", "criteria"):
            self._skipped.add(step.id)
        self._draft.decide(self._result.event.event_id, step, "skipped", reason, detail)

    def _try_after(self, step: PlannedStep) -> None:
        """Try a step that depends on one with a result: `any` at each that counts, `all` once."""
        draft, result = self._draft, self._result
        if step.id in draft.steps:
            self._skip(step, "alreadyRan", "it has run in this execution")
            return
        counted = count(draft, step, result)
        fault = counted.fault
        if not counted.is_counted:
            self._skip(step, *why_not(step, result))
        elif step.mode == "any":
            self._try(step, [result.step_id], fault)
        elif (progress := complete(draft, step)) is not None:
            mark_tried(draft, step)
            ids = [draft.plan.steps[need].id for need in step.needs]
            self._try(step, ids, progress.fault or fault)
            if step.id not in draft.steps:
                self._settling.end(step)
        else:
            waited = ", ".join(missing(draft, step)) or "results that fit"
            self._skip(step, "dependsOn", f"it waits for {waited}")
        self._settling.add_result(step, counts=counted.is_counted, fault=fault)

    def _try_finally(self, step: PlannedStep) -> None:
        mark_tried(self._draft, step)
        self._try(step, [], None)
        if step.id not in self._draft.steps:
            self._settling.end(step)

    def _try(self, step: PlannedStep, answered: Sequence[str], fault: str | None) -> None:
        """Check the criteria of a step that is ready, and run it.

        `answered` are the steps whose results make it run. The criteria of a wait come later, with
        the event that it waits for.
        """
        draft, event = self._draft, self._result.event
        context = Deferred(lambda: decode_json(bytes(merged_context(draft, step))))
        try:
            if fault is not None:
                raise TemplateRenderError(fault)
            if step.key is None and not step.is_unconditional:
                renderer = draft.renderer(step.id, event, context, "criteria")
                if not renderer.truth(step.criteria, "criteria"):
                    self._skip(step, "criteria", "the criteria are false")
                    return
        except TemplateError as error:
            new_run(draft, step, event, merged_context(draft, step))
            fail_step(draft, step, error)
        else:
            run_step(draft, step, event, merged_context(draft, step))
        self._is_answered = self._is_answered or self._result.step_id in answered
        for step_id in answered:
            draft.failures.pop(step_id, None)
        answer_less(draft, step)

    def _note_unreachable(self) -> None:
        """Decide once about each step that can no longer run.

        One that this result has just skipped by its state or criteria needs no second decision.
        """
        draft = self._draft
        steps = sorted(
            (draft.planned(each) for each in draft.unreachable), key=lambda each: each.position
        )
        draft.unreachable = []
        for step in steps:
            if step.id not in self._skipped:
                self._skip(step, "unreachable", "it can no longer run")
