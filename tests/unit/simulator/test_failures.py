"""Success and failure: the state of a result, retries, reports, and the end of executions."""

import pytest

from flyteops.errors import ConflictError, LateError
from flyteops.model import EventDeclaration, PackDeclaration
from tests.support.model import NOON, Play, seconds


def begun(terms: str = "", *steps: str, flow: str = "", payload=None, **more) -> Play:
    """One trigger `a` with terms of its command; the other steps are given."""
    listed = "".join(f", {{{step}}}" for step in steps)
    play = Play(
        f"{{{flow} steps: [{{id: a, event: {{packName: Chat}}, command: {{packName: Worker, name: Do {terms}}}}}{listed}]}}",
        **more,
    )
    play.say(payload)
    return play


# ------------------------------------------------------------------- the state of a result


@pytest.mark.parametrize(
    ("name", "failure", "state"),
    [
        ("Done", False, "SUCCEEDED"),
        ("Done", True, "FAILED"),
        ("FATAL", False, "FAILED"),
        ("Bad", False, "FAILED"),
    ],
)
def test_a_result_has_failed_by_its_name_mark_or_declaration(name, failure, state):
    pack = PackDeclaration("Worker", events=(EventDeclaration("Bad", failure=True),))
    play = begun(packs=[pack])
    play.do(name, failure=failure)
    assert play.steps == {"a": state}
    assert play.events[-1].state == state or play.events[-2].state == state


def test_the_names_of_the_originals_packs_count_for_all_packs():
    play = begun(failure_names=["SendMessageFailed"])
    play.do("SendMessageFailed")
    assert play.execution.state == "FAILED"


@pytest.mark.parametrize(
    ("fails_when", "failure", "state"),
    [
        ("'{{ Event.Payload > 3 }}'", False, "FAILED"),
        ("'{{ Event.Payload > 4 }}'", True, "SUCCEEDED"),
        ("false", True, "SUCCEEDED"),
        ("true", False, "FAILED"),
        ("'{{ Event.Payload }}'", False, "FAILED"),
        ("'{{ 1 + \"a\" }}'", False, "FAILED"),
    ],
)
def test_fails_when_decides_instead_and_an_error_in_it_means_failure(fails_when, failure, state):
    play = begun(f", failsWhen: {fails_when}")
    play.do(payload=4, failure=failure)
    assert play.steps == {"a": state}


def test_fails_when_does_not_decide_about_fatal():
    play = begun(", failsWhen: false")
    play.fail()
    assert play.steps == {"a": "FAILED"}


# ----------------------------------------------------------------------------- unanswered


def test_an_unanswered_failure_fails_the_execution_and_is_reported():
    play = begun()
    play.do("Oops", {"message": "no room"}, failure=True)
    assert play.execution.state == "FAILED"
    assert play.execution.ended_at == NOON
    assert play.last("StepFailed") == {
        "flow": "flow",
        "step": "a",
        "execution": play.execution.execution_id,
        "reason": "failed",
        "event": "Oops",
        "payload": {"message": "no room"},
        "message": "no room",
        "link": play.execution.link,
    }


def test_a_failure_that_made_a_step_run_is_answered():
    play = begun("", "id: b, event: {resultOf: a, state: FAILED}")
    play.do(failure=True)
    assert play.execution.state == "SUCCEEDED"
    assert play.names() == []


def test_an_answer_that_fails_is_a_failure_of_its_own():
    play = begun(
        "", "id: b, event: {resultOf: a, state: FAILED}, command: {packName: Worker, name: Undo}"
    )
    play.do(failure=True)
    play.do(failure=True)
    assert play.execution.state == "FAILED"
    assert [e.payload["step"] for e in play.events if e.name == "StepFailed"] == ["b"]


def test_a_failure_whose_answer_had_false_criteria_is_unanswered():
    play = begun("", "id: b, event: {resultOf: a, state: FAILED}, criteria: false")
    play.do(failure=True)
    assert play.execution.state == "FAILED"


def test_a_failure_is_open_while_a_step_that_depends_on_it_may_still_run():
    both = "id: both, dependsOn: {all: [a, b]}, event: [{packName: Worker}]"
    play = begun("", "id: b, event: {packName: Chat}, command: {packName: Worker, name: Do}", both)
    play.do_step("a", failure=True)
    assert play.names() == []
    play.do_step("b")
    assert play.execution.state == "SUCCEEDED"


def test_an_execution_goes_on_after_an_unanswered_failure():
    play = begun("", "id: b, event: {packName: Chat}, command: {packName: Worker, name: Do}")
    play.do_step("a", failure=True)
    assert play.names() == ["StepFailed"]
    assert play.execution.state == "RUNNING"
    play.do_step("b")
    assert play.execution.state == "FAILED"


ERRORS = """
---
name: errors
steps: [{id: report, event: {packName: Flyte, name: StepFailed}, command: {packName: Worker, name: Report}}]
"""


