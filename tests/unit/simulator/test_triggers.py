"""Starts: patterns, labels, criteria, context; one execution in which all triggers that passed run."""

import pytest

from flyteops.errors import InputError, NotFoundError
from tests.support.model import Play

GREET = """
- id: greet
  event: {packName: Chat, name: Said}
  command: {packName: Worker, name: Do}
"""


def test_an_event_that_fits_begins_an_execution():
    play = Play(GREET)
    event = play.say({"text": "hi"})
    assert play.execution.state == "RUNNING"
    assert play.execution.trigger.event_id == event
    assert play.open == ["greet"]
    assert play.why("greet") == [("ran", "passed")]


@pytest.mark.parametrize(("pack", "name"), [("Chat", "Left"), ("Mail", "Said"), ("chat", "Said")])
def test_an_event_of_another_name_or_pack_gives_no_decision(pack, name):
    play = Play(GREET)
    play.send(pack, name)
    assert play.executions == ()
    assert play.decisions == ()


def test_a_pattern_without_a_name_fits_any_event_of_the_pack():
    play = Play("[{id: any, event: {packName: Chat}}]")
    play.say()
    play.say(name="Left")
    assert [e.state for e in play.executions] == ["SUCCEEDED", "SUCCEEDED"]


def test_one_of_several_patterns_must_fit():
    play = Play("[{id: any, event: [{packName: Chat, name: Said}, {packName: Mail, name: Came}]}]")
    play.send("Mail", "Came")
    play.send("Mail", "Went")
    assert len(play.executions) == 1


def test_the_sender_must_have_the_labels_of_the_pattern():
    play = Play("""
- id: greet
  event: {packName: Chat, name: Said, packLabels: {env: "{{ Event.Payload.env }}"}}
""")
    play.say({"env": "prod"}, labels={"env": "test", "site": "a"})
    assert play.why("greet") == [("skipped", "packLabels")]
    play.say({"env": "test"}, labels={"env": "test", "site": "a"})
    assert play.steps == {"greet": "SUCCEEDED"}


@pytest.mark.parametrize(
    ("criteria", "outcome"),
    [
        ("{{ Event.Payload.n == 1 }}", ("ran", "passed")),
        ("{{ Event.Payload.n == 2 }}", ("skipped", "criteria")),
        ("{% if Event.Payload.n == 1 %}true{% else %}false{% endif %}", ("ran", "passed")),
        ("{% if Event.Payload.n == 1 %}false{% else %}true{% endif %}", ("skipped", "criteria")),
        ("{{ Event.Payload.n }}", ("failed", "error")),
        ("{{ Event.Payload.missing }}", ("failed", "error")),
        ("{{ null }}", ("failed", "error")),
        ("{{ Event.Payload.text < 1 }}", ("failed", "error")),
    ],
)
def test_criteria_must_give_true_or_false(criteria, outcome):
    play = Play(f"[{{id: greet, event: {{packName: Chat, name: Said}}, criteria: '{criteria}'}}]")
    play.say({"n": 1, "text": "one"})
    assert play.why("greet") == [outcome]
    assert len(play.executions) == (outcome[0] == "ran")


def test_a_failing_criterion_of_a_trigger_is_a_decision_and_no_execution():
    play = Play("[{id: greet, event: {packName: Chat, name: Said}, criteria: '{{ 1 + \"a\" }}'}]")
    play.say()
    assert play.why("greet") == [("failed", "error")]
    assert play.executions == ()
    assert play.names() == []


def test_every_trigger_that_passes_runs_in_one_execution():
    play = Play("""
- {id: a, event: {packName: Chat, name: Said}, command: {packName: Worker, name: Do}}
- {id: b, event: {packName: Chat, name: Said}, criteria: false, command: {packName: Worker, name: Do}}
- {id: c, event: {packName: Chat}, command: {packName: Worker, name: Do}}
""")
    play.say()
    assert len(play.executions) == 1
    assert play.open == ["a", "c"]


def test_each_flow_that_listens_has_an_execution_by_name_of_the_flow():
    play = Play(
        "{name: zebra, steps: [{id: a, event: {packName: Chat}}]}\n---\n"
        "{name: ant, steps: [{id: a, event: {packName: Chat}}]}"
    )
    play.say()
    assert [e.flow.name for e in play.executions] == ["ant", "zebra"]


def test_context_comes_after_criteria_and_before_the_command():
    play = Play("""
- id: greet
  event: {packName: Chat, name: Said}
  criteria: "{{ Event.Payload.who is defined and Context is not defined }}"
  context: {who: "{{ Event.Payload.who }}", count: "{{ Event.Payload.n + 1 }}"}
  command: {packName: Worker, name: Do, input: {text: "Hi {{ Context.who }}", n: "{{ Context.count }}"}}
""")
    play.say({"who": "Ann", "n": 1})
    assert play.open_actions[0].input == {"text": "Hi Ann", "n": 2}
    assert play.execution.context == {"who": "Ann", "count": 2}


