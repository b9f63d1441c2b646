"""A request to the API: its head, its body within bounds, and whether its client is still there."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, cast
from urllib.parse import unquote

import msgspec

from flyteops.errors import NotFoundError, TooLargeError
from flyteops.service import Service, Token
from flyteops.service.auditlog.entry import Author
from flyteops.service.token import EVERY_ITEM
from flyteops.web.api.link import Headers, Links, base_of
from flyteops.web.api.media import is_form, is_yaml, wants_yaml
from flyteops.web.api.query import Query
from flyteops.web.auth.guest import TrustedSender
from flyteops.web.auth.policy import Claims
from flyteops.web.auth.principal import author_of
from flyteops.web.http.traffic import Traffic, Transfer

T = TypeVar("T")

Server = tuple[str, tuple[str, int | None] | None]
"""The scheme, and the address of this end of a connection."""

ROOM_AROUND_A_VALUE = 64 * 1024
"""Bytes that a multipart body may have beyond the greatest value, for its boundaries and other
fields."""

NO_PARAMS: Mapping[str, str] = {}


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
    """The client disconnected before its request was complete.

    There is no client left to answer.
    """


class Head:
    """The header fields of a request, and all that follows from them alone.

    Content-Length and Idempotency-Key are not among them: without these, clients repeat their
    heads, so that requests share one. `server` is this end of the connection. `is_of_page`: a
    browser may have sent it for a page. `is_yaml` is about the body: under any other type, it is
    read as JSON. `has_checked_host`: its host was found to be this server.
    """

    __slots__ = (
        "fields",
        "has_checked_host",
        "is_form",
        "is_of_page",
        "is_yaml",
        "server",
        "site",
        "wants_yaml",
    )

    def __init__(self, fields: Headers, server: Server) -> None:
        self.fields = fields
        self.server = server
        self.has_checked_host = False
        self.site = Links(base_of(fields, *server))
        self.is_form = is_form(fields)
        self.is_of_page = b"origin" in fields or b"sec-fetch-site" in fields
        self.is_yaml = is_yaml(fields)
        self.wants_yaml = wants_yaml(fields.get(b"accept", b""))


class Variable(NamedTuple):
    """The header fields that differ from request to request."""

    length: bytes | None = None
    key: bytes | None = None


def split_fields(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, Variable]:
    """Return the header fields, the last of those sent more than once, and the variable ones."""
    fields = dict(headers)
    return fields, Variable(
        fields.pop(b"content-length", None), fields.pop(b"idempotency-key", None)
    )


class Request(ABC):
    """A request; a subclass receives it, and knows its client.

    `path` is as it was sent, percent-encoded, with one leading and no trailing slash. The path
    parameters are set once the path is known, the body once it has been read. `is_whole`: all of
    the body has been received; `is_gone`: the client has disconnected. `variable` are the header
    fields that `head` does not have. `bearer` is the token of our
    own that admitted it, or the claims of another issuer's token, or the pack that needs no token
    at its address. `items` are the datastore items that packs may read by it. `has_auth`: the
    server asks for tokens at all; `may` finds out whether its policy admits another request.
    `is_waiting`: its work waits for something to happen.
    """

    service: Service
    options: Options
    traffic: Traffic

    # Most requests leave these as they are; in slots, each would have to be set for every request.
    params: Mapping[str, str] = NO_PARAMS
    body = b""
    is_gone = False
    is_waiting = False
    has_auth = False
    bearer: Token | Claims | TrustedSender | None = None
    items: Sequence[str] = (EVERY_ITEM,)
    may: Callable[[str, str], Awaitable[bool]] | None = None
    _transfer: Transfer | None = None
    _undo: Callable[[], Awaitable[None]] | None = None
    _cancel: Callable[[], object] | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        method: str,
        path: str,
        query_string: bytes,
        head: Head,
        variable: Variable,
        peer: tuple[str, int] | None,
        body: bytes | None = None,
    ) -> None:
        """`body` is given if all of it has been received."""
        self.method = method
        self.path = path
        self.query_string = query_string
        self.head = head
        self.headers = head.fields
        self.variable = variable
        self.peer = peer
        self.is_whole = body is not None
        self._received = body or b""

    # ---------------------------------------------------------------------------- the client's side

    @abstractmethod
    async def receive(self) -> bytes:
        """Wait for a part of the body; return it, and update `is_whole`.

        Raise `DisconnectedError` if the client has gone.
        """

    @abstractmethod
    def watch_client(self) -> None:
        """Call `leave` when the client disconnects, even if nothing is being received."""

    @property
    def break_off(self) -> Callable[[], None] | None:
        """The function that closes the connection at once, to make room for others."""
        return None

    def leave(self) -> None:
        """Note that the client has gone."""
        if self._cancel is not None and not self.is_gone:
            self._cancel()
        self.is_gone = True

    # --------------------------------------------------------------------------- the handler's side

    @property
    def site(self) -> Links:
        """The addresses of all resources, on the host that the client used."""
        return self.head.site

    @property
    def all_headers(self) -> Headers:
        """The header fields, with the variable ones."""
        names = (b"content-length", b"idempotency-key")
        return {
            **self.headers,
            **{
                name: value
                for name, value in zip(names, self.variable, strict=True)
                if value is not None
            },
        }

    @property
    def author(self) -> Author:
        """The author and the origin of the request."""
        return author_of(self.bearer, self.peer, self.headers)

    def query(self) -> Query:
        """Return the query's fields."""
        return Query(self.query_string)

    def set_params(self, params: dict[str, str]) -> None:
        """Set the path parameters, percent-encoded as sent.

        Raise `NotFoundError` if one is not text.
        """
        if "%" in self.path:
            params = {name: _decoded(value) for name, value in params.items()}
        self.params = params

    async def read(self, *, keep: bool) -> None:
        """Read the body to its end, even if unused: nothing is done for a request that breaks off.

        An unused body may be larger, and is not kept.
        """
        if self.take_body(keep=keep):
            return
        limit = self._limit(keep=keep)
        length = self.variable.length or b""
        if length.isdigit() and int(length[:20]) > limit:
            raise self._too_large(limit, keep=keep)
        await self._read_parts(limit, keep=keep)

    def take_body(self, *, keep: bool) -> bool:
        """Read the body if it has been received as a whole; return False if not."""
        if not self.is_whole:
            return False
        if len(self._received) > self.options.max_body_bytes and len(self._received) > (
            limit := self._limit(keep=keep)
        ):
            raise self._too_large(limit, keep=keep)
        if keep:
            self.body = self._received
        self._received = b""
        return True

    def _limit(self, *, keep: bool) -> int:
        limit = self.options.max_body_bytes + (ROOM_AROUND_A_VALUE if self.head.is_form else 0)
        return limit if keep else max(limit, self.options.max_leftover_bytes)

    def _too_large(self, limit: int, *, keep: bool) -> TooLargeError:
        accepted = self.options.max_body_bytes if keep else limit
        return TooLargeError(
            f"The body is larger than the {size_text(accepted)} that this server accepts."
        )

    async def _read_parts(self, limit: int, *, keep: bool) -> None:
        parts: list[bytes] = []
        size = 0
        while True:
            part = await self.receive()
            size += len(part)
            if size > limit:
                raise self._too_large(limit, keep=keep)
            if keep:
                parts.append(part)
                if not (self.is_whole and len(parts) == 1):
                    self._hold(len(part))
            if self.is_whole:
                break
        self.body = parts[0] if len(parts) == 1 else b"".join(parts)

    async def permits(self, method: str, path: str) -> bool:
        """Return whether the auth policy admits another request with these credentials."""
        return self.may is None or await self.may(method, path)

    async def deliver(
        self, work: Awaitable[T], undo: Callable[[T], Awaitable[None]], *, waits: bool
    ) -> T:
        """Return the result of the work; `undo` it if it does not reach the client.

        Work that waits is cancelled when the client disconnects; it undoes itself what it has done
        by then. Raise `DisconnectedError` if the client has gone by the end of the work.
        """
        result = await (self._do_while_connected(work) if waits else work)
        if result:
            if self.is_gone:
                await undo(result)
                raise DisconnectedError
            self._undo = partial(undo, result)
        return result

    async def _do_while_connected(self, work: Awaitable[T]) -> T:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancel, self.is_waiting = task.cancel, True
        self.watch_client()
        try:
            return await work
        except asyncio.CancelledError as error:
            if self.is_gone and not task.uncancel():
                raise DisconnectedError from error
            raise  # the server stops
        finally:
            self._cancel, self.is_waiting = None, False

    def release(self) -> None:
        """Release the body, and the memory that is counted for it."""
        self.body = self._received = b""
        if self._transfer is not None:
            self._transfer.end()

    async def undo(self) -> None:
        """Undo the work of a request whose response did not reach the client."""
        self.release()
        if self._undo is not None:
            await self._undo()

    def _hold(self, size: int) -> None:
        """Count a part of the body.

        Raise `BusyError` if all bodies and answers together exceed the limit.
        """
        if self._transfer is None:
            self._transfer = self.traffic.begin(self.break_off)
        self._transfer.hold(size)


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
        raise NotFoundError(
            "The address contains the character NUL (%00), so nothing can be there."
        )
    return decoded


def normal_path(path: str) -> str:
    """Return a path in the form of routes: with one leading and no trailing slash."""
    return "/" + path.strip("/")
