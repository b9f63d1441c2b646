"""The commands of the pack `Flyte`."""

from datetime import timedelta

import pytest

from flyteops.errors import ConflictError, ForbiddenError, InputError
from tests.support.model import Play


def run(command: str, given: str, payload=None, steps: str = "", **more) -> Play:
    play = Play(
        f"- {{id: a, event: {{packName: Chat}}, command: {{packName: Flyte, name: {command}, input: {given}}}}}\n{steps}",
        **more,
    )
    play.say(payload)
    return play


def outcome(play: Play, step: str = "a"):
    """The name, the payload and the state of the result of a step."""
    run = play.execution.steps[step]
    return run.result.name, run.payload, run.state


# ------------------------------------------------------------------------------ datastore


def test_set_data_gives_the_old_and_the_new_value():
    play = run(
        "SetData", "{key: k, value: '{{ Event.Payload }}'}", [1, None], datastore={"k": "old"}
    )
    assert play.datastore == {"k": [1, None]}
    assert outcome(play) == ("DataSet", {"key": "k", "old": "old", "new": [1, None]}, "SUCCEEDED")


@pytest.mark.parametrize(
    ("condition", "before", "changed"),
    [
        ("ifAbsent: true", {}, True),
        ("ifAbsent: true", {"k": None}, False),
        ("ifAbsent: false", {"k": 1}, True),
        ("ifEquals: 1", {"k": 1}, True),
        ("ifEquals: 1", {"k": 1.0}, True),
        ("ifEquals: 1", {"k": True}, False),
        ("ifEquals: '1'", {"k": 1}, False),
        ("ifEquals: 1", {}, False),
        ("ifEquals: null", {}, True),
        ("ifEquals: {a: [1]}", {"k": {"a": [1]}}, True),
    ],
)
def test_set_data_has_conditions(condition, before, changed):
    play = run("SetData", f"{{key: k, value: new, {condition}}}", datastore=before)
    name, payload, state = outcome(play)
    assert state == "SUCCEEDED"
    if changed:
        assert (name, play.datastore) == ("DataSet", {"k": "new"})
    else:
        assert (name, payload) == ("DataUnchanged", {"key": "k", "current": before.get("k")})
        assert play.datastore == before


def test_items_are_gone_when_they_have_expired():
    play = run("SetData", "{key: k, value: 1, expires: 1m, ifAbsent: true}")
    play.wait("59s")
    play.say()
    assert outcome(play)[0] == "DataUnchanged"
    play.wait("1s")
    assert play.datastore == {}
    play.say()
    assert outcome(play) == ("DataSet", {"key": "k", "old": None, "new": 1}, "SUCCEEDED")


def test_delete_data():
    play = run("DeleteData", "{key: k}", datastore={"k": 1})
    assert outcome(play) == ("DataSet", {"key": "k", "old": 1, "new": None}, "SUCCEEDED")
    play.say()
    assert outcome(play) == ("DataSet", {"key": "k", "old": None, "new": None}, "SUCCEEDED")
    play = run("DeleteData", "{key: k, ifEquals: 2}", datastore={"k": 1})
    assert outcome(play)[:2] == ("DataUnchanged", {"key": "k", "current": 1})


def test_increment_data_counts_a_missing_number_as_0_and_expires_from_its_creation():
    play = run("IncrementData", "{key: k, by: '{{ Event.Payload }}', expires: 1m}", 2)
    assert outcome(play) == ("DataSet", {"key": "k", "old": None, "new": 2}, "SUCCEEDED")
    play.wait("59s")
    play.say(0.5)
    assert play.datastore == {"k": 2.5}
    play.wait("1s")
    assert play.datastore == {}


