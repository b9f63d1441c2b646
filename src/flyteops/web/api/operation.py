"""The rows of the API's table, and the resources that serve them, one for each path."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from flyteops.web.api.problem import ProblemType, problem
from flyteops.web.api.request import Request
from flyteops.web.api.response import Response

NOT_ALLOWED = ProblemType(405, "method-not-allowed", "Method not allowed.")

Handler = Callable[[Request], Awaitable[Response]]


class Success(msgspec.Struct, frozen=True):
    """A successful outcome of an operation.

    `content` is the type of the body, `alternative` another one that it may have; `media_type` is
    given if it is not JSON or YAML.
    """

    description: str
    content: Any = None
    alternative: Any = None
    media_type: str | None = None
    has_location: bool = False


class Parameter(msgspec.Struct, frozen=True):
    """A field of the query."""

    name: str
    description: str
    schema: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})
    example: str | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation of the API: all that serving and describing it needs.

    Its handler's docstring is its description. Unless it `needs_store`, it is answered before the
    server has started, too. One that `reads_itself` reads its body, too, and handles bodies that
    cannot be read.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    name: str
    tag: str
    outcomes: Mapping[int, Success]
    errors: tuple[int, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: Any = None
    example: Any = None
    needs_store: bool = True
    reads_itself: bool = False

    @property
    def summary(self) -> str:
        return inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        return " ".join(inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[2].split())


class Resource:
    """The resource at a path: performs its operations, and answers others with the allowed methods.

    OPTIONS, which the original answers for every resource, returns the allowed methods alone.
    """

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._handlers = {
            method: (
                operation.handler,
                None if operation.reads_itself else operation.body is not None,
                operation.needs_store,
            )
            for method, operation in operations.items()
        }
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
        self._allow = ", ".join(sorted(self._handlers)).encode()

    def allows(self, method: str) -> bool:
        """Return whether there is an operation for the method."""
        return method in self._handlers

    def handler_of(self, request: Request) -> Handler:
        """Return the handler of a request, or one that receives the rest of the request first."""
        found = self._handlers.get(request.method)
        if found is None or not request.is_whole:
            return self.respond
        handler, wants_body, needs_store = found
        if wants_body is not None:
            request.take_body(keep=wants_body)
        if needs_store:
            request.service.check_started()
        return handler

    async def respond(self, request: Request) -> Response:
        """Perform the operation of the request, once it has been received as a whole."""
        found = self._handlers.get(request.method)
        if found is None and request.method == "OPTIONS":
            await request.read(keep=False)
            return Response(200, headers=((b"allow", self._allow + b", OPTIONS"),))
        if found is None:
            detail = f"{request.method} is not allowed here; allowed: {self._allow.decode()}."
            return problem(NOT_ALLOWED, detail, headers=((b"allow", self._allow),))
        handler, wants_body, needs_store = found
        if wants_body is not None:
            await request.read(keep=wants_body)
        if needs_store:
            request.service.check_started()
        return await handler(request)
