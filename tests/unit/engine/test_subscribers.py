"""Which of the steps that listen are candidates for an event, and what the lookup may cost."""

import msgspec
import pytest

from flyteops.engine.compiled import FlowIndex, compile_flow
from flyteops.engine.subscribers import SEGMENT_COST
from flyteops.model import FlowVersion
from tests.support.flow import NOON, a_flow, a_step, an_event

OPS = {"room": "ops", "message": "deploy app", "count": 2}
TEXT = {"text": "{{ Event.Payload.message }}"}

LOOKED_UP = [
    ("{{ Event.Payload.room == 'dev' }}", None),
    ("{{ 'dev' == Event.Payload.room }}", None),
    ("{{ Event.Payload.count == 1 }}", None),
    ("{{ Event.Pack.Labels.env == 'prod' }}", None),
    ("{{ Event.Payload.room in 'qa,dev'|split:',' }}", None),
    ("{{ Event.Payload.message|match:'^restart' }}", None),
    ("{{ Event.Payload.message|match:'(' }}", None),
    ("{{ 'restart' in Event.Payload.message }}", None),
    ("{{ Context.text|match:'^restart' }}", TEXT),
    ("{{ Event.Payload.room == 'dev' and Event.Payload.message|upper == 'X' }}", None),
    ("{{ Event.Payload.room == 'dev' || Event.Payload.room == 'qa' }}", None),
    ("{{ (Event.Payload.room == 'dev') && true }}", None),
    ("{% if Event.Payload.room == 'dev' %}true{% else %}false{% endif %}", None),
    ("{% with a=1 %}{{ Event.Payload.room == 'dev' }}{% endwith %}", None),
]
"""Criteria that are false for `OPS`, and have necessary conditions that do not hold either."""

TRIED = [
    ("{{ Event.Payload.room != 'ops' }}", None),
    ("{{ Event.Payload.message|upper|match:'^RESTART' }}", None),
    ("{{ Event.Payload.message|match:'^restart{2,30}' }}", None),
    ("{{ Event.Payload.room == 'dev' or Event.Payload.message|upper == 'X' }}", None),
    ("{{ not Event.Payload.room == 'ops' }}", None),
    ("{{ Context.text|match:'^restart' }}", {"text": "{{ Event.Payload.message|lower }}"}),
    ("{% with Event=2 %}{{ Event.Payload.room == 'dev' }}{% endwith %}", None),
    ("{{ Event.Payload.room == 'dev' and datastore(Event.Payload.room) == 'x' }}", None),
]
"""Criteria that are false for `OPS`, without a condition from which that follows."""


def compiled(step, name):
    return compile_flow(FlowVersion(name, a_flow(step, name=name), NOON))


def an_index(*criteria, **more):
    return FlowIndex(
        compiled(a_step(criteria=each, **more), name=f"f{number}")
        for number, each in enumerate(criteria)
    )


def candidates(index, **more):
    event = an_event(payload=OPS, pack="Source", **more)
    subscribers = index.subscribers(event)
    assert subscribers.step_count == 5
    found = subscribers.candidates(event, lambda: msgspec.json.decode(event.payload), lambda: 0.0)
    return [flow.version.flow.name for flow, _ in found]


@pytest.mark.parametrize(("criteria", "context"), LOOKED_UP)
def test_a_step_with_a_condition_that_does_not_hold_is_no_candidate(criteria, context):
    index = an_index(*[criteria] * 5, **({"context": context} if context else {}))
    assert candidates(index) == []


@pytest.mark.parametrize(("criteria", "context"), TRIED)
def test_a_step_without_a_condition_is_a_candidate_for_each_event(criteria, context):
    index = an_index(*[criteria] * 5, **({"context": context} if context else {}))
    assert len(candidates(index)) == 5


def test_the_steps_with_conditions_that_hold_are_found_in_the_order_of_their_flows():
    rooms = ["ops", "dev", "ops", "qa", "ops"]
    index = an_index(*(f"{{{{ Event.Payload.room == '{room}' }}}}" for room in rooms))
    assert candidates(index) == ["f0", "f2", "f4"]


def test_labels_of_the_sender_are_looked_up_too():
    step = a_step(criteria="true")
    step["event"]["packLabels"] = {"env": "prod"}
    index = FlowIndex(compiled(step, name=f"f{number}") for number in range(5))
    assert candidates(index) == []
    assert len(candidates(index, labels={"env": "prod"})) == 5


@pytest.mark.parametrize("is_saved_later", [False, True])
def test_large_patterns_are_spread_over_more_segments_than_small_ones(is_saved_later):
    def segments(pattern):
        flows = [
            compiled(a_step(criteria=f"{{{{ Event.Name|match:'{pattern}{n}' }}}}"), name=f"f{n}")
            for n in range(100)
        ]
        index = FlowIndex([] if is_saved_later else flows)
        for flow in flows if is_saved_later else ():
            index.put(flow)
        return index.subscribers(an_event(pack="Source")).segments

    assert len(segments("^x")) == 1
    spread = segments("^\\\\pL+")
    assert len(spread) > 1
    assert max(segment.cost for segment in spread) < 2 * SEGMENT_COST
