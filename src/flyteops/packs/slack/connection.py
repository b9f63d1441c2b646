"""Socket Mode: connections by the official client, one after the other without a gap."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from flyteops.errors import UnavailableError
from flyteops.packs.slack.api import SDK_LOGGER, SlackApi
from flyteops.retry import FailureLog, retry_call

LOGGER = logging.getLogger("flyte.slack")

_CONNECT_WITHIN = 10.0

Take = Callable[[SocketModeRequest], Awaitable[bool]]
Pause = Callable[[float], Awaitable[None]]


class SocketModeConnection:
    """Stays connected, and acknowledges each envelope for which `take` returns true."""

    def __init__(self, api: SlackApi, take: Take) -> None:
        self._api = api
        self._take = take
        self._answering: set[asyncio.Task[None]] = set()
        self._outage = FailureLog("the connection to Slack", LOGGER)
        self.is_up = False

    @property
    def trouble(self) -> str | None:
        """The reason why there is no connection now."""
        return None if self.is_up else self._outage.reason or "not connected yet"

    async def keep(self, pause: Pause) -> None:
        """Connect, and again whenever a connection ends, until cancelled; raise permanent errors.

        When Slack announces the end of a connection, the next one is opened before the old one is
        closed.
        """
        old: _Socket | None = None
        try:
            while True:
                new = await retry_call(self._connect, pause=pause, outage=self._outage)
                if old is not None:
                    await old.leave()
                old, self.is_up = new, True
                await new.over.wait()
                self.is_up = not new.is_lost
                LOGGER.info("the connection to Slack ends; making the next one")
        finally:
            self.is_up = False
            if old is not None:
                await old.leave()

    async def _connect(self) -> "_Socket":
        socket = _Socket(await self._api.open_socket(), self._listen)
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                await socket.join()
        except TimeoutError:
            message = f"no connection to Slack's socket within {_CONNECT_WITHIN:g} s"
            raise UnavailableError(message) from None
        finally:
            if socket.is_lost:
                await socket.leave()
        return socket

    async def _listen(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        answering = asyncio.create_task(self._answer(client, request))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        if not await self._take(request):
            return
        try:
            await client.send_socket_mode_response(SocketModeResponse(request.envelope_id))
        except (OSError, AttributeError) as error:  # gone meanwhile: Slack sends the envelope again
            LOGGER.debug("%s could not be acknowledged: %s", request.envelope_id, error)


class _Socket(SocketModeClient):
    """One connection; at its end it does not make another by itself, but sets `over`."""

    def __init__(
        self,
        url: str,
        listen: Callable[[AsyncBaseSocketModeClient, SocketModeRequest], Awaitable[None]],
    ) -> None:
        self.over = asyncio.Event()
        super().__init__("", logger=SDK_LOGGER, on_error_listeners=[self._end])
        self.wss_uri = url
        self.socket_mode_request_listeners.append(listen)

    @property
    def is_lost(self) -> bool:
        """Whether the connection has stopped receiving."""
        return self.current_session is None or self.current_session.closed

    async def join(self) -> None:
        """Connect."""
        await self.connect()  # type: ignore[no-untyped-call]

    async def leave(self) -> None:
        """Close the connection and its resources."""
        await self.close()  # type: ignore[no-untyped-call]

    async def connect_to_new_endpoint(self, force: bool = False) -> None:
        self.over.set()

    async def _end(self, _: object) -> None:
        self.over.set()
