"""Time and randomness, which all other modules are given."""

import time
from datetime import UTC, datetime
from hashlib import blake2b

BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock of the system that goes on while the computer sleeps, where there is one."""


def utc_now() -> datetime:
    """Return the current time; the clock of a service unless another is given."""
    return datetime.now(UTC)


def steady_seconds() -> float:
    """Return the seconds of a clock that cannot be set.

    It goes on while the computer sleeps, where there is such a clock.
    """
    return time.monotonic() if BOOT_CLOCK is None else time.clock_gettime(BOOT_CLOCK)


SEED_LENGTH = 16


class SeedSource:
    """Makes seeds that cannot be guessed without the secret.

    Reading each from the system would cost far more.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._made = 0
        self._left = b""

    def __call__(self) -> bytes:
        if not self._left:
            self._made += 1
            self._left = blake2b(self._made.to_bytes(8), key=self._secret).digest()
        seed, self._left = self._left[:SEED_LENGTH], self._left[SEED_LENGTH:]
        return seed
