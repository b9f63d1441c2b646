"""`flyte serve`: the server, assembled from its settings."""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import uvicorn
import uvloop

from flyteops import __version__
from flyteops.background import BackgroundLoop, BackgroundLoops
from flyteops.cli.check import checked_settings
from flyteops.cli.child import stop_at_end_of_input
from flyteops.cli.command import Command
from flyteops.cli.descriptors import connections_allowed, watch_descriptors
from flyteops.cli.halt import ignore_usr2, stop_on_signal
from flyteops.cli.key import keys_of
from flyteops.cli.listener import BACKLOG, address_of, is_loopback, open_listener, reserve_port
from flyteops.cli.log import configure, reopen
from flyteops.cli.worker import AT_WORK, Workers, tell_parent
from flyteops.errors import FlyteError, SettingsError, UnavailableError
from flyteops.sdk.retry import Backoff, persist
from flyteops.service import Housekeeping, Seeds, Service, steady_seconds, utc_now
from flyteops.settings import Settings, default_text, option_of, table, unknown_variables
from flyteops.storage import open_store, shown
from flyteops.storage.base import Store
from flyteops.web.app import create_app
from flyteops.web.connection import Connection
from flyteops.web.exchange import Options
from flyteops.web.traffic import Traffic

if TYPE_CHECKING:
    from flyteops.cli.access import Access
    from flyteops.cli.certificate import Tls

LOGGER = logging.getLogger("flyte.server")

REFRESH_EVERY = 0.5
"""Seconds between two checks for changes by other servers."""

SWEEP_EVERY = 5.0

COMING = Backoff(first=0.25, limit=5.0)
"""The pauses between two tries of a store that is unavailable when the server starts."""

COLLECT_AFTER = 50_000
"""The number of new objects that starts the collector of cyclic garbage.

With its default, it took a tenth of the time.
"""

SWITCH_AFTER = 0.02
"""Seconds that a thread may run while another waits for its turn.

At the usual 5 ms, the loop and the store's writer change places so often that it costs a tenth with
many connections.
"""

USUAL_LOG = 1024**3
"""The default limit of SQLite's write-ahead log, in bytes."""

LOADING_CERTIFICATE = "Loading the TLS certificate"
"""The name of the background loop in readiness reports."""

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


def setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every setting."""
    for field, setting in reversed(table()):
        shown = default_text(field, setting)
        meaning = f"{setting.help}  [{setting.variable}{f'; default: {shown}' if shown else ''}]"
        function = click.option(option_of(field), field, metavar=setting.metavar, help=meaning)(function)
    return function


@click.command(cls=Command)
@setting_options
@click.option("--fd", type=int, hidden=True, help="Serve on a socket that listens already, as file descriptor.")
@click.option("--attached", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--worker", is_flag=True, hidden=True, help="Share the port with others, and say when it listens.")
def serve(fd: int | None, attached: bool, worker: bool, **given: str | None) -> None:
    """Run the server until SIGTERM or SIGINT.

    SIGHUP loads certificates, the auth policy and the issuer's keys again, SIGUSR1 opens the log
    file again.

    Every option is also a setting in the environment, named in brackets; the option takes
    precedence.
    """
    overrides = {field: value for field, value in given.items() if value is not None}
    settings = checked_settings(os.environ, overrides)
    configure(settings)
    if settings.workers > 1 and fd is None and not worker:
        environ = os.environ | {setting.variable: overrides[field] for field, setting in table() if field in overrides}
        click.get_current_context().exit(run_workers(settings, environ))
    listener = socket.socket(fileno=fd) if fd is not None else open_listener(settings.host, settings.port, shares=worker)
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_server(settings, listener, attached=attached, worker=worker))


def run_workers(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run several servers that share a port until a signal to stop; return the exit code."""
    with reserve_port(settings.host, settings.port) as reserved:
        warn(settings, reserved)
        return asyncio.run(Workers(settings, reserved, environ).run())


