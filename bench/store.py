"""Benchmark of a store: the rate of cycles of recording an event, hand-out and result.

::

    python bench/store.py [URL] [--tasks N] [--seconds N] [--backlog N] [--profile]

Without a URL a SQLite file in the working directory is used, and removed afterwards. `--backlog`
puts as many NEW actions for other packs ahead of those that are handed out.
"""

import argparse
import asyncio
import cProfile
import itertools
import os
import pstats
import random
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from flyteops.model import ActionSnapshot, Decision, Evaluation, Event, NewAction, PackRef
from flyteops.storage import open_store
from flyteops.storage.base import Store

SENDER = PackRef("Watcher.env.prod", "Watcher", {"env": "prod"})
WORKER = PackRef("Worker.env.prod", "Worker", {"env": "prod"})
PAYLOAD = b'{"message":"' + b"x" * 180 + b'"}'


def new_id() -> str:
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(48):012x}"


def new_event(name: str, sender: PackRef) -> Event:
    return Event(new_id(), name, sender, PAYLOAD, datetime.now(UTC))


def follows(pack_name: str, labels: dict[str, str]) -> Evaluation:
    action = NewAction(
        action_id=new_id(),
        correlation_id=new_id(),
        flow_name="Deploy",
        flow_uuid="4f1c2d3e",
        step_id="deploy",
        step_index=0,
        name="Deploy",
        pack_name=pack_name,
        pack_labels=labels,
        input=PAYLOAD,
        context={"channel": "1234"},
    )
    decision = Decision(
        flow_name="Deploy",
        flow_uuid="4f1c2d3e",
        step_id="deploy",
        step_index=0,
        outcome="ran",
        reason="passed",
        detail="The criteria are met.",
        values={"Event.Payload.message": '"xxxxxxxxxxxxxxxxxxxxx"'},
        correlation_id=action.correlation_id,
        action_id=action.action_id,
    )
    return Evaluation((decision,), (action,))


def nothing_follows(progress: ActionSnapshot) -> Evaluation:
    return Evaluation(
        (
            Decision(
                progress.flow_name,
                progress.flow_uuid,
                "x",
                1,
                "skipped",
                "dependsOn",
                "It did not run.",
            ),
        )
    )


async def cycle(store: Store) -> None:
    await store.record(new_event("Asked", SENDER), follows("Worker", {"env": "prod"}))
    (claimed,) = await store.claim(WORKER, datetime.now(UTC))
    await store.finish(claimed.action_id, new_event("Deployed", WORKER), nothing_follows)


async def repeat(store: Store, until: float, counter: "itertools.count[int]") -> None:
    while time.monotonic() < until:
        await cycle(store)
        next(counter)


async def pile_up(store: Store, backlog: int) -> None:
    for begin in range(0, backlog, 500):
        actions = (
            follows("Other" if n % 2 else "Worker", {"env": f"test{n % 50}"})
            for n in range(begin, begin + 500)
        )
        await asyncio.gather(
            *(store.record(new_event("Asked", SENDER), outcome) for outcome in actions)
        )


async def measure(url: str, tasks: int, seconds: float, backlog: int) -> tuple[float, float]:
    """Return cycles per second, and microseconds of CPU per cycle.

    The latter is a better measure on a busy machine.
    """
    async with open_store(url) as store:
        await pile_up(store, backlog)
        await asyncio.to_thread(os.sync)  # or the disk would be busy with the backlog meanwhile
        counter = itertools.count()
        used, began = time.process_time(), time.monotonic()
        await asyncio.gather(*(repeat(store, began + seconds, counter) for _ in range(tasks)))
        cycles = next(counter)
        return cycles / (time.monotonic() - began), (
            time.process_time() - used
        ) / cycles * 1_000_000


def profile_threads() -> dict[str, cProfile.Profile]:
    """Profile every thread that starts from now on."""
    profiles: dict[str, cProfile.Profile] = {}

    def begin(*_: object) -> None:
        profile = profiles[threading.current_thread().name] = cProfile.Profile()
        profile.enable()

    threading.setprofile(begin)
    return profiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--tasks", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--backlog", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profiles = profile_threads() if options.profile else {}
    for tasks in options.tasks:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="bench-") as place:
            url = options.url or f"sqlite:///{place}/store.db"
            rate, cpu = asyncio.run(measure(url, tasks, options.seconds, options.backlog))
        print(
            f"{tasks:4} tasks, {options.backlog} waiting for others: {rate:,.0f} cycles/s,"
            f" {cpu:.0f} µs of CPU each"
        )
    for name, profile in profiles.items():
        print(name)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
