"""The servers that are mistreated: processes of their own, on a scratch store."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

CLOCKS_APART = 2.0
"""How many seconds the clocks of servers on one store may be off by; that is what servers put up with."""

LONG_AGO = 10_800.0
"""The same for a server that is alone, where it may be anything."""


class Victim:
    """A server process that is started again on the same port and store whenever it was killed.

    Without a `store` it has one in a file in the folder.
    """

    def __init__(self, folder: Path, name: str, *, store: str | None, bug: str | None) -> None:
        self._folder = folder
        self._store = store or f"sqlite:///{folder / 'flyte.db'}"
        self._clock = folder / f"{name}.clock"
        self._clock.write_text("0")
        self._log_path = folder / f"{name}.log"
        self._log = self._log_path.open("ab")
        self._process: asyncio.subprocess.Process | None = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._bug = bug

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    async def start(self) -> None:
        """Start the server. The socket is ours, so clients that come while there is none wait instead of being refused."""
        fd = self.listener.fileno()
        subject = [sys.executable, "-m", "flyteops.cli.subject", str(self._clock), self._bug or "none"]
        arguments = ["serve", "--fd", str(fd), "--store", self._store, "--log-level", "warning"]
        # The settings of who runs this are for a server of theirs: with auth on, say, nobody here would be let in.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLYTE_")}
        self._process = await asyncio.create_subprocess_exec(
            *subject,
            *arguments,
            env=environment,
            pass_fds=[fd],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    async def kill(self) -> None:
        """Kill the server without a warning."""
        process = self._running()
        process.kill()
        await process.wait()

    async def freeze(self, seconds: float) -> None:
        """Stop the server in its tracks for a while."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def fill_disk(self, seconds: float) -> None:
        """Let the server write no file beyond the size that its files have now, for a while.

        It is up by then: one that begins on a full disk says so and ends, as it should.
        """
        await self._answer()
        pid = self._running().pid
        sizes = [path.stat().st_size for path in self._folder.glob("flyte.db*")]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(sizes, default=0) + 4096, resource.RLIM_INFINITY))
        await asyncio.sleep(seconds)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def _answer(self) -> None:
        """Return when the server answers."""
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        writer.write(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        writer.close()

    def set_clock(self, seconds: float) -> None:
        """Give the server a time that is off by that much."""
        self._clock.write_text(str(seconds))

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            tail = self._log_path.read_text(errors="replace")[-2000:]
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


class Harm:
    """What is done to the servers, by chance, and how often it was."""

    def __init__(self, victims: Sequence[Victim], chance: Random, *, is_shared: bool) -> None:
        self._victims = victims
        self._chance = chance
        self._most_off = CLOCKS_APART if is_shared else LONG_AGO
        self._harms: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill": (6, self._kill),
            "freeze": (1, self._freeze),
            "clock": (1, self._set_clock),
        }
        if not is_shared:
            self._harms["disk"] = (1, self._fill_disk)
        self.done = dict.fromkeys(self._harms, 0)

    async def do(self) -> None:
        """Do one of these, killing most often."""
        (chosen,) = self._chance.choices(list(self._harms), weights=[weight for weight, _ in self._harms.values()])
        self.done[chosen] += 1
        await self._harms[chosen][1]()

    async def _kill(self) -> None:
        """Kill two of them, but not the last, or the one that there is; and start them again."""
        victims = self._chance.sample(self._victims, min(2, max(1, len(self._victims) - 1)))
        await asyncio.gather(*(victim.kill() for victim in victims))
        await asyncio.gather(*(victim.start() for victim in victims))

    async def _freeze(self) -> None:
        await self._chance.choice(self._victims).freeze(0.2 + 1.5 * self._chance.random())

    async def _fill_disk(self) -> None:
        await self._chance.choice(self._victims).fill_disk(0.2 + self._chance.random())

    async def _set_clock(self) -> None:
        self._chance.choice(self._victims).set_clock(self._chance.uniform(-self._most_off, self._most_off))
