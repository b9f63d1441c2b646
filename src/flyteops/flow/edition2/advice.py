"""Advice about flows of edition 2 that are valid and probably not as intended."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice

from flyteops.definition import FlowDefinition
from flyteops.document import Document, Path
from flyteops.errors import Problem
from flyteops.flow.edition2.builtin import SERVER_EVENTS
from flyteops.flow.edition2.expression import TemplateReading, readings
from flyteops.flow.edition2.form import is_template
from flyteops.flow.edition2.outline import FlowOutline, StepOutline
from flyteops.flow.edition2.place import LIMITS
from flyteops.flow.edition2.shape import Report, read_shape
from flyteops.flow.nearest import suggestion
from flyteops.model import SERVER

MAX_ADVICE = 50
"""The maximum number of advice entries for a flow."""

MAX_KEYS = 1_000
"""The maximum number of context keys that are followed through the steps."""

EVENT_FIELDS = ("Name", "Payload", "Pack", "CreatedAt", "ReceivedAt")

Advice = tuple[Path, str]


def lint_definition(document: Document, flow: FlowDefinition) -> Sequence[Problem]:
    """Return advice about a flow that `read_definition` accepted."""
    outline = FlowOutline(read_shape(document, Report(document)))
    found = chain.from_iterable(check(outline, flow) for check in CHECKS)
    return [document.problem(path, message) for path, message in islice(found, MAX_ADVICE)]


def _about_merged_contexts(outline: FlowOutline, _: FlowDefinition) -> Iterator[Advice]:
    """Advise about keys that two steps set whose contexts meet."""
    setters: dict[int, Mapping[str, frozenset[str]]] = {}
    for step in _in_order(outline):
        merged: dict[str, frozenset[str]] = {}
        for source in outline.dependencies(step):
            for key, ids in setters.get(source.index, {}).items():
                merged[key] = merged.get(key, frozenset()) | ids
        given = step.node.get("context") or {}
        for key, ids in merged.items():
            if len(ids) > 1 and key not in given:
                names = " and ".join(repr(each) for each in sorted(ids))
                yield (
                    (*step.path, "dependsOn"),
                    f"{names} set {key!r} in their context; in {step.title}, the later result wins",
                )
                merged[key] = frozenset([str(step.id)])  # once is enough
        own = {key: frozenset([str(step.id)]) for key in given}
        setters[step.index] = dict(islice({**merged, **own}.items(), MAX_KEYS))


def _in_order(outline: FlowOutline) -> Iterator[StepOutline]:
    """Yield the steps, each after those that it depends on."""
    missing = {step.index: len(outline.dependencies(step)) for step in outline.steps}
    dependents: dict[int, list[StepOutline]] = {}
    for step in outline.steps:
        for source in outline.dependencies(step):
            dependents.setdefault(source.index, []).append(step)
    ready = [step for step in reversed(outline.steps) if not missing[step.index]]
    while ready:
        step = ready.pop()
        yield step
        for other in reversed(dependents.get(step.index, ())):
            missing[other.index] -= 1
            if not missing[other.index]:
                ready.append(other)


def _about_own_events(outline: FlowOutline, flow: FlowDefinition) -> Iterator[Advice]:
    """Advise about commands that start the flow that they are part of."""
    triggers = {
        pattern.node.text("name")
        for step in outline.steps
        if step.is_trigger
        for pattern in step.patterns
        if pattern.node.text("packName") == SERVER
    }
    for step in outline.steps:
        given = None if step.command is None else step.command.get("input")
        if step.command is None or not step.calls_server or not isinstance(given, dict):
            continue
        name, at = step.command.text("name"), (*step.path, "command", "input")
        if name == "SendEvent" and given.get("event") in triggers:
            yield (*at, "event"), "this event triggers the flow itself; see that it comes to an end"
        if name == "RunFlow" and given.get("flow") == flow.name and "Called" in triggers:
            yield (*at, "flow"), "the flow runs itself; see that it comes to an end"


def _about_triggers(outline: FlowOutline, flow: FlowDefinition) -> Iterator[Advice]:
    is_called = False
    for step in outline.steps:
        for pattern in step.patterns:
            name, pack = pattern.node.text("name"), pattern.node.text("packName")
            if pack is not None and pack != SERVER and pack.casefold() == SERVER.casefold():
                yield (*pattern.path, "packName"), f"did you mean {SERVER!r}, the server itself?"
            if step.is_trigger and pack == SERVER and name not in (None, *SERVER_EVENTS):
                near = suggestion(name or "", SERVER_EVENTS)
                if near:
                    yield (*pattern.path, "name"), f"the server sends no event {name!r}{near}"
            is_called |= step.is_trigger and pack == SERVER and name in (None, "Called")
    if flow.inputs is not None and not is_called:
        yield (
            ("inputs",),
            "describes the payload of Called, and no step has that event of the pack Flyte",
        )


def _about_commands(outline: FlowOutline, _: FlowDefinition) -> Iterator[Advice]:
    for step in outline.steps:
        pack = None if step.command is None else step.command.text("packName")
        if pack is not None and pack != SERVER and pack.casefold() == SERVER.casefold():
            yield (
                (*step.path, "command", "packName"),
                f"did you mean {SERVER!r}, the server itself?",
            )


def _about_constant_keys(outline: FlowOutline, _: FlowDefinition) -> Iterator[Advice]:
    """Advise about keys without an expression: all events have the same one."""
    places: list[tuple[Path, str | None]] = []
    for limit in LIMITS:
        node = outline.node.node(limit)
        places.append(((limit, "key"), None if node is None else node.text("key")))
    for step in outline.steps:
        correlate = step.node.node("correlate")
        text = None if correlate is None else correlate.text("event")
        places.append(((*step.path, "correlate", "event"), text))
        places += [((*pattern.path, "key"), pattern.node.text("key")) for pattern in step.patterns]
    for path, text in places:
        if text is not None and not is_template(text):
            yield path, "has no {{ }}, so every event has the same key"


def _about_references(outline: FlowOutline, _: FlowDefinition) -> Iterator[Advice]:
    for step in outline.steps:
        seen = set()
        for reference in step.references:
            if reference.step_id in seen and reference.path[-1] != "resultOf":
                yield reference.path, f"{reference.step_id!r} is named twice"
            seen.add(reference.step_id)


def _about_names(outline: FlowOutline, _: FlowDefinition) -> Iterator[Advice]:
    """Advise about paths of templates that are never set."""
    keys = {key: None for step in outline.steps for key in (step.node.get("context") or {})}
    for reading in readings(outline):
        message = _about_path(reading, list(keys))
        if message is not None:
            yield reading.path, message


def _about_path(reading: TemplateReading, keys: Sequence[str]) -> str | None:
    if len(reading.names) < 2:
        return None
    root, name = str(reading.names[0]), str(reading.names[1])
    if root in ("Event", "Trigger") and name not in EVENT_FIELDS:
        return f"an event has no {name[:40]!r}{suggestion(name, EVENT_FIELDS)}"
    if root == "Context" and name not in keys:
        return f"no step sets {name[:40]!r} in its context{suggestion(name, keys)}"
    return None


CHECKS: tuple[Callable[[FlowOutline, FlowDefinition], Iterator[Advice]], ...] = (
    _about_references,
    _about_merged_contexts,
    _about_own_events,
    _about_triggers,
    _about_commands,
    _about_constant_keys,
    _about_names,
)
