"""Control: pause, run by hand, cancel, rerun, and chains that end."""

from datetime import timedelta

import pytest

from flyteops.errors import ConflictError, InputError, NotFoundError
from tests.support.model import NOON, Play, read

DO = "[{id: a, event: {packName: Chat, name: Said}, command: {packName: Worker, name: Do}}]"


# ----------------------------------------------------------------------------- pause and run


def test_a_paused_flow_starts_nothing_and_does_not_catch_up():
    play = Play(DO)
    play.say()
    play.pause("flow")
    play.say()
    assert play.why("a")[-1] == ("skipped", "paused")
    play.do()
    play.resume("flow")
    assert len(play.executions) == 1
    play.say()
    assert len(play.executions) == 2


def test_a_flow_that_is_not_enabled_starts_nothing_and_cannot_be_resumed():
    play = Play(f"{{enabled: false, steps: {DO}}}")
    play.say()
    assert play.executions == ()
    with pytest.raises(ConflictError):
        play.resume("flow")
    with pytest.raises(ConflictError):
        play.run("flow")


def test_a_paused_schedule_is_skipped():
    play = Play("[{id: a, schedule: {cron: '0 * * * *'}}]")
    play.pause("flow")
    play.wait("1h")
    play.resume("flow")
    assert play.executions == ()
    play.wait("1h")
    assert len(play.executions) == 1


@pytest.mark.parametrize(
    ("catch_up", "missed"), [("all", ["13", "14", "15"]), ("last", ["15"]), ("skip", [])]
)
def test_a_schedule_catches_up_after_a_time_without_servers(catch_up, missed):
    play = Play(f"[{{id: a, schedule: {{cron: '0 * * * *', catchUp: {catch_up}}}}}]")
    play.stop_for(timedelta(hours=3, minutes=30))
    assert [e.trigger.payload["scheduledAt"][11:13] for e in play.executions] == missed
    play.wait("30m")
    assert play.execution.trigger.payload["scheduledAt"] == "2026-12-01T16:00:00Z"


def test_events_about_packs_can_be_triggers():
    play = Play(
        "[{id: a, event: {packName: Flyte, name: PackSilent}, criteria: \"{{ Event.Payload.pack == 'Shell' }}\"}]"
    )
    play.report("PackSilent", {"pack": "Shell"})
    play.report("PackBack", {"pack": "Shell"})
    assert [e.state for e in play.executions] == ["SUCCEEDED"]


def test_a_new_version_has_its_own_schedule():
    play = Play("[{id: a, schedule: {cron: '0 * * * *'}}]")
    play.save(read("[{id: b, schedule: {cron: '30 * * * *'}}]")[0])
    play.wait("1h")
    assert [list(e.steps) for e in play.executions] == [["b"]]


def test_a_flow_can_be_run_by_hand_also_when_it_is_paused():
    play = Play(
        "[{id: a, event: {packName: Flyte, name: Called}, context: {n: '{{ Event.Payload }}'}}]"
    )
    play.pause("flow")
    event = play.run("flow", 3)
    assert play.execution.trigger.event_id == event
    assert play.execution.context == {"n": 3}


def test_running_by_hand_starts_a_schedule_if_there_is_no_trigger_for_it():
    play = Play("[{id: a, event: {packName: Chat}}, {id: b, schedule: {cron: '0 0 * * *'}}]")
    play.run("flow")
    assert list(play.execution.steps) == ["b"]
    assert play.execution.trigger.payload["scheduledAt"] == "2026-12-01T12:00:00Z"


def test_there_must_be_something_to_run():
    play = Play(DO)
    with pytest.raises(ConflictError):
        play.run("flow")
    with pytest.raises(NotFoundError):
        play.run("nowhere")
    assert play.events == ()


def test_the_payload_must_fit_the_inputs():
    play = Play(
        "{inputs: {}, steps: [{id: a, event: {packName: Flyte, name: Called}}]}",
        validate=lambda _, value: None if value == 1 else "it is not 1",
    )
    with pytest.raises(InputError, match="it is not 1"):
        play.run("flow", 2)
    play.run("flow", 1)
    assert len(play.executions) == 1


