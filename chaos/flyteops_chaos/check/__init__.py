"""The checks: they return the broken promises, as far as the clients and the audit show them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flyteops_chaos.check import event, hand_out, result, schedule
from flyteops_chaos.history import History

Executions = Sequence[Mapping[str, Any]]


def faults_so_far(history: History) -> list[str]:
    """Return the promises that the clients alone can see broken; for any time."""
    return [
        *(f"{text} ({times} times)" for text, times in history.unexpected.items()),
        *hand_out.doubled(history),
        *hand_out.early(history),
        *event.mixed_versions_handed_out(history),
        *result.refused(history),
        *result.not_fenced(history),
    ]


def faults_in(
    history: History, executions: Executions, *, fired_until: datetime | None = None
) -> list[str]:
    """Return every broken promise, given all executions in the audit after everything has ended.

    Schedules have fired for every time up to `fired_until`, or up to the last one that was handed
    out if it is None.
    """
    return [
        *faults_so_far(history),
        *event.lost_or_doubled(history, executions),
        *event.mixed_versions(history, executions),
        *result.lost(history, executions),
        *result.late_and_lost(history, executions),
        *result.overtaken(executions),
        *hand_out.stuck(history, executions),
        *schedule.missed_or_doubled(history, executions, fired_until),
    ]


__all__ = ["Executions", "faults_in", "faults_so_far"]
