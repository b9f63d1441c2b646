"""The server as `flyte torture` runs it: with a clock that can be set, and with a fault planted if that is asked for.

``python -m flyteops.cli.subject CLOCK BUG serve ...``: CLOCK is a file with the seconds that the clock is off by, BUG one of
`BUGS` or none. The faults are there to show that the torture finds them.
"""

import asyncio
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flyteops.cli import serve
from flyteops.cli.root import main
from flyteops.model import Event, Outcome, PackRef, Progress
from flyteops.ruling import Late
from flyteops.service import utc_now
from flyteops.storage import open_store
from flyteops.storage.base import Advanced, Claimed, Decide, Store

Verbs = Mapping[str, Callable[..., Any]]
"""Verbs of a store, by name, that take the place of its own."""


def acknowledge_early(store: Store) -> Verbs:
    """Answer before anything is written."""
    record = store.record

    async def early(event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, lambda: loop.create_task(record(event, outcome, key=key)))
        return event.event_id

    return {"record": early}


def forget_keys(store: Store) -> Verbs:
    """Take every event as a new one."""
    record = store.record

    async def anew(event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        return await record(event, outcome)

    return {"record": anew}


def hand_out_twice(store: Store) -> Verbs:
    """Hand out some actions a second time."""
    claim, again, count = store.claim, list[Claimed](), itertools.count(1)

    async def twice(pack: PackRef, at: datetime, **options: Any) -> Sequence[Claimed]:
        if again:
            return [again.pop()]
        claimed = await claim(pack, at, **options)
        again.extend(each for each in claimed if next(count) % 20 == 0)
        return claimed

    return {"claim": twice}


def lose_continuations(store: Store) -> Verbs:
    """Store some results without what follows from them."""
    finish = store.finish

    async def cut_off(action_id: str, result: Event, decide: Decide) -> bool:
        def cut(progress: Progress) -> Outcome | Late | None:
            ruling = decide(progress)
            is_unlucky = isinstance(ruling, Outcome) and hash(action_id) % 20 == 0
            return Outcome() if is_unlucky else ruling

        return await finish(action_id, result, cut)

    return {"finish": cut_off}


def drop_results(store: Store) -> Verbs:
    """Acknowledge some results and do nothing with them."""
    finish = store.finish

    async def drop(action_id: str, result: Event, decide: Decide) -> bool:
        return True if hash(action_id) % 20 == 0 else await finish(action_id, result, decide)

    return {"finish": drop}


def never_look_at_the_time(_store: Store) -> Verbs:
    """Let lost actions be lost for ever."""

    async def do_nothing(*_: Any, **__: Any) -> Advanced:
        return Advanced(0, None)

    return {"advance": do_nothing}


def write_carelessly(store: Store) -> Verbs:
    """Store events and what follows from them one after the other, in two transactions."""
    record = store.record

    async def in_two(event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        if key is not None:
            await record(event, Outcome(), key=key)
            await asyncio.sleep(0.05)
        await record(Event(f"{event.event_id}-2", event.name, event.pack, event.payload, event.received_at), outcome)
        return event.event_id

    return {"record": in_two}


BUGS: dict[str, Callable[[Store], Verbs]] = {
    "acknowledges-early": acknowledge_early,
    "forgets-keys": forget_keys,
    "hands-out-twice": hand_out_twice,
    "loses-continuations": lose_continuations,
    "drops-results": drop_results,
    "never-looks-at-the-time": never_look_at_the_time,
    "writes-carelessly": write_carelessly,
}


def faulty(bug: str, store: Store) -> Store:
    """Plant a fault into a store, of whatever kind it is."""
    vars(store).update(BUGS[bug](store))
    return store


def clock_of(path: Path) -> Callable[[], datetime]:
    """Return a clock that is off by as much as the file says."""

    def clock() -> datetime:
        return utc_now() + timedelta(seconds=float(path.read_text() or 0))

    return clock


def run(arguments: Sequence[str]) -> None:
    """Run the command with the clock and the fault."""
    clock, bug, *rest = arguments
    vars(serve)["utc_now"] = clock_of(Path(clock))
    if bug in BUGS:
        vars(serve)["open_store"] = lambda url, **options: faulty(bug, open_store(url, **options))
    main(rest)


if __name__ == "__main__":
    run(sys.argv[1:])
