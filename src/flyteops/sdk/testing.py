"""Run a pack in a test, without a network: the pack's true code against a server in memory."""

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from flyteops.errors import FlyteError
from flyteops.sdk.client import Client
from flyteops.sdk.clock import Clock
from flyteops.sdk.environment import Environment
from flyteops.sdk.event import Event
from flyteops.sdk.pack import Pack
from flyteops.sdk.session import Session

API = "http://flyte.test"

Fault = httpx2.Response | Exception | asyncio.Event

_SETTLING_TURNS = 200


class ManualClock(Clock):
    """A clock that stands still until it is advanced; waiting for the server takes no time at all."""

    def __init__(self, now: datetime, server: "FakeServer") -> None:
        self.back_offs: list[float] = []
        self._now = now
        self._server = server
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        """Return the instant at which the clock stands."""
        return self._now

    def monotonic(self) -> float:
        """Return the same instant in seconds."""
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock was advanced so far."""
        future = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), future))
        await future

    async def idle(self, seconds: float) -> None:
        """Wait until the server has something to do."""
        await self._server.work.wait()

    async def back_off(self, seconds: float) -> None:
        """Note the time and go on."""
        self.back_offs.append(seconds)
        await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move the clock, wake who slept so long one after the other, and let each of them go on."""
        end = self._now + timedelta(seconds=seconds)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, future = heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settle()
        self._now = end


