"""A store says what a few lines of plain Python say, whatever is asked of it in whatever order."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import ActionState, Evaluation, Event, NewAction, PackRef, has_labels
from flyteops.storage import open_store
from flyteops.storage.query import EventFilter, ExecutionFilter, Retention
from flyteops.testing.sample import Sample, always, creating, minutes
from tests import mongodb
from tests.examples import examples

pytestmark = pytest.mark.property

FLOWS = st.sampled_from(["Deploy", "Check"])
PACKS = st.sampled_from(["Worker", "Tester"])
COMMANDS = st.sampled_from(["Run", "Stop"])
LABELS = st.dictionaries(st.sampled_from(["env", "zone"]), st.sampled_from(["a", "b"]), max_size=2)
TIMES = st.integers(0, 20).map(minutes)
RUNS = st.sampled_from(["run-a", "run-b", "run-c", "run-d"])
FIELDS = st.fixed_dictionaries(
    {
        "name": COMMANDS,
        "pack_name": PACKS,
        "pack_labels": LABELS,
        "correlation_id": RUNS,
        "step_index": st.integers(0, 4),
    }
)


@dataclass
class Known:
    """An action as the model sees it."""

    new: NewAction
    trigger: Event
    states: list[tuple[str, datetime]]
    result: Event | None = None


@dataclass
class Model:
    """What a store must say, without any thought of speed."""

    events: list[tuple[Event, Evaluation]] = field(default_factory=list)
    actions: dict[str, Known] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    runs_begun: int = 0

    def of_run(self, correlation_id: str) -> list[Known]:
        return [
            known for known in self.actions.values() if known.new.correlation_id == correlation_id
        ]

    def refuses(self, actions: tuple[NewAction, ...]) -> bool:
        steps = [
            (known.new.correlation_id, known.new.step_index) for known in self.actions.values()
        ]
        steps += [(action.correlation_id, action.step_index) for action in actions]
        return len(steps) != len(set(steps))

    def record(self, event: Event, outcome: Evaluation) -> None:
        self.events.append((event, outcome))
        for action in outcome.actions:
            if action.correlation_id not in self.runs:
                self.runs_begun += 1
                self.runs[action.correlation_id] = self.runs_begun
            self.actions[action.action_id] = Known(action, event, [("NEW", event.received_at)])

    def claim(self, pack: PackRef, at: datetime, name: str | None) -> str | None:
        for action_id, known in self.actions.items():
            fits = known.new.pack_name == pack.name and has_labels(
                pack.labels, known.new.pack_labels
            )
            if len(known.states) == 1 and fits and name in (None, known.new.name):
                known.states.append(("PENDING", at))
                return action_id
        return None

    def activity(self, correlation_id: str) -> datetime:
        return max(at for known in self.of_run(correlation_id) for _, at in known.states)

    def listed(self, which: ExecutionFilter) -> list[str]:
        found = [
            run
            for run in self.runs
            if any(satisfies(known.new, which) for known in self.of_run(run))
        ]
        return sorted(found, key=lambda run: (self.activity(run), self.runs[run]), reverse=True)

    def purge(self, before: datetime) -> tuple[int, int]:
        old = [run for run in self.runs if self.activity(run) < before]
        for run in old:
            for known in self.of_run(run):
                del self.actions[known.new.action_id]
            del self.runs[run]
        referred = {
            id(event) for known in self.actions.values() for event in (known.trigger, known.result)
        }
        kept = [
            pair for pair in self.events if pair[0].received_at >= before or id(pair[0]) in referred
        ]
        count = len(self.events) - len(kept)
        self.events = kept
        return len(old), count


def satisfies(action: NewAction, which: ExecutionFilter) -> bool:
    return (
        which.flow_name in (None, action.flow_name)
        and which.step_id in (None, action.step_id)
        and which.action_name in (None, action.name)
        and which.action_pack_name in (None, action.pack_name)
        and has_labels(action.pack_labels, which.action_pack_labels or {})
    )


class Comparison(RuleBasedStateMachine):
    """Does the same to a store and to the model."""

    taken: Bundle[str] = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        self.sample = Sample()
        self.model = Model()
        self.url = self.run(self.stack.enter_async_context(self.place()))
        self.store = open_store(self.url)
        self.run(self.store.open())

    @staticmethod
    @contextlib.asynccontextmanager
    async def place() -> AsyncIterator[str]:
        """Give out the URL of a place for a store, for one run alone."""
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/flyte.db"

    def teardown(self) -> None:
        self.run(self.store.close())
        self.run(self.stack.aclose())
        self.runner.close()

    def run(self, verb: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(verb)

    def draw_actions(self, data: st.DataObject) -> tuple[NewAction, ...]:
        kind = st.builds(
            dict,
            name=COMMANDS,
            pack_name=PACKS,
            pack_labels=LABELS,
            correlation_id=RUNS,
            step_index=st.integers(0, 4),
        )
        fields = data.draw(st.lists(kind, max_size=3))
        flows = {"run-a": "Deploy", "run-b": "Check"}
        return tuple(
            self.sample.action(
                **{
                    **one,
                    "flow_name": flows.get(one["correlation_id"], "Other"),
                    "step_id": f"s{one['step_index']}",
                }
            )
            for one in fields
        )

    @rule(data=st.data(), at=TIMES, name=st.sampled_from(["Asked", "Ticked"]))
    def record(self, data: st.DataObject, at: datetime, name: str) -> None:
        actions = self.draw_actions(data)
        event, outcome = self.sample.event(name, at), creating(*actions)
        if self.model.refuses(actions):
            with pytest.raises(ConflictError):
                self.run(self.store.record(event, outcome))
        else:
            self.run(self.store.record(event, outcome))
            self.model.record(event, outcome)

    @rule(target=taken, pack_name=PACKS, labels=LABELS, name=st.none() | COMMANDS, at=TIMES)
    def claim(self, pack_name: str, labels: dict[str, str], name: str | None, at: datetime) -> str:
        pack = PackRef(pack_name, pack_name, labels)
        claimed = self.run(self.store.claim(pack, at, action_name=name))
        expected = self.model.claim(pack, at, name)
        assert (claimed[0].action_id if claimed else None) == expected
        return expected or "action-0"

    @rule(data=st.data(), action_id=taken, at=TIMES, name=st.sampled_from(["Done", "FATAL"]))
    def finish(self, data: st.DataObject, action_id: str, at: datetime, name: str) -> None:
        actions = self.draw_actions(data)
        result, outcome = self.sample.event(name, at), creating(*actions)
        known = self.model.actions.get(action_id)
        verb = self.store.finish(action_id, result, always(outcome))
        if known is None:
            with pytest.raises(NotFoundError):
                self.run(verb)
        elif known.result is not None or self.model.refuses(actions):
            with pytest.raises(ConflictError):
                self.run(verb)
        else:
            assert self.run(verb) == outcome
            self.model.record(result, outcome)
            known.states.append(("FATAL" if name == "FATAL" else "SUCCESS", at))
            known.result = result

    @rule(before=TIMES)
    def purge(self, before: datetime) -> None:
        purged = self.run(self.store.purge(Retention(before, before, before)))
        assert (purged.executions, purged.events) == self.model.purge(before)

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = open_store(self.url)
        self.run(self.store.open())

    @rule(
        which=st.builds(
            ExecutionFilter,
            flow_name=st.none() | FLOWS,
            step_id=st.none() | st.sampled_from(["s0", "s1"]),
            action_name=st.none() | COMMANDS,
            action_pack_name=st.none() | PACKS,
            action_pack_labels=st.none() | LABELS,
        ),
        start=st.integers(0, 3),
        limit=st.integers(0, 5),
    )
    def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> None:
        found = self.run(self.store.list_executions(which, start, limit))
        assert [run.correlation_id for run in found] == self.model.listed(which)[
            start : start + limit
        ]

    @rule(
        which=st.builds(
            EventFilter,
            flow_name=st.none() | FLOWS,
            event_name=st.none() | st.sampled_from(["Asked", "Done"]),
            pack_name=st.none() | st.just("Watcher") | st.just("Nobody"),
        ),
        start=st.integers(0, 3),
        limit=st.integers(0, 5),
    )
    def list_events(self, which: EventFilter, start: int, limit: int) -> None:
        found = self.run(self.store.list_events(which, start, limit))
        expected = [
            event.event_id
            for event, outcome in reversed(self.model.events)
            if which.event_name in (None, event.name)
            and which.pack_name in (None, event.pack.name)
            and (
                which.flow_name is None
                or any(one.flow_name == which.flow_name for one in outcome.decisions)
            )
        ]
        assert [record.event.event_id for record in found] == expected[start : start + limit]

    @invariant()
    def actions_are_as_expected(self) -> None:
        for action_id, known in list(self.model.actions.items())[-3:]:
            action = self.run(self.store.get_action(action_id))
            assert [(one.state, one.at) for one in action.states] == [
                (ActionState(state), at) for state, at in known.states
            ]
            assert (action.trigger, action.result) == (known.trigger, known.result)
            assert (action.input, action.pack_labels) == (known.new.input, known.new.pack_labels)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=examples(25), stateful_step_count=40, deadline=None)


class MongoComparison(Comparison):
    place = staticmethod(mongodb.place)


@pytest.mark.mongodb
class TestMongodb(MongoComparison.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=examples(10), stateful_step_count=40, deadline=None)
