"""Compiled flow versions, and the index of the flows that an event can start. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flyteops import template
from flyteops.engine.subscribers import Entry, Subscribers
from flyteops.errors import TemplateError
from flyteops.flow.policy import StepPolicy, policy_of
from flyteops.model import (
    Dependencies,
    Event,
    FlowVersion,
    JsonValue,
    Step,
)
from flyteops.template import Template, ValueTemplate, compile_value
from flyteops.template.condition import (
    Condition,
    Conditions,
    EventPath,
    every,
    necessary_conditions,
)
from flyteops.template.datastore import datastore_keys


class CompiledStep(NamedTuple):
    """A step with its templates compiled.

    `fault` is the first compile error, with its path in the step. `conditions` are necessary for an
    event to begin an execution with the step. `item_keys` are the datastore items that may decide
    whether it runs; None if a template computes their keys, and then there are no conditions.
    """

    position: int
    step: Step
    context: Mapping[str, Template]
    event_labels: Mapping[str, Template]
    criteria: Template | None
    command_labels: Mapping[str, Template]
    command_input: ValueTemplate | None
    policy: StepPolicy = StepPolicy()
    fault: tuple[str, TemplateError] | None = None
    conditions: Conditions = ()
    item_keys: frozenset[str] | None = frozenset()
    dependencies: Dependencies = Dependencies()


EventKey = tuple[str, str]
"""The key by which steps are found: the names of the sender's pack and of the event."""


class CompiledFlow(NamedTuple):
    """A flow version, ready for evaluation.

    All its steps, by the event they match those that wait for one, and the joins. A join is a step
    that waits for all of several steps.
    """

    version: FlowVersion
    steps: Sequence[CompiledStep]
    subscribers: Mapping[EventKey, Sequence[CompiledStep]]
    joins: Sequence[CompiledStep] = ()

    def waiting(self, event: Event) -> Sequence[CompiledStep]:
        """Return the steps that wait for such an event, in their order."""
        return self.subscribers.get((event.pack.name, event.name), ())


def compile_flow(version: FlowVersion) -> CompiledFlow:
    """Compile a flow version once. A template that does not compile fails its own step only."""
    steps = tuple(_compile_step(index, step) for index, step in enumerate(version.flow.steps))
    subscribers: dict[EventKey, list[CompiledStep]] = {}
    for prepared in steps:
        if prepared.step.schedule is None:
            subscribers.setdefault(
                (prepared.step.event.pack_name, prepared.step.event.name), []
            ).append(prepared)
    joins = tuple(prepared for prepared in steps if prepared.step.dependencies.all)
    return CompiledFlow(version, steps, subscribers, joins)


class _CompileError(Exception):
    def __init__(self, path: str, cause: TemplateError) -> None:
        super().__init__(path)
        self.path = path
        self.cause = cause


def _compile_step(index: int, step: Step) -> CompiledStep:
    try:
        compiled = CompiledStep(
            position=index,
            step=step,
            context=_compile_all("context", step.context),
            event_labels=_compile_all("event.packLabels", step.event.pack_labels),
            criteria=_compile("criteria", step.criteria) if step.criteria else None,
            command_labels=_compile_all("command.packLabels", step.command.pack_labels),
            command_input=_compile_input(step.command.input),
            policy=_terms(step),
            dependencies=step.dependencies,
        )
    except _CompileError as error:
        fault, wanted = (error.path, error.cause), step.dependencies
        return CompiledStep(index, step, {}, {}, None, {}, None, fault=fault, dependencies=wanted)
    if not step.is_trigger:
        return compiled
    conditions, item_keys = _conditions(compiled)
    return compiled._replace(conditions=conditions, item_keys=item_keys)


