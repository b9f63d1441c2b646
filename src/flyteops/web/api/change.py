"""The audit log over HTTP."""

from collections.abc import Iterable
from typing import Self

from flyteops.errors import NotFoundError
from flyteops.model import Link
from flyteops.service import AuditFilter
from flyteops.service.auditlog.entry import AuditEntry
from flyteops.web.api.handlers import following_of, page_of
from flyteops.web.api.link import Links
from flyteops.web.api.request import Request
from flyteops.web.api.response import Response
from flyteops.web.api.schemas.wire import ResponseBody

MAX_NUMBER_LENGTH = 12


class ChangeList(ResponseBody, kw_only=True):
    """Entries of the audit log, newest first."""

    changes: list[AuditEntry]
    links: list[Link]

    @classmethod
    def of(cls, changes: Iterable[AuditEntry], site: Links, following: str | None) -> Self:
        return cls(
            changes=list(changes),
            links=site.page("/v1/audit/changes", "/v1", "/changeAudit", following),
        )


async def list_changes(request: Request) -> Response:
    """List the changes and their authors, newest first.

    The log has every change of a flow, a datastore item, a pack or a token, and the resolutions of
    actions by people. An answer that would be longer than 16 MiB is cut, and has a link `next`.
    """
    with request.query() as query:
        which = AuditFilter(
            kind=query.text("kind"),
            name=query.text("name"),
            who=query.text("who"),
            since=query.instant("from"),
            until=query.instant("until"),
        )
        start, limit = page_of(query)
    changes = await request.service.audit.list_changes(which, start, limit)
    return Response(200, ChangeList.of(changes, request.site, following_of(query, start, changes)))


async def get_change(request: Request) -> Response:
    """Show an entry of the audit log."""
    text = request.params["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_LENGTH):
        raise NotFoundError("Changes have numbers.")
    return Response(200, await request.service.audit.get_change(int(text)))
