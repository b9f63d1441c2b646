"""The engine of edition 2: the cost of an advance, its documents, and what follows from changes."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from flyteops.definition import FlowDefinition
from flyteops.engine.edition2 import (
    ActionResult,
    Cancelled,
    EventArrived,
    FlowTimeout,
    Occurrence,
    StepTimeout,
    TaskDone,
    decode_document,
    encode_document,
    key_bytes,
    start_failed,
)
from flyteops.errors import LateError, TemplateRenderError
from tests.support.engine import Row, World
from tests.support.model import NOON, read

HELD = {"packName": "Worker", "name": "Do"}


def chain(length: int, **terms: Any) -> FlowDefinition:
    """A flow in which each step depends on the one before."""
    steps = [{"id": "s0", "event": {"packName": "Chat"}, "command": HELD}]
    steps += [
        {"id": f"s{n}", "dependsOn": [f"s{n - 1}"], "command": HELD, **terms}
        for n in range(1, length)
    ]
    return flow_of(steps)


def flow_of(steps: list[dict[str, Any]]) -> FlowDefinition:
    return msgspec.convert({"edition": 2, "name": "flow", "steps": steps}, FlowDefinition)


def world_of(text: str, **more: Any) -> World:
    return World(read(text), NOON, **more)


def begun(text: str, payload: Any = None) -> World:
    world = world_of(text)
    world.send("Chat", "Said", payload, {})
    return world


def do(world: World, name: str = "Done", payload: Any = None, *, failure: bool = False) -> Row:
    """Take the next command and complete it."""
    row = world.take("Worker", {})
    assert row is not None
    number = len(row.attempts) - 1
    world.complete(row, name, payload, failure=failure, attempt_number=number)
    return row


def document(world: World) -> Any:
    return world.document(next(reversed(world.documents)))


# ------------------------------------------------------------------------------------------- cost


def cost_of(flow: FlowDefinition) -> int:
    """The steps for which templates were prepared while an execution ran to its end."""
    world = World([flow], NOON)
    world.send("Chat", "Said", None, {})
    while not document(world).is_over:
        do(world)
    assert document(world).state == "SUCCEEDED"
    return world.evaluated


def test_a_chain_of_400_steps_costs_four_times_as_much_as_one_of_100():
    assert cost_of(chain(400)) <= 4 * cost_of(chain(100))


def test_a_result_evaluates_only_the_steps_behind_it():
    world = World([chain(400, criteria="{{ Event.Name == 'Done' }}")], NOON)
    world.send("Chat", "Said", None, {})
    before = world.evaluated
    do(world)
    # The criteria, the step and its action.
    assert world.evaluated - before == 3


@pytest.mark.parametrize("kind", ["all", "settled"])
def test_a_join_of_200_steps_is_evaluated_once(kind):
    ids = [f"s{n}" for n in range(200)]
    steps: list[dict[str, Any]] = [
        {"id": each, "event": {"packName": "Chat"}, "command": HELD} for each in ids
    ]
    joined = {"id": "join", "dependsOn": {kind: ids}, "criteria": "{{ Event.Name == 'Done' }}"}
    world = World([flow_of([*steps, joined])], NOON)
    world.send("Chat", "Said", None, {})
    begin = world.evaluated
    for _ in ids:
        do(world)
    assert document(world).steps["join"].state == "SUCCEEDED"
    assert world.evaluated - begin == 2


def test_a_document_of_many_items_stays_small():
    steps = [
        {
            "id": "a",
            "event": {"packName": "Chat"},
            "forEach": {"in": "{{ range(1000) }}", "parallel": 5},
            "command": {**HELD, "input": "{{ Item }}"},
        }
    ]
    world = World([flow_of(steps)], NOON)
    world.send("Chat", "Said", None, {})
    for _ in range(500):
        do(world, payload="x" * 1000)
    execution_id = next(iter(world.documents))
    assert len(world.documents[execution_id]) < 1_000
    for _ in range(500):
        do(world)
    assert document(world).state == "SUCCEEDED"
    assert world.attachments == {}
    completed = next(
        each.occurrence.event
        for each in world.events.values()
        if each.occurrence.event.name == "Completed"
    )
    payload = msgspec.json.decode(completed.payload)
    assert (payload["total"], payload["succeeded"]) == (1000, 1000)
    assert [each["item"] for each in payload["results"]] == list(range(1000))


# -------------------------------------------------------------------------------------- documents


def test_a_document_keeps_big_integers_and_text_of_any_language():
    world = begun(
        "[{id: a, event: {packName: Chat}, context: {n: '{{ Event.Payload }}'}, command: {packName: Worker, name: Do}}]",
        {"big": 2**80, "text": "ü\u2028😀", "none": None, "half": 0.5},
    )
    data = encode_document(document(world))
    assert decode_document(data) == document(world)
    assert encode_document(decode_document(data)) == data
    assert msgspec.json.decode(data)["steps"]["a"]["context"]["n"]["big"] == 2**80


def test_only_payloads_and_inputs_that_a_template_names_are_kept():
    world = begun(
        """
        - {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, input: {x: 1}}}
        - {id: b, dependsOn: [a], command: {packName: Worker, name: Do, input: '{{ Steps.a.Payload.n }}'}}
        """
    )
    do(world, payload={"n": "named"})
    do(world, payload="not named")
    steps = document(world).steps
    assert msgspec.json.decode(steps["a"].payload) == {"n": "named"}
    assert steps["a"].input is msgspec.UNSET
    assert steps["b"].payload is msgspec.UNSET


def test_masked_secrets_are_kept_in_place_of_the_placeholders():
    world = begun(
        """
        - {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, input: {t: "Bearer {{ secret('token') }}"}}}
        - {id: b, dependsOn: [a], command: {packName: Worker, name: Do, input: '{{ Steps.a.Input.t }}'}}
        """
    )
    do(world)
    assert [msgspec.json.decode(row.action.input) for row in world.rows.values()] == [
        {"t": "Bearer <token>"},
        "Bearer secret token",
    ]


def test_an_advance_changes_neither_the_document_nor_another_advance():
    world = begun("[{id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}]")
    execution_id = next(iter(world.documents))
    before = world.documents[execution_id]
    first = world.change(execution_id, TaskDone())
    assert encode_document(first.document) == before
    world.change(execution_id, Cancelled())
    assert document(world).state == "CANCELLED"
    assert encode_document(first.document) == before


# ------------------------------------------------------------------------- what comes too late


def test_a_change_that_comes_too_late_has_no_effect_but_a_decision():
    world = begun(
        "[{id: a, event: {packName: Chat}, timeout: 1s, command: {packName: Worker, name: Do}}]"
    )
    row = world.take("Worker", {})
    assert row is not None
    world.advance(timedelta(seconds=2))
    before = document(world)
    assert before.state == "FAILED"
    event = next(iter(world.events.values())).occurrence.event
    outcome = world.change(before.execution_id, ActionResult(row.view, Occurrence(event)))
    assert not outcome.is_accepted
    assert outcome.document == before
    assert [each.decision.reason for each in outcome.decisions] == ["ended"]
    assert not world.change(before.execution_id, StepTimeout("a")).is_accepted


def test_the_result_of_an_attempt_that_was_lost_is_only_kept():
    world = begun(
        "[{id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, timeout: 1s, retry: {attempts: 2, backoff: 0s}}}]"
    )
    row = world.take("Worker", {})
    assert row is not None
    world.advance(timedelta(seconds=2))
    assert row.state == "NEW"
    with pytest.raises(LateError):
        world.complete(row, "Done", None, failure=False, attempt_number=0)
    do(world)
    assert document(world).state == "SUCCEEDED"


# ------------------------------------------------------------------------------------------- keys


def test_keys_are_equal_by_type_and_value():
    assert key_bytes(1) == key_bytes(1.0)
    assert len({key_bytes(each) for each in (1, True, "1", "true", 0, False, "")}) == 7
    assert key_bytes(None) is None


def test_a_wait_ends_once_and_takes_its_timer_with_it():
    world = begun(
        """
        - {id: a, event: {packName: Chat, name: Said}}
        - {id: w, dependsOn: [a], timeout: 1h, correlate: {event: '{{ Event.Payload }}', with: '{{ Trigger.Payload }}'}, event: {packName: Chat, name: Reply}, command: {packName: Worker, name: Do}}
        """,
        7,
    )
    world.send("Chat", "Reply", 8, {})
    assert document(world).steps["w"].is_waiting
    world.send("Chat", "Reply", 7.0, {})
    assert not document(world).steps["w"].is_waiting
    assert (world.waits, world.timers) == ([], [])
    assert len(world.rows) == 1


def test_a_join_answers_a_failure_that_came_before_its_last_result():
    world = begun(
        """
        - {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}
        - {id: b, event: {packName: Chat}, command: {packName: Worker, name: Do}}
        - {id: j, dependsOn: {all: [a, b]}, event: [{resultOf: a, state: FAILED}, {resultOf: b}]}
        """
    )
    do(world, failure=True)
    assert list(document(world).failures) == ["a"]
    do(world)
    assert document(world).failures == {}
    assert document(world).state == "SUCCEEDED"


def test_a_step_has_failed_if_one_of_its_items_has():
    world = begun(
        "[{id: a, event: {packName: Chat}, forEach: {in: [1, 2]},"
        " command: {packName: Worker, name: Do}}]"
    )
    do(world, failure=True)
    do(world)
    assert document(world).steps["a"].state == "FAILED"


# --------------------------------------------------------------------------- ends of an execution


def test_an_execution_that_runs_longer_than_its_timeout_has_failed():
    world = world_of(
        """
        timeout: 5s
        steps: [{id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}]
        """
    )
    world.send("Chat", "Said", None, {})
    world.advance(timedelta(seconds=5))
    assert document(world).state == "FAILED"
    execution_id = document(world).execution_id
    assert not world.change(execution_id, FlowTimeout()).is_accepted
    assert not world.change(execution_id, Cancelled()).is_accepted
    names = [each.occurrence.event.name for each in world.events.values()]
    assert names.count("StepFailed") == 1


def test_a_flow_timeout_that_cannot_be_rendered_fails_the_triggers():
    world = world_of(
        """
        timeout: '{{ Event.Payload }}'
        steps:
        - {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}
        - {id: b, event: {packName: Chat, name: Other}}
        """
    )
    world.send("Chat", "Said", "soon", {})
    assert document(world).state == "FAILED"
    assert world.rows == {}


def test_a_key_of_a_limit_that_fails_begins_an_execution_that_has_failed():
    (flow,) = read("[{id: a, event: {packName: Chat}}]")
    world = World([flow], NOON)
    world.send("Chat", "Said", None, {})
    event = next(iter(world.events.values())).occurrence
    error = TemplateRenderError("the key is a list")
    outcome = start_failed(
        event, world.plan(document(world).execution_id), ["a"], error, world._context()
    )
    assert outcome.document.steps["a"].state == "FAILED"
    assert [each.kind for each in outcome.tasks] == ["stepFailed"]
    assert [each.decision.reason for each in outcome.decisions] == ["error"]


def test_an_event_that_does_not_end_a_wait_is_a_decision():
    world = begun(
        """
        - {id: a, event: {packName: Chat, name: Said}}
        - id: w
          dependsOn: [a]
          correlate: {event: '{{ Event.Payload.key }}', with: one}
          event: {packName: Chat, name: Reply, packLabels: {env: prod}}
          criteria: '{{ Event.Payload.ok }}'
        """
    )
    for payload, labels in (
        ({"ok": True}, {"env": "lab"}),
        ({"ok": False}, {"env": "prod"}),
        ({"ok": "maybe"}, {"env": "prod"}),
        ({"ok": True}, {"env": "prod"}),
        ({"ok": True}, {"env": "prod"}),
    ):
        world.send("Chat", "Reply", {"key": "one", **payload}, labels)
    reasons = [each.reason for _, each in world.decisions if each.step_id == "w"]
    assert reasons[:5] == ["waiting", "packLabels", "criteria", "error", "resumed"]
    assert document(world).state == "SUCCEEDED"
    late = EventArrived("w", next(reversed(world.events.values())).occurrence)
    outcome = world.change(document(world).execution_id, late)
    assert [each.decision.reason for each in outcome.decisions] == ["ended"]
