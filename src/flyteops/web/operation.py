"""The rows of the API's table, and what serves them: one ASGI app for each path."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from flyteops.service import Service
from flyteops.web.exchange import Call, DisconnectedError, Options, Reply, Scope
from flyteops.web.problem import Fault, problem, reply_to

logger = logging.getLogger(__name__)

NOT_FOUND = Fault(404, "not-found", "There is no such thing.")
NOT_ALLOWED = Fault(405, "method-not-allowed", "This cannot be done with the resource.")

Handler = Callable[[Call], Awaitable[Reply]]


class Success(msgspec.Struct, frozen=True):
    """A way in which an operation ends well.

    `content` is the type of the body, `alternative` another one that it may have; `media_type` is given if it is not JSON or
    YAML.
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
    """One thing that can be asked for, with all that serving and describing it needs; its handler says what it does."""

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

    @property
    def summary(self) -> str:
        return inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        return " ".join(inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[2].split())


class Resource:
    """What is at a path: answers the operations on it, and tells whoever asks for another which there are."""

    def __init__(self, service: Service, options: Options, operations: Mapping[str, Operation]) -> None:
        self._service = service
        self._options = options
        self._handlers = {method: (operation.handler, operation.body is not None) for method, operation in operations.items()}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
        self._allow = ", ".join(sorted(self._handlers)).encode()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            reply = await self._reply(scope, receive)
        except DisconnectedError:
            logger.debug("A client went away in the middle of a request")
            return
        except Exception as error:  # the request boundary: nothing may pass it
            reply = reply_to(error)
        await reply.send(scope, send)

    async def _reply(self, scope: Scope, receive: Any) -> Reply:
        found = self._handlers.get(scope["method"])
        if found is None:
            detail = f"{scope['method']} is not among what this resource allows: {self._allow.decode()}."
            return problem(NOT_ALLOWED, detail, headers=((b"allow", self._allow),))
        handler, wants_body = found
        call = Call(self._service, self._options, scope)
        await call.read(receive, keep=wants_body)
        return await handler(call)


async def not_found(scope: Scope, receive: Any, send: Any) -> None:
    """Answer a request for a path that nothing is at."""
    detail = "Nothing is at this address; GET /v1 tells where everything is."
    await problem(NOT_FOUND, detail).send(scope, send)
