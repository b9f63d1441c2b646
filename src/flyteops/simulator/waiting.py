"""Waits: steps that go on with an event from outside whose key equals their own."""

from datetime import datetime, timedelta

from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.simulator.pattern import fitting
from flyteops.simulator.record import Event, Execution, Key, StepRun, Task, Timer
from flyteops.simulator.rendering import Renderer, keys_equal
from flyteops.simulator.world import World

LONGEST_WAIT = timedelta(days=7)
"""The length of a wait without a timeout."""


def begin_wait(world: World, execution: Execution, run: StepRun) -> None:
    """Begin to wait: render the key and the timeout, and look back if the step wants it.

    The earlier context is all that `with` sees: `criteria` and `context` of a wait are rendered
    when an event with its key has come.
    """
    correlate = run.step.correlate
    assert correlate is not None  # noqa: S101 - for the type checker
    renderer = Renderer(world, execution.flow, run.event, run.step.id).with_execution(
        execution, run.context
    )
    key = renderer.key(correlate.with_, "correlate.with")
    if key is None:
        raise TemplateRenderError("correlate.with must give a text, a number or a boolean")
    length = LONGEST_WAIT
    if run.step.timeout is not None:
        length = renderer.duration(run.step.timeout, "timeout")
    since = None
    if correlate.look_back is not None:
        since = world.now - renderer.duration(correlate.look_back, "correlate.lookBack")
    run.key, run.waits = key, True
    world.add_timer(
        Timer(
            kind="waitTimeout",
            due_at=world.now + length,
            execution_id=execution.execution_id,
            subject=run.step.id,
            length=length,
        )
    )
    if since is not None:
        _look_back(world, execution, run, since)


def _look_back(world: World, execution: Execution, run: StepRun, since: datetime) -> None:
    """Offer the wait the events since a time, oldest first, that came after its execution began."""
    for event in world.events:
        if event.number > execution.number and event.received_at >= since and not event.hidden:
            offer(world, execution, run, event)


def offer_to_waits(world: World, event: Event) -> None:
    """Offer an event to all waits that began before it."""
    for execution in world.executions:
        for run in execution.steps.values():
            if run.waits and run.number < event.number:
                offer(world, execution, run, event)


def offer(world: World, execution: Execution, run: StepRun, event: Event) -> None:
    """Resume a wait, as a task, if the event has its key and is no result of its execution."""
    own = event.result_of is not None and event.result_of[0] == execution.execution_id
    if not own and any(keys_equal(key, run.key) for key in _keys(world, execution, run, event)):
        world.add_task(
            Task(
                kind="resume",
                execution_id=execution.execution_id,
                subject=run.step.id,
                event=event,
            )
        )


def _keys(world: World, execution: Execution, run: StepRun, event: Event) -> list[Key]:
    """Return the keys of an event by the patterns of a wait that it fits.

    A key that cannot be rendered equals nothing: most events are not meant for the wait.
    """
    correlate = run.step.correlate
    keys: list[Key] = []
    for pattern in fitting(run.step, event, state=event.state):
        template = pattern.key or (None if correlate is None else correlate.event)
        try:
            renderer = Renderer(world, execution.flow, event, run.step.id)
            keys.append(None if template is None else renderer.key(template, "key"))
        except TemplateError:
            keys.append(None)
    return keys