def test_a_failing_context_of_a_trigger_begins_an_execution_that_has_failed():
    play = Play("""
- {id: greet, event: {packName: Chat, name: Said}, context: {n: "{{ 1 + 'a' }}"}, command: {packName: Worker, name: Do}}
""")
    play.say()
    assert play.execution.state == "FAILED"
    assert play.steps == {"greet": "FAILED"}
    assert play.why("greet") == [("failed", "error")]
    assert play.last("StepFailed")["reason"] == "error"


def test_vars_are_rendered_where_they_are_used_and_may_read_the_datastore():
    play = Play(
        """
vars: {limit: "{{ datastore('limit') }}", broken: "{{ 1 + 'a' }}"}
steps: [{id: greet, event: {packName: Chat}, criteria: "{{ Event.Payload.n > Vars.limit }}"}]
""",
        datastore={"limit": 3},
    )
    play.say({"n": 3})
    play.say({"n": 4})
    assert play.why("greet") == [("skipped", "criteria"), ("ran", "passed")]


def test_the_criteria_of_a_trigger_see_neither_context_nor_steps():
    play = Play("""
- id: greet
  event: {packName: Chat}
  criteria: "{{ Steps is not defined and Execution is not defined and Trigger is not defined }}"
""")
    play.say()
    assert play.why("greet") == [("ran", "passed")]


def test_a_result_starts_no_execution_of_its_own_flow_but_those_of_others():
    play = Play("""
name: flow
steps:
- {id: go, event: {packName: Chat}, command: {packName: Worker, name: Do}}
- {id: loop, event: {packName: Worker, name: Done}}
---
name: other
steps: [{id: loop, event: {packName: Worker, name: Done}}]
""")
    play.say()
    play.do()
    assert play.why("loop") == [("skipped", "ownResult")]
    assert [e.flow.name for e in play.executions] == ["flow", "other"]


def test_a_trigger_may_want_results_of_a_state():
    play = Play("""
name: flow
steps: [{id: go, event: {packName: Chat}, command: {packName: Worker, name: Do}}]
---
name: alarm
steps: [{id: loud, event: {packName: Worker, state: FAILED}}]
""")
    play.say()
    play.do()
    assert len(play.executions) == 1
    play.say()
    play.do(failure=True)
    assert [e.flow.name for e in play.executions] == ["flow", "flow", "alarm"]


def test_results_of_the_server_itself_start_nothing():
    play = Play("""
name: flow
steps: [{id: go, event: {packName: Chat}, command: {packName: Flyte, name: SetData, input: {key: a, value: 1}}}]
---
name: other
steps: [{id: loop, event: {packName: Flyte, name: DataSet}}]
""")
    play.say()
    assert play.datastore == {"a": 1}
    assert [e.flow.name for e in play.executions] == ["flow"]


def test_a_schedule_starts_its_own_step_alone():
    play = Play("""
- {id: hourly, schedule: {cron: "0 * * * *"}}
- {id: daily, schedule: {cron: "0 0 * * *"}}
- {id: any, event: {packName: Flyte, name: Scheduled}}
""")
    play.wait("2h")
    assert [list(e.steps) for e in play.executions] == [["hourly"], ["hourly"]]
    assert play.last("Scheduled")["scheduledAt"] == "2026-12-01T14:00:00Z"


def test_an_event_with_the_key_of_an_earlier_one_is_the_same_event():
    play = Play(GREET)
    assert play.say(key="k") == play.say(key="k") != play.say(key="l")
    assert len(play.executions) == 2


def test_the_servers_name_is_not_for_packs():
    play = Play(GREET)
    with pytest.raises(InputError):
        play.send("Flyte", "Called")
    with pytest.raises(InputError):
        play.take("Flyte")
    with pytest.raises(NotFoundError):
        play.complete("action-77", "Done")


def test_a_pack_gets_the_oldest_command_that_its_labels_fit():
    play = Play("""
- {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do, packLabels: {env: "{{ Event.Payload }}"}}}
""")
    play.say("test")
    play.say("prod")
    assert play.take("Worker") is None
    assert play.take("Worker", labels={"env": "prod", "site": "a"}).labels == {"env": "prod"}
    assert play.take("Worker", labels={"env": "prod"}) is None


def test_random_values_of_a_step_do_not_depend_on_other_steps():
    step = "{{id: {}, event: {{packName: Chat}}, command: {{packName: Worker, name: Do, input: '{{{{ uuid() }}}}'}}}}"
    alone, both = Play(f"[{step.format('b')}]"), Play(f"[{step.format('a')}, {step.format('b')}]")
    alone.say()
    both.say()
    assert alone.open_actions[0].input == both.open_actions[1].input != both.open_actions[0].input
