"""Waiters for what gives no signal, such as other processes. Whoever can wait for a signal does
that instead.
"""

import time
from collections.abc import Callable

PAUSE = 0.05


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        time.sleep(PAUSE)
