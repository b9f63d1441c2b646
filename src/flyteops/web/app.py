"""The web app: API v1, its description and its page, behind the guard."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from flyteops.service import Service
from flyteops.web.api import OPERATIONS
from flyteops.web.auth.gate import Gate
from flyteops.web.exchange import Call, DisconnectedError, Options, Reply, Scope
from flyteops.web.guard import Guard
from flyteops.web.openapi import Node, describe
from flyteops.web.operation import Operation, Resource
from flyteops.web.page import hooks_page, swagger_page
from flyteops.web.problem import Fault, problem, reply_to
from flyteops.web.route import Router
from flyteops.web.shortcut import Shortcut
from flyteops.web.traffic import Traffic

App = Callable[[Scope, Any, Any], Awaitable[None]]

LOGGER = logging.getLogger(__name__)

REFUSAL = problem(
    Fault(403, "foreign-origin", "This is not allowed to the pages of other web sites."),
    "Whoever runs the server can allow the pages of that origin with FLYTE_ALLOWED_ORIGINS, such as https://ops.example.com.",
)

WRONG_HOST = problem(
    Fault(403, "foreign-host", "This server is not the host that was asked for."),
    "It listens on this computer alone, without auth, and goes by localhost, an address, or a name without a domain. "
    "For a proxy in front of it, add the outside address to FLYTE_ALLOWED_ORIGINS, such as https://flyte.example.com, or let the "
    "proxy send a local Host and the outside one as X-Forwarded-Host.",
)

NOTHING_HERE = problem(
    Fault(404, "not-found", "There is no such thing."), "Nothing is at this address; GET /v1 tells where everything is."
)


def create_app(service: Service, options: Options | None = None, gate: Gate | None = None) -> "Api | Doorstep":
    """Return the app that serves a started service; it neither starts nor stops it.

    Without a gate, every request is admitted.
    """
    options = options or Options()
    local_names = options.is_local and gate is None
    guard = Guard(options.allowed_origins, pages=frozenset(["/", "/swagger", "/hooks"]), local_names=local_names)
    api = Api(service, options, [*OPERATIONS, *about()], guard, gate)
    if not options.allowed_origins:
        return api
    cors = CORSMiddleware(
        api,
        allow_origins=sorted(options.allowed_origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Location"],
    )
    return Doorstep(cors, guard, api)


class Api:
    """The ASGI app.

    One function from the request to the reply, since every request pays for each call in between.
    """

    def __init__(
        self, service: Service, options: Options, operations: Iterable[Operation], guard: Guard, gate: Gate | None
    ) -> None:
        self._service = service
        self._options = options
        self._guard = guard
        self._gate = gate
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self.traffic = Traffic(options.max_connections, max(options.max_transfer_bytes, 2 * options.max_body_bytes))
        self.shortcut = Shortcut(service, options, guard, gate)
        self._find = Router({path: Resource(methods) for path, methods in by_path.items()}).find

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        call = Call(self._service, self._options, scope, receive, self.traffic)
        is_lost = True
        try:
            await self._reply(call, send)
            is_lost = False
        except ConnectionError:
            LOGGER.debug("A client went away before it got its answer")
        finally:
            await call.end(is_lost=is_lost)

    async def _reply(self, call: Call, send: Any) -> None:
        scope = call.scope
        path = normal_path(scope["raw_path"])
        if self._guard.refuses(scope["method"], path, call.headers):
            await REFUSAL.send(call.headers, send)
            return
        if self._guard.misses(call.headers):
            await WRONG_HOST.send(call.headers, send)
            return
        try:
            if self._gate is not None:
                call.has_auth = True
                admitted = await self._gate.admit(scope["method"], path, call.headers, scope.get("client"))
                call.bearer, call.items = admitted
            resource, params = self._find(path)
            call.set_params(params)
            reply = NOTHING_HERE if resource is None else await resource.reply(call)
        except DisconnectedError:
            LOGGER.debug("A client went away in the middle of a request")
            return
        except Exception as error:  # the request boundary: nothing may pass it
            reply = reply_to(error)
        call.release()
        await reply.send(call.headers, send)


class Description:
    """The OpenAPI document, made by the first request for it."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = operations

    @cached_property
    def _document(self) -> Node:
        return describe(self._operations)

    async def get(self, call: Call) -> Reply:
        """Describe the API (OpenAPI)."""
        return Reply(200, self._document)


def about() -> Iterable[Operation]:
    """Return the operations for people: the API's description with its page, and the hooks' page."""
    description, swagger, hooks = Description(OPERATIONS), swagger_page(), hooks_page()
    for path, handler in (
        ("/v1/swagger", description.get),
        ("/swagger", swagger.page),
        ("/swagger/{name}", swagger.file),
        ("/hooks", hooks.page),
        ("/hooks/{name}", hooks.file),
    ):
        yield Operation(method="GET", path=path, handler=handler, name=path, tag="info", outcomes={}, needs_store=False)


class Doorstep:
    """Refuses requests from other web sites before they are answered with the CORS permissions."""

    def __init__(self, app: App, guard: Guard, api: Api) -> None:
        self.shortcut = api.shortcut
        self.traffic = api.traffic
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        if self._guard.refuses(scope["method"], normal_path(scope["raw_path"]), headers):
            await REFUSAL.send(headers, send)
            return
        await self._app(scope, receive, send)


def normal_path(raw_path: bytes) -> str:
    """Return the path in the form of routes: as sent, with one leading and no trailing slash."""
    return "/" + raw_path.decode("latin-1").strip("/")
