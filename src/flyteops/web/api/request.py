"""One request and its reply: reads requests within bounds, writes replies as JSON or YAML."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from flyteops.change import Author, Change
from flyteops.document import to_yaml
from flyteops.errors import NotFoundError, TooLargeError
from flyteops.service import Service, Token
from flyteops.service.token import EVERY_ITEM
from flyteops.web.api.link import Headers, Site, base_of
from flyteops.web.api.query import Query
from flyteops.web.api.schemas.wire import Answer
from flyteops.web.auth.guest import Guest
from flyteops.web.auth.policy import Claims
from flyteops.web.auth.principal import author_of
from flyteops.web.http.traffic import Traffic, Transfer

T = TypeVar("T")

Scope = MutableMapping[str, Any]
HeaderList = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json; charset=utf-8"
YAML = b"application/x-yaml; charset=utf-8"
YAML_TYPES = (b"application/x-yaml", b"application/yaml", b"text/yaml")

NO_SNIFFING = (b"x-content-type-options", b"nosniff")

CLOSE = (b"connection", b"close")
"""The header that ends the connection with the answer."""

BREAK_OFF = "flyte.break_off"
"""The extension of a request's scope by which a long transfer is ended to make room for others."""

WAITS = "flyte.waits"
"""The key in a request's scope that is true while the request waits for an action."""

ROOM_AROUND_A_VALUE = 64 * 1024
"""Bytes that a multipart body may have beyond the greatest value, for its boundaries and other
fields."""

LARGE = 64 * 1024
"""Size in bytes from which slow reading and writing is done in a thread, so that others need not
wait."""

encode = msgspec.json.Encoder().encode


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the API.

    `allowed_origins` are web origins such as ``https://flyte.example.com`` whose pages may use it.
    A server that `is_local` is for this computer alone: without auth, it has no other names than
    this computer's. Of a body that no operation wants, `max_leftover_bytes` are read before the
    client is told to keep the rest. `max_connections` and `max_transfer_bytes` of bodies and
    answers are the shared limits of all clients.
    """

    max_body_bytes: int = 10 * 1024 * 1024
    max_leftover_bytes: int = 64 * 1024 * 1024
    allowed_origins: frozenset[str] = frozenset()
    is_local: bool = False
    max_connections: int = 10_000
    max_transfer_bytes: int = 128 * 1024 * 1024


class DisconnectedError(Exception):
    """The client went away before its request was complete; there is no client left to answer."""


class Call:
    """A request.

    Its path parameters are set once the path is known, its body once it has been read. `bearer` is
    the token of our own that admitted it, or the claims of another issuer's token, or the pack that
    needs no token at its address. `items` are the datastore items that packs may read by it.
    `has_auth` says whether the server asks for tokens at all.
    """

    __slots__ = (
        "_receive",
        "_traffic",
        "_transfer",
        "_undo",
        "bearer",
        "body",
        "has_auth",
        "headers",
        "items",
        "options",
        "params",
        "scope",
        "service",
    )

    def __init__(self, service: Service, options: Options, scope: Scope, receive: Any, traffic: Traffic | None = None) -> None:
        self.service = service
        self.options = options
        self.scope = scope
        self.headers: Headers = dict(scope["headers"])
        self.params: dict[str, str] = {}
        self.body = b""
        self.bearer: Token | Claims | Guest | None = None
        self.items: Sequence[str] = (EVERY_ITEM,)
        self.has_auth = False
        self._receive = receive
        self._traffic = traffic
        self._transfer: Transfer | None = None
        self._undo: Callable[[], Awaitable[None]] | None = None

    async def end(self, *, is_lost: bool) -> None:
        """Release the memory of the request; if its answer `is_lost`, undo its work."""
        self.release()
        if is_lost and self._undo is not None:
            await self._undo()

    def traffic_warnings(self) -> Sequence[str]:
        """Return the warnings of readiness about connections and memory."""
        return () if self._traffic is None else self._traffic.warnings()

    def release(self) -> None:
        """Release the body, and the memory that is counted for it."""
        self.body = b""
        if self._transfer is not None:
            self._transfer.end()

    def set_params(self, params: dict[str, str]) -> None:
        """Set the path parameters, percent-encoded as sent.

        Raise `NotFoundError` if one is not text.
        """
        self.params = params
        for name, value in params.items():
            if "%" in value:
                params[name] = _decoded(value)

    @property
    def site(self) -> Site:
        """The addresses of all resources, on the host that the client used."""
        return Site(base_of(self.headers, self.scope["scheme"], self.scope.get("server")))

    @property
    def author(self) -> Author:
        """The author and the origin of the request."""
        return author_of(self.bearer, self.scope.get("client"), self.headers)

    @property
    def is_yaml(self) -> bool:
        """Whether the body is declared as YAML; under any other type, it is read as JSON."""
        return is_yaml(self.headers)

    def query(self) -> Query:
        """Return the query's fields."""
        return Query(self.scope["query_string"])

    async def deliver(self, work: Awaitable[T], undo: Callable[[T], Awaitable[None]], *, waits: bool) -> T:
        """Return the result of the work.

        If the client leaves meanwhile, undo the work and raise `DisconnectedError`. Work that waits
        is cancelled as soon as the client goes.
        """
        if waits:
            result = await self._deliver_later(work, undo)
        else:
            result = await work
            if result and self.is_gone():
                await undo(result)
                raise DisconnectedError
        if result:
            self._undo = partial(undo, result)
        return result

    async def _deliver_later(self, work: Awaitable[T], undo: Callable[[T], Awaitable[None]]) -> T:
        self.scope[WAITS] = True
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._wait_until_gone())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise DisconnectedError
        except (DisconnectedError, asyncio.CancelledError):
            working.cancel()
            with suppress(asyncio.CancelledError):
                await undo(await working)
            raise
        finally:
            self.scope[WAITS] = False
            leaving.cancel()
        return working.result()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def is_gone(self) -> bool:
        """Return whether the client is known to have left: a disconnect would be received at once."""
        received = self._receive()
        try:
            received.send(None)
        except StopIteration as message:
            return bool(message.value["type"] == "http.disconnect")
        received.close()
        return False

    async def read(self, *, keep: bool) -> None:
        """Read the body up to its end, even if unused: nothing is done for a request that breaks off.

        An unused body may be larger, and is not kept.
        """
        limit = self._limit() if keep else max(self._limit(), self.options.max_leftover_bytes)
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limit:
            raise _too_large(self.options.max_body_bytes if keep else limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(self.options.max_body_bytes if keep else limit)
            is_last = not message.get("more_body", False)
            if keep:
                chunks.append(chunk)
                if not (is_last and len(chunks) == 1):
                    self._hold(len(chunk))
            if is_last:
                break
        self.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, size: int) -> None:
        """Count a part of the body.

        Raise `BusyError` if all bodies and answers together exceed the limit.
        """
        if self._traffic is None:
            return
        if self._transfer is None:
            self._transfer = self._traffic.begin(self.scope.get("extensions", {}).get(BREAK_OFF))
        self._transfer.hold(size)

    def _limit(self) -> int:
        is_form = self.headers.get(b"content-type", b"").lstrip()[:10].lower() == b"multipart/"
        return self.options.max_body_bytes + (ROOM_AROUND_A_VALUE if is_form else 0)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The body is larger than the {size_text(limit)} that this server accepts.")


