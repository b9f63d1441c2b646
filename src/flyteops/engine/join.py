"""The dependencies of steps: whether a step may run yet, and the reasons why a join does not run.

Pure.
"""

from typing import Literal, NamedTuple

from flyteops.model import (
    ActionSnapshot,
    Dependencies,
    Event,
    Step,
)

UnmetReason = Literal["alreadyRan", "dependsOn"]


class StepStatus(NamedTuple):
    """The ids of the steps of an execution that have run, and of those that have finished."""

    ran: frozenset[str]
    finished: frozenset[str]
    is_idle: bool = False
    """Whether no action of the execution is open."""

    @classmethod
    def of(cls, snapshot: ActionSnapshot) -> "StepStatus":
        """Return the progress of an execution.

        The action that the result belongs to counts as finished.
        """
        siblings = snapshot.siblings
        ran = frozenset([sibling.step_id for sibling in siblings])
        is_open = [sibling for sibling in siblings if not sibling.state.is_finished]
        finished = (
            frozenset([sibling.step_id for sibling in siblings if sibling.state.is_finished])
            if is_open
            else ran
        )
        is_idle = all(sibling.step_index == snapshot.step_index for sibling in is_open)
        return cls(ran, finished | {snapshot.step_id}, is_idle)


def find_unmet_dependency(
    step: Step, wanted: Dependencies, status: StepStatus
) -> tuple[UnmetReason, str] | None:
    """Return reason and detail if a step is not tried on a result, None if it is tried.

    `wanted` are the step's dependencies.
    """
    if step.id in status.ran:
        return "alreadyRan", f"step {step.id!r} has run in this execution already"
    if wanted.all:
        unfinished = [step_id for step_id in wanted.all if step_id not in status.finished]
        if unfinished:
            return (
                "dependsOn",
                f"it waits for all of {', '.join(wanted.all)};"
                f" not finished: {', '.join(unfinished)}",
            )
    if wanted.any and status.finished.isdisjoint(wanted.any):
        return (
            "dependsOn",
            f"it waits for one of {', '.join(wanted.any)}; none of them has finished",
        )
    return None


def why_missed(
    step: Step, step_id: str, event: Event, status: StepStatus, *, is_over: bool
) -> str | None:
    """Return the reason why a join does not run on a result with another event than its own.

    None if that is not worth a decision.
    """
    wanted = step.dependencies
    needed, awaited = (
        wanted.all,
        f"the step waits for event {step.event.name} of pack {step.event.pack_name}",
    )
    reason = find_unmet_dependency(step, wanted, status)
    if reason is None and step_id in needed:
        ending = (
            f"but step {step_id!r}, the last, with event {event.name} of pack {event.pack.name}"
        )
        return f"all of {', '.join(needed)} have finished, {ending}; {awaited}"
    if not is_over or status.finished.isdisjoint(needed):
        return None
    if reason is None:
        return (
            f"all of {', '.join(needed)} have finished, and none of the last results ran the step;"
            f" {awaited}"
        )
    return f"{reason[1]}; {awaited}" if reason[0] == "dependsOn" else None
