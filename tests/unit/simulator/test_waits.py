"""Waits: steps that go on with an event from outside whose key equals their own."""

import pytest

from tests.support.model import NOON, Play, seconds

WAIT = """
- {{id: ask, event: {{packName: Chat, name: Asked}}, context: {{who: "{{{{ Event.Payload.who }}}}"}}}}
- {{id: reply, dependsOn: [ask], {terms} correlate: {{event: "{{{{ Event.Payload.id }}}}", with: "{{{{ Steps.ask.Payload.id }}}}"{more}}},
   event: {{packName: Chat, name: Replied}}}}
- {{id: good, dependsOn: [reply], command: {{packName: Worker, name: Do, input: "{{{{ Steps.reply.Payload.text }}}}"}}}}
- {{id: late, event: {{resultOf: reply, name: TimedOut}}, command: {{packName: Worker, name: Remind}}}}
"""


def waiting(terms: str = "", more: str = "", payload=None, **rest) -> Play:
    play = Play(WAIT.format(terms=terms, more=more), **rest)
    play.say({"id": 7, "who": "ann"} if payload is None else payload, "Asked")
    return play


def test_an_event_with_the_key_of_the_wait_ends_it():
    play = waiting()
    assert play.steps == {"ask": "SUCCEEDED", "reply": None}
    assert play.why("reply") == [("ran", "waiting")]
    play.say({"id": 8}, "Replied")
    play.say({"id": 7}, "Said")
    assert [run.step.id for run in play.waits] == ["reply"]
    play.say({"id": 7, "text": "yes"}, "Replied")
    assert play.open_actions[0].input == "yes"
    assert play.why("reply")[-1] == ("ran", "resumed")
    assert play.waits == ()


@pytest.mark.parametrize(
    ("own", "other", "equal"),
    [
        (7, 7, True),
        (7, 7.0, True),
        (7, "7", False),
        ("a", "A", False),
        (True, True, True),
        (True, 1, False),
        (True, "true", False),
        (7, None, False),
        (7, [7], False),
        (7, {"id": 7}, False),
        (9007199254740993, 9007199254740992, False),
        ("x" * 1024, "x" * 1024, True),
        ("x", "x" * 1025, False),
    ],
)
def test_keys_are_equal_by_type_and_value(own, other, equal):
    play = waiting(payload={"id": own})
    play.say({"id": other}, "Replied")
    assert (play.waits == ()) == equal


@pytest.mark.parametrize("own", [None, [], {"a": 1}, "x" * 1025])
def test_with_must_give_a_key(own):
    play = waiting(payload={"id": own})
    assert play.steps["reply"] == "FAILED"
    assert play.execution.steps["reply"].result.name == "Error"


def test_a_pattern_may_have_a_key_of_its_own():
    play = Play("""
- {id: ask, event: {packName: Chat, name: Asked}}
- {id: reply, dependsOn: [ask], correlate: {event: "{{ Event.Payload.thread }}", with: "{{ Steps.ask.Payload }}"},
   event: [{packName: Chat, name: Reacted, key: "{{ Event.Payload.item }}"}, {packName: Chat, name: Replied}]}
""")
    play.say(1, "Asked")
    play.say(2, "Asked")
    play.say({"item": 1, "thread": 2}, "Reacted")
    play.say({"item": 1, "thread": 2}, "Replied")
    assert [e.state for e in play.executions] == ["SUCCEEDED", "SUCCEEDED"]
    assert [e.steps["reply"].result.name for e in play.executions] == ["Reacted", "Replied"]


def test_a_key_that_cannot_be_rendered_equals_nothing():
    play = Play("""
- {id: ask, event: {packName: Chat, name: Asked}}
- {id: reply, dependsOn: [ask], correlate: {event: "{{ Event.Payload + 1 }}", with: "{{ 2 }}"}, event: {packName: Chat}}
""")
    play.say(name="Asked")
    play.say("one")
    assert len(play.waits) == 1
    play.say(1)
    assert play.waits == ()


def test_criteria_come_after_the_key_and_while_they_are_false_or_fail_the_wait_goes_on():
    play = waiting(terms="criteria: '{{ Event.Payload.n + 0 > 3 and Context.who == \"ann\" }}',")
    for n in (1, "x"):
        play.say({"id": 7, "n": n}, "Replied")
        assert len(play.waits) == 1
    play.say({"id": 7, "n": 4}, "Replied")
    assert play.why("reply") == [
        ("ran", "waiting"),
        ("skipped", "criteria"),
        ("failed", "error"),
        ("ran", "resumed"),
    ]


def test_the_event_runs_the_command_and_the_timeout_no_longer_counts():
    play = waiting(
        terms="timeout: 1m, context: {text: '{{ Event.Payload.text }}'}, command: {packName: Worker, name: Note, input: '{{ Context.who }}: {{ Context.text }}'},"
    )
    play.wait("59s")
    play.say({"id": 7, "text": "yes"}, "Replied")
    play.wait("1h")
    assert play.open_actions[0].input == "ann: yes"
    play.do("Noted")
    assert play.execution.steps["reply"].result.name == "Noted"


def test_a_wait_that_runs_out_has_timed_out():
    play = waiting(terms="timeout: 1m,")
    play.wait("59s")
    assert len(play.waits) == 1
    play.wait("1s")
    assert play.open == ["late"]
    assert play.why("reply") == [("ran", "waiting"), ("failed", "timedOut")]
    play.say({"id": 7}, "Replied")
    assert play.open == ["late"]
    play.do()
    assert play.execution.state == "SUCCEEDED"


def test_a_wait_without_a_timeout_ends_after_seven_days():
    play = waiting()
    play.wait("6d23h59m")
    assert len(play.waits) == 1
    play.wait("1m")
    assert play.open == ["late"]


