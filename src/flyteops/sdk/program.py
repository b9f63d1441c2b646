"""A pack as a program: signals and exit codes."""

import asyncio
import inspect
import logging
import os
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable

from flyteops.errors import FlyteError
from flyteops.retry import describe

LOGGER = logging.getLogger("flyte.pack")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_THREADS_TIMEOUT = 3.0


class Program:
    """Serve until a signal comes, and return the exit code.

    The first signal sets the event that `serve` gets, the second cancels it, the third has its
    usual effect.
    """

    def __init__(self, name: str, serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self._name = name
        self._serve = serve
        self._broken_off = 0
        self._own_code: int | None = None
        self._stop = asyncio.Event()
        self._exit: threading.Timer | None = None

    def run(self) -> int:
        """Return the exit code.

        It is 0 when stopped as requested, 1 when serving failed, 128 + n when cancelled by signal
        n. A thread of a command that never ends does not keep the process alive. Raise
        `RuntimeError` where signals cannot be received: inside a running event loop, and outside
        the main thread.
        """
        self._check_place()
        try:
            with asyncio.Runner() as runner:
                return self._run_to_the_end(runner.get_loop())
        finally:
            if self._exit is not None:
                self._exit.cancel()

    def _run_to_the_end(self, loop: asyncio.AbstractEventLoop) -> int:
        """Run the loop, also after a SystemExit or KeyboardInterrupt, which ends it at once."""
        running = loop.create_task(self._run(), name=self._name)
        while True:
            try:
                return loop.run_until_complete(running)
            except (SystemExit, KeyboardInterrupt) as error:
                if running.done() or self._broken_off:
                    raise
                self._survive(error)

    def _survive(self, error: SystemExit | KeyboardInterrupt) -> None:
        """Go on after an error of a task, whose result it is; stop in order after any other."""
        if _is_of_task(error):
            LOGGER.warning("%s in a task of %s; the pack goes on", type(error).__name__, self._name)
            return
        LOGGER.error("%s: finishing work in progress", describe(error), exc_info=error)
        code = error.code if isinstance(error, SystemExit) else 128 + signal.SIGINT
        self._own_code = code if isinstance(code, int) else int(code is not None)
        self._stop.set()

    def _check_place(self) -> None:
        instead = "use `await pack.serve(Environment.read(os.environ))`"
        if threading.current_thread() is not threading.main_thread():
            message = (
                f"{self._name} can run as a program in the main thread only; elsewhere {instead} in"
                " an event loop"
            )
            raise RuntimeError(message)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        message = (
            f"{self._name} cannot run as a program inside of a running event loop, such as that of"
            f" a notebook: {instead}"
        )
        raise RuntimeError(message)

    async def _run(self) -> int:
        stop = self._stop
        serving = asyncio.ensure_future(self._serve(stop))
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number, stop, serving)
        await asyncio.wait({serving})
        code = self._code(serving)
        self._exit = threading.Timer(_THREADS_TIMEOUT, os._exit, (code,))
        self._exit.daemon = True
        self._exit.start()
        return code

    def _on_signal(
        self, number: signal.Signals, stop: asyncio.Event, serving: asyncio.Future[None]
    ) -> None:
        if not stop.is_set():
            LOGGER.info("%s: finishing work in progress; a second signal aborts it", number.name)
            stop.set()
            return
        self._broken_off = 128 + number
        serving.cancel()
        for each in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)

    def _code(self, serving: asyncio.Future[None]) -> int:
        if serving.cancelled():
            return self._broken_off or 1
        error = serving.exception()
        if error is None:
            return self._own_code or 0
        trace = None if isinstance(error, FlyteError) else error
        LOGGER.error("%s stopped: %s", self._name, describe(error), exc_info=trace)
        return 1


def _is_of_task(error: BaseException) -> bool:
    """Return whether an error has left a coroutine, so that the awaiting code gets it, too."""
    return any(
        frame.f_code.co_flags & inspect.CO_COROUTINE
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )
