"""The HTTP server: uvicorn's, with our connections and bounds on TLS, without signal handling."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from flyteops.server.descriptors import connections_allowed
from flyteops.server.loops import background
from flyteops.server.socket import BACKLOG
from flyteops.service import Service
from flyteops.settings import Settings
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.http.connection import Connection
from flyteops.web.http.traffic import Traffic

if TYPE_CHECKING:
    from flyteops.server.auth import AccessControl
    from flyteops.server.tls import TlsContexts


LOGGER = logging.getLogger("flyte.server")

HANDSHAKE = 10.0
"""Seconds for a client to finish a TLS handshake."""

FAREWELL = 5.0
"""Seconds for a client to end a TLS connection that the server ends."""

LAST_FAREWELL = 0.5
"""Seconds for a client to end a TLS connection when the server stops.

Idle clients may never look at it.
"""

GRACE = 10
"""Seconds for running requests to end when the server is told to stop."""


class UvicornServer(uvicorn.Server):
    """Uvicorn without its own signal handling, so that the process ends with exit code 0.

    Uvicorn would end it by the signal. TLS handshakes, and the end of TLS connections, have less
    time than by default.
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic, idle_seconds: float) -> None:
        super().__init__(config)
        self.traffic = traffic
        # The bounds of connections are attributes of the class, as each connection has slots only.
        self._connection = type(
            "Connection", (Connection,), {"idle_seconds": idle_seconds, "__slots__": ()}
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        loop, ssl = asyncio.get_running_loop(), self.config.ssl
        handshake, farewell = (None, None) if ssl is None else (HANDSHAKE, FAREWELL)
        self.servers = [
            await loop.create_server(
                partial(self._connection, self.config, self.server_state),
                sock=sock,
                ssl=ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=farewell,
            )
            for sock in sockets or ()
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, without waiting for idle clients to end their TLS connections."""
        async with background(self._break_off_read()):
            await super().shutdown(sockets)

    async def _break_off_read(self) -> None:
        while True:
            await asyncio.sleep(LAST_FAREWELL)
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.break_off_if_read()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(
    settings: Settings,
    service: Service,
    tls: "TlsContexts | None" = None,
    access: "AccessControl | None" = None,
    *,
    is_local: bool = False,
) -> UvicornServer:
    """Return the HTTP server of a started service."""
    origins = frozenset(settings.allowed_origins)
    options = Options(
        max_body_bytes=settings.max_body_bytes,
        allowed_origins=origins,
        is_local=is_local,
        max_connections=connections_allowed(settings.max_connections),
        max_transfer_bytes=settings.max_transfer_bytes,
    )
    app = create_app(service, options, None if access is None else access.authenticator)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls.context,
    )
    return UvicornServer(config, app.traffic, settings.idle_timeout.total_seconds())


async def stop_server(
    server: UvicornServer,
    service: Service,
    stop: asyncio.Event,
    hurried: asyncio.Event,
    delay: float,
) -> None:
    """Stop the server on request: not ready, it still serves for the delay.

    During the delay, clients learn to go elsewhere. Then waiting callers are released. A second
    signal ends the delay.
    """
    await stop.wait()
    service.announce_stop()
    if delay:
        LOGGER.info(
            "stopping in %g s; until then requests are served, and /health/ready answers 503", delay
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await hurried.wait()
    service.end_long_polls()
    LOGGER.info("stopping: requests in progress have %d s to finish", GRACE)
    server.should_exit = True