class FakeServer(httpx2.AsyncBaseTransport):
    """A Flyte server for one pack, in memory; it answers the calls of a pack as the real one does.

    `data` holds the datastore, as JSON, for a test to fill.
    `registrations`, `events` and `results` hold what it accepted, `keys` the idempotency keys of its events, `requests` every
    call as ``POST /v1/packs``.
    """

    def __init__(self) -> None:
        self.registrations: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.results: dict[str, Event] = {}
        self.data: dict[str, Any] = {}
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.work = asyncio.Event()
        self.changed = asyncio.Condition()
        self.keys: set[str] = set()
        self._known: set[str] = set()
        self._waiting: deque[tuple[str, str, Any]] = deque()
        self._pending: set[str] = set()
        self._faults: deque[tuple[str, Fault]] = deque()
        self._numbers = count(1)

    # ------------------------------------------------------------------------------------------------ from the test

    def ask(self, command: str, command_input: Any = None) -> str:
        """Let an action wait for the pack and return its id."""
        action_id = f"action{next(self._numbers)}"
        self._waiting.append((action_id, command, command_input))
        self.work.set()
        return action_id

    def fail(self, times: int = 1, *, status: int = 503, on: str = "", headers: dict[str, str] | None = None) -> None:
        """Answer the next calls whose path ends with `on` with an error status."""
        for _ in range(times):
            self._faults.append((on, httpx2.Response(status, headers=headers)))

    def disconnect(self, times: int = 1, *, on: str = "") -> None:
        """Refuse the connection of the next calls whose path ends with `on`."""
        for _ in range(times):
            self._faults.append((on, httpx2.ConnectError("connection refused")))

    def lose_answer(self, times: int = 1, *, on: str = "") -> None:
        """Do the work of the next calls whose path ends with `on`, but let their answers get lost."""
        for _ in range(times):
            self._faults.append((on, httpx2.ReadTimeout("")))

    def hold(self, *, on: str = "") -> asyncio.Event:
        """Leave the next call whose path ends with `on` without an answer until the event is set."""
        release = asyncio.Event()
        self._faults.append((on, release))
        return release

    def forget_pack(self) -> None:
        """Lose every registration; actions that wait are kept."""
        self._known.clear()

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` holds; it is looked at after every call of the pack."""
        async with self.changed:
            await self.changed.wait_for(condition)

    # ------------------------------------------------------------------------------------------------ from the pack

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one call."""
        path = request.url.path
        self.requests.append(f"{request.method} {path}")
        self.authorizations.append(request.headers.get("Authorization"))
        try:
            entry = next((entry for entry in self._faults if path.endswith(entry[0])), None)
            if entry is None:
                return self._answer(request, await request.aread())
            self._faults.remove(entry)
            return await self._disturb(entry[1], request, await request.aread())
        finally:
            async with self.changed:
                self.changed.notify_all()

    async def _disturb(self, fault: Fault, request: httpx2.Request, body: bytes) -> httpx2.Response:
        if isinstance(fault, httpx2.Response):
            return fault
        if isinstance(fault, asyncio.Event):
            await fault.wait()
            return self._answer(request, body)
        if isinstance(fault, httpx2.ReadTimeout):
            self._answer(request, body)
        raise fault

    def _answer(self, request: httpx2.Request, body: bytes) -> httpx2.Response:  # noqa: PLR0911 - a route table
        path, base = request.url.path, str(request.url.join("/")).rstrip("/")
        match path.strip("/").split("/"):
            case ["v1"]:
                return _json(200, {"links": [_link(f"{base}/v1/packs", "swagger#!/pack/listPacks")]})
            case ["v1", "datastore", key] if key in self.data:
                return _json(200, self.data[key])
            case ["v1", "packs"]:
                return self._register(base, msgspec.json.decode(body))
            case ["v1", "packs", pack_id, *_] if pack_id not in self._known:
                return _problem(404, f"there is no pack {pack_id}")
            case ["v1", "packs", pack_id, "actions", "take"]:
                return self._take(base, pack_id)
            case ["v1", "packs", _, "events"]:
                return self._accept(_event(body), request.headers.get("Idempotency-Key"))
            case ["v1", "packs", _, "actions", action_id, "result"]:
                return self._finish(action_id, _event(body))
            case _:
                return _problem(404, f"there is no {path}")

    def _register(self, base: str, pack: dict[str, Any]) -> httpx2.Response:
        labels = "".join(f".{key}.{value}" for key, value in sorted((pack.get("labels") or {}).items()))
        pack_id = pack["name"] + labels
        self._known.add(pack_id)
        self.registrations.append(pack)
        links = [
            *pack["links"],
            _link(f"{base}/v1/packs/{pack_id}/actions/take", "swagger#!/action/takeAction"),
            _link(f"{base}/v1/packs/{pack_id}/events", "swagger#/event"),
        ]
        return _json(201, {**pack, "id": pack_id, "links": links})

    def _take(self, base: str, pack_id: str) -> httpx2.Response:
        if not self._waiting:
            return httpx2.Response(204)
        action_id, command, command_input = self._waiting.popleft()
        if not self._waiting:
            self.work.clear()
        self._pending.add(action_id)
        href = f"{base}/v1/packs/{pack_id}/actions/{action_id}/result"
        links = [_link(href, "swagger#/actionResult")]
        return _json(200, {"command": command, "input": command_input, "links": links})

    def _accept(self, event: Event, key: str | None) -> httpx2.Response:
        if key is None or key not in self.keys:
            self.events.append(event)
        if key is not None:
            self.keys.add(key)
        return httpx2.Response(202)

    def _finish(self, action_id: str, result: Event) -> httpx2.Response:
        if action_id in self._pending:
            self._pending.remove(action_id)
            self.results[action_id] = result
            return httpx2.Response(202)
        if action_id not in self.results:
            return _problem(404, f"there is no action {action_id}")
        if self.results[action_id] != result:
            return _problem(409, f"the action {action_id} has another result")
        return httpx2.Response(202)


class PackTester:
    """Run a pack against a `FakeServer`; an asynchronous context manager.

    The clock stands still but for `advance`. Leaving the block stops the pack as SIGTERM would, and raises what made
    it end before.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        environment: Environment | None = None,
        now: datetime = datetime(2024, 1, 1, 12, tzinfo=UTC),
        patience: float = 10.0,
    ) -> None:
        self.server = FakeServer()
        self.clock = ManualClock(now, self.server)
        self._pack = pack
        self._environment = msgspec.structs.replace(environment or Environment(api=API), api=API, health_port=None)
        self._patience = patience
        self._session: Session | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def sent(self) -> list[Event]:
        """The events that the pack sent of its own accord, oldest first."""
        return self.server.events

    async def __aenter__(self) -> Self:
        client = Client.of(self._environment, transport=self.server)
        self._session = Session(self._pack.declaration(self._environment), client, self.clock)
        self._serving = asyncio.create_task(_serve(self._session, client))
        await self._wait(lambda: bool(self.server.registrations), "a registration")
        await settle()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
            self._serving = None
        await self.stop()

    async def run(self, command: str, command_input: Any = None) -> Event:
        """Let the server ask for a command, and return the event that the pack answered."""
        action_id = self.server.ask(command, command_input)
        await self._wait(lambda: action_id in self.server.results, f"the result of {command}")
        return self.server.results[action_id]

    async def advance(self, seconds: float) -> None:
        """Let time pass for the pack."""
        await self.clock.advance(seconds)

    async def next_sent(self) -> Event:
        """Wait for one more event than the pack has sent by now, and return it."""
        seen = len(self.sent)
        await self._wait(lambda: len(self.sent) > seen, "an event")
        return self.sent[seen]

    async def stop(self) -> None:
        """Stop the pack as SIGTERM would, wait for its end, and raise what made it end before."""
        serving, self._serving = self._serving, None
        if self._session is not None:
            self._session.stop()
        if serving is not None:
            await serving

    async def health(self) -> dict[str, str]:
        """Return what is not well, and why."""
        health = {} if self._session is None else await self._session.health()
        return {name: outcome.status for name, outcome in health.items() if not outcome.healthy}

    async def _wait(self, condition: Any, what: str) -> None:
        waiting = asyncio.create_task(self.server.until(condition))
        watched = {waiting, self._serving} if self._serving is not None else {waiting}
        try:
            await asyncio.wait(watched, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if waiting.done() and not waiting.cancelled():
            return
        if self._serving is not None and self._serving.done():
            serving, self._serving = self._serving, None
            serving.result()
        message = f"there was not {what} within {self._patience:g} s"
        raise FlyteError(message)


async def _serve(session: Session, client: Client) -> None:
    async with client:
        await session.run()


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(_SETTLING_TURNS):
        await asyncio.sleep(0)


def _link(href: str, rel: str) -> dict[str, str]:
    return {"href": href, "rel": f"{API}/{rel}"}


def _json(status: int, body: Any) -> httpx2.Response:
    return httpx2.Response(status, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"})


def _problem(status: int, detail: str) -> httpx2.Response:
    body = msgspec.json.encode({"status": status, "detail": detail})
    return httpx2.Response(status, content=body, headers={"Content-Type": "application/problem+json"})


def _event(body: bytes) -> Event:
    posted = msgspec.json.decode(body)
    return Event(posted["event"], posted.get("payload"))
