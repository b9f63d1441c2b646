"""The JSON shapes of API v1, and their conversion from the nouns of the model.

Payloads and inputs are JSON text in the model; they pass through as they are. Optional fields are
left out when empty.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from msgspec import UNSET, Meta, Raw, Struct, field

from flyteops.errors import Problem
from flyteops.model import (
    CommandDeclaration,
    DataItem,
    EventDeclaration,
    Flow,
    JsonValue,
    Link,
    Pack,
    Step,
)
from flyteops.storage.base import Claimed
from flyteops.timeformat import format_timestamp
from flyteops.web.api.link import Links

if TYPE_CHECKING:  # the command line reads answers without the server's dependencies
    from flyteops.service import HealthProblem


Timestamp = Annotated[
    str, Meta(extra_json_schema={"format": "date-time", "examples": ["2026-03-01T12:30:00.25Z"]})
]
Status = Literal["live", "warning", "critical"]

LIVE = timedelta(minutes=10)
WARNING = timedelta(hours=24)


def status_of(last_seen_at: datetime, now: datetime) -> Status:
    """Return the status of a pack by the time when it was last seen."""
    age = now - last_seen_at
    if age <= LIVE:
        return "live"
    return "warning" if age <= WARNING else "critical"


# ----------------------------------------------------------------------------------------- requests


class EventBody(Struct, rename="camel"):
    """An event as a pack sends it.

    `createdAt` may have any offset and up to nine digits of fraction. An event without a name is
    kept, and no step matches it.
    """

    event: Annotated[str, Meta(examples=["Deployed"])] = ""
    payload: Annotated[
        Any, Meta(description="any JSON value", examples=[{"app": "web", "version": "1.2.3"}])
    ] = None
    created_at: Timestamp | None = None
    failure: Annotated[
        bool, Meta(description="whether the command, of which this is the result, has failed")
    ] = False


class EventText(Struct, rename="camel", forbid_unknown_fields=True):
    """An `EventBody` in its most common form, its payload left as it was sent."""

    event: str = ""
    payload: Raw = Raw(b"null")
    created_at: str | None = None
    failure: bool = False


class PresenceReport(Struct):
    """The report of an instance of a pack: that it is connected, or that it stops."""

    instance: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="distinguishes it from others of the same pack",
        ),
    ]
    status: Literal["live", "stopped"] = "live"


class ResolveRequest(Struct):
    """A person's resolution of an action; `event` and `payload` are those of its result."""

    resolution: Literal["succeeded", "failed", "retry"]
    event: str | None = None
    payload: Any = UNSET


class DataItemForm(Struct):
    """A value with its own content type, its description, and whether it is secret.

    Without a content type, it is text/plain; charset=us-ascii.
    """

    value: Annotated[bytes, Meta(min_length=1)]
    description: str = ""
    secret: Literal["true", "false"] = "false"  # noqa: S105 - no password


# ---------------------------------------------------------------------------------------- responses


