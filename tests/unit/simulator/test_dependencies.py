"""Continuation: which steps a result makes run, and with which contexts."""

import pytest

from tests.support.model import Play

DO = "command: {packName: Worker, name: Do}"


def play_of(*steps: str, **more) -> Play:
    return Play("\n".join(f"- {{{step}}}" for step in steps), **more)


def begun(*steps: str) -> Play:
    """Triggers a and b run commands; the other steps are given."""
    trigger = "event: {packName: Chat}, " + DO
    play = play_of(f"id: a, {trigger}", f"id: b, {trigger}", *steps)
    play.say()
    return play


# --------------------------------------------------------------------------------- any


def test_any_without_event_runs_when_one_has_succeeded():
    play = begun(f"id: c, dependsOn: [a, b], {DO}")
    play.do_step("b")
    assert play.open == ["a", "c"]


def test_any_without_event_does_not_run_after_a_failure():
    play = begun(f"id: c, dependsOn: [a, b], {DO}")
    play.do_step("a", failure=True)
    assert play.open == ["b"]
    assert play.why("c") == [("skipped", "state")]
    play.do_step("b")
    assert play.open == ["c"]


def test_a_step_runs_at_most_once():
    play = begun(f"id: c, dependsOn: [a, b], {DO}")
    play.do_step("a")
    play.do_step("b")
    assert play.open == ["c"]
    assert play.why("c") == [("ran", "passed"), ("skipped", "alreadyRan")]


def test_any_with_event_runs_at_each_result_that_fits_whatever_its_state():
    play = begun(f"id: c, dependsOn: [a, b], event: {{packName: Worker, name: Odd}}, {DO}")
    play.do_step("a")
    assert play.why("c") == [("skipped", "dependsOn")]
    play.do_step("b", "Odd", failure=True)
    assert play.open == ["c"]


def test_criteria_that_were_false_are_tried_again_at_the_next_result():
    play = begun(f'id: c, dependsOn: [a, b], criteria: "{{{{ Event.Payload }}}}", {DO}')
    play.do_step("a", payload=False)
    play.do_step("b", payload=True)
    assert play.why("c") == [("skipped", "criteria"), ("ran", "passed")]


def test_result_of_implies_the_dependency_and_takes_any_state():
    play = begun(f"id: c, event: {{resultOf: a}}, {DO}")
    play.do_step("b")
    assert play.open == ["a"]
    play.do_step("a", failure=True)
    assert play.open == ["c"]


@pytest.mark.parametrize(("failure", "ran"), [(True, ["b", "bad"]), (False, ["b", "good"])])
def test_a_pattern_may_want_a_state(failure, ran):
    play = begun(
        f"id: good, event: {{resultOf: a, state: SUCCEEDED}}, {DO}",
        f"id: bad, event: {{resultOf: a, state: FAILED}}, {DO}",
    )
    play.do_step("a", failure=failure)
    assert play.open == ran


def test_an_event_from_outside_continues_nothing():
    play = begun(f"id: c, dependsOn: [a], event: {{packName: Chat}}, {DO}")
    play.say()
    assert [list(e.steps) for e in play.executions] == [["a", "b"], ["a", "b"]]


def test_labels_of_a_pattern_hold_for_results():
    play = play_of(
        "id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, packLabels: {env: prod}}",
        f'id: c, event: {{resultOf: a, packLabels: {{env: "{{{{ Trigger.Payload }}}}"}}}}, {DO}',
    )
    for env in ("test", "prod"):
        play.say(env)
        action = play.take("Worker", labels={"env": "prod"})
        play.complete(action.action_id, "Done")
    assert [list(e.steps) for e in play.executions] == [["a"], ["a", "c"]]


# --------------------------------------------------------------------------------- all


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_all_without_event_runs_when_all_have_succeeded(order):
    play = begun(f"id: c, dependsOn: {{all: [a, b]}}, {DO}")
    play.do_step(order[0])
    assert play.open == [order[1]]
    assert play.why("c") == [("skipped", "dependsOn")]
    play.do_step(order[1])
    assert play.open == ["c"]


