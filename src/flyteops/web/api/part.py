"""Parts of lists in memory: the whole list by default, and never more than fits an answer."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from flyteops.storage.query import PAGE_BYTES
from flyteops.web.api.query import Query
from flyteops.web.api.request import Request
from flyteops.web.api.response import encode
from flyteops.web.api.schemas.wire import ResponseBody

T = TypeVar("T")
View = TypeVar("View", bound=ResponseBody)

MAX_LIMIT = 1000


class ListPage(NamedTuple, Generic[View]):
    """The shown part of a list, and the query for the next part, None at its end."""

    views: list[View]
    following: str | None


def list_page_of(
    request: Request, items: Sequence[T], view: Callable[[T], View], most_bytes: int = PAGE_BYTES
) -> ListPage[View]:
    """Return the part of a list that a request asks for by `start` and `limit`.

    Without a limit, or with the limit 0, all items from there on. A part is cut when it would be
    longer than `most_bytes`, but never before its first item.
    """
    with request.query() as query:
        start = query.number("start", 0, least=0)
        limit = _limit(query)
    views: list[View] = []
    room = most_bytes
    for item in items[start:] if limit is None else items[start : start + limit]:
        shown = view(item)
        room -= len(encode(shown))
        if room < 0 and views:
            break
        views.append(shown)
    end = start + len(views)
    return ListPage(views, query.following(end) if end < len(items) else None)


def _limit(query: Query) -> int | None:
    given = query.number("limit", 0, least=0)
    return min(given, MAX_LIMIT) if given else None
