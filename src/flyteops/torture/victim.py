"""The server that is mistreated: a process of its own, on a scratch store."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

START_SECONDS = 20.0


class Victim:
    """A server process that is started again on the same port and store whenever it was killed."""

    def __init__(self, folder: Path, chance: Random, *, bug: str | None = None) -> None:
        self._folder = folder
        self._chance = chance
        self._clock = folder / "clock"
        self._clock.write_text("0")
        self._log = (folder / "server.log").open("ab")
        self._process: asyncio.subprocess.Process | None = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._bug = bug
        self.harms = {"kill": 0, "freeze": 0, "disk": 0, "clock": 0}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    async def start(self) -> None:
        """Start the server. The socket is ours, so clients that come while there is none wait instead of being refused."""
        fd = self.listener.fileno()
        store = f"sqlite:///{self._folder / 'flyte.db'}"
        subject = [sys.executable, "-m", "flyteops.cli.subject", str(self._clock), self._bug or "none"]
        arguments = ["serve", "--fd", str(fd), "--store", store, "--log-level", "warning"]
        self._process = await asyncio.create_subprocess_exec(
            *subject, *arguments, pass_fds=[fd], stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )

    async def kill(self) -> None:
        """Kill the server without a warning, and start it again."""
        process = self._running()
        process.kill()
        await process.wait()
        await self.start()

    async def freeze(self) -> None:
        """Stop the server in its tracks for a while."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.2 + 1.5 * self._chance.random())
        process.send_signal(signal.SIGCONT)

    async def fill_disk(self) -> None:
        """Let the server write no file beyond the size that its files have now, for a while."""
        pid = self._running().pid
        sizes = [path.stat().st_size for path in self._folder.glob("flyte.db*")]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(sizes, default=0) + 4096, resource.RLIM_INFINITY))
        await asyncio.sleep(0.2 + self._chance.random())
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def set_clock(self) -> None:
        """Give the server another time, up to three hours off in either direction."""
        self._clock.write_text(str(self._chance.uniform(-10_800, 10_800)))

    async def harm(self) -> None:
        """Do one of these, killing it most often."""
        harms: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self.kill,
            "freeze": self.freeze,
            "disk": self.fill_disk,
            "clock": self.set_clock,
        }
        (chosen,) = self._chance.choices(list(harms), weights=[6, 1, 1, 1])
        self.harms[chosen] += 1
        await harms[chosen]()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            tail = (self._folder / "server.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server ended by itself; its last words:\n{tail}")
        return self._process

    async def end(self) -> int:
        """Stop the server in good order; return its exit code."""
        process = self._running()
        process.terminate()
        code = await process.wait()
        self._process = None
        return code

    def close(self) -> None:
        """Let go of everything."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
        self.listener.close()
        self._log.close()
