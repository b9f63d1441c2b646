"""A Flyte server in memory."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from flyteops.errors import (
    ConflictError,
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    Problem,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.model import PackDeclaration, pack_id
from flyteops.sdk.clock import Clock
from flyteops.sdk.coercion import read
from flyteops.sdk.event import Event
from flyteops.sdk.testing.work import ActionQueue, OfferedAction
from flyteops.timeformat import format_timestamp

MAX_WAIT = 60.0
MAX_ACTIONS = 100
MAX_KEY_LENGTH = 255

Disturbance = httpx2.Response | Exception | asyncio.Event

_ERRORS: dict[int, type[FlyteError]] = {
    400: InputError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    503: UnavailableError,
}
_OPEN = ("", "v1")
_OWN_RELATIONS = ("/actionResult", "/takeAction", "/event")


class _ReportedEvent(msgspec.Struct):
    event: str = ""
    payload: Any = None
    failure: bool = False


class FakeServer(httpx2.AsyncBaseTransport):
    """A Flyte server in memory; it answers the calls of packs like a real one.

    `data` holds the datastore, as JSON, for a test to fill. `registrations`, `events` and `results`
    hold accepted requests, `failed` the ids of actions whose result means failure, `keys` the
    idempotency keys of events, `requests` every call as ``POST /v1/packs``. With a `token`, other
    tokens are refused; with a `body_limit`, larger bodies are.
    """

    def __init__(
        self, *, clock: Clock | None = None, token: str | None = None, body_limit: int | None = None
    ) -> None:
        self.body_limit = body_limit
        self.clock = clock or Clock()
        self.token = token
        self.registrations: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.data: dict[str, Any] = {}
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.changed = asyncio.Condition()
        self.keys: set[str] = set()
        self.failed: set[str] = set()
        self._known: dict[str, str] = {}
        self._answered: dict[tuple[str, str], httpx2.Response] = {}
        self._desk = ActionQueue(self.clock)
        self._disturbances: deque[tuple[str, str, Disturbance]] = deque()

    @property
    def results(self) -> dict[str, Event]:
        """The results of actions, by action id."""
        return self._desk.results

    # -------------------------------------------------------------------------------- from the test

    def ask(
        self,
        command: str,
        command_input: object = None,
        *,
        pack: str | None = None,
        timeout: float | None = None,
        attempts: int = 1,
    ) -> str:
        """Queue an action, for any pack or the one of a name, and return its id.

        With a `timeout` in seconds it has a lease, and is handed out `attempts` times at most.
        """
        return self._desk.offer(OfferedAction(command, command_input, pack, timeout, attempts))

    def fail(
        self,
        times: int = 1,
        *,
        status: int = 503,
        on: str = "",
        pack: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next calls whose path ends with `on` with an error status.

        With `pack`, only those of that pack.
        """
        for _ in range(times):
            answer = _refusal(_ERRORS.get(status, FlyteError)(), status)
            answer.headers.update(headers or {})
            self._disturbances.append((on, pack, answer))

    def disconnect(self, times: int = 1, *, on: str = "") -> None:
        """Refuse the connection of the next calls whose path ends with `on`."""
        for _ in range(times):
            self._disturbances.append((on, "", httpx2.ConnectError("connection refused")))

    def lose_answer(self, times: int = 1, *, on: str = "") -> None:
        """Do the work of the next calls whose path ends with `on`, but drop their responses."""
        for _ in range(times):
            self._disturbances.append((on, "", httpx2.ReadTimeout("")))

    def hold(self, *, on: str = "") -> asyncio.Event:
        """Hold the response to the next call whose path ends with `on` until the event is set."""
        release = asyncio.Event()
        self._disturbances.append((on, "", release))
        return release

    def forget_pack(self) -> None:
        """Lose every registration; waiting actions are kept."""
        self._known.clear()
        self._desk.tell()

    def let_go(self) -> None:
        """End all waiting takes, like a server that stops: their responses are empty."""
        self._desk.close()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until `condition()` holds; it is checked after every call of a pack."""
        async with self.changed:
            await self.changed.wait_for(condition)

    # ------------------------------------------------------------------------------- from the packs

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one call."""
        path = request.url.path
        body = await request.aread()
        self.requests.append(f"{request.method} {path}")
        self.authorizations.append(request.headers.get("Authorization"))
        try:
            disturbance = self._disturbance(path, body)
            return await (
                self._answer(request, body)
                if disturbance is None
                else self._disturb(disturbance, request, body)
            )
        finally:
            async with self.changed:
                self.changed.notify_all()

    def _disturbance(self, path: str, body: bytes) -> Disturbance | None:
        for entry in self._disturbances:
            on, pack, disturbance = entry
            if path.endswith(on) and (
                not pack or f"/packs/{pack}" in path or f'"name":"{pack}"'.encode() in body
            ):
                self._disturbances.remove(entry)
                return disturbance
        return None

    async def _disturb(
        self, disturbance: Disturbance, request: httpx2.Request, body: bytes
    ) -> httpx2.Response:
        if isinstance(disturbance, httpx2.Response):
            return disturbance
        if isinstance(disturbance, asyncio.Event):
            await disturbance.wait()
            return await self._answer(request, body)
        if isinstance(disturbance, httpx2.ReadTimeout):
            await self._answer(request, body)
        raise disturbance

    async def _answer(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        try:
            self._let_in(request)
            if self.body_limit is not None and len(body) > self.body_limit:
                raise TooLargeError
            return await self._route(request, body)
        except FlyteError as error:
            return _refusal(
                error, next(status for status, kind in _ERRORS.items() if isinstance(error, kind))
            )

    def _let_in(self, request: httpx2.Request) -> None:
        shown = request.headers.get("Authorization")
        if (
            self.token is None
            or request.url.path.strip("/") in _OPEN
            or shown == f"Bearer {self.token}"
        ):
            return
        raise UnauthorizedError(error=None if shown is None else "invalid_token")

    async def _route(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        base = str(request.url.join("/")).rstrip("/")
        match request.url.path.strip("/").split("/"):
            case ["v1"]:
                return _json(
                    200, {"links": [_link(f"{base}/v1/packs", f"{base}/swagger#!/pack/listPacks")]}
                )
            case ["v1", "datastore", key]:
                if key not in self.data:
                    raise NotFoundError(f"There is no datastore item {key!r}.")
                return _json(200, self.data[key])
            case ["v1", "packs"]:
                return self._register(base, body)
            case ["v1", "packs", known_as, *rest]:
                return await self._serve_pack(
                    f"{base}/v1/packs/{quote(known_as)}", known_as, rest, request, body
                )
            case _:
                raise _nothing_here()

    async def _serve_pack(
        self, path: str, known_as: str, rest: list[str], request: httpx2.Request, body: bytes
    ) -> httpx2.Response:
        query = request.url.params
        match rest:
            case ["actions", "take"]:
                return await self._take(path, known_as, query)
            case ["events"]:
                event = _reported(body)
                return self._accept(
                    path, self._sender(known_as), event, request.headers.get("Idempotency-Key")
                )
            case ["actions", action_id, "result"]:
                event = _reported(body)
                self._desk.finish(action_id, self._sender(known_as), event, query.get("lease"))
                if read(_parsed(body), _ReportedEvent).failure:
                    self.failed.add(action_id)
                return httpx2.Response(202)
            case ["actions", action_id, "heartbeat"]:
                has_limit = self._desk.extend(action_id, self._sender(known_as), query.get("lease"))
                return _json(200, {"expiresAt": self._instant()} if has_limit else {})
            case _:
                raise _nothing_here()

    def _sender(self, known_as: str) -> str:
        """Return the name of the pack that makes the request."""
        if known_as not in self._known:
            raise NotFoundError(
                f"There is no pack {known_as!r}; a pack must register before it does anything else."
            )
        return self._known[known_as]

    def _register(self, base: str, body: bytes) -> httpx2.Response:
        posted = _parsed(body)
        declared: PackDeclaration = read(posted, PackDeclaration)
        problems = [Problem("name", "must not be empty")] if not declared.name.strip() else []
        problems += [
            Problem(
                f"links[{index}].rel",
                f"{link.rel!r} is a relation reserved for the server's own links",
            )
            for index, link in enumerate(declared.links)
            if link.rel in ("self", "up") or link.rel.endswith(_OWN_RELATIONS)
        ]
        if problems:
            raise InputError("The pack cannot be registered.", problems=problems)
        known_as = pack_id(declared.name, declared.labels)
        self._known[known_as] = declared.name
        self.registrations.append(posted)
        self._desk.tell()
        path = f"{base}/v1/packs/{quote(known_as)}"
        limit = {} if self.body_limit is None else {"Flyte-Max-Body-Bytes": str(self.body_limit)}
        return _json(
            201,
            self._registered(base, path, posted) | {"id": known_as},
            {"Location": path, **limit},
        )

    def _registered(self, base: str, path: str, posted: dict[str, Any]) -> dict[str, Any]:
        take, rel = f"{path}/actions/take", f"{base}/swagger#!/action/takeAction"
        commands = [
            {
                **each,
                "links": [
                    *each.get("links", []),
                    _link(f"{take}?commandName={quote(each['name'], safe='')}", rel),
                ],
            }
            for each in posted.get("commands", [])
        ]
        links = [
            *posted.get("links", []),
            _link(path, "self"),
            _link(f"{base}/v1/packs", "up"),
            _link(take, rel),
            _link(f"{path}/events", f"{base}/swagger#/event"),
        ]
        own = {"events": posted.get("events", []), "lastSeen": self._instant(), "status": "live"}
        return {**posted, **own, "commands": commands, "links": links}

    async def _take(self, path: str, known_as: str, query: httpx2.QueryParams) -> httpx2.Response:
        wait, most = _read_take(query)
        name = query.get("actionName") or query.get("commandName")
        found = await self._desk.take(
            lambda: self._sender(known_as), name or None, most or 1, min(wait, MAX_WAIT)
        )
        if not found:
            return httpx2.Response(204)
        taken = [_handed_out(path, work) for work in found]
        return _json(200, taken[0] if most is None else {"actions": taken})

    def _accept(self, path: str, sender: str, event: Event, key: str | None) -> httpx2.Response:
        if key is not None and (not key.strip() or len(key) > MAX_KEY_LENGTH or not key.isascii()):
            message = f"must be 1 to {MAX_KEY_LENGTH} ASCII characters"
            raise InputError(
                f"Idempotency-Key {message}.", problems=[Problem("Idempotency-Key", message)]
            )
        if key is not None and (sender, key) in self._answered:
            return self._answered[sender, key]
        self.events.append(event)
        base = path.partition("/v1/")[0]
        answer = httpx2.Response(
            202, headers={"Location": f"{base}/v1/audit/events/event{len(self.events)}"}
        )
        if key is not None:
            self.keys.add(key)
            self._answered[sender, key] = answer
        return answer

    def _instant(self) -> str:
        return format_timestamp(self.clock.now())


def _handed_out(path: str, work: OfferedAction) -> dict[str, Any]:
    base, place = path.partition("/v1/")[0], f"{path}/actions/{work.id}"
    view: dict[str, Any] = {"command": work.command, "input": work.input}
    if work.timeout is None:
        return {**view, "links": [_link(f"{place}/result", f"{base}/swagger#/actionResult")]}
    if len(work.leases) > 1:
        view["attempt"] = len(work.leases)
    lease = f"?lease={work.leases[-1]}"
    links = [
        _link(f"{place}/result{lease}", f"{base}/swagger#/actionResult"),
        _link(f"{place}/heartbeat{lease}", f"{base}/swagger#/actionHeartbeat"),
    ]
    return {**view, "leaseSeconds": work.timeout, "links": links}


def _read_take(query: httpx2.QueryParams) -> tuple[float, int | None]:
    wait, most, problems = query.get("wait") or "0", query.get("max") or None, []
    if not wait.replace(".", "", 1).isdecimal():
        problems.append(Problem("wait", "must be a number of seconds, such as 30 or 0.5"))
    if most is not None and not (most.isdecimal() and 1 <= int(most) <= MAX_ACTIONS):
        problems.append(Problem("max", f"must be a whole number from 1 to {MAX_ACTIONS}"))
    if problems:
        raise InputError("The query is not valid.", problems=problems)
    return float(wait), None if most is None else int(most)


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - JSON of any form
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The body is not valid JSON: {error}.", problems=[Problem("", str(error))]
        ) from error


def _reported(body: bytes) -> Event:
    reported = read(_parsed(body), _ReportedEvent)
    return Event(reported.event, reported.payload)


def _nothing_here() -> NotFoundError:
    return NotFoundError("Unknown path; GET /v1 lists the resources.")


def _link(href: str, rel: str) -> dict[str, str]:
    return {"href": href, "rel": rel}


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> httpx2.Response:
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return httpx2.Response(
        status, content=msgspec.json.encode(body), headers={**content_type, **(headers or {})}
    )


def _refusal(error: FlyteError, status: int) -> httpx2.Response:
    """Return the problem details of an error."""
    code = "internal" if status >= 500 and status != 503 else error.code
    details: dict[str, Any] = {
        "type": f"urn:flyte:problem:{code}",
        "title": (type(error).__doc__ or "").splitlines()[0],
        "status": status,
        "detail": error.message,
        "code": code,
    }
    if error.problems:
        details["problems"] = error.problems
    headers = {"Content-Type": "application/problem+json"}
    if status == 503:
        headers["Retry-After"] = "1"
    if isinstance(error, UnauthorizedError):
        realm = 'Bearer realm="flyte"'
        headers["WWW-Authenticate"] = (
            realm if error.error is None else f'{realm}, error="{error.error}"'
        )
    return httpx2.Response(status, content=msgspec.json.encode(details), headers=headers)
