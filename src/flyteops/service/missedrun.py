"""The report on missed runs: schedules due without a running server, and effects of `catchUp`."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flyteops.flow.policy import catch_up_policy, count_runs, last_run_of
from flyteops.flow.schedule import ON_TIME, NextRun
from flyteops.model import Schedule, Step
from flyteops.storage.base import TimerKey
from flyteops.timeformat import format_timestamp
from flyteops.transition import DueSchedule

LOGGER = logging.getLogger("flyte.service")

MAX_LINES = 20
"""The number of schedules that are reported one by one."""

MAX_COUNTED = 100
"""The number up to which missed runs of one schedule are counted; counting takes time."""


@dataclass
class _Missed:
    """The missed runs of one schedule, from `first` up to `until`.

    `ran` of them run late, the last of these for `ran_for`.
    """

    label: str
    schedule: Schedule
    first: datetime
    until: datetime
    ran: int = 0
    ran_for: datetime | None = None

    def __str__(self) -> str:
        catch_up = catch_up_policy(self.schedule)
        count = (
            self.ran
            if catch_up == "all"
            else count_runs(self.schedule, self.first, self.until, at_most=MAX_COUNTED)
        )
        last = last_run_of(self.schedule, self.until) or self.until
        number = f"{count} or more" if count == MAX_COUNTED and catch_up != "all" else str(count)
        noun, period = ("runs", f"{format_timestamp(self.first)} to {format_timestamp(last)}")
        if count == 1:
            noun, period = "run", format_timestamp(self.first)
        return (
            f"Schedule {self.label} missed {number} {noun} ({period}); catchUp is {catch_up}:"
            f" {self._outcome()}"
        )

    def _outcome(self) -> str:
        if self.ran_for is None:
            return "none of them runs"
        if self.ran > 1:
            return "all of them run now"
        return f"the one for {format_timestamp(self.ran_for)} runs now"


class MissedRuns:
    """Collects the missed runs that rulings are made about, until they are reported.

    A ruling may be made again for the same time, when its transaction was rolled back; it counts
    once.
    """

    def __init__(self) -> None:
        self._missed: dict[TimerKey, _Missed] = {}

    def note(self, due: DueSchedule, step: Step, now: datetime, tick: NextRun) -> None:
        """Record a ruling on a step that was due by its schedule."""
        if step.schedule is None or now - due.due_at <= ON_TIME:
            return
        key = TimerKey(due.flow_name, due.flow_uuid, due.step_index)
        known = self._missed.get(key)
        if known is not None and due.due_at <= known.until:
            return
        if known is None:
            label = f"{due.flow_name}/{step.id or due.step_index}"
            known = self._missed[key] = _Missed(label, step.schedule, due.due_at, due.due_at)
        known.until = due.due_at if catch_up_policy(step.schedule) == "all" else now - ON_TIME
        if tick.fires_for is not None and now - tick.fires_for > ON_TIME:
            known.ran, known.ran_for = known.ran + 1, tick.fires_for

    def report(self, failed: Iterable[TimerKey] = ()) -> None:
        """Log the missed runs, except of timers whose ruling was not carried out."""
        missed, self._missed = self._missed, {}
        for key in failed:
            missed.pop(key, None)
        for each in list(missed.values())[:MAX_LINES]:
            LOGGER.warning("%s", each)
        if len(missed) > MAX_LINES:
            LOGGER.warning("Runs of %d more schedules were missed", len(missed) - MAX_LINES)
