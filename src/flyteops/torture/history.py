"""What the clients know, and whether what the server has agrees with it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FLOW = "torture"

STEPS: list[dict[str, Any]] = [
    {
        "id": "work",
        "event": {"name": "Begun", "packName": "Torturer"},
        "context": {"number": "{{ Event.Payload.number|integer }}"},
        "command": {
            "name": "Work",
            "packName": "Torturer",
            "input": "{{ Event.Payload.number|integer }}",
            "timeout": "1s",
            "retry": {"attempts": 50, "backoff": "100ms", "maxBackoff": "500ms"},
        },
    },
    {
        "id": "finish",
        "dependsOn": ["work"],
        "event": {"name": "Worked", "packName": "Torturer"},
        "command": {"name": "Finish", "packName": "Torturer", "input": "{{ Context.number }}"},
    },
]
"""A step whose command may be lost and is handed out again, and one whose command is handed out once."""

LEASE_SECONDS = 1.0


@dataclass
class History:
    """What the clients were told: every acknowledged event and result, and everything that was handed out.

    `handed_out` has for each action the attempts in the order in which clients got them; `results` the events that were answered
    with 202, by action.
    """

    begun: set[int] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    handed_out: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    commands: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def hand_out(self, action_id: str, command: str, attempt: int) -> None:
        """Note that a client got an action."""
        self.handed_out[action_id].append(attempt)
        self.commands[action_id] = command


def faults_in(history: History, executions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every promise that was broken, given all executions as the audit shows them after everything has come to rest."""
    return [
        *_lost_or_doubled_events(history, executions),
        *_wrong_results(history, executions),
        *_double_hand_outs(history),
        *_stuck(executions),
    ]


def _number(execution: Mapping[str, Any]) -> int:
    return int(execution["actions"]["work"]["trigger"]["payload"]["number"])


def _lost_or_doubled_events(history: History, executions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    count = Counter(_number(execution) for execution in executions)
    for number in sorted(history.begun - set(count)):
        yield f"event {number} was acknowledged and is lost"
    for number, times in sorted(count.items()):
        if times > 1:
            yield f"event {number} has {times} executions"
        if number not in history.tried:
            yield f"event {number} was never sent"


def _wrong_results(history: History, executions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    actions = {action["id"]: (execution, action) for execution in executions for action in execution["actions"].values()}
    for action_id, event in history.results.items():
        if action_id not in actions:
            yield f"action {action_id} had its result acknowledged and is lost"
            continue
        execution, action = actions[action_id]
        if action["state"]["value"] != "SUCCESS" or action["result"]["event"] != event:
            yield f"action {action_id} had its result {event} acknowledged and is {action['state']['value']}"
        elif action["stepId"] == "work" and "finish" not in execution["actions"]:
            yield f"event {_number(execution)}: the result of its first step was acknowledged, and the second was never begun"


def _double_hand_outs(history: History) -> Iterator[str]:
    for action_id, attempts in history.handed_out.items():
        command = history.commands[action_id]
        if command == "Finish" and len(attempts) > 1:
            yield f"action {action_id} ({command}) was handed out {len(attempts)} times; it has no lease"
        if len(set(attempts)) < len(attempts):
            yield f"action {action_id} ({command}): an attempt was handed out twice: {attempts}"


def _stuck(executions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for execution in executions:
        for step_id, action in execution["actions"].items():
            state = action["state"]["value"]
            # One that may be handed out only once stays with whoever has it, or never got the answer.
            if state not in ("SUCCESS", "FATAL") and not (step_id == "finish" and state == "PENDING"):
                yield f"event {_number(execution)}: its step {step_id} is stuck in {state}"
