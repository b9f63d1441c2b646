"""Properties of the evaluator that hold for any flow, event and course of an execution."""

from hypothesis import given
from hypothesis import strategies as st

from flyteops.engine.compiled import FlowIndex, compile_flow
from flyteops.engine.context import EvaluationContext
from flyteops.engine.evaluation import evaluate, evaluate_result
from flyteops.model import (
    ActionSnapshot,
    ActionState,
    Command,
    EventPattern,
    Flow,
    FlowVersion,
    Sibling,
    Step,
)
from tests.support.flow import NOON as NOW
from tests.support.flow import an_event

IDS = ["", "a", "b", "c", "d"]
NAMES = ["X", "Y"]
TEMPLATES = [
    "true",
    "false",
    "",
    "maybe",
    "{{ Event.Payload == 'x' }}",
    "{{ Event.Payload|extractMatch:'(' }}",
    "{{ 1/0 }}",
]

steps = st.builds(
    Step,
    id=st.sampled_from(IDS),
    depends_on=st.none() | st.lists(st.sampled_from(IDS[1:]), max_size=3).map(tuple),
    event=st.builds(EventPattern, name=st.sampled_from(NAMES), pack_name=st.sampled_from(NAMES)),
    criteria=st.none() | st.sampled_from(TEMPLATES),
    command=st.builds(
        Command,
        name=st.just("C"),
        pack_name=st.sampled_from(NAMES),
        input=st.sampled_from([None, *TEMPLATES]),
    ),
)
flows = st.builds(
    Flow, name=st.sampled_from(["f", "g"]), steps=st.lists(steps, max_size=6).map(tuple)
)
payloads = st.sampled_from([None, "x", 5, {"a": [1]}])


def a_moment(seed=b"s"):
    return EvaluationContext(now=NOW, seed=seed, datastore={}.__getitem__, monotonic=lambda: 0.0)


events = st.builds(an_event, st.sampled_from(NAMES), payloads, st.sampled_from(NAMES))


def prepared(flow):
    return compile_flow(FlowVersion(uuid="u" + flow.name, flow=flow, saved_at=NOW))


@given(flows, events)
def test_every_trigger_step_that_listens_is_decided_once_in_order(flow, event):
    outcome = evaluate(event, FlowIndex([prepared(flow)]), a_moment())
    expected = [
        index
        for index, step in enumerate(flow.steps)
        if step.is_trigger
        and (step.event.name, step.event.pack_name) == (event.name, event.pack.name)
    ]
    assert [decision.step_index for decision in outcome.decisions] == expected


@given(flows, events)
def test_actions_are_exactly_the_steps_that_ran(flow, event):
    outcome = evaluate(event, FlowIndex([prepared(flow)]), a_moment())
    ran = [
        (decision.step_index, decision.action_id)
        for decision in outcome.decisions
        if decision.outcome == "ran"
    ]
    assert ran == [(action.step_index, action.action_id) for action in outcome.actions]
    assert len({action.correlation_id for action in outcome.actions}) <= 1


@given(flows, events)
def test_the_same_input_gives_the_same_outcome(flow, event):
    one, two = (evaluate(event, FlowIndex([prepared(flow)]), a_moment()) for _ in range(2))
    assert one == two


@given(flows, st.lists(events, min_size=1, max_size=8))
def test_a_step_with_an_id_never_runs_twice_in_an_execution(flow, results):
    """Whatever results arrive in whatever order, as long as each continues the latest action."""
    version = prepared(flow)
    siblings: list[Sibling] = [Sibling("root", 99, ActionState.SUCCESS)]
    last = "root"
    for event in results:
        progress = ActionSnapshot(
            action_id="a",
            name="C",
            pack_name="X",
            pack_labels={},
            correlation_id="run",
            flow_name=flow.name,
            flow_uuid=version.version.uuid,
            step_id=last,
            context={},
            state=ActionState.PENDING,
            siblings=tuple(siblings),
        )
        outcome = evaluate_result(event, FlowIndex(), version, progress, a_moment())
        ran = [action.step_id for action in outcome.actions]
        assert not {sibling.step_id for sibling in siblings} & set(ran)
        siblings += [
            Sibling(action.step_id, action.step_index, ActionState.SUCCESS)
            for action in outcome.actions
        ]
        last = ran[-1] if ran else last
        for action in outcome.actions:
            wanted = flow.steps[action.step_index].dependencies
            assert not wanted.any or {sibling.step_id for sibling in siblings} & set(wanted.any)
