"""A watchdog thread for the event loop of a pack."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flyteops.errors import FlyteError
from flyteops.retry import describe
from flyteops.sdk.client import ClaimedAction, Client

LOGGER = logging.getLogger("flyte.pack")

HINT_AFTER = 1.0
"""The number of seconds without the event loop until the log names the code that blocks it."""

GIVE_UP_AFTER = 15 * 60.0
"""The seconds until a blocked loop counts as dead, so that other instances get its actions."""

_SHOWN_FRAMES = 6
_SDK = Path(__file__).parent


class LoopWatchdog:
    """Report the command that blocks the event loop, and extend its leases meanwhile.

    An `async def` that blocks keeps heartbeats from being sent. Without this its action would count
    as lost although it is in progress, and would be repeated again and again.
    """

    def __init__(
        self,
        client: Client,
        in_hand: Callable[[], Iterable[ClaimedAction]],
        owns: Callable[[asyncio.Task[Any]], bool],
    ) -> None:
        self._client = client
        self._owns = owns
        self._in_flight = in_hand
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()
        self._news = threading.Event()
        self._hinted: set[str] = set()
        run = partial(copy_context().run, self._run)  # the log names the pack by the context
        self._thread = threading.Thread(target=run, name="flyte-pack-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._news.set()

    def look(self) -> None:
        """Watch an action that has just been taken."""
        self._news.set()

    def _run(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            while not self._over.is_set():
                if self._news.wait(self._pause()):
                    self._news.clear()
                    continue
                answered = threading.Event()
                began = time.monotonic()
                self._loop.call_soon_threadsafe(answered.set)
                if not answered.wait(self._pause()):
                    self._block(answered, began)

    def _pause(self) -> float:
        """Return the seconds between checks: two of them leave enough time to keep a lease."""
        leases = [each.lease_seconds for each in self._leased()]
        return min([HINT_AFTER, *(lease / 6 for lease in leases if lease)])

    def _leased(self) -> list[ClaimedAction]:
        return [each for each in list(self._in_flight()) if each.lease_seconds is not None]

    def _block(self, answered: threading.Event, began: float) -> None:
        """Do the urgent work of the loop in its place, until it runs again."""
        name = ""
        with asyncio.Runner() as runner:
            client = self._client.clone()
            while (passed := time.monotonic() - began) < GIVE_UP_AFTER and not self._over.is_set():
                if not name and passed >= HINT_AFTER:
                    name = self._hint(passed)
                if client is not None:
                    runner.run(self._keep(client))
                if answered.wait(self._pause()):
                    break
            if client is not None:
                runner.run(client.close())
        if not answered.is_set() and not self._over.is_set():
            LOGGER.error(
                "%s has blocked the event loop for %g s; the leases of its pack end now",
                name,
                GIVE_UP_AFTER,
            )
            answered.wait()
        if name in self._hinted:
            LOGGER.info("%s blocked the event loop for %.1f s", name, time.monotonic() - began)

    async def _keep(self, client: Client) -> None:
        for action in self._leased():
            try:
                await client.heartbeat(action)
            except FlyteError as error:
                LOGGER.debug("the heartbeat of %s failed: %s", action.command, describe(error))

    def _hint(self, passed: float) -> str:
        """Return the name of the blocking code; the first time, log it with advice.

        Each of several packs in a process reports its own commands, sources and tasks, and code
        without a name of its own.
        """
        task = asyncio.current_task(self._loop)
        name = "something" if task is None else task.get_name()
        is_of_another_pack = (
            task is not None and not name.startswith("Task-") and not self._owns(task)
        )
        if name not in self._hinted and not is_of_another_pack:
            self._hinted.add(name)
            LOGGER.warning(
                "%s has blocked the event loop for %.1f s: meanwhile the pack takes no actions,"
                " sends no results and reports no health. Use `def` instead of `async def`, so that"
                " it runs in a thread, or await the blocking call. It is at:\n%s",
                name,
                passed,
                self._place(),
            )
        return name

    def _place(self) -> str:
        """Return the lines that the loop's thread is executing, except those of the SDK."""
        # There is no other way to see a thread at work.
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001
        frames = [] if frame is None else traceback.extract_stack(frame)
        own = [place for place, each in enumerate(frames) if Path(each.filename).parent == _SDK]
        foreign = frames[own[-1] + 1 if own else 0 :][-_SHOWN_FRAMES:]
        return "".join(traceback.format_list(foreign)).rstrip()
