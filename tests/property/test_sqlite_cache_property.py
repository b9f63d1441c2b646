"""SQLite's writer answers with its caches and its buffer what it answers without any."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flyteops.errors import FlyteError
from flyteops.model import ActionSnapshot, Evaluation, PackRef
from flyteops.storage.query import Retention
from flyteops.storage.rules import TimerBatch
from flyteops.storage.sqlite import retention, timer
from flyteops.storage.sqlite.action_row import SHORT, SMALL
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.sqlite.schema import MIGRATIONS
from flyteops.testing.sample import Sample, minutes
from flyteops.transition import (
    DueSchedule,
    FailAction,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
)
from tests.examples import examples

pytestmark = pytest.mark.property

PACKS = [
    PackRef("w1", "Worker", {"env": "a"}),
    PackRef("w2", "Worker", {"env": "a", "zone": "b"}),
    PackRef("t", "Tester", {}),
]

ACTION = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["Run", "Stop"]),
        "pack_name": st.sampled_from(["Worker", "Worker", "Tester"]),
        "pack_labels": st.sampled_from([{}, {"env": "a"}, {"zone": "b"}]),
        "input": st.sampled_from([b"{}", b"x" * (SMALL + 1)]),
        "context": st.sampled_from([{}, {"a": "b"}, {"a": "b" * SHORT}]),
        "timeout": st.sampled_from([None, None, timedelta(minutes=3)]),
        "delay": st.sampled_from([None, None, 4]),
        "run": st.integers(0, 3),  # 0: its own, else an earlier one
    }
)
NUMBERS = st.integers(0, 30)
VERBS = st.one_of(
    st.tuples(
        st.just("record"), st.lists(ACTION, max_size=3), st.sampled_from([None, None, "k1", "k2"])
    ),
    st.tuples(st.just("record"), st.lists(ACTION, min_size=1, max_size=2), st.none()),
    st.tuples(
        st.just("claim"), st.sampled_from(PACKS), st.sampled_from([None, "Run"]), st.integers(1, 5)
    ),
    st.tuples(st.just("claim"), st.sampled_from(PACKS), st.none(), st.just(2)),
    st.tuples(st.just("finish"), NUMBERS, st.lists(ACTION, max_size=2), st.booleans()),
    st.tuples(st.just("release"), NUMBERS, st.booleans()),
    st.tuples(st.just("extend"), NUMBERS),
    st.tuples(st.just("advance"), st.integers(0, 2)),
    st.tuples(st.just("purge"), st.integers(1, 3)),
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
)


class Lost:
    """Decides about lost actions by their ids."""

    def __init__(self, at: float, kind: int, sample: Sample) -> None:
        self._at = at
        self._kind = kind
        self._sample = sample

    def on_timeout(self, progress: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        if self._kind == 0:
            return RetryAction(minutes(self._at + 2))
        if self._kind == 1:
            return NeedsOperator()
        event = self._sample.event(
            "FATAL", minutes(self._at), event_id=f"lost-{progress.action_id}-{progress.attempt}"
        )
        return FailAction(event, Evaluation())

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        raise AssertionError("There are no schedules.")


class Subject:
    """A table on a database in memory; `is_cached` unless it drops what it knows after each
    verb.
    """

    def __init__(self, *, is_cached: bool) -> None:
        self.is_cached = is_cached
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for migration in MIGRATIONS:
            for statement in migration:
                self.connection.execute(statement)
        self.table = ActionTable(
            self.connection, prefetch=2 if is_cached else 1, max_extra=2 if is_cached else 0
        )
        self.connection.execute("BEGIN")

    def answer(self, verb: Callable[[ActionTable], object], *, may_exist: bool) -> object:
        table = self.table
        table.check_existing_executions = may_exist or not self.is_cached
        try:
            answer = verb(table)
        except FlyteError as error:
            answer = f"{type(error).__name__}: {error}"
        table.check_existing_executions = False
        if not self.is_cached:
            table.flush()
            table.reload()
        return answer

    def commit(self) -> None:
        self.table.flush()
        self.connection.execute("COMMIT")
        self.table.on_commit()
        self.connection.execute("BEGIN")

    def rollback(self) -> None:
        self.connection.execute("ROLLBACK")
        self.table.on_rollback()
        self.connection.execute("BEGIN")

    def content(self) -> dict[str, list[Any]]:
        self.table.flush()
        tables = [
            name
            for (name,) in self.connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table'"
            )
        ]
        return {
            name: self.connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in tables
        }


class Comparison:
    """Runs verbs on both tables and compares the answers."""

    def __init__(self) -> None:
        self.subjects = (Subject(is_cached=True), Subject(is_cached=False))
        self.now = 0.0
        self.actions: list[str] = []
        self.runs: list[str] = []
        self._count = 0

    def close(self) -> None:
        for subject in self.subjects:
            subject.connection.close()

    def run(self, name: str, *values: Any) -> None:
        self.now += 1
        getattr(self, name)(*values)

    def both(self, verb: Callable[[ActionTable], object], *, may_exist: bool = False) -> Any:
        cached, plain = (subject.answer(verb, may_exist=may_exist) for subject in self.subjects)
        assert cached == plain
        return cached

    def _actions(
        self, given: list[dict[str, Any]], own: str | None = None
    ) -> tuple[Evaluation, bool]:
        sample = Sample()
        made = []
        exists = False
        for each in given:
            self._count += 1
            fields = {key: value for key, value in each.items() if key not in {"delay", "run"}}
            run = f"run-{self._count}"
            if each["run"] and own is not None:
                run = own
            elif each["run"] and self.runs:
                run, exists = self.runs[-each["run"] % len(self.runs)], True
            else:
                self.runs.append(run)
            not_before = None if each["delay"] is None else minutes(self.now + each["delay"])
            fields |= {
                "action_id": f"action-{self._count}",
                "correlation_id": run,
                "step_index": self._count,
            }
            made.append(sample.action(**fields, not_before=not_before))
            self.actions.append(made[-1].action_id)
        return Evaluation(actions=tuple(made)), exists

    def record(self, given: list[dict[str, Any]], key: str | None) -> None:
        outcome, exists = self._actions(given)
        self._count += 1
        event = Sample().event("Said", minutes(self.now), event_id=f"event-{self._count}")
        self.both(lambda table: table.record(event, outcome, key), may_exist=exists)

    def claim(self, pack: PackRef, command: str | None, limit: int) -> None:
        at = minutes(self.now)
        may_have = self.subjects[0].table.queues.may_have_actions(pack, command)
        claimed = self.both(lambda table: table.claim(pack, at, command, limit, b"seed"))
        assert may_have or not claimed

    def finish(self, number: int, given: list[dict[str, Any]], is_late: bool) -> None:
        if not self.actions:
            return
        action_id = self.actions[number % len(self.actions)]
        runs = {
            name: run
            for subject in self.subjects[1:]
            for name, run in subject.connection.execute(
                "SELECT action_id, correlation_id FROM action JOIN execution e ON e.seq ="
                " execution_seq"
            )
        }
        outcome, exists = self._actions(given, runs.get(action_id))
        self._count += 1
        result = Sample().event("Done", minutes(self.now), event_id=f"event-{self._count}")
        seen: list[ActionSnapshot] = []

        def decide(progress: ActionSnapshot) -> Evaluation | LateResult | None:
            seen.append(progress)
            if is_late and progress.leases:
                return LateResult(progress.leases[0].number)
            return outcome

        self.both(lambda table: table.finish(action_id, result, decide), may_exist=exists)
        snapshots = [
            msgspec.structs.replace(each, siblings=tuple(sorted(each.siblings, key=repr)))
            for each in seen
        ]
        assert snapshots[: len(seen) // 2] == snapshots[len(seen) // 2 :]

    def release(self, number: int, counts: bool) -> None:
        self._on_action(
            number,
            lambda table, key: timer.release(table, key, minutes(self.now), _allow, counts=counts),
        )

    def extend(self, number: int) -> None:
        self._on_action(
            number, lambda table, key: timer.extend(table, key, minutes(self.now), _allow)
        )

    def _on_action(self, number: int, verb: Callable[[ActionTable, str], object]) -> None:
        if self.actions:
            action_id = self.actions[number % len(self.actions)]
            self.both(lambda table: verb(table, action_id))

    def advance(self, kind: int) -> None:
        def advance(table: ActionTable) -> object:
            batch = TimerBatch(Lost(self.now, kind, Sample()), 5, (), lambda _: True)
            return timer.process_due(table, minutes(self.now), batch, None)

        self.both(advance)

    def purge(self, limit: int) -> None:
        self.run(*one())  # so that the largest numbers stay, which are given again after a restart
        before = minutes(self.now - 6)
        what = Retention(before=minutes(-99), finished_before=before, keys_before=before)
        self.both(lambda table: retention.purge(table, what, limit))

    def commit(self) -> None:
        for subject in self.subjects:
            subject.commit()

    def rollback(self) -> None:
        for subject in self.subjects:
            subject.rollback()
        stored = self.subjects[0].connection
        self.actions = [
            row[0] for row in stored.execute("SELECT action_id FROM action ORDER BY seq")
        ]
        self.runs = [
            row[0] for row in stored.execute("SELECT correlation_id FROM execution ORDER BY seq")
        ]


def _allow(_: ActionSnapshot) -> None:
    """Allow everything."""


def one(**fields: Any) -> tuple[Any, ...]:
    """Return the verb that records an event with one action."""
    action = {
        "name": "Run",
        "pack_name": "Worker",
        "pack_labels": {},
        "input": b"{}",
        "context": {},
    }
    return "record", [{**action, "timeout": None, "delay": None, "run": 0, **fields}], None


CLAIM = ("claim", PACKS[0], None, 1)
LEASED = one(timeout=timedelta(minutes=3), input=b"x" * (SMALL + 1))


@example(verbs=[LEASED, ("commit",), CLAIM, ("commit",), ("finish", 0, [], False)])
@example(verbs=[LEASED, CLAIM, ("finish", 0, [], False)])
@example(verbs=[one(), CLAIM, one(run=1), ("finish", 0, [], False)])
@example(verbs=[one(), CLAIM, ("release", 0, True), ("finish", 0, [], False)])
@settings(max_examples=examples(400), deadline=None)
@given(verbs=st.lists(VERBS, min_size=5, max_size=40))
def test_the_caches_change_no_answer_and_no_row(verbs: list[tuple[Any, ...]]) -> None:
    comparison = Comparison()
    try:
        for verb in verbs:
            comparison.run(*verb)
        cached, plain = comparison.subjects
        assert cached.content() == plain.content()
    finally:
        comparison.close()
