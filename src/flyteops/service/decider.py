"""The decisions that the store asks for while it changes an action or a schedule."""

from collections.abc import Callable

from flyteops.engine import evaluate, evaluate_result, fire, rule_on_lost
from flyteops.engine.context import Moment
from flyteops.flow.policy import tick_of
from flyteops.model import Event, Outcome, Progress
from flyteops.ruling import Ask, DueStep, Fail, Firing, Late, Repeat
from flyteops.service.flow import FlowRegistry
from flyteops.service.missedrun import MissedRuns
from flyteops.storage.base import Decide


class Decider:
    """Decides on results, lost actions and due steps with the flows in memory.

    The store calls these methods inside the transaction that carries the decision out, in the
    thread of its writer, and again when it retries. They neither wait nor store anything, and share
    the flows with the event loop. All are to be called inside `FlowRegistry.with_versions`.
    """

    def __init__(self, flows: FlowRegistry, new_moment: Callable[[], Moment]) -> None:
        self._flows = flows
        self._new_moment = new_moment
        self.missed = MissedRuns()

    def on_result(self, event: Event, moment: Moment, rule: Callable[[Progress], Late | bool]) -> Decide:
        """Return the function that decides on a result which `rule` accepts, keeps or ignores."""

        def decide(progress: Progress) -> Outcome | Late | None:
            ruled = rule(progress)
            if isinstance(ruled, Late):
                return ruled
            if not ruled:
                return None
            flow = self._flows.version(progress.flow_name, progress.flow_uuid)
            if flow is None:
                return evaluate(event, self._flows.index, moment)
            return evaluate_result(event, self._flows.index, flow, progress, moment)

        return decide

    def lost(self, progress: Progress) -> Repeat | Ask | Fail:
        """Decide on an action whose pack was silent for too long."""
        flow = self._flows.version(progress.flow_name, progress.flow_uuid)
        return rule_on_lost(self._flows.index, flow, progress, self._new_moment())

    def due(self, step: DueStep) -> Firing:
        """Decide on a step that is due."""
        # The version is the store's, which may have been saved a moment ago, and not be current
        # here yet.
        flow = self._flows.version(step.flow_name, step.flow_uuid)
        schedule = None if flow is None else flow.steps[step.step_index].step.schedule
        if flow is None or schedule is None:
            return Firing(None, Outcome(), None)
        moment = self._new_moment()
        ticked = tick_of(schedule, step.due_at, moment.now)
        self.missed.note(step, flow.steps[step.step_index].step, moment.now, ticked)
        if ticked.fires_for is None:
            return Firing(None, Outcome(), ticked.next_at)
        event, outcome = fire(flow, step.step_index, ticked.fires_for, moment)
        return Firing(event, outcome, ticked.next_at)
