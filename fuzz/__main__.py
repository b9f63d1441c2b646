"""Feed unexpected inputs to the server, and report how far they came.

A finding is minimized and ends the run.
"""

import argparse
import faulthandler
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import randbelow
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from fuzz import server, target, token
from fuzz.target import Check, Target

TARGETS = (*target.ROOMS, *server.ROOMS, *token.ROOMS)

SECONDS = 10
"""The time limit of one input, on a busy machine as well; a longer one is a hang."""

ROUND = 1_000
"""The number of inputs until a target is reopened, so that leftovers do not grow without end."""


class HangError(BaseException):
    """An input took too long.

    Not an `Exception`, so that no code on the way handles it as an error.
    """


@contextmanager
def bounded() -> Iterator[None]:
    """Raise `HangError` after a while.

    If not even that can be raised, end the process with the place.
    """
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise HangError(f"an input took more than {SECONDS} seconds")


def feed(room: Target, count: int, start: int) -> Counter[str]:
    """Feed so many inputs to a target, and count how far they came.

    Raise the failure of an input.
    """
    words: Counter[str] = Counter()
    for begin in range(0, count, ROUND):
        with room.opened() as check:
            _round(room, check, words, min(ROUND, count - begin), start + begin)
    return words


def _round(room: Target, check: Check, words: Counter[str], count: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    @given(room.inputs)
    def one(data: Any) -> None:
        try:
            with bounded():
                words[check(data)] += 1
        except BaseException as error:
            error.add_note(f"target {room.name}, input {data!r}"[:4_000])
            raise

    one()


def main() -> int:
    """Feed all targets, or one."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="how many in all; default: 100000"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="the seed of the random numbers; by default a new one, which is printed",
    )
    parser.add_argument("--target", choices=[room.name for room in TARGETS], help="only this one")
    options = parser.parse_args()
    start = randbelow(2**31) if options.seed is None else options.seed
    signal.signal(signal.SIGALRM, _alarm)
    print(f"seed {start}", flush=True)
    rooms = [room for room in TARGETS if options.target in (None, room.name)]
    total = sum(room.share for room in rooms)
    for room in rooms:
        began = time.monotonic()
        words = feed(room, options.inputs * room.share // total, start)
        found = ", ".join(f"{word} {count}" for word, count in words.most_common())
        print(
            f"{room.name:10} {words.total():8} inputs  {time.monotonic() - began:7.1f} s  {found}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
