"""The rules that all stores share: preconditions, messages, and the decisions about timers."""

from datetime import timedelta
from typing import Any

import pytest

from flyteops.errors import BusyError, ConflictError, NotFoundError, StoreError, UnavailableError
from flyteops.model import ActionSnapshot, ActionState, Evaluation
from flyteops.storage import rules
from flyteops.storage.base import Claimed, NotLoadedError, TimerKey
from flyteops.storage.query import Retention, VersionBound
from flyteops.storage.row import to_microseconds
from flyteops.testing.sample import NOON, Sample, creating, minutes
from flyteops.transition import (
    DueSchedule,
    FailAction,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
    ScheduleEntry,
)

NOW = to_microseconds(NOON)


def action_in(state: ActionState) -> ActionSnapshot:
    return ActionSnapshot(
        action_id="a",
        name="Run",
        pack_name="Worker",
        pack_labels={},
        correlation_id="run",
        flow_name="Deploy",
        flow_uuid="uuid",
        step_id="first",
        step_index=0,
        context={},
        state=state,
        siblings=(),
    )


ALLOWED = {
    rules.require_finishable: {ActionState.PENDING, ActionState.UNKNOWN},
    rules.require_releasable: {ActionState.PENDING, ActionState.UNKNOWN},
    rules.require_pending: {ActionState.PENDING},
}


@pytest.mark.parametrize("state", ActionState)
@pytest.mark.parametrize("require", ALLOWED)
def test_each_verb_accepts_an_action_in_its_own_states_only(
    require: Any, state: ActionState
) -> None:
    if state in ALLOWED[require]:
        require(action_in(state))
        return
    with pytest.raises(ConflictError, match=rf"^Action 'a' is {state}; only .*\.$"):
        require(action_in(state))


def test_a_missing_record_is_named_and_a_present_one_returned() -> None:
    assert rules.found(0, "action", "a") == 0
    with pytest.raises(NotFoundError, match=r"^There is no flow version 'x'\.$"):
        rules.found(None, "flow version", "x")


def test_a_name_that_is_in_use_is_reported_with_the_right_article() -> None:
    assert "There is an action 'a' already" in str(rules.taken("action", "a"))
    assert "There is a token 't' already" in str(rules.taken("token", "t"))


def test_a_closed_store_is_unavailable_and_a_full_one_busy() -> None:
    with pytest.raises(UnavailableError, match="closed"):
        rules.require_open(None)
    rules.require_capacity(1, 2)
    with pytest.raises(BusyError):
        rules.require_capacity(2, 2)


def test_records_can_be_loaded_only_after_a_load_has_begun() -> None:
    assert rules.require_loading("checkpoint") == "checkpoint"
    with pytest.raises(ConflictError, match="Nothing is being loaded"):
        rules.require_loading(None)


def test_a_retry_is_a_delay_that_the_history_shows_as_new() -> None:
    change = rules.after_loss(RetryAction(minutes(5)), NOW)
    assert change == ("LATER", f"NEW {NOW}", NOW + 300_000_000, 300_000_000)


def test_a_retry_at_a_time_that_has_passed_waits_for_nothing() -> None:
    change = rules.after_loss(RetryAction(minutes(-5)), NOW)
    assert (change.due_at, change.wait) == (NOW - 300_000_000, 0)


def test_an_operator_is_asked_without_a_timer() -> None:
    assert rules.after_loss(NeedsOperator(), NOW) == ("UNKNOWN", f"UNKNOWN {NOW}", None, None)


def test_a_released_action_can_be_claimed_at_once() -> None:
    assert rules.released(NOW) == ("NEW", f"NEW {NOW}", None, None)


def test_a_new_action_with_a_time_is_delayed() -> None:
    assert (rules.initial_state(None), rules.wait_until(None, NOW)) == ("NEW", None)
    assert (rules.initial_state(NOW + 3), rules.wait_until(NOW + 3, NOW)) == ("LATER", 3)


@pytest.mark.parametrize(
    ("name", "state"), [("FATAL", "FATAL"), ("Done", "SUCCESS"), ("fatal", "SUCCESS")]
)
def test_an_action_fails_only_with_the_event_that_says_so(name: str, state: str) -> None:
    assert rules.final_state(Sample().event(name)) == state


def test_only_actions_without_a_delay_are_available() -> None:
    sample = Sample()
    at_once, delayed = sample.action(name="Now"), sample.action(name="Then", not_before=minutes(1))
    assert [each.command for each in rules.available_actions(creating(at_once, delayed))] == ["Now"]


def test_a_claim_gets_a_lease_exactly_when_it_has_a_timeout() -> None:
    claimed = Claimed("a", "Run", b"{}", attempt=2)
    assert rules.with_lease(claimed, None, NOW, b"seed") is claimed
    leased = rules.with_lease(claimed, 60_000_000, NOW, b"seed")
    assert leased.lease is not None
    assert leased.lease.startswith("2-")
    assert (leased.timeout, leased.expires_at) == (timedelta(minutes=1), minutes(1))


