"""Several actions of one step: `forEach` and `repeat`, with the one result `Completed`."""

import pytest

from tests.support.model import Play


def each(terms: str = "", command: str = "", step: str = "", payload=None, **more) -> Play:
    play = Play(
        f"""
- {{id: a, event: {{packName: Chat}}, {step} forEach: {{in: "{{{{ Event.Payload }}}}" {terms}}},
   command: {{packName: Worker, name: Do, input: "{{{{ Index }}}}:{{{{ Item }}}}" {command}}}}}
- {{id: z, event: {{resultOf: a, name: Completed}}}}
""",
        **more,
    )
    play.say(payload)
    return play


def completed(play: Play):
    return play.execution.steps["a"].payload


def inputs(play: Play) -> list:
    return [action.input for action in play.open_actions]


def test_there_is_one_action_for_each_item_and_one_result():
    play = each(payload=["x", "y", "z"])
    assert inputs(play) == ["0:x", "1:y", "2:z"]
    play.do(payload="p")
    play.do("Bad", failure=True)
    assert "z" not in play.steps
    play.do()
    assert completed(play) == {
        "total": 3,
        "succeeded": 2,
        "failed": 1,
        "results": [
            {"index": 0, "item": "x", "state": "SUCCEEDED", "event": "Done", "payload": "p"},
            {"index": 1, "item": "y", "state": "FAILED", "event": "Bad", "payload": None},
            {"index": 2, "item": "z", "state": "SUCCEEDED", "event": "Done", "payload": None},
        ],
    }
    assert play.steps == {"a": "FAILED", "z": "SUCCEEDED"}


def test_results_are_in_the_order_of_the_items():
    play = each(payload=["x", "y"])
    first, second = play.open_actions
    play.take("Worker"), play.take("Worker")
    play.complete(second.action_id, "Done", 2)
    play.complete(first.action_id, "Done", 1)
    assert [r["payload"] for r in completed(play)["results"]] == [1, 2]
    assert play.execution.state == "SUCCEEDED"


def test_at_most_parallel_of_them_are_open():
    play = each(", parallel: 2", payload=["x", "y", "z"])
    assert inputs(play) == ["0:x", "1:y"]
    play.do()
    assert inputs(play) == ["1:y", "2:z"]


def test_ten_are_open_unless_given():
    assert len(each(payload=list(range(30))).open_actions) == 10


def test_with_stop_no_more_are_made_after_a_failure():
    play = each(", parallel: 2, onFailure: stop", payload=["x", "y", "z"])
    play.do(failure=True)
    assert inputs(play) == ["1:y"]
    play.do()
    assert [completed(play)[key] for key in ("total", "succeeded", "failed")] == [3, 1, 1]
    assert [r["index"] for r in completed(play)["results"]] == [0, 1]


def test_without_items_the_step_is_complete_at_once():
    play = each(payload=[])
    assert completed(play) == {"total": 0, "succeeded": 0, "failed": 0, "results": []}
    assert play.execution.state == "SUCCEEDED"


@pytest.mark.parametrize("value", [None, "text", {"a": 1}, 3, [0] * 10_001])
def test_anything_but_a_list_of_at_most_10000_is_an_error(value):
    play = each(payload=value)
    assert play.execution.steps["a"].result.name == "Error"
    assert play.steps == {"a": "FAILED"}


def test_an_item_whose_input_fails_has_failed_and_others_go_on():
    play = Play("""
[{id: a, event: {packName: Chat}, forEach: {in: [1, x, 3], parallel: 1}, command: {packName: Worker, name: Do, input: "{{ Item + 1 }}"}}]
""")
    play.say()
    play.do()
    assert inputs(play) == [4]
    play.do()
    assert [r["event"] for r in completed(play)["results"]] == ["Done", "Error", "Done"]
    assert play.execution.state == "FAILED"


def test_retry_fails_when_and_expires_hold_for_each_item():
    play = each(
        command=", retry: {on: [failed], backoff: 1s, attempts: 2}, failsWhen: '{{ Event.Payload == Item }}', expires: 1m",
        payload=["x", "y", "z"],
    )
    play.do(payload="x")
    play.do(payload="x")
    play.wait("1s")
    play.do(payload="ok")
    play.wait("1m")
    results = completed(play)["results"]
    assert [(r["state"], r["event"]) for r in results] == [
        ("SUCCEEDED", "Done"),
        ("SUCCEEDED", "Done"),
        ("FAILED", "Expired"),
    ]


def test_the_delay_of_the_step_counts_once_and_its_timeout_for_all():
    play = each(", parallel: 1", step="delay: 1m, timeout: 5m,", payload=["x", "y"])
    assert play.take("Worker") is None
    play.wait("1m")
    play.do()
    assert play.take("Worker") is not None
    play.wait("4m")
    assert play.execution.steps["a"].result.name == "TimedOut"
    assert play.open_actions == ()


