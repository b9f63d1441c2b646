"""One attempt at an action, which always ends with an event."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from flyteops.errors import InputError
from flyteops.model import FATAL
from flyteops.retry import describe, shorten
from flyteops.sdk.event import Event, fatal
from flyteops.sdk.fork import end_if_forked
from flyteops.sdk.progress import ProgressSender, current_progress
from flyteops.sdk.thread import ThreadCalls

LOGGER = logging.getLogger("flyte.pack")


class CommandExecution:
    """Run the handler of a command in a task of its own, which can be abandoned if it does not end.

    An `earlier` attempt at the same action in this process is awaited first: two of them never run
    at once. If it returned an event, too late for its attempt, that is the event of this attempt,
    too, unless the action was given back.
    """

    def __init__(
        self,
        command: str,
        work: Callable[[], Awaitable[Event]],
        progress: ProgressSender,
        earlier: "CommandExecution | None" = None,
    ) -> None:
        self.command = command
        self.is_settled = False  # whether its result came in time
        # Whether others may have the action: its event is not the result then.
        self.is_given_back = False
        self._work = work
        self._progress = progress
        self._earlier = earlier
        self._calls = ThreadCalls()
        self._broken_off: str | None = None
        self._is_abandoned = False
        self._returned: Event | None = None
        self._outcome: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"the command {command}")
        self._task.add_done_callback(self._ended)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more, neither the handler nor one of its threads."""
        return self._task.done() and self._calls.are_over

    def runs_in(self, task: asyncio.Task[Any]) -> bool:
        """Return whether this is the task of the handler."""
        return task is self._task

    async def outcome(self) -> Event:
        """Wait for the event; if the caller is cancelled, so is the handler."""
        try:
            return await self._outcome
        except asyncio.CancelledError:
            self._is_abandoned = True
            self._task.cancel()
            raise

    def break_off(self, reason: str, *, within: float | None = None) -> None:
        """Cancel the handler.

        It ends with FATAL and the reason, unless it still returns an event of its own.

        If it continues for more than `within` seconds, it is abandoned.
        """
        if self._task.done() or self._broken_off is not None:
            return
        self._broken_off = reason
        self._task.cancel()
        if within is not None:
            self._task.get_loop().call_later(within, self._give_up)

    def _give_up(self) -> None:
        if not self._outcome.done():
            LOGGER.warning(
                "%s continues although it was cancelled; its result is FATAL: %s",
                self.command,
                self._broken_off,
            )
            self._outcome.set_result(failure_event(self._broken_off or ""))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        # For example a GeneratorExit of an awaited generator: no `except` in between catches it.
        if error is not None:
            LOGGER.error("%s failed", self.command, exc_info=error)
        if self._outcome.done():
            return
        if error is not None:
            self._outcome.set_result(failure_event(describe(error)))
        elif self._is_abandoned:
            self._outcome.cancel()
        else:  # it was cancelled by its own code, after its end
            self._outcome.set_result(self._returned or failure_event(self._self_cancelled))

    async def _settled(self) -> Event | None:
        """Wait until nothing of it runs any more.

        Return the event that the handler itself returned.
        """
        await asyncio.wait({self._task})
        await self._calls.settle()
        return None if self.is_given_back else self._returned

    async def _run(self) -> None:
        current_progress.set(self._progress)
        self._calls.collect()
        event = await self._answer()
        await self._progress.finish()
        if not self._outcome.done():
            self._outcome.set_result(event)

    async def _answer(self) -> Event:
        """Return the event of the handler; any failure becomes FATAL."""
        process = os.getpid()
        try:
            self._returned = await self._find_event()
        except InputError as error:
            event = failure_event(describe(error))
            LOGGER.warning("%s failed: %s", self.command, event.payload)
        except BaseException as error:  # third-party code, which may raise anything
            end_if_forked(process, failed=True)
            if self._is_ending(error):
                raise
            event = self._failure(error)
        else:
            event = self._returned
        end_if_forked(process, failed=event.name == FATAL)
        return event

    async def _find_event(self) -> Event:
        if self._earlier is not None:
            if not self._earlier.is_over:
                LOGGER.warning(
                    "%s was handed out again while an earlier attempt still runs in this pack;"
                    " waiting for its end",
                    self.command,
                )
            event = await self._earlier._settled()  # noqa: SLF001 - another of this class
            self._earlier = None
            if event is not None:
                return event
        return await self._work()

    def _is_ending(self, error: BaseException) -> bool:
        """Return whether the whole pack is ending, and not just the command.

        Its tasks are then cancelled, or discarded.
        """
        if isinstance(error, Exception):
            return False
        # A cancellation of the task alone may come from the command's own code.
        return _current_task() is not self._task or self._is_abandoned

    @property
    def _self_cancelled(self) -> str:
        return f"{self.command} was cancelled by itself"

    def _failure(self, error: BaseException) -> Event:
        if not isinstance(error, asyncio.CancelledError):
            LOGGER.error("%s failed", self.command, exc_info=error)
            return failure_event(describe(error))
        if self._broken_off is None:
            return failure_event(self._self_cancelled)
        LOGGER.warning("%s was cancelled: %s", self.command, self._broken_off)
        return failure_event(self._broken_off)


def failure_event(text: str) -> Event:
    """Return the event of a failed command; any text can be sent."""
    return fatal(shorten(text).encode("utf-8", "backslashreplace").decode())


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # the event loop has ended
        return None
