"""The audit log over HTTP."""

from collections.abc import Iterable
from typing import Self

from flyteops.errors import NotFoundError
from flyteops.model import Link
from flyteops.service import AuditFilter
from flyteops.service.auditlog.entry import AuditEntry
from flyteops.web.exchange import Call, Reply
from flyteops.web.handler import following_of, page_of
from flyteops.web.link import Site
from flyteops.web.wire import Answer

LONGEST_NUMBER = 12


class ChangeList(Answer, kw_only=True):
    """Entries of the audit log, newest first."""

    changes: list[AuditEntry]
    links: list[Link]

    @classmethod
    def of(cls, changes: Iterable[AuditEntry], site: Site, following: str | None) -> Self:
        return cls(changes=list(changes), links=site.page("/v1/audit/changes", "/v1", "/changeAudit", following))


async def list_changes(call: Call) -> Reply:
    """List the changes and their authors, newest first.

    The log has every change of a flow, a datastore item, a pack or a token, and the resolutions of
    actions by people. An answer that would be longer than 16 MiB is cut, and has a link `next`.
    """
    with call.query() as query:
        which = AuditFilter(
            kind=query.text("kind"),
            name=query.text("name"),
            who=query.text("who"),
            since=query.instant("from"),
            until=query.instant("until"),
        )
        start, limit = page_of(query)
    changes = await call.service.audit.list_changes(which, start, limit)
    return Reply(200, ChangeList.of(changes, call.site, following_of(query, start, changes)))


async def get_change(call: Call) -> Reply:
    """Show an entry of the audit log."""
    text = call.params["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise NotFoundError("Changes have numbers.")
    return Reply(200, await call.service.audit.get_change(int(text)))
