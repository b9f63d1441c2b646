"""Commands that block the event loop of their pack, and where its health is told."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from flyteops.sdk import Event

from .test_sdk_process import Loopback, free_port, program, result, server, until_logged

__all__ = ["server"]

pytestmark = pytest.mark.slow

PACK = """
import time
from flyteops.sdk import Event, Pack

pack = Pack("Blocker", poll_interval=0.05)
done = pack.event("Done", payload=int)
begun = 0

@pack.command(events=[done])
async def block(seconds: float) -> Event:
    global begun
    begun += 1
    time.sleep(seconds)
    return done(begun)

pack.run()
"""


@pytest.fixture
def blocker(tmp_path: Path) -> Path:
    path = tmp_path / "blocker.py"
    path.write_text(PACK)
    return path


async def test_a_command_that_blocks_runs_once_and_the_log_says_who_blocks_and_where(
    server: Loopback, blocker: Path
) -> None:
    async with program(blocker, api=server.url) as process:
        action_id = server.fake.ask("Block", 3.5, timeout=1.5, attempts=3)
        line = await until_logged(process, "has blocked the event loop")
        assert "the command Block has blocked the event loop for" in line
        assert "Use `def` instead of `async def`" in line
        await until_logged(process, f'File "{blocker}", line 13, in block')
        await server.fake.until(lambda: action_id in server.fake.results)
        assert server.fake.results[action_id] == Event("Done", 1)
        assert await result(server, "Block", 0) == Event("Done", 2)


# ------------------------------------------------------------------------------------------- health


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient() as client:
        yield client


async def test_health_is_told_to_this_machine_only_unless_asked(
    server: Loopback, blocker: Path, http: httpx2.AsyncClient
) -> None:
    port = free_port()
    async with program(blocker, api=server.url, FLYTE_PACK_HEALTH_PORT=str(port)) as process:
        await until_logged(process, f"health is at http://127.0.0.1:{port}/")
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code in (200, 500)
        with pytest.raises(httpx2.ConnectError):
            await http.get(f"http://127.0.0.2:{port}/")
    asked = {"FLYTE_PACK_HEALTH_PORT": str(port), "FLYTE_PACK_HEALTH_HOST": "0.0.0.0"}
    async with program(blocker, api=server.url, **asked) as process:
        await until_logged(process, f"health is at http://0.0.0.0:{port}/")
        assert (await http.get(f"http://127.0.0.2:{port}/")).status_code in (200, 500)


async def test_packs_that_are_not_told_a_port_find_one_each(
    server: Loopback, blocker: Path, http: httpx2.AsyncClient
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        places = set()
        for _ in range(3):
            process = await stack.enter_async_context(
                program(blocker, api=server.url, FLYTE_PACK_HEALTH_PORT="")
            )
            line = await until_logged(process, "health is at http://127.0.0.1:")
            places.add(line.partition("health is at ")[2].split("/;")[0].strip().rstrip("/"))
        assert len(places) == 3
        for place in places:
            assert (
                (await http.get(f"{place}/")).headers["Content-Type"].startswith("application/json")
            )


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7", "no-such-host.invalid"])
async def test_a_health_endpoint_that_cannot_be_had_does_not_stop_the_pack(
    server: Loopback, blocker: Path, host: str
) -> None:
    with taken_port() as port:
        variables = {"FLYTE_PACK_HEALTH_PORT": str(port), "FLYTE_PACK_HEALTH_HOST": host}
        async with program(blocker, api=server.url, **variables) as process:
            await until_logged(process, f"no health endpoint on port {port} of {host}")
            assert await asyncio.wait_for(result(server, "Block", 0), 10) == Event("Done", 1)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
