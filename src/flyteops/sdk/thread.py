"""Plain functions of pack authors run in threads of their own, so that they hold up nothing else."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_threads: ContextVar["Threads"] = ContextVar("threads")
_broken_off: ContextVar[threading.Event] = ContextVar("broken_off")


class Threads:
    """A bounded number of threads, which `in_thread` uses from now on until they are closed.

    They are not those of the event loop, which looks up names in them: functions that block must not keep heartbeats waiting.
    Nor do they keep a process that ends.
    """

    def __init__(self, most: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._free = asyncio.Semaphore(most)
        self._token = _threads.set(self)

    def close(self) -> None:
        """Begin nothing more; what runs goes on until it ends."""
        _threads.reset(self._token)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function when a thread is free; it is busy until the function ends, whether or not somebody waits for that."""
        await self._free.acquire()
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()
        outcome.add_done_callback(self._release)
        threading.Thread(target=_run, args=(function, outcome), name="flyte-pack", daemon=True).start()
        return await asyncio.wrap_future(outcome)

    def _release(self, _: Future[Any]) -> None:
        with suppress(RuntimeError):  # the event loop has ended, and nobody waits for a thread any more
            self.loop.call_soon_threadsafe(self._free.release)


def _run(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(function())
    except StopIteration as error:  # nobody who waits can be told of it as it is
        outcome.set_exception(RuntimeError(f"StopIteration: {error}"))
    except BaseException as error:  # whoever waits decides
        outcome.set_exception(error)


def asynchronous(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return a function that can be awaited: the same, or one that runs it in a thread."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        return function

    @functools.wraps(function)
    async def run(*args: Any, **named: Any) -> Any:
        return await in_thread(functools.partial(function, *args, **named))

    return run


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of the running pack; when that is broken off, the function goes on, but nobody listens."""
    threads, broken_off, context = _threads.get(), threading.Event(), copy_context()
    context.run(_broken_off.set, broken_off)
    try:
        return await threads.run(lambda: context.run(function))
    except asyncio.CancelledError:
        broken_off.set()
        raise


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Wait in a function that runs in a thread for what the event loop does; raise `CancelledError` once it was broken off."""
    broken_off = _broken_off.get(None)
    if broken_off is None:
        work.close()
        message = "wait_for works in plain functions of a running pack only; elsewhere use await"
        raise RuntimeError(message)
    if broken_off.is_set():
        work.close()
        raise asyncio.CancelledError
    return asyncio.run_coroutine_threadsafe(work, _threads.get().loop).result()
