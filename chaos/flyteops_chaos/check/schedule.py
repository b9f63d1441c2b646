"""Schedules: each time fires once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from flyteops_chaos.check.execution import Execution
from flyteops_chaos.flow import SCHEDULE, flow_name
from flyteops_chaos.history import History

MINUTE = timedelta(minutes=1)


def missed_or_doubled(
    history: History, executions: Sequence[Execution], until: datetime | None
) -> Iterator[str]:
    """Yield times of schedules that have fired more than once, or are past and have not fired."""
    fired: dict[str, Counter[datetime]] = defaultdict(Counter)
    for execution in executions:
        if execution["name"].startswith(flow_name(SCHEDULE)):
            payload = execution["actions"]["tick"]["trigger"]["payload"]
            fired[execution["name"]][datetime.fromisoformat(payload["scheduledAt"])] += 1
    for name, (_, saved_before) in history.schedules.items():
        counts = fired[name]
        for at, times in sorted(counts.items()):
            if times > 1:
                yield f"the schedule {name} has fired {times} times for {at:%H:%M}"
        end = max([*counts, *([] if until is None else [until])], default=saved_before)
        at = saved_before.replace(second=0, microsecond=0) + MINUTE
        while at <= end:
            if at not in counts:
                yield f"the schedule {name} has never fired for {at:%H:%M}"
            at += MINUTE