def test_a_key_counts_for_a_day() -> None:
    day = 86_400_000_000
    assert rules.oldest_valid_key(NOW) == NOW - day


class Decisions:
    """Rules of a service that answer as they are told."""

    def __init__(self, firing: ScheduledRun | None = None) -> None:
        self.firing = firing

    def on_timeout(self, progress: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        return NeedsOperator()

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        assert self.firing is not None
        return self.firing


def batch(
    firing: ScheduledRun | None = None, *, leave_out: tuple[TimerKey, ...] = (), limit: int = 2
) -> rules.TimerBatch:
    return rules.TimerBatch(
        Decisions(firing), limit, leave_out, lambda error: isinstance(error, OSError)
    )


def test_timers_that_are_left_out_do_not_use_up_the_limit() -> None:
    keys = [TimerKey(name) for name in "abcd"]
    chosen = batch(leave_out=(keys[0], keys[1]))
    assert chosen.read_limit == 4
    assert chosen.select(keys, lambda key: key) == keys[2:]


def test_a_timer_that_fails_is_excluded_and_reported() -> None:
    timers = batch()
    timers.fail(TimerKey("a"), ValueError("x"))
    assert [each.key for each in timers.failed] == [TimerKey("a")]
    assert timers.excluded == {TimerKey("a")}


@pytest.mark.parametrize("error", [OSError("disk"), NotLoadedError("uuid")])
def test_an_error_about_more_than_one_timer_is_raised_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        batch().fail(TimerKey("a"), error)


@pytest.mark.parametrize("next_at", [minutes(0), minutes(-1)])
def test_a_schedule_cannot_repeat_a_time(next_at: Any) -> None:
    step = DueSchedule("Deploy", "uuid", 0, "rule", minutes(0))
    with pytest.raises(StoreError, match="must be later"):
        batch(ScheduledRun(None, Evaluation(), next_at)).on_due(step)
    assert batch(ScheduledRun(None, Evaluation(), minutes(1))).on_due(step).next_at == minutes(1)


def test_a_schedule_that_is_due_when_its_flow_is_saved_is_refused() -> None:
    version = Sample().flow()
    rules.check_timetables(
        version, [ScheduleEntry(0, "s", "r", minutes(1)), ScheduleEntry(1, "t", "r", None)]
    )
    with pytest.raises(StoreError, match="would be due"):
        rules.check_timetables(version, [ScheduleEntry(0, "s", "r", version.saved_at)])


def test_a_step_keeps_its_time_while_its_rule_is_the_same() -> None:
    entry = ScheduleEntry(0, "s", "daily", minutes(1))
    assert rules.next_time(entry, {("s", "daily"): 5}) == 5
    assert rules.next_time(entry, {("s", "hourly"): 5}) == to_microseconds(minutes(1))
    assert rules.next_time(entry, {("s", "daily"): None}) is None


@pytest.mark.parametrize(
    ("known", "is_away"),
    [
        (None, True),
        (b"soon", True),
        (b"100", False),
        (b"95", False),
        (b"89", True),
        (b"110", False),
        (b"111", True),
    ],
)
def test_servers_were_away_if_the_last_activity_is_too_far_from_now(
    known: bytes | None, is_away: bool
) -> None:
    assert rules.has_been_away(known, 100, timedelta(microseconds=10)) is is_away


def test_times_that_are_none_do_not_count_and_extreme_ones_are_clamped() -> None:
    assert rules.first_of([None, "x", NOW + 1, NOW]) == NOON
    assert rules.first_of([2**70]) == rules.LAST
    assert rules.first_of([-(2**70)]) == rules.FIRST
    assert rules.first_of([]) is None


@pytest.mark.parametrize(
    ("execution", "event", "first"),
    [(1, 2, True), (2, 1, False), (1, 1, True), (1, None, True), (None, 1, False)],
)
def test_the_older_of_two_is_removed_first(
    execution: int | None, event: int | None, first: bool
) -> None:
    assert rules.is_execution_older(execution, event) is first


def test_an_excess_is_reported_only_when_nothing_was_removed() -> None:
    assert rules.purged(0, 0, 3, limit=5, excess=7).over_bytes == 7
    assert rules.purged(1, 0, 0, limit=5, excess=7).over_bytes == 0
    assert rules.purged(0, 0, 5, limit=5, excess=0).more
    assert not rules.purged(4, 4, 4, limit=5, excess=0).more


def test_finished_data_is_never_kept_for_longer_than_unfinished() -> None:
    what = Retention(before=minutes(5), finished_before=minutes(1), keys_before=minutes(0))
    assert rules.finished_limit(what) == to_microseconds(minutes(5))


def test_the_oldest_unused_versions_are_removed_until_the_rest_fits() -> None:
    what = VersionBound(at=NOON, unused_before=minutes(0), max_bytes=10)
    unused = [
        ("recent", 5, NOW),
        ("old", 5, NOW - 1),
        ("older", 5, NOW - 2),
        ("oldest", 5, NOW - 3),
    ]
    assert rules.surplus(unused, what, 9) == (["old", "older"], 10)
    assert rules.surplus(unused, what, 1) == (["old"], 15)
