"""The server run by `flyte torture`: with an adjustable clock, and optionally with a planted fault.

``python -m flyteops_chaos.subject CLOCK FAULT serve ...``: CLOCK is a file with the seconds that
the clock is off by, FAULT the name of one of `flyteops_chaos.planted.FAULTS`, or none.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flyteops.cli.root import main
from flyteops.server import loops
from flyteops.server import run as server
from flyteops.service import utc_now
from flyteops.storage import open_store
from flyteops.storage.base import Store
from flyteops_chaos.planted import FAULTS

MAINTENANCE_INTERVAL = 0.5
"""Seconds between two rounds of maintenance: more often than in production, as a run is short."""


def faulty(plant: Callable[[Store], None], url: str, **options: Any) -> Store:
    """Return a store with a fault planted."""
    store = open_store(url, **options)
    plant(store)
    return store


def clock_of(path: Path) -> Callable[[], datetime]:
    """Return a clock that is off by the seconds in the file."""

    def clock() -> datetime:
        return utc_now() + timedelta(seconds=float(path.read_text() or 0))

    return clock


def run(arguments: Sequence[str]) -> None:
    """Run the command with the clock and the fault."""
    clock, fault, *rest = arguments
    vars(server)["utc_now"] = vars(loops)["utc_now"] = clock_of(Path(clock))
    vars(loops)["MAINTENANCE_INTERVAL"] = MAINTENANCE_INTERVAL
    if fault in FAULTS:
        vars(server)["open_store"] = lambda url, **options: faulty(FAULTS[fault], url, **options)
    main(rest)


if __name__ == "__main__":
    run(sys.argv[1:])
