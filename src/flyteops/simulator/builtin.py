"""The built-in pack `Flyte`: commands that the server carries out itself, as tasks."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from flyteops.definition import StepState
from flyteops.errors import InputError
from flyteops.model import FATAL, SERVER, JsonValue
from flyteops.simulator.ending import end, report_failure
from flyteops.simulator.record import Action, Event, Execution, Item, Question, Timer
from flyteops.simulator.result import new_result, settle, take
from flyteops.simulator.running import finish_step
from flyteops.simulator.starting import publish, start_flow
from flyteops.simulator.world import World
from flyteops.timeformat import parse_duration

OWN_EVENTS = frozenset(
    """Scheduled Called StepFailed PackSilent PackBack Batch Completed TimedOut Expired Error FATAL
    DataSet DataUnchanged EventSent FlowFinished FlowStarted Answered Returned Failed
    """.split()  # noqa: SIM905 - a list takes a line for each
)
"""The names of the server's own events, which `SendEvent` refuses."""

WITHIN = "7d"
OPTIONS = ("approve", "refuse")


class Outcome(NamedTuple):
    """The result of a command of the server."""

    name: str
    payload: JsonValue
    failure: bool = False


def execute(world: World, action_id: str) -> None:
    """Carry out a command; input that does not fit gives `FATAL`.

    A command whose execution has ended, or whose step has timed out, has no effect.
    """
    action = world.action(action_id)
    if action.state != "NEW":
        return
    take(world, action)
    try:
        outcome = COMMANDS.get(action.name, _unknown)(world, action)
    except InputError as error:
        outcome = Outcome(FATAL, {"message": error.message}, failure=True)
    if outcome is not None:
        finish(world, action, outcome)


def _unknown(world: World, action: Action) -> Outcome:
    raise InputError(f"There is no command {action.name!r}; use {', '.join(COMMANDS)}.")


def finish(world: World, action: Action, outcome: Outcome) -> None:
    """Give a command of the server its result."""
    if not action.is_open:
        return
    event = new_result(
        world,
        action,
        Event(pack=SERVER, name=outcome.name, payload=outcome.payload, failure=outcome.failure),
    )
    settle(world, action, event, kind="failed")


def _fields(
    action: Action, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, JsonValue]:
    """Return the input of a command; raise `InputError` for missing and unknown keys."""
    given = action.input
    if not isinstance(given, dict):
        raise InputError(f"{action.name} needs {', '.join(required)}, not {given!r:.80}.")
    missing = [key for key in required if key not in given]
    unknown = [key for key in given if key not in required + optional]
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise InputError(f"The input of {action.name} {wrong}.")
    return given


def _text(given: Mapping[str, JsonValue], key: str) -> str:
    value = given[key]
    if not isinstance(value, str) or not value:
        raise InputError(f"{key} must be a text that is not empty, not {value!r:.80}.")
    return value


def _duration(value: JsonValue, key: str) -> timedelta:
    if not isinstance(value, str):
        raise InputError(f"{key} must be a duration such as 30s, not {value!r:.80}.")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InputError(f"{key}: {error}.") from None


# --------------------------------------------------------------------------------------- datastore


def _set_data(world: World, action: Action) -> Outcome:
    """Set an item; a condition that does not hold gives `DataUnchanged`.

    Without `expires` the item stays, even if it would have expired before.
    """
    given = _fields(action, ("key", "value"), ("ifAbsent", "ifEquals", "expires"))
    key = _data_key(world, given)
    if "ifAbsent" in given and "ifEquals" in given:
        raise InputError("ifAbsent and ifEquals exclude each other.")
    absent = given.get("ifAbsent", False)
    if not isinstance(absent, bool):
        raise InputError(f"ifAbsent must be true or false, not {absent!r:.80}.")
    expires_at = _expiry(world, given)
    if (absent and world.item(key) is not None) or not _equals(world, key, given):
        return _unchanged(world, key)
    return _changed(world, key, Item(value=given["value"], expires_at=expires_at))


def _delete_data(world: World, action: Action) -> Outcome:
    """Delete an item; that it is absent is no condition, so the result is `DataSet` as well."""
    given = _fields(action, ("key",), ("ifEquals",))
    key = _data_key(world, given)
    return _changed(world, key, None) if _equals(world, key, given) else _unchanged(world, key)