def test_step_failed_is_the_trigger_of_error_flows_once():
    play = Play(
        "[{id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}]" + ERRORS
    )
    play.say()
    play.do(failure=True)
    assert play.execution.steps.keys() == {"report"}
    play.do(failure=True)
    assert play.names() == ["StepFailed"]
    assert [e.state for e in play.executions] == ["FAILED", "FAILED"]


def test_step_failed_does_not_trigger_the_flow_that_it_is_about():
    play = Play("""
- {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}
- {id: report, event: {packName: Flyte, name: StepFailed}}
""")
    play.say()
    play.do(failure=True)
    assert len(play.executions) == 1
    assert play.why("report") == [("skipped", "ownResult")]


# ---------------------------------------------------------------------------------- retry


def test_a_failed_command_is_retried_and_no_flow_sees_the_attempt():
    play = begun(
        ", retry: {attempts: 3, backoff: 10s, on: [failed]}", "id: b, event: {resultOf: a}"
    )
    play.do("Busy", failure=True)
    assert play.steps == {"a": None}
    assert play.decisions[-1].step == "a"
    assert play.take("Worker") is None
    play.wait("10s")
    play.do("Busy", failure=True)
    play.wait("20s")
    play.do("Done")
    assert play.execution.state == "SUCCEEDED"
    attempts = play.execution.steps["a"].actions[0].attempts
    assert [each.result.name for each in attempts] == ["Busy", "Busy", "Done"]
    assert [each.number for each in attempts] == [1, 2, 3]


def test_the_last_attempt_is_the_result():
    play = begun(", retry: {attempts: 2, backoff: 1s, on: [failed]}")
    for _ in range(2):
        play.do("Busy", failure=True)
        play.wait("1s")
    assert play.execution.state == "FAILED"
    assert play.last("StepFailed")["event"] == "Busy"


def test_the_wait_doubles_up_to_the_maximum():
    play = begun(", retry: {attempts: 5, backoff: 10s, maxBackoff: 25s, on: [failed]}")
    waits = []
    for _ in range(4):
        play.do(failure=True)
        waits.append((play.open_actions[0].due_at - play.now).total_seconds())
        play.advance(seconds(waits[-1]))
    assert waits == [10, 20, 25, 25]


@pytest.mark.parametrize(
    ("retry", "retried"),
    [
        ("on: [failed], when: '{{ Event.Payload == 1 }}'", True),
        ("on: [failed], when: '{{ Event.Payload == 2 }}'", False),
        ("on: [failed], when: '{{ 1 + \"a\" }}'", False),
        ("on: [failed], when: false", False),
        ("on: [lost]", False),
        ("attempts: 3", False),
    ],
)
def test_only_what_the_policy_names_is_retried(retry, retried):
    play = begun(f", timeout: 1m, retry: {{{retry}}}")
    play.do(payload=1, failure=True)
    assert (play.steps["a"] is None) == retried


def test_the_result_of_the_first_attempt_cannot_pass_for_that_of_the_second():
    play = begun(", retry: {on: [failed], backoff: 0s}")
    first = play.take("Worker")
    old = first.attempts[0].lease
    play.complete(first.action_id, "Busy", failure=True, lease=old)
    play.take("Worker")
    event = play.complete(first.action_id, "Busy", failure=True, lease=old)
    assert event == first.attempts[0].result.event_id
    assert play.steps == {"a": None}
    with pytest.raises(ConflictError):
        play.complete(first.action_id, "Busy", failure=True)
    with pytest.raises(ConflictError):
        play.complete(first.action_id, "Done", lease=old)


def test_the_same_result_again_has_no_effect_and_another_one_is_refused():
    play = begun()
    action = play.do("Done", 1)
    assert play.complete(action.action_id, "Done", 1) == action.result.event_id
    with pytest.raises(ConflictError):
        play.complete(action.action_id, "Done", 2)


# -------------------------------------------------------------------- silence and expiry


def test_a_silent_pack_has_lost_the_command():
    play = begun(", timeout: 1m", "id: b, event: {resultOf: a, name: FATAL}")
    action = play.take("Worker")
    play.wait("59s")
    assert play.steps == {"a": None}
    play.wait("1s")
    assert play.execution.state == "SUCCEEDED"
    with pytest.raises(LateError):
        play.complete(action.action_id, "Done")
    assert action.late_results[0].name == "Done"
    assert play.steps == {"a": "FAILED", "b": "SUCCEEDED"}


def test_a_heartbeat_extends_the_time():
    play = begun(", timeout: 1m")
    action = play.take("Worker")
    play.wait("50s")
    play.heartbeat(action.action_id)
    play.wait("50s")
    assert play.steps == {"a": None}
    play.wait("10s")
    assert play.last("StepFailed")["reason"] == "lost"