async def run_server(settings: Settings, listener: socket.socket, *, attached: bool = False, worker: bool = False) -> None:
    """Serve on a socket until a signal to stop; then let requests end, and close the store.

    A store for several servers may be unavailable at first: until then, requests are answered with
    503. One in a file must be available.
    """
    server: Server | None = None

    reload, hurried = asyncio.Event(), asyncio.Event()

    def hurry() -> None:
        hurried.set()
        if server is not None:
            server.force_exit = True

    store = open_store(
        settings.store,
        keep_for=settings.keep_for,
        direct_url=settings.store_direct_url,
        pool_size=settings.store_pool_size,
        max_log_bytes=longest_log(settings),
    )
    service = make_service(settings, store)
    reactions = {signal.SIGHUP: reload.set, signal.SIGUSR1: reopen, signal.SIGUSR2: ignore_usr2}
    async with stop_on_signal(hurry, reactions) as stop, background(*([tell_parent()] if worker else [])):
        try:
            tls, access = make_tls(settings), make_access(settings, service)
            away = await first_start(store, service, access)
            server = make_server(settings, service, tls, access, is_local=is_loopback(listener))
            tune_interpreter()
            if worker:
                announce_worker(listener, service, away)
            else:
                announce(settings, listener, service, away)
                warn(settings, listener)
            async with background(
                work(settings, store, service, access, stop),
                *([] if tls is None else [keep_certificate(tls, service.loops)]),
                *([] if access is None else access.work()),
                keep_loading(reload, tls, access, service.loops),
                stop_server(server, service, stop, hurried, settings.shutdown_delay.total_seconds()),
                watch_descriptors(server.traffic),
                *([stop_at_end_of_input(stop)] if attached else []),
            ):
                await server.serve(sockets=[listener])
        finally:
            await store.close()
    LOGGER.info("stopped")


def longest_log(settings: Settings) -> int | None:
    """Return the limit of the write-ahead log of SQLite, None for the default.

    It is not above the limit of the store.
    """
    if settings.max_wal is not None or settings.max_disk is None:
        return settings.max_wal
    return min(settings.max_disk, USUAL_LOG)


async def first_start(store: Store, service: Service, access: "Access | None") -> str:
    """Start, and return "" if the store is available, or the reason why it is not.

    Raise an error that will not pass by itself.
    """
    try:
        await start(store, service, access)
    except UnavailableError as error:
        if not store.is_shared:
            raise
        return error.message
    return ""


async def start(store: Store, service: Service, access: "Access | None") -> None:
    """Open the store and load the data kept in memory; leave the store closed if it is unusable."""
    try:
        await store.open()
        await service.start()
        if access is not None:
            await access.make_first_token()
    except FlyteError as error:
        await store.close()
        service.wait_for_store(error.message)
        raise


async def work(settings: Settings, store: Store, service: Service, access: "Access | None", stop: asyncio.Event) -> None:
    """Run the server's background work as soon as its store is available.

    A store that can never be used ends the server.
    """
    try:
        if not service.is_started:
            await persist(partial(start, store, service, access), pause=asyncio.sleep, backoff=COMING)
            LOGGER.info("The store is there now: %s", contents(settings, service))
    except BaseException:  # on any failure, requests could never be served
        stop.set()
        raise
    await asyncio.gather(sweep(service, stop), service.keep_time(), *([keep_current(service)] if service.is_shared else []))


def make_service(settings: Settings, store: Any) -> Service:
    """Return the use cases on a store, with the real clock and real randomness."""
    housekeeping = Housekeeping(
        keep_for=settings.keep_for,
        keep_finished_for=settings.keep_finished_for,
        max_bytes=settings.max_disk,
        max_change_log=settings.max_change_log,
        max_old_flows=settings.max_old_flows,
        delete_dead_packs=settings.delete_dead_packs,
        dead_packs_at=settings.dead_packs_at,
        dead_after=settings.dead_after,
    )
    return Service(
        store,
        clock=utc_now,
        monotonic=steady_seconds,
        seeds=Seeds(secrets.token_bytes(32)),
        housekeeping=housekeeping,
        seals=make_seals(settings),
        longest_body=settings.max_body_bytes,
    )