def _increment_data(world: World, action: Action) -> Outcome:
    """Add to a number; `expires` counts from the creation of the item."""
    given = _fields(action, ("key",), ("by", "expires"))
    key = _data_key(world, given)
    by, item = given.get("by", 1), world.item(key)
    expires_at = _expiry(world, given)
    if item is not None:
        expires_at = item.expires_at
    current = 0 if item is None or item.value is None else item.value
    for name, value in (("by", by), (key, current)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{name} must be a number, not {value!r:.80}.")
    return _changed(world, key, Item(value=current + by, expires_at=expires_at))


def _data_key(world: World, given: Mapping[str, JsonValue]) -> str:
    key = _text(given, "key")
    if key in world.protected:
        raise InputError(f"Flows may not change the item {key!r}.")
    return key


def _expiry(world: World, given: Mapping[str, JsonValue]) -> datetime | None:
    expires = given.get("expires")
    return None if expires is None else world.now + _duration(expires, "expires")


def _equals(world: World, key: str, given: Mapping[str, JsonValue]) -> bool:
    """Return whether `ifEquals` holds; a missing item equals null, and true is not 1."""
    if "ifEquals" not in given:
        return True
    wanted, current = given["ifEquals"], _value(world, key)
    return wanted == current and isinstance(wanted, bool) == isinstance(current, bool)


def _value(world: World, key: str) -> JsonValue:
    item = world.item(key)
    return None if item is None else item.value


def _changed(world: World, key: str, item: Item | None) -> Outcome:
    old = _value(world, key)
    world.items.pop(key, None)
    if item is not None:
        world.items[key] = item
    new = None if item is None else item.value
    return Outcome("DataSet", {"key": key, "old": old, "new": new})


def _unchanged(world: World, key: str) -> Outcome:
    return Outcome("DataUnchanged", {"key": key, "current": _value(world, key)})


# ------------------------------------------------------------------------------- events and flows


def _send_event(world: World, action: Action) -> Outcome:
    """Send an event, once for each `key`; it may start its own flow, as chains end."""
    given = _fields(action, ("event",), ("payload", "key"))
    name, key = _text(given, "event"), None
    if name in OWN_EVENTS:
        raise InputError(f"{name} is an event of the server; give it another name.")
    if given.get("key") is not None:
        key = _text(given, "key")
        for earlier in world.events:
            if (earlier.pack, earlier.key) == (SERVER, key):
                return Outcome("EventSent", {"event": earlier.name, "id": earlier.event_id})
    execution = world.execution(action.execution_id)
    event = world.record(
        Event(pack=SERVER, name=name, payload=given.get("payload"), key=key), execution=execution
    )
    publish(world, event)
    return Outcome("EventSent", {"event": name, "id": event.event_id})


def _run_flow(world: World, action: Action) -> Outcome | None:
    """Trigger `Called` in a flow; `FlowStarted` or `FlowFinished` follow when that is known."""
    given = _fields(action, ("flow",), ("payload", "wait"))
    name, wait = _text(given, "flow"), given.get("wait", True)
    if not isinstance(wait, bool):
        raise InputError(f"wait must be true or false, not {wait!r:.80}.")
    if name not in world.flows:
        raise InputError(f"There is no flow {name!r}.")
    payload = given.get("payload")
    check_inputs(world, name, payload)
    execution = world.execution(action.execution_id)
    event = world.record(Event(pack=SERVER, name="Called", payload=payload), execution=execution)
    reason = start_flow(world, world.flows[name], event, caller=action.action_id)
    return None if reason is None else _refused(reason)


def check_inputs(world: World, flow: str, payload: JsonValue) -> None:
    """Check the payload of `Called` by the schema of the flow; raise `InputError`."""
    schema = world.flows[flow].inputs
    validate = world.setting.validate
    if schema is not None and validate is not None:
        fault = validate(schema, payload)
        if fault is not None:
            raise InputError(f"The payload does not fit the inputs of {flow}: {fault}.")


def flow_finished(world: World, action_id: str, execution: Execution) -> None:
    """Give a `RunFlow` the end of its execution."""
    payload = {
        "execution": execution.execution_id,
        "state": execution.state,
        "output": execution.output,
    }
    failed = execution.state != "SUCCEEDED"
    finish(world, world.action(action_id), Outcome("FlowFinished", payload, failed))


def flow_started(world: World, action_id: str, execution: Execution) -> None:
    """Give a `RunFlow` that does not wait the beginning of its execution."""
    payload = {"execution": execution.execution_id}
    finish(world, world.action(action_id), Outcome("FlowStarted", payload))


def flow_refused(world: World, action_id: str, reason: str) -> None:
    """Give a `RunFlow` whose start a limit dropped the result `FATAL`."""
    finish(world, world.action(action_id), _refused(reason))


def _refused(reason: str) -> Outcome:
    payload = {"reason": reason, "message": f"the flow did not start: {reason}"}
    return Outcome(FATAL, payload, failure=True)


# --------------------------------------------------------------------------------- Return and Fail


def _return(world: World, action: Action) -> None:
    """End the execution as SUCCEEDED with the input as its output."""
    execution = world.execution(action.execution_id)
    execution.output = action.input
    _stop(world, execution, action, "Returned", "SUCCEEDED")


def _fail(world: World, action: Action) -> None:
    """End the execution as FAILED, and report it."""
    given = _fields(action, ("message",), ())
    execution = world.execution(action.execution_id)
    execution.message = str(given["message"])
    event = _stop(world, execution, action, "Failed", "FAILED")
    report_failure(world, execution, "fail", event)


def _stop(world: World, execution: Execution, action: Action, name: str, state: StepState) -> Event:
    """Finish a command that ends its execution; no step follows from its result."""
    given = Event(pack=SERVER, name=name, payload=action.input, failure=state == "FAILED")
    event = new_result(world, action, given)
    event.state = action.outcome = state
    action.state, action.result, action.finished_at = "SUCCESS", event, world.now
    run = execution.steps[action.step_id]
    if action.index is None:
        finish_step(world, run, event, state)
        run.continued = True
    end(world, execution, state)
    return event


# --------------------------------------------------------------------------------------- questions


def _ask(world: World, action: Action) -> None:
    """Open a question; a person answers it, or it times out."""
    optional = ("options", "who", "requestedBy", "bySelf", "where", "within")
    given = _fields(action, ("question",), optional)
    options = given.get("options") or list(OPTIONS)
    if not _are_texts(options):
        raise InputError(f"options must be a list of texts, not {options!r:.80}.")
    length = _duration(given.get("within") or WITHIN, "within")
    who = given.get("who")
    people = [who] if isinstance(who, str) else who
    if people is not None and not _are_texts(people):
        raise InputError(f"who must be a text or a list of texts, not {who!r:.80}.")
    question = Question(
        question_id=world.new_id("question"),
        action_id=action.action_id,
        text=_text(given, "question"),
        options=options,
        who=people,
        requested_by=given.get("requestedBy"),
        by_self=given.get("bySelf") is True,
        where=given.get("where"),
        due_at=world.now + length,
    )
    world.questions.append(question)
    world.add_timer(
        Timer(
            kind="questionTimeout",
            due_at=question.due_at,
            execution_id=action.execution_id,
            subject=question.question_id,
            length=length,
        )
    )


def _are_texts(value: JsonValue) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def question_timed_out(world: World, question: Question) -> None:
    """Give a question that nobody answered in time the result `TimedOut`."""
    if question.open:
        question.open = False
        payload = {"message": "nobody answered in time"}
        finish(world, world.action(question.action_id), Outcome("TimedOut", payload, failure=True))


def members_of(world: World, question: Question) -> list[str] | None:
    """Return the people who may answer, with those of groups of the item `chatops`; None: all."""
    if question.who is None:
        return None
    chatops = _value(world, "chatops")
    groups = chatops.get("groups", {}) if isinstance(chatops, dict) else {}
    return [
        person
        for each in question.who
        for person in (groups.get(each[6:], []) if each.startswith("group:") else [each])
    ]


Command = Callable[[World, Action], Outcome | None]

COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "SetData": _set_data,
        "DeleteData": _delete_data,
        "IncrementData": _increment_data,
        "SendEvent": _send_event,
        "RunFlow": _run_flow,
        "Return": _return,
        "Fail": _fail,
        "Ask": _ask,
    }
)