def test_all_can_no_longer_run_as_soon_as_one_result_does_not_fit():
    play = begun(f"id: c, dependsOn: {{all: [a, b]}}, {DO}", f"id: d, dependsOn: [c], {DO}")
    play.do_step("a", failure=True)
    assert play.why("c") == [("skipped", "state")]
    assert play.why("d") == [("skipped", "unreachable")]
    play.do_step("b")
    assert play.execution.state == "FAILED"
    assert play.why("c").count(("ran", "passed")) == 0


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_all_with_event_waits_for_results_that_fit_whatever_their_state(order):
    play = begun(
        f"id: c, dependsOn: {{all: [a, b]}}, event: {{packName: Worker, name: Done}}, {DO}"
    )
    play.do_step(order[0], failure=True)
    play.do_step(order[1])
    assert play.open == ["c"]


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_a_pattern_with_result_of_speaks_for_that_step_alone(order):
    play = begun(
        f"id: c, dependsOn: {{all: [a, b]}}, event: [{{resultOf: a, name: X}}, {{resultOf: b, name: Y}}], {DO}"
    )
    names = {"a": "X", "b": "Y"}
    for step in order:
        play.do_step(step, names[step])
    assert play.open == ["c"]
    play.say()
    play.do_step("a", "Y")
    play.do_step("b", "Y")
    assert play.steps == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert play.execution.state == "SUCCEEDED"


def test_all_is_tried_once():
    play = begun(f"id: c, dependsOn: {{all: [a, b]}}, criteria: false, {DO}")
    play.do_step("a")
    play.do_step("b")
    assert play.why("c") == [("skipped", "dependsOn"), ("skipped", "criteria")]
    assert play.execution.state == "SUCCEEDED"


def test_a_trigger_that_did_not_pass_can_never_run():
    play = play_of(
        f"id: a, event: {{packName: Chat}}, {DO}",
        f"id: b, event: {{packName: Mail}}, {DO}",
        f"id: both, dependsOn: {{all: [a, b]}}, {DO}",
    )
    play.say()
    play.do()
    assert play.why("both") == [("skipped", "dependsOn"), ("skipped", "unreachable")]
    assert play.execution.state == "SUCCEEDED"


# ----------------------------------------------------------------------------- settled


@pytest.mark.parametrize("failed", [[], ["a"], ["b"], ["a", "b"]])
def test_settled_runs_after_all_whatever_became_of_them(failed):
    play = begun(f"id: c, dependsOn: {{settled: [a, b]}}, {DO}")
    play.do_step("a", failure="a" in failed)
    assert play.open == ["b"]
    play.do_step("b", failure="b" in failed)
    assert play.open == ["c"]


def test_settled_runs_when_the_others_can_no_longer_run():
    play = begun(
        f"id: last, dependsOn: {{settled: [a, far]}}, {DO}",
        f"id: near, dependsOn: [a], {DO}",
        f"id: far, dependsOn: [near], {DO}",
    )
    play.do_step("a", failure=True)
    assert play.open == ["b", "last"]


def test_settled_waits_for_what_may_still_run():
    play = begun(
        f"id: last, dependsOn: {{settled: [a, far]}}, {DO}", f"id: far, dependsOn: [a], {DO}"
    )
    play.do_step("a")
    assert play.open == ["b", "far"]
    play.do_step("far", failure=True)
    assert play.open == ["b", "last"]


def test_settled_completes_with_a_result_on_which_it_depends_only_indirectly():
    play = begun(
        f'id: last, dependsOn: {{settled: [a, near]}}, context: {{by: "{{{{ Event.Payload }}}}"}}, {DO}',
        f"id: near, dependsOn: [b], {DO}",
    )
    play.do_step("a", payload="of a")
    play.do_step("b", payload="of b", failure=True)
    assert play.execution.steps["last"].context == {"by": "of b"}


def test_settled_does_not_run_if_nothing_has_a_result():
    play = begun(
        f"id: near, dependsOn: [a], {DO}",
        f"id: other, dependsOn: [a], {DO}",
        f"id: last, dependsOn: {{settled: [near, other]}}, {DO}",
    )
    play.do_step("a", failure=True)
    play.do_step("b")
    assert play.why("last") == [("skipped", "unreachable")]
    assert play.execution.state == "FAILED"


def test_a_finally_does_not_answer_a_failure():
    play = begun(f"id: last, dependsOn: {{settled: [a, b]}}, {DO}")
    play.do_step("a", failure=True)
    play.do_step("b")
    play.do_step("last")
    assert play.execution.state == "FAILED"


# ------------------------------------------------------------------------------- gates


def test_a_gate_has_the_event_that_ran_it_as_its_result_and_goes_on_in_the_same_commit():
    play = play_of(
        "id: gate, event: {packName: Chat}",
        "id: next, dependsOn: [gate]",
        'id: act, dependsOn: [next], command: {packName: Worker, name: Do, input: "{{ Steps.gate.Payload }} {{ Steps.next.Event }}"}',
        hold_tasks=True,
    )
    play.say("hello")
    assert play.open_actions[0].input == "hello Said"
    assert play.steps == {"gate": "SUCCEEDED", "next": "SUCCEEDED", "act": None}


