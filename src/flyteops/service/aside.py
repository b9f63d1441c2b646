"""What this server has set aside: what it cannot read, or cannot deal with, while everything else goes on.

Each is tried again, after a pause that grows. It is kept in memory, as another server may be able to do what this one cannot.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from flyteops.errors import FlyteError
from flyteops.model import Note

LOGGER = logging.getLogger("flyte.service")

T = TypeVar("T")

FLOW, VERSION, PACK, ITEM, TOKEN, HOOK = "flow", "flow version", "pack", "datastore", "token", "hook"
ACTION, SCHEDULE = "action", "schedule"
READ = (FLOW, VERSION, PACK, ITEM, TOKEN, HOOK)
"""The kinds of what is read and kept in memory."""

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""Seconds until something is tried again: twice as many after each failure, up to a bound."""

MOST_LOGGED = 20
"""How many things that are set aside at the same time are logged one by one."""

MOST_NAMED = 5
"""How many of them a warning names."""


class AsideKey(NamedTuple):
    """Identifies what is set aside. `kind` is one of those of the log of changes, or action, schedule or flow version.

    `place` tells apart what has the same name.
    """

    kind: str
    name: str
    place: object = ""


class HealthProblem(msgspec.Struct, frozen=True):
    """Something that is set aside: why, since when, how often it was tried, and when it is tried again."""

    kind: str
    name: str
    reason: str
    since: datetime
    failures: int
    retry_at: float


def reason_of(error: Exception) -> str:
    """Return an error as people are told it."""
    if isinstance(error, FlyteError):
        return error.message
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


class Aside:
    """All that is set aside, by key."""

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._problems: dict[AsideKey, HealthProblem] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._problems

    def report(self, failures: Mapping[AsideKey, Exception]) -> None:
        """Set things aside, or note that they failed again. Each is logged once for each reason."""
        fresh = []
        for key, error in failures.items():
            known, reason = self._problems.get(key), reason_of(error)
            count = 1 if known is None else known.failures + 1
            pause = min(FIRST_PAUSE * 2 ** min(count - 1, 10), LONGEST_PAUSE)
            if known is None or known.reason != reason:
                fresh.append((key, reason, error))
            self._problems[key] = HealthProblem(
                kind=key.kind,
                name=key.name,
                reason=reason,
                since=self._clock() if known is None else known.since,
                failures=count,
                retry_at=self._monotonic() + pause,
            )
        for key, reason, error in fresh[:MOST_LOGGED]:
            trace = None if isinstance(error, (FlyteError, ValueError)) else error
            LOGGER.error("The %s %r is set aside and tried again later: %s", key.kind, key.name, reason, exc_info=trace)
        if len(fresh) > MOST_LOGGED:
            LOGGER.error("%d more are set aside; GET /v1/health/problems lists them", len(fresh) - MOST_LOGGED)

    def resolve(self, keys: Iterable[AsideKey]) -> None:
        """Note that these are in order, or gone."""
        for key in keys:
            problem = self._problems.pop(key, None)
            if problem is not None:
                LOGGER.info("The %s %r is no longer set aside", problem.kind, problem.name)

    def replace(self, kind: str, failures: Mapping[str, Exception], place: str = "") -> None:
        """Note which of the things of a kind, and of a place, cannot be read; all others can."""
        keys = {AsideKey(kind, name, place): error for name, error in failures.items()}
        self.resolve([key for key in self._problems if (key.kind, key.place) == (kind, place) and key not in keys])
        self.report(keys)

    def why(self, key: AsideKey) -> str:
        """Return why this is set aside, "" if it is not."""
        problem = self._problems.get(key)
        return "" if problem is None else problem.reason

    def waits(self, key: AsideKey) -> bool:
        """Tell whether this is set aside and not to be tried again yet."""
        problem = self._problems.get(key)
        return problem is not None and problem.retry_at > self._monotonic()

    def decode(self, notes: Iterable[Note], type_: type[T], kind: str, place: str = "") -> list[tuple[str, T]]:
        """Return what notes hold, with their keys; set those aside that cannot be read."""
        found: list[tuple[str, T]] = []
        failures: dict[str, Exception] = {}
        for note in notes:
            try:
                found.append((note.key, msgspec.json.decode(note.value, type=type_)))
            except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                failures[note.key] = error
        self.replace(kind, failures, place)
        return found

    def is_unreadable(self, thing: tuple[str, str]) -> bool:
        """Tell whether a thing, as the log of changes names it, cannot be read."""
        return any((key.kind, key.name) == thing for key in self._problems)

    def keys(self, kinds: Iterable[str]) -> Sequence[AsideKey]:
        """Return what is set aside of some kinds."""
        wanted = frozenset(kinds)
        return [key for key in self._problems if key.kind in wanted]

    @property
    def problems(self) -> Sequence[HealthProblem]:
        """All that is set aside, the longest first."""
        return sorted(self._problems.values(), key=lambda problem: (problem.since, problem.kind, problem.name))

    @property
    def summary(self) -> list[str]:
        """How much is set aside, without names and reasons."""
        count = len(self._problems)
        said = "1 problem" if count == 1 else f"{count} problems"
        return [f"{said}; see GET /v1/health/problems"] if count else []

    @property
    def warnings(self) -> list[str]:
        """What is set aside in few words: the first ones with their reasons, and how many there are."""
        found = self.problems
        said = [f"The {each.kind} {each.name!r} is set aside: {each.reason}" for each in found[:MOST_NAMED]]
        if len(found) > MOST_NAMED:
            said.append(f"{len(found) - MOST_NAMED} more are set aside; GET /v1/health/problems lists them.")
        return said
