"""Hand-outs: to one pack at a time, not before the due time, and to some pack in the end."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyteops_chaos.check.execution import Execution, actions_of, number_of
from flyteops_chaos.flow import DELAY_SECONDS, LEASED
from flyteops_chaos.history import HandOut, History

SLACK = 0.05
"""The seconds by which the clock of the clients may run faster than that of a server meanwhile."""


def doubled(history: History) -> Iterator[str]:
    """Yield actions that were handed out too often, and events whose commands were."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for action_id, received in history.hand_outs.items():
        command, attempts = received[0].command, [each.attempt for each in received]
        ids[command, _cause(received[0])].add(action_id)
        if command not in LEASED and len(attempts) > 1:
            yield (
                f"action {action_id} ({command}) was handed out {len(attempts)} times; it has no"
                " lease"
            )
        if len(set(attempts)) < len(attempts):
            yield f"action {action_id} ({command}): an attempt was handed out twice: {attempts}"
    for (command, cause), found in ids.items():
        if len(found) > 1:
            yield f"{cause} has {len(found)} actions {command}"


def _cause(received: HandOut) -> str:
    """Return the cause of an action: an event or a time of a schedule."""
    if "number" in received.input:
        return f"event {received.number}"
    return f"the schedule {received.input['flow']} at {received.input['at']}"


def early(history: History) -> Iterator[str]:
    """Yield actions that were handed out before the end of their delay or of their dependencies."""
    sides: dict[int | None, list[float]] = defaultdict(list)
    for (action_id, _), result in history.results.items():
        received = history.hand_outs[action_id][0]
        if received.command in ("Left", "Right"):
            sides[received.number].append(result.sent_at)
    for received, *_ in history.hand_outs.values():
        if (
            received.command == "Join"
            and sum(at < received.at for at in sides[received.number]) < 2
        ):
            yield (
                f"event {received.number}: its last step was handed out before both that it waits"
                " for had ended"
            )
        if received.command == "Delayed" and (fault := _is_too_early(history, received)):
            yield fault


def _is_too_early(history: History, received: HandOut) -> str:
    sent = None if received.number is None else history.events.get(received.number)
    if sent is None or any(sent.sent_at - SLACK < at < received.at for at in history.clock_changes):
        return ""
    seconds = received.at - sent.sent_at
    # The server that hands it out may have another clock than the one that took the event.
    if seconds >= DELAY_SECONDS - SLACK - history.clock_spread(sent.sent_at, received.at):
        return ""
    return (
        f"event {received.number}: its action was handed out after {seconds:.2f} s; it is delayed"
        " by more"
    )


def stuck(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    """Yield actions that have not ended and never will."""
    for execution, action in actions_of(executions):
        state = action["state"]["value"]
        if state in ("SUCCESS", "FATAL") or _may_be_lost(history, execution, action):
            continue
        what, step_id = _origin(execution), action["stepId"]
        if state == "PENDING" and action["id"] not in history.hand_outs:
            yield (
                f"{what}: its step {step_id} is with nobody; an action that no pack received was"
                " not handed out again"
            )
        else:
            yield f"{what}: its step {step_id} is stuck in {state}"


def _may_be_lost(history: History, execution: Execution, action: Mapping[str, Any]) -> bool:
    """Return whether an action may be lost with a server that was killed while it handed it out.

    That is so for an action without a lease which no client has received. After the last kill of a
    server, there is no excuse.
    """
    if (
        action["state"]["value"] != "PENDING"
        or action["name"] in LEASED
        or action["id"] in history.hand_outs
    ):
        return False
    number = number_of(execution)
    sent = None if number is None else history.events.get(number)
    return history.kills > 0 and sent is not None and not sent.is_calm


def _origin(execution: Execution) -> str:
    number = number_of(execution)
    return f"the schedule {execution['name']}" if number is None else f"event {number}"
