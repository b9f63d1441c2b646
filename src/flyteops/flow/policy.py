"""The terms of a step: its delay and schedule, and the time limit and loss policy of its command.

The keys are `timeout`, `retry` and `onLost` of a command, `delay` and `schedule` of a step. Servers
that do not know them ignore them, so a flow with these keys runs there as well, without them.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Literal, NamedTuple

from flyteops.flow.schedule import (
    CATCH_UP,
    NextRun,
    check_cron,
    count_until,
    get_time_zone,
    last_until,
    next_after,
    next_run,
)
from flyteops.model import Command, RetryPolicy, Schedule, Step
from flyteops.retry import Backoff
from flyteops.timeformat import format_duration, parse_duration

OnLost = Literal["retry", "fail", "ask"]

ON_LOST = ("retry", "fail", "ask")
MIN_TIMEOUT = timedelta(milliseconds=100)
MAX_ATTEMPTS = 100
ATTEMPTS = 3
"""The default number of hand-outs of a lost command that the flow retries."""
BACKOFF = timedelta(seconds=10)
MAX_BACKOFF = timedelta(minutes=10)
CATCH_UP_DEFAULT = "last"
TIME_ZONE = "UTC"

Fault = tuple[tuple[str, ...], str]
"""The place of a fault in the step, and its description."""


class StepPolicy(NamedTuple):
    """The terms of every action of a step.

    With `asks_operator`, an operator decides when no attempt is left.
    """

    delay: timedelta | None = None
    timeout: timedelta | None = None
    attempts: int = 1
    backoff: timedelta = BACKOFF
    max_backoff: timedelta = MAX_BACKOFF
    asks_operator: bool = False

    def retry_delay(self, attempt: int, jitter: float) -> timedelta:
        """Return the wait after a lost attempt; `attempt` counts from 1, `jitter` is from 0 to 1.

        It doubles up to the bound; half of it is jitter.
        """
        steps = Backoff(self.backoff.total_seconds(), limit=self.max_backoff.total_seconds())
        return timedelta(seconds=steps.delay(attempt, jitter))


def policy_of(step: Step) -> StepPolicy:
    """Return the terms of a step; raise `ValueError` if `validate_policy` reports a fault.

    The schedule is not checked: the set of known time zones may change.
    """
    for path, message in _faults_of_step(step):
        raise ValueError(f"{'.'.join(path)}: {message}")
    command = step.command
    retry = command.retry or (RetryPolicy() if command.on_lost == "retry" else None)
    return StepPolicy(
        delay=parse_duration(step.delay) if step.delay else None,
        timeout=parse_duration(command.timeout) if command.timeout else None,
        attempts=1 if retry is None else retry.attempts or ATTEMPTS,
        backoff=parse_duration(retry.backoff) if retry and retry.backoff else BACKOFF,
        max_backoff=parse_duration(retry.max_backoff)
        if retry and retry.max_backoff
        else MAX_BACKOFF,
        asks_operator=command.on_lost == "ask",
    )


def validate_policy(step: Step) -> Iterator[Fault]:
    """Yield the faults in the terms of a step."""
    yield from _faults_of_step(step)
    if step.schedule is not None:
        yield from _faults_of_schedule(step.schedule)
        if step.depends_on is not None:
            yield (
                ("dependsOn",),
                "does not go with a schedule: a scheduled step begins an execution",
            )


def _faults_of_step(step: Step) -> Iterator[Fault]:
    yield from _about_duration(step.delay, ("delay",), timedelta(0))
    yield from _faults_of_command(step.command)


def _faults_of_command(command: Command) -> Iterator[Fault]:
    at = ("command",)
    yield from _about_duration(command.timeout, (*at, "timeout"), MIN_TIMEOUT)
    if command.on_lost is not None and command.on_lost not in ON_LOST:
        yield (
            (*at, "onLost"),
            (
                "must be retry, fail or ask, not"
                f" {command.on_lost[:40]!r}{_nearest(command.on_lost, ON_LOST)}"
            ),
        )
    for key, value in (("retry", command.retry), ("onLost", command.on_lost)):
        if value is not None and command.timeout is None:
            yield (
                (*at, key),
                "needs a timeout beside it: without one, a command never counts as lost",
            )
    retry = command.retry
    if retry is None:
        return
    if retry.attempts is not None and not 1 <= retry.attempts <= MAX_ATTEMPTS:
        yield (*at, "retry", "attempts"), f"must be from 1 to {MAX_ATTEMPTS}; the first one counts"
    yield from _about_duration(retry.backoff, (*at, "retry", "backoff"), timedelta(0))
    yield from _about_duration(retry.max_backoff, (*at, "retry", "maxBackoff"), timedelta(0))


def _about_duration(text: str | None, path: tuple[str, ...], least: timedelta) -> Iterator[Fault]:
    if text is None:
        return
    try:
        duration = parse_duration(text)
    except ValueError as error:
        yield path, str(error)
    else:
        if duration < least:
            yield path, f"must be at least {format_duration(least)}"


def _faults_of_schedule(schedule: Schedule) -> Iterator[Fault]:
    checks: list[tuple[str, Callable[[str], object], str | None]] = [
        ("cron", check_cron, schedule.cron),
        ("timeZone", get_time_zone, schedule.time_zone),
    ]
    for key, check, value in checks:
        if value is not None:
            try:
                check(value)
            except ValueError as error:
                yield ("schedule", key), str(error)
    if schedule.catch_up is not None and schedule.catch_up not in CATCH_UP:
        yield (
            ("schedule", "catchUp"),
            (
                "must be all, last or skip, not"
                f" {schedule.catch_up[:40]!r}{_nearest(schedule.catch_up, CATCH_UP)}"
            ),
        )


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(word.casefold()[:40], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# ---------------------------------------------------------------------------------------- schedules


def schedule_rule(schedule: Schedule) -> str:
    """Return the rule of a schedule: while it stays the same, so does the next due time."""
    return f"{schedule.cron} {schedule.time_zone or TIME_ZONE}"


def first_due_at(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the time at which a new schedule is first due, None if never."""
    return next_after(schedule.cron, schedule.time_zone or TIME_ZONE, now)


def next_run_of(schedule: Schedule, due_at: datetime, now: datetime) -> NextRun:
    """Return the outcome of a schedule that was due at a time."""
    return next_run(
        schedule.cron, schedule.time_zone or TIME_ZONE, catch_up_policy(schedule), due_at, now
    )


def catch_up_policy(schedule: Schedule) -> str:
    """Return the policy of a schedule for missed times: all, last or skip."""
    return schedule.catch_up or CATCH_UP_DEFAULT


def count_runs(schedule: Schedule, first: datetime, last: datetime, *, at_most: int) -> int:
    """Return the number of times that a schedule is due from `first`, one of them, to `last`."""
    return count_until(schedule.cron, schedule.time_zone or TIME_ZONE, first, last, at_most=at_most)


def last_run_of(schedule: Schedule, until: datetime) -> datetime | None:
    """Return the last time up to `until` at which a schedule is due."""
    return last_until(schedule.cron, schedule.time_zone or TIME_ZONE, until)
