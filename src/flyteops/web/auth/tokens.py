"""Tokens of our own over HTTP: creation, listing and revocation, and their permissions."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Self

from msgspec import Meta, Struct, field

from flyteops.convert import read
from flyteops.document import Document
from flyteops.errors import InputError
from flyteops.model import Link
from flyteops.service import Service, Token, TokenRequest
from flyteops.timeformat import format_timestamp, parse_duration
from flyteops.web.api.body import parse_document_body
from flyteops.web.api.link import Links, token_path
from flyteops.web.api.request import Request
from flyteops.web.api.response import Response
from flyteops.web.api.schemas.wire import ResponseBody, Timestamp
from flyteops.web.auth.policy import AS_PACK, Policy, PolicyEntry

PACK, ADMIN = "pack", "admin"

OWN_POLICY = Policy(
    [
        *(
            PolicyEntry(path)
            for path in (
                "/",
                "/v1/swagger",
                "/swagger",
                "/swagger/*",
                "/hooks",
                "/hooks/*",
                "/health",
                "/health/*",
            )
        ),
        PolicyEntry("/v1", ["GET"]),
        # Called by third parties; the hook itself authenticates them.
        PolicyEntry("/v1/hooks/:hook", ["POST"]),
        # Only as itself, which is checked when the body is read.
        PolicyEntry("/v1/packs", ["POST"], {"role": [PACK, ADMIN]}),
        *(
            PolicyEntry(path, [method], {"pack": [":pack"], "role": [ADMIN]})
            for path, method in AS_PACK
        ),
        PolicyEntry("/*", claims={"role": [ADMIN]}),
    ]
)
"""The permissions of tokens of our own; and, without another policy, the requests that need no
token."""


class CreateTokenRequest(Struct, rename="camel"):
    """The request for a token: for a pack with exactly these labels, or for an admin."""

    pack: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    admin: bool = False
    items: Annotated[
        tuple[str, ...] | None,
        Meta(
            description=(
                "the datastore items that the pack may read if it declares them; without it,"
                " chatops"
            )
        ),
    ] = None
    expires_in: (
        Annotated[
            str, Meta(description="a duration such as 90d; without it, the token lasts for ever")
        ]
        | None
    ) = None
    description: str = ""


class TokenView(ResponseBody, kw_only=True):
    """A token, without its secret text, which is not shown again."""

    id: str
    pack: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    admin: bool = False
    items: Sequence[str] = ()
    description: str = ""
    created_at: Timestamp
    expires_at: Timestamp | None = None
    last_used_at: Timestamp | None = None
    links: list[Link]

    @classmethod
    def of(cls, token: Token, service: Service, site: Links, text: str | None = None) -> "NewToken":
        used_at = service.tokens.last_used_at(token.token_id)
        return NewToken(
            id=token.token_id,
            pack=token.pack_name or None,
            labels=token.labels,
            admin=token.is_admin,
            items=() if token.is_admin else token.readable,
            description=token.description,
            created_at=format_timestamp(token.created_at),
            expires_at=None if token.expires_at is None else format_timestamp(token.expires_at),
            last_used_at=None if used_at is None else format_timestamp(used_at),
            token=text,
            links=[site.link(token_path(token.token_id), "self")],
        )


class NewToken(TokenView, kw_only=True):
    """A new token; `token` is the text that its bearer sends, and is never shown again."""

    token: str | None = None


class TokenList(ResponseBody, kw_only=True):
    """All tokens, the oldest first."""

    links: list[Link]
    tokens: list[TokenView]

    @classmethod
    def of(cls, tokens: Iterable[Token], service: Service, site: Links) -> Self:
        links = site.around("/v1/tokens", "/v1", "/token")
        return cls(links=links, tokens=[TokenView.of(token, service, site) for token in tokens])


def token_request_of(document: Document) -> TokenRequest:
    """Return the order for a token; raise `InputError`."""
    wanted = read(document, CreateTokenRequest)
    lasts: timedelta | None = None
    if wanted.expires_in is not None:
        try:
            lasts = parse_duration(wanted.expires_in)
        except ValueError as error:
            raise InputError(
                f"{error}.", problems=[document.problem(("expiresIn",), str(error))]
            ) from error
    return TokenRequest(
        is_admin=wanted.admin,
        pack_name=wanted.pack or "",
        labels=wanted.labels,
        items=wanted.items,
        lasts=lasts,
        description=wanted.description,
    )


async def create_token(request: Request) -> Response:
    """Make a token for a pack or for an admin.

    The answer has the token itself, this once only. A pack's token lets it register as itself, send
    its events, take and complete its actions, and read the datastore items that it declares, as far
    as the token names them. An admin's token allows everything.
    """
    token, text = await request.service.tokens.create(
        await parse_document_body(request, token_request_of), request.author
    )
    headers = (request.site.location(token_path(token.token_id)), (b"cache-control", b"no-store"))
    return Response(201, TokenView.of(token, request.service, request.site, text), headers=headers)


async def list_tokens(request: Request) -> Response:
    """List the tokens, the oldest first."""
    return Response(200, TokenList.of(request.service.tokens.list(), request.service, request.site))


async def get_token(request: Request) -> Response:
    """Show a token: its bearer and when it was used."""
    return Response(
        200,
        TokenView.of(
            request.service.tokens.get(request.params["tokenId"]), request.service, request.site
        ),
    )


async def revoke_token(request: Request) -> Response:
    """Revoke a token.

    Other servers on the same store refuse it within a second.
    """
    await request.service.tokens.revoke(request.params["tokenId"], request.author)
    return Response(204)
