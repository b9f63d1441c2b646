"""Retries: their delays, and concise log lines about them."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeVar

import msgspec

from flyteops.errors import BusyError, FlyteError, UnavailableError

T = TypeVar("T")

MAX_RETRY_AFTER = 300.0

MAX_DESCRIPTION_LENGTH = 10_000

_DEEPEST_GROUP = 5
_MAX_CAUSES = 20


class RetryLaterError(BusyError):
    """The server asks to try again later."""

    def __init__(self, message: str | None = None, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Backoff(msgspec.Struct, frozen=True):
    """The delay after a number of failures: exponential, bounded, and different for each caller."""

    first: float = 0.5
    factor: float = 2.0
    limit: float = 30.0

    def delay(self, failures: int, jitter: float) -> float:
        """Return seconds, between half of the exponential step and all of it.

        `jitter` is from 0 to 1.
        """
        step = min(self.limit, self.first * self.factor ** min(failures - 1, 64))
        return step * (0.5 + jitter / 2)


def describe(error: BaseException) -> str:
    """Describe an error in a line: our own errors by their message, others also by their name.

    A group names its causes. This never raises, and the text has a limit.
    """
    return shorten(_describe(error, _DEEPEST_GROUP))


def sole_cause(error: BaseException) -> BaseException:
    """Return the error in a group of one, as raised by a `TaskGroup`.

    Any other error is its own cause.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def shorten(text: str) -> str:
    """Return a text within the length limit of logs and responses."""
    if len(text) <= MAX_DESCRIPTION_LENGTH:
        return text
    note = f" [cut: {len(text)} characters]"
    return text[: MAX_DESCRIPTION_LENGTH - len(note)] + note


def _describe(error: BaseException, depth: int) -> str:
    text = (
        _text(error) if isinstance(error, FlyteError) else f"{type(error).__name__}: {_text(error)}"
    )
    if not isinstance(error, BaseExceptionGroup) or not depth:
        return text
    causes = [_describe(each, depth - 1) for each in error.exceptions[:_MAX_CAUSES]]
    more = len(error.exceptions) - len(causes)
    return f"{text}: {'; '.join(causes)}{f'; and {more} more' if more else ''}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as fault:  # noqa: BLE001 - third-party code, which may do anything
        return f"(its text cannot be read: {type(fault).__name__})"


def being_cancelled() -> bool:
    """Return whether the current task is being cancelled.

    Otherwise, a `CancelledError` comes from a library inside the task.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the event loop has ended
        return True
    return task is not None and task.cancelling() > 0


def forget_cancellation() -> None:
    """Let the current task go on after it was cancelled by its own code."""
    task = asyncio.current_task()
    while task is not None and task.uncancel() > 0:
        pass


def has_running_loop() -> bool:
    """Return whether an event loop runs here: if not, coroutines are only being closed."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class FailureLog:
    """Log once that a call began to fail, and once that it works again."""

    def __init__(self, what: str, logger: logging.Logger) -> None:
        self.what = what
        self.reason: str | None = None
        self._failures = 0
        self._logger = logger

    def failed(self, error: BaseException) -> None:
        """Count a failure that will be retried."""
        self._failures += 1
        if self.reason is None:
            trace = None if isinstance(error, FlyteError) else error
            text = describe(error).removesuffix(".")
            self._logger.warning(
                "%s failed: %s; retrying until it succeeds", self.what, text, exc_info=trace
            )
        else:
            self._logger.debug("%s failed again: %s", self.what, describe(error))
        self.reason = describe(error)

    def recovered(self) -> None:
        """Record a success, or the end of the retries."""
        if self.reason is not None:
            self._logger.info("%s works again after %d failed attempts", self.what, self._failures)
        self.reset()

    def reset(self) -> None:
        """Forget the failures without recording a success."""
        self.reason = None
        self._failures = 0


async def retry_call(  # noqa: PLR0913 - options, by keyword
    call: Callable[[], Awaitable[T]],
    *,
    pause: Callable[[float], Awaitable[None]],
    attempts: int | None = None,
    backoff: Backoff = Backoff(),  # noqa: B008 - frozen, so it may be shared
    outage: FailureLog | None = None,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Call until it no longer raises `UnavailableError`, or `attempts` are used up.

    Every other error is final. The call may take effect more than once: a response can be lost
    after the work was done.
    """
    for failures in count(1):
        try:
            result = await _uncancelled(call)
        except UnavailableError as error:
            if outage is not None:
                outage.failed(error)
            if failures == attempts:
                raise
            delay = backoff.delay(failures, jitter())
            if isinstance(error, RetryLaterError):
                delay = max(delay, min(error.retry_after, MAX_RETRY_AFTER))
            await pause(delay)
        else:
            if outage is not None:
                outage.recovered()
            return result
    raise AssertionError  # pragma: no cover - count() has no end


async def _uncancelled(call: Callable[[], Awaitable[T]]) -> T:
    """Call; a library inside that cancels itself without a request has failed."""
    try:
        return await call()
    except asyncio.CancelledError as error:
        if being_cancelled():
            raise
        raise UnavailableError("it was cancelled by its own code") from error


def retry_after(text: str) -> float:
    """Return the seconds in a `Retry-After` header, given as seconds or as a date; 0 if invalid."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
