"""Events without decisions that explain why a flow stopped or did not begin."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

from flyteops.cli.api import decode, fetch, path
from flyteops.cli.decision import event_lines
from flyteops.cli.output import clean, dim
from flyteops.errors import NotFoundError
from flyteops.model import Flow
from flyteops.sdk.client import Client
from flyteops.web.api.schemas.audit import AuditAction, AuditEvent, AuditEventList, ExecutionList

MAX_LOOKED_AT = 100
"""The number of events of one name or pack, and of executions of the flow, that are searched."""

MAX_KINDS = 10
"""The number of different results and packs that are requested."""


class SilentEvent(NamedTuple):
    """An event without a decision on any step of the flow.

    `lines` explain its relation to the flow.
    """

    event: AuditEvent
    lines: Sequence[str]

    async def explanation(self) -> AsyncIterator[str]:
        """Describe the event, and the reason why no step of the flow ran."""
        for line in (*event_lines(self.event), *self.lines):
            yield line


def merged(found: AuditEventList, silent: Iterable[SilentEvent], limit: int) -> AuditEventList:
    """Return the newest of both, newest first."""
    events = [*found.events, *(each.event for each in silent)]
    events.sort(key=lambda event: datetime.fromisoformat(event.received_at), reverse=True)
    return AuditEventList(events=events[:limit], links=found.links)


async def silent_events(
    client: Client, name: str, found: AuditEventList, wanted: Mapping[str, str | None], limit: int
) -> list[SilentEvent]:
    """Return results and events of a flow, and of the packs of its triggers, without a listener."""
    try:
        flow = await fetch(client, path("flows", name), Flow)
    except NotFoundError:
        flow = Flow(name)
    heard = {event.event for event in found.events}
    silent = [*await _results(client, flow, limit), *await _unheard(client, flow, heard)]
    return [each for each in silent if _is_wanted(each.event, wanted)]


def _is_wanted(event: AuditEvent, wanted: Mapping[str, str | None]) -> bool:
    return wanted.get("event") in {None, event.event} and wanted.get("packName") in {
        None,
        event.pack.name,
    }


async def _results(client: Client, flow: Flow, limit: int) -> list[SilentEvent]:
    params = {"flowName": flow.name, "limit": str(min(limit, MAX_LOOKED_AT))}
    answer = await client.request("GET", path("audit", "flows"), params=params)
    executions = decode(answer.content, ExecutionList).flows
    heard = {
        (x.correlation_id, step.event.pack_name, step.event.name)
        for x in executions
        for step in x.steps
    }
    unheard = {
        action.id: action
        for execution in executions
        for action in execution.actions.values()
        if action.ended_by is not None
        and (execution.correlation_id, action.ended_by.pack.name, action.ended_by.event)
        not in heard
    }
    steps = {execution.correlation_id: execution.steps for execution in executions}
    kinds = dict.fromkeys(
        (a.ended_by.event, a.ended_by.pack.name) for a in unheard.values() if a.ended_by is not None
    )
    found: dict[str, SilentEvent] = {}
    for event_name, pack_name in list(kinds)[:MAX_KINDS]:
        for event in await _events(client, event=event_name, packName=pack_name):
            action = unheard.get(event.action_id or "")
            if action is not None and not _is_decided(event, flow.name):
                known = Flow(flow.name, steps=steps[action.correlation_id])
                found[event.id] = SilentEvent(event, tuple(_about_result(known, action, event)))
    return list(found.values())


def _is_decided(event: AuditEvent, flow_name: str) -> bool:
    return any(decision.flow_name == flow_name for decision in event.decisions)


async def _events(client: Client, **params: str) -> list[AuditEvent]:
    answer = await client.request(
        "GET", path("audit", "events"), params={**params, "limit": str(MAX_LOOKED_AT)}
    )
    return decode(answer.content, AuditEventList).events


def _about_result(flow: Flow, action: AuditAction, event: AuditEvent) -> Iterator[str]:
    step = action.step_id or "(no id)"
    yield f"  the result of step {clean(step)} of flow {clean(flow.name)}"
    yield (
        f"  no step of the flow listens to event {clean(event.event)} of pack"
        f" {clean(event.pack.name)}"
    )
    for other in flow.steps:
        if action.step_id in (*other.dependencies.any, *other.dependencies.all):
            awaited = f"event {clean(other.event.name)} of pack {clean(other.event.pack_name)}"
            yield (
                f"  step {clean(other.id or '(no id)')} comes after {clean(step)}, but waits for"
                f" {awaited}"
            )
    yield dim(f"    flyte executions show {action.correlation_id}")


async def _unheard(client: Client, flow: Flow, heard: set[str]) -> list[SilentEvent]:
    """Return events of the packs of a flow's triggers, except results, without a listening step.

    Of a flow that has received events, only those of its trigger's earlier names, and near misses.
    """
    triggers = [step for step in flow.steps if step.is_trigger]
    packs = dict.fromkeys(step.event.pack_name for step in triggers)
    found = []
    for pack_name in list(packs)[:MAX_KINDS]:
        awaited = sorted(
            {step.event.name for step in triggers if step.event.pack_name == pack_name}
        )
        line = (
            f"  flow {clean(flow.name)} is started by event {clean(' or '.join(awaited))} of this"
            " pack"
        )
        for event in await _events(client, packName=pack_name):
            is_near = (
                not heard
                or event.event in heard
                or get_close_matches(event.event, awaited, n=1, cutoff=0.75)
            )
            if event.action_id is None and not event.decisions and is_near:
                nobody = (
                    f"  no step listens to event {clean(event.event)} of pack {clean(pack_name)}"
                )
                found.append(SilentEvent(event, (nobody, line)))
    return found
