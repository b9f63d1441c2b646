"""Patterns: the events that fit them."""

from collections.abc import Iterator

from flyteops.definition import StepDefinition, StepState, TriggerPattern
from flyteops.model import SERVER, has_labels
from flyteops.simulator.record import Event
from flyteops.simulator.rendering import Renderer


def fitting(
    step: StepDefinition, event: Event, *, of: str | None = None, state: StepState | None = None
) -> Iterator[TriggerPattern]:
    """Yield the patterns of a step that an event fits, labels aside.

    `of` and `state` are those of the step whose result it is, for steps of the same execution.
    """
    for pattern in step.patterns:
        if (
            pattern.name in {None, event.name}
            and pattern.pack_name in {None, event.pack}
            and pattern.result_of in {None, of}
            and pattern.state in {None, state}
        ):
            yield pattern


def labels_fit(pattern: TriggerPattern, event: Event, renderer: Renderer) -> bool:
    """Return whether the sender has all labels of a pattern; they are templates."""
    wanted = {key: str(renderer.value(text)) for key, text in (pattern.pack_labels or {}).items()}
    return has_labels(event.labels, wanted)


def is_server_result(event: Event) -> bool:
    """Return whether an event is a result that the server made itself."""
    return event.pack == SERVER and event.result_of is not None