def _conditions(prepared: CompiledStep) -> tuple[Conditions, frozenset[str] | None]:
    """Return the `conditions` and `item_keys` of a trigger step."""
    context, labels = prepared.context.values(), prepared.event_labels
    criteria = [] if prepared.criteria is None else [prepared.criteria]
    keys: set[str] = set()
    for each in (*context, *labels.values(), *criteria):
        named = datastore_keys(each.source)
        if named is None:
            return (), None
        keys |= named
    found = [
        Condition(EventPath(("Pack", "Labels", key)), frozenset([("text", label.source)]))
        for key, label in labels.items()
        if label.constant
    ]
    for each in criteria:
        found += necessary_conditions(each.source, prepared.step.context or {})
    return every(found), frozenset(keys)


def _terms(step: Step) -> StepPolicy:
    try:
        return policy_of(step)
    except ValueError as error:
        raise _CompileError("", TemplateError(str(error))) from error


def _compile(path: str, source: str) -> Template:
    try:
        return template.compile(source)
    except TemplateError as error:
        raise _CompileError(path, error) from error


def _compile_all(path: str, sources: Mapping[str, str] | None) -> Mapping[str, Template]:
    # By key: a store does not keep the order in which a flow names them, and it decides which
    # random numbers each gets, and which of two errors is reported.
    return {
        key: _compile(f"{path}.{key}", source) for key, source in sorted((sources or {}).items())
    }


def _compile_input(value: JsonValue) -> ValueTemplate | None:
    if value is None:
        return None
    try:
        return compile_value(value)
    except TemplateError as error:
        raise _CompileError(_join("command.input", error), error) from error


def _join(path: str, error: TemplateError) -> str:
    inner = error.path or ""
    return path + (inner if inner.startswith("[") or not inner else f".{inner}")


class FlowIndex:
    """Finds the steps with which an event can begin an execution.

    The time does not depend on the number of flows.
    """

    def __init__(self, flows: Iterable[CompiledFlow] = ()) -> None:
        self._flows = {flow.version.flow.name: flow for flow in flows}
        entries: dict[EventKey, list[Entry]] = {}
        for flow in self._flows.values():
            for key, steps in _triggers(flow).items():
                entries.setdefault(key, []).append((flow, steps))
        self._subscribers = {key: Subscribers.of(each) for key, each in entries.items()}

    def put(self, flow: CompiledFlow) -> None:
        """Add the flow, replacing the one of the same name."""
        name = flow.version.flow.name
        former, triggers = self._flows.get(name), _triggers(flow)
        self._flows[name] = flow
        # One assignment for each kind of event: an evaluation in another thread sees the
        # subscribers before it or after it.
        for key, steps in triggers.items():
            known = self._subscribers.get(key, NO_SUBSCRIBERS)
            self._subscribers[key] = known.put((flow, steps))
        if former is not None:
            self._discard(former, _triggers(former).keys() - triggers.keys())

    def discard(self, name: str) -> None:
        """Remove the flow of this name, if there is one."""
        flow = self._flows.pop(name, None)
        if flow is not None:
            self._discard(flow, _triggers(flow))

    def _discard(self, flow: CompiledFlow, keys: Iterable[EventKey]) -> None:
        for key in keys:
            left = self._subscribers[key].discard(flow.version.flow.name)
            if left:
                self._subscribers[key] = left
            else:
                del self._subscribers[key]

    def subscribers(self, event: Event) -> Subscribers:
        """Return the flows with trigger steps for this event."""
        return self._subscribers.get((event.pack.name, event.name), NO_SUBSCRIBERS)


NO_SUBSCRIBERS = Subscribers((), ())


def trigger_steps(flow: CompiledFlow, event: Event) -> tuple[CompiledStep, ...]:
    """Return the steps of a flow with which the event can begin an execution, in their order."""
    return tuple(prepared for prepared in flow.waiting(event) if prepared.step.is_trigger)


def _triggers(flow: CompiledFlow) -> Mapping[EventKey, tuple[CompiledStep, ...]]:
    found = {
        key: tuple(prepared for prepared in steps if prepared.step.is_trigger)
        for key, steps in flow.subscribers.items()
    }
    return {key: steps for key, steps in found.items() if steps}