def test_called_reaches_only_its_flow():
    called = "steps: [{id: a, event: {packName: Flyte, name: Called}}]"
    play = Play(f"{{name: flow, {called}}}\n---\n{{name: other, {called}}}")
    play.run("other")
    assert [e.flow.name for e in play.executions] == ["other"]


# ------------------------------------------------------------------------------------ cancel


def test_cancelling_ends_actions_and_waits_and_late_results_are_kept():
    play = Play("""
- {id: a, event: {packName: Chat}, command: {packName: Worker, name: Do}}
- {id: g, event: {packName: Chat}}
- {id: w, dependsOn: [g], correlate: {event: "{{ Event.Payload }}", with: "{{ 1 }}"}, event: {packName: Mail}}
- {id: b, dependsOn: [a]}
""")
    play.say()
    action = play.take("Worker")
    play.cancel(play.execution.execution_id)
    assert (play.execution.state, play.execution.ended_at) == ("CANCELLED", NOON)
    assert (play.open_actions, play.waits) == ((), ())
    with pytest.raises(ConflictError):
        play.heartbeat(action.action_id)
    play.complete(action.action_id, "Done")
    assert [event.name for event in action.late_results] == ["Done"]
    assert play.why("a")[-1] == ("skipped", "cancelled")
    play.send("Mail", "Came", 1)
    play.wait("30d")
    assert play.steps == {"a": None, "g": "SUCCEEDED", "w": None}
    with pytest.raises(ConflictError):
        play.cancel(play.execution.execution_id)


def test_a_cancelled_command_is_not_handed_out():
    play = Play(DO)
    play.say()
    play.cancel(play.execution.execution_id)
    assert play.take("Worker") is None


def test_a_wait_whose_execution_was_cancelled_before_its_event_was_carried_out():
    play = Play(
        "[{id: g, event: {packName: Chat}}, {id: w, dependsOn: [g], correlate: {event: '{{ Event.Payload }}', with: '{{ 1 }}'}, event: {packName: Mail}}]",
        hold_tasks=True,
    )
    play.say()
    play.send("Mail", "Came", 1)
    play.cancel(play.execution.execution_id)
    play.run_tasks()
    assert play.why("w") == [("ran", "waiting"), ("skipped", "cancelled")]


def test_a_cancelled_execution_is_not_reported():
    play = Play(DO)
    play.say()
    play.cancel(play.execution.execution_id)
    assert play.names() == []


# ------------------------------------------------------------------------------------- rerun

CHAIN = """
- {id: a, event: {packName: Chat}, context: {n: "{{ Event.Payload }}"}, command: {packName: Worker, name: A}}
- {id: b, dependsOn: [a], context: {b: "{{ Event.Payload }}"}, command: {packName: Worker, name: B, input: "{{ Context.n }}"}}
- {id: c, dependsOn: [b], command: {packName: Worker, name: C, input: "{{ Steps.a.Payload }} {{ Steps.b.Payload }}"}}
- {id: d, event: {resultOf: b, state: FAILED}, command: {packName: Worker, name: D}}
"""


def test_a_rerun_is_a_linked_execution_of_the_current_version():
    play = Play(CHAIN)
    play.say(1)
    old = play.execution
    play.fail()
    play.save(read(CHAIN.replace("name: A", "name: New"))[0])
    new = play.rerun(old.execution_id)
    assert (play.execution.execution_id, play.execution.rerun_of) == (new, old.execution_id)
    assert play.open_actions[0].name == "New"
    assert play.execution.trigger is old.trigger
    assert old.state == "FAILED"


def test_a_rerun_may_have_another_payload():
    play = Play(CHAIN)
    play.say(1)
    play.fail()
    play.rerun(play.execution.execution_id, replacement=2)
    assert play.execution.context == {"n": 2}


def test_a_rerun_from_a_step_takes_over_all_other_results():
    play = Play(CHAIN)
    play.say(1)
    play.do(payload="of a")
    play.do(failure=True)
    play.do()
    assert list(play.steps) == ["a", "b", "d"]
    play.rerun(play.execution.execution_id, from_step="b")
    assert play.steps == {"a": "SUCCEEDED", "b": None}
    assert play.open_actions[0].input == 1
    play.do(payload="of b")
    assert play.open_actions[0].input == "of a of b"
    play.do()
    assert play.execution.state == "SUCCEEDED"
    assert list(play.steps) == ["a", "b", "c"]


