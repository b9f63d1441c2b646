"""The model of edition 2 keeps the table of dependencies, in any order of results and tasks."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.definition import (
    CommandDefinition,
    Concurrency,
    Dependency,
    FlowDefinition,
    StepDefinition,
    TriggerPattern,
)
from flyteops.simulator import Execution, Simulator, StepRun
from tests.support.model import NOON

DO = CommandDefinition(name="Do", pack_name="Worker")
CHAT = TriggerPattern(pack_name="Chat")


@st.composite
def steps(draw: st.DrawFn) -> tuple[StepDefinition, ...]:
    """Two triggers, and steps that depend on earlier ones in any way, in any order of the file."""
    made = [StepDefinition(id=each, event=CHAT, command=DO) for each in ("a", "b")]
    for number in range(draw(st.integers(1, 6))):
        known = [step.id for step in made]
        wanted = tuple(draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)))
        kind = draw(st.sampled_from(["any", "all", "settled"]))
        state = draw(st.sampled_from([None, "SUCCEEDED", "FAILED"]))
        pattern = TriggerPattern(name=draw(st.sampled_from([None, "X"])), state=state)
        made.append(
            StepDefinition(
                id=f"s{number}",
                depends_on=Dependency(**{kind: wanted}),
                event=pattern if kind != "settled" and draw(st.booleans()) else None,
                command=draw(st.sampled_from([DO, DO, None])),
            )
        )
    return tuple(draw(st.permutations(made)))


def play(flow: FlowDefinition, data: st.DataObject, events: int = 1) -> Simulator:
    """Complete all commands in any order, with any results."""
    model = Simulator([flow], now=NOON)
    for _ in range(events):
        model.send("Chat", "Said")
    while model.take("Worker") is not None:
        pass
    while model.open_actions:
        action = data.draw(st.sampled_from(model.open_actions))
        name = data.draw(st.sampled_from(["X", "Y"]))
        model.complete(action.action_id, name, failure=data.draw(st.booleans()))
        while model.take("Worker") is not None:
            pass
    return model


def counts(step: StepDefinition, run: StepRun) -> bool:
    """Whether a result counts, by the table of the specification."""
    if not step.patterns:
        return run.state == "SUCCEEDED"
    pattern = step.patterns[0]
    return pattern.name in {None, run.result.name} and pattern.state in {None, run.state}


def is_due(execution: Execution, step: StepDefinition) -> bool:
    """Whether a step must have run, now that all others are settled."""
    wanted = step.dependency
    if wanted is None:
        return True
    runs = execution.steps
    if wanted.any is not None:
        return any(each in runs and counts(step, runs[each]) for each in wanted.any)
    if wanted.all is not None:
        return all(each in runs and counts(step, runs[each]) for each in wanted.all)
    return any(each in runs for each in wanted.settled)


@settings(deadline=None, derandomize=True)
@given(steps(), st.data())
def test_exactly_those_steps_run_that_the_table_names(definition, data):
    model = play(FlowDefinition(name="flow", steps=definition), data)
    execution = model.executions[0]
    ran = {step.id for step in definition if is_due(execution, step)}
    assert set(execution.steps) == ran


@settings(deadline=None, derandomize=True)
@given(steps(), st.data())
def test_an_execution_ends_with_its_last_action_and_fails_by_an_unanswered_failure(
    definition, data
):
    model = play(FlowDefinition(name="flow", steps=definition), data)
    execution = model.executions[0]
    assert execution.is_over
    unanswered = [
        run.step.id
        for run in execution.steps.values()
        if run.state == "FAILED" and not any(_answers(execution, step, run) for step in definition)
    ]
    assert execution.state == ("FAILED" if unanswered else "SUCCEEDED")
    reported = [event.payload["step"] for event in model.events if event.name == "StepFailed"]
    assert sorted(reported) == sorted(unanswered)


def _answers(execution: Execution, step: StepDefinition, failed: StepRun) -> bool:
    """Whether a failure made a step run: its own result for `any`, one of all for `all`."""
    wanted, run = step.dependency, execution.steps.get(step.id)
    if wanted is None or run is None:
        return False
    if wanted.all is not None:
        return failed.step.id in wanted.all
    # The result of a gate is the very event that ran it, so it alone does not name the step.
    is_cause = run.event is failed.result and counts(step, failed)
    return is_cause and failed.step.id in (wanted.any or ())


@settings(deadline=None, derandomize=True)
@given(steps(), st.data())
def test_every_settled_step_sees_all_that_it_depends_on_settled(definition, data):
    model = play(FlowDefinition(name="flow", steps=definition), data)
    runs = model.executions[0].steps
    for step in definition:
        if step.id in runs and step.dependency and step.dependency.settled:
            for each in step.dependency.settled:
                assert each not in runs or runs[each].result.number <= runs[step.id].number


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 3), st.data())
def test_in_any_order_of_tasks_no_more_executions_run_than_may(number, most, data):
    flow = FlowDefinition(
        name="flow",
        concurrency=Concurrency(max=most),
        steps=(StepDefinition(id="a", event=CHAT, command=DO),),
    )
    model = Simulator([flow], now=NOON, hold_tasks=True)

    def choose(tasks: Sequence[object]) -> int:
        running = sum(each.state == "RUNNING" for each in model.executions)
        assert running <= most
        return data.draw(st.integers(0, len(tasks) - 1))

    for _ in range(number):
        model.send("Chat", "Said")
    model.run_tasks(choose)
    while (action := model.take("Worker")) is not None:
        model.complete(action.action_id, "Done")
        model.run_tasks(choose)
    assert [each.state for each in model.executions] == ["SUCCEEDED"] * number
