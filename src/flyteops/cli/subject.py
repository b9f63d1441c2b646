"""The server as `flyte torture` runs it: with a clock that can be set, and with a fault planted if that is asked for.

``python -m flyteops.cli.subject CLOCK BUG serve ...``: CLOCK is a file with the seconds that the clock is off by, BUG one of
`BUGS` or none. The faults are there to show that the torture finds them.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flyteops import storage
from flyteops.cli import serve
from flyteops.cli.root import main
from flyteops.model import Event, Outcome, PackRef, Progress
from flyteops.ruling import Late
from flyteops.service import utc_now
from flyteops.storage.base import Advanced, Claimed, Decide, Rules
from flyteops.storage.sqlite import SqliteStore


class AcknowledgesEarly(SqliteStore):
    """Answers before anything is written."""

    async def record(self, event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, lambda: loop.create_task(self._record_at_last(event, outcome, key)))
        return event.event_id

    async def _record_at_last(self, event: Event, outcome: Outcome, key: str | None) -> None:
        await super().record(event, outcome, key=key)


class ForgetsKeys(SqliteStore):
    """Takes every event as a new one."""

    async def record(self, event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        return await super().record(event, outcome)


class HandsOutTwice(SqliteStore):
    """Hands out some actions a second time."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._again: list[Claimed] = []
        self._count = 0

    async def claim(self, pack: PackRef, at: datetime, **options: Any) -> Sequence[Claimed]:
        if self._again:
            return [self._again.pop()]
        claimed = await super().claim(pack, at, **options)
        self._count += len(claimed)
        if claimed and self._count % 50 == 0:
            self._again = list(claimed)
        return claimed


class LosesContinuations(SqliteStore):
    """Stores some results without what follows from them."""

    async def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        def cut(progress: Progress) -> Outcome | Late | None:
            ruling = decide(progress)
            is_unlucky = isinstance(ruling, Outcome) and hash(action_id) % 20 == 0
            return Outcome() if is_unlucky else ruling

        return await super().finish(action_id, result, cut)


class DropsResults(SqliteStore):
    """Acknowledges some results and does nothing with them."""

    async def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        return True if hash(action_id) % 20 == 0 else await super().finish(action_id, result, decide)


class NeverLooksAtTheTime(SqliteStore):
    """Lets lost actions be lost for ever."""

    async def advance(self, at: datetime, rules: Rules, **options: Any) -> Advanced:
        return Advanced(0, None)


class WritesCarelessly(SqliteStore):
    """Stores events and what follows from them one after the other, in two transactions."""

    async def record(self, event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        if key is not None:
            await super().record(event, Outcome(), key=key)
            await asyncio.sleep(0.05)
        await super().record(Event(f"{event.event_id}-2", event.name, event.pack, event.payload, event.received_at), outcome)
        return event.event_id


BUGS: dict[str, type[SqliteStore]] = {
    "acknowledges-early": AcknowledgesEarly,
    "forgets-keys": ForgetsKeys,
    "hands-out-twice": HandsOutTwice,
    "loses-continuations": LosesContinuations,
    "drops-results": DropsResults,
    "never-looks-at-the-time": NeverLooksAtTheTime,
    "writes-carelessly": WritesCarelessly,
}


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
        kind = BUGS[bug]
        vars(serve)["open_store"] = lambda url, **_: kind(storage.path_of(url))
    main(rest)


if __name__ == "__main__":
    run(sys.argv[1:])