def test_integers_are_exact():
    play = run("IncrementData", "{key: k}", datastore={"k": 2**53})
    assert play.datastore == {"k": 2**53 + 1}


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("SetData", "{key: k}"),
        ("SetData", "{key: '', value: 1}"),
        ("SetData", "{key: 1, value: 1}"),
        ("SetData", "{key: k, value: 1, expire: 1m}"),
        ("SetData", "{key: k, value: 1, expires: soon}"),
        ("SetData", "{key: k, value: 1, ifAbsent: 1}"),
        ("SetData", "{key: k, value: 1, ifAbsent: true, ifEquals: 1}"),
        ("SetData", "{key: chatops, value: 1}"),
        ("SetData", "{key: locked, value: 1}"),
        ("DeleteData", "{key: chatops}"),
        ("IncrementData", "{key: text}"),
        ("IncrementData", "{key: n, by: true}"),
        ("SetData", "text"),
        ("SetDate", "{key: k, value: 1}"),
        ("SendEvent", "{event: StepFailed}"),
        ("SendEvent", "{event: 3}"),
        ("RunFlow", "{flow: nowhere}"),
        ("RunFlow", "{flow: flow, wait: 1}"),
        ("Ask", "{question: 'Why?', within: 3}"),
        ("Ask", "{question: 'Why?', options: yes}"),
        ("Ask", "{options: [a]}"),
        ("Ask", "{question: 'Why?', who: 3}"),
        ("Fail", "{}"),
    ],
)
def test_input_that_does_not_fit_gives_fatal(command, given):
    before = {"chatops": 1, "locked": 1, "text": "a"}
    play = run(command, given, datastore=before, protected=["locked"])
    assert outcome(play)[0] == "FATAL"
    assert outcome(play)[1]["message"]
    assert play.datastore == before
    assert play.execution.state == "FAILED"


def test_secrets_are_refused():
    play = run("SetData", "{key: k, value: \"{{ secret('token') }}\"}")
    assert outcome(play)[0] == "Error"


def test_commands_of_the_server_are_tasks():
    play = run("SetData", "{key: k, value: 1}", hold_tasks=True)
    assert play.datastore == {}
    assert play.open == ["a"]
    play.run_tasks()
    assert play.execution.state == "SUCCEEDED"


def test_later_steps_see_the_datastore_as_their_execution_wrote_it():
    play = run(
        "SetData",
        "{key: k, value: 1}",
        steps="- {id: b, dependsOn: [a], context: {k: \"{{ datastore('k') }}\"}}",
    )
    assert play.execution.context == {"k": 1}


@pytest.mark.parametrize("chosen", [0, 1])
def test_two_that_set_an_absent_item_exclude_each_other_in_any_order(chosen):
    play = run(
        "SetData", "{key: lock, value: '{{ Event.Payload }}', ifAbsent: true}", "x", hold_tasks=True
    )
    play.say("y")
    play.run_tasks(lambda tasks: min(chosen, len(tasks) - 1))
    names = [e.steps["a"].result.name for e in play.executions]
    assert sorted(names) == ["DataSet", "DataUnchanged"]
    assert play.datastore == {"lock": "xy"[chosen]}


# -------------------------------------------------------------------------- events and flows


def test_send_event_sends_an_event_of_the_pack_flyte():
    play = run(
        "SendEvent",
        "{event: Go, payload: {n: 1}}",
        steps="\n---\n{name: other, steps: [{id: b, event: {packName: Flyte, name: Go}}]}",
    )
    assert play.execution.flow.name == "other"
    assert play.execution.trigger.payload == {"n": 1}
    assert play.executions[0].steps["a"].result.name == "EventSent"
    assert play.executions[0].depth + 1 == play.execution.depth


def test_an_event_with_a_key_is_sent_once():
    play = run("SendEvent", "{event: Go, key: '{{ Event.Payload }}'}", "k")
    play.say("k")
    play.say("l")
    assert play.names().count("Go") == 2
    assert play.names().count("EventSent") == 3


CHILD = """
---
name: child
inputs: {required: [n]}
steps:
- {id: c, event: {packName: Flyte, name: Called}, criteria: "{{ Event.Payload.n > 0 }}", command: {packName: Worker, name: Do}}
- {id: r, dependsOn: [c], command: {packName: Flyte, name: Return, input: {sum: "{{ Steps.c.Payload }}"}}}
"""


def parent(given: str, payload=None, **more) -> Play:
    def validate(schema, value):
        missing = [key for key in schema["required"] if key not in (value or {})]
        return f"{missing[0]} is missing" if missing else None

    text = f"[{{id: a, event: {{packName: Chat}}, command: {{packName: Flyte, name: RunFlow, input: {given}}}}}, {{id: z, event: {{resultOf: a}}}}]{CHILD}"
    play = Play(text, validate=validate, **more)
    play.say(payload)
    return play


