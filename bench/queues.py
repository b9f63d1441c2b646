"""The cost of a take among many queues, side by side with the same take among one.

::

    python -m bench.queues [URL] [--queues 20000] [--takes 300] [--rounds 5]

A queue is identified by a pack name, labels and a command. In each scenario, two stores of the same
kind take turns: one with the worker's queue alone, and one with many more queues in each of which
an action waits:

- ``packs``: the others are for packs of other names
- ``labels``: the others are for packs of the same name with labels that the worker lacks
- ``commands``: the others are for the worker itself, under other commands; it takes by command
- ``any``: the same, but it takes the oldest action of any command
- ``growing``: as ``labels``, and a new queue is made before each take

Without a URL, the stores are SQLite files. Printed are medians in milliseconds, and their ratio.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from bench.backend import place
from bench.store import SENDER, WORKER, follows, new_event
from flyteops.model import Evaluation
from flyteops.storage import open_store
from flyteops.storage.base import Store

SCENARIOS = ("packs", "labels", "commands", "any", "growing")
AT_ONCE = 200

fresh = itertools.count()


def asking(pack_name: str, labels: dict[str, str], command: str) -> Evaluation:
    """Return the outcome of an event: one action."""
    outcome = follows(pack_name, labels)
    return Evaluation(outcome.decisions, (replace(outcome.actions[0], name=command),))


def other(scenario: str, number: int) -> Evaluation:
    """Return an action in a queue of its own."""
    match scenario:
        case "packs":
            return asking(f"Other{number}", {}, "Deploy")
        case "labels" | "growing":
            return asking("Worker", {"host": f"h{number}"}, "Deploy")
        case _:
            return asking("Worker", {"env": "prod"}, f"Deploy{number}")


async def fill(store: Store, scenario: str, count: int) -> None:
    """Add a waiting action to each of many queues."""
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        await asyncio.gather(
            *(
                store.record(new_event("Asked", SENDER), other(scenario, number))
                for number in numbers
            )
        )


async def take(store: Store, scenario: str) -> float:
    """Put an action into the worker's queue, and return the milliseconds of its take."""
    await store.record(new_event("Asked", SENDER), asking("Worker", {"env": "prod"}, "Deploy"))
    if scenario == "growing":
        await store.record(
            new_event("Asked", SENDER), asking("Worker", {"new": f"n{next(fresh)}"}, "Deploy")
        )
    command = "Deploy" if scenario == "commands" else None
    began = time.perf_counter()
    (claimed,) = await store.claim(WORKER, datetime.now(UTC), action_name=command)
    assert claimed
    return (time.perf_counter() - began) * 1000


@asynccontextmanager
async def a_store(url: str) -> AsyncIterator[Store]:
    """Yield an open, empty store, which is deleted afterwards."""
    async with AsyncExitStack() as stack:
        if url:
            url, _ = await stack.enter_async_context(place(url))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd()))
            url = f"sqlite:///{folder}/bench.db"
        yield await stack.enter_async_context(open_store(url))


async def measure(
    url: str, scenario: str, queues: int, takes: int, rounds: int
) -> tuple[float, float]:
    """Return the medians with one queue and with many."""
    async with a_store(url) as one, a_store(url) as many:
        await fill(many, scenario, queues)
        found: dict[int, list[float]] = {1: [], queues: []}
        for store in (one, many):
            # Data read once at the start is not part of the cost of a take.
            await take(store, scenario)
        for _ in range(rounds):
            for count, store in ((1, one), (queues, many)):
                found[count] += [await take(store, scenario) for _ in range(takes)]
        return median(found[1]), median(found[queues])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--queues", type=int, default=20_000)
    parser.add_argument("--takes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    asked = parser.parse_args()
    print(f"{'scenario':<10}{'1 queue':>10}{f'{asked.queues:,}':>10}{'ratio':>8}")
    for scenario in asked.scenario or SCENARIOS:
        one, many = await measure(asked.url, scenario, asked.queues, asked.takes, asked.rounds)
        print(f"{scenario:<10}{one:>10.3f}{many:>10.3f}{many / one:>8.1f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
