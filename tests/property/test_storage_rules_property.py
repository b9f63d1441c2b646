"""The rules of the stores keep their promises for all values."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.storage import rules
from flyteops.storage.base import TimerKey
from flyteops.storage.query import VersionBound
from flyteops.storage.row import DELAYED, MICROSECOND, STATES, to_instant, to_microseconds
from flyteops.testing.sample import NOON
from flyteops.transition import NeedsOperator, RetryAction
from tests.examples import examples

pytestmark = pytest.mark.property

TIMES = st.integers(-(2**48), 2**48)
UNUSED = st.lists(st.tuples(st.integers(), st.integers(0, 50), st.integers(-5, 5)), max_size=20)
KEYS = st.sampled_from([TimerKey(name) for name in "abcdefgh"])


@settings(max_examples=examples(300), deadline=None)
@given(at=TIMES, now=TIMES)
def test_a_delay_and_its_end_agree(at: int, now: int) -> None:
    change = rules.after_loss(RetryAction(to_instant(at)), now)
    assert (change.state, change.due_at) == (DELAYED, at)
    assert change.wait is not None
    assert change.wait >= 0
    assert max(now + change.wait, at) == max(now, at)


@settings(max_examples=examples(100), deadline=None)
@given(
    decision=st.one_of(st.builds(NeedsOperator), TIMES.map(to_instant).map(RetryAction)), now=TIMES
)
def test_the_history_shows_the_public_state(
    decision: NeedsOperator | RetryAction, now: int
) -> None:
    change = rules.after_loss(decision, now)
    assert change.entry == f"{STATES[change.state].value} {now}"


@settings(max_examples=examples(300), deadline=None)
@given(unused=UNUSED, max_bytes=st.integers(0, 300), limit=st.integers(1, 10))
def test_no_version_is_removed_without_need(
    unused: list[tuple[int, int, int]], max_bytes: int, limit: int
) -> None:
    rows = [
        (number, length, to_microseconds(NOON) + since)
        for number, (_, length, since) in enumerate(unused)
    ]
    chosen, left = rules.surplus(
        rows, VersionBound(at=NOON, unused_before=NOON, max_bytes=max_bytes), limit
    )
    lengths = {number: length for number, length, _ in rows}
    assert len(chosen) <= limit
    assert chosen == sorted(chosen)
    assert left == sum(lengths.values()) - sum(lengths[each] for each in chosen)
    assert all(since < 0 for number, (_, _, since) in enumerate(unused) if number in chosen)
    assert not chosen or left + lengths[chosen[-1]] > max_bytes
    removable = [number for number, (_, _, since) in enumerate(unused) if since < 0]
    assert left <= max_bytes or len(chosen) == limit or chosen == removable


@settings(max_examples=examples(200), deadline=None)
@given(rows=st.lists(KEYS, unique=True), leave_out=st.sets(KEYS), limit=st.integers(1, 8))
def test_a_batch_is_full_as_long_as_there_are_timers(
    rows: list[TimerKey], leave_out: set[TimerKey], limit: int
) -> None:
    batch = rules.TimerBatch(None, limit, leave_out, lambda _: False)  # type: ignore[arg-type]
    read = rows[: batch.read_limit]
    left = [row for row in rows if row not in leave_out]
    assert batch.select(read, lambda row: row) == left[:limit]


@settings(max_examples=examples(200), deadline=None)
@given(known=TIMES.map(abs), now=TIMES.map(abs), longest=st.integers(0, 2**48))
def test_activity_counts_the_same_before_and_after_now(known: int, now: int, longest: int) -> None:
    away = rules.has_been_away(str(known).encode(), now, timedelta(microseconds=longest))
    assert away == (abs(now - known) > longest)
    assert rules.has_been_away(str(now).encode(), now, longest * MICROSECOND) is False
