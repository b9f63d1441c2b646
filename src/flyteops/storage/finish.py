"""A result to be applied, with its decision: the same for all backends that retry."""

from collections.abc import Sequence

from flyteops.model import ActionSnapshot, Evaluation, Event, NewAction
from flyteops.storage.base import Decide
from flyteops.transition import LateResult


class FinishRequest:
    """A result to be applied to an action.

    `decision` is the last one made about it. A retry after a lost answer that finds the result
    applied makes none: the result was applied with that of the earlier try.
    """

    __slots__ = ("_decide", "action_id", "decision", "result")

    def __init__(self, action_id: str, result: Event, decide: Decide) -> None:
        self.action_id = action_id
        self.result = result
        self._decide = decide
        self.decision: Evaluation | LateResult | None = None

    @property
    def actions(self) -> Sequence[NewAction]:
        """The actions that the decision creates."""
        return self.decision.actions if isinstance(self.decision, Evaluation) else ()

    def decide_early(self, snapshot: ActionSnapshot) -> Evaluation | None:
        """Decide at a progress that may be over; return the decision if it ends the action.

        Everything else, errors included, has to be decided at the present progress.
        """
        try:
            decision = self.decide(snapshot)
        except Exception:  # noqa: BLE001 - an error of a decision at a progress that may be over
            return None
        return decision if isinstance(decision, Evaluation) else None

    def decide(self, snapshot: ActionSnapshot) -> Evaluation | LateResult | None:
        """Decide the consequences of the result at the current progress."""
        self.decision = self._decide(snapshot)
        return self.decision
