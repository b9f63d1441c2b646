"""The patterns of a step that an event fits."""

from collections.abc import Iterator

from flyteops.definition import StepState
from flyteops.engine.edition2.document import EventHead
from flyteops.engine.edition2.plan import PlannedPattern, PlannedStep
from flyteops.engine.edition2.rendering import StepRenderer
from flyteops.model import Labels, has_labels


def fitting(
    step: PlannedStep, event: EventHead, state: StepState | None, *, of: str | None = None
) -> Iterator[PlannedPattern]:
    """Yield the patterns of a step that an event fits, labels aside.

    A result has a `state`, and `of` is its step, for steps of the same execution.
    """
    for each in step.patterns:
        pattern = each.pattern
        if (
            pattern.name in (None, event.name)
            and pattern.pack_name in (None, event.pack.name)
            and pattern.result_of in (None, of)
            and pattern.state in (None, state)
        ):
            yield each


def labels_fit(pattern: PlannedPattern, labels: Labels, renderer: StepRenderer) -> bool:
    """Return whether the sender has all labels of a pattern; they are templates."""
    wanted = {key: renderer.text(value) for key, value in pattern.labels.items()}
    return has_labels(labels, wanted)
