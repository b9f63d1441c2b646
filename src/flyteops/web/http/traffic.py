"""The shared limits of all clients: connections, and memory for bodies and answers under way.

Each connection alone is bounded by its protocol; this bounds their sum. When the memory is used up,
the transfer that has been under way for longest makes room, unless it has just begun: a client that
neither sends nor reads must not keep others waiting.
"""

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from flyteops.errors import BusyError

LOGGER = logging.getLogger("flyte.web")

LOG_EVERY = 10.0
"""Seconds between two log lines about the same limit."""

YOUNG = 5.0
"""Seconds for which a transfer is not ended in favour of others."""

WARNED_FOR = 60.0
"""Seconds for which readiness warns of a limit that was reached."""

NO_ROOM = (
    "There is no room for more data at the moment: too much of it is under way for other clients."
)


class Limit:
    """A limit that was reached, maybe often.

    It is logged at most every few seconds, with the count, and readiness warns of it.
    """

    def __init__(self, message: str, clock: Callable[[], float] = monotonic) -> None:
        """`message` is the log message, in the past tense, with ``%d`` for the count."""
        self._message = message
        self._clock = clock
        self._count = 0
        self._logged_at = self._reached_at = float("-inf")

    def reached(self) -> None:
        """Note that the limit was reached once more."""
        now = self._reached_at = self._clock()
        self._count += 1
        if now - self._logged_at >= LOG_EVERY:
            LOGGER.warning(self._message, self._count)
            self._logged_at = now
            self._count = 0

    @property
    def warning(self) -> str:
        """The warning of readiness about it, "" if it was not reached lately."""
        if self._clock() - self._reached_at > WARNED_FOR:
            return ""
        text = self._message.removeprefix("%d ")
        return f"{text[0].upper()}{text[1:]}."


class Traffic:
    """The connections and memory in use by all clients, with their limits."""

    def __init__(
        self,
        max_connections: int = 10_000,
        max_transfer_bytes: int = 128 * 1024 * 1024,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.max_connections = max_connections
        self.max_transfer_bytes = max_transfer_bytes
        self.held_bytes = 0
        self.clock = clock
        self.connections = Limit(
            "%d connections were turned away: FLYTE_MAX_CONNECTIONS or the limit of open files"
            f" allows {max_connections} at once",
            clock,
        )
        self.memory = Limit(
            "%d transfers were refused or broken off: FLYTE_MAX_TRANSFER_BYTES allows"
            f" {max_transfer_bytes} bytes at once",
            clock,
        )
        self.descriptors = Limit(
            "%d times the table of open files was found full, so that nobody can connect:"
            " raise the limit (ulimit -n, LimitNOFILE)",
            clock,
        )
        self._transfers: dict[Transfer, None] = {}  # in the order of their beginning

    def begin(self, break_off: Callable[[], None] | None = None) -> "Transfer":
        """Return a transfer that holds nothing yet; `break_off` ends it for others' room."""
        transfer = Transfer(self, break_off)
        self._transfers[transfer] = None
        return transfer

    def end(self, transfer: "Transfer") -> None:
        if transfer in self._transfers:
            del self._transfers[transfer]
            self.held_bytes -= transfer.size

    def hold(self, transfer: "Transfer", size: int, *, must: bool = False) -> None:
        """Hold more bytes for a transfer.

        Raise `BusyError` if there is no room, and none can be made. An answer to work that is done
        `must` be sent, and is held beyond the limit then.
        """
        if transfer not in self._transfers:
            raise BusyError(NO_ROOM)  # it had to make room for others
        while self.held_bytes + size > self.max_transfer_bytes:
            self.memory.reached()
            oldest = next(
                (each for each in self._transfers if each.break_off is not None), transfer
            )
            if (
                oldest is transfer
                or oldest.break_off is None
                or self.clock() - oldest.began_at < YOUNG
            ):
                if must:
                    break
                raise BusyError(NO_ROOM)
            self.end(oldest)
            oldest.break_off()
        transfer.size += size
        self.held_bytes += size

    def warnings(self) -> Sequence[str]:
        """Return the warnings of readiness."""
        return [
            limit.warning
            for limit in (self.connections, self.memory, self.descriptors)
            if limit.warning
        ]


class Transfer:
    """A body being received, or an answer being sent, with the memory that it holds."""

    __slots__ = ("_traffic", "began_at", "break_off", "size")

    def __init__(self, traffic: Traffic, break_off: Callable[[], None] | None) -> None:
        self.size = 0
        self.began_at = traffic.clock()
        self.break_off = break_off
        self._traffic = traffic

    def hold(self, size: int, *, must: bool = False) -> None:
        """Hold more bytes; raise `BusyError` if there is no room for them, unless it `must`."""
        self._traffic.hold(self, size, must=must)

    def end(self) -> None:
        """Release the memory that is held."""
        self._traffic.end(self)