def test_run_flow_waits_for_the_end_of_the_flow():
    play = parent("{flow: child, payload: {n: 1}}")
    assert play.executions[0].state == "RUNNING"
    play.do(payload=5)
    assert play.execution.output == {"sum": 5}
    first = play.executions[0]
    assert first.steps["a"].payload == {
        "execution": play.execution.execution_id,
        "state": "SUCCEEDED",
        "output": {"sum": 5},
    }
    assert (first.steps["a"].state, first.state) == ("SUCCEEDED", "SUCCEEDED")


def test_a_flow_that_failed_is_a_failure_of_the_caller_and_reported_there_alone():
    play = Play(
        f"[{{id: a, event: {{packName: Chat}}, command: {{packName: Flyte, name: RunFlow, input: {{flow: child, payload: {{n: 1}}}}}}}}]{CHILD}"
    )
    play.say()
    play.fail()
    assert [e.state for e in play.executions] == ["FAILED", "FAILED"]
    assert [e.payload["flow"] for e in play.events if e.name == "StepFailed"] == ["flow"]
    assert play.executions[0].steps["a"].payload["state"] == "FAILED"


def test_run_flow_without_wait_goes_on_when_the_flow_has_begun():
    play = parent("{flow: child, payload: {n: 1}, wait: false}")
    assert play.executions[0].steps["a"].result.name == "FlowStarted"
    assert play.executions[0].state == "SUCCEEDED"
    play.fail()
    assert play.last("StepFailed")["flow"] == "child"


@pytest.mark.parametrize(
    ("given", "reason"), [("{n: 0}", "no trigger passes"), ("{n: 1}", "paused"), ("{}", None)]
)
def test_run_flow_fails_if_nothing_starts(given, reason):
    play = Play(
        f"[{{id: a, event: {{packName: Chat}}, command: {{packName: Flyte, name: RunFlow, input: {{flow: child, payload: {given}}}}}}}]{CHILD}",
        validate=lambda _, value: None if "n" in value else "n is missing",
    )
    if reason == "paused":
        play.pause("child")
    play.say()
    assert outcome(play)[0] == "FATAL"
    assert outcome(play)[1].get("reason") == reason


def test_a_limit_that_drops_the_start_fails_run_flow():
    play = parent("{flow: child, payload: {n: 1}}")
    limited = play.executions[-1].flow
    assert limited.name == "child"
    text = "[{id: a, event: {packName: Chat}, command: {packName: Flyte, name: RunFlow, input: {flow: child}}}]\n---\n{name: child, rateLimit: {max: 1, per: 1h}, steps: [{id: c, event: {packName: Flyte, name: Called}}]}"
    play = Play(text)
    play.say()
    play.say()
    first, _, second = play.executions
    assert (first.state, second.state) == ("SUCCEEDED", "FAILED")
    assert second.steps["a"].payload["reason"] == "rateLimit"


def test_cancelling_an_execution_cancels_those_that_it_waits_for():
    play = parent("{flow: child, payload: {n: 1}}")
    play.cancel(play.executions[0].execution_id)
    assert [e.state for e in play.executions] == ["CANCELLED", "CANCELLED"]
    assert play.open_actions == ()


def test_cancelling_the_child_is_a_failure_of_the_parent():
    play = parent("{flow: child, payload: {n: 1}}")
    play.cancel(play.execution.execution_id)
    assert play.executions[0].steps["a"].payload["state"] == "CANCELLED"
    assert play.executions[0].steps["a"].state == "FAILED"


# ------------------------------------------------------------------------------ Return, Fail


TWO = "- {id: other, event: {packName: Chat}, command: {packName: Worker, name: Do}}\n- {id: z, event: {resultOf: a}}"


def test_return_ends_the_execution_with_an_output_and_cancels_what_is_open():
    play = run("Return", "[1, '{{ Event.Payload }}']", 2, steps=TWO)
    assert (play.execution.state, play.execution.output) == ("SUCCEEDED", [1, 2])
    assert play.open_actions == ()
    assert "z" not in play.steps


def test_fail_ends_the_execution_as_failed_and_is_reported():
    play = run("Fail", "{message: no room}", steps=TWO)
    assert (play.execution.state, play.execution.message) == ("FAILED", "no room")
    assert play.open_actions == ()
    report = play.last("StepFailed")
    assert (report["reason"], report["step"], report["message"]) == ("fail", "a", "no room")
    assert play.names().count("StepFailed") == 1


