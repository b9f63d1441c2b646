"""The health endpoint of a running pack."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import h11
import msgspec

from flyteops.retry import being_cancelled, describe
from flyteops.sdk.environment import Environment
from flyteops.sdk.fork import PrivateSocket

LOGGER = logging.getLogger("flyte.pack")

DEFAULT_CHECK = "DefaultCheck"
"""The name of the entry for the health of the pack itself."""

DEFAULT_HEALTH_PORT = 8090
DEFAULT_HEALTH_HOST = "127.0.0.1"

_REQUEST_TIMEOUT = 5.0
_READ_SIZE = 65536
_PORTS_TO_TRY = 20


class Health(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    healthy: bool
    status: str


Report = Callable[[], Awaitable[dict[str, Health]]]


async def run_checks(
    checks: Mapping[str, Callable[[], Awaitable[str]]], within: float
) -> dict[str, Health]:
    """Run the checks of a pack concurrently, each for so many seconds at most."""
    outcomes = await asyncio.gather(
        *(_run_check(check, within) for check in checks.values()), return_exceptions=True
    )
    return {name: _outcome(outcome) for name, outcome in zip(checks, outcomes, strict=True)}


def _outcome(outcome: Health | BaseException) -> Health:
    if isinstance(outcome, Health):
        return outcome
    if isinstance(outcome, asyncio.CancelledError):
        return Health(healthy=False, status="it was cancelled by its own code")
    return Health(healthy=False, status=describe(outcome))


async def _run_check(check: Callable[[], Awaitable[str]], within: float) -> Health:
    try:
        async with asyncio.timeout(within) as limit:
            return Health(healthy=True, status=str(await check() or "OK"))
    except BaseException as error:  # third-party code
        if isinstance(error, TimeoutError) and limit.expired():
            return Health(healthy=False, status=f"it did not end within {within:g} seconds")
        if being_cancelled() or isinstance(error, GeneratorExit):
            raise
        return Health(healthy=False, status=describe(error))


class Endpoint(msgspec.Struct, frozen=True):
    """The address of the health endpoint; without a port there is none.

    Unless the port `is_fixed`, another one is used when it is taken.
    """

    port: int | None = DEFAULT_HEALTH_PORT
    host: str = DEFAULT_HEALTH_HOST
    is_fixed: bool = False

    def of(self, environment: Environment) -> "Endpoint":
        """Return the endpoint in an environment, whose values take precedence."""
        given = environment.health_port
        host = self.host if environment.health_host is None else environment.health_host
        if isinstance(given, msgspec.UnsetType):
            return Endpoint(self.port, host, self.is_fixed)
        return Endpoint(given, host, is_fixed=True)

    @property
    def ports(self) -> range:
        """The ports to try, the preferred one first."""
        first = self.port or 0
        return range(first, min(first + (1 if self.is_fixed else _PORTS_TO_TRY), 65536))


@asynccontextmanager
async def health_endpoint(endpoint: Endpoint, report: Report) -> AsyncIterator[None]:
    """Answer every request with the report: 200 if all is healthy, else 500.

    If no port is available, that is logged, and the pack continues without an endpoint.
    """
    server = None if endpoint.port is None else await _listen(endpoint, report)
    kept = [] if server is None else [PrivateSocket(each) for each in server.sockets]
    try:
        yield
    finally:
        if server is not None:
            server.close()
        kept.clear()


async def _listen(endpoint: Endpoint, report: Report) -> asyncio.Server | None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                await _answer(reader, writer, report)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()

    fault: Exception | None = None
    for port in endpoint.ports:
        try:
            server = await asyncio.start_server(serve, endpoint.host, port)
        except (OSError, UnicodeError) as error:
            fault = fault or error
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                break
        else:
            _log_place(endpoint, port)
            return server
    LOGGER.warning(
        "no health endpoint on port %s of %s: %s; continuing without",
        endpoint.port,
        endpoint.host,
        fault,
    )
    return None


def _log_place(endpoint: Endpoint, port: int) -> None:
    place = f"http://{f'[{endpoint.host}]' if ':' in endpoint.host else endpoint.host}:{port}/"
    if port == endpoint.port:
        LOGGER.info("health is at %s", place)
    else:
        LOGGER.warning(
            "port %s is in use, so health is at %s; FLYTE_PACK_HEALTH_PORT sets another port, or"
            " off",
            endpoint.port,
            place,
        )


async def _reported(report: Report) -> dict[str, Health]:
    try:
        return await report()
    except Exception as error:  # any response is better than none: probes would wait for it
        LOGGER.exception("health cannot be reported")
        return {
            DEFAULT_CHECK: Health(
                healthy=False, status=f"health cannot be reported: {describe(error)}"
            )
        }


def _sendable_health(health: Health) -> Health:
    return Health(healthy=health.healthy, status=_sendable(health.status))


def _sendable(text: str) -> str:
    """Return a text that can be encoded.

    A lone surrogate in an error's text must not hold back the report.
    """
    return text.encode("utf-8", "backslashreplace").decode()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Report
) -> None:
    connection = h11.Connection(h11.SERVER)
    while not isinstance(event := connection.next_event(), h11.Request):
        if event is not h11.NEED_DATA:
            return
        connection.receive_data(await reader.read(_READ_SIZE))
    health = await _reported(report)
    body = msgspec.json.encode(
        {_sendable(name): _sendable_health(each) for name, each in health.items()}
    )
    status = 200 if all(check.healthy for check in health.values()) else 500
    headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    for part in (
        h11.Response(status_code=status, headers=headers),
        h11.Data(data=b"" if event.method == b"HEAD" else body),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(part) or b"")
    await writer.drain()
