"""The decisions that the store asks for while it changes an action or a schedule."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from flyteops.engine.context import EvaluationContext
from flyteops.engine.evaluation import evaluate, evaluate_result, evaluate_schedule, on_timeout
from flyteops.flow.policy import next_run_of
from flyteops.model import ActionSnapshot, Evaluation, Event
from flyteops.service.flow import FlowRegistry
from flyteops.service.missedrun import MissedRuns
from flyteops.storage.base import Decide, TimerRules
from flyteops.transition import (
    DueSchedule,
    FailAction,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
)


class Decider:
    """Decides on results, lost actions and due steps with the flows in memory.

    The store calls these methods inside the transaction that carries the decision out, in the
    thread of its writer, and again when it retries. They neither wait nor store anything, and share
    the flows with the event loop. All are to be called inside `FlowRegistry.with_versions`.
    """

    def __init__(
        self, flows: FlowRegistry, new_context: Callable[[datetime], EvaluationContext]
    ) -> None:
        self._flows = flows
        self._new_context = new_context
        self.missed = MissedRuns()

    def on_result(
        self,
        event: Event,
        ctx: EvaluationContext,
        rule: Callable[[ActionSnapshot], LateResult | bool],
    ) -> Decide:
        """Return the function that decides on a result which `rule` accepts, keeps or ignores."""

        def decide(snapshot: ActionSnapshot) -> Evaluation | LateResult | None:
            ruled = rule(snapshot)
            if isinstance(ruled, LateResult):
                return ruled
            if not ruled:
                return None
            flow = self._flows.version(snapshot.flow_name, snapshot.flow_uuid)
            if flow is None:
                return evaluate(event, self._flows.index, ctx)
            return evaluate_result(event, self._flows.index, flow, snapshot, ctx)

        return decide

    def timers_at(self, now: datetime) -> TimerRules:
        """Return the rules for timers that are due at a time.

        It is the time of the store's transaction, which may differ from the clock's after that was
        set: a retry that is due by another clock would come too late.
        """
        return _DueTimers(self._flows, partial(self._new_context, now), self.missed)


class _DueTimers:
    """The rules for timers that are due. See `TimerRules`."""

    def __init__(
        self,
        flows: FlowRegistry,
        new_context: Callable[[], EvaluationContext],
        missed: MissedRuns,
    ) -> None:
        self._flows = flows
        self._new_context = new_context
        self._missed = missed

    def on_timeout(self, snapshot: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        """Decide on an action whose pack was silent for too long."""
        flow = self._flows.version(snapshot.flow_name, snapshot.flow_uuid)
        return on_timeout(self._flows.index, flow, snapshot, self._new_context())

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        """Decide on a step that is due."""
        # The version is the store's, which may have been saved a moment ago, and not be current
        # here yet.
        flow = self._flows.version(step.flow_name, step.flow_uuid)
        schedule = None if flow is None else flow.steps[step.step_index].step.schedule
        if flow is None or schedule is None:
            return ScheduledRun(None, Evaluation(), None)
        ctx = self._new_context()
        ticked = next_run_of(schedule, step.due_at, ctx.now)
        self._missed.note(step, flow.steps[step.step_index].step, ctx.now, ticked)
        if ticked.fires_for is None:
            return ScheduledRun(None, Evaluation(), ticked.next_at)
        event, outcome = evaluate_schedule(flow, step.step_index, ticked.fires_for, ctx)
        return ScheduledRun(event, outcome, ticked.next_at)
