"""Work that is completed even if its caller goes away meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class PendingWork:
    """The tasks of a store that are under way, independent of their callers."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start work as a task of its own."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, as the caller may be gone

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work that goes on when the caller is cancelled."""
        return await asyncio.shield(self.start(work))

    async def wait(self) -> None:
        """Wait for all tasks to end."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
