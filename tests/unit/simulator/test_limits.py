"""How often executions start: the limits, in their order."""

import pytest

from tests.support.model import Play, read

DO = "[{id: a, event: {packName: Chat, name: Said}, command: {packName: Worker, name: Do}}]"
KEY = 'key: "{{ Event.Payload.k }}"'


def limited(limits: str, **more) -> Play:
    return Play(f"{{{limits}, steps: {DO}}}", **more)


def say(play: Play, *payloads, k="k") -> None:
    for payload in payloads:
        play.say({"k": k, "n": payload})


def started(play: Play) -> list:
    """The numbers of the events that began executions; lists for batches."""
    return [
        [each["payload"]["n"] for each in e.trigger.payload["events"]]
        if e.trigger.name == "Batch"
        else e.trigger.payload["n"]
        for e in play.executions
        if e.started_at is not None
    ]


# --------------------------------------------------------------------------------- dedupe


def test_dedupe_drops_an_event_whose_key_has_passed():
    play = limited(f"dedupe: {{{KEY}, within: 1h}}")
    say(play, 1, 2)
    say(play, 3, k="other")
    play.wait("59m59s")
    say(play, 4)
    play.wait("1s")
    say(play, 5)
    assert started(play) == [1, 3, 5]
    assert play.why("a").count(("skipped", "dedupe")) == 2


def test_a_null_key_is_not_limited():
    play = limited(
        f"dedupe: {{{KEY}, within: 1h}}, rateLimit: {{{KEY}, max: 1, per: 1h}}, concurrency: {{{KEY}}}"
    )
    say(play, 1, 2, 3, k=None)
    assert started(play) == [1, 2, 3]


def test_keys_of_limits_have_types():
    play = limited(f"dedupe: {{{KEY}, within: 1h}}")
    for k in (1, "1", True, 1.0):
        say(play, k, k=k)
    assert started(play) == [1, "1", True]


def test_a_failing_key_begins_an_execution_that_has_failed():
    play = limited('dedupe: {key: "{{ Event.Payload + 1 }}", within: 1h}')
    play.say("x")
    play.say("x")
    assert [e.state for e in play.executions] == ["FAILED", "FAILED"]
    assert play.last("StepFailed")["reason"] == "error"


def test_events_whose_criteria_are_false_do_not_count():
    play = Play(
        f"{{dedupe: {{{KEY}, within: 1h}}, steps: [{{id: a, event: {{packName: Chat}}, criteria: '{{{{ Event.Payload.n > 1 }}}}'}}]}}"
    )
    say(play, 1, 2)
    assert started(play) == [2]


# ------------------------------------------------------------------------------- debounce


def test_debounce_acts_on_the_last_event_when_none_has_come_for_a_while():
    play = limited(f"debounce: {{{KEY}, for: 10s}}")
    say(play, 1)
    play.wait("9s")
    say(play, 2)
    say(play, 3, k="other")
    play.wait("9s")
    assert started(play) == []
    play.wait("1s")
    assert sorted(started(play)) == [2, 3]
    say(play, 4)
    play.wait("10s")
    assert started(play)[2:] == [4]


def test_debounce_waits_no_longer_than_the_maximum():
    play = limited("debounce: {for: 10s, maxWait: 25s}")
    for n in range(1, 5):
        say(play, n)
        play.wait("9s")
    assert started(play) == [3]
    play.wait("10s")
    assert started(play) == [3, 4]


def test_held_events_keep_the_version_that_admitted_them():
    play = limited("debounce: {for: 10s}")
    say(play, 1)
    play.save(read("{steps: [{id: b, event: {packName: Chat}}]}")[0])
    play.wait("10s")
    assert play.open == ["a"]


def test_deleting_a_flow_drops_what_is_held_and_queued():
    for limit in ("debounce: {for: 10s}", "batch: {within: 10s}"):
        play = limited(limit)
        say(play, 1)
        play.delete("flow")
        play.wait("1m")
        assert play.executions == ()
    play = limited("concurrency: {max: 1}")
    say(play, 1, 2)
    play.delete("flow")
    play.do()
    assert [e.state for e in play.executions] == ["SUCCEEDED", "CANCELLED"]


def test_context_and_command_are_rendered_when_the_execution_starts():
    play = Play(
        "{debounce: {for: 10s}, steps: [{id: a, event: {packName: Chat}, context: {at: '{{ now() }}'}}]}"
    )
    play.say()
    play.wait("10s")
    assert "12:00:10" in play.execution.context["at"]


# ------------------------------------------------------------------------- batch, threshold


def test_batch_acts_once_on_all_events_after_the_first():
    play = limited(f"batch: {{{KEY}, within: 30s}}")
    say(play, 1)
    play.wait("20s")
    say(play, 2)
    say(play, 9, k="other")
    play.wait("10s")
    assert started(play) == [[1, 2]]
    play.wait("20s")
    assert started(play) == [[1, 2], [9]]
    trigger = play.executions[0].trigger
    assert (trigger.pack, trigger.name) == ("Flyte", "Batch")
    assert (trigger.payload["key"], trigger.payload["count"]) == ("k", 2)
    assert trigger.payload["events"][0] == {
        "event": "Said",
        "pack": "Chat",
        "payload": {"k": "k", "n": 1},
        "receivedAt": "2026-12-01T12:00:00Z",
    }


def test_batch_acts_when_there_are_enough():
    play = limited("batch: {within: 30s, max: 2}")
    say(play, 1, 2, 3)
    assert started(play) == [[1, 2]]
    play.wait("30s")
    assert started(play) == [[1, 2], [3]]
    assert play.execution.trigger.payload["key"] is None


