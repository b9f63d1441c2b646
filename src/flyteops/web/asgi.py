"""ASGI: an adapter for tests in this process, and for other servers that embed the application.

The server of `flyte serve` does without it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flyteops.web.api.request import DisconnectedError, Head, Request, normal_path, split_fields
from flyteops.web.api.response import App

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiRequest(Request):
    """A request that another server has received."""

    watching: asyncio.Task[None] | None = None

    def __init__(self, scope: Scope, receive: Receive) -> None:
        fields, variable = split_fields(scope["headers"])
        head = Head(fields, (scope["scheme"], scope.get("server")))
        path = normal_path(scope["raw_path"].decode("latin-1"))
        super().__init__(
            scope["method"], path, scope["query_string"], head, variable, scope.get("client")
        )
        self._receive = receive

    async def receive(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        self.is_whole = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    def watch_client(self) -> None:
        self.watching = asyncio.ensure_future(self._wait_until_gone())

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.leave()


async def serve(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Handle a request that another server has received."""
    request = AsgiRequest(scope, receive)
    is_lost = True
    try:
        message = await app.respond(request)
        if message is not None:
            headers = [tuple(line.split(b": ", 1)) for line in message.head.split(b"\r\n")[:-1]]
            await send(
                {"type": "http.response.start", "status": message.status, "headers": headers}
            )
            await send({"type": "http.response.body", "body": message.body})
            is_lost = False
    finally:
        if request.watching is not None:
            request.watching.cancel()
        if is_lost:
            await request.undo()
