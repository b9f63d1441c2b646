"""A server under test: killed, frozen, starved of disk, and given a wrong clock."""

import asyncio
import itertools
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TRACEBACK = "Traceback (most recent call last)"

MAX_SHOWN = 5


class ServerProcess:
    """A server that is restarted on the same port and store after every kill.

    Without a `store` it has one in a file in the folder. `settings` are passed in its environment
    from the next start on. A `wrapper` is a command that runs it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        store: str | None,
        bug: str | None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._store = store or f"sqlite:///{folder / 'flyte.db'}"
        self._name = name
        self._clock = folder / f"{name}.clock"
        self.set_clock(0)
        self._log_path = folder / f"{name}.log"
        self._log = self._log_path.open("ab")
        self._process: asyncio.subprocess.Process | None = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.settings: Mapping[str, str] = {}
        self._bug = bug
        self._wrapper = wrapper

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    async def start(self) -> None:
        """Start the server.

        The socket is ours, so clients that connect while the server is down wait instead of being
        refused.
        """
        fd = self.listener.fileno()
        subject = [
            sys.executable,
            "-m",
            "flyteops_chaos.subject",
            str(self._clock),
            self._bug or "none",
        ]
        arguments = ["serve", "--fd", str(fd), "--store", self._store, "--log-level", "warning"]
        # The settings of the caller are for a server of theirs: with auth on, for example, no
        # client here would be admitted.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FLYTE_")
        }
        self._process = await asyncio.create_subprocess_exec(
            *self._wrapper,
            *subject,
            *arguments,
            env={**environment, **self.settings},
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
        """Suspend the server for a while."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def fill_disk(self, seconds: float) -> None:
        """Let the server write no file beyond the current size of its files, for a while.

        It is up by then: one that starts on a full disk reports that and ends, as it should.
        """
        await self.wait_until_up()
        pid = self._running().pid
        sizes = [path.stat().st_size for path in self._folder.glob("flyte.db*")]
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (max(sizes, default=0) + 4096, resource.RLIM_INFINITY)
        )
        await asyncio.sleep(seconds)
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )

    async def wait_until_up(self) -> None:
        """Return when the server responds."""
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        writer.write(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        writer.close()

    def set_clock(self, seconds: float) -> None:
        """Set the error of the server's clock."""
        self.clock_offset = seconds
        # In one step: the server reads the file at any time.
        written = self._clock.with_suffix(".new")
        written.write_text(str(seconds))
        written.replace(self._clock)

    def complaints(self) -> list[str]:
        """Return the faults in the server's log: the last lines of tracebacks."""
        lines = self._log_path.read_text(errors="replace").splitlines()
        begins = [number for number, line in enumerate(lines) if TRACEBACK in line]
        return [
            f"{self._name} logged a traceback after {lines[max(begin - 1, 0)]!r}:"
            f" {_last_line(lines[begin:])}"
            for begin in begins[:MAX_SHOWN]
        ]

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            tail = self._log_path.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server ended by itself; its last words:\n{tail}")
        return self._process

    async def end(self) -> int:
        """Stop the server in good order, as soon as it is up; return its exit code."""
        await self.wait_until_up()
        process = self._running()
        process.terminate()
        code = await process.wait()
        self._process = None
        return code

    def close(self) -> None:
        """Release all resources."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
        self.listener.close()
        self._log.close()


def _last_line(traceback: Sequence[str]) -> str:
    """Return the line that names the exception.

    It is the last one with the log's indentation of tracebacks.
    """
    margin = traceback[0][: len(traceback[0]) - len(traceback[0].lstrip())]
    of_it = list(itertools.takewhile(lambda line: line.startswith(f"{margin} "), traceback[1:]))
    return "".join(traceback[1 + len(of_it) : 2 + len(of_it)]).strip()[:300]