def size_text(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    for unit, size in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} bytes"


def _decoded(value: str) -> str:
    try:
        decoded = unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise NotFoundError("The address is not UTF-8 text, so nothing can be there.") from error
    if "\0" in decoded:
        raise NotFoundError("The address contains the character NUL (%00), so nothing can be there.")
    return decoded


class Reply(msgspec.Struct, frozen=True):
    """A reply to a request.

    `value` is written in the format that the client asks for; bytes go out as they are.
    """

    status: int
    value: Answer | Change | bytes | dict[str, Any] | None = None
    content_type: bytes = b""
    headers: HeaderList = ()

    async def send(self, request: Headers, send: Any) -> None:
        """Send the reply to a request with these headers.

        To HEAD the server below sends the head of it only.
        """
        content_type, body = self.text()
        if not isinstance(self.value, bytes | None) and wants_yaml(request.get(b"accept", b"")):
            value = msgspec.json.decode(body)
            content_type, body = YAML, to_yaml(value) if len(body) < LARGE else await asyncio.to_thread(to_yaml, value)
        headers = self.head(content_type, body)
        if self.status >= 400 and b"expect" in request:
            headers.append(CLOSE)  # the client now holds back the body, so it will never arrive
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def text(self) -> tuple[bytes, bytes]:
        """Return the body with its content type, a value as JSON."""
        if self.value is None or isinstance(self.value, bytes):
            return self.content_type, self.value or b""
        return JSON, encode(self.value)

    def head(self, content_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers for a body."""
        if self.status == 204:
            return list(self.headers)
        headers = [(b"content-length", b"%d" % len(body)), *self.headers]
        if content_type:
            headers += [(b"content-type", content_type), NO_SNIFFING]
        return headers


def is_yaml(headers: Headers) -> bool:
    """Return whether a body is declared as YAML."""
    content_type = headers.get(b"content-type", b"")
    return b"yaml" in content_type.lower() and content_type.partition(b";")[0].strip().lower() in YAML_TYPES


def wants_yaml(accept: bytes) -> bool:
    """Return whether a client asks for YAML, and not at least as much for JSON before it."""
    if b"yaml" not in accept.lower():
        return False
    best: tuple[float, bool] = (0.0, False)
    for entry in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in entry.split(b";"))
        is_yaml = kind in YAML_TYPES
        if is_yaml or kind == b"application/json":
            best = max(best, (_quality(parameters), is_yaml), key=lambda pair: pair[0])
    return best[1]


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
