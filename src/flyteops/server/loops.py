"""The background loops of a server: maintenance, changes of other servers, and certificates."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flyteops.background import BackgroundLoop, BackgroundLoops
from flyteops.errors import SettingsError
from flyteops.service import Service, utc_now

if TYPE_CHECKING:
    from flyteops.server.auth import AccessControl
    from flyteops.server.tls import TlsContexts


LOGGER = logging.getLogger("flyte.server")

REFRESH_EVERY = 0.5
"""Seconds between two checks for changes by other servers."""

MAINTENANCE_INTERVAL = 5.0
"""Seconds between two rounds of maintenance."""

LOADING_CERTIFICATE = "Loading the TLS certificate"
"""The name of the background loop in readiness reports."""


async def reload_certificate(tls: "TlsContexts", loops: BackgroundLoops) -> None:
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


async def load_certificate(tls: "TlsContexts", now: datetime, loop: BackgroundLoop) -> None:
    """Load the present certificate, or log why not and keep the previous one."""
    try:
        await asyncio.to_thread(tls.load, now)
    except SettingsError as error:
        reason = "; ".join(map(str, error.problems))
        LOGGER.error("The new TLS certificate is not used: %s", reason)
        loop.failed(SettingsError(reason), is_logged=True)
    else:
        loop.succeeded()
        LOGGER.info(
            "New connections get the new TLS certificate; it ends on %s", f"{tls.ends_at:%Y-%m-%d}"
        )


async def reload_on_signal(
    reload: asyncio.Event,
    tls: "TlsContexts | None",
    access: "AccessControl | None",
    loops: BackgroundLoops,
) -> None:
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
            LOGGER.info("SIGHUP: reloaded %s", " and ".join(names))
        else:
            LOGGER.info("SIGHUP: no TLS certificate, auth policy or issuer to reload")


async def run_maintenance(service: Service, stop: asyncio.Event) -> None:
    """Run the maintenance every few seconds; a failure is logged and retried the next time."""
    loop = service.loops.loop("The maintenance", LOGGER)
    while not stop.is_set():
        try:
            await service.run_maintenance()
            loop.succeeded()
        # The maintenance goes on after any failure; the loop reports it.
        except Exception as error:  # noqa: BLE001
            loop.failed(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAINTENANCE_INTERVAL):
                await stop.wait()


async def refresh_service(service: Service) -> None:
    """Load changes of other servers on the same store, within a second."""
    loop = service.loops.loop("Loading the changes of other servers", LOGGER, is_essential=True)
    while True:
        await asyncio.sleep(REFRESH_EVERY)
        try:
            await service.refresh()
            loop.succeeded()
        # It goes on after any failure; the loop reports it.
        except Exception as error:  # noqa: BLE001
            loop.failed(error)


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
