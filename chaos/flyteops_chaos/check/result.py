"""Results: acknowledged ones are applied with all that follows, late ones only kept."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyteops_chaos.check.execution import Execution, actions_of, number_of
from flyteops_chaos.flow import LEASED
from flyteops_chaos.history import History, SentResult

FOLLOWING = {"work": "finish", "first": "second"}
"""The step that follows a step, by id."""


def refused(history: History) -> Iterator[str]:
    """Yield results with a response that no result of a handed-out action may get."""
    for (action_id, attempt), result in history.results.items():
        received = next(each for each in history.hand_outs[action_id] if each.attempt == attempt)
        if result.status == 404:
            yield (
                f"action {action_id} ({received.command}) was handed out and is lost: its result"
                " was answered with 404"
            )
        elif result.status == 409 and received.command not in LEASED:
            yield (
                f"action {action_id} ({received.command}) has no lease, and its result was answered"
                " with 409"
            )
        elif result.status == 409 and result.code != "late":
            yield (
                f"action {action_id}: the result of attempt {attempt} was answered with 409 and the"
                f" code {result.code!r}"
            )


def not_fenced(history: History) -> Iterator[str]:
    """Yield results that were acknowledged although their action was handed out again before."""
    for (action_id, attempt), result in history.results.items():
        later = [
            each
            for each in history.hand_outs[action_id]
            if each.attempt > attempt and each.at < result.sent_at
        ]
        if result.status == 202 and later:
            yield (
                f"action {action_id}: the result of attempt {attempt}, which was lost, was applied;"
                f" attempt {later[0].attempt} had been handed out before it was sent"
            )


def lost(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    """Yield results that were acknowledged and not applied, and those without their next step."""
    actions = {action["id"]: (execution, action) for execution, action in actions_of(executions)}
    for action_id, result in history.applied.items():
        if action_id not in actions:
            yield f"action {action_id} had its result acknowledged and is lost"
            continue
        execution, action = actions[action_id]
        if not _is_applied(result, action):
            yield (
                f"action {action_id} had its result {result.event} acknowledged and is"
                f" {action['state']['value']}"
            )
        elif FOLLOWING.get(action["stepId"], action["stepId"]) not in execution["actions"]:
            yield (
                f"event {number_of(execution)}: the result of its first step was acknowledged, and"
                " the second was never begun"
            )
    yield from _not_joined(executions)


def _is_applied(result: SentResult, action: Mapping[str, Any]) -> bool:
    if action["state"]["value"] != "SUCCESS" or action["result"]["event"] != result.event:
        return False
    return bool(action["result"]["payload"] == result.payload)


def _not_joined(executions: Sequence[Execution]) -> Iterator[str]:
    for execution in executions:
        states = {
            step_id: action["state"]["value"] for step_id, action in execution["actions"].items()
        }
        is_complete = states.get("left") == states.get("right") == "SUCCESS"
        if is_complete and "join" not in states:
            yield (
                f"event {number_of(execution)}: both steps that its last one waits for have ended,"
                " and it was never begun"
            )


def late_and_lost(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    """Yield late results that are not kept with their attempt."""
    actions = {action["id"]: action for _, action in actions_of(executions)}
    for (action_id, attempt), result in history.results.items():
        if result.status != 409 or result.code != "late" or action_id not in actions:
            continue
        kept = [
            each.get("lateResult")
            for each in actions[action_id]["attempts"]
            if each["number"] == attempt
        ]
        if not any(late and late["payload"] == result.payload for late in kept):
            yield f"action {action_id}: the late result of attempt {attempt} is not kept"


def overtaken(executions: Sequence[Execution]) -> Iterator[str]:
    """Yield actions whose result is from an attempt before the last one."""
    for _, action in actions_of(executions):
        attempts = [attempt["number"] for attempt in action.get("attempts", ())]
        applied = (
            (action["result"].get("payload") or {}).get("attempt")
            if action["state"]["value"] == "SUCCESS"
            else None
        )
        if attempts and applied is not None and applied != max(attempts):
            yield (
                f"action {action['id']} has the result of attempt {applied}, and was handed out"
                f" {max(attempts)} times"
            )
