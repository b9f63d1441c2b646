"""The order of the steps: unknown steps, circles, and steps that can never run."""

from collections import Counter
from collections.abc import Iterator

from flyteops.flow.edition2.outline import FlowOutline, PatternOutline, Reference, StepOutline
from flyteops.flow.edition2.result import PossibleResults
from flyteops.flow.edition2.shape import Report
from flyteops.flow.nearest import suggestion

MAX_PAIRS = 10_000
"""The maximum number of pairs of a pattern and a step that are compared for a step."""
MAX_IDS = 10
"""The maximum number of ids that the message about a circle has."""


def check_order(flow: FlowOutline, report: Report) -> None:
    """Report unknown and repeated ids, circles, and steps that can never run."""
    _check_ids(flow, report)
    faulty = set(_check_references(flow, report))
    faulty |= set(_check_circles(flow, report))
    results = PossibleResults(flow)
    for step in flow.steps:
        if step.is_continuation and step.index not in faulty and not step.node.has("schedule"):
            faulty |= {step.index for _ in _check_patterns(flow, step, results, report)}
    _check_reach(flow, faulty, results, report)


def _check_ids(flow: FlowOutline, report: Report) -> None:
    for step in flow.steps:
        if step.id is not None and flow.by_id[step.id] is not step:
            first = flow.by_id[step.id]
            report.add(
                (*step.path, "id"),
                f"the id {step.id!r} is used twice; the first is steps[{first.index}]",
            )


def _check_references(flow: FlowOutline, report: Report) -> Iterator[int]:
    """Report references to other steps that lead nowhere; yield the steps that have one."""
    for step in flow.steps:
        for reference in _references(step):
            if reference.step_id not in flow.by_id:
                yield step.index
                report.add(reference.path, no_step(reference.step_id, flow.ids))
        depends_on = {reference.step_id for reference in step.references}
        for pattern in step.patterns if step.node.has("dependsOn") else ():
            named = pattern.result_of
            if named is not None and named in flow.by_id and named not in depends_on:
                if not depends_on:
                    continue  # dependsOn itself has a fault
                yield step.index
                report.add(
                    (*pattern.path, "resultOf"),
                    f"{step.title} does not depend on {named!r}; add it to dependsOn",
                )


def _references(step: StepOutline) -> Iterator[Reference]:
    seen = set()
    for reference in step.references:
        seen.add(reference.path)
        yield reference
    for pattern in step.patterns:
        path = (*pattern.path, "resultOf")
        if pattern.result_of is not None and path not in seen:
            yield Reference(pattern.result_of, path)


def no_step(step_id: str, ids: list[str]) -> str:
    """Return the message about an unknown step."""
    return f"there is no step {step_id[:40]!r}{suggestion(step_id, ids)}"


def _about_circle(circle: list[StepOutline]) -> str:
    ids = [str(each.id)[:40] for each in circle]
    if len(ids) > MAX_IDS:
        ids[MAX_IDS // 2 : -MAX_IDS // 2] = [f"({len(ids) - MAX_IDS} more)"]
    return f"the steps depend on each other in a circle: {' -> '.join(ids)}"


def _check_circles(flow: FlowOutline, report: Report) -> Iterator[int]:
    """Report each circle once, at the reference that closes it; yield its steps."""
    state: dict[int, int] = {}  # 1: on the way, 2: done
    for start in flow.steps:
        if start.index in state:
            continue
        way: list[StepOutline] = [start]
        state[start.index] = 1
        left = [iter(_targets(flow, start))]
        while left:
            found = next(left[-1], None)
            if found is None:
                state[way.pop().index] = 2
                left.pop()
                continue
            reference, target = found
            if state.get(target.index) == 1:
                circle = way[way.index(target) :]
                yield from (each.index for each in circle)
                report.add(reference.path, _about_circle([*circle, target]))
            elif target.index not in state:
                state[target.index] = 1
                way.append(target)
                left.append(iter(_targets(flow, target)))


def _targets(flow: FlowOutline, step: StepOutline) -> list[tuple[Reference, StepOutline]]:
    return [
        (reference, flow.by_id[reference.step_id])
        for reference in step.references
        if reference.step_id in flow.by_id
    ]


def _check_patterns(
    flow: FlowOutline, step: StepOutline, results: PossibleResults, report: Report
) -> Iterator[None]:
    """Report the patterns that no result matches; yield once for each."""
    dependencies = flow.dependencies(step)
    if len(dependencies) * len(step.patterns) > MAX_PAIRS:
        return
    for pattern in step.patterns:
        named = pattern.result_of
        sources = [each for each in dependencies if named is None or each.id == named]
        if sources and not any(results.match(each, pattern.node) for each in sources):
            yield
            report.add(*results.mismatch(pattern, sources))
    if step.mode != "all" or not step.patterns:
        return
    for reference in step.references:
        source = flow.by_id.get(reference.step_id)
        if source is not None and not _is_answered(step.patterns, source, results):
            yield
            report.add(
                reference.path,
                f"{step.title} can never run: no pattern of its event matches a result of"
                f" {reference.step_id!r}",
            )


def _is_answered(
    patterns: tuple[PatternOutline, ...], source: StepOutline, results: PossibleResults
) -> bool:
    return any(
        pattern.result_of in (None, source.id) and results.match(source, pattern.node)
        for pattern in patterns
    )


def _check_reach(
    flow: FlowOutline, faulty: set[int], results: PossibleResults, report: Report
) -> None:
    """Report the steps that never run because the steps before cannot make them.

    Steps after one with a reported fault are assumed to run.
    """
    dead: set[int] = set()
    dependents: dict[int, list[StepOutline]] = {}
    waiting = [step for step in flow.steps if not step.is_trigger and step.index not in faulty]
    for step in waiting:
        for source in flow.dependencies(step):
            dependents.setdefault(source.index, []).append(step)
    blocked: Counter[int] = Counter()
    for step in waiting:
        sources = flow.dependencies(step)
        blocked[step.index] = sum(_never_suits(each, step, results) for each in sources)
    ends = [step for step in waiting if _is_dead(flow, step, blocked)]
    while ends:
        step = ends.pop()
        if step.index in dead:
            continue
        dead.add(step.index)
        for other in dependents.get(step.index, ()):
            blocked[other.index] += not _never_suits(step, other, results)
            if _is_dead(flow, other, blocked):
                ends.append(other)
    for step in flow.steps:
        if step.index in dead:
            names = ", ".join(repr(each.id) for each in flow.dependencies(step))
            what = "its result" if step.is_continuation and step.patterns else "a success"
            report.add(
                step.path, f"{step.title} can never run: it waits for {what} of {names} in vain"
            )


def _is_dead(flow: FlowOutline, step: StepOutline, blocked: Counter[int]) -> bool:
    count = len(flow.dependencies(step))
    return count > 0 and blocked[step.index] >= (1 if step.mode == "all" else count)


def _never_suits(source: StepOutline, step: StepOutline, results: PossibleResults) -> bool:
    """Return whether the results of a step are never the success that another one waits for."""
    needs_success = step.mode != "settled" and not (step.is_continuation and step.patterns)
    return needs_success and not results.can_succeed(source)
