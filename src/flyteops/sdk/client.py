"""A client of the Flyte API: follows links, retries, and maps refusals to `flyteops.errors`."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urljoin

import httpx2
import msgspec

from flyteops import __version__
from flyteops.errors import (
    ConflictError,
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    Problem,
    StaleError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.model import Link
from flyteops.retry import RetryLaterError, retry_after, retry_call
from flyteops.sdk.environment import Environment
from flyteops.sdk.fork import PrivateSocket, forks
from flyteops.sdk.proxy import has_no_proxy, proxy_advice
from flyteops.sdk.tls import create_ssl_context, tls_fault
from flyteops.sdk.token import TokenSource
from flyteops.sdk.transport import PlainTransport

T = TypeVar("T")

# Shorter than the keep-alive of servers (usually 5 s), so that no request meets a connection that
# is just being closed.
_KEEP_ALIVE = 4.0

_MAX_IDLE = 20

_REFUSALS: dict[int, type[FlyteError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    412: StaleError,
    413: TooLargeError,
}


class Registration(msgspec.Struct, frozen=True):
    """The URLs where a registered pack takes its actions and posts its events.

    Fields with a default are missing in older servers. `body_limit` is the largest body in bytes
    that the server accepts.
    """

    take_url: str
    event_url: str
    self_url: str = ""
    presence_url: str | None = None
    item_urls: Mapping[str, str] = {}
    body_limit: int | None = None


class ClaimedAction(msgspec.Struct, frozen=True):
    """A command that the server handed out, its input not yet decoded.

    With a time limit, it counts as lost in `lease_seconds` from now; each post to `heartbeat_url`
    restarts the time.
    """

    command: str
    input: msgspec.Raw = msgspec.Raw(b"null")
    result_url: str = ""
    heartbeat_url: str | None = None
    return_url: str | None = None
    lease_seconds: float | None = None


class _Links(msgspec.Struct, frozen=True):
    links: list[Link] | None = None

    def href(self, rel: str) -> str | None:
        return next(iter(self.hrefs(rel)), None)

    def hrefs(self, rel: str) -> list[str]:
        return [link.href for link in self.links or () if link.rel.endswith(rel)]


class _TakenAction(_Links, frozen=True, rename="camel"):
    command: str = ""
    input: msgspec.Raw = msgspec.Raw(b"null")
    lease_seconds: float | None = None
    actions: list["_TakenAction"] | None = None


class _Presence(msgspec.Struct, frozen=True):
    others: int = 0


class _Fault(msgspec.Struct, frozen=True):
    """The used fields of an `application/problem+json` body."""

    title: str = ""
    detail: str = ""
    code: str = ""
    problems: list[Problem] = []


class Client:
    """A client of one server.

    Use it as an asynchronous context manager, or call `close` at the end.

    `api` is the server's address without `/v1`. With a `token_file`, the token is read from it for
    each request. Redirects are not followed. `transport` is for tests and for servers in the same
    process.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        api: str,
        *,
        token: str | TokenSource | None = None,
        token_file: Path | None = None,
        timeout: float | None = 10.0,
        ca_cert_file: Path | None = None,
        trusted: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        headers = {"User-Agent": f"flyte-sdk/{__version__}", "Accept": "application/json"}
        self._token = (
            token if isinstance(token, TokenSource) else TokenSource(token or None, token_file)
        )
        self._trust = None if transport is not None else trusted or create_ssl_context(ca_cert_file)
        self.api = api.rstrip("/")
        self._pause = pause
        self._timeout = timeout
        self._links: _Links | None = None
        self._base = self.api
        self._sockets: list[PrivateSocket] = []
        limits = httpx2.Limits(max_keepalive_connections=_MAX_IDLE, keepalive_expiry=_KEEP_ALIVE)
        mounts: dict[str, httpx2.AsyncBaseTransport | None] = {}
        if transport is None and has_no_proxy():
            general = httpx2.AsyncHTTPTransport(verify=self._trust or True, limits=limits)
            mounts["http://"] = PlainTransport(
                general, self._protect, keep_alive=_KEEP_ALIVE, max_idle=_MAX_IDLE
            )
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=timeout,
            limits=limits,
            transport=transport,
            mounts=mounts,
            verify=self._trust or True,
        )

    @classmethod
    def of(
        cls, environment: Environment, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> Self:
        """Return a client of the server in the environment."""
        return cls(
            environment.api,
            token=environment.token,
            token_file=environment.token_file,
            timeout=environment.timeout,
            ca_cert_file=environment.ca_cert_file,
            transport=transport,
        )

    def clone(self) -> "Client | None":
        """Return another client of the same server, for another event loop.

        None if a transport was given.
        """
        if self._trust is None:
            return None
        return Client(self.api, token=self._token, timeout=self._timeout, trusted=self._trust)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for each in self._sockets:
            each.hang_up()
        await self._http.aclose()

    async def request(  # noqa: PLR0913 - the parts of a request, by keyword
        self,
        method: str,
        url: str,
        *,
        json: object = msgspec.UNSET,
        content: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str | None, bytes | str, str]] | None = None,
        attempts: int | None = 1,
        patience: float = 0,
    ) -> httpx2.Response:
        """Send a request and return its response, which is always a 2xx.

        `url` is a path such as `/v1/flows`, relative to the server's address, or the `href` of a
        link. `json` is encoded; `content` is sent unchanged; `data` and `files` make a multipart
        form as in httpx2. Every temporary failure (no connection, a timeout, 429, 5xx) raises
        `UnavailableError` after `attempts` tries (None: no limit), so with more than one the server
        may do the work twice. The response may take `patience` seconds longer than others. A
        refusal raises the error of its status, with the server's message and problems.
        """
        if json is not msgspec.UNSET:
            content, content_type = msgspec.json.encode(json), content_type or "application/json"
        all_headers = dict(headers or {})
        options: dict[str, Any] = {}
        if patience and self._timeout is not None:
            options["timeout"] = httpx2.Timeout(self._timeout, read=self._timeout + patience)
        if content_type is not None:
            all_headers["Content-Type"] = content_type

        async def attempt() -> httpx2.Response:
            return await self._send(
                method,
                self._absolute(url),
                content=content,
                headers=all_headers,
                params=params,
                data=data,
                files=files,
                **options,
            )

        return await retry_call(attempt, pause=self._pause, attempts=attempts)

    async def link(self, rel: str, *, fresh: bool = False) -> str:
        """Return the address of the first link of `GET /v1` whose rel ends with `rel`.

        Links are cached.
        """
        if self._links is None or fresh:
            answer = await self.request("GET", "/v1")
            self._links = _decode(answer, _Links)
            self._base = str(answer.url)
        href = self._links.href(rel)
        if href is None:
            message = f"{self.api}/v1 has no link {rel!r}: is this a Flyte server?"
            raise UnavailableError(message)
        return urljoin(self._base, href)

    async def register(self, pack: bytes) -> Registration:
        """Register a pack, given as JSON; it replaces the registration with the same id."""
        answer = await self._post(await self.link("pack/listPacks", fresh=True), pack)
        links = _decode(answer, _Links)
        take_url, event_url = links.href("takeAction"), links.href("event")
        if take_url is None or event_url is None:
            message = (
                "the server registered the pack without links to take actions and to send events"
            )
            raise UnavailableError(message)
        base = str(answer.url)
        presence = answer.links.get("presence", {}).get("url")
        return Registration(
            take_url=urljoin(base, take_url),
            event_url=urljoin(base, event_url),
            self_url=urljoin(base, answer.headers.get("Location", "")),
            presence_url=None if presence is None else urljoin(base, presence),
            item_urls={
                unquote(href.rpartition("/")[2]): urljoin(base, href)
                for href in links.hrefs("pack/item")
            },
            body_limit=_body_limit(answer),
        )

    async def take(
        self, registration: Registration, *, wait: float = 0, most: int = 1
    ) -> list[ClaimedAction]:
        """Take up to `most` of the oldest actions that wait for the pack.

        A server that supports long polling holds the response until there is an action, for `wait`
        seconds; others respond at once. The taker of an action must send a result: it may be handed
        out only once.
        """
        params = {"wait": f"{wait:g}"} if wait else {}
        # Also for one: an action in a list comes with the link to give it back.
        params["max"] = str(most)
        url = str(httpx2.URL(registration.take_url).copy_merge_params(params))
        answer = await self.request(
            "POST", url, content=b"null", content_type="application/json", patience=wait
        )
        return _actions(answer)

    async def heartbeat(self, action: ClaimedAction) -> None:
        """Report that an action with a time limit is still in progress.

        Raise `ConflictError` if it was lost.
        """
        if action.heartbeat_url is not None:
            await self._post(action.heartbeat_url, b"")

    async def report(self, registration: Registration, instance: str, status: str) -> int:
        """Report that an instance of a pack is connected, or stops.

        Return the number of others connected.

        It is 0 for servers that do not accept such reports.
        """
        if registration.presence_url is None:
            return 0
        body = msgspec.json.encode({"instance": instance, "status": status})
        return _decode(await self._post(registration.presence_url, body), _Presence).others

    async def give_back(self, action: ClaimedAction) -> None:
        """Give back an action that was not started.

        Raise `NotFoundError` if the server does not support this, and `ConflictError` if the pack
        no longer has the action, as after a return whose response was lost.
        """
        if action.return_url is None:
            message = "the server has no link to give an action back"
            raise NotFoundError(message)
        await self._post(action.return_url, b"")

    async def complete(
        self, action: ClaimedAction, event: bytes, *, take: int = 0
    ) -> list[ClaimedAction]:
        """Send the result of an action; sending the same one again has no effect.

        With `take`, return up to so many further actions for the pack, as `take` does without
        waiting. Servers that do not support this hand out none.
        """
        url = action.result_url
        if not take or action.return_url is None:  # also the link of such servers
            await self._post(url, event)
            return []
        return _actions(await self._post(f"{url}{'&' if '?' in url else '?'}take={take}", event))

    async def send(
        self, registration: Registration, event: bytes, *, key: str | None = None
    ) -> None:
        """Post an event; it is durable when this returns.

        With the same `key`, it is the same event.
        """
        await self._post(
            registration.event_url, event, headers=None if key is None else {"Idempotency-Key": key}
        )

    async def _post(
        self, url: str, content: bytes, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        return await self.request(
            "POST", url, content=content, content_type="application/json", headers=headers
        )

    def _trace(self) -> Callable[[str, dict[str, Any]], Awaitable[None]]:
        """Return a callback for the connection pool that keeps its sockets from forked children.

        The pool calls it at every step of a request.
        """
        begun = forks.mark()

        async def watch(step: str, info: dict[str, Any]) -> None:
            nonlocal begun
            if step.endswith("connect_tcp.started"):
                begun = forks.mark()
            elif step.endswith("connect_tcp.complete"):
                self._protect(PrivateSocket(info["return_value"].get_extra_info("socket")), begun)

        return watch

    def _protect(self, sock: PrivateSocket, begun: int) -> None:
        self._sockets = [each for each in self._sockets if not each.is_closed]
        self._sockets.append(sock)
        if forks.since(begun):
            # A child may have a copy already: the request fails, and the next try gets another
            # connection.
            sock.hang_up()

    def _absolute(self, url: str) -> str:
        if url.startswith(("http://", "https://")):
            return url
        return f"{self.api}/{url.lstrip('/')}"

    async def _send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        shown = self._token.value
        answer = await self._exchange(method, url, shown, **options)
        # Files are read only once.
        if answer.status_code == 401 and self._token.replaces(shown) and not options.get("files"):
            answer = await self._exchange(method, url, self._token.value, **options)
        if answer.is_success:
            return answer
        raise _refusal(answer)

    async def _exchange(
        self,
        method: str,
        url: str,
        token: str | None,
        *,
        headers: Mapping[str, str],
        **options: Any,
    ) -> httpx2.Response:
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        extensions = {"trace": self._trace()}
        try:
            return await self._http.request(
                method, url, headers={**shown, **headers}, extensions=extensions, **options
            )
        except httpx2.TimeoutException as error:
            message = f"{method} {url}: timed out{proxy_advice(url)}"
            raise UnavailableError(message) from error
        except (httpx2.TransportError, httpx2.DecodingError, ssl.SSLError) as error:
            message = f"{method} {url}: {_reason(error, url)}"
            raise UnavailableError(message) from error
        except (httpx2.InvalidURL, ValueError) as error:
            message = f"{url!r} is not a valid URL: {error}"
            raise InputError(message) from error


def _reason(error: Exception, url: str) -> str:
    """Return the reason why a request got no response."""
    if (fault := tls_fault(error, url)) is not None:
        return fault
    # The HTTP library says "All connection attempts failed", however few there were.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return f"connection refused{proxy_advice(url)}"
        if isinstance(cause, socket.gaierror):
            return f"the host name cannot be resolved: {cause.strerror}{proxy_advice(url)}"
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _actions(answer: httpx2.Response) -> list[ClaimedAction]:
    """Return the actions in an answer, which has none, one, or a list."""
    if answer.status_code in (202, 204) or not answer.content:
        return []
    taken = _decode(answer, _TakenAction)
    return [
        _action(each, str(answer.url))
        for each in (taken.actions if taken.actions is not None else [taken])
    ]


def _action(taken: _TakenAction, base: str) -> ClaimedAction:
    result, *others = map(taken.href, ("actionResult", "actionHeartbeat", "actionReturn"))
    if result is None:
        message = f"the server handed out {taken.command!r} without a link for its result"
        raise UnavailableError(message)
    heartbeat, give_back = (None if href is None else urljoin(base, href) for href in others)
    return ClaimedAction(
        taken.command, taken.input, urljoin(base, result), heartbeat, give_back, taken.lease_seconds
    )


def _body_limit(answer: httpx2.Response) -> int | None:
    given = answer.headers.get("Flyte-Max-Body-Bytes", "")
    return int(given) if given.isascii() and given.isdecimal() else None


def _decode(answer: httpx2.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = (
            f"{answer.request.method} {answer.url}: unexpected response; is this a Flyte server?"
            f" {error}"
        )
        raise UnavailableError(message) from error


def _refusal(answer: httpx2.Response) -> FlyteError:
    status = answer.status_code
    fault = _fault(answer)
    message = fault.detail or fault.title or _unexplained(answer)
    if message.startswith("Unknown path"):  # a prefix that is wrong or missing
        message = f"{answer.request.method} {answer.url}: {message}"
    if status in (429, 503):
        later = RetryLaterError(
            message, retry_after=retry_after(answer.headers.get("Retry-After", ""))
        )
        later.problems = tuple(fault.problems)
        return later
    if status >= 500 or status in (408, 425):
        return UnavailableError(message, problems=fault.problems)
    if 300 <= status < 400:
        message = (
            f"{message}: the server redirects to {answer.headers.get('Location')!r}; use its final"
            " address"
        )
    return _REFUSALS.get(status, InputError)(message, problems=fault.problems)


def _unexplained(answer: httpx2.Response) -> str:
    """Return the message for a refusal that says nothing, as other servers than Flyte send it."""
    phrase = httpx2.codes.get_reason_phrase(answer.status_code)
    message = f"{answer.status_code} {phrase}".strip()
    if not 400 <= answer.status_code < 500:
        return message
    return f"{answer.request.method} {answer.url}: {message}; is this the address of Flyte?"


def _fault(answer: httpx2.Response) -> _Fault:
    if "json" not in answer.headers.get("Content-Type", ""):
        return _Fault()
    try:
        return msgspec.json.decode(answer.content, type=_Fault)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Fault()