def test_a_rerun_from_a_step_may_have_another_input():
    play = Play(CHAIN)
    play.say(1)
    play.do()
    play.fail()
    play.rerun(play.execution.execution_id, from_step="b", replacement={"x": 1})
    assert [
        a.input for a in play.open_actions if a.execution_id == play.execution.execution_id
    ] == [{"x": 1}]


def test_a_rerun_from_a_step_that_did_not_run_uses_the_last_result_before_it():
    play = Play(CHAIN)
    play.say(1)
    play.do(payload="of a")
    play.fail()
    play.rerun(play.execution.execution_id, from_step="c")
    assert play.steps == {"a": "SUCCEEDED", "b": "FAILED", "c": None}


def test_a_step_must_exist_and_have_something_to_begin_with():
    play = Play(CHAIN)
    play.say(1)
    with pytest.raises(InputError):
        play.rerun(play.execution.execution_id, from_step="nowhere")
    with pytest.raises(ConflictError):
        play.rerun(play.execution.execution_id, from_step="c")
    assert len(play.executions) == 1


def test_a_rerun_passes_dedupe_and_rate_limit_but_not_concurrency():
    limits = "dedupe: {key: '{{ Event.Payload }}', within: 1h}, rateLimit: {max: 1, per: 1h}, concurrency: {max: 1}"
    play = Play(f"{{{limits}, steps: {DO}}}")
    play.say(1)
    first = play.execution.execution_id
    second = play.rerun(first)
    assert [e.state for e in play.executions] == ["RUNNING", "QUEUED"]
    play.do()
    assert play.execution.execution_id == second
    assert play.execution.state == "RUNNING"


def test_a_rerun_of_a_batch_has_the_same_batch():
    play = Play("{batch: {within: 10s}, steps: [{id: a, event: {packName: Chat}}]}")
    play.say(1)
    play.wait("10s")
    play.rerun(play.execution.execution_id)
    assert [e.trigger.name for e in play.executions] == ["Batch", "Batch"]
    assert play.execution.state == "SUCCEEDED"


# ------------------------------------------------------------------------------------ chains

LOOP = """
- {id: a, event: [{packName: Chat}, {packName: Flyte, name: Again}], command: {packName: Flyte, name: SendEvent, input: {event: Again}}}
"""


def test_a_chain_ends_and_what_is_beyond_is_parked():
    play = Play(LOOP, max_chain=3)
    play.say()
    assert [e.depth for e in play.executions] == [1, 2, 3]
    assert len(play.parked) == 1
    assert play.why("a")[-1] == ("skipped", "chain")
    report = play.last("StepFailed")
    assert (report["reason"], report["flow"]) == ("chain", "flow")


def test_a_person_releases_what_is_parked():
    play = Play(LOOP, max_chain=3)
    play.say()
    play.release(play.parked[0].start_id)
    assert [e.depth for e in play.executions] == [1, 2, 3, 1, 2, 3]
    assert len(play.parked) == 1
    play.drop_parked(play.parked[0].start_id)
    assert play.parked == ()
    with pytest.raises(NotFoundError):
        play.release("start-1")


def test_results_and_events_of_a_pack_that_works_for_an_execution_are_as_deep():
    play = Play(
        f"{{name: flow, steps: {DO}}}\n---\n{{name: other, steps: [{{id: b, event: [{{packName: Worker}}, {{packName: Mail}}]}}]}}"
    )
    play.say()
    play.send("Mail", "Came", working_for=play.open_actions[0].action_id)
    play.do()
    play.send("Mail", "Came")
    assert [e.depth for e in play.executions] == [1, 2, 2, 1]


def test_run_flow_fails_beyond_the_longest_chain():
    play = Play(
        "[{id: a, event: [{packName: Chat}, {packName: Flyte, name: Called}], command: {packName: Flyte, name: RunFlow, input: {flow: flow}}}]",
        max_chain=3,
    )
    play.say()
    assert play.parked == ()
    assert [e.state for e in play.executions] == ["FAILED"] * 3
    assert play.executions[2].steps["a"].payload["reason"] == "chain"