def tune_interpreter() -> None:
    """Give threads long turns, and run the collector of cyclic garbage rarely.

    Requests leave it no garbage. It ignores all objects that exist by now, which stay for good.
    """
    sys.setswitchinterval(SWITCH_AFTER)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


def make_seals(settings: Settings) -> Any:
    """Return the encryption of secrets; None without keys."""
    keys = keys_of(settings)
    if not keys:
        return None
    from flyteops.service.seal import Seals  # noqa: PLC0415 - takes long to load, and few need it

    return Seals(keys)


class Server(uvicorn.Server):
    """Uvicorn without its own signal handling, so that the process ends with exit code 0.

    Uvicorn would end it by the signal. TLS handshakes, and the end of TLS connections, have less
    time than by default.
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic, idle_seconds: float) -> None:
        super().__init__(config)
        self.traffic = traffic
        # The bounds of connections are attributes of the class, as each connection has slots only.
        self._connection = type("Connection", (Connection,), {"idle_seconds": idle_seconds, "__slots__": ()})

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


def make_tls(settings: Settings) -> "Tls | None":
    """Return the TLS contexts of connections, None without TLS."""
    if settings.tls_cert_path is None or settings.tls_key_path is None:
        return None
    from flyteops.cli.certificate import Pair, Tls  # noqa: PLC0415 - takes long to load, and few need it

    return Tls(Pair(settings.tls_cert_path, settings.tls_key_path))


def make_access(settings: Settings, service: Service) -> "Access | None":
    """Return the access control, None if everybody has access."""
    if not settings.has_auth:
        return None
    from flyteops.cli.access import Access  # noqa: PLC0415 - takes long to load, and not all need it

    return Access(settings, service.tokens, service.loops, service.get_pack)


async def keep_certificate(tls: "Tls", loops: BackgroundLoops) -> None:
    """Load a new certificate when there is one, and warn once a day before the present one ends."""
    loop = loops.loop(LOADING_CERTIFICATE, LOGGER)
    warned_on = None
    async for is_new in tls.watch.changes():
        now = utc_now()
        if is_new:
            await load_certificate(tls, now, loop)
        warning = tls.ending_soon(now)
        if warning is not None and warned_on != now.date():
            LOGGER.warning("%s", warning)
            warned_on = now.date()


async def load_certificate(tls: "Tls", now: datetime, loop: BackgroundLoop) -> None:
    """Load the present certificate, or log why not and keep the previous one."""
    try:
        await asyncio.to_thread(tls.load, now)
    except SettingsError as error:
        reason = "; ".join(map(str, error.problems))
        LOGGER.error("The new TLS certificate is not used: %s", reason)
        loop.failed(SettingsError(reason), is_logged=True)
    else:
        loop.succeeded()
        LOGGER.info("New connections get the new TLS certificate; it ends on %s", f"{tls.ends_at:%Y-%m-%d}")


async def keep_loading(reload: asyncio.Event, tls: "Tls | None", access: "Access | None", loops: BackgroundLoops) -> None:
    """Load certificates, the policy and the issuer's keys again each time `reload` is set."""
    while True:
        await reload.wait()
        reload.clear()
        names = []
        if tls is not None:
            await load_certificate(tls, utc_now(), loops.loop(LOADING_CERTIFICATE, LOGGER))
            names.append("the TLS certificate")
        if access is not None:
            names += await access.reload()
        if names:
            LOGGER.info("SIGHUP: looked again at %s", " and ".join(names))
        else:
            LOGGER.info("SIGHUP: there is no TLS certificate, auth policy or issuer to load again")


def make_server(
    settings: Settings, service: Service, tls: "Tls | None" = None, access: "Access | None" = None, *, is_local: bool = False
) -> Server:
    """Return the HTTP server of a started service."""
    origins = frozenset(settings.allowed_origins)
    options = Options(
        max_body_bytes=settings.max_body_bytes,
        allowed_origins=origins,
        is_local=is_local,
        max_connections=connections_allowed(settings.max_connections),
        max_transfer_bytes=settings.max_transfer_bytes,
    )
    app = create_app(service, options, None if access is None else access.gate)
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
    return Server(config, app.traffic, settings.idle_timeout.total_seconds())


