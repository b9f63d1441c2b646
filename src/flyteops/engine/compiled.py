"""Compiled flow versions, and the index of the flows that an event can start. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flyteops import template
from flyteops.errors import TemplateError
from flyteops.flow.policy import StepPolicy, policy_of
from flyteops.model import (
    Event,
    FlowVersion,
    JsonValue,
    Step,
)
from flyteops.template import Template, ValueTemplate, compile_value


class CompiledStep(NamedTuple):
    """A step with its templates compiled.

    `fault` is the first compile error, with its path in the step.
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
        return CompiledStep(
            position=index,
            step=step,
            context=_compile_all("context", step.context),
            event_labels=_compile_all("event.packLabels", step.event.pack_labels),
            criteria=_compile("criteria", step.criteria) if step.criteria else None,
            command_labels=_compile_all("command.packLabels", step.command.pack_labels),
            command_input=_compile_input(step.command.input),
            policy=_terms(step),
        )
    except _CompileError as error:
        return CompiledStep(index, step, {}, {}, None, {}, None, fault=(error.path, error.cause))


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
    return {key: _compile(f"{path}.{key}", source) for key, source in (sources or {}).items()}


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
        self._listening: dict[
            EventKey, tuple[tuple[CompiledFlow, tuple[CompiledStep, ...]], ...]
        ] = {}
        self._flows: dict[str, CompiledFlow] = {}
        for flow in flows:
            self.put(flow)

    def put(self, flow: CompiledFlow) -> None:
        """Add the flow, replacing the one of the same name."""
        name = flow.version.flow.name
        self.discard(name)
        self._flows[name] = flow
        for key, steps in _triggers(flow).items():
            entries = [*self._listening.get(key, ()), (flow, tuple(steps))]
            # One assignment: an evaluation in another thread sees the entries before it or after
            # it.
            self._listening[key] = tuple(
                sorted(entries, key=lambda entry: entry[0].version.flow.name)
            )

    def discard(self, name: str) -> None:
        """Remove the flow of this name, if there is one."""
        flow = self._flows.pop(name, None)
        if flow is None:
            return
        for key in _triggers(flow):
            left = tuple(entry for entry in self._listening[key] if entry[0] is not flow)
            if left:
                self._listening[key] = left
            else:
                del self._listening[key]

    def subscribers(self, event: Event) -> "Subscribers":
        """Return the flows with trigger steps for this event, by name.

        Each comes with those steps in their order.
        """
        return self._listening.get((event.pack.name, event.name), ())


def _triggers(flow: CompiledFlow) -> dict[EventKey, list[CompiledStep]]:
    found = {
        key: [prepared for prepared in steps if prepared.step.is_trigger]
        for key, steps in flow.subscribers.items()
    }
    return {key: steps for key, steps in found.items() if steps}


Subscribers = Sequence[tuple[CompiledFlow, Sequence[CompiledStep]]]
"""Flows, each with the steps with which an event is to begin an execution."""
