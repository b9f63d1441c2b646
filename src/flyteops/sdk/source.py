"""Sources of events: pollers and listeners, kept running despite failures."""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec

from flyteops.errors import FlyteError, ForbiddenError, InputError, UnavailableError
from flyteops.retry import (
    Backoff,
    FailureLog,
    describe,
    forget_cancellation,
    has_running_loop,
    shorten,
    sole_cause,
)
from flyteops.sdk.clock import Clock
from flyteops.sdk.event import Event
from flyteops.sdk.function import (
    as_coroutine_function,
    full_name,
    function_name,
    wraps_async,
    wraps_async_generator,
)
from flyteops.sdk.health import Health
from flyteops.sdk.silence import SilenceDetector, current_silence
from flyteops.sdk.thread import in_thread

LOGGER = logging.getLogger("flyte.pack")

STEADY = 10.0
"""The seconds without a failure after which a listener without events counts as working."""

_LATE = 0.1
_MIN_LIMIT = 60.0

Round = Callable[[], AsyncIterator[Event]]
Send = Callable[[Event], Awaitable[None]]


class Source(msgspec.Struct, frozen=True, eq=False):
    """A source of events: a poller, called `every` so many seconds, or an endless listener."""

    name: str
    tell: Round
    every: float | None = None
    at_once: bool = True
    timeout: float | None = None

    @property
    def limit(self) -> float | None:
        """The maximum silence in seconds: a call of a poller, or the gap between two events."""
        if self.timeout is not None or self.every is None:
            return self.timeout
        return max(_MIN_LIMIT, 2 * self.every)


def make_source(
    function: Callable[[], Any],
    *,
    name: str | None,
    every: float | None,
    at_once: bool,
    timeout: float | None = None,
) -> Source:
    """Return a source for any function of a suitable kind; raise `TypeError` for others."""
    if every is not None and every <= 0:
        message = f"{full_name(function)} cannot be polled every {every} s"
        raise TypeError(message)
    if timeout is not None and timeout <= 0:
        message = (
            f"{full_name(function)} cannot have the timeout {timeout}; it must be more than 0"
            " seconds"
        )
        raise TypeError(message)
    return Source(name or function_name(function), _round(function, every), every, at_once, timeout)


def _round(function: Callable[[], Any], every: float | None) -> Round:
    if wraps_async_generator(function):
        return function
    if not wraps_async(function):
        if every is None:
            message = (
                f"{full_name(function)} must be declared with `async def`: a listener that blocks"
                " cannot be stopped"
            )
            raise TypeError(message)
        return _told_by(lambda: in_thread(lambda: _listed(function())))
    return _told_by(as_coroutine_function(function))


def _told_by(look: Callable[[], Awaitable[Any]]) -> Round:
    async def tell() -> AsyncIterator[Event]:
        for event in _listed(await look()):
            yield event

    return tell


def _listed(found: Event | Iterable[Event] | None) -> Iterable[Event]:
    if found is None:
        return ()
    return [found] if isinstance(found, Event) else list(found)


class UndeclaredError(InputError):
    """An event that the pack does not declare."""


