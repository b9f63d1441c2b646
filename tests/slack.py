"""A stand-in for Slack on the loopback: its Web API and Socket Mode as Slack documents them, as
far as the pack uses them.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Self

from aiohttp import WSMsgType, web

from flyteops.packs.slack import create
from flyteops.sdk.testing import PackTester

BOT_TOKEN = "xoxb-secret-of-the-bot"
APP_TOKEN = "xapp-secret-of-the-app"
BOT = {"user_id": "UBOT", "bot_id": "BBOT"}
SCOPES = "chat:write,users:read,channels:read,groups:read"


def user(user_id: str, name: str) -> dict[str, Any]:
    profile = {
        "email": f"{name}@test",
        "title": "Dr",
        "first_name": name.title(),
        "last_name": "Lee",
        "display_name": "x",
    }
    return {"id": user_id, "name": name, "profile": profile}


class Slack:
    """Run the stand-in: an asynchronous context manager.

    `calls` holds each call as (method, arguments). `prepare` says how the next calls of a method
    are answered, and `may_answer` lets all of them wait while it is not set.
    """

    def __init__(self) -> None:
        self.users = {"U1": user("U1", "ann"), "U2": user("U2", "bob")}
        self.channels = [
            {"id": "C1", "name": "general", "topic": {"value": "all of us"}},
            {"id": "C2", "name": "deploys"},
        ]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[str] = []
        self.scopes = SCOPES
        self.url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.acknowledged: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._transports: list[Any] = []
        self._prepared: dict[str, deque[web.Response]] = {}
        self._changed = asyncio.Condition()
        self._stamps = count(1)
        self._envelopes = count(1)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._answer)
        app.router.add_get("/link", self._connect)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url, self._socket_url = (
            f"http://127.0.0.1:{port}/api/",
            f"ws://127.0.0.1:{port}/link?ticket=secret-ticket",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self.sockets:
            await socket.close()
        await self._runner.cleanup()

    # -------------------------------------------------------------------------------- from the test

    def environ(self, **others: str) -> dict[str, str]:
        tokens = {"FLYTE_SLACK_TOKEN": BOT_TOKEN, "FLYTE_SLACK_APP_TOKEN": APP_TOKEN}
        return {**tokens, "FLYTE_SLACK_API_URL": self.url, **others}

    def prepare(
        self, method: str, body: Any, *, status: int = 200, times: int = 1, **headers: str
    ) -> None:
        """Answer the next calls of a method like this; `headers` have underscores for dashes."""
        for _ in range(times):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            text = body if isinstance(body, str) else json.dumps(body)
            kind = "text/html" if isinstance(body, str) else "application/json"
            answers = self._prepared.setdefault(method, deque())
            answers.append(web.Response(text=text, status=status, content_type=kind, headers=sent))

    def refuse(self, method: str, error: str, *, times: int = 1, **more: Any) -> None:
        self.prepare(method, {"ok": False, "error": error, **more}, times=times)

    def called(self, method: str) -> list[dict[str, Any]]:
        """What the calls of a method said."""
        return [arguments for name, arguments in self.calls if name == method]

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` holds; it is looked at whenever something came from the pack."""
        async with asyncio.timeout(15), self._changed:
            await self._changed.wait_for(condition)

    async def connected(self, times: int = 1) -> web.WebSocketResponse:
        """Wait until the pack connected so many times, and return the last socket."""
        await self.until(lambda: len(self.sockets) >= times)
        return self.sockets[-1]

    def cut(self) -> None:
        """Cut the last socket's connection without a word."""
        self._transports[-1].abort()

    async def tell(
        self, kind: str, payload: Any, *, envelope_id: str | None = None, retry: int = 0
    ) -> str:
        """Send an envelope over the last socket, and return its id."""
        envelope_id = envelope_id or f"envelope{next(self._envelopes)}"
        envelope = {
            "type": kind,
            "envelope_id": envelope_id,
            "payload": payload,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": retry, "retry_reason": "timeout" if retry else ""}
        socket = await self.connected()
        await socket.send_str(json.dumps(envelope))
        return envelope_id

    async def happen(self, event: dict[str, Any], *, retry: int = 0) -> None:
        """Let an event of the Events API happen, and wait until it is acknowledged."""
        before = len(self.acknowledged)
        payload = {
            "type": "event_callback",
            "event_id": "Ev1",
            "token": "verification",
            "event": event,
        }
        envelope_id = await self.tell("events_api", payload, retry=retry)
        await self.until(lambda: envelope_id in self.acknowledged[before:])

    async def interact(self, kind: str, payload: dict[str, Any]) -> None:
        """Let somebody press or type something, and wait until it is acknowledged."""
        envelope_id = await self.tell(kind, payload)
        await self.until(lambda: envelope_id in self.acknowledged)

    # -------------------------------------------------------------------------------- from the pack

    async def _answer(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        arguments = dict(request.query)
        if request.content_type == "application/json":
            arguments |= await request.json()
        else:
            arguments |= await request.post()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
        self.calls.append((method, arguments))
        await self.may_answer.wait()
        if self._prepared.get(method):
            answer = self._prepared[method].popleft()
        elif token != (APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN):
            answer = web.json_response({"ok": False, "error": "invalid_auth"})
        else:
            answer = web.json_response(
                self._of(method, arguments), headers={"x-oauth-scopes": self.scopes}
            )
        async with self._changed:
            self._changed.notify_all()
        return answer

    def _of(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "auth.test":
                return {"ok": True, "team": "Acme", "user": "flyte", **BOT}
            case "apps.connections.open":
                return {"ok": True, "url": self._socket_url}
            case "users.info" if arguments.get("user") in self.users:
                return {"ok": True, "user": self.users[arguments["user"]]}
            case "users.info":
                return {"ok": False, "error": "user_not_found"}
            case "conversations.list":
                start = int(arguments.get("cursor") or 0)
                following = str(start + 1) if start + 1 < len(self.channels) else ""
                page = self.channels[start : start + 1]
                return {
                    "ok": True,
                    "channels": page,
                    "response_metadata": {"next_cursor": following},
                }
            case "chat.postMessage":
                channel = {"general": "C1"}.get(
                    arguments["channel"].removeprefix("#"), arguments["channel"]
                )
                if channel not in ("C1", "C2", "D1"):
                    return {"ok": False, "error": "channel_not_found"}
                if not any(arguments.get(name) for name in ("text", "blocks", "attachments")):
                    return {"ok": False, "error": "no_text"}
                return {
                    "ok": True,
                    "channel": channel,
                    "ts": f"1700000000.{next(self._stamps):06d}",
                }
            case "chat.update":
                return {
                    "ok": True,
                    "channel": arguments["channel"],
                    "ts": arguments["ts"],
                    "text": arguments["text"],
                }
        return {"ok": False, "error": "unknown_method"}

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json(
            {"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}}
        )
        self.sockets.append(socket)
        self._transports.append(request.transport)
        async with self._changed:
            self._changed.notify_all()
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.acknowledged.append(json.loads(message.data)["envelope_id"])
                async with self._changed:
                    self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()
        return socket


ANN = {
    "id": "U1",
    "name": "ann",
    "email": "ann@test",
    "title": "Dr",
    "firstName": "Ann",
    "lastName": "Lee",
}
BOB = {**ANN, "id": "U2", "name": "bob", "email": "bob@test", "firstName": "Bob"}
HELLO = {
    "type": "message",
    "channel": "C1",
    "user": "U1",
    "text": "hello",
    "ts": "1700000001.000100",
}


@asynccontextmanager
async def running(slack: Slack, **variables: str) -> AsyncIterator[PackTester]:
    async with PackTester(create(slack.environ(**variables))) as tester:
        await slack.connected()
        yield tester


def payloads(tester: PackTester, name: str) -> list[Any]:
    return [event.payload for event in tester.sent if event.name == name]
