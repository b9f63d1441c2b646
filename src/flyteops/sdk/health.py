"""The health endpoint of a running pack."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import h11
import msgspec

from flyteops.sdk.retry import describe

LOGGER = logging.getLogger("flyte.pack")

DEFAULT_HEALTH_PORT = 8090

_REQUEST_TIMEOUT = 5.0
_READ_SIZE = 65536


class Health(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    healthy: bool
    status: str


Report = Callable[[], Awaitable[dict[str, Health]]]


async def run_checks(checks: Mapping[str, Callable[[], Awaitable[str]]], within: float) -> dict[str, Health]:
    """Run the checks of a pack side by side, each for so many seconds at most."""
    outcomes = await asyncio.gather(*(_run_check(check, within) for check in checks.values()))
    return dict(zip(checks, outcomes, strict=True))


async def _run_check(check: Callable[[], Awaitable[str]], within: float) -> Health:
    try:
        async with asyncio.timeout(within):
            return Health(healthy=True, status=await check() or "OK")
    except Exception as error:  # code of others
        return Health(healthy=False, status=describe(error))


@asynccontextmanager
async def health_endpoint(port: int | None, report: Report) -> AsyncIterator[None]:
    """Answer every request on `port` with the report: 200 if all is healthy, else 500.

    Without a port nothing is served. A port that cannot be had is logged, and the pack goes on without.
    """
    server = None if port is None else await _listen(port, report)
    try:
        yield
    finally:
        if server is not None:
            server.close()


async def _listen(port: int, report: Report) -> asyncio.Server | None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                await _answer(reader, writer, report)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()

    try:
        return await asyncio.start_server(serve, None, port)
    except OSError as error:
        LOGGER.warning("no health endpoint on port %d: %s; the pack goes on without", port, error)
        return None


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Report) -> None:
    connection = h11.Connection(h11.SERVER)
    while not isinstance(event := connection.next_event(), h11.Request):
        if event is not h11.NEED_DATA:
            return
        connection.receive_data(await reader.read(_READ_SIZE))
    health = await report()
    body = msgspec.json.encode(health)
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