def test_a_lost_command_is_retried_and_the_late_result_of_the_attempt_is_kept():
    play = begun(", timeout: 1m, retry: {attempts: 2, backoff: 1s}")
    action = play.take("Worker")
    play.wait("61s")
    assert play.take("Worker") is action
    with pytest.raises(LateError):
        play.complete(action.action_id, "Done", lease=action.attempts[0].lease)
    assert play.steps == {"a": None}
    play.complete(action.action_id, "Done", lease=action.attempts[1].lease)
    assert play.execution.state == "SUCCEEDED"


def test_an_operator_is_asked_where_the_flow_wants_that():
    play = begun(", timeout: 1m, onLost: ask")
    action = play.take("Worker")
    play.wait("2m")
    assert (action.state, play.execution.state) == ("UNKNOWN", "RUNNING")
    play.complete(action.action_id, "Done")
    assert play.execution.state == "SUCCEEDED"


def test_a_command_that_nobody_takes_expires():
    play = begun(", expires: 1m, retry: {on: [failed, lost]}")
    play.wait("1m")
    assert play.steps == {"a": "FAILED"}
    assert play.why("a")[-1] == ("failed", "expired")
    assert play.last("StepFailed")["reason"] == "expired"
    assert play.take("Worker") is None


def test_a_command_that_was_taken_does_not_expire():
    play = begun(", expires: 1m")
    play.take("Worker")
    play.wait("2m")
    assert play.steps == {"a": None}


# --------------------------------------------------------------------- timeouts and delays

STEP = "[{{id: a, event: {{packName: Chat}}, {}, command: {{packName: Worker, name: Do}}}}, {{id: b, event: {{resultOf: a}}}}]"


def test_a_step_that_takes_too_long_has_timed_out():
    play = Play(STEP.format("timeout: 1m"))
    play.say()
    action = play.take("Worker")
    play.wait("1m")
    assert play.steps == {"a": "FAILED", "b": "SUCCEEDED"}
    assert play.execution.steps["a"].result.name == "TimedOut"
    assert action.state == "CANCELLED"
    play.complete(action.action_id, "Done")
    assert action.late_results[0].name == "Done"
    assert play.steps == {"a": "FAILED", "b": "SUCCEEDED"}


def test_the_timeout_of_a_step_counts_its_attempts_together():
    play = Play(
        "[{id: a, timeout: 15s, event: {packName: Chat}, command: {packName: Worker, name: Do, retry: {on: [failed]}}}]"
    )
    play.say()
    play.do(failure=True)
    play.wait("15s")
    assert play.last("StepFailed")["reason"] == "timedOut"


def test_the_result_that_commits_before_the_timeout_wins():
    play = Play(STEP.format("timeout: 1m"))
    play.say()
    play.wait("59s")
    play.do()
    play.wait("1m")
    assert play.execution.steps["a"].result.name == "Done"


@pytest.mark.parametrize(
    "delay",
    ["90s", "'{{ Event.Payload.seconds }}'", "'2026-12-01T12:01:30Z'", "'{{ Event.Payload.at }}'"],
)
def test_a_delay_is_a_duration_or_a_time(delay):
    play = Play(STEP.format(f"delay: {delay}"))
    play.say({"seconds": 90, "at": "2026-12-01T12:01:30Z"})
    play.wait("89s")
    assert play.take("Worker") is None
    play.wait("1s")
    assert play.take("Worker") is not None


def test_a_delay_in_the_past_is_none():
    play = Play(STEP.format("delay: '2020-01-01T00:00:00Z'"))
    play.say()
    assert play.take("Worker") is not None


def test_a_delayed_gate_has_its_result_later():
    play = Play("[{id: a, event: {packName: Chat}, delay: 1m}, {id: b, dependsOn: [a]}]")
    play.say()
    assert play.steps == {"a": None}
    play.wait("1m")
    assert play.execution.state == "SUCCEEDED"
    assert play.execution.steps["b"].finished_at == NOON + seconds(60)


def test_a_bad_duration_fails_the_step():
    play = Play(STEP.format("delay: '{{ Event.Payload }}'"))
    play.say("soon")
    assert play.steps == {"a": "FAILED", "b": "SUCCEEDED"}
    assert play.execution.steps["a"].result.name == "Error"


def test_an_execution_that_runs_too_long_has_failed_and_all_that_is_open_is_cancelled():
    play = begun("", "id: b, event: {resultOf: a}", flow="timeout: 1h,")
    action = play.take("Worker")
    play.wait("1h")
    assert (play.execution.state, action.state) == ("FAILED", "CANCELLED")
    assert play.last("StepFailed")["reason"] == "flowTimeout"
    play.complete(action.action_id, "Done")
    assert play.steps == {"a": None}
    assert play.names() == ["StepFailed"]


def test_an_execution_has_a_beginning_and_an_end():
    play = begun()
    play.wait("1m")
    play.do()
    assert (play.execution.started_at, play.execution.ended_at) == (NOON, NOON + seconds(60))
    assert play.execution.state == "SUCCEEDED"