def test_a_gate_behind_a_failure_has_succeeded():
    play = begun(
        "id: either, event: [{resultOf: a, state: FAILED}, {resultOf: b, state: FAILED}]",
        f"id: help, dependsOn: [either], {DO}",
    )
    play.do_step("b", failure=True)
    assert play.open == ["a", "help"]
    assert play.steps["either"] == "SUCCEEDED"


def test_a_step_whose_templates_fail_has_the_result_error_that_others_may_answer():
    play = begun(
        "id: c, dependsOn: [a], criteria: \"{{ 1 + 'x' }}\", command: {packName: Worker, name: Do}",
        f"id: help, event: {{resultOf: c, name: Error, state: FAILED}}, {DO}",
    )
    play.do_step("a")
    assert play.steps["c"] == "FAILED"
    assert play.why("c") == [("failed", "error")]
    assert play.open == ["b", "help"]
    play.do_step("b")
    play.do_step("help")
    assert play.execution.state == "SUCCEEDED"


def test_a_failing_label_of_a_pattern_fails_the_step():
    play = begun(f"id: c, event: {{resultOf: a, packLabels: {{x: \"{{{{ 1 + 'a' }}}}\"}}}}, {DO}")
    play.do_step("a")
    assert play.steps["c"] == "FAILED"


# ------------------------------------------------------------------------------ scopes


@pytest.mark.parametrize(("order", "winner"), [(["a", "b"], "b"), (["b", "a"], "a")])
def test_contexts_are_merged_in_the_order_of_the_results(order, winner):
    play = play_of(
        f"id: a, event: {{packName: Chat}}, context: {{by: a, a: 1}}, {DO}",
        f"id: b, event: {{packName: Chat}}, context: {{by: b, b: 2}}, {DO}",
        f"id: c, dependsOn: {{all: [a, b]}}, context: {{c: 3}}, {DO}",
        "id: d, dependsOn: [c]",
    )
    play.say()
    for step in [*order, "c"]:
        play.do_step(step)
    assert play.execution.steps["d"].context == {"by": winner, "a": 1, "b": 2, "c": 3}


def test_steps_do_not_see_the_contexts_of_steps_that_they_do_not_depend_on():
    play = play_of(
        "id: a, event: {packName: Chat}, context: {a: 1}",
        "id: b, event: {packName: Chat}, context: {b: 1}",
        "id: c, dependsOn: [a]",
    )
    play.say()
    assert play.execution.steps["c"].context == {"a": 1}


def test_templates_see_steps_trigger_and_execution():
    play = begun(
        """id: c, dependsOn: [a], command: {packName: Worker, name: Do, input: {
           payload: "{{ Steps.a.Payload.n + 1 }}", event: "{{ Steps.a.Event }}", state: "{{ Steps['a'].State }}",
           input: "{{ Steps.a.Input }}", missing: "{{ Steps.b.Payload }}", trigger: "{{ Trigger.Name }}",
           pack: "{{ Event.Pack.Name }}", flow: "{{ Execution.Flow }}", id: "{{ Execution.Id }}",
           failed: "{{ Execution.FailedSteps }}"}}"""
    )
    play.do_step("a", payload={"n": 1}, failure=False)
    assert play.open_actions[-1].input == {
        "payload": 2,
        "event": "Done",
        "state": "SUCCEEDED",
        "input": None,
        "missing": None,
        "trigger": "Said",
        "pack": "Worker",
        "flow": "flow",
        "id": play.execution.execution_id,
        "failed": [],
    }


def test_failed_steps_are_listed_in_the_order_of_their_results():
    play = begun(
        'id: c, dependsOn: {settled: [a, b]}, context: {failed: "{{ Execution.FailedSteps }}"}'
    )
    play.do_step("b", failure=True)
    play.do_step("a", failure=True)
    assert play.execution.steps["c"].context == {"failed": ["b", "a"]}


def test_steps_run_in_the_order_of_the_file():
    play = begun(f"id: z, dependsOn: [a], {DO}", f"id: c, dependsOn: [a], {DO}")
    play.do_step("a")
    assert play.open == ["b", "z", "c"]


def test_inputs_keep_their_types_and_secrets_are_masked():
    play = play_of(
        """id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, input: {
           list: "{{ Event.Payload }}", text: "n={{ Event.Payload[0] }}", none: null, key: "{{ secret('token') }}"}}"""
    )
    play.say([1, None])
    given = play.open_actions[0].input
    assert (given["list"], given["text"], given["none"]) == ([1, None], "n=1", None)
    assert "token" in given["key"]
