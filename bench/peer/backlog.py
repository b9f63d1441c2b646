"""Clients that keep a number of units of work outstanding, for the programs beside this one.

Only the standard library: the Python that runs it has one other engine, and nothing of Flyte.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, float]

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"

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

    def measure(self, execute: Callable[[str], Any], count: str, workers: list[int]) -> Figures:
        """Return the units of work done in a second, after warming up, and the CPU of each.

        `execute` runs a statement, of which `count` counts the units that are done.
        """

        def count_done() -> int:
            done: int = execute(count).fetchone()[0]
            return done

        def cpu() -> tuple[float, float, float]:
            pids = [row[0] for row in execute(BACKENDS).fetchall()]
            return sum(map(cpu_of, workers)), time.process_time(), sum(map(cpu_of, pids))

        self._watch(count_done, self._warm_up)
        before, began, cpu_before = self._done, time.perf_counter(), cpu()
        self._watch(count_done, self._seconds)
        done, took = self._done - before, time.perf_counter() - began
        used = [after - earlier for after, earlier in zip(cpu(), cpu_before, strict=True)]
        self.is_over = True
        per_unit = [each / max(done, 1) * 1000 for each in used]
        names = ("worker_cpu_ms", "client_cpu_ms", "database_cpu_ms")
        return {"per_s": done / took, **dict(zip(names, per_unit, strict=True))}

    def _watch(self, count_done: Callable[[], int], seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            time.sleep(LOOK_EVERY)
            self._done = count_done()


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process so far, 0 if it does not exist here."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Arguments(NamedTuple):
    """The role of a program, its database, clients and seconds, and the processes of workers."""

    role: str
    url: str
    clients: int
    seconds: float
    workers: list[int]


def arguments() -> Arguments:
    """Return the arguments of the command line."""
    role, url, clients, seconds, *workers = sys.argv[1:]
    return Arguments(role, url, int(clients), float(seconds), [int(each) for each in workers])


def report(figures: Figures) -> None:
    """Print what was measured for the program that started this one."""
    print(json.dumps(figures), flush=True)


def report_ready() -> None:
    """Print that the worker is ready."""
    print("ready", flush=True)