class SourceRunner:
    """Keep one source running: restart it when it fails, after a pause that grows.

    `is_ending` returns whether the pack cancels the source; code of the source may do that as well.
    """

    def __init__(
        self, source: Source, clock: Clock, send: Send, is_ending: Callable[[], bool]
    ) -> None:
        self._is_ending = is_ending
        self._source = source
        self._clock = clock
        self._send = send
        self._outage = FailureLog(f"the source {source.name}", LOGGER)
        self._failures = 0
        self._has_worked = False
        self._refused = 0
        self._last_refusal = ""
        self._silence = SilenceDetector(source.name, source.limit, clock)

    def health(self) -> Health:
        """Return whether it works now, and the number of events refused by the server so far."""
        reason = self._outage.reason or self._silence.reason
        status = reason or "working"
        if self._refused:
            status = (
                f"{status}; refused events: {self._refused}, the last of them {self._last_refusal}"
            )
        return Health(healthy=reason is None, status=status)

    async def run(self) -> None:
        """Run until cancelled.

        Raise an error that an operator must fix, if it comes before the source ever worked.
        """
        current_silence.set(self._silence)
        schedule = (
            None if self._source.every is None else _Schedule(self._source.every, self._clock)
        )
        if schedule is not None and not self._source.at_once:
            await schedule.due()
        while True:
            try:
                await self._round(is_endless=schedule is None)
            except BaseException as error:  # third-party code
                if self._ends(error):
                    raise
                self._failures += 1
                self._outage.failed(_foreign(error))
                await self._clock.back_off(Backoff().delay(self._failures, random.random()))  # noqa: S311 - no secret
            else:
                assert schedule is not None  # noqa: S101 - a listener does not get here
                await schedule.due()

    def _ends(self, error: BaseException) -> bool:
        """Return whether an error ends the source: the pack cancelled it, or it can never work."""
        if not isinstance(error, Exception):
            if self._is_ending() or not has_running_loop():
                return True
            forget_cancellation()
            return False
        cause = sole_cause(error)
        return (
            not self._has_worked
            and isinstance(cause, FlyteError)
            and not isinstance(cause, UnavailableError)
        )

    async def _round(self, *, is_endless: bool) -> None:
        steady = asyncio.create_task(self._steady()) if is_endless else None
        try:
            with self._silence.watched():
                # Generators, all of them.
                async with aclosing(self._source.tell()) as events:  # type: ignore[type-var]
                    async for event in events:
                        with self._silence.interrupted():
                            await self._deliver(event)
                        self._works()
        finally:
            if steady is not None:
                steady.cancel()
        if is_endless:
            raise UnavailableError("it ended")
        self._works()

    async def _deliver(self, event: object) -> None:
        """Send an event.

        Drop one that the server will never accept, so that it does not block later ones.
        """
        if not isinstance(event, Event):
            message = (
                f"the source {self._source.name} returned {type(event).__name__}, not an event"
            )
            raise InputError(message)
        try:
            await self._send(event)
        except (UnavailableError, ForbiddenError):  # the fault is not in the event
            raise
        except FlyteError as error:
            if isinstance(error, UndeclaredError) and not self._has_worked:
                raise
            self._drop(event, error)

    def _drop(self, event: Event, error: FlyteError) -> None:
        self._refused += 1
        self._last_refusal = f"{event.name}: {describe(error)}"
        LOGGER.error(
            "the event %s of the source %s was refused and is dropped: %s; its payload: %s",
            event.name,
            self._source.name,
            describe(error),
            shorten(_shown(event.payload)),
        )

    async def _steady(self) -> None:
        await self._clock.sleep(STEADY)
        self._works()

    def _works(self) -> None:
        self._has_worked = True
        self._failures = 0
        self._outage.recovered()


def _foreign(error: BaseException) -> BaseException:
    """Return the error; for a cancellation, which comes from a library, an `UnavailableError`."""
    if isinstance(error, asyncio.CancelledError):
        wrapped = UnavailableError("it was cancelled by its own code")
        wrapped.__cause__ = error
        return wrapped
    return error


def _shown(payload: object) -> str:
    try:
        return msgspec.json.encode(payload).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return f"(cannot be written as JSON: {describe(error)})"


class _Schedule:
    """Turns every so many seconds, counted from the start, so that delays do not add up."""

    def __init__(self, every: float, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._started_at = clock.monotonic()
        self._turn = 0

    async def due(self) -> None:
        """Wait for the next turn; one that is late by more than a tenth is skipped."""
        passed = (self._clock.monotonic() - self._started_at) / self._every
        self._turn = max(self._turn + 1, math.ceil(passed - _LATE))
        await self._clock.sleep(
            max(0.0, self._started_at + self._turn * self._every - self._clock.monotonic())
        )