def contents(settings: Settings, service: Service) -> str:
    """Return the store and its contents, for the log."""
    flows, packs = service.counts
    return f"{shown(settings.store)} with {flows} flows and {packs} packs"


def announce(settings: Settings, listener: socket.socket, service: Service, away: str) -> None:
    """Log the server's address, and its contents or the reason why its store is `away`."""
    store = f"store {contents(settings, service)}" if not away else "its store is not there yet"
    LOGGER.info("Flyte %s listens on %s (process %d); %s", __version__, address_of(listener, settings), os.getpid(), store)
    warn_of(away)


def announce_worker(listener: socket.socket, service: Service, away: str) -> None:
    """Listen from now on, and report that to the parent and the log."""
    listener.listen(BACKLOG)
    LOGGER.info("worker (process %d) is at work with %d flows and %d packs", os.getpid(), *service.counts)
    warn_of(away)
    os.write(1, AT_WORK)


def warn_of(away: str) -> None:
    """Log the reason why the store is unavailable, if it is."""
    if away:
        LOGGER.warning("%s It is tried again until it can be; requests are answered with 503 meanwhile.", away)


def warn(settings: Settings, listener: socket.socket) -> None:
    """Log the ways of access, and warnings about the settings."""
    if settings.has_auth:
        from flyteops.cli.access import announce_access  # noqa: PLC0415 - takes long to load, and not all need it

        announce_access(settings, is_local=is_loopback(listener))
    elif not is_loopback(listener):
        LOGGER.warning(
            "Auth is off and %s can be reached from other computers: whoever reaches it can run commands in the packs."
            " Switch auth on, set FLYTE_HOST=127.0.0.1, or make sure that only trusted people and packs get through to it.",
            listener.getsockname()[0],
        )
    if settings.packs_without_token and not settings.has_auth:
        LOGGER.warning("FLYTE_PACKS_WITHOUT_TOKEN has no effect: auth is off, so nobody needs a token.")
    for problem in unknown_variables(os.environ):
        LOGGER.warning("%s", problem)


async def sweep(service: Service, stop: asyncio.Event) -> None:
    """Run the housekeeping every few seconds; a failure is logged and retried the next time."""
    loop = service.loops.loop("The housekeeping", LOGGER)
    while not stop.is_set():
        try:
            await service.sweep()
            loop.succeeded()
        except Exception as error:  # the housekeeping goes on after any failure; the loop reports it
            loop.failed(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_EVERY):
                await stop.wait()


async def keep_current(service: Service) -> None:
    """Load changes of other servers on the same store, within a second."""
    loop = service.loops.loop("Loading the changes of other servers", LOGGER, is_essential=True)
    while True:
        await asyncio.sleep(REFRESH_EVERY)
        try:
            await service.refresh()
            loop.succeeded()
        except Exception as error:  # it goes on after any failure; the loop reports it
            loop.failed(error)


async def stop_server(server: Server, service: Service, stop: asyncio.Event, hurried: asyncio.Event, delay: float) -> None:
    """Stop the server on request: not ready, it still serves for the delay.

    During the delay, clients learn to go elsewhere. Then waiting callers are released. A second
    signal ends the delay.
    """
    await stop.wait()
    service.announce_stop()
    if delay:
        LOGGER.info("stopping in %g s; until then requests are served, and /health/ready answers 503", delay)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await hurried.wait()
    service.stop_taking()
    LOGGER.info("stopping: requests under way have %d s to end", GRACE)
    server.should_exit = True


def report_end(task: "asyncio.Task[None]") -> None:
    """Log at once that a background task failed; its error is only raised when the server stops."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        LOGGER.error("A background task has ended; restart the server", exc_info=error)


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines meanwhile, and end them afterwards; raise an error of any of them."""
    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(report_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
