"""The commands that the server executes itself: their inputs, and the events that they answer."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flyteops.convert import kind_of
from flyteops.flow.edition2.form import DurationForm, Fault, Form, NameForm, is_template
from flyteops.flow.edition2.outline import FlowOutline, StepOutline
from flyteops.flow.edition2.shape import Report
from flyteops.flow.nearest import nearest_word, suggestion
from flyteops.model import JsonValue

SERVER_EVENTS = ("Scheduled", "Called", "StepFailed", "PackSilent", "PackBack")
"""The events of the server that can be triggers."""

RESULTS = (
    "Answered",
    "Batch",
    "Completed",
    "DataSet",
    "DataUnchanged",
    "Error",
    "EventSent",
    "Expired",
    "FATAL",
    "FlowFinished",
    "FlowStarted",
    "TimedOut",
)
"""The other names of events of the server: results, and the event of a batch."""


class Argument(NamedTuple):
    """A key of an input: the type of its values, and their form.

    Without `kinds` it takes any JSON.
    """

    kinds: tuple[type, ...] = ()
    noun: str = ""
    form: Form | None = None


class BuiltinCommand(NamedTuple):
    """A command of the server; with `arguments` None, its input is any JSON."""

    results: tuple[str, ...]
    arguments: Mapping[str, Argument] | None
    required: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    """The keys of which at most one is given."""
    conditions: tuple[str, ...] = ()
    """The keys that make it answer that nothing was changed."""
    ends_execution: bool = False


_ANY = Argument()
_TEXT = Argument((str,), "text")
_NAME = Argument((str,), "text", NameForm())
_FLAG = Argument((bool,), "true or false")
_DURATION = Argument((str,), DurationForm().noun, DurationForm())
_TEXTS = Argument((str, list), "text or a list of texts")
_NUMBER = Argument((int, float), "a number")

COMMANDS: Mapping[str, BuiltinCommand] = {
    "SetData": BuiltinCommand(
        ("DataSet", "DataUnchanged"),
        {
            "key": _TEXT,
            "value": _ANY,
            "ifAbsent": _FLAG,
            "ifEquals": _ANY,
            "expires": _DURATION,
        },
        required=("key", "value"),
        exclusive=("ifAbsent", "ifEquals"),
        conditions=("ifAbsent", "ifEquals"),
    ),
    "DeleteData": BuiltinCommand(
        ("DataSet", "DataUnchanged"),
        {"key": _TEXT, "ifEquals": _ANY},
        required=("key",),
        conditions=("ifEquals",),
    ),
    "IncrementData": BuiltinCommand(
        ("DataSet", "DataUnchanged"),
        {"key": _TEXT, "by": _NUMBER, "expires": _DURATION},
        required=("key",),
    ),
    "SendEvent": BuiltinCommand(
        ("EventSent",), {"event": _NAME, "payload": _ANY, "key": _TEXT}, required=("event",)
    ),
    "RunFlow": BuiltinCommand(
        ("FlowFinished", "FlowStarted"),
        {"flow": _NAME, "payload": _ANY, "wait": _FLAG},
        required=("flow",),
    ),
    "Return": BuiltinCommand((), None, ends_execution=True),
    "Fail": BuiltinCommand((), {"message": _TEXT}, required=("message",), ends_execution=True),
    "Ask": BuiltinCommand(
        ("Answered", "TimedOut"),
        {
            "question": _TEXT,
            "options": Argument((list,), "a list of texts"),
            "who": _TEXTS,
            "requestedBy": _TEXT,
            "bySelf": _FLAG,
            "where": Argument((dict,), "an object"),
            "within": _DURATION,
        },
        required=("question",),
    ),
}

WHERE: Mapping[str, Argument] = {
    "packName": _NAME,
    "channelId": _TEXT,
    "threadTimestamp": _TEXT,
}
"""The keys of the place of a question."""

WHERE_REQUIRED = ("packName", "channelId")


def command_of(step: StepOutline) -> BuiltinCommand | None:
    """Return the command of the server that a step gives, None if it gives none or is unknown."""
    if step.command is None or not step.calls_server:
        return None
    return COMMANDS.get(step.command.text("name") or "")


def check_builtin_commands(flow: FlowOutline, report: Report) -> None:
    """Report the faults of the commands that the server is to execute."""
    for step in flow.steps:
        if step.command is None or not step.calls_server:
            continue
        at = (*step.path, "command")
        name = step.command.text("name")
        if name is not None and name not in COMMANDS:
            near = nearest_word(name, COMMANDS)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(COMMANDS)}"
            report.add((*at, "name"), f"the pack Flyte has no command {name[:40]!r}; {hint}")
        elif name is not None:
            given = step.command.get("input")
            for path, message in _input_faults(COMMANDS[name], given):
                report.add((*at, "input", *path), message)


def _input_faults(command: BuiltinCommand, given: JsonValue) -> Iterator[Fault]:
    if command.arguments is None or _is_rendered(given):
        return
    if not isinstance(given, dict):
        needed = ", ".join(command.required)
        kind = "is missing" if given is None else f"must be an object, not {kind_of(given)}"
        yield (), f"{kind}; it needs {needed}"
        return
    yield from _argument_faults(command.arguments, command.required, given)
    both = [key for key in command.exclusive if key in given]
    if len(both) > 1:
        yield (both[1],), f"does not go with {both[0]!r}; give one of them"
    if command is COMMANDS["SendEvent"]:
        yield from _event_faults(given.get("event"))
    if command is COMMANDS["Ask"]:
        yield from _question_faults(given)


def _argument_faults(
    arguments: Mapping[str, Argument], required: tuple[str, ...], given: dict[str, JsonValue]
) -> Iterator[Fault]:
    intended = set(given)
    for key, value in given.items():
        if key in arguments:
            yield from (((key, *at), message) for at, message in _faults(arguments[key], value))
            continue
        near = nearest_word(key, arguments)
        intended |= {near} if near else set()
        yield (key,), f"the key {key[:40]!r} is not known{suggestion(key, arguments)}"
    for key in required:
        if key not in intended:
            yield (), f"{key!r} is missing"


def _faults(argument: Argument, value: JsonValue) -> Iterator[Fault]:
    if not argument.kinds or _is_rendered(value):
        return
    is_bool = isinstance(value, bool) and bool not in argument.kinds
    if is_bool or not isinstance(value, argument.kinds):
        yield (), f"must be {argument.noun}, not {kind_of(value)}"
    elif argument.form is not None:
        yield from argument.form.faults(value)
    elif isinstance(value, list):
        yield from _text_faults(value)


def _text_faults(values: list[JsonValue]) -> Iterator[Fault]:
    if not values:
        yield (), "must not be empty"
    for index, each in enumerate(values):
        if not isinstance(each, str):
            yield (index,), f"must be text, not {kind_of(each)}"


def _event_faults(name: JsonValue) -> Iterator[Fault]:
    if name in (*SERVER_EVENTS, *RESULTS):
        yield ("event",), f"{name!r} is an event of the server itself; choose another name"


def _question_faults(given: dict[str, Any]) -> Iterator[Fault]:
    where = given.get("where")
    if isinstance(where, dict):
        for path, message in _argument_faults(WHERE, WHERE_REQUIRED, where):
            yield ("where", *path), message


def _is_rendered(value: JsonValue) -> bool:
    return isinstance(value, str) and is_template(value)
