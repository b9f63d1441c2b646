"""The index of candidates changes no outcome: of any flows and events, with or without it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.engine import subscribers
from flyteops.engine.compiled import FlowIndex, compile_flow
from flyteops.engine.context import DatastoreSnapshot, EvaluationContext
from flyteops.engine.evaluation import evaluate, evaluate_triggers
from flyteops.model import Command, DataItem, Event, EventPattern, Flow, FlowVersion, PackRef, Step
from tests.support.flow import NOON

ATOMS = [
    "Event.Payload.message|match:'^deploy'",
    "Event.Payload.message|match:'(?i)DEPLOY\\\\b'",
    "Event.Payload.message|match:'('",
    "Event.Payload.message|match:'^$'",
    "Event.Payload|match:'a'",
    "Event.Payload.message|match:'a{2,40}'",
    "Event.Payload.message|match:Event.Payload.room",
    "Event.Payload.room == 'ops'",
    "'ops' == Event.Payload.room",
    "Event.Payload.room != 'ops'",
    "Event.Payload.room in 'ops,dev'|split:','",
    "Event.Payload.room in 'ops dev'",
    "'dep' in Event.Payload.message",
    "'*' in Event.Payload.message",
    "Event.Payload.count == 1.0",
    "Event.Payload.count == 1",
    "Event.Payload.flag == true",
    "Event.Payload.flag",
    "Event.Payload.user.name == 'ann'",
    "Event.Pack.Labels.env == 'prod'",
    "Event.Pack.Name == 'Chat'",
    "Event.Name == 'Said'",
    "Context.text|match:'^deploy'",
    "Context.text == 'x'",
    "Context.room == 'ops'",
    "Context.number == '1'",
    "Context.absent == 'x'",
    "datastore('rooms').ops == 'yes'",
    "datastore(Event.Payload.room).ops == 'yes'",
    "randomInt(2) == 0",
    "not Event.Payload.room == 'ops'",
    "!(Event.Payload.room == 'ops')",
    "true",
    "1/0 == 1",
]
CONTEXTS = [
    None,
    {"text": "{{ Event.Payload.message }}", "room": "{{ Event.Payload.room }}"},
    {"text": "say {{ Event.Payload.message }}", "number": "{{ Event.Payload.count }}"},
    {"text": "{{ Event.Payload.message|upper }}", "fails": "{{ 1/0 }}"},
    {"text": "{{ datastore('rooms').ops }}", "absent": "{{ datastore('absent') }}"},
]


def expressions():
    atoms = st.sampled_from(ATOMS)

    def joined(inner):
        return st.one_of(
            st.builds("{} {} {}".format, inner, st.sampled_from(["&&", "and", "||", "or"]), inner),
            st.builds("({})".format, inner),
        )

    return st.recursive(atoms, joined, max_leaves=5)


criteria = st.one_of(
    st.none(),
    expressions().map("{{{{ {} }}}}".format),
    expressions().map("{{% if {} %}}true{{% endif %}}".format),
    expressions().map("{{% if {} %}}true{{% else %}}false{{% endif %}}".format),
    expressions().map("{{% if {} %}}false{{% else %}}true{{% endif %}}".format),
    expressions().map("{{% with a=1 %}}{{{{ {} }}}}{{% endwith %}}".format),
    expressions().map("{{% with Event=2 %}}{{{{ {} }}}}{{% endwith %}}".format),
    expressions().map("{{% with 2 as Context %}}{{{{ {} }}}}{{% endwith %}}".format),
    expressions().map(" {{{{ {} }}}}".format),
)
steps = st.builds(
    Step,
    event=st.builds(
        EventPattern,
        name=st.just("Said"),
        pack_name=st.just("Chat"),
        pack_labels=st.sampled_from(
            [None, {"env": "prod"}, {"env": "{{ Event.Payload.room }}"}, {"env": "x", "a": "b"}]
        ),
    ),
    criteria=criteria,
    context=st.sampled_from(CONTEXTS),
    command=st.builds(
        Command,
        name=st.just("Do"),
        pack_name=st.just("Worker"),
        input=st.sampled_from([None, "{{ randomInt(100) }}", {"a": "{{ Context.text }}"}]),
    ),
)
all_steps = st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=6)
messages = st.sampled_from(
    [
        "deploy app",
        "Deploy",
        "x",
        "",
        "aaa",
        "*",
        "a\ud800",
        "ä",
        1,
        1.5,
        None,
        True,
        ["deploy"],
        {},
    ]
)
payloads = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "message": messages,
            "room": st.sampled_from(["ops", "dev", "rooms", 7, None, {"a": 1}]),
            "count": st.sampled_from([1, 0, "1", 10**400]),
            "flag": st.sampled_from([True, False, "true", 1]),
            "user": st.sampled_from([{"name": "ann"}, {"name": 1}, "ann", None]),
        },
    ),
    st.sampled_from([None, "deploy", "a", 3, [1], 10**400]),
)
labels = st.sampled_from([{}, {"env": "prod"}, {"env": "ops", "a": "b"}])
ITEMS = {"rooms": DataItem("rooms", "application/json", b'{"ops": "yes"}')}


def compiled(steps_of_flows):
    return [
        compile_flow(FlowVersion(f"u{number}", Flow(f"f{number}", steps=tuple(steps)), NOON))
        for number, steps in enumerate(steps_of_flows)
    ]


def a_context(**more):
    return EvaluationContext(
        now=NOON,
        seed=b"seed",
        datastore=DatastoreSnapshot(ITEMS),
        monotonic=lambda: 0.0,
        **more,
    )


def encoded(payload):
    return msgspec.json.encode(payload) if payload != 10**400 else b"1" + b"0" * 400


@pytest.fixture(autouse=True)
def always_indexed(monkeypatch):
    """Look for candidates even among few steps, in segments of few steps."""
    monkeypatch.setattr(subscribers, "FEW", 0)
    monkeypatch.setattr(subscribers, "SEGMENT_COST", 4)


@settings(max_examples=300, deadline=None)
@given(all_steps, payloads, labels)
def test_the_index_changes_neither_actions_nor_decisions(steps_of_flows, payload, labels):
    try:
        text = msgspec.json.encode(payload)
    except (OverflowError, UnicodeEncodeError):
        return
    event = Event("e", "Said", PackRef("chat", "Chat", labels), text, NOON)
    flows = compiled(steps_of_flows)
    whole = evaluate(event, FlowIndex(flows), a_context())
    numbered = a_context(basis_number=lambda _subscribers, _keys: 1)
    short = evaluate(event, FlowIndex(flows), numbered)
    assert short.actions == whole.actions
    assert completed(event, flows, short) == whole.decisions


def completed(event, flows, outcome):
    """Return all decisions, those that were left out computed again."""
    begun = outcome.basis.begun if outcome.basis else len(outcome.decisions)
    stored = {(each.flow_uuid, each.step_index): each for each in outcome.decisions[:begun]}
    if outcome.basis is None:
        return outcome.decisions
    steps_of = {flow.version.uuid: flow.steps for flow in flows}
    assert all(
        each.outcome != "skipped" or steps_of[each.flow_uuid][each.step_index].item_keys is None
        for each in outcome.decisions
    )
    return tuple(
        stored.get((each.flow_uuid, each.step_index), each)
        for flow in flows
        for each in evaluate_triggers(event, flow, a_context())
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.lists(steps, max_size=2))))
def test_an_index_that_is_changed_finds_what_a_new_one_finds(changes):
    index, current = FlowIndex(), {}
    event = Event(
        "e", "Said", PackRef("chat", "Chat"), b'{"message": "deploy", "room": "ops"}', NOON
    )
    for version, (number, is_saved, steps_of_flow) in enumerate(changes):
        flow = compile_flow(
            FlowVersion(f"v{version}", Flow(f"f{number}", steps=tuple(steps_of_flow)), NOON)
        )
        if is_saved:
            index.put(flow)
            current[flow.version.flow.name] = flow
        else:
            index.discard(flow.version.flow.name)
            current.pop(flow.version.flow.name, None)
    fresh = FlowIndex(current.values())
    numbered = {"basis_number": lambda _subscribers, _keys: 1}
    assert evaluate(event, index, a_context(**numbered)) == evaluate(
        event, fresh, a_context(**numbered)
    )
    assert [flow for flow, _ in index.subscribers(event).entries] == [
        flow for flow, _ in fresh.subscribers(event).entries
    ]