def test_one_event_may_end_several_waits_and_starts_flows_as_well():
    play = Play(
        "{name: ask, steps: ["
        '{id: a, event: {packName: Chat, name: Asked}}, {id: b, dependsOn: [a], correlate: {event: "{{ Event.Payload }}", with: "{{ 1 }}"}, event: {packName: Chat, name: Replied}}]}'
        "\n---\n{name: count, steps: [{id: c, event: {packName: Chat, name: Replied}}]}"
    )
    for _ in range(3):
        play.say(name="Asked")
    play.say(1, "Replied")
    assert [e.state for e in play.executions] == ["SUCCEEDED"] * 4
    assert play.executions[-1].flow.name == "count"


def test_a_result_of_the_same_execution_ends_no_wait():
    play = Play("""
- {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}
- {id: w, event: {packName: Worker}, dependsOn: [a], correlate: {event: "{{ Event.Payload }}", with: "{{ 1 }}"}}
- {id: b, event: {resultOf: a}, command: {packName: Worker, name: Do}}
""")
    play.say()
    play.do(payload=1)
    play.do(payload=1)
    assert len(play.waits) == 1
    play.say()
    play.do(payload=1)
    assert [e.steps["w"].state for e in play.executions] == ["SUCCEEDED", None]


def test_the_event_that_began_a_wait_does_not_end_it():
    play = Play("""
- {id: a, event: {packName: Chat}}
- {id: w, dependsOn: [a], correlate: {event: "{{ Event.Payload }}", with: "{{ 1 }}"}, event: {packName: Chat}}
""")
    play.say(1)
    assert len(play.waits) == 1
    play.say(1)
    assert [e.steps["w"].state for e in play.executions] == ["SUCCEEDED", None]


LOOK = """
- {id: a, event: {packName: Chat, name: Asked}, command: {packName: Worker, name: Do}}
- {id: w, dependsOn: [a], correlate: {event: "{{ Event.Payload.id }}", with: "{{ 1 }}", lookBack: 5m}, event: {packName: Chat, name: Replied},
   criteria: "{{ Event.Payload.ok }}"}
"""


@pytest.mark.parametrize(("ago", "found"), [("5m", True), ("5m1s", False)])
def test_a_wait_looks_back(ago, found):
    play = Play(LOOK)
    play.say({}, "Asked")
    play.say({"id": 1, "ok": True}, "Replied")
    play.wait(ago)
    play.do()
    assert (play.waits == ()) == found


def test_a_wait_does_not_look_back_beyond_the_beginning_of_its_execution():
    play = Play(LOOK)
    play.say({"id": 1, "ok": True}, "Replied")
    play.say({}, "Asked")
    play.do()
    assert len(play.waits) == 1


def test_a_wait_looks_back_at_the_oldest_event_whose_criteria_hold():
    play = Play(LOOK)
    play.say({}, "Asked")
    play.say({"id": 1, "ok": False}, "Replied")
    play.say({"id": 1, "ok": True, "n": 1}, "Replied")
    play.say({"id": 1, "ok": True, "n": 2}, "Replied")
    play.do()
    assert play.execution.steps["w"].payload["n"] == 1
    assert play.execution.state == "SUCCEEDED"


def test_of_an_event_and_a_timeout_the_one_that_commits_first_wins():
    play = waiting(terms="timeout: 1m,", hold_tasks=True)
    play.run_tasks()
    play.wait("59s")
    play.say({"id": 7}, "Replied")
    play.wait("1m")
    assert len(play.waits) == 1
    play.run_tasks()
    assert play.open == ["good"]


def test_a_timeout_counts_if_the_event_before_it_did_not_pass():
    play = waiting(terms="timeout: 1m, criteria: false,", hold_tasks=True)
    play.run_tasks()
    play.say({"id": 7}, "Replied")
    play.wait("1m")
    play.run_tasks()
    assert play.open == ["late"]


def test_a_wait_takes_over_a_greater_depth():
    play = Play(
        "{name: deep, steps: [{id: a, event: {packName: Mail}, command: {packName: Flyte, name: SendEvent, input: {event: Go, payload: 1}}}]}\n---\n"
        "{name: wait, steps: [{id: a, event: {packName: Chat}}, {id: w, dependsOn: [a], correlate: {event: '{{ Event.Payload }}', with: '{{ 1 }}'}, event: {packName: Mail}}]}"
    )
    play.say()
    play.send("Mail", "Came", 2)
    deep = play.execution
    play.send("Mail", "Came", 1, working_for=deep.steps["a"].actions[0].action_id)
    assert deep.depth == 1
    assert play.executions[0].depth == 1
    third = play.execution
    assert third.depth == 2
    play.say()
    play.send("Mail", "Came", 1, working_for=third.steps["a"].actions[0].action_id)
    assert [e.depth for e in play.executions if e.flow.name == "wait"] == [1, 2]


def test_waits_that_ran_out_while_no_server_ran_get_a_minute_more():
    play = waiting(terms="timeout: 10m,")
    play.stop_for(seconds(3600))
    assert len(play.waits) == 1
    play.wait("30s")
    play.say({"id": 7}, "Replied")
    assert play.open == ["good"]


def test_or_their_own_length_if_that_is_shorter():
    play = waiting(terms="timeout: 10s,")
    play.stop_for(seconds(3600))
    play.wait("10s")
    assert play.open == ["late"]
    assert play.execution.steps["reply"].finished_at == NOON + seconds(3610)


def test_a_wait_that_did_not_run_out_meanwhile_keeps_its_time():
    play = waiting(terms="timeout: 2h,")
    play.stop_for(seconds(3600))
    play.wait("59m")
    assert len(play.waits) == 1
    play.wait("1m")
    assert play.waits == ()
