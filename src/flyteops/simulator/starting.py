"""Starts: the executions that an event begins, by name of the flow."""

from flyteops.definition import FlowDefinition, StepDefinition
from flyteops.errors import TemplateError
from flyteops.model import SERVER
from flyteops.simulator.continuation import begin_execution, fail_start, new_execution
from flyteops.simulator.ending import step_failed
from flyteops.simulator.pattern import fitting, is_server_result, labels_fit
from flyteops.simulator.record import Event, Key, Start, Task, Verdict
from flyteops.simulator.rendering import Renderer
from flyteops.simulator.world import World

LIMITS = ("dedupe", "debounce", "batch", "threshold", "rateLimit", "concurrency")
"""The limits of a flow, in the order in which they apply."""


def publish(world: World, event: Event) -> None:
    """Let an event begin executions; at the end of the commit it is offered to waits as well."""
    if event.hidden:
        event.hidden = False
        world.fresh.append(event)
    if is_server_result(event):
        return
    for name in sorted(world.flows):
        start_flow(world, world.flows[name], event)


def start_flow(
    world: World,
    flow: FlowDefinition,
    event: Event,
    *,
    caller: str | None = None,
    past_pause: bool = False,
) -> str | None:
    """Try the triggers of a flow, and begin one execution if any passes.

    Return the reason why none begins; None if it begins now or waits for its limits. `caller` is
    the action of a `RunFlow`. An error in labels or criteria is a decision. That a flow is paused
    is decided only where it would have begun.
    """
    passed = [
        step.id for step in flow.steps if step.is_trigger and _passes(world, flow, step, event)
    ]
    if not passed:
        return "no trigger passes"
    start = Start(
        start_id=world.new_id("start"),
        flow=flow,
        event=event,
        members=[event],
        steps=passed,
        callers=[] if caller is None else [caller],
        since=world.now,
    )
    if not flow.enabled or (flow.name in world.paused and not past_pause):
        note(world, start, "paused", "it is paused" if flow.enabled else "it is not enabled")
        return "paused"
    if event.depth + 1 > world.setting.max_chain:
        note(world, start, "chain", f"the chain has {event.depth} executions already")
        if caller is None:
            _park(world, start)
        return "chain"
    admit(world, start)
    return None


def _passes(world: World, flow: FlowDefinition, step: StepDefinition, event: Event) -> bool:
    """Return whether a trigger passes: pattern, own results, labels, criteria.

    Events that fit no pattern, such as nearly all, get no decision. A step with a schedule has no
    pattern: its own event alone, when it is due, takes the place of one.
    """
    is_due = step.schedule is not None and event.for_step == step.id
    patterns = list(fitting(step, event, state=event.state))
    if not is_due and (not patterns or step.schedule is not None or event.for_step is not None):
        return False

    def decide(*verdict: *Verdict) -> None:
        world.decide(event, flow, step.id, verdict)

    if _is_own(world, flow, event):
        decide("skipped", "ownResult", "it comes from this flow")
        return False
    renderer = Renderer(world, flow, event, step.id).with_vars()
    try:
        if not is_due and not any(labels_fit(each, event, renderer) for each in patterns):
            decide("skipped", "packLabels", "they do not match")
            return False
        criteria = True if step.criteria is None else step.criteria
        if not renderer.truth(criteria, "criteria"):
            decide("skipped", "criteria", "they are false")
            return False
    except TemplateError as error:
        decide("failed", "error", error.message)
        return False
    return True


def _is_own(world: World, flow: FlowDefinition, event: Event) -> bool:
    """Return whether an event is a result of a flow itself, or a `StepFailed` about it."""
    if event.result_of is not None:
        return world.execution(event.result_of[0]).flow.name == flow.name
    about = event.payload.get("flow") if isinstance(event.payload, dict) else None
    return (event.pack, event.name) == (SERVER, "StepFailed") and about == flow.name


def note(world: World, start: Start, reason: str, detail: str) -> None:
    """Decide that a limit holds a start, or drops it."""
    for event in start.members:
        for step_id in start.steps:
            world.decide(event, start.flow, step_id, ("skipped", reason, detail))


def refuse(world: World, start: Start, reason: str, detail: str) -> None:
    """Decide that a start does not happen, and let the `RunFlow` that wait for it fail."""
    note(world, start, reason, detail)
    for caller in start.callers:
        parent = world.action(caller).execution_id
        world.add_task(Task(kind="flowRefused", execution_id=parent, subject=caller, other=reason))
    start.callers = []


def _park(world: World, start: Start) -> None:
    """Keep a start beyond the longest chain until a person releases or drops it."""
    world.parked.append(start)
    if start.event.after_failure:
        return
    payload = {
        "flow": start.flow.name,
        "step": start.steps[0],
        "execution": None,
        "reason": "chain",
        "event": start.event.name,
        "payload": start.event.payload,
        "message": f"the chain is longer than {world.setting.max_chain}",
        "link": "/executions/parked",
    }
    world.add_task(Task(kind="send", event=step_failed(payload, start.event.depth)))


def admit(world: World, start: Start) -> None:
    """Begin an execution, or leave it to a task if the flow has limits.

    The keys of the limits are rendered here, in the commit of the event. One that fails begins an
    execution that has FAILED.
    """
    flow = start.flow
    try:
        start.keys = limit_keys(world, flow, start.event)
    except TemplateError as error:
        fail_start(world, new_execution(world, start), start, error)
        return
    if any(limit_of(flow, name) is not None for name in LIMITS):
        world.add_task(Task(kind="start", start=start))
    else:
        begin_execution(world, start)


def limit_of(flow: FlowDefinition, name: str) -> object:
    """Return a limit of a flow by its name in the file."""
    return getattr(flow, "rate_limit" if name == "rateLimit" else name)


def limit_keys(world: World, flow: FlowDefinition, event: Event) -> dict[str, Key]:
    """Return the keys of an event by limit; without a `key`, one serves the flow."""
    renderer = Renderer(world, flow, event, "").with_vars()
    keys: dict[str, Key] = {}
    for name in LIMITS:
        limit = limit_of(flow, name)
        if limit is not None:
            template = getattr(limit, "key", None)
            keys[name] = "" if template is None else renderer.key(template, f"{name}.key")
    return keys
