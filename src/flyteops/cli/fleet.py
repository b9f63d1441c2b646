"""Child processes that end with their parent: asked to, by force if need be, and by themselves when the parent is gone."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from flyteops.errors import FlyteError

GRACE = 5.0
"""How many seconds a child has to end before it is killed."""

SHOWN_LINES = 5


class Child(NamedTuple):
    """A process, and where its output goes."""

    name: str
    process: Process
    log: Path


class Fleet:
    """The children of this process. At the end they are stopped in the reverse order of their start, one by one.

    Each holds one end of a pipe as its standard input, which ends when this process does, even if it is killed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self, name: str, args: Sequence[str], environ: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
        """Start `flyte` with these arguments, in a session of its own so that the keys of the terminal do not reach it."""
        log = self._directory / f"{name.lower()}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flyteops", *args),
                stdin=PIPE,
                stdout=output,
                stderr=output,
                env=environ,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self._children.append(Child(name, process, log))

    async def watch(self) -> None:
        """Wait until a child ends, which none should; raise `FlyteError` that tells its last words."""
        waiting = {asyncio.create_task(child.process.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        child = waiting[done.pop()]
        raise FlyteError(f"{child.name} has ended; the end of {child.log}:\n{last_lines(child.log)}")

    async def stop(self) -> None:
        """Stop every child: the packs before the server, so that they can hand in what they have."""
        for child in reversed(self._children):
            await _stop(child.process)
        self._children.clear()


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


def last_lines(log: Path) -> str:
    """Return the end of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:]) or "  (nothing)"