def test_payloads_beyond_the_limit_of_a_body_are_left_out_and_marked():
    play = each(payload=["x", "y"], body_length=100)
    play.do(payload="p" * 60)
    play.do(payload="q" * 60)
    first, second = completed(play)["results"]
    assert first["payload"] == "p" * 60
    assert (second["payload"], second["payloadLeftOut"]) == (None, True)


def test_results_of_items_start_other_flows_one_by_one():
    play = Play("""
name: flow
steps: [{id: a, event: {packName: Chat}, forEach: {in: [1, 2]}, command: {packName: Worker, name: Do}}]
---
name: other
steps: [{id: b, event: {packName: Worker, name: Done}}]
""")
    play.say()
    play.do()
    play.do()
    assert [e.flow.name for e in play.executions] == ["flow", "other", "other"]


def test_with_run_flow_each_item_gets_several_steps():
    play = Play("""
name: flow
steps: [{id: a, event: {packName: Chat}, forEach: {in: [1, 2]}, command: {packName: Flyte, name: RunFlow, input: {flow: child, payload: "{{ Item }}"}}}]
---
name: child
steps:
- {id: c, event: {packName: Flyte, name: Called}, command: {packName: Worker, name: Do, input: "{{ Event.Payload }}"}}
- {id: d, dependsOn: [c], command: {packName: Flyte, name: Return, input: "{{ Trigger.Payload * 10 }}"}}
""")
    play.say()
    play.do()
    play.do()
    results = play.executions[0].steps["a"].payload["results"]
    assert [r["payload"]["output"] for r in results] == [10, 20]


# --------------------------------------------------------------------------------- repeat


def rounds(terms: str = "", command: str = "") -> Play:
    play = Play(f"""
- {{id: a, event: {{packName: Chat}}, repeat: {{while: "{{{{ Event.Payload.next != null }}}}" {terms}}},
   command: {{packName: Worker, name: Do, input: "{{{{ Previous.Payload.next|default('first') }}}}-{{{{ Index }}}}" {command}}}}}
- {{id: z, event: {{resultOf: a}}}}
""")
    play.say()
    return play


def test_the_command_is_repeated_while_that_is_true_of_the_last_result():
    play = rounds()
    payloads = ({"next": "two"}, {"next": "three"}, {})
    given = [play.do(payload=payload).input for payload in payloads]
    assert given == ["first-0", "two-1", "three-2"]
    assert (completed(play)["total"], play.execution.state) == (3, "SUCCEEDED")
    assert [r["payload"] for r in completed(play)["results"]] == [
        {"next": "two"},
        {"next": "three"},
        {},
    ]


def test_a_failure_ends_it():
    play = rounds()
    play.do(payload={"next": "two"})
    play.do(payload={"next": "three"}, failure=True)
    assert play.steps == {"a": "FAILED", "z": "SUCCEEDED"}
    assert (completed(play)["succeeded"], completed(play)["failed"]) == (1, 1)


def test_the_maximum_is_a_failure():
    play = rounds(", max: 2")
    play.do(payload={"next": "two"})
    play.do(payload={"next": "three"})
    assert play.steps == {"a": "FAILED", "z": "SUCCEEDED"}
    assert (completed(play)["succeeded"], completed(play)["failed"]) == (2, 0)
    assert "2 rounds" in completed(play)["message"]


def test_the_last_round_may_be_the_maximum():
    play = rounds(", max: 2")
    play.do(payload={"next": "two"})
    play.do(payload={})
    assert play.steps["a"] == "SUCCEEDED"


def test_there_is_a_delay_between_rounds():
    play = rounds(", delay: 30s")
    play.do(payload={"next": "two"})
    play.wait("29s")
    assert play.take("Worker") is None
    play.wait("1s")
    assert play.take("Worker") is not None


def test_a_failing_while_is_a_failure():
    play = rounds()
    play.do(payload={"next": "two"})
    play.do(payload="text")
    assert play.execution.steps["a"].result.name == "Completed"


def test_a_while_that_is_neither_true_nor_false_is_a_failure():
    play = Play(
        "[{id: a, event: {packName: Chat}, repeat: {while: '{{ Event.Payload }}'}, command: {packName: Worker, name: Do}}]"
    )
    play.say()
    play.do(payload=3)
    assert play.steps == {"a": "FAILED"}
    assert "true or false" in completed(play)["message"]


def test_previous_is_like_an_entry_of_steps():
    play = Play("""
[{id: a, event: {packName: Chat}, repeat: {while: true, max: 2}, command: {packName: Worker, name: Do, input: {
  first: "{{ Previous == null }}", state: "{{ Previous.State }}", event: "{{ Previous.Event }}", input: "{{ Previous.Input.first }}"}}}]
""")
    play.say()
    assert play.do().input == {"first": True, "state": None, "event": None, "input": None}
    assert play.do().input == {"first": False, "state": "SUCCEEDED", "event": "Done", "input": True}


def test_retry_holds_for_each_round():
    play = rounds(command=", retry: {on: [failed], backoff: 0s}")
    play.do(failure=True)
    play.do(payload={"next": "two"})
    play.do(failure=True)
    play.do(payload={})
    assert (completed(play)["total"], play.execution.state) == (2, "SUCCEEDED")
