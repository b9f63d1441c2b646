"""A play of flows of edition 2 in the model: what a test does not say is ordinary."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from flyteops.definition import FlowDefinition
from flyteops.document import parse_yaml
from flyteops.simulator import Action, Execution, Simulator
from flyteops.timeformat import parse_duration

NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


def read(text: str) -> list[FlowDefinition]:
    """Return the flows of a file; `edition` and `name` may be left out."""
    found = []
    for number, part in enumerate(text.split("\n---\n")):
        value = parse_yaml(part.encode()).value
        given = value if isinstance(value, dict) else {"steps": value}
        ordinary = {"edition": 2, "name": "flow" if not number else f"flow{number}"}
        found.append(msgspec.convert({**ordinary, **given}, FlowDefinition))
    return found


class Play(Simulator):
    """A model with flows from a text, and a pack of each name that does what a test wants."""

    def __init__(self, text: str, **more: Any) -> None:
        super().__init__(read(text), now=NOON, **more)

    def say(self, payload: Any = None, name: str = "Said", **more: Any) -> str:
        """Send an event of the pack Chat."""
        return self.send("Chat", name, payload, **more)

    def do(
        self,
        name: str = "Done",
        payload: Any = None,
        *,
        pack: str = "Worker",
        failure: bool = False,
    ) -> Action:
        """Take the next command of a pack, and complete it."""
        action = self.take(pack)
        assert action is not None, f"there is no command for {pack}"
        self.complete(
            action.action_id, name, payload, failure=failure, lease=action.attempts[-1].lease
        )
        return action

    def do_step(
        self, step: str, name: str = "Done", payload: Any = None, *, failure: bool = False
    ) -> None:
        """Take and complete the open command of a step, whatever the order."""
        for action in self.open_actions:
            if action.step_id == step:
                while action.state == "NEW":
                    assert self.take(action.pack) is not None
                self.complete(
                    action.action_id,
                    name,
                    payload,
                    failure=failure,
                    lease=action.attempts[-1].lease,
                )
                return
        raise AssertionError(f"{step} has no open command")

    def fail(self, payload: Any = None, *, pack: str = "Worker") -> Action:
        return self.do("FATAL", payload, pack=pack)

    def wait(self, duration: str) -> None:
        self.advance(parse_duration(duration))

    @property
    def execution(self) -> Execution:
        """The newest execution."""
        return self.executions[-1]

    @property
    def steps(self) -> dict[str, str | None]:
        """The states of the steps of the newest execution that have run."""
        return {step: run.state for step, run in self.execution.steps.items()}

    @property
    def open(self) -> list[str]:
        """The steps with open actions, in the order of the actions."""
        return [action.step_id for action in self.open_actions]

    def why(self, step: str, flow: str = "flow") -> list[tuple[str, str]]:
        """The decisions on a step: outcome and reason."""
        return [(d.outcome, d.reason) for d in self.decisions if (d.step, d.flow) == (step, flow)]

    def names(self, pack: str = "Flyte") -> list[str]:
        """The names of the events of a pack."""
        return [event.name for event in self.events if event.pack == pack]

    def last(self, name: str) -> Any:
        """The payload of the last event of a name."""
        return next(event.payload for event in reversed(self.events) if event.name == name)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
