"""Problem details (RFC 9457): the status of each error, and its description for the caller."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from flyteops.document import MAX_PROBLEMS
from flyteops.errors import (
    ConflictError,
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    Problem,
    TemplateError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.web.api.response import HeaderList, Response
from flyteops.web.api.schemas.wire import ProblemDetails

logger = logging.getLogger(__name__)

STATUS: Mapping[type[Exception], int] = {
    InputError: 400,
    TemplateError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    FlyteError: 500,
    UnavailableError: 503,
    Exception: 500,
}
"""The status of every error; one that is not listed has that of its nearest base."""

PROBLEM_JSON = b"application/problem+json"

RETRY_AFTER_SECONDS = b"1"

REALM = b'Bearer realm="flyte"'
"""The challenge of a 401 (RFC 6750)."""


class ProblemType(NamedTuple):
    """The part of a problem that is the same for every occurrence."""

    status: int
    code: str
    title: str


INTERNAL = ProblemType(500, "internal", "Something went wrong in the server.")


def response_to(error: Exception) -> Response:
    """Return the reply for an error; an unexpected one is described in the log only."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if status == 500 or not isinstance(error, FlyteError):
        logger.error("A request failed", exc_info=error)
        return problem(INTERNAL, "See the server log.")
    fault = ProblemType(status, error.code, (type(error).__doc__ or "").splitlines()[0])
    detail = str(error) if isinstance(error, TemplateError) else error.message
    return problem(fault, detail, problems=error.problems, headers=tuple(_headers(error)))


def _headers(error: FlyteError) -> Iterator[tuple[bytes, bytes]]:
    if isinstance(error, UnavailableError):
        yield b"retry-after", RETRY_AFTER_SECONDS
    elif isinstance(error, UnauthorizedError):
        yield (
            b"www-authenticate",
            REALM if error.error is None else b'%b, error="%b"' % (REALM, error.error.encode()),
        )


def _shown(problems: Sequence[Problem]) -> Sequence[Problem]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], Problem("", "more problems were found; fix these first")]


def problem(
    fault: ProblemType, detail: str, *, problems: Sequence[Problem] = (), headers: HeaderList = ()
) -> Response:
    """Return problem details as JSON, the format that every client of errors reads."""
    details = ProblemDetails(
        type=f"urn:flyte:problem:{fault.code}",
        title=fault.title,
        status=fault.status,
        detail=detail,
        code=fault.code,
        problems=_shown(problems),
    )
    return Response(fault.status, msgspec.json.encode(details), PROBLEM_JSON, headers)
