"""Packs that fork: their children get neither their commands nor their signals."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from flyteops.sdk import Event

from .test_sdk_process import Loopback, free_port, printed, program, result, server, until_logged

__all__ = ["server"]

pytestmark = pytest.mark.slow

PACK = """
import multiprocessing, os, signal, subprocess, sys
from flyteops.sdk import Event, Pack

pack = Pack("Parent", poll_interval=0.05)
done = pack.event("Done")
fork = multiprocessing.get_context("fork")
kept = []
REST = "import os, signal; print(os.getpid(), flush=True); os.close(1); os.close(2); signal.pause()"

def rest():
    print(os.getpid(), flush=True)
    os.close(1)
    os.close(2)
    signal.pause()

def child_of_fork():
    if not os.fork():
        rest()

def child_of_multiprocessing():
    kept.append(fork.Process(target=rest))
    kept[-1].start()

def worker_of_a_pool():
    kept.append(fork.Pool(1))
    kept[-1].apply_async(rest)

def program_with_open_descriptors():
    kept.append(subprocess.Popen([sys.executable, "-c", REST], close_fds=False))

@pack.command(events=[done])
async def begin(how: str) -> Event:
    globals()[how]()
    return done()

@pack.command(events=[done])
def begin_in_thread(how: str) -> Event:
    globals()[how]()
    return done()

@pack.command(events=[done])
def end_child(number: int) -> Event:
    child = fork.Process(target=signal.pause)
    child.start()
    os.kill(child.pid, number)
    child.join(10)
    return done(child.exitcode)

@pack.command(events=[done])
async def forget_to_end() -> Event:
    return done("child" if not os.fork() else "parent")

@pack.command(events=[done])
def forget_to_end_in_thread() -> Event:
    return done("child" if not os.fork() else "parent")

@pack.command(events=[done])
async def answer() -> Event:
    return done(os.getpid())

pack.run()
"""

WAYS = [
    "child_of_fork",
    "child_of_multiprocessing",
    "worker_of_a_pool",
    "program_with_open_descriptors",
]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "parent.py"
    path.write_text(PACK)
    return path


@pytest.fixture
async def children() -> AsyncIterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def begin_child(server: Loopback, process: Process, command: str, way: str) -> int:
    outcome = asyncio.create_task(result(server, command, way))
    pid = int(await printed(process))
    assert await outcome == Event("Done")
    # Until it waits for more work.
    while sum(call.endswith("/take") for call in server.fake.requests) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return pid


@pytest.mark.parametrize("command", ["Begin", "BeginInThread"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_child_that_outlives_a_killed_pack_gets_no_command(
    server: Loopback, parent: Path, children: list[int], command: str, way: str
) -> None:
    async with program(parent, api=server.url) as process:
        children.append(await begin_child(server, process, command, way))
        process.kill()
        await process.wait()
        async with program(parent, api=server.url) as other:
            await server.fake.until(lambda: len(server.fake.registrations) == 2)
            assert await asyncio.wait_for(result(server, "Answer"), 10) == Event("Done", other.pid)


async def until_closed(port: str) -> None:
    """Return once nothing listens on a port of this computer."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
        except OSError:
            return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", WAYS[:2])
async def test_a_child_does_not_keep_a_stopped_pack_connected(
    server: Loopback, parent: Path, children: list[int], way: str
) -> None:
    port = str(free_port())
    async with program(parent, api=server.url, FLYTE_PACK_HEALTH_PORT=port) as process:
        children.append(await begin_child(server, process, "Begin", way))
        process.send_signal(signal.SIGTERM)
        if way == "child_of_multiprocessing":  # multiprocessing waits for its children at exit
            await until_logged(process, "SIGTERM")
            await asyncio.wait_for(until_closed(port), 10)
        else:
            assert await process.wait() == 0
        async with (
            program(parent, api=server.url, FLYTE_PACK_HEALTH_PORT=port) as other,
            httpx2.AsyncClient() as http,
        ):
            await server.fake.until(lambda: len(server.fake.registrations) == 2)
            assert await asyncio.wait_for(result(server, "Answer"), 10) == Event("Done", other.pid)
            assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_for_a_child_ends_the_child_and_not_the_pack(
    server: Loopback, parent: Path, number: int
) -> None:
    async with program(parent, api=server.url) as process:
        ended = await result(server, "EndChild", int(number))
        # 1 is that of a KeyboardInterrupt.
        assert ended.payload in ({-number} if number == signal.SIGTERM else {-number, 1})
        assert await asyncio.wait_for(result(server, "Answer"), 10) == Event("Done", process.pid)


@pytest.mark.parametrize("command", ["ForgetToEnd", "ForgetToEndInThread"])
async def test_a_child_that_returns_from_a_command_does_not_become_a_second_pack(
    server: Loopback, parent: Path, command: str
) -> None:
    async with program(parent, api=server.url) as process:
        assert await result(server, command) == Event("Done", "parent")
        for _ in range(3):
            assert await result(server, "Answer") == Event("Done", process.pid)
        assert len(server.fake.registrations) == 1
