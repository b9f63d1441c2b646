"""Access to executions in the audit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyteops_chaos.flow import HOOKED, SCHEDULE, flow_name

Execution = Mapping[str, Any]


def number_of(execution: Execution) -> int | None:
    """Return the number of the event that began an execution; None if that was a schedule."""
    if execution["name"].startswith(flow_name(SCHEDULE)):
        return None
    payload = next(iter(execution["actions"].values()))["trigger"]["payload"]
    return int((payload["body"] if execution["name"] == flow_name(HOOKED) else payload)["number"])


def actions_of(executions: Sequence[Execution]) -> Iterator[tuple[Execution, Mapping[str, Any]]]:
    """Yield every action with its execution."""
    for execution in executions:
        for action in execution["actions"].values():
            yield execution, action
