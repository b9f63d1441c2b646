"""Every event has one execution, by one version of its flow."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from flyteops_chaos.check.execution import Execution, number_of
from flyteops_chaos.flow import VERSION, flow_name
from flyteops_chaos.history import History


def lost_or_doubled(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    """Yield events without an execution, and those with several."""
    count = Counter(
        number for execution in executions if (number := number_of(execution)) is not None
    )
    for number in sorted(set(history.acknowledged) - set(count)):
        yield f"event {number} ({history.events[number].kind}) was acknowledged and is lost"
    for number, times in sorted(count.items()):
        if number not in history.events:
            yield f"event {number} was never sent"
        elif times > 1:
            yield f"event {number} ({history.events[number].kind}) has {times} executions"


def mixed_versions_handed_out(history: History) -> Iterator[str]:
    """Yield events whose commands came from several versions of a flow, or from an outdated one."""
    versions: dict[int, set[int]] = defaultdict(set)
    for received in history.hand_outs.values():
        for each in received:
            if each.number is not None and "version" in each.input:
                versions[each.number].add(int(each.input["version"]))
    for number, found in sorted(versions.items()):
        if len(found) > 1:
            yield (
                f"event {number} was evaluated by several versions of its flow:"
                f" {', '.join(map(str, sorted(found)))}"
            )
        elif number in history.events and min(found) < (oldest := history.events[number].version):
            yield (
                f"event {number} was evaluated by version {min(found)} after version {oldest} was"
                " acknowledged"
            )


def mixed_versions(history: History, executions: Sequence[Execution]) -> Iterator[str]:
    """Yield executions with a command that is not from the version in the audit."""
    for execution in executions:
        if execution["name"] != flow_name(VERSION):
            continue
        named = {step["id"]: step["command"]["input"]["version"] for step in execution["steps"]}
        for step_id, action in execution["actions"].items():
            if action["input"]["version"] != named.get(step_id):
                yield (
                    f"event {number_of(execution)}: its step {step_id} is of version"
                    f" {action['input']['version']}, its execution of {named.get(step_id)}"
                )
