"""The application: API v1, its description and pages, behind the guard and authenticator."""

import logging
from collections.abc import Iterable
from functools import cached_property, partial

from flyteops.errors import ForbiddenError, UnauthorizedError
from flyteops.service import Service
from flyteops.web import asgi
from flyteops.web.api.guard import CrossOrigin, OriginGuard
from flyteops.web.api.openapi import Node, describe
from flyteops.web.api.operation import Operation, Resource
from flyteops.web.api.page import hooks_page, swagger_page
from flyteops.web.api.problem import ProblemType, problem, response_to
from flyteops.web.api.request import DisconnectedError, Options, Request
from flyteops.web.api.response import EncodedResponse, Response
from flyteops.web.api.router import Router
from flyteops.web.api.routes import OPERATIONS
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.http.reader import WholeRequestReader
from flyteops.web.http.traffic import Traffic

LOGGER = logging.getLogger(__name__)

REFUSAL = problem(
    ProblemType(403, "foreign-origin", "Requests from other web sites are not allowed."),
    "The operator can allow that origin with FLYTE_ALLOWED_ORIGINS, such as"
    " https://ops.example.com.",
)

WRONG_HOST = problem(
    ProblemType(403, "foreign-host", "The Host header does not name this server."),
    "It listens on this computer alone, without auth, and goes by localhost, an address, or a name"
    " without a domain. For a proxy in front of it, add the outside address to"
    " FLYTE_ALLOWED_ORIGINS, such as https://flyte.example.com, or let the proxy send a local Host"
    " and the outside one as X-Forwarded-Host.",
)

NOTHING_HERE = problem(
    ProblemType(404, "not-found", "Not found."), "Unknown path; GET /v1 lists the resources."
)


def create_app(
    service: Service, options: Options | None = None, authenticator: Authenticator | None = None
) -> "Application":
    """Return the application that serves a started service; it neither starts nor stops it.

    Without an authenticator, every request is admitted.
    """
    return Application(service, options or Options(), [*OPERATIONS, *about()], authenticator)


class Application:
    """Responds to requests: authorize, find the resource, perform its operation.

    One function from the request to the response, since every request pays for each call in
    between.
    """

    def __init__(
        self,
        service: Service,
        options: Options,
        operations: Iterable[Operation],
        authenticator: Authenticator | None = None,
    ) -> None:
        self._service = service
        self._options = options
        self._authenticator = authenticator
        self._has_local_names = options.is_local and authenticator is None
        pages = frozenset(["/", "/swagger", "/hooks"])
        self._guard = OriginGuard(options.allowed_origins, pages, local_names=self._has_local_names)
        self._cross_origin = (
            CrossOrigin(options.allowed_origins) if options.allowed_origins else None
        )
        self.traffic = Traffic(
            options.max_connections, max(options.max_transfer_bytes, 2 * options.max_body_bytes)
        )
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._find = Router({path: Resource(methods) for path, methods in by_path.items()}).find
        self.reader: WholeRequestReader | None = WholeRequestReader(
            self.reads_body, options.max_body_bytes
        )

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Handle a request that another server has received (ASGI)."""
        await asgi.serve(self, scope, receive, send)

    def reads_body(self, method: str, path: str) -> bool:
        """Return whether a request is handled once its whole body has been received."""
        resource, _ = self._find(path)
        return resource is not None and resource.allows(method)

    async def respond(self, request: Request) -> EncodedResponse | None:
        """Return the response to a request; None if its client has gone."""
        more = (
            b"" if self._cross_origin is None else self._cross_origin.permissions(request.headers)
        )
        try:
            head = request.head
            if head.is_of_page or (self._has_local_names and not head.has_checked_host):
                early = self._early(request, more)
                if early is not None:
                    return early
            request.service, request.options, request.traffic = (
                self._service,
                self._options,
                self.traffic,
            )
            if self._authenticator is not None:
                await self._authorize(request, self._authenticator)
            resource, params = self._find(request.path)
            if params:
                request.set_params(params)
            handler = nothing_here if resource is None else resource.handler_of(request)
            response = await handler(request)
            request.release()
            if request.head.wants_yaml:
                response = await response.in_format(request.head)
            return response.message(request.head, more)
        except DisconnectedError:
            LOGGER.debug("A client disconnected during a request")
            return None
        except Exception as error:  # noqa: BLE001 - the request boundary: nothing may pass it
            response = response_to(error)
        request.release()
        return response.message(request.head, more)

    def _early(self, request: Request, more: bytes) -> EncodedResponse | None:
        """Return the response to a refused origin or host, or to a question about these."""
        head = request.head
        if head.is_of_page:
            if self._guard.is_cross_site(request.method, request.path, head.fields):
                return REFUSAL.message(head)
            if self._cross_origin is not None and self._cross_origin.is_preflight(request):
                return self._cross_origin.preflight(request).message(head)
        if self._guard.is_wrong_host(head.fields):
            return WRONG_HOST.message(head, more)
        head.has_checked_host = True
        return None

    async def _authorize(self, request: Request, authenticator: Authenticator) -> None:
        request.has_auth = True
        request.may = partial(is_admitted, authenticator, request)
        admission = await authenticator.authorize(
            request.method, request.path, request.headers, request.peer
        )
        request.bearer, request.items = admission


async def is_admitted(
    authenticator: Authenticator, request: Request, method: str, path: str
) -> bool:
    """Return whether a request with the credentials of this one would be admitted."""
    try:
        await authenticator.authorize(method, path, request.headers, request.peer)
    except (UnauthorizedError, ForbiddenError):
        return False
    return True


async def nothing_here(_request: Request) -> Response:
    """Respond at an address without a resource."""
    return NOTHING_HERE


class Description:
    """The OpenAPI document, made by the first request for it."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = operations

    @cached_property
    def _document(self) -> Node:
        return describe(self._operations)

    async def get(self, request: Request) -> Response:
        """Describe the API (OpenAPI)."""
        return Response(200, self._document)


def about() -> Iterable[Operation]:
    """Return the operations for people: the API's description and page, and the hooks' page."""
    description, swagger, hooks = Description(OPERATIONS), swagger_page(), hooks_page()
    for path, handler in (
        ("/v1/swagger", description.get),
        ("/swagger", swagger.page),
        ("/swagger/{name}", swagger.file),
        ("/hooks", hooks.page),
        ("/hooks/{name}", hooks.file),
    ):
        yield Operation(
            method="GET",
            path=path,
            handler=handler,
            name=path,
            tag="info",
            outcomes={},
            needs_store=False,
        )
