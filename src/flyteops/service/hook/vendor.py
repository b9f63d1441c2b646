"""Known vendors of webhooks: their signatures, names of events, and ids of calls. Pure."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from flyteops.model import JsonValue
from flyteops.service.hook.signing import HookRequest, Scheme, Signing

GENERIC = "generic"

DELIVERY_HEADERS = (
    "x-github-delivery",
    "x-gitea-delivery",
    "x-forgejo-delivery",
    "x-gogs-delivery",
    "x-request-uuid",
    "linear-delivery",
    "request-id",
    "x-shopify-webhook-id",
    "shopify-webhook-id",
    "x-zendesk-webhook-invocation-id",
    "svix-id",
)
"""The headers in which known vendors number their calls, for hooks that name no vendor."""

Name = Callable[[HookRequest, JsonValue], str | None]


class Vendor(NamedTuple):
    """A vendor. `signing` is its default authentication, `schemes` are the others that it supports.

    `event` returns its name of the event, `delivery` its id of a call, which is the same when it is
    sent again, as far as it has any.
    """

    title: str
    signing: Signing
    schemes: tuple[Scheme, ...]
    event: Name
    delivery: Callable[[HookRequest], str | None]
    test_headers: Callable[[str, UUID], dict[str, str]]
    makes_secret: bool = False
    """Whether the vendor generates the secret, so that one generated here serves for tests only."""

    challenge: Callable[[JsonValue], str] = lambda body: ""
    """Returns the value that must be in the answer when the vendor verifies an address, else ""."""


def _by_header(*names: str) -> Name:
    return lambda request, body: next(
        (value for name in names if (value := request.header(name)) is not None), None
    )


def _by_field(*paths: str) -> Name:
    """Name the event by the first of these fields of the body that holds a text."""
    return lambda request, body: next(
        (text for path in paths if (text := _text_at(body, path)) is not None), None
    )


def _text_at(body: JsonValue, path: str) -> str | None:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, str) else None


def _challenge_of_slack(body: JsonValue) -> str:
    return (
        (_text_at(body, "challenge") or "") if _text_at(body, "type") == "url_verification" else ""
    )


def _numbered_by(*names: str) -> Callable[[HookRequest], str | None]:
    return lambda request: next(
        (value for name in names if (value := request.header(name)) is not None), None
    )


def _number_of_gitlab(request: HookRequest) -> str | None:
    """Return the id of a call of GitLab.

    Versions without one number events, of which several calls may come.
    """
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
        lambda event, number: {
            "X-Gitlab-Event": event or "Push Hook",
            "Idempotency-Key": str(number),
        },
    ),
    "alertmanager": Vendor(
        "Alertmanager",
        Signing(scheme="authorization"),
        ("none",),
        _by_field("status"),
        _numbered_by(),
        _no_headers,
    ),
    "grafana": Vendor(
        "Grafana",
        Signing(scheme="hmac", header="X-Grafana-Alerting-Signature"),
        ("authorization", "none"),
        _by_field("status"),
        _numbered_by(),
        _no_headers,
    ),
    "jira": Vendor(
        "Jira",
        Signing(scheme="hmac", header="X-Hub-Signature", prefix="sha256="),
        ("none",),
        _by_field("webhookEvent"),
        _numbered_by("x-atlassian-webhook-identifier"),
        lambda event, number: {"X-Atlassian-Webhook-Identifier": str(number)},
    ),
    "gitea": Vendor(
        "Gitea or Forgejo",
        Signing(scheme="hmac", header="X-Gitea-Signature"),
        (),
        _by_header("x-gitea-event", "x-forgejo-event"),
        _numbered_by("x-gitea-delivery", "x-forgejo-delivery"),
        lambda event, number: {"X-Gitea-Event": event or "push", "X-Gitea-Delivery": str(number)},
    ),
    "bitbucket": Vendor(
        "Bitbucket",
        Signing(scheme="hmac", header="X-Hub-Signature", prefix="sha256="),
        ("none",),
        _by_header("x-event-key"),
        _numbered_by("x-request-uuid", "x-request-id"),
        lambda event, number: {"X-Event-Key": event or "repo:push", "X-Request-UUID": str(number)},
    ),
    "linear": Vendor(
        "Linear",
        Signing(
            scheme="hmac",
            header="Linear-Signature",
            timestamp_field="webhookTimestamp",
            timestamp_format="milliseconds",
            delivery_header="Linear-Delivery",
        ),
        (),
        _by_header("linear-event"),
        _numbered_by(),
        lambda event, number: {"Linear-Event": event or "Issue", "Linear-Delivery": str(number)},
        makes_secret=True,
    ),
    "pagerduty": Vendor(
        "PagerDuty",
        Signing(
            scheme="hmac", header="X-PagerDuty-Signature", prefix="v1=", delivery_field="event.id"
        ),
        (),
        _by_field("event.event_type"),
        _numbered_by(),
        _no_headers,
        makes_secret=True,
    ),
    "sentry": Vendor(
        "Sentry",
        Signing(scheme="hmac", header="Sentry-Hook-Signature", delivery_header="Request-ID"),
        (),
        _by_header("sentry-hook-resource"),
        _numbered_by(),
        lambda event, number: {"Sentry-Hook-Resource": event or "issue", "Request-ID": str(number)},
        makes_secret=True,
    ),
    "shopify": Vendor(
        "Shopify",
        Signing(scheme="hmac", header="X-Shopify-Hmac-SHA256", encoding="base64"),
        (),
        _by_header("x-shopify-topic", "shopify-topic"),
        _numbered_by("x-shopify-webhook-id", "shopify-webhook-id"),
        lambda event, number: {
            "X-Shopify-Topic": event or "orders/create",
            "X-Shopify-Webhook-Id": str(number),
        },
        makes_secret=True,
    ),
    "slack": Vendor(
        "Slack",
        Signing(
            scheme="hmac",
            header="X-Slack-Signature",
            prefix="v0=",
            timestamp_header="X-Slack-Request-Timestamp",
            signed="v0:{timestamp}:{body}",
            delivery_field="event_id",
        ),
        (),
        _by_field("event.type", "type"),
        _numbered_by(),
        _no_headers,
        makes_secret=True,
        challenge=_challenge_of_slack,
    ),
    "stripe": Vendor(
        "Stripe",
        Signing(
            scheme="hmac",
            header="Stripe-Signature",
            prefix="v1=",
            timestamp_header="Stripe-Signature",
            timestamp_prefix="t=",
            signed="{timestamp}.{body}",
            delivery_field="id",
        ),
        (),
        _by_field("type"),
        _numbered_by(),
        _no_headers,
        makes_secret=True,
    ),
    "zendesk": Vendor(
        "Zendesk",
        Signing(
            scheme="hmac",
            header="X-Zendesk-Webhook-Signature",
            encoding="base64",
            timestamp_header="X-Zendesk-Webhook-Signature-Timestamp",
            timestamp_format="iso8601",
            signed="{timestamp}{body}",
            delivery_header="X-Zendesk-Webhook-Invocation-Id",
        ),
        ("authorization", "none"),
        _by_field("type"),
        _numbered_by(),
        lambda event, number: {"X-Zendesk-Webhook-Invocation-Id": str(number)},
        makes_secret=True,
    ),
    GENERIC: Vendor(
        "anything else",
        Signing(scheme="hmac", header="X-Signature-256", prefix="sha256="),
        ("standard", "authorization", "header", "none"),
        _by_field("type"),
        _numbered_by("webhook-id", "idempotency-key", *DELIVERY_HEADERS, "x-request-id"),
        lambda event, number: {"Idempotency-Key": str(number)},
    ),
}
