"""Waits: steps that go on with an event from outside whose key equals their own."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec

from flyteops.engine.context import EvaluationContext
from flyteops.engine.edition2.document import EventHead, Occurrence
from flyteops.engine.edition2.draft import Draft, context_of
from flyteops.engine.edition2.outcome import NewTimer, NewWait, Subscription
from flyteops.engine.edition2.pattern import fitting
from flyteops.engine.edition2.plan import PlannedStep
from flyteops.engine.edition2.rendering import Key, StepRenderer
from flyteops.engine.edition2.view import event_view
from flyteops.errors import TemplateError, TemplateRenderError

LONGEST_WAIT = timedelta(days=7)
"""The length of a wait without a timeout."""


def begin_wait(draft: Draft, step: PlannedStep) -> None:
    """Begin to wait; `with` and the durations see the earlier context alone."""
    assert step.key is not None  # noqa: S101 - it is a wait
    record = draft.steps[step.id]
    assert record.event is not None  # noqa: S101 - it has no result
    renderer = draft.renderer(step.id, record.event, context_of(record))
    key = key_bytes(renderer.key(step.key, "correlate.with"))
    if key is None:
        raise TemplateRenderError("correlate.with must give a text, a number or a boolean")
    length, since = LONGEST_WAIT, None
    if step.timeout is not None:
        length = renderer.duration(step.timeout, "timeout")
    if step.look_back is not None:
        since = draft.now - renderer.duration(step.look_back, "correlate.lookBack")
    draft.change(step.id, is_waiting=True)
    draft.waits.append(NewWait(step.id, key, tuple(_subscriptions(step)), since))
    draft.timers.append(NewTimer("waitTimeout", step.id, draft.now + length, length=length))


def _subscriptions(step: PlannedStep) -> Iterator[Subscription]:
    for each in step.patterns:
        if each.key_source is not None:
            pattern = each.pattern
            yield Subscription(pattern.pack_name, pattern.name, pattern.state, each.key_source)


def event_keys(event: Occurrence, step: PlannedStep, ctx: EvaluationContext) -> set[bytes]:
    """Return the keys of an event by the patterns of a wait that it fits, labels aside.

    A key that cannot be rendered equals nothing: most events are not meant for the wait.
    """
    found = set()
    head = EventHead.of(event.event)
    for each in fitting(step, head, event.state):
        if each.key is None:
            continue
        renderer = StepRenderer(ctx, f"{event.event.event_id}\0{each.key_source}")
        renderer.scope["Event"] = event_view(head, lambda: event.event.payload)
        try:
            key = key_bytes(renderer.key(each.key, "key"))
        except TemplateError:
            continue
        if key is not None:
            found.add(key)
    return found


def key_bytes(key: Key) -> bytes | None:
    """Return the bytes of a key, equal for keys of the same type and value; None for null.

    1 and 1.0 are the same number; true is not 1, and "1" is not 1.
    """
    if key is None:
        return None
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    return msgspec.json.encode(key)
