"""Values for tests: small, valid, and different from each other where they must be."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from flyteops.model import (
    ActionSnapshot,
    Decision,
    Evaluation,
    Event,
    Flow,
    FlowVersion,
    NewAction,
    Pack,
    PackDeclaration,
    PackRef,
)

NOON = datetime(2024, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)

SENDER = PackRef("Watcher.env.prod", "Watcher", {"env": "prod"})
WORKER = PackRef("Worker.env.prod.zone.eu", "Worker", {"env": "prod", "zone": "eu"})


def minutes(count: float) -> datetime:
    """Return the time so many minutes after noon."""
    return NOON + timedelta(minutes=count)


class Sample:
    """Makes values whose ids count up, so that a failure identifies them."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def event(self, name: str = "Asked", at: datetime = NOON, **fields: Any) -> Event:
        values: dict[str, Any] = {
            "event_id": f"event-{next(self._numbers)}",
            "pack": SENDER,
            "payload": b'{"message":"hi"}',
        }
        return Event(**{**values, "name": name, "received_at": at, **fields})

    def action(self, **fields: object) -> NewAction:
        number = next(self._numbers)
        values: dict[str, Any] = {
            "action_id": f"action-{number}",
            "correlation_id": f"run-{number}",
            "flow_name": "Deploy",
            "flow_uuid": "uuid-of-deploy",
            "step_id": "first",
            "step_index": 0,
            "name": "Deploy",
            "pack_name": "Worker",
            "pack_labels": {},
            "input": b'{"to":"prod"}',
            "context": {},
        }
        return NewAction(**{**values, **fields})

    def pack(self, name: str = "Worker", at: datetime = NOON, **labels: str) -> Pack:
        return PackDeclaration(name, labels).seen(at)

    def flow(self, name: str = "Deploy", description: str = "", at: datetime = NOON) -> FlowVersion:
        return FlowVersion(f"uuid-{next(self._numbers)}", Flow(name, description), at)


def decision(flow_name: str = "Deploy", **fields: object) -> Decision:
    """Return a decision not to run a step of the flow."""
    values: dict[str, Any] = {
        "flow_uuid": f"uuid-of-{flow_name}",
        "step_id": "first",
        "step_index": 0,
        "outcome": "skipped",
        "reason": "criteria",
        "detail": "The criteria are not met.",
    }
    return Decision(flow_name=flow_name, **{**values, **fields})


def creating(*actions: NewAction) -> Evaluation:
    """Return an outcome with these actions and the decisions that created them."""
    return Evaluation(
        tuple(
            decision(
                action.flow_name,
                flow_uuid=action.flow_uuid,
                step_id=action.step_id,
                step_index=action.step_index,
                outcome="ran",
                reason="passed",
                detail="It ran.",
                correlation_id=action.correlation_id,
                action_id=action.action_id,
            )
            for action in actions
        ),
        actions,
    )


def always(outcome: Evaluation | None) -> Callable[[ActionSnapshot], Evaluation | None]:
    """Return a `decide` with a constant result."""
    return lambda _: outcome


NOTHING = Evaluation()