# --------------------------------------------------------------------------------- questions

ASK = "- {id: good, dependsOn: [a]}\n- {id: bad, event: {resultOf: a, state: FAILED}}"


def test_a_question_is_answered_once():
    play = run(
        "Ask",
        "{question: 'Deploy {{ Event.Payload }}?', where: {packName: Slack, channelId: ci}}",
        "shop",
        steps=ASK,
    )
    question = play.questions[0]
    assert (question.text, question.options) == ("Deploy shop?", ["approve", "refuse"])
    play.answer(question.question_id, "approve", "ann@example.com", "go")
    assert outcome(play) == (
        "Answered",
        {"option": "approve", "person": "ann@example.com", "comment": "go"},
        "SUCCEEDED",
    )
    assert list(play.steps) == ["a", "good"]
    with pytest.raises(ConflictError):
        play.answer(question.question_id, "refuse", "ann@example.com")


def test_refuse_is_a_failure():
    play = run("Ask", "{question: Well?}", steps=ASK)
    play.answer(play.questions[0].question_id, "refuse", "ann@example.com")
    assert list(play.steps) == ["a", "bad"]


@pytest.mark.parametrize(("within", "wait"), [("15m", "15m"), ("''", "7d")])
def test_a_question_that_nobody_answers_times_out(within, wait):
    play = run("Ask", f"{{question: Well?, within: {within}}}", steps=ASK)
    play.wait(wait)
    assert outcome(play)[0] == "TimedOut"
    assert list(play.steps) == ["a", "bad"]
    assert play.questions == ()


def test_only_those_may_answer_who_are_asked():
    play = run(
        "Ask", "{question: Well?, who: ['group:ops', 'Slack:U1'], requestedBy: 'Slack:U1', options: [a, b]}",
        datastore={"chatops": {"groups": {"ops": ["bob@example.com"]}}},
    )  # fmt: skip
    question = play.questions[0].question_id
    for person, option, error in [
        ("eve@example.com", "a", ForbiddenError),
        ("Slack:U1", "a", ForbiddenError),
        ("bob@example.com", "c", InputError),
    ]:
        with pytest.raises(error):
            play.answer(question, option, person)
    play.answer(question, "b", "bob@example.com")
    assert play.execution.state == "SUCCEEDED"


def test_by_self_allows_the_requester_to_answer():
    play = run("Ask", "{question: Well?, requestedBy: 'Slack:U1', bySelf: true}")
    play.answer(play.questions[0].question_id, "approve", "Slack:U1")
    assert play.execution.state == "SUCCEEDED"


def test_cancelling_an_execution_closes_its_question():
    play = run("Ask", "{question: Well?}")
    question = play.questions[0].question_id
    play.cancel(play.execution.execution_id)
    assert play.questions == ()
    with pytest.raises(ConflictError):
        play.answer(question, "approve", "ann@example.com")


def test_the_timeout_of_a_step_closes_its_question():
    play = Play(
        "[{id: a, event: {packName: Chat}, timeout: 1m, command: {packName: Flyte, name: Ask, input: {question: Well?}}}]"
    )
    play.say()
    play.wait("1m")
    assert play.questions == ()
    assert play.execution.state == "FAILED"


def test_a_question_that_ran_out_while_no_server_ran_gets_a_minute_more():
    play = run("Ask", "{question: Well?, within: 15m}")
    play.stop_for(timedelta(hours=1))
    play.wait("59s")
    play.answer(play.questions[0].question_id, "approve", "ann@example.com")
    assert play.execution.state == "SUCCEEDED"


def test_commands_of_the_server_can_be_retried():
    play = Play("""
[{id: a, event: {packName: Chat}, command: {packName: Flyte, name: Ask, input: {question: Well?}, retry: {on: [failed], backoff: 1m, attempts: 2}}}]
""")
    play.say()
    play.answer(play.questions[0].question_id, "refuse", "ann@example.com")
    assert play.questions == ()
    play.wait("1m")
    play.answer(play.questions[0].question_id, "approve", "ann@example.com")
    assert play.execution.state == "SUCCEEDED"


def test_one_cannot_complete_an_action_of_the_server():
    play = run("Ask", "{question: Well?}")
    with pytest.raises(ConflictError):
        play.complete(play.open_actions[0].action_id, "Answered", {"option": "approve"})
