"""The web app: API v1, its description and its page, behind the guard."""

from collections.abc import Iterable
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from flyteops.service import Service
from flyteops.web.api import OPERATIONS
from flyteops.web.exchange import Call, Options, Reply, Scope
from flyteops.web.guard import is_foreign, leads_to_page
from flyteops.web.openapi import describe
from flyteops.web.operation import Operation, Resource, not_found
from flyteops.web.problem import Fault, problem
from flyteops.web.route import App, Router
from flyteops.web.swagger import SwaggerPage

FOREIGN = Fault(403, "foreign-origin", "This is not allowed to the pages of other web sites.")


def create_app(service: Service, options: Options | None = None) -> App:
    """Return the app that serves a started service; it neither starts nor stops it."""
    options = options or Options()
    operations = [*OPERATIONS, *_about()]
    app: App = Router(_resources(operations, service, options), default=not_found)
    if options.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=sorted(options.allowed_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Location"],
        )
    return Gate(app, options=options, pages=frozenset(["/", "/swagger"]))


def _resources(operations: Iterable[Operation], service: Service, options: Options) -> dict[str, App]:
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return {path: Resource(service, options, methods) for path, methods in by_path.items()}


class Description:
    """The OpenAPI document, made once."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._document = describe(operations)

    async def get(self, call: Call) -> Reply:
        """Describe the API (OpenAPI)."""
        return Reply(200, self._document)


def _about() -> Iterable[Operation]:
    description, swagger = Description(OPERATIONS), SwaggerPage()
    for path, handler in (("/v1/swagger", description.get), ("/swagger", swagger.page), ("/swagger/{name}", swagger.file)):
        yield Operation(method="GET", path=path, handler=handler, name=path, tag="info", outcomes={})


class Gate:
    """Turns away other web sites, and brings paths to the form that routes know: as sent, no doubled or trailing slashes."""

    def __init__(self, app: App, *, options: Options, pages: frozenset[str]) -> None:
        self._app = app
        self._allowed_origins = frozenset(origin.lower().rstrip("/") for origin in options.allowed_origins)
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = normal_path(scope["raw_path"])
            headers = dict(scope["headers"])
            if is_foreign(headers, self._allowed_origins) and not leads_to_page(scope["method"], path, headers, self._pages):
                detail = "Whoever runs the server can allow the pages of that origin in its settings."
                await problem(FOREIGN, detail).send(scope, send)
                return
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def normal_path(raw_path: bytes) -> str:
    """Return the path as it was sent, percent signs and all, with one slash at its begin and none at its end."""
    return "/" + raw_path.decode("latin-1").strip("/")
