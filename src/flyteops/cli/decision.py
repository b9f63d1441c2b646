"""Decisions as text: for each step whether it ran, the deciding condition, and the values used."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from flyteops.cli.output import clean, coloured, dim, local_time, one_line, value_text
from flyteops.model import Flow, Step
from flyteops.web.api.schemas.audit import AuditEvent, DecisionView

SHOWN = 300
"""The number of characters shown of a value."""


def event_lines(event: AuditEvent) -> Iterator[str]:
    """Describe an event."""
    yield (
        f"{local_time(event.received_at)}  event {clean(event.event)} of pack"
        f" {clean(event.pack.id)}  {dim(event.id)}"
    )
    yield f"  payload {value_text(event.payload, SHOWN)}"
    if event.action_id is not None:
        yield f"  the result of action {event.action_id}{', a failure' if event.failure else ''}"


def decision_lines(decision: DecisionView) -> Iterator[str]:
    """Explain why a step ran or did not run."""
    step = decision.step_id or f"(no id, number {decision.step_index + 1})"
    place = clean(f"{decision.flow_name} / {step}")
    yield f"  {coloured(decision.outcome)}  {place}: {clean(decision.detail)}"
    if decision.path is not None:
        place = (
            f", line {decision.line}, column {decision.column}" if decision.line is not None else ""
        )
        yield f"    in {clean(decision.path)}{place}"
    for name, value in decision.values.items():
        yield f"    {clean(name)} = {one_line(value, SHOWN)}"
    if decision.outcome == "ran" and decision.correlation_id is not None:
        yield dim(f"    flyte executions show {decision.correlation_id}")


def no_subscribers_lines(name: str, pack_name: str, flows: Sequence[Flow]) -> Iterator[str]:
    """Report that no step was tried for an event, with the nearest steps that would be."""
    yield f"  no step listens to event {clean(name)} of pack {clean(pack_name)}"
    if not flows:
        yield "  there are no flows; send some with `flyte apply FILE`"
        return
    yield from _nearest(name, pack_name, flows)


def _nearest(name: str, pack_name: str, flows: Sequence[Flow]) -> Iterator[str]:
    waiting = [(flow, step) for flow, step in _steps(flows) if _listens(step, name, pack_name)]
    for flow, step in waiting:
        yield (
            f"  {clean(_named(flow, step))} does, but depends on other steps: only results in its"
            " own executions reach it"
        )
    triggers = [(flow, step) for flow, step in _steps(flows) if step.is_trigger]
    texts = {
        f"{step.event.name} of pack {step.event.pack_name}": (flow, step) for flow, step in triggers
    }
    folded = {text.casefold(): text for text in texts}
    for match in get_close_matches(
        f"{name} of pack {pack_name}".casefold(), folded, n=3, cutoff=0.75
    ):
        text = folded[match]
        yield f"  nearest: {clean(_named(*texts[text]))} listens to event {clean(text)}"


def _steps(flows: Iterable[Flow]) -> Iterator[tuple[Flow, Step]]:
    for flow in flows:
        for step in flow.steps:
            yield flow, step


def _listens(step: Step, name: str, pack_name: str) -> bool:
    return (step.event.name, step.event.pack_name) == (name, pack_name)


def _named(flow: Flow, step: Step) -> str:
    return (
        f"{flow.name} / {step.id}"
        if step.id
        else f"{flow.name} / step {flow.steps.index(step) + 1}"
    )


def trigger_lines(
    flow: Flow, declared: Sequence[tuple[str, Sequence[str]]] | None
) -> Iterator[str]:
    """Describe the triggers of a flow, and the packs that declare their events.

    `declared` is pack ids with their events, None to leave the packs out.
    """
    for step in flow.steps:
        if step.schedule is not None:
            zone = f" in {step.schedule.time_zone}" if step.schedule.time_zone else ""
            yield (
                f"  {clean(_named(flow, step))} runs on the schedule"
                f" {clean(step.schedule.cron + zone)}"
            )
        elif step.is_trigger:
            yield (
                f"  {clean(_named(flow, step))} waits for event {clean(step.event.name)} of pack"
                f" {clean(step.event.pack_name)}"
            )
            if declared is not None:
                yield f"    {clean(_senders(step, declared))}"


def _senders(step: Step, declared: Sequence[tuple[str, Sequence[str]]]) -> str:
    name, pack_name = step.event.name, step.event.pack_name
    named = [
        (pack_id, events)
        for pack_id, events in declared
        if pack_id.partition(".")[0] == pack_name or pack_id == pack_name
    ]
    if not named:
        known = ", ".join(sorted(pack_id for pack_id, _ in declared)) or "none"
        return f"no pack {pack_name} has registered; registered: {known}"
    senders = [pack_id for pack_id, events in named if name in events]
    if senders:
        return f"declared by {', '.join(senders)}, which has not sent it yet"
    offered = sorted({event for _, events in named for event in events})
    return (
        f"pack {pack_name} has registered, but declares other events:"
        f" {', '.join(offered) or 'none'}"
    )
