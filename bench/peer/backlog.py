"""Clients that keep a number of units of work outstanding, for the programs beside this one.

Only the standard library: the Python that runs it has one other engine, and nothing of Flyte.
"""

import json
import sys
import threading
import time
from collections.abc import Callable

OUTSTANDING = 5
"""The maximum number of units of work that each client has outstanding, on average."""

LOOK_EVERY = 0.1
"""Seconds between two counts of what is done."""


class Backlog:
    """Let clients add work as long as not too much is outstanding, and measure its rate."""

    def __init__(self, clients: int, seconds: float, warm_up: float) -> None:
        self._limit = clients * OUTSTANDING
        self._seconds = seconds
        self._warm_up = warm_up
        self._lock = threading.Lock()
        self._added = 0
        self._done = 0
        self.is_over = False

    def add(self) -> bool:
        """Count one more unit of work; return False if too much is outstanding."""
        with self._lock:
            if self._added - self._done >= self._limit:
                return False
            self._added += 1
            return True

    def measure(self, count_done: Callable[[], int]) -> float:
        """Return the units of work done in a second, after warming up."""
        self._watch(count_done, self._warm_up)
        before, began = self._done, time.perf_counter()
        self._watch(count_done, self._seconds)
        rate = (self._done - before) / (time.perf_counter() - began)
        self.is_over = True
        return rate

    def _watch(self, count_done: Callable[[], int], seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            time.sleep(LOOK_EVERY)
            self._done = count_done()


def arguments() -> tuple[str, str, int, float]:
    """Return the role of the program, the URL of its database, its clients, and the seconds."""
    role, url, clients, seconds = sys.argv[1:5]
    return role, url, int(clients), float(seconds)


def report(rate: float) -> None:
    """Print the measured rate for the program that started this one."""
    print(json.dumps({"rate": rate}), flush=True)


def report_ready() -> None:
    """Print that the worker is ready."""
    print("ready", flush=True)
