"""Several server processes on one port: started, replaced when they die, and stopped together."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

from flyteops import __version__
from flyteops.server.logs import reopen
from flyteops.server.signals import ignore_usr2, stop_on_signal
from flyteops.server.socket import address_of
from flyteops.settings import Settings
from flyteops.storage import shown

LOGGER = logging.getLogger("flyte.server")

AT_WORK = b"at work\n"
"""The line that a worker writes to standard output when it listens."""

ALIVE = b"alive\n"
"""The line that a worker writes to standard output regularly, from its event loop.

The same loop answers its requests.
"""

BEAT = 1.0
"""Seconds between two such lines."""

SILENCE = 10.0
"""Seconds without such a line after which a worker is killed and replaced.

It is stopped or hung.
"""

STARTING = 60.0
"""Seconds until the first line, while the interpreter loads its modules."""

MIN_DELAY, MAX_DELAY = 0.5, 30.0
"""Seconds before a worker that died soon is replaced; doubled each time."""

SOON = 10.0

DEADLINE = 15.0
"""Seconds for workers to end once their ports close, longer than the limit of their requests."""


class WorkerGroup:
    """The servers that share a `reserved` port, each a process with the same settings.

    Each holds one end of a pipe as its standard input, which ends when this process does, even if
    it is killed. Another one, its standard output, carries its heartbeats.
    """

    def __init__(
        self, settings: Settings, reserved: socket.socket, environ: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._address = address_of(reserved, settings)
        self._environ = {**environ, "FLYTE_PORT": str(reserved.getsockname()[1])}
        self._processes: set[Process] = set()
        self._heard: set[Process] = set()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal to stop; return the exit code.

        The first worker starts alone, so that an error that prevents the start is reported once;
        its exit code is returned then.
        """
        reactions = {
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen,
            signal.SIGUSR2: ignore_usr2,
        }
        async with stop_on_signal(self._terminate, reactions) as self._stop:
            stopping = asyncio.create_task(self._pass_on())
            first = await self._start()
            if not await self._is_at_work(first) and not self._stop.is_set():
                stopping.cancel()
                return abs(await first.wait())
            keeping = [asyncio.create_task(self._keep(first))]
            if not self._stop.is_set():
                self._announce()
                others = [await self._start() for _ in range(self._settings.workers - 1)]
                keeping += [asyncio.create_task(self._keep(process)) for process in others]
            await stopping
            await self._end(keeping)
        LOGGER.info("stopped, with all workers")
        return 0

    def _announce(self) -> None:
        LOGGER.info(
            "Flyte %s listens on %s with %d workers (process %d); store %s",
            __version__,
            self._address,
            self._settings.workers,
            os.getpid(),
            shown(self._settings.store),
        )

    async def _pass_on(self) -> None:
        await self._stop.wait()
        self._terminate()

    def _terminate(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def _reload(self) -> None:
        LOGGER.info(
            "SIGHUP: %d workers reload their certificates, policies and keys", len(self._heard)
        )
        self._signal(signal.SIGHUP)

    def _reopen(self) -> None:
        reopen()
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        # Others are about to read everything for the first time, and would be ended by the signal.
        for process in self._heard:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _start(self) -> Process:
        """Start a worker in a session of its own, out of reach of the keys of the terminal."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flyteops", "serve", "--worker", "--attached"),
            stdin=PIPE,
            stdout=PIPE,
            env=self._environ,
            start_new_session=True,
        )
        self._processes.add(process)
        if self._stop.is_set():
            self._terminate()
        return process

    async def _keep(self, process: Process) -> None:
        """Replace a worker each time it ends, until the stop."""
        delay = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            code = await self._watch(process)
            self._processes.discard(process)
            self._heard.discard(process)
            if self._stop.is_set():
                return
            delay = (
                MIN_DELAY if clock() - began >= SOON else min(max(2 * delay, MIN_DELAY), MAX_DELAY)
            )
            LOGGER.error(
                "worker (process %d) exited %s; restarting in %g s", process.pid, _how(code), delay
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stop.wait()
            process = await self._start()

    async def _is_at_work(self, process: Process) -> bool:
        """Return True when the worker listens, False if it ended before."""
        while line := await self._hear(process):
            if line == AT_WORK:
                return True
        return False

    async def _watch(self, process: Process) -> int:
        """Return the exit code of a worker once it has ended."""
        while await self._hear(process):
            pass
        return await process.wait()

    async def _hear(self, process: Process) -> bytes:
        """Return the next line of a worker, empty when it ends.

        Kill one that is silent for too long.
        """
        assert process.stdout is not None  # noqa: S101 - it was started so
        clock = asyncio.get_running_loop().time
        limit = SILENCE if process in self._heard else STARTING
        while True:
            began = clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    line = await process.stdout.readline()
                    if line:
                        self._heard.add(process)
                    return line
            # If this process itself was stopped meanwhile, there may be lines that it had no time
            # to read.
            if clock() < began + limit + BEAT:
                LOGGER.error(
                    "worker (process %d) has not responded for %g s; killing it", process.pid, limit
                )
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return b""

    async def _end(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        deadline = self._settings.shutdown_delay.total_seconds() + DEADLINE
        try:
            async with asyncio.timeout(deadline):
                await asyncio.gather(*keeping)
        except TimeoutError:
            LOGGER.error(
                "%d workers did not stop within %g s; killing them", len(self._processes), deadline
            )
            for process in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*(process.wait() for process in self._processes))


async def report_to_parent() -> None:
    """Report to the parent regularly, from a worker and without end, that the event loop runs."""
    os.set_blocking(1, False)
    while True:
        # A parent that does not read for hours must not stop its workers; one that has ended ends
        # them by other means.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(1, ALIVE)
        await asyncio.sleep(BEAT)


def _how(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
