"""The state of the model, in plain lists that are scanned from end to end."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from random import Random

from flyteops.definition import FlowDefinition
from flyteops.errors import NotFoundError
from flyteops.model import JsonValue, PackDeclaration
from flyteops.simulator.record import (
    Action,
    Decision,
    Event,
    Execution,
    Item,
    Question,
    Start,
    Task,
    Timer,
    Verdict,
)

Validate = Callable[[JsonValue, JsonValue], str | None]
"""Return the fault of a value by a JSON Schema, None if there is none."""

MAX_CHAIN = 100
BODY_LENGTH = 10 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """The circumstances of a simulation, which do not change.

    `failure_names` are names of results that mean failure, beside those that `packs` declare.
    `protected` are the items that flows may not change; `validate` checks by a JSON Schema.
    """

    now: datetime
    seed: bytes = b""
    datastore: Mapping[str, JsonValue] = field(default_factory=dict)
    packs: Collection[PackDeclaration] = ()
    failure_names: Collection[str] = ()
    protected: Collection[str] = ()
    max_chain: int = MAX_CHAIN
    body_length: int = BODY_LENGTH
    validate: Validate | None = None


class World:
    """All that the model knows.

    `failures` are the packs with the names of their results that mean failure, and `failure_names`
    those of any pack; `fresh` are the events of the commit that were not yet offered to waits. A
    flow that is saved again replaces its version; executions and held starts keep the one that they
    began with.
    """

    def __init__(self, setting: Circumstances) -> None:
        self.now = setting.now
        self.setting = setting
        self.protected = frozenset(setting.protected) | {"chatops"}
        self.failures = {
            (pack.name, event.name)
            for pack in setting.packs
            for event in pack.events
            if event.failure
        }
        self.items = {key: Item(value=value) for key, value in setting.datastore.items()}
        self.flows: dict[str, FlowDefinition] = {}
        self.versions: dict[str, int] = {}
        self.paused: set[str] = set()
        self.events: list[Event] = []
        self.fresh: list[Event] = []
        self.executions: list[Execution] = []
        self.actions: list[Action] = []
        self.questions: list[Question] = []
        self.decisions: list[Decision] = []
        self.tasks: list[Task] = []
        self.timers: list[Timer] = []
        self.parked: list[Start] = []
        self.held: dict[str, list[Start]] = {"debounce": [], "batch": [], "threshold": []}
        self.passed: dict[str, list[Start]] = {"dedupe": [], "rateLimit": []}
        self.queue: list[Start] = []
        self._made = 0

    # ------------------------------------------------------------------------------- new records

    def number(self) -> int:
        """Return the next number; numbers give the order of everything that is made."""
        self._made += 1
        return self._made

    def new_id(self, noun: str) -> str:
        return f"{noun}-{self.number()}"

    def record(
        self, event: Event, *, execution: Execution | None = None, step_id: str | None = None
    ) -> Event:
        """Store an event; with an `execution` it is as deep as that, with a step its result.

        It is offered to waits at the end of the commit, unless it is `hidden`.
        """
        event.number = self.number()
        event.event_id = f"event-{event.number}"
        event.received_at = self.now
        if execution is not None:
            event.depth = execution.depth
            event.after_failure = execution.trigger.after_failure
            event.result_of = None if step_id is None else (execution.execution_id, step_id)
        self.events.append(event)
        if not event.hidden:
            self.fresh.append(event)
        return event

    def decide(
        self,
        event: Event,
        flow: FlowDefinition,
        step_id: str,
        verdict: Verdict,
        execution: Execution | None = None,
    ) -> None:
        """Store the decision on a step for an event."""
        outcome, reason, detail = verdict
        self.decisions.append(
            Decision(
                event_id=event.event_id,
                flow=flow.name,
                step=step_id,
                outcome=outcome,
                reason=reason,
                detail=detail,
                execution_id=None if execution is None else execution.execution_id,
            )
        )

    def add_task(self, task: Task) -> None:
        task.number = self.number()
        self.tasks.append(task)

    def add_timer(self, timer: Timer) -> None:
        timer.number = self.number()
        self.timers.append(timer)

    # -------------------------------------------------------------------------------- what is read

    def execution(self, execution_id: str) -> Execution:
        for each in self.executions:
            if each.execution_id == execution_id:
                return each
        raise NotFoundError(f"There is no execution {execution_id!r}.")

    def action(self, action_id: str) -> Action:
        for each in self.actions:
            if each.action_id == action_id:
                return each
        raise NotFoundError(f"There is no action {action_id!r}.")

    def question(self, question_id: str) -> Question:
        for each in self.questions:
            if each.question_id == question_id:
                return each
        raise NotFoundError(f"There is no question {question_id!r}.")

    def flow(self, name: str) -> FlowDefinition:
        if name not in self.flows:
            raise NotFoundError(f"There is no flow {name!r}.")
        return self.flows[name]

    def item(self, key: str) -> Item | None:
        """Return an item of the datastore; an expired one is gone."""
        item = self.items.get(key)
        if item is None or (item.expires_at is not None and item.expires_at <= self.now):
            return None
        return item

    def read_item(self, key: str) -> JsonValue:
        """Return the value of an item; raise `KeyError`."""
        item = self.item(key)
        if item is None:
            raise KeyError(key)
        return item.value

    def random(self, *parts: str) -> Random:
        """Return the random numbers of a step: no other step changes them."""
        text = "\0".join(parts).encode()
        digest = blake2b(text, key=self.setting.seed[:64], digest_size=16).digest()
        return Random(digest)  # noqa: S311 - templates use it, nothing else
