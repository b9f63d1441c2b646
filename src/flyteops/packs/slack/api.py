"""Slack's Web API by its official client, with the errors of `flyteops.errors`."""

import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.http_retry.request import HttpRequest
from slack_sdk.http_retry.response import HttpResponse
from slack_sdk.http_retry.state import RetryState
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from flyteops.errors import BusyError, FlyteError, ForbiddenError, InputError, UnavailableError

API_URL = "https://slack.com/api/"

SDK_LOGGER = logging.getLogger("flyte.slack.sdk")
"""The official client's log is left out: at its lower levels it has whole messages and one-time
addresses."""
SDK_LOGGER.setLevel(logging.CRITICAL + 1)

_TIMEOUT = 30
_MAX_RETRIES = 5
_MAX_PAUSE = 60
_MAX_PAGES = 100

_FOR_THE_MOMENT = {
    "ratelimited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
}
_FORBIDDEN = {
    "access_denied",
    "account_inactive",
    "invalid_auth",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "token_expired",
    "token_revoked",
}


class SlackIdentity(msgspec.Struct, frozen=True):
    """The identity of a token; `scopes` is None where Slack does not report them."""

    team: str
    user: str
    user_id: str
    bot_id: str = ""
    scopes: frozenset[str] | None = None


class SlackApi:
    """Calls the Web API; a refusal raises an error whose message begins with Slack's error code.

    `UnavailableError` is for temporary errors, `ForbiddenError` for missing permissions of the
    token, `InputError` for the rest. Under rate limiting, a call waits as long as Slack asks for,
    up to a minute.
    """

    def __init__(self, token: str, app_token: str | None = None, url: str = API_URL) -> None:
        self._app_token = app_token
        self.client = AsyncWebClient(
            token,
            base_url=url,
            timeout=_TIMEOUT,
            logger=SDK_LOGGER,
            retry_handlers=[
                AsyncConnectionErrorRetryHandler(max_retry_count=2),
                AsyncServerErrorRetryHandler(max_retry_count=2),
                _RateLimitHandler(max_retry_count=_MAX_RETRIES),
            ],
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Keep connections open for further calls; without this every call makes one of its own."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:
            self.client.session = session
            try:
                yield
            finally:
                self.client.session = None

    async def identify(self) -> SlackIdentity:
        """Return the identity of the token."""
        answer = await _answer(self.client.auth_test())
        data, scopes = _data(answer), answer.headers.get("x-oauth-scopes")
        return SlackIdentity(
            team=data.get("team") or "",
            user=data.get("user") or "",
            user_id=data.get("user_id") or "",
            bot_id=data.get("bot_id") or "",
            scopes=None
            if scopes is None
            else frozenset(scope.strip() for scope in scopes.split(",")),
        )

    async def open_socket(self) -> str:
        """Return the address of a new Socket Mode connection.

        It is valid for one connection, for a short time.
        """
        answer = _data(
            await _answer(self.client.apps_connections_open(app_token=self._app_token or ""))
        )
        return str(answer["url"])

    async def user(self, user_id: str) -> dict[str, Any]:
        """Look a user up."""
        return _object(_data(await _answer(self.client.users_info(user=user_id))).get("user"))

    async def channels(self, types: str) -> list[dict[str, Any]]:
        """List the channels of these types that are not archived."""
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(_MAX_PAGES):
            page = _data(
                await _answer(
                    self.client.conversations_list(
                        exclude_archived=True, limit=999, cursor=cursor or None, types=types
                    )
                )
            )
            found += page.get("channels") or []
            cursor = _object(page.get("response_metadata")).get("next_cursor") or ""
            if not cursor:
                break
        return found

    async def post(self, **message: object) -> dict[str, Any]:
        """Post a message, and return Slack's answer."""
        return _data(await _answer(self.client.api_call("chat.postMessage", json=message)))

    async def update(self, **message: object) -> None:
        """Change a message that the app posted."""
        await _answer(self.client.api_call("chat.update", json=message))


class _RateLimitHandler(AsyncRateLimitErrorRetryHandler):
    """Waits as long as Slack asks for, unless that is too long for the caller."""

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        if response is None or response.status_code != 429:
            return False
        headers: Mapping[str, Any] = {
            name.lower(): value for name, value in response.headers.items()
        }
        pause = "".join(headers.get("retry-after", ["1"]))
        return pause.isdecimal() and int(pause) <= _MAX_PAUSE


async def _answer(call: Awaitable[AsyncSlackResponse]) -> AsyncSlackResponse:
    try:
        return await call
    except SlackApiError as error:
        raise _refusal(error.response) from None
    except (
        aiohttp.ClientError,
        SlackClientError,
        OSError,
        TimeoutError,
        UnicodeError,
        ValueError,
    ) as error:
        message = f"Slack cannot be reached: {str(error) or type(error).__name__}"
        raise UnavailableError(message) from None


def _refusal(answer: object) -> FlyteError:
    data = _object(getattr(answer, "data", None))
    status = getattr(answer, "status_code", 0)
    reason = str(
        data.get("error")
        or ("ratelimited" if status == 429 else f"unexpected response of Slack (HTTP {status})")
    )
    message = ": ".join([reason, *_details(data)])
    if reason == "ratelimited":
        return BusyError(message)
    if reason in _FOR_THE_MOMENT or status >= 500:
        return UnavailableError(message)
    return ForbiddenError(message) if reason in _FORBIDDEN else InputError(message)


def _details(data: dict[str, Any]) -> list[str]:
    """Return the details of an error: the missing scopes, and the faults of blocks or arguments."""
    needed = data.get("needed")
    messages = _object(data.get("response_metadata")).get("messages")
    said = [str(each) for each in messages] if isinstance(messages, list) else []
    return [*([str(needed)] if needed else []), *(["; ".join(said)] if said else [])]


def _data(answer: AsyncSlackResponse) -> dict[str, Any]:
    return _object(answer.data)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
