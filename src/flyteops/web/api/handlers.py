"""The handlers of API v1: each turns a request into one use case, and its outcome into a reply."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any

from msgspec import UNSET

from flyteops.document import Document
from flyteops.errors import (
    ForbiddenError,
    NotFoundError,
    Problem,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.flow.file import lint, read_flow, template_faults
from flyteops.model import DataItem, Execution, Flow, Step
from flyteops.service import Service, Token
from flyteops.service.token import EVERY_ITEM
from flyteops.storage.query import ActionFilter, EventFilter, ExecutionFilter, Page
from flyteops.timeformat import format_timestamp
from flyteops.web.api.body import (
    data_item,
    declaration,
    idempotency_key,
    parse_document_body,
    parse_event,
    parse_large_event,
    presence,
    resolution,
)
from flyteops.web.api.link import Links, event_path, flow_path, item_path, pack_path
from flyteops.web.api.part import MAX_LIMIT, list_page_of
from flyteops.web.api.query import Query
from flyteops.web.api.request import Request
from flyteops.web.api.response import LARGE, HeaderList, Response, encode
from flyteops.web.api.schemas import audit, wire
from flyteops.web.auth.guest import TrustedSender

LOGGER = logging.getLogger("flyte.auth")

DEFAULT_LIMIT = 50
MAX_ACTIONS = 100
MAX_WAIT = 60.0
"""Maximum number of seconds that a take waits; a client that wants to wait for longer sends another
request."""

OVERDUE_AFTER = 3600.0
"""Seconds after which an action without a time limit counts as overdue, unless the caller gives
another number."""

ACCEPTED = Response(202)
DONE = Response(204)

STORED_AS_IT_IS: HeaderList = ((b"content-security-policy", b"sandbox; default-src 'none'"),)


# --------------------------------------------------------------------------------------------- info


async def get_root(request: Request) -> Response:
    """Return the links to the API and its description."""
    return Response(200, wire.RootLinks(links=request.site.root()))


async def get_index(request: Request) -> Response:
    """Return the links to all resources, to be found by the end of their relation."""
    return Response(200, wire.RootLinks(links=request.site.index()))


async def get_liveness(request: Request) -> Response:
    """Report that the server runs, regardless of its store."""
    return Response(200, wire.HealthStatus(status="alive"))


async def get_readiness(request: Request) -> Response:
    """Report whether the server can do its work now, and if not, why."""
    reasons = await request.service.health.list_readiness_problems(details=not request.has_auth)
    # An empty tuple is left out of the answer. With auth, this path needs no token: names are left
    # to the callers with a token, and to the log.
    warnings = (
        *request.service.health.warnings(details=not request.has_auth),
        *request.traffic.warnings(),
    )
    if reasons:
        return Response(
            503, wire.HealthStatus(status="not ready", reasons=reasons, warnings=warnings)
        )
    return Response(200, wire.HealthStatus(status="ready", warnings=warnings))


async def list_problems(request: Request) -> Response:
    """List the problems that this server has set aside.

    These are things that it cannot read or process while everything else goes on; it tries them
    again.
    """
    return Response(200, wire.HealthProblemList.of(request.service.health.problems(), request.site))


async def get_health(request: Request) -> Response:
    """Report whether the store answers."""
    try:
        await request.service.health.check()
    except UnavailableError:
        return Response(500)
    return Response(200)


# -------------------------------------------------------------------------------------------- packs


async def register_pack(request: Request) -> Response:
    """Register a pack, or replace the one with the same name and labels.

    The header Flyte-Max-Body-Bytes of the answer is the largest body that the server accepts, for a
    pack to keep its results and events within it.
    """
    declared = await parse_document_body(request, declaration)
    if isinstance(request.bearer, Token):
        request.bearer.check_may_register(declared)
    elif isinstance(request.bearer, TrustedSender):
        request.bearer.check_may_register(declared)
        LOGGER.info(
            "The pack %s registers from %s without a token", declared.name, request.bearer.address
        )
    takes_over = not isinstance(request.bearer, TrustedSender)
    pack = await request.service.packs.register(declared, request.author, takes_over=takes_over)
    site = request.site
    path = pack_path(pack.id)
    headers = (
        site.location(path),
        (b"link", f'<{site.base}{path}/presence>; rel="presence"'.encode()),
        (b"flyte-max-body-bytes", b"%d" % request.options.max_body_bytes),
    )
    return Response(201, wire.PackView.of(pack, site, request.service.now()), headers=headers)


async def list_packs(request: Request) -> Response:
    """List the packs, by name.

    Without `limit`, all of them, unless that would be more than 16 MiB. A list that is cut has a
    link `next`.
    """
    site, now = request.site, request.service.now()
    part = list_page_of(
        request,
        await request.service.packs.list(),
        lambda pack: wire.PackSummary.of(pack, site, now),
    )
    return Response(
        200,
        wire.PackList(
            links=site.page("/v1/packs", "/v1", "/pack", part.following), packs=part.views
        ),
    )


async def get_pack(request: Request) -> Response:
    """Show a pack."""
    return Response(
        200,
        wire.PackView.of(
            await request.service.packs.get(request.params["packId"]),
            request.site,
            request.service.now(),
        ),
    )


async def report_presence(request: Request) -> Response:
    """Report that an instance of a pack is connected, or stops.

    When the last known instance stops, the pack has stopped, instead of having fallen silent.
    Reports are expected once a minute; packs that make none are seen by their requests.
    """
    report = await parse_document_body(request, presence)
    stops = report.status == "stopped"
    others = await request.service.packs.report_presence(
        request.params["packId"], report.instance, stops=stops
    )
    return Response(200, wire.PresenceResponse(others=others))


async def delete_pack(request: Request) -> Response:
    """Remove a pack.

    Its events and actions stay in the audit.
    """
    await request.service.packs.delete(request.params["packId"], request.author)
    return DONE


async def send_event(request: Request) -> Response:
    """Send an event.

    When this is answered, the event and every action that it triggers are durable. The sender is
    the pack in the path.
    """
    event = parse_event(request) if len(request.body) < LARGE else await parse_large_event(request)
    key = idempotency_key(request.variable.key)
    return accepted_event(
        await request.service.accept_event(request.params["packId"], event, key=key), request.site
    )


def accepted_event(event_id: str, site: Links) -> Response:
    """Return the answer to an accepted event."""
    return Response(202, headers=(site.location(event_path(event_id)),))


@lru_cache(maxsize=1_000)
def take_order(query_string: bytes) -> tuple[str | None, timedelta, int]:
    """Return the command that a take is for, the time that it waits, and its limit.

    The limit is 0 if it does not want a list.

    Clients repeat their queries.
    """
    with Query(query_string) as query:
        name, seconds = query.text("actionName", "commandName"), query.seconds("wait")
        limit = query.number("max", 0, least=1, most=MAX_ACTIONS)
    return name, timedelta(seconds=min(seconds, MAX_WAIT)), limit


async def take_action(request: Request) -> Response:
    """Take the oldest action that waits for the pack.

    An action is handed out once at a time. With `wait`, the answer comes as soon as there is an
    action; with `max`, it is a list. Actions that do not reach the caller go to others. A body is
    ignored. 404 means that the pack must register.
    """
    name, wait, limit = take_order(request.query_string)
    pack_id = request.params["packId"]
    claimed = await request.deliver(
        request.service.take(pack_id, name, limit=limit or 1, wait=wait),
        request.service.release_claims,
        waits=bool(wait),
    )
    if not claimed:
        return DONE
    if limit:
        return Response(200, wire.ActionList.of(pack_id, claimed, request.site))
    return Response(200, wire.ActionView.of(pack_id, claimed[0], request.site))


async def heartbeat(request: Request) -> Response:
    """Report that an action with a time limit is still being worked on.

    Its time begins anew. 409 means that it was lost, handed out again or ended: stop working on it.
    """
    params = request.params
    expires_at = await request.service.heartbeat(
        params["packId"], params["actionId"], request.query().text("lease")
    )
    return Response(
        200, wire.Heartbeat(expires_at=None if expires_at is None else format_timestamp(expires_at))
    )


async def complete_action(request: Request) -> Response:
    """Report the result of an action.

    The result is an event; one named FATAL means that the command failed badly. The same result
    sent again changes nothing. With `take`, the answer can hold the next actions, as if they had
    been taken right after it; if it holds none, or they may not be taken, the status is 202.
    """
    event = parse_event(request) if len(request.body) < LARGE else await parse_large_event(request)
    pack_id, action_id = request.params["packId"], request.params["actionId"]
    lease, take = None, 0
    if request.query_string:
        with request.query() as query:
            lease, take = query.text("lease"), query.number("take", 0, least=0, most=MAX_ACTIONS)
    if not take or not await request.permits("POST", f"{pack_path(pack_id)}/actions/take"):
        await request.service.complete(pack_id, action_id, event, lease=lease)
        return ACCEPTED
    claimed = await request.deliver(
        request.service.complete(pack_id, action_id, event, lease=lease, take=take),
        request.service.release_claims,
        waits=False,
    )
    if not claimed:
        return ACCEPTED
    return Response(200, wire.ActionList.of(pack_id, claimed, request.site))


async def give_back_action(request: Request) -> Response:
    """Give back an action that was taken but not started.

    It is handed out again, possibly to the same pack, and the attempt does not count. The link
    comes with the action in a list (`max`). 409 means that the pack no longer has the action, as
    after a return whose response was lost.
    """
    with request.query() as query:
        lease, revision = query.text("lease"), query.number("revision", -1, least=0)
    await request.service.return_action(
        request.params["packId"], request.params["actionId"], lease, revision
    )
    return DONE


async def list_actions(request: Request) -> Response:
    """List actions with their current status, oldest first.

    With `overdue`, those that wait for a person, those that are lost, and those that a pack has had
    for longer than `after` seconds.
    """
    with request.query() as query:
        states = query.states("state")
        is_overdue, after = query.flag("overdue"), query.seconds("after")
        start, limit = page_of(query)
    now = request.service.now()
    which = ActionFilter(
        states=states,
        flow_name=query.text("flowName"),
        pack_name=query.text("packName"),
        overdue_since=now - timedelta(seconds=after or OVERDUE_AFTER) if is_overdue else None,
        now=now,
    )
    found = await request.service.audit.list_actions(which, start, limit)
    return Response(200, audit.ActionStatusList.of(found, request.site))


async def resolve_action(request: Request) -> Response:
    """Resolve an action whose pack does not report its result.

    It succeeded or failed, with an event that is its result; or it is to be handed out again.
    """
    new_event = await parse_document_body(request, resolution)
    payload = None if new_event.payload is UNSET else encode(new_event.payload)
    await request.service.resolve(
        request.params["actionId"],
        new_event.resolution,
        name=new_event.event,
        payload=payload,
        by=request.author,
    )
    return DONE


# -------------------------------------------------------------------------------------------- flows


def _flow_and_warnings(document: Document) -> tuple[Flow, tuple[Problem, ...]]:
    flow = read_flow(document, is_lenient=True)
    return flow, (*template_faults(document), *lint(document, flow))


async def save_flow(request: Request) -> Response:
    """Save a flow, replacing the one of that name.

    Saving the current version again makes no new one. Executions go on with the version that they
    began with. Definitions that are allowed but probably unintended come back as warnings. So does
    a template that cannot be parsed, if nothing else is wrong: its step fails whenever it should
    run, and the other steps work.
    """
    flow, warnings = await parse_document_body(request, _flow_and_warnings)
    await request.service.flows.save(flow, request.author)
    site = request.site
    return Response(
        201, wire.FlowView.of(flow, site, warnings), headers=(site.location(flow_path(flow.name)),)
    )


async def list_flows(request: Request) -> Response:
    """List the flows, by name.

    Without `limit`, all of them, unless that would be more than 16 MiB. A list that is cut has a
    link `next`.
    """
    site = request.site
    part = list_page_of(
        request, request.service.flows.list(), lambda flow: wire.FlowSummary.of(flow, site)
    )
    return Response(
        200,
        wire.FlowList(
            links=site.page("/v1/flows", "/v1", "/flow", part.following), flows=part.views
        ),
    )


async def get_flow(request: Request) -> Response:
    """Show a flow as it was posted."""
    return Response(
        200, wire.FlowView.of(request.service.flows.get(request.params["flowName"]), request.site)
    )


async def delete_flow(request: Request) -> Response:
    """Delete a flow.

    Its executions go on.
    """
    await request.service.flows.delete(request.params["flowName"], request.author)
    return DONE


# ---------------------------------------------------------------------------------------- datastore


async def save_item(request: Request) -> Response:
    """Save a datastore item, replacing the one of that key.

    The description stays unless another is given. Templates see JSON when the value's content type
    is application/json or text/json, text otherwise. With a field `secret` that is true, the value
    is encrypted, and given to packs only: templates write secret('key').
    """
    item, has_description = (
        data_item(request)
        if len(request.body) < LARGE
        else await asyncio.to_thread(data_item, request)
    )
    is_new = await request.service.data.save(
        item, request.author, keeps_description=not has_description
    )
    return Response(201, headers=(request.site.location(item_path(item.key)),)) if is_new else DONE


async def list_items(request: Request) -> Response:
    """List the datastore items, by key.

    Without `limit`, all of them, unless that would be more than 16 MiB. A list that is cut has a
    link `next`.
    """
    site = request.site
    part = list_page_of(
        request, request.service.data.list(), lambda item: wire.DataItemSummary.of(item, site)
    )
    links = site.page("/v1/datastore", "/v1", "/datastore", part.following)
    return Response(200, wire.DataItemList(links=links, datastore=part.views))


async def get_item(request: Request) -> Response:
    """Return the value of a datastore item."""
    return _value_of(request.service.data.get(request.params["key"]))


async def get_pack_item(request: Request) -> Response:
    """Return the value of a datastore item to a pack that has declared it.

    With auth, the pack's token or the entry of the policy must name the item; without either, only
    `chatops` can be read. The value of a secret is never returned.
    """
    key = request.params["key"]
    if EVERY_ITEM not in request.items and key not in request.items:
        raise UnauthorizedError(
            f"Neither the token nor the policy lets a pack read the datastore item {key!r}: name it"
            " with `flyte tokens create --item`, or as `items` in the entry of the policy.",
            error="insufficient_scope",
        )
    pack_id = request.params["packId"]
    if not await request.service.packs.reads_item(pack_id, key):
        raise ForbiddenError(
            f"The pack {pack_id!r} has not declared the datastore item {key!r} in `items` of its"
            " registration."
        )
    return _value_of(request.service.data.get(key))


def _value_of(item: DataItem) -> Response:
    content_type = item.content_type
    if not (content_type.isascii() and content_type.isprintable()):
        content_type = "application/octet-stream"
    return Response(200, item.value, content_type.encode(), STORED_AS_IT_IS)


async def delete_item(request: Request) -> Response:
    """Delete a datastore item."""
    await request.service.data.delete(request.params["key"], request.author)
    return DONE


# -------------------------------------------------------------------------------------------- audit


async def list_executions(request: Request) -> Response:
    """List executions, latest activity first.

    Returns those in which one action satisfies the whole filter. An answer that would be longer
    than 16 MiB is cut, and has a link `next`.
    """
    return await _listed(request, audit.ExecutionList)


async def list_runs(request: Request) -> Response:
    """List executions with the outcome of each action, latest activity first.

    Returns those in which one action satisfies the whole filter. An answer that would be longer
    than 16 MiB is cut, and has a link `next`.
    """
    return await _listed(request, audit.RunList)


async def _listed(request: Request, kind: type[audit.ExecutionList | audit.RunList]) -> Response:
    with request.query() as query:
        which = ExecutionFilter(
            flow_name=query.text("flowName"),
            step_id=query.text("stepId"),
            action_name=query.text("actionName"),
            action_pack_name=query.text("actionPackName"),
            action_pack_labels=query.labels("actionPackLabels"),
        )
        start, limit = page_of(query)
    executions = await request.service.audit.list_executions(which, start, limit)
    following = following_of(query, start, executions)
    return Response(
        200, kind.of(executions, await _steps(request.service, executions), request.site, following)
    )


async def get_execution(request: Request) -> Response:
    """Show an execution with all its actions."""
    return await _shown(request, request.params["correlationId"], audit.ExecutionView)


async def get_run(request: Request) -> Response:
    """Show an execution with all its actions and the outcome of each."""
    return await _shown(request, request.params["executionId"], audit.RunView)


async def _shown(request: Request, execution_id: str, kind: type[audit.ExecutionView]) -> Response:
    execution = await request.service.audit.get_execution(execution_id)
    steps = await _steps(request.service, [execution])
    return Response(200, kind.of(execution, steps.get(execution.flow_uuid, ()), request.site))


async def _steps(service: Service, executions: Iterable[Execution]) -> dict[str, tuple[Step, ...]]:
    steps: dict[str, tuple[Step, ...]] = {}
    for uuid in {execution.flow_uuid for execution in executions}:
        try:
            steps[uuid] = (await service.flows.get_version(uuid)).steps
        except NotFoundError:
            continue
    return steps


def page_of(query: Query) -> tuple[int, int]:
    """Return the start and limit of a page; a limit above the greatest is reduced to it."""
    # To the original, 0 means no limit.
    return query.number("start", 0, least=0), min(
        query.number("limit", DEFAULT_LIMIT, least=0) or MAX_LIMIT, MAX_LIMIT
    )


def following_of(query: Query, start: int, page: Page[Any]) -> str | None:
    """Return the query for the page after one that was cut, or None if it was not."""
    return query.following(start + len(page)) if page.is_cut else None


async def list_events(request: Request) -> Response:
    """List events and the decisions of steps about them, newest first.

    Decisions to skip a step are computed for the answer, with the flows and items of the time. An
    answer that would be longer than 16 MiB, or have more than 20,000 decisions, is cut, and has a
    link `next`.
    """
    with request.query() as query:
        which = EventFilter(query.text("flowName"), query.text("event"), query.text("packName"))
        start, limit = page_of(query)
    records = await request.service.audit.list_events(which, start, limit)
    return Response(
        200, audit.AuditEventList.of(records, request.site, following_of(query, start, records))
    )


async def get_event(request: Request) -> Response:
    """Show why steps did or did not run for an event."""
    return Response(
        200,
        audit.AuditEvent.of(
            await request.service.audit.get_event(request.params["eventId"]), request.site
        ),
    )
