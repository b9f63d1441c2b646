"""Plain functions of pack authors, run in threads of their own so as not to block the pack."""

import asyncio
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from flyteops.sdk.fork import end_if_forked
from flyteops.sdk.function import is_async

T = TypeVar("T")

_threads: ContextVar["Threads"] = ContextVar("threads")
_call: ContextVar["_Call"] = ContextVar("call")
_begun: ContextVar["list[Future[Any]]"] = ContextVar("begun")


class Threads:
    """A bounded number of threads, which `in_thread` uses from now on until they are closed.

    They are separate from those of the event loop, which resolves host names in them: functions
    that block must not delay heartbeats. Nor do they keep a process that ends.
    """

    def __init__(self, most: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(most)
        self._token = _threads.set(self)

    def close(self) -> None:
        """Start no more functions; running ones continue until they end."""
        _threads.reset(self._token)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function when a thread is free.

        The thread is busy until the function ends, even if its result is not awaited any more.
        """
        await self._free.acquire()
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()
        outcome.add_done_callback(self._release)
        _begun.get([]).append(outcome)
        threading.Thread(
            target=_run, args=(function, outcome), name="flyte-pack", daemon=True
        ).start()
        return await asyncio.wrap_future(outcome)

    def _release(self, _: Future[Any]) -> None:
        with suppress(RuntimeError):  # the event loop has ended, and no thread is awaited any more
            self.loop.call_soon_threadsafe(self._free.release)


class ThreadCalls:
    """The functions that were started in threads by one command.

    They may continue when they are not awaited any more.
    """

    def __init__(self) -> None:
        self._begun: list[Future[Any]] = []

    def collect(self) -> None:
        """Collect calls in the current context from now on."""
        _begun.set(self._begun)

    @property
    def are_over(self) -> bool:
        """Whether none of them runs."""
        return all(each.done() for each in self._begun)

    async def settle(self) -> None:
        """Wait until none of them runs."""
        ends = {asyncio.wrap_future(each) for each in self._begun if not each.done()}
        if ends:
            for end in (await asyncio.wait(ends))[0]:
                end.exception()  # it has been reported, or its result is not awaited any more


def _run(function: Callable[[], T], outcome: Future[T]) -> None:
    process = os.getpid()
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - the waiting caller decides
        end_if_forked(process, failed=True)
        outcome.set_exception(_portable(error))
    else:
        end_if_forked(process, failed=False)
        outcome.set_result(result)


def _portable(error: BaseException) -> BaseException:
    """Return an error that can be raised in the awaiting caller.

    The errors of generators have another meaning there.
    """
    if isinstance(error, StopIteration | GeneratorExit):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def asynchronous(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return a function that can be awaited: the same, or one that runs it in a thread.

    The result of the thread is awaited if possible, so a plain decorator around an `async def`
    works.
    """
    if is_async(function):
        return function

    async def run(*args: Any, **named: Any) -> object:
        result = await in_thread(functools.partial(function, *args, **named))
        return await result if inspect.isawaitable(result) else result

    return run


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of the running pack.

    After a cancellation, the function continues, but its result is ignored.
    """
    call, context = _Call(), copy_context()
    context.run(_call.set, call)
    try:
        return await _threads.get().run(lambda: context.run(function))
    except asyncio.CancelledError:
        call.break_off()
        raise


def is_called() -> bool:
    """Return whether this is a thread that the pack began."""
    return _call.get(None) is not None


def is_broken_off() -> bool:
    """Return whether the function that runs in this thread was cancelled."""
    call = _call.get(None)
    return call is not None and call.is_broken_off


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Wait in a function that runs in a thread for work in the event loop.

    Raise `CancelledError` once the function was cancelled.
    """
    call = _call.get(None)
    if call is None:
        work.close()
        message = (
            "wait_for works in plain functions of a running pack only, and in threads; elsewhere"
            " use await"
        )
        raise RuntimeError(message)
    return call.wait_for(work, _threads.get().loop)


class _Call:
    """A function that runs in a thread."""

    def __init__(self) -> None:
        self._is_broken_off = False
        self._awaited: set[Future[Any]] = set()
        self._lock = threading.Lock()

    @property
    def is_broken_off(self) -> bool:
        return self._is_broken_off

    def break_off(self) -> None:
        """End the waits of the function, now and later."""
        with self._lock:
            self._is_broken_off = True
            awaited = list(self._awaited)
        for each in awaited:
            each.cancel()

    def wait_for(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
        with self._lock:
            if self._is_broken_off:
                work.close()
                raise asyncio.CancelledError
            awaited = asyncio.run_coroutine_threadsafe(work, loop)
            self._awaited.add(awaited)
        try:
            return awaited.result()
        except CancelledError as error:
            raise asyncio.CancelledError from error
        finally:
            with self._lock:
                self._awaited.discard(awaited)
