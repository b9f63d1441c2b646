"""The flows of a torture run and the pack that they use.

There is one flow per kind of work, so that each promise is tested.
"""

from datetime import timedelta
from typing import Any

PACK = "Torturer"
HOOK = "torture"

WORK, DELAY, JOIN, VERSION, HOOKED, OFFER = "work", "delay", "join", "version", "hook", "offer"
KINDS = (WORK, DELAY, JOIN, VERSION, HOOKED, OFFER)
"""The kinds of numbered events. The flow of a kind is named ``torture-KIND``."""

SCHEDULE = "schedule"
SCHEDULES = 2
"""The number of flows that run by themselves."""

LEASE = timedelta(seconds=1)

DELAY_SECONDS = 1.0
"""The shortest delay after which a delayed action may be handed out."""

LEASED = frozenset(["Work", "First", "Scheduled"])
"""The commands with a time limit: they may be handed out again.

All others are handed out at most once.
"""

LAST = {
    WORK: "Finish",
    DELAY: "Delayed",
    JOIN: "Join",
    VERSION: "Second",
    HOOKED: "Hooked",
    OFFER: "Fetch",
}
"""The command that ends an execution, by kind."""

COMMANDS = (
    "Work",
    "Finish",
    "Delayed",
    "Left",
    "Right",
    "Join",
    "First",
    "Second",
    "Hooked",
    "Fetch",
    "Scheduled",
)

NUMBER = "{{ Event.Payload.number|integer }}"
CARRIED = {"number": "{{ Context.number }}"}
"""The input of a step that is not the first of its execution."""

LIMITED = {"timeout": "1s", "retry": {"attempts": 50, "backoff": "100ms", "maxBackoff": "500ms"}}
"""The terms of the commands in `LEASED`."""


def pack() -> dict[str, Any]:
    """Return the declaration of the pack."""
    return {"name": PACK, "commands": [{"name": name} for name in COMMANDS]}


def flow_name(kind: str) -> str:
    """Return the name of the flow of a kind."""
    return f"torture-{kind}"


def event_name(kind: str) -> str:
    """Return the name of the event that begins an execution."""
    return f"{kind.capitalize()}Begun"


def result_name(command: str) -> str:
    """Return the name of the event that is the result of a command.

    Both sides of a join have the same.
    """
    return "SideDone" if command in ("Left", "Right") else f"{command}Done"


def flows(delay_seconds: float) -> list[dict[str, Any]]:
    """Return all flows but those with a schedule."""
    return [_work(), _delay(delay_seconds), _join(), version_flow(1), _hook(), _offer()]


def _first(kind: str, command: str, step_id: str = "first", **more: object) -> dict[str, Any]:
    """Return a step that begins an execution."""
    return {
        "id": step_id,
        "event": {"name": event_name(kind), "packName": PACK},
        "context": {"number": NUMBER},
        "command": {"name": command, "packName": PACK, "input": {"number": NUMBER}, **more},
    }


def _then(command: str, depends_on: object, event: str, step_id: str) -> dict[str, Any]:
    return {
        "id": step_id,
        "dependsOn": depends_on,
        "event": {"name": event, "packName": PACK},
        "command": {"name": command, "packName": PACK, "input": CARRIED},
    }


def _flow(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"name": flow_name(kind), "steps": list(steps)}


def _work() -> dict[str, Any]:
    """Return a step whose command may be lost and is handed out again, and one handed out once."""
    return _flow(
        WORK,
        _first(WORK, "Work", "work", **LIMITED),
        _then("Finish", ["work"], "WorkDone", "finish"),
    )


def _delay(seconds: float) -> dict[str, Any]:
    return _flow(
        DELAY, {**_first(DELAY, "Delayed", "delayed"), "delay": f"{round(seconds * 1000)}ms"}
    )


def _join() -> dict[str, Any]:
    """Return two steps that begin at the same time, and one that waits for both."""
    sides = _first(JOIN, "Left", "left"), _first(JOIN, "Right", "right")
    return _flow(JOIN, *sides, _then("Join", {"all": ["left", "right"]}, "SideDone", "join"))


def version_flow(version: int) -> dict[str, Any]:
    """Return a version of the flow that changes all the time.

    Each command carries the version that it came from.
    """
    first = _first(VERSION, "First", "first", **LIMITED)
    second = _then("Second", ["first"], "FirstDone", "second")
    for step in (first, second):
        step["command"]["input"] = {**step["command"]["input"], "version": str(version)}
    return _flow(VERSION, first, second)


def _hook() -> dict[str, Any]:
    number = "{{ Event.Payload.body.number|integer }}"
    command = {"name": "Hooked", "packName": PACK, "input": {"number": number}}
    return _flow(
        HOOKED, {"id": "hooked", "event": {"name": HOOK, "packName": "Webhook"}, "command": command}
    )


def _offer() -> dict[str, Any]:
    """Return a command for packs that disconnect while they take it."""
    return _flow(OFFER, _first(OFFER, "Fetch", "fetch"))


def schedule_flow(number: int) -> dict[str, Any]:
    """Return a flow that runs every minute, and for each missed minute."""
    flow = f"{flow_name(SCHEDULE)}-{number}"
    command = {
        "name": "Scheduled",
        "packName": PACK,
        "input": {"flow": flow, "at": "{{ Event.Payload.scheduledAt }}"},
        **LIMITED,
    }
    return {
        "name": flow,
        "steps": [
            {"id": "tick", "schedule": {"cron": "* * * * *", "catchUp": "all"}, "command": command}
        ],
    }
