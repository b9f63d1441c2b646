"""Set-aside entries: data and timers that this server cannot process while everything else goes on.

Each is retried after a growing pause. The entries are kept in memory only, as another server may be
able to process the same data.
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

FLOW, VERSION, PACK, ITEM, TOKEN, HOOK = (
    "flow",
    "flow version",
    "pack",
    "datastore",
    "token",
    "hook",
)
ACTION, SCHEDULE = "action", "schedule"
READ = (FLOW, VERSION, PACK, ITEM, TOKEN, HOOK)
"""The kinds of data that are read and kept in memory."""

FIRST_PAUSE = 5.0
MAX_PAUSE = 60.0
"""Seconds before the next try: doubled after each failure, up to a bound."""

MAX_LOGGED = 20
"""The number of problems set aside at the same time that are logged one by one."""

MAX_NAMED = 5
"""The number of problems that a warning names."""


class SetAsideKey(NamedTuple):
    """The identity of a set-aside entry.

    `kind` is one of those of the audit log, or action, schedule or flow version. `place`
    distinguishes entries of the same name.
    """

    kind: str
    name: str
    place: object = ""


class HealthProblem(msgspec.Struct, frozen=True):
    """A set-aside entry: the reason, its start, its failures, and the time of the next try."""

    kind: str
    name: str
    reason: str
    since: datetime
    failures: int
    retry_at: float


def reason_of(error: Exception) -> str:
    """Return an error as shown to users."""
    if isinstance(error, FlyteError):
        return error.message
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


class SetAsideEntries:
    """All set-aside entries, by key."""

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._problems: dict[SetAsideKey, HealthProblem] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._problems

    def report(self, failures: Mapping[SetAsideKey, Exception]) -> None:
        """Set entries aside, or record that they failed again.

        Each is logged once for each reason.
        """
        fresh = []
        for key, error in failures.items():
            known, reason = self._problems.get(key), reason_of(error)
            count = 1 if known is None else known.failures + 1
            pause = min(FIRST_PAUSE * 2 ** min(count - 1, 10), MAX_PAUSE)
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
        for key, reason, error in fresh[:MAX_LOGGED]:
            trace = None if isinstance(error, (FlyteError, ValueError)) else error
            LOGGER.error(
                "The %s %r is set aside and tried again later: %s",
                key.kind,
                key.name,
                reason,
                exc_info=trace,
            )
        if len(fresh) > MAX_LOGGED:
            LOGGER.error(
                "%d more are set aside; GET /v1/health/problems lists them", len(fresh) - MAX_LOGGED
            )

    def resolve(self, keys: Iterable[SetAsideKey]) -> None:
        """Record that these are in order, or gone."""
        for key in keys:
            problem = self._problems.pop(key, None)
            if problem is not None:
                LOGGER.info("The %s %r is no longer set aside", problem.kind, problem.name)

    def replace(self, kind: str, failures: Mapping[str, Exception], place: str = "") -> None:
        """Set aside exactly these entries of a kind and place as unreadable.

        All others can be read.
        """
        keys = {SetAsideKey(kind, name, place): error for name, error in failures.items()}
        self.resolve(
            [
                key
                for key in self._problems
                if (key.kind, key.place) == (kind, place) and key not in keys
            ]
        )
        self.report(keys)

    def reason_of(self, key: SetAsideKey) -> str:
        """Return the reason why this is set aside, "" if it is not."""
        problem = self._problems.get(key)
        return "" if problem is None else problem.reason

    def is_waiting(self, key: SetAsideKey) -> bool:
        """Return whether this is set aside and not due for another try yet."""
        problem = self._problems.get(key)
        return problem is not None and problem.retry_at > self._monotonic()

    def decode(
        self, notes: Iterable[Note], type_: type[T], kind: str, place: str = ""
    ) -> list[tuple[str, T]]:
        """Return the decoded values of notes, with their keys.

        Set aside those that cannot be read.
        """
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
        """Return whether a resource, as the audit log names it, cannot be read."""
        return any((key.kind, key.name) == thing for key in self._problems)

    def keys(self, kinds: Iterable[str]) -> Sequence[SetAsideKey]:
        """Return the keys of the entries of some kinds."""
        wanted = frozenset(kinds)
        return [key for key in self._problems if key.kind in wanted]

    @property
    def problems(self) -> Sequence[HealthProblem]:
        """All set-aside entries, the longest first."""
        return sorted(
            self._problems.values(), key=lambda problem: (problem.since, problem.kind, problem.name)
        )

    @property
    def summary(self) -> list[str]:
        """The number of problems, without names and reasons."""
        count = len(self._problems)
        said = "1 problem" if count == 1 else f"{count} problems"
        return [f"{said}; see GET /v1/health/problems"] if count else []

    @property
    def warnings(self) -> list[str]:
        """A summary of the problems: the first with their reasons, and the number of others."""
        found = self.problems
        said = [
            f"The {each.kind} {each.name!r} is set aside: {each.reason}"
            for each in found[:MAX_NAMED]
        ]
        if len(found) > MAX_NAMED:
            said.append(
                f"{len(found) - MAX_NAMED} more are set aside; GET /v1/health/problems lists them."
            )
        return said
