"""Time and chance, which everything else is given."""

from datetime import UTC, datetime
from hashlib import blake2b


def utc_now() -> datetime:
    """Return the current time; the clock of a service unless another is given."""
    return datetime.now(UTC)


class Seeds:
    """Makes seeds that nobody can guess who does not know the secret: asking the system for each would cost far more."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._made = 0

    def __call__(self) -> bytes:
        self._made += 1
        return blake2b(self._made.to_bytes(8), key=self._secret, digest_size=16).digest()
