"""The server, assembled from its settings, started and stopped."""

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from flyteops import __version__
from flyteops.errors import FlyteError, UnavailableError
from flyteops.model import Pack
from flyteops.retry import Backoff, retry_call
from flyteops.server.descriptors import watch_descriptors
from flyteops.server.http import UvicornServer, make_server, stop_server
from flyteops.server.keys import keys_of
from flyteops.server.logs import reopen
from flyteops.server.loops import (
    background,
    refresh_service,
    reload_certificate,
    reload_on_signal,
    run_maintenance,
)
from flyteops.server.signals import ignore_usr2, stop_at_end_of_input, stop_on_signal
from flyteops.server.socket import BACKLOG, address_of, is_loopback, reserve_port
from flyteops.server.workers import AT_WORK, WorkerGroup, report_to_parent
from flyteops.service import MaintenanceSettings, SeedSource, Service, steady_seconds, utc_now
from flyteops.settings import Settings, unknown_variables
from flyteops.storage import open_store, shown
from flyteops.storage.base import Store

if TYPE_CHECKING:
    from flyteops.server.auth import AccessControl
    from flyteops.server.tls import TlsContexts
    from flyteops.service.encryption import Encryptor


LOGGER = logging.getLogger("flyte.server")

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


def run_workers(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run several servers that share a port until a signal to stop; return the exit code."""
    with reserve_port(settings.host, settings.port) as reserved:
        log_warnings(settings, reserved)
        return asyncio.run(WorkerGroup(settings, reserved, environ).run())


async def run_server(
    settings: Settings, listener: socket.socket, *, attached: bool = False, worker: bool = False
) -> None:
    """Serve on a socket until a signal to stop; then let requests end, and close the store.

    A store for several servers may be unavailable at first: until then, requests are answered with
    503. One in a file must be available.
    """
    server: UvicornServer | None = None

    reload, hurried = asyncio.Event(), asyncio.Event()

    def force_exit() -> None:
        hurried.set()
        if server is not None:
            server.force_exit = True

    store = configured_store(settings)
    service = make_service(settings, store)
    reactions = {signal.SIGHUP: reload.set, signal.SIGUSR1: reopen, signal.SIGUSR2: ignore_usr2}
    async with (
        stop_on_signal(force_exit, reactions) as stop,
        background(*([report_to_parent()] if worker else [])),
    ):
        try:
            tls, access = make_tls(settings), make_access(settings, service)
            away = await start_or_wait(store, service, access)
            server = make_server(settings, service, tls, access, is_local=is_loopback(listener))
            tune_interpreter()
            if worker:
                announce_worker(listener, service, away)
            else:
                announce(settings, listener, service, away)
                log_warnings(settings, listener)
            async with background(
                run_background_work(settings, store, service, access, stop),
                *([] if tls is None else [reload_certificate(tls, service.loops)]),
                *([] if access is None else access.work()),
                reload_on_signal(reload, tls, access, service.loops),
                stop_server(
                    server, service, stop, hurried, settings.shutdown_delay.total_seconds()
                ),
                watch_descriptors(server.traffic),
                *([stop_at_end_of_input(stop)] if attached else []),
            ):
                await server.serve(sockets=[listener])
        finally:
            await store.close()
    LOGGER.info("stopped")


def configured_store(settings: Settings) -> Store:
    """Return the store of the settings, which is not open yet."""
    return open_store(
        settings.store,
        keep_for=settings.keep_for,
        direct_url=settings.store_direct_url,
        pool_size=settings.store_pool_size,
        max_log_bytes=longest_log(settings),
    )


def longest_log(settings: Settings) -> int | None:
    """Return the limit of the write-ahead log of SQLite, None for the default.

    It is not above the limit of the store.
    """
    if settings.max_wal is not None or settings.max_disk is None:
        return settings.max_wal
    return min(settings.max_disk, USUAL_LOG)


async def start_or_wait(store: Store, service: Service, access: "AccessControl | None") -> str:
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


async def start(store: Store, service: Service, access: "AccessControl | None") -> None:
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


async def run_background_work(
    settings: Settings,
    store: Store,
    service: Service,
    access: "AccessControl | None",
    stop: asyncio.Event,
) -> None:
    """Run the server's background work as soon as its store is available.

    A store that can never be used ends the server.
    """
    try:
        if not service.is_started:
            await retry_call(
                partial(start, store, service, access), pause=asyncio.sleep, backoff=COMING
            )
            LOGGER.info("The store is available now: %s", describe_contents(settings, service))
    except BaseException:  # on any failure, requests could never be served
        stop.set()
        raise
    await asyncio.gather(
        run_maintenance(service, stop),
        service.run_scheduler(),
        *([refresh_service(service)] if service.is_shared else []),
    )


def make_service(settings: Settings, store: Store) -> Service:
    """Return the use cases on a store, with the real clock and real randomness."""
    maintenance = MaintenanceSettings(
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
        seeds=SeedSource(secrets.token_bytes(32)),
        maintenance=maintenance,
        encryptor=make_encryptor(settings),
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


def make_encryptor(settings: Settings) -> "Encryptor | None":
    """Return the encryption of secrets; None without keys."""
    keys = keys_of(settings)
    if not keys:
        return None
    # Takes long to load, and few need it.
    from flyteops.service.encryption import Encryptor  # noqa: PLC0415

    return Encryptor(keys)


def make_tls(settings: Settings) -> "TlsContexts | None":
    """Return the TLS contexts of connections, None without TLS."""
    if settings.tls_cert_path is None or settings.tls_key_path is None:
        return None
    # Takes long to load, and few need it.
    from flyteops.server.tls import CertificateFiles, TlsContexts  # noqa: PLC0415

    return TlsContexts(CertificateFiles(settings.tls_cert_path, settings.tls_key_path))


def make_access(settings: Settings, service: Service) -> "AccessControl | None":
    """Return the access control, None if everybody has access."""
    if not settings.has_auth:
        return None
    # Takes long to load, and not all need it.
    from flyteops.server.auth import AccessControl  # noqa: PLC0415

    async def get_pack(pack_id: str) -> Pack:
        service.check_started()  # the authenticator calls this before any other request does
        return await service.packs.get(pack_id)

    return AccessControl(settings, service.tokens, service.loops, get_pack)


def describe_contents(settings: Settings, service: Service) -> str:
    """Return the store and its contents, for the log."""
    return f"{shown(settings.store)} with {len(service.flows)} flows and {len(service.packs)} packs"


def announce(settings: Settings, listener: socket.socket, service: Service, away: str) -> None:
    """Log the server's address, and its contents or the reason why its store is `away`."""
    store = (
        f"store {describe_contents(settings, service)}"
        if not away
        else "its store is not available yet"
    )
    LOGGER.info(
        "Flyte %s listens on %s (process %d); %s",
        __version__,
        address_of(listener, settings),
        os.getpid(),
        store,
    )
    warn_of(away)


def announce_worker(listener: socket.socket, service: Service, away: str) -> None:
    """Listen from now on, and report that to the parent and the log."""
    listener.listen(BACKLOG)
    LOGGER.info(
        "worker (process %d) is ready with %d flows and %d packs",
        os.getpid(),
        len(service.flows),
        len(service.packs),
    )
    warn_of(away)
    os.write(1, AT_WORK)


def warn_of(away: str) -> None:
    """Log the reason why the store is unavailable, if it is."""
    if away:
        LOGGER.warning("%s Retrying until it is available; until then, requests get 503.", away)


def log_warnings(settings: Settings, listener: socket.socket) -> None:
    """Log the ways of access, and warnings about the settings."""
    if settings.has_auth:
        # Takes long to load, and not all need it.
        from flyteops.server.auth import announce_access  # noqa: PLC0415

        announce_access(settings, is_local=is_loopback(listener))
    elif not is_loopback(listener):
        LOGGER.warning(
            "Auth is off and %s is reachable from other computers: anyone who can connect can run"
            " commands in the packs. Enable auth, set FLYTE_HOST=127.0.0.1, or restrict network"
            " access to trusted people and packs.",
            listener.getsockname()[0],
        )
    if settings.packs_without_token and not settings.has_auth:
        LOGGER.warning(
            "FLYTE_PACKS_WITHOUT_TOKEN has no effect: auth is off, so no token is required."
        )
    for problem in unknown_variables(os.environ):
        LOGGER.warning("%s", problem)