def test_threshold_acts_once_when_there_are_so_many_and_then_counts_anew():
    play = limited(f"threshold: {{{KEY}, count: 3, within: 1m}}")
    say(play, 1, 2)
    play.wait("59s")
    say(play, 3, 4)
    assert started(play) == [[1, 2, 3]]
    say(play, 5, 6)
    assert started(play) == [[1, 2, 3], [4, 5, 6]]


def test_threshold_counts_no_events_from_before_its_period():
    play = limited("threshold: {count: 2, within: 1m}")
    say(play, 1)
    play.wait("1m")
    say(play, 2)
    assert started(play) == []
    play.wait("59s")
    say(play, 3)
    assert started(play) == [[2, 3]]
    assert play.why("a").count(("skipped", "threshold")) == 2


# ------------------------------------------------------------------------------ rateLimit


def test_rate_limit_drops_what_would_be_too_much_in_any_period():
    play = limited(f"rateLimit: {{{KEY}, max: 2, per: 1m}}")
    say(play, 1)
    play.wait("30s")
    say(play, 2, 3)
    say(play, 9, k="other")
    play.wait("30s")
    say(play, 4, 5)
    assert started(play) == [1, 2, 9, 4]


def test_what_a_limit_drops_earlier_ones_do_not_count():
    play = limited(
        'dedupe: {key: "{{ Event.Payload.n }}", within: 1h}, rateLimit: {max: 1, per: 1m}'
    )
    say(play, 1, 2)
    play.wait("1m")
    say(play, 2, 1)
    assert started(play) == [1, 2]


def test_what_debounce_replaces_dedupe_does_not_count():
    play = limited('dedupe: {key: "{{ Event.Payload.n }}", within: 1h}, debounce: {for: 10s}')
    say(play, 1, 1, 2, 1)
    play.wait("10s")
    assert started(play) == [1]


# ---------------------------------------------------------------------------- concurrency


def test_concurrency_queues_in_order():
    play = limited(f"concurrency: {{{KEY}}}")
    say(play, 1, 2, 3)
    say(play, 9, k="other")
    assert [e.state for e in play.executions] == ["RUNNING", "QUEUED", "QUEUED", "RUNNING"]
    assert started(play) == [1, 9]
    play.do()
    assert [e.state for e in play.executions] == ["SUCCEEDED", "RUNNING", "QUEUED", "RUNNING"]
    assert [s.event.payload["n"] for s in play.queued] == [3]


def test_a_slot_is_freed_when_an_execution_ends_in_any_way():
    play = limited("concurrency: {max: 2}")
    say(play, 1, 2, 3, 4)
    play.cancel(play.executions[0].execution_id)
    assert started(play) == [1, 2, 3]
    play.fail()
    assert started(play) == [1, 2, 3, 4]


def test_cancelling_a_queued_execution_takes_it_out_of_the_queue():
    play = limited("concurrency: {max: 1}")
    say(play, 1, 2, 3)
    play.cancel(play.executions[1].execution_id)
    play.do()
    assert started(play) == [1, 3]
    assert play.executions[1].state == "CANCELLED"


def test_when_full_others_are_dropped():
    play = limited("concurrency: {max: 1, whenFull: drop}")
    say(play, 1, 2)
    assert started(play) == [1]
    assert play.why("a")[-1] == ("skipped", "concurrency")
    play.do()
    say(play, 3)
    assert started(play) == [1, 3]


def test_when_full_the_oldest_is_cancelled():
    play = limited("concurrency: {max: 2, whenFull: cancelOldest}")
    say(play, 1, 2, 3)
    assert [e.state for e in play.executions] == ["CANCELLED", "RUNNING", "RUNNING"]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_with_tasks_in_any_order_no_more_run_than_may(chosen):
    play = limited("concurrency: {max: 1}", hold_tasks=True)
    say(play, 1, 2, 3)
    for _ in range(3):
        play.run_tasks(lambda tasks: min(chosen, len(tasks) - 1))
        assert [e.state for e in play.executions].count("RUNNING") == 1
        play.do()
    play.run_tasks()
    assert sorted(started(play)) == [1, 2, 3]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_debounce_acts_on_the_last_event_whatever_the_order_of_tasks(chosen):
    play = limited("debounce: {for: 10s}", hold_tasks=True)
    say(play, 1, 2, 3)
    play.run_tasks(lambda tasks: min(chosen, len(tasks) - 1))
    play.wait("10s")
    play.run_tasks()
    assert started(play) == [3]


# ---------------------------------------------------------------------------------- order


def test_limits_apply_in_their_order():
    play = limited(
        'dedupe: {key: "{{ Event.Payload.n }}", within: 1h}, batch: {within: 10s, max: 3}, rateLimit: {max: 1, per: 1m}, concurrency: {max: 1}'
    )
    say(play, 1, 1, 2, 3)
    assert started(play) == [[1, 2, 3]]
    say(play, 4, 5, 6)
    assert play.why("a")[-3:] == [("skipped", "rateLimit")] * 3
    play.wait("1m")
    say(play, 4, 5, 6)
    assert [e.state for e in play.executions] == ["RUNNING", "QUEUED"]


def test_the_start_of_a_limited_flow_is_a_task():
    play = limited("rateLimit: {max: 5, per: 1m}", hold_tasks=True)
    say(play, 1)
    assert play.executions == ()
    play.run_tasks()
    assert started(play) == [1]