class ResponseBody(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the answers of the API."""


class RootLinks(ResponseBody, kw_only=True):
    """The links to all resources."""

    links: list[Link]


class CommandView(ResponseBody, kw_only=True):
    """A command of a pack, with the link that takes actions of that name only."""

    name: str
    events: Sequence[str]
    links: list[Link]
    input_schema: JsonValue = None

    @classmethod
    def of(cls, command: CommandDeclaration, pack_id: str, site: Links) -> Self:
        links = [site.take(pack_id, command.name)]
        return cls(
            name=command.name, events=command.events, links=links, input_schema=command.input_schema
        )


class EventDeclarationView(ResponseBody, kw_only=True):
    """An event that a pack declares."""

    name: str
    links: Sequence[Link] = ()
    payload_schema: JsonValue = None
    failure: bool = False

    @classmethod
    def of(cls, event: EventDeclaration) -> Self:
        return cls(
            name=event.name,
            links=event.links,
            payload_schema=event.payload_schema,
            failure=event.failure,
        )


class PackSummary(ResponseBody, kw_only=True):
    """A pack in a list."""

    id: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    last_seen: Timestamp
    status: Status
    links: list[Link]
    stopped_at: Annotated[
        Timestamp | None, Meta(description="when it stopped, if it was not seen since")
    ] = None

    @classmethod
    def of(cls, pack: Pack, site: Links, now: datetime) -> "PackSummary":
        return PackSummary(
            id=pack.id,
            name=pack.name,
            labels=pack.labels,
            last_seen=format_timestamp(pack.last_seen_at),
            status=status_of(pack.last_seen_at, now),
            links=site.pack(pack.id)[:1],
            stopped_at=_written(pack.stopped_at),
        )


class PackView(PackSummary, kw_only=True):
    """A pack as the server knows it."""

    commands: list[CommandView] = field(default_factory=list)
    events: list[EventDeclarationView] = field(default_factory=list)
    items: Annotated[Sequence[str], Meta(description="the datastore items that it reads")] = ()

    @classmethod
    def of(cls, pack: Pack, site: Links, now: datetime) -> "PackView":
        pack_id = pack.id
        return PackView(
            id=pack_id,
            name=pack.name,
            labels=pack.labels,
            commands=[CommandView.of(command, pack_id, site) for command in pack.commands],
            events=[EventDeclarationView.of(event) for event in pack.events],
            last_seen=format_timestamp(pack.last_seen_at),
            links=[*pack.links, *site.pack(pack_id, dict.fromkeys(pack.items))],
            items=tuple(dict.fromkeys(pack.items)),
            status=status_of(pack.last_seen_at, now),
            stopped_at=_written(pack.stopped_at),
        )


def _written(at: datetime | None) -> str | None:
    return None if at is None else format_timestamp(at)


class PackList(ResponseBody, kw_only=True):
    """Packs, by name; a list that is cut has a link `next`."""

    links: list[Link]
    packs: list[PackSummary]


class PresenceResponse(ResponseBody, kw_only=True, omit_defaults=False):
    """How many other instances of the pack are connected to this server."""

    others: int


class ActionView(ResponseBody, kw_only=True):
    """An action for a pack; the first link takes the result.

    When there is a time limit, it is `leaseSeconds` from now, and a second link takes heartbeats,
    each of which begins it anew; `attempt` counts how often this was handed out.
    """

    command: str
    input: Raw
    links: list[Link]
    attempt: int = 1
    lease_seconds: float | None = None

    @classmethod
    def of(cls, pack_id: str, claimed: Claimed, site: Links) -> Self:
        text = Raw(claimed.input)
        if claimed.lease is None:
            return cls(
                command=claimed.name, input=text, links=[site.result(pack_id, claimed.action_id)]
            )
        links = [
            site.result(pack_id, claimed.action_id, claimed.lease),
            site.heartbeat(pack_id, claimed.action_id, claimed.lease),
        ]
        seconds = None if claimed.timeout is None else claimed.timeout.total_seconds()
        return cls(
            command=claimed.name,
            input=text,
            links=links,
            attempt=claimed.attempt,
            lease_seconds=seconds,
        )


class ActionList(ResponseBody, kw_only=True):
    """Several actions for a pack."""

    actions: list[ActionView]

    @classmethod
    def of(cls, pack_id: str, claimed: Sequence[Claimed], site: Links) -> Self:
        views = [ActionView.of(pack_id, each, site) for each in claimed]
        for view, each in zip(views, claimed, strict=True):
            view.links.append(site.give_back(pack_id, each.action_id, each.lease, each.revision))
        return cls(actions=views)


class Heartbeat(ResponseBody, kw_only=True):
    """The pack's new deadline; left out when there is no limit."""

    expires_at: Timestamp | None = None


class HealthStatus(ResponseBody, kw_only=True):
    """The health of the server.

    `reasons` explain why it is not ready, `warnings` are faults that do not stop it.
    """

    status: Literal["alive", "ready", "not ready"]
    reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()


MOST_PROBLEMS = 1000
"""Maximum number of problems that an answer lists."""


class HealthProblemView(ResponseBody, kw_only=True):
    """A thing that the server has set aside: its kind, name, reason and attempts so far."""

    kind: str
    name: str
    reason: str
    since: Timestamp
    failures: int


class HealthProblemList(ResponseBody, kw_only=True):
    """The things that the server has set aside.

    `total` counts all of them; the first thousand are listed.
    """

    problems: list[HealthProblemView]
    total: int
    links: list[Link]

    @classmethod
    def of(cls, problems: "Sequence[HealthProblem]", site: Links) -> Self:
        shown = [
            HealthProblemView(
                kind=each.kind,
                name=each.name,
                reason=each.reason,
                since=format_timestamp(each.since),
                failures=each.failures,
            )
            for each in problems[:MOST_PROBLEMS]
        ]
        links = site.around("/v1/health/problems", "/v1", "!/info/listHealthProblems")
        return cls(problems=shown, total=len(problems), links=links)


class FlowSummary(ResponseBody, kw_only=True):
    """A flow in a list."""

    name: str
    description: str = ""
    links: list[Link]

    @classmethod
    def of(cls, flow: Flow, site: Links) -> Self:
        return cls(name=flow.name, description=flow.description, links=site.flow(flow.name)[:1])


class FlowView(ResponseBody, kw_only=True):
    """A flow as its author posted it.

    `warnings` report definitions that are allowed but probably unintended, and are given when it is
    saved.
    """

    name: str
    description: str = ""
    steps: tuple[Step, ...] = ()
    links: list[Link]
    warnings: Sequence[Problem] = ()

    @classmethod
    def of(cls, flow: Flow, site: Links, warnings: Sequence[Problem] = ()) -> Self:
        links = site.flow(flow.name)
        return cls(
            name=flow.name,
            description=flow.description,
            steps=flow.steps,
            links=links,
            warnings=warnings,
        )


class FlowList(ResponseBody, kw_only=True):
    """Flows, by name; a list that is cut has a link `next`."""

    links: list[Link]
    flows: list[FlowSummary]


class DataItemSummary(ResponseBody, kw_only=True):
    """A datastore item without its value; the value of a secret one is given to packs only."""

    key: str
    content_type: str
    description: str = ""
    secret: bool = False
    links: list[Link]

    @classmethod
    def of(cls, item: DataItem, site: Links) -> Self:
        return cls(
            key=item.key,
            content_type=item.content_type,
            description=item.description,
            secret=item.is_secret,
            links=[site.item(item.key)],
        )


class DataItemList(ResponseBody, kw_only=True):
    """Datastore items, by key; a list that is cut has a link `next`."""

    links: list[Link]
    datastore: list[DataItemSummary]


class ProblemDetails(ResponseBody, kw_only=True):
    """Problem details (RFC 9457).

    Programs may rely on `code`; `problems` lists every fault of an invalid input.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    problems: Sequence[Problem] = ()
