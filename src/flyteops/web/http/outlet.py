"""The end of a connection: clients that do not read, have closed their side, or are still sending.

Closing a socket with unread bytes resets the connection, and the client may lose the answer before
it has read it. So the server closes its own side first, and reads and drops further bytes of the
client, within bounds (RFC 9112, 9.6).
"""

import asyncio
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import Callable
from typing import NamedTuple

from uvicorn.protocols.http.flow_control import FlowControl

from flyteops.web.api.problem import RETRY_AFTER_SECONDS, ProblemType, problem
from flyteops.web.http.exchange import GO_AHEAD, STATUS_LINES
from flyteops.web.http.peer import is_reset, unacknowledged

MAX_DISCARDED = 256 * 1024 * 1024
"""Maximum number of bytes that are dropped while the client still sends after the last answer."""

LOOKS = (0.0, 0.005, 0.02, 0.1, 0.4, 1.0, 2.0)
"""Seconds between the checks whether an answer has arrived."""

LOOKS_AT_WRITING = 4
"""Checks of a slow reader's progress within the time that it has to read something."""

PROBE_EVERY = 30
"""Checks of a half-closed connection for each probe that is sent on it."""


class Patience(NamedTuple):
    """Time limits of a client, in seconds.

    `stall`: to read some of an answer; `linger`: to end sending after its last answer, with pauses
    of `linger_pause`; `half_close`: between checks whether a client that has closed its sending
    side is still there.
    """

    stall: float = 30.0
    linger: float = 30.0
    linger_pause: float = 5.0
    half_close: float = 0.5


def final_response(fault: ProblemType, detail: str) -> bytes:
    """Return the response to a request that cannot be read, the last one of a connection."""
    reply = problem(fault, detail)
    body = reply.value if isinstance(reply.value, bytes) else b""
    lines = [
        STATUS_LINES[reply.status],
        b"content-type: %b\r\n" % reply.content_type,
        b"content-length: %d\r\n" % len(body),
        b"retry-after: %b\r\n" % RETRY_AFTER_SECONDS if fault.status == 503 else b"",
        b"connection: close\r\n\r\n",
    ]
    return b"".join([*lines, body])


class Outlet:
    """Closes a connection so that the last answer arrives, and bounds the wait for the client."""

    def __init__(
        self, transport: Transport, flow: FlowControl, loop: AbstractEventLoop, patience: Patience
    ) -> None:
        self.is_lingering = False
        self._transport = transport
        self._flow = flow
        self._loop = loop
        self._patience = patience
        self._timers: dict[Callable[[], None], TimerHandle] = {}
        self._level = (0, 0)
        self._read_at = 0.0
        self._remaining: int | None = None
        self._discarded = 0
        self._linger_until = self._discarded_at = 0.0
        self._may_probe: Callable[[], bool] | None = None
        self._looks = 0

    def end(self) -> None:
        """Stop all timers, as the connection is closed."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._may_probe = None

    def _later(self, seconds: float, look: Callable[[], None]) -> None:
        if look in self._timers:
            self._timers[look].cancel()
        self._timers[look] = self._loop.call_later(seconds, look)

    # --------------------------------------------------------------------- clients that do not read

    def close(self) -> None:
        """Close the connection once the client has read everything, or stops reading."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self.watch_writing()

    @property
    def is_read(self) -> bool:
        """Whether the client's computer has received everything that was written."""
        return self._unread_level() == (0, 0)

    def watch_writing(self) -> None:
        """Break the connection off if the client reads nothing for long."""
        if self._look_at_writing not in self._timers:
            self._level = self._unread_level()
            self._read_at = self._loop.time()
            self._later(self._patience.stall / LOOKS_AT_WRITING, self._look_at_writing)

    def _unread_level(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_size(), unacknowledged(self._transport)

    def _look_at_writing(self) -> None:
        level, now = self._unread_level(), self._loop.time()
        if level != self._level:
            self._level, self._read_at = level, now
        if not level[0]:
            del self._timers[self._look_at_writing]
        elif now - self._read_at >= self._patience.stall:
            self._transport.abort()
        else:
            self._later(self._patience.stall / LOOKS_AT_WRITING, self._look_at_writing)

    # --------------------------------------------------------------- clients that are still sending

    def linger(self, remaining: int | None) -> None:
        """Stop sending, and drop further bytes of the client: `remaining` bytes, if known."""
        self.is_lingering = True
        self._remaining = remaining
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif remaining == 0:
            self.close()
            return
        self._flow.resume_reading()
        self._discarded_at = self._loop.time()
        self._linger_until = self._discarded_at + self._patience.linger
        self._later(self._patience.linger_pause, self._look_at_lingering)

    def discard(self, size: int) -> None:
        """Drop bytes that the client has sent after its last answer."""
        self._discarded += size
        self._discarded_at = self._loop.time()
        is_all = (
            self._remaining is not None
            and self._discarded >= self._remaining
            and not self._transport.can_write_eof()
        )
        if is_all or self._discarded > MAX_DISCARDED:
            self.close()

    def _look_at_lingering(self) -> None:
        now = self._loop.time()
        rest = min(self._discarded_at + self._patience.linger_pause, self._linger_until) - now
        if rest <= 0 or self._transport.is_closing():
            self.close()
        else:
            self._later(rest, self._look_at_lingering)

    # -------------------------------------------------- clients that have closed their sending side

    def watch_client(self, may_probe: Callable[[], bool]) -> None:
        """Break the connection off if a client that has closed its sending side has left.

        If it has, writing to it resets the connection. So an interim response is written now and
        then if `may_probe` allows it: a client that waits must be able to read one at any time (RFC
        9110, 15.2).
        """
        self._may_probe = may_probe
        self._later(self._patience.half_close, self._look_at_client)

    def _look_at_client(self) -> None:
        if is_reset(self._transport):
            self._transport.abort()
            return
        pause = self._patience.half_close
        if self._looks % PROBE_EVERY == 0 and self._may_probe is not None and self._may_probe():
            self._transport.write(GO_AHEAD)
            pause /= 10
        self._looks += 1
        self._later(pause, self._look_at_client)

    async def has_arrived(self) -> bool:
        """Return whether all that was written has arrived; wait a few seconds for that."""
        for pause in LOOKS:
            await asyncio.sleep(pause)
            if self._transport.is_closing() or is_reset(self._transport):
                return False
            if self.is_read:
                return True
        return False
