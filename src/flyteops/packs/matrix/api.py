"""The part of Matrix's client-server API that the pack needs, with Flyte's errors."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from flyteops import __version__
from flyteops.errors import (
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.packs.matrix.settings import Account
from flyteops.retry import RetryLaterError, retry_after, retry_call
from flyteops.sdk.tls import create_ssl_context, untrusted

_TIMEOUT = 30.0
_ATTEMPTS = 5
_MAX_PAUSE = 60.0
_MAX_TEXT_LENGTH = 300

_REFUSALS: dict[int, type[FlyteError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    413: TooLargeError,
}


class MatrixIdentity(msgspec.Struct, frozen=True):
    """The user and the device of the pack."""

    user_id: str
    display_name: str = ""

    @property
    def server(self) -> str:
        """The name of the homeserver, as in ids."""
        return self.user_id.partition(":")[2]


class MatrixApi:
    """Calls the homeserver.

    A refusal raises an error whose message begins with Matrix's error code. A call without an
    answer is made again: Matrix recognizes a repeated message by its transaction. Under rate
    limiting, a call waits as long as the homeserver asks for, up to a minute. `device_id` names the
    session that a password opens; it is the same every time, so that sessions do not pile up.
    """

    def __init__(
        self,
        account: Account,
        device_id: str,
        pause: Callable[[float], Awaitable[None]],
        attempts: int = _ATTEMPTS,
    ) -> None:
        self._account = account
        self._device_id = device_id
        self._pause = pause
        self._attempts = attempts
        self._token = account.token
        self._logging_in = asyncio.Lock()
        self._identity: MatrixIdentity | None = None
        self._http: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Keep connections open for further calls; without this every call makes one of its own."""
        async with self._connect() as http:
            self._http = http
            try:
                yield
            finally:
                self._http = None

    # ------------------------------------------------------------------------------------- identity

    async def identify(self) -> MatrixIdentity:
        """Return the identity of the pack.

        Raise `ForbiddenError` if the homeserver rejects its credentials.
        """
        user_id = str((await self.get("account", "whoami")).get("user_id") or "")
        try:
            name = (await self.get("profile", user_id, "displayname")).get("displayname")
        except (NotFoundError, ForbiddenError):
            name = None
        self._identity = MatrixIdentity(user_id, str(name or ""))
        return self._identity

    async def identity(self) -> MatrixIdentity:
        """Return the identity last returned by the homeserver."""
        return self._identity or await self.identify()

    async def log_out(self) -> None:
        """End the session that a password opened."""
        if self._account.password and self._token:
            await self.post("logout")
            self._token = ""

    # ---------------------------------------------------------------------------------------- calls

    async def get(self, *place: str, **params: str) -> dict[str, Any]:
        """Send a GET request."""
        return await self._call("GET", place, params=params)

    async def sync(self, wait: float, **params: str) -> dict[str, Any]:
        """Return the news since the last sync; the answer may take so many seconds.

        A caller that syncs in a loop needs few retries here.
        """
        params = {"timeout": str(int(wait * 1000)), "set_presence": "offline", **params}
        return await self._call("GET", ("sync",), params=params, patience=wait, attempts=2)

    async def post(self, *place: str, **body: object) -> dict[str, Any]:
        """Send a POST request that may be repeated."""
        return await self._call("POST", place, body=body)

    async def put(self, *place: str, **body: object) -> dict[str, Any]:
        """Send a PUT request."""
        return await self._call("PUT", place, body=body)

    async def send(
        self, room_id: str, kind: str, content: Mapping[str, Any], transaction: str = ""
    ) -> str:
        """Send an event into a room, once for each transaction, and return its id."""
        name = transaction or secrets.token_hex(12)
        answer = await self._call("PUT", ("rooms", room_id, "send", kind, name), body=content)
        return str(answer.get("event_id") or "")

    async def _call(
        self, method: str, place: tuple[str, ...], *, attempts: int | None = None, **options: object
    ) -> dict[str, Any]:
        async def attempt() -> dict[str, Any]:
            try:
                return await self._authorized(method, place, **options)
            except RetryLaterError as error:
                if error.retry_after > _MAX_PAUSE:
                    raise FlyteError(str(error)) from error
                raise

        return await retry_call(attempt, pause=self._pause, attempts=attempts or self._attempts)

    async def _authorized(
        self, method: str, place: tuple[str, ...], **options: Any
    ) -> dict[str, Any]:
        """Call with a token.

        With a password, call once more with a new token if the homeserver rejects the previous one.
        """
        used = self._token or await self._log_in("")
        try:
            try:
                return await self._send(method, place, token=used, **options)
            except UnauthorizedError:
                if not self._account.password:
                    raise
            return await self._send(method, place, token=await self._log_in(used), **options)
        except UnauthorizedError as error:
            raise self._refused(error) from error

    async def _log_in(self, refused: str) -> str:
        """Return a token by the password, unless another call got one since the refused one."""
        async with self._logging_in:
            if self._token == refused:
                try:
                    answer = await self._send("POST", ("login",), body=self._login())
                except (ForbiddenError, UnauthorizedError) as error:
                    raise self._refused(error) from error
                self._token = str(answer.get("access_token") or "")
            return self._token

    def _login(self) -> dict[str, Any]:
        return {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self._account.user},
            "password": self._account.password,
            "device_id": self._device_id,
            "initial_device_display_name": "Flyte",
        }

    def _refused(self, error: FlyteError) -> ForbiddenError:
        return ForbiddenError(f"the homeserver refuses {self._account.proof}: {error}")

    async def _send(  # noqa: PLR0913 - what a request consists of, by keyword
        self,
        method: str,
        place: tuple[str, ...],
        *,
        token: str = "",
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> dict[str, Any]:
        path = "/_matrix/client/v3/" + "/".join(quote(each, safe="") for each in place)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options: dict[str, Any] = {"timeout": httpx2.Timeout(_TIMEOUT, read=_TIMEOUT + patience)}
        if body is not None:
            headers["Content-Type"] = "application/json"
            options["content"] = msgspec.json.encode(body)
        try:
            if self._http is not None:
                return _read(
                    await self._http.request(
                        method, path, params=params, headers=headers, **options
                    )
                )
            async with self._connect() as http:
                return _read(
                    await http.request(method, path, params=params, headers=headers, **options)
                )
        except (httpx2.TransportError, httpx2.DecodingError, OSError) as error:
            raise self._unreachable(error) from error

    def _connect(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self._account.homeserver,
            headers={"User-Agent": f"flyte-matrix/{__version__}", "Accept": "application/json"},
            timeout=_TIMEOUT,
            verify=self._trust,
        )

    @cached_property
    def _trust(self) -> SSLContext:
        return create_ssl_context(self._account.ca_cert_file)

    def _unreachable(self, error: Exception) -> UnavailableError:
        certificate = untrusted(error)
        if certificate is not None:
            reason = f"presented a certificate that is not trusted: {certificate.verify_message}"
        elif isinstance(error, httpx2.TimeoutException):
            reason = "timed out"
        else:
            reason = f"cannot be reached: {str(error) or type(error).__name__}"
        return UnavailableError(f"{self._account.homeserver} {reason}")


def _read(answer: httpx2.Response) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        data = None
    if answer.is_success and isinstance(data, dict):
        return data
    raise _refusal(answer, data if isinstance(data, dict) else {})


def _refusal(answer: httpx2.Response, data: dict[str, Any]) -> FlyteError:
    status, word = answer.status_code, data.get("errcode")
    if not isinstance(word, str) or status < 400:  # a proxy, say, while the homeserver is away
        message = f"{answer.request.url.host} does not respond like a homeserver (HTTP {status})"
        return UnavailableError(message)
    message = " ".join(f"{word}: {data.get('error') or status}".split())[:_MAX_TEXT_LENGTH]
    if status == 429:
        asked = data.get("retry_after_ms")
        pause = (
            asked / 1000
            if isinstance(asked, int)
            else retry_after(answer.headers.get("Retry-After", ""))
        )
        return RetryLaterError(message, retry_after=pause)
    if status >= 500 or status == 408:
        return UnavailableError(message)
    return _REFUSALS.get(status, InputError)(message)
