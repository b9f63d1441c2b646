"""Keys that go together or not: of a step, of its command, and of the limits of a flow."""

from collections.abc import Callable

from flyteops.flow.edition2.builtin import RESULTS, command_of
from flyteops.flow.edition2.outline import MODES, FlowOutline, StepOutline
from flyteops.flow.edition2.shape import Report
from flyteops.model import SERVER

AT_ONCE = ("debounce", "batch", "threshold")
"""The limits of which a flow has at most one."""


def check_combinations(flow: FlowOutline, report: Report) -> None:
    """Report keys that are missing beside others, or do not go with them."""
    _check_limits(flow, report)
    for step in flow.steps:
        for check in STEP_CHECKS:
            check(step, report)
        _check_conditional_data(flow, step, report)


def _check_limits(flow: FlowOutline, report: Report) -> None:
    given = [key for key in AT_ONCE if flow.node.has(key)]
    for key in given[1:]:
        report.add((key,), f"does not go with {given[0]!r}; a flow has one of {_listed(AT_ONCE)}")
    triggers = [step for step in flow.steps if step.is_trigger]
    if len(triggers) > 1:
        for key in given:
            report.add((key,), f"needs a flow with one trigger; this one has {len(triggers)}")


def _check_dependency(step: StepOutline, report: Report) -> None:
    given = step.node.node("dependsOn")
    if given is None:
        return
    modes = [mode for mode in MODES if given.has(mode)]
    if not modes:
        report.add((*step.path, "dependsOn"), f"must have one of {_listed(MODES)}")
    for mode in modes[1:]:
        report.add(
            (*step.path, "dependsOn", mode), f"does not go with {modes[0]!r}; give one of them"
        )


def _check_start(step: StepOutline, report: Report) -> None:
    """Check the event of a trigger, and its schedule."""
    has_schedule = step.node.has("schedule")
    if has_schedule:
        reasons = {
            "event": "a schedule takes the place of the event",
            "dependsOn": "a scheduled step begins an execution",
            "correlate": "a wait ends with an event",
        }
        for key, reason in reasons.items():
            if step.node.has(key):
                report.add((*step.path, key), f"does not go with a schedule: {reason}")
    elif step.is_trigger and not step.node.has("event") and not step.is_wait:
        report.add(
            step.path,
            f"'event' is missing: {step.title} depends on no step, so it begins executions with an"
            " event, or with a schedule",
        )


def _check_patterns(step: StepOutline, report: Report) -> None:
    for pattern in step.patterns:
        if not step.is_continuation and not pattern.node.has("packName"):
            kind = "wait" if step.is_wait else "trigger"
            report.add(pattern.path, f"'packName' is missing: the event of a {kind} needs a pack")
        if step.is_trigger and pattern.node.has("state") and not step.is_wait:
            report.add(
                (*pattern.path, "state"),
                "is for results of other steps; a step without dependsOn begins executions",
            )
        if pattern.node.has("key") and not step.is_wait:
            report.add((*pattern.path, "key"), "is for a wait; add correlate, or leave it out")
        name = pattern.node.text("name")
        begins = step.is_trigger and not step.is_wait
        if begins and pattern.node.text("packName") == SERVER and name in RESULTS:
            report.add(
                (*pattern.path, "name"), f"results of the pack Flyte such as {name!r} start no flow"
            )


def _check_implied(step: StepOutline, report: Report) -> None:
    """Check that each pattern names a step when patterns take the place of `dependsOn`."""
    if step.node.has("dependsOn") or step.is_trigger or step.is_wait:
        return
    for pattern in step.patterns:
        if not pattern.node.has("resultOf"):
            report.add(
                pattern.path,
                "'resultOf' is missing: without dependsOn, either each pattern has one or none",
            )


def _check_wait(step: StepOutline, report: Report) -> None:
    correlate = step.node.node("correlate")
    if not step.is_wait:
        return
    at = (*step.path, "correlate")
    if not step.node.has("dependsOn"):
        report.add(at, "needs dependsOn: a wait follows other steps")
    if not step.node.has("event"):
        report.add(step.path, f"'event' is missing: {step.title} waits for an event from outside")
    for pattern in step.patterns:
        if pattern.node.has("resultOf"):
            report.add(
                (*pattern.path, "resultOf"),
                "does not go with correlate: a wait ends with an event from outside, not with a"
                " result",
            )
        if correlate is not None and not correlate.has("event") and not pattern.node.has("key"):
            report.add(
                pattern.path, "'key' is missing: give it here, or correlate.event for all patterns"
            )


def _check_settled(step: StepOutline, report: Report) -> None:
    given = step.node.node("dependsOn")
    if given is not None and given.has("settled") and step.node.has("event") and not step.is_wait:
        report.add(
            (*step.path, "event"),
            "does not go with 'settled': the step runs when the others have ended, whatever"
            " their results",
        )


def _check_multiple(step: StepOutline, report: Report) -> None:
    given = [key for key in ("forEach", "repeat") if step.node.has(key)]
    if len(given) > 1:
        report.add((*step.path, "repeat"), "does not go with 'forEach'; give one of them")
    if given and not step.node.has("command"):
        report.add((*step.path, given[0]), "needs a command")


def _check_command(step: StepOutline, report: Report) -> None:
    command = step.command
    if command is None:
        return
    at = (*step.path, "command")
    if command.has("onLost") and not command.has("timeout"):
        report.add(
            (*at, "onLost"),
            "needs a timeout beside it: without one, a command never counts as lost",
        )
    retry = command.node("retry")
    if retry is not None and not command.has("timeout"):
        if not retry.has("on"):
            report.add(
                (*at, "retry"),
                "retries lost commands, which needs a timeout beside it; for failures, add on:"
                " [failed]",
            )
        elif "lost" in (retry.get("on") or ()):
            report.add(
                (*at, "retry", "on"),
                "'lost' needs command.timeout: without one, a command never counts as lost",
            )


def _check_conditional_data(flow: FlowOutline, step: StepOutline, report: Report) -> None:
    """Check that a step after a conditional change of data names the event."""
    if step.is_trigger or step.mode == "settled":
        return
    for source in flow.dependencies(step):
        if not _is_conditional(source):
            continue
        speaking = [each for each in step.patterns if each.result_of in (None, source.id)]
        if step.is_wait or not all(each.node.has("name") for each in speaking) or not speaking:
            name = source.command.text("name") if source.command is not None else None
            report.add(
                step.path,
                f"{step.title} must name the event, DataSet or DataUnchanged: the {name} of"
                f" {source.id!r} has a condition",
            )


def _is_conditional(step: StepOutline) -> bool:
    command = command_of(step)
    given = None if step.command is None else step.command.get("input")
    return (
        command is not None
        and isinstance(given, dict)
        and any(key in given for key in command.conditions)
        and not any(step.node.has(key) for key in ("forEach", "repeat"))
    )


STEP_CHECKS: tuple[Callable[[StepOutline, Report], None], ...] = (
    _check_dependency,
    _check_start,
    _check_patterns,
    _check_implied,
    _check_wait,
    _check_settled,
    _check_multiple,
    _check_command,
)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
