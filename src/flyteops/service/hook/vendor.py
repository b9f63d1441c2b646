"""What is known of those who call hooks: how each signs, how it names its events, and how it numbers its calls. Pure."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from flyteops.model import Json
from flyteops.service.hook.scheme import Request, Scheme, Signing

GENERIC = "generic"

Name = Callable[[Request, Json], str | None]


class Vendor(NamedTuple):
    """Who calls. `signing` is how it proves who it is unless told otherwise, `schemes` are the other ways that it knows.

    `event` is what it calls the event, `delivery` the number of a call, the same when it is sent again, as far as it has any.
    """

    title: str
    signing: Signing
    schemes: tuple[Scheme, ...]
    event: Name
    delivery: Callable[[Request], str | None]
    test_headers: Callable[[str, UUID], dict[str, str]]


def _by_header(name: str) -> Name:
    return lambda request, body: request.header(name)


def _by_key(name: str) -> Name:
    def find(request: Request, body: Json) -> str | None:
        found = body.get(name) if isinstance(body, dict) else None
        return found if isinstance(found, str) else None

    return find


def _numbered_by(*names: str) -> Callable[[Request], str | None]:
    return lambda request: next((value for name in names if (value := request.header(name)) is not None), None)


def _number_of_gitlab(request: Request) -> str | None:
    """Return the number of a call of GitLab's. Versions without one number events, of which several calls may come."""
    number = _numbered_by("webhook-id", "idempotency-key")(request)
    event = request.header("x-gitlab-event-uuid")
    return number if number or event is None else f"{event}:{sha256(request.body).hexdigest()}"


def _no_headers(event: str, number: UUID) -> dict[str, str]:
    return {}


VENDORS: Mapping[str, Vendor] = {
    "github": Vendor(
        "GitHub",
        Signing(scheme="hmac", header="X-Hub-Signature-256", prefix="sha256="),
        (),
        _by_header("x-github-event"),
        _numbered_by("x-github-delivery"),
        lambda event, number: {"X-GitHub-Event": event or "ping", "X-GitHub-Delivery": str(number)},
    ),
    "gitlab": Vendor(
        "GitLab",
        Signing(scheme="gitlab"),
        ("standard",),
        _by_header("x-gitlab-event"),
        _number_of_gitlab,
        lambda event, number: {"X-Gitlab-Event": event or "Push Hook", "Idempotency-Key": str(number)},
    ),
    "alertmanager": Vendor(
        "Alertmanager", Signing(scheme="authorization"), ("none",), _by_key("status"), _numbered_by(), _no_headers
    ),
    "grafana": Vendor(
        "Grafana",
        Signing(scheme="hmac", header="X-Grafana-Alerting-Signature"),
        ("authorization", "none"),
        _by_key("status"),
        _numbered_by(),
        _no_headers,
    ),
    "jira": Vendor(
        "Jira",
        Signing(scheme="hmac", header="X-Hub-Signature", prefix="sha256="),
        ("none",),
        _by_key("webhookEvent"),
        _numbered_by("x-atlassian-webhook-identifier"),
        lambda event, number: {"X-Atlassian-Webhook-Identifier": str(number)},
    ),
    GENERIC: Vendor(
        "anything else",
        Signing(scheme="hmac", header="X-Signature-256", prefix="sha256="),
        ("standard", "authorization", "header", "none"),
        _by_key("type"),
        _numbered_by("webhook-id", "idempotency-key", "x-request-id"),
        lambda event, number: {"Idempotency-Key": str(number)},
    ),
}
