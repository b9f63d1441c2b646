"""Child processes that end with their parent: on request, by force, or when the parent is gone."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from flyteops.errors import FlyteError

GRACE = 5.0
"""Seconds for a child to end before it is killed."""

SHOWN_LINES = 5


class Child(NamedTuple):
    """A process and its log file, to which earlier runs have written."""

    name: str
    process: Process
    log: Path
    log_begin: int


class ChildEndedError(FlyteError):
    """A child process ended by itself; `drawing` is the end of its output."""

    code = "child-ended"

    def __init__(self, child: Child) -> None:
        message = (
            f"the process {child.name} has ended by itself, with exit code"
            f" {child.process.returncode}; {child.log} ends with"
        )
        super().__init__(message)
        self.drawing = tuple(last_lines(child.log, child.log_begin))


class ProcessGroup:
    """The children of this process, stopped one by one in the reverse order of their start.

    Each holds one end of a pipe as its standard input, which ends when this process does, even if
    it is killed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._watches: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[Child] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(
        self,
        name: str,
        args: Sequence[str],
        environ: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start `flyte` with these arguments.

        It runs in a session of its own, so that the keys of the terminal do not reach it.
        """
        log = self._directory / f"{name.lower()}.log"
        with open(log, "ab", opener=_private) as output:  # noqa: ASYNC230 - a local file
            log_begin = output.tell()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flyteops", *args),
                stdin=PIPE,
                stdout=output,
                stderr=output,
                env=environ,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        child = Child(name, process, log, log_begin)
        self._children.append(child)
        self._watches.add(asyncio.create_task(self._note_end(child)))

    async def _note_end(self, child: Child) -> None:
        await child.process.wait()
        self._ended.put_nowait(child)

    async def watch(self) -> None:
        """Wait until a child ends, which is always an error; raise `ChildEndedError`."""
        child = await self._ended.get()
        raise ChildEndedError(child)

    async def stop(self) -> None:
        """Stop every child, the last one first, so that packs can still deliver their results."""
        for watch in self._watches:
            watch.cancel()
        for child in reversed(self._children):
            await _stop(child.process)
        self._children.clear()


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


async def _stop(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def last_lines(log: Path, begin: int) -> list[str]:
    """Return the last lines written to a log after this position."""
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return lines[-SHOWN_LINES:] or ["(it said nothing)"]
