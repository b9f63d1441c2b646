"""The time limits of a request that is being read."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import NamedTuple

HEAD, BODY = "head", "body"


class ReadLimits(NamedTuple):
    """Limits in seconds: for a whole head, between two parts of a body, and for a whole body."""

    head: float
    pause: float
    body: float


class ReadTimer:
    """Calls `give_up` when the rest of a request arrives too slowly."""

    __slots__ = ("_deadline", "_give_up", "_handle", "_limits", "_loop", "_stage")

    def __init__(
        self, loop: AbstractEventLoop, limits: ReadLimits, give_up: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._give_up = give_up
        self._deadline = 0.0
        self._handle: TimerHandle | None = None
        self._stage: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether a time runs."""
        return self._handle is not None

    def watch(self, stage: str | None) -> None:
        """Set the time for the part of a request that is still to arrive, after some of it came."""
        if stage is None:
            self.stop()
        elif stage == HEAD:
            if self._stage != HEAD:
                self._start(HEAD, self._limits.head)
        else:
            now = self._loop.time()
            if self._stage != BODY:
                self._deadline = now + self._limits.body
            self._start(BODY, min(self._limits.pause, self._deadline - now))

    def pause(self, stage: str | None) -> None:
        """Wait once more, as reading is paused on this side."""
        self._start(stage, self._limits.pause)

    def stop(self) -> None:
        self._stage = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Stop for good, and let go of the owner, so that no cycle of references remains."""
        self.stop()
        del self._give_up

    def _start(self, stage: str | None, seconds: float) -> None:
        self.stop()
        self._stage = stage
        self._handle = self._loop.call_later(seconds, self._end)

    def _end(self) -> None:
        self._handle = None
        self._give_up()
