"""The evaluator: which steps run for an event, in which execution, and why the others do not."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations

import msgspec
import pytest

from flyteops.document import Document
from flyteops.engine.compiled import FlowIndex, compile_flow
from flyteops.engine.context import DatastoreSnapshot, EvaluationContext
from flyteops.engine.evaluation import evaluate, evaluate_result
from flyteops.flow.file import read_flow
from flyteops.model import ActionSnapshot, ActionState, DataItem, FlowVersion, Sibling
from tests.support.flow import NOON as NOW
from tests.support.flow import an_event


def a_moment(items=()):
    snapshot = DatastoreSnapshot({item.key: item for item in items})
    return EvaluationContext(now=NOW, seed=b"seed", datastore=snapshot, monotonic=lambda: 0.0)


def a_step(
    step_id="",
    event="Said",
    pack="Chat",
    command="Shell",
    command_pack="Shell",
    labels=None,
    event_labels=None,
    **more,
):
    given = {
        "id": step_id,
        "event": {"name": event, "packName": pack},
        "command": {"name": command, "packName": command_pack},
    }
    if event_labels:
        given["event"]["packLabels"] = event_labels
    if labels:
        given["command"]["packLabels"] = labels
    if "input" in more:
        given["command"]["input"] = more.pop("input")
    return given | more


def a_flow(*steps, name="flow"):
    flow = read_flow(Document({"name": name, "steps": list(steps)}))
    return compile_flow(FlowVersion(uuid=f"uuid-of-{name}", flow=flow, saved_at=NOW))


def progress_of(*finished, last, context=None, pending=()):
    siblings = [
        Sibling(step_id, index, ActionState.SUCCESS) for index, step_id in enumerate(finished)
    ]
    siblings += [
        Sibling(step_id, 50 + index, ActionState.PENDING)
        for index, step_id in enumerate([last, *pending])
    ]
    return ActionSnapshot(
        action_id="a1",
        name="Shell",
        pack_name="Shell",
        pack_labels={},
        correlation_id="run",
        flow_name="flow",
        flow_uuid="uuid-of-flow",
        step_id=last,
        context=context or {},
        state=ActionState.PENDING,
        siblings=tuple(siblings),
        step_index=50,
    )


def reasons(outcome):
    return {decision.step_id: decision.reason for decision in outcome.decisions}


def begin(flow, event, items=()):
    return evaluate(event, FlowIndex([flow]), a_moment(items))


def resume(flow, event, progress):
    return evaluate_result(event, FlowIndex(), flow, progress, a_moment())


# ----------------------------------------------------------------------------------- new executions


def test_an_event_begins_one_execution_of_each_flow_that_listens():
    flows = [
        a_flow(a_step("s"), name="one"),
        a_flow(a_step("s"), name="two"),
        a_flow(a_step("s", event="Other"), name="three"),
    ]
    outcome = evaluate(an_event(), FlowIndex(flows), a_moment())
    assert [action.flow_name for action in outcome.actions] == ["one", "two"]
    assert len({action.correlation_id for action in outcome.actions}) == 2


def test_all_trigger_steps_that_pass_act_in_the_same_execution():
    flow = a_flow(a_step("a"), a_step("b", criteria="false"), a_step("c"))
    outcome = begin(flow, an_event())
    assert [action.step_id for action in outcome.actions] == ["a", "c"]
    assert len({action.correlation_id for action in outcome.actions}) == 1
    assert reasons(outcome) == {"a": "passed", "b": "criteria", "c": "passed"}


def test_several_steps_without_id_may_run_on_the_first_event():
    outcome = begin(a_flow(a_step(), a_step()), an_event())
    assert [action.step_index for action in outcome.actions] == [0, 1]


def test_a_step_that_depends_on_another_begins_nothing():
    outcome = begin(a_flow(a_step("a", event="Other"), a_step("b", dependsOn=["a"])), an_event())
    assert outcome.actions == ()
    assert outcome.decisions == ()


@pytest.mark.parametrize(
    "event", [an_event(name="said"), an_event(pack="chat"), an_event(name="Said ")]
)
def test_names_of_events_and_packs_match_exactly(event):
    assert begin(a_flow(a_step("a")), event).decisions == ()


def test_nothing_follows_from_an_event_nobody_listens_to():
    assert begin(a_flow(), an_event()).actions == ()


# ------------------------------------------------------------------------------------ trying a step


def test_context_is_rendered_first_and_seen_by_all_other_templates():
    step = a_step(
        "a",
        context={"env": "{{ Event.Payload.env }}"},
        event_labels={"env": "{{ Context.env }}"},
        criteria="{{ Context.env == 'lab' }}",
        labels={"env": "{{ Context.env }}"},
        input={"where": ["{{ Context.env }}"]},
    )
    (action,) = begin(
        a_flow(step), an_event(payload={"env": "lab"}, labels={"env": "lab", "x": "y"})
    ).actions
    assert action.context == {"env": "lab"}
    assert action.pack_labels == {"env": "lab"}
    assert msgspec.json.decode(action.input) == {"where": ["lab"]}


def test_the_sender_must_have_all_labels_and_the_reason_says_which_are_missing():
    step = a_step("a", event_labels={"env": "prod", "net": "lab"})
    (decision,) = begin(a_flow(step), an_event(labels={"net": "lab"})).decisions
    assert (decision.outcome, decision.reason) == ("skipped", "packLabels")
    assert "env=prod" in decision.detail
    assert decision.values["event.packLabels.env"] == '"prod"'


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_criteria_that_are_true_in_the_words_of_the_original_let_a_step_run(text):
    assert len(begin(a_flow(a_step("a", criteria=text)), an_event()).actions) == 1


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_criteria_that_are_false_in_the_words_of_the_original_skip_a_step(text):
    (decision,) = begin(a_flow(a_step("a", criteria=text)), an_event()).decisions
    assert (decision.outcome, decision.reason) == ("skipped", "criteria")


@pytest.mark.parametrize(
    "text", ["yes", " True", "1.000000", "{{ nothing }}", "{{ Event.Payload }}"]
)
def test_criteria_that_are_neither_are_an_error(text):
    (decision,) = begin(a_flow(a_step("a", criteria=text)), an_event(payload={"a": 1})).decisions
    assert (decision.outcome, decision.reason, decision.path) == ("failed", "error", "criteria")


def test_a_time_out_of_range_is_an_error_of_the_step():
    far = (
        datetime.fromisoformat("9999-12-31T23:00:00-00:30")
        .astimezone(UTC)
        .replace(tzinfo=timezone(timedelta(hours=-5)))
    )
    event = msgspec.structs.replace(an_event(), created_at=far)
    outcome = begin(a_flow(a_step("a", input="{{ Event.CreatedAt.UTC }}"), a_step("b")), event)
    assert [decision.outcome for decision in outcome.decisions] == ["failed", "ran"]


def test_what_nobody_foresaw_spoils_one_step_only():
    def broken(key):
        raise ZeroDivisionError(key)

    moment = EvaluationContext(now=NOW, seed=b"seed", datastore=broken, monotonic=lambda: 0.0)
    flow = a_flow(a_step("a", input="{{ datastore('x') }}"), a_step("b"))
    outcome = evaluate(an_event(), FlowIndex([flow]), moment)
    assert [decision.outcome for decision in outcome.decisions] == ["failed", "ran"]


def test_empty_criteria_are_true():
    assert len(begin(a_flow(a_step("a", criteria="")), an_event()).actions) == 1


def test_a_decision_shows_the_values_that_the_criteria_saw():
    step = a_step("a", criteria="{{ Event.Payload.message|match:'^deploy' }}")
    (decision,) = begin(a_flow(step), an_event(payload={"message": "hello"})).decisions
    assert decision.values == {"Event.Payload.message": '"hello"'}


def test_an_error_in_one_step_leaves_the_others_alone_and_says_where_it_is():
    broken = a_step("broken", input={"a": ["x {{ Event.Payload.text|extractMatch:'(' }}"]})
    outcome = begin(a_flow(broken, a_step("fine")), an_event(payload={"text": "x"}))
    assert [action.step_id for action in outcome.actions] == ["fine"]
    failure = outcome.decisions[0]
    assert (failure.outcome, failure.path, failure.line) == ("failed", "command.input.a[0]", 1)


def test_a_step_that_does_not_compile_spoils_only_itself():
    sound = read_flow(Document({"name": "flow", "steps": [a_step("a"), a_step("b")]}))
    spoilt = msgspec.structs.replace(sound.steps[0], criteria="{{ 1 +")
    flow = compile_flow(
        FlowVersion(
            uuid="u",
            flow=msgspec.structs.replace(sound, steps=(spoilt, sound.steps[1])),
            saved_at=NOW,
        )
    )
    outcome = evaluate(an_event(), FlowIndex([flow]), a_moment())
    assert [action.step_id for action in outcome.actions] == ["b"]
    assert (outcome.decisions[0].outcome, outcome.decisions[0].path) == ("failed", "criteria")


def test_input_keeps_its_shape_and_keys_and_loses_null_members():
    given = {
        "{{ key }}": "{{ 1 + 1 }}",
        "n": 5,
        "b": True,
        "gone": None,
        "list": [1.5, {"x": "{{ Event.Name }}"}],
    }
    (action,) = begin(a_flow(a_step("a", input=given)), an_event()).actions
    assert msgspec.json.decode(action.input) == {
        "{{ key }}": "2",
        "n": 5,
        "b": True,
        "list": [1.5, {"x": "Said"}],
    }


def test_no_input_is_null():
    (action,) = begin(a_flow(a_step("a")), an_event()).actions
    assert action.input == b"null"


def test_the_datastore_is_json_or_text_by_its_content_type():
    items = [
        DataItem("teams", "application/json; charset=utf-8", b'{"a": {"room": "7"}}'),
        DataItem("motto", "text/plain", "über allem".encode()),
    ]
    step = a_step("a", input="{{ datastore('teams').a.room }} {{ datastore('motto') }}")
    (action,) = begin(a_flow(step), an_event(), items).actions
    assert msgspec.json.decode(action.input) == "7 über allem"


@pytest.mark.parametrize("items", [(), [DataItem("teams", "application/json", b"{broken")]])
def test_a_missing_or_broken_datastore_item_is_an_error_of_the_step(items):
    (decision,) = begin(
        a_flow(a_step("a", input="{{ datastore('teams').a }}")), an_event(), items
    ).decisions
    assert decision.outcome == "failed"
    assert "teams" in decision.detail


# ------------------------------------------------------------------------------------ continuations

TWO_STEPS = (a_step("a"), a_step("b", event="Output", pack="Shell", dependsOn=["a"]))


def test_a_result_continues_its_execution_with_the_context_of_the_action_that_finished():
    flow = a_flow(TWO_STEPS[0], TWO_STEPS[1] | {"context": {"new": "{{ Context.old }}!"}})
    (action,) = resume(
        flow, an_event("Output", pack="Shell"), progress_of(last="a", context={"old": "kept"})
    ).actions
    assert action.correlation_id == "run"
    assert action.context == {"old": "kept", "new": "kept!"}


def test_a_result_is_also_an_event_that_begins_executions():
    flow = a_flow(a_step("again", event="Output", pack="Shell"), name="other")
    outcome = evaluate_result(
        an_event("Output", pack="Shell"),
        FlowIndex([flow]),
        a_flow(*TWO_STEPS),
        progress_of(last="a"),
        a_moment(),
    )
    assert [action.flow_name for action in outcome.actions] == ["other", "flow"]


def test_a_step_runs_once_in_an_execution():
    outcome = resume(
        a_flow(*TWO_STEPS), an_event("Output", pack="Shell"), progress_of("b", last="a")
    )
    assert outcome.actions == ()
    assert reasons(outcome) == {"b": "alreadyRan"}


def test_steps_without_id_count_as_one_in_a_continuation():
    flow = a_flow(a_step(""), a_step("", event="Output", pack="Shell"))
    assert resume(flow, an_event("Output", pack="Shell"), progress_of(last="")).actions == ()


def test_a_list_of_dependencies_means_any_of_them():
    flow = a_flow(
        a_step("a"), a_step("b"), a_step("c", event="Output", pack="Shell", dependsOn=["a", "b"])
    )
    assert len(resume(flow, an_event("Output", pack="Shell"), progress_of(last="b")).actions) == 1


def test_a_failed_step_counts_as_finished():
    flow = a_flow(a_step("a"), a_step("b", event="FATAL", pack="Shell", dependsOn=["a"]))
    assert len(resume(flow, an_event("FATAL", pack="Shell"), progress_of(last="a")).actions) == 1


def test_all_waits_for_every_dependency():
    step = a_step("c", event="Output", pack="Shell", dependsOn={"all": ["a", "b"]})
    flow = a_flow(a_step("a"), a_step("b"), step)
    early = resume(flow, an_event("Output", pack="Shell"), progress_of(last="a", pending=["b"]))
    assert reasons(early) == {"c": "dependsOn"}
    assert "not finished: b" in early.decisions[0].detail
    assert (
        len(resume(flow, an_event("Output", pack="Shell"), progress_of("a", last="b")).actions) == 1
    )


JOIN_STEPS = (
    a_step("a"),
    a_step("b"),
    a_step("c", event="Output", pack="Shell", dependsOn={"all": ["a", "b"]}),
)
JOIN = a_flow(*JOIN_STEPS)
OVER = "it can no longer run in this execution, which has no open actions"


def test_a_join_whose_last_step_failed_says_that_it_cannot_run_any_more():
    (decision,) = resume(
        JOIN, an_event("FATAL", pack="Shell"), progress_of("a", last="b")
    ).decisions
    assert (decision.step_id, decision.outcome, decision.reason) == ("c", "skipped", "dependsOn")
    assert decision.detail == (
        "all of a, b have finished, but step 'b', the last, with event FATAL of pack Shell; "
        f"the step waits for event Output of pack Shell; {OVER}"
    )
    assert decision.correlation_id == "run"


def test_a_join_whose_first_step_failed_runs_with_the_result_of_the_last():
    assert (
        resume(
            JOIN, an_event("FATAL", pack="Shell"), progress_of(last="a", pending=["b"])
        ).decisions
        == ()
    )
    assert (
        len(resume(JOIN, an_event("Output", pack="Shell"), progress_of("a", last="b")).actions) == 1
    )


def test_a_join_may_still_run_while_another_action_is_open():
    (decision,) = resume(
        JOIN, an_event("FATAL", pack="Shell"), progress_of("a", last="b", pending=["x"])
    ).decisions
    assert decision.detail.endswith("the step waits for event Output of pack Shell")


@pytest.mark.parametrize("pending", [[], ["b"]])
def test_a_step_that_waits_for_one_that_can_no_longer_run_says_so(pending):
    (decision,) = resume(
        JOIN, an_event("Output", pack="Shell"), progress_of(last="a", pending=pending)
    ).decisions
    assert decision.detail.startswith("it waits for all of a, b; not finished: b")
    assert decision.detail.endswith(OVER) == (not pending)


def test_a_join_may_still_run_when_the_same_result_runs_another_step():
    flow = a_flow(*JOIN_STEPS, a_step("d", event="FATAL", pack="Shell", dependsOn=["b"]))
    outcome = resume(flow, an_event("FATAL", pack="Shell"), progress_of("a", last="b"))
    assert [action.step_id for action in outcome.actions] == ["d"]
    assert not outcome.decisions[-1].detail.endswith(OVER)


def test_a_join_that_waits_for_a_step_that_never_ran_says_so_when_the_last_action_fails():
    (decision,) = resume(JOIN, an_event("FATAL", pack="Shell"), progress_of(last="a")).decisions
    waits = "the step waits for event Output of pack Shell"
    assert decision.detail == f"it waits for all of a, b; not finished: b; {waits}; {OVER}"


def test_a_join_that_was_missed_while_others_were_open_says_so_again_at_the_end():
    outcome = resume(JOIN, an_event("FATAL", pack="Shell"), progress_of("a", "b", last="x"))
    assert [each.detail for each in outcome.decisions] == [
        "all of a, b have finished, and none of the last results ran the step; "
        f"the step waits for event Output of pack Shell; {OVER}"
    ]


def test_a_join_of_a_branch_that_was_not_taken_is_not_mentioned():
    assert resume(JOIN, an_event("FATAL", pack="Shell"), progress_of("x", last="y")).decisions == ()


THREE = a_flow(
    *[a_step(step_id) for step_id in "abc"],
    a_step("d", event="Output", pack="Shell", dependsOn={"all": ["a", "b", "c"]}),
)


@pytest.mark.parametrize("order", list(permutations("abc")))
@pytest.mark.parametrize("failures", [set(), {0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
@pytest.mark.parametrize("failure", [{"name": "FATAL"}, {"name": "Failed"}, {"pack": "Other"}])
def test_a_join_of_three_runs_or_says_why_not_whatever_fails_in_whatever_order(
    order, failures, failure
):
    outcomes = []
    for place, step_id in enumerate(order):
        event = an_event(
            **({"name": "Output", "pack": "Shell"} | (failure if place in failures else {}))
        )
        outcomes.append(
            resume(
                THREE, event, progress_of(*order[:place], last=step_id, pending=order[place + 1 :])
            )
        )
    assert not any(outcome.actions for outcome in outcomes[:2])
    if 2 in failures:
        (decision,) = outcomes[2].decisions
        assert (decision.step_id, outcomes[2].actions) == ("d", ())
        assert f"but step {order[2]!r}, the last, with event " in decision.detail
        assert decision.detail.endswith(f"the step waits for event Output of pack Shell; {OVER}")
    else:
        assert [action.step_id for action in outcomes[2].actions] == ["d"]


def test_a_join_that_has_run_says_nothing_about_later_results():
    assert (
        resume(JOIN, an_event("FATAL", pack="Shell"), progress_of("a", "c", last="b")).decisions
        == ()
    )


def test_a_dependency_that_has_not_finished_holds_a_step_back():
    flow = a_flow(
        a_step("a"), a_step("b"), a_step("c", event="Output", pack="Shell", dependsOn=["b"])
    )
    outcome = resume(flow, an_event("Output", pack="Shell"), progress_of(last="a", pending=["b"]))
    assert reasons(outcome) == {"c": "dependsOn"}


def test_a_trigger_step_fires_in_a_continuation_if_it_has_not_run_there():
    flow = a_flow(a_step("a"), a_step("late", event="Output", pack="Shell"))
    outcome = resume(flow, an_event("Output", pack="Shell"), progress_of(last="a"))
    assert [action.step_id for action in outcome.actions] == ["late"]


# -------------------------------------------------------------------------------------- determinism


def test_the_same_moment_gives_the_same_outcome_ids_and_random_values_included():
    flow = a_flow(a_step("a", input="{{ randomAlpha(20) }} {{ randomInt(1000000) }}"))
    assert begin(flow, an_event()) == begin(flow, an_event())


def test_ids_are_24_hex_digits_that_begin_with_the_time():
    (action,) = begin(a_flow(a_step("a")), an_event()).actions
    assert int(action.action_id[:11], 16) == int(NOW.timestamp() * 1000)
    assert len(bytes.fromhex(action.action_id)) == 12
    assert action.action_id != action.correlation_id


# -------------------------------------------------------------------------------------------- index


def test_a_flow_that_is_put_again_takes_the_place_of_the_earlier_one():
    index = FlowIndex([a_flow(a_step("old")), a_flow(a_step("x"), name="other")])
    index.put(a_flow(a_step("new")))
    assert [action.step_id for action in evaluate(an_event(), index, a_moment()).actions] == [
        "new",
        "x",
    ]


def test_a_discarded_flow_does_not_listen_any_more():
    index = FlowIndex([a_flow(a_step("a"))])
    index.discard("flow")
    index.discard("never was there")
    assert evaluate(an_event(), index, a_moment()).decisions == ()


# ------------------------------------------------------------------------------------------- bounds


def failures(outcome):
    return {
        decision.step_id: decision.detail
        for decision in outcome.decisions
        if decision.outcome == "failed"
    }


def test_an_action_has_a_largest_size_whatever_it_is_made_of():
    wide = "{{ ''|ljust:1000000 }}"
    flow = a_flow(
        a_step("input", input=[wide] * 5),
        a_step("context", context=dict.fromkeys("abcde", wide)),
        a_step("both", context=dict.fromkeys("abc", wide), input=[wide] * 2),
        a_step("fits", context=dict.fromkeys("ab", wide), input=[wide] * 2),
    )
    outcome = begin(flow, an_event())
    assert set(failures(outcome)) == {"input", "context", "both"}
    assert all("4194304 characters together" in detail for detail in failures(outcome).values())


def test_context_that_is_carried_on_counts():
    flow = a_flow(
        a_step("next", context={"more": "{{ ''|ljust:1000000 }}"}) | {"dependsOn": ["first"]}
    )
    carried = {"a": "x" * 4_000_000}
    assert "next" in failures(resume(flow, an_event(), progress_of(last="first", context=carried)))


def test_the_actions_of_one_event_have_a_largest_size_together_and_small_ones_still_pass():
    wide = "{{ ''|ljust:1000000 }}"
    steps = [a_step(f"wide{number:02}", input=[wide] * 4) for number in range(40)]
    outcome = begin(a_flow(*steps, a_step("small", input="{{ Event.Name }}")), an_event())
    assert sum(len(action.input) for action in outcome.actions) < 40_000_000
    assert outcome.actions[-1].step_id == "small"


def test_templates_of_one_event_have_a_longest_time_together_and_cheap_ones_still_pass():
    reading = iter(range(1_000_000))
    heavy = "{% for x in l %}{% endfor %}".replace("l", "Event.Payload")
    steps = [a_step(f"heavy{number}", criteria=heavy + "true") for number in range(9)]
    moment = EvaluationContext(
        now=NOW, seed=b"seed", datastore=DatastoreSnapshot({}), monotonic=lambda: next(reading) / 8
    )
    event = an_event(payload=list(range(3_000)))
    outcome = evaluate(event, FlowIndex([a_flow(*steps, a_step("cheap", criteria="true"))]), moment)
    assert "too long together" in failures(outcome)["heavy8"]
    assert outcome.actions[-1].step_id == "cheap"


def test_an_evaluation_that_is_repeated_has_the_whole_time_and_length_again():
    """A store repeats one when it needs something that is not in memory, or after a conflict."""
    seconds = [0.0]
    moment = EvaluationContext(
        now=NOW, seed=b"seed", datastore=lambda _key: "x", monotonic=lambda: seconds[0]
    )
    loop = "{% for x in Event.Payload %}" + "y" * 300 + "{% endfor %}"
    step = a_step("s", criteria="{{ datastore('k') == 'x' }}", context={"text": loop})
    index, event = FlowIndex([a_flow(step)]), an_event(payload=list(range(3_000)))
    for _ in range(4):
        (decision,) = evaluate(event, index, moment).decisions
        assert (decision.outcome, decision.detail) == ("ran", "the criteria are true")
        seconds[0] += 5


@pytest.mark.slow
def test_a_continuation_with_thousands_of_steps_takes_linear_time():
    count = 4_000
    flow = a_flow(
        *(
            a_step(f"s{number}", event="Done", pack="Shell") | {"dependsOn": ["s0"]}
            for number in range(count)
        )
    )
    ran = [f"s{number}" for number in range(1, count)]
    outcome = resume(flow, an_event("Done", pack="Shell"), progress_of(*ran, last="s0"))
    assert {decision.reason for decision in outcome.decisions} == {"alreadyRan"}
