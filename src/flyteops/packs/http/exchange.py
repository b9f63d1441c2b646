"""The exchange for one command: follows redirects, and retries temporary failures."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpx2
import msgspec

from flyteops.errors import FlyteError, TooLargeError, UnavailableError
from flyteops.packs.http.request import Request, build, plain
from flyteops.packs.limit import USUAL
from flyteops.retry import MAX_RETRY_AFTER, RetryLaterError, retry_after, retry_call
from flyteops.sdk.tls import untrusted

_PASSING = (429, 502, 503, 504)
_FAULTS = (
    httpx2.TimeoutException,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
)

# Headers of the request that another host may receive.
_HARMLESS = {
    "accept",
    "accept-encoding",
    "accept-language",
    "content-type",
    "content-length",
    "host",
    "user-agent",
}

_CONNECT_TIMEOUT = 5.0
"""Seconds for connecting to one address of a host, so that others have a chance."""


class HttpLimits(msgspec.Struct, frozen=True):
    """The default time limit of an attempt in seconds, and the maximum bytes of an answer."""

    timeout: float = 30.0
    body: int = USUAL


class HttpResponse(msgspec.Struct, frozen=True):
    """The final answer, with its body read."""

    status: int
    headers: httpx2.Headers
    content: bytes
    url: str


class _TransientError(RetryLaterError):
    """An answer with a failure that may be temporary."""

    def __init__(self, answer: HttpResponse, after: float) -> None:
        super().__init__(f"the answer is {answer.status}", retry_after=after)
        self.answer = answer


class HttpExchange:
    """Sends the request of a flow; `attempts` and `url` show the progress afterwards."""

    def __init__(
        self, asked: Request, limits: HttpLimits, transport: httpx2.AsyncBaseTransport
    ) -> None:
        self.attempts = 0
        self._heard = False
        self._asked = asked
        self._limits = limits
        self._timeout = float(asked.timeout or limits.timeout)
        self._transport = transport
        self._request = build(asked)
        self.url = str(self._request.url)

    async def run(self, pause: Callable[[float], Awaitable[None]]) -> HttpResponse:
        """Return the answer, with any status; raise the reason if there is none."""
        try:
            return await retry_call(self._attempt, pause=pause, attempts=self._asked.retries + 1)
        except _TransientError as error:
            return error.answer

    async def _attempt(self) -> HttpResponse:
        self.attempts += 1
        self._heard = False
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._follow()
        except TimeoutError as error:
            raise self._failure(
                f"no complete response within {self._timeout:g} s", may_pass=True
            ) from error
        except httpx2.HTTPError as error:
            raise self._fault(error) from error
        if answer.status in _PASSING and self._asked.repeatable:
            after = retry_after(answer.headers.get("Retry-After", ""))
            if after <= MAX_RETRY_AFTER:
                raise _TransientError(answer, after)
        return answer

    async def _follow(self) -> HttpResponse:
        wait = httpx2.Timeout(None, connect=min(self._timeout, _CONNECT_TIMEOUT))
        async with httpx2.AsyncClient(transport=self._transport, trust_env=False) as client:
            request = self._request
            request.extensions["timeout"] = wait.as_dict()
            for _ in range(self._asked.max_redirects + 1):
                self.url = str(request.url)
                response = await client.send(request, stream=True)
                self._heard = True
                async with aclosing(response):
                    onward = response.next_request
                    if onward is None or not self._asked.max_redirects:
                        return await self._read(response)
                request = _onward(request, onward)
        message = f"there were more than {self._asked.max_redirects} redirects"
        raise FlyteError(message)

    async def _read(self, response: httpx2.Response) -> HttpResponse:
        content = bytearray()
        async with aclosing(response.aiter_bytes()) as parts:
            async for part in parts:
                content += part
                if len(content) > self._limits.body:
                    limit = f"{self._limits.body} bytes of FLYTE_HTTP_BODY_LIMIT"
                    message = f"the answer {response.status_code} holds more than the {limit}"
                    raise TooLargeError(message)
        return HttpResponse(response.status_code, response.headers, bytes(content), self.url)

    def _fault(self, error: httpx2.HTTPError) -> FlyteError:
        certificate = untrusted(error)
        if certificate is not None:
            return FlyteError(f"the certificate is not trusted: {certificate.verify_message}")
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) and not self._heard:
            return UnavailableError(str(error) or f"no connection within {_CONNECT_TIMEOUT:g} s")
        return self._failure(
            str(error) or type(error).__name__, may_pass=isinstance(error, _FAULTS)
        )

    def _failure(self, message: str, *, may_pass: bool) -> FlyteError:
        """Return the error for a failure.

        It is retried if it is temporary and the request may be received twice.
        """
        return (
            UnavailableError(message)
            if may_pass and self._asked.repeatable
            else FlyteError(message)
        )


def _onward(request: httpx2.Request, onward: httpx2.Request) -> httpx2.Request:
    """Return the request that follows a redirect.

    Another host gets no credentials, in any header.
    """
    onward.url = plain(onward.url)
    upgraded = (request.url.scheme, onward.url.scheme) == (
        "http",
        "https",
    ) and request.url.host == onward.url.host
    if onward.url.origin != request.url.origin and not upgraded:
        for name in set(onward.headers) - _HARMLESS:
            del onward.headers[name]
    return onward
