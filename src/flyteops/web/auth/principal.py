"""The author of a request and its origin, as recorded in the audit log."""

from flyteops.model import pack_id
from flyteops.service import Token
from flyteops.service.auditlog.entry import Actor, Author, Origin
from flyteops.web.api.link import Headers
from flyteops.web.auth.guest import TrustedSender
from flyteops.web.auth.policy import Claims

MAX_LENGTH = 200
"""Maximum number of characters that are kept of a text from the client."""

NAMES = ("preferred_username", "email", "name")
"""The claims that hold a person's name, the best first."""


def author_of(
    bearer: Token | Claims | TrustedSender | None, client: tuple[str, int] | None, headers: Headers
) -> Author:
    """Return the author of a request, by the bearer of its token, if any, and by its origin."""
    place = Origin(
        address=client[0] if client else "",
        forwarded_for=_header(headers, b"x-forwarded-for"),
        agent=_header(headers, b"user-agent"),
    )
    return Author(_actor(bearer), place)


def _actor(bearer: Token | Claims | TrustedSender | None) -> Actor:
    if bearer is None:
        return Actor(kind="anonymous")
    if isinstance(bearer, TrustedSender):
        return Actor(
            kind="address",
            id=bearer.address,
            name=", ".join(sorted({each.name for each in bearer.packs}))[:MAX_LENGTH],
        )
    if isinstance(bearer, Token):
        name = bearer.description or (
            "" if bearer.is_admin else pack_id(bearer.pack_name, bearer.labels)
        )
        return Actor(kind="token", id=bearer.token_id, name=name[:MAX_LENGTH])
    name = next((value for claim in NAMES if isinstance(value := bearer.get(claim), str)), "")
    return Actor(kind="oidc", id=str(bearer.get("sub", ""))[:MAX_LENGTH], name=name[:MAX_LENGTH])


def _header(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")[:MAX_LENGTH]
