"""The rows of the API's table, and what serves them: a resource for each path."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from flyteops.web.exchange import Call, Reply
from flyteops.web.problem import Fault, problem

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
    """One thing that can be asked for, with all that serving and describing it needs; its handler says what it does.

    Unless it `needs_store`, it is answered before the server has started, too. One that `reads_itself` reads its body, too, and
    does something about what cannot be read.
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
    """What is at a path: knows the operations on it, and tells whoever asks for another which there are.

    OPTIONS, which the original answers for every resource, asks for that alone.
    """

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._handlers = {
            method: (operation.handler, None if operation.reads_itself else operation.body is not None, operation.needs_store)
            for method, operation in operations.items()
        }
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
        self._allow = ", ".join(sorted(self._handlers)).encode()

    async def reply(self, call: Call) -> Reply:
        """Do what the request asks for, once it is there as a whole."""
        found = self._handlers.get(call.scope["method"])
        if found is None and call.scope["method"] == "OPTIONS":
            await call.read(keep=False)
            return Reply(200, headers=((b"allow", self._allow + b", OPTIONS"),))
        if found is None:
            detail = f"{call.scope['method']} is not among what this resource allows: {self._allow.decode()}."
            return problem(NOT_ALLOWED, detail, headers=((b"allow", self._allow),))
        handler, wants_body, needs_store = found
        if wants_body is not None:
            await call.read(keep=wants_body)
        if needs_store:
            call.service.check_started()
        return await handler(call)
