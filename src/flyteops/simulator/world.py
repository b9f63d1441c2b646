"""The state of the model, in plain lists that are scanned from end to end."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from random import Random

from flyteops.definition import FlowDefinition, StepState
from flyteops.errors import NotFoundError
from flyteops.model import JsonValue, PackDeclaration
from flyteops.simulator.record import (
    Action,
    Decision,
    Event,
    Execution,
    Item,
    Outcome,
    Question,
    Start,
    Task,
    Timer,
)

Validate = Callable[[JsonValue, JsonValue], str | None]
"""Return the fault of a value by a JSON Schema, None if there is none."""

MAX_CHAIN = 100
BODY_LENGTH = 10 * 1024 * 1024


class World:
    """All that the model knows.

    `failures` are the packs with the names of their results that mean failure, and `failure_names`
    those of any pack; `fresh` are the events of the commit that were not yet offered to waits. A flow that is saved again
    replaces its version; executions and held starts keep the one that they began with.
    """

    def __init__(
        self,
        *,
        now: datetime,
        seed: bytes,
        datastore: Mapping[str, JsonValue],
        packs: Iterable[PackDeclaration],
        protected: Collection[str],
        max_chain: int,
        body_length: int,
        failure_names: Collection[str],
        validate: Validate | None,
    ) -> None:
        self.now = now
        self.seed = seed
        self.protected = frozenset(protected) | {"chatops"}
        self.max_chain = max_chain
        self.body_length = body_length
        self.validate = validate
        self.failure_names = frozenset(failure_names)
        self.failures = {
            (pack.name, event.name) for pack in packs for event in pack.events if event.failure
        }
        self.items = {key: Item(value=value) for key, value in datastore.items()}
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

    # ------------------------------------------------------------------------------- what is made

    def number(self) -> int:
        """Return the next number; numbers give the order of everything that is made."""
        self._made += 1
        return self._made

    def new_id(self, noun: str) -> str:
        return f"{noun}-{self.number()}"

    def record(
        self,
        pack: str,
        name: str,
        payload: JsonValue,
        *,
        labels: Mapping[str, str] | None = None,
        key: str | None = None,
        failure: bool = False,
        state: StepState | None = None,
        execution: Execution | None = None,
        step_id: str | None = None,
        depth: int = 0,
        after_failure: bool = False,
        for_flow: str | None = None,
        hidden: bool = False,
    ) -> Event:
        """Store an event; with an `execution` it is as deep as that, with a step its result.

        It is offered to waits at the end of the commit, unless it is `hidden`.
        """
        number = self.number()
        event = Event(
            number=number,
            event_id=f"event-{number}",
            pack=pack,
            name=name,
            payload=payload,
            received_at=self.now,
            labels=dict(labels or {}),
            key=key,
            depth=depth if execution is None else execution.depth,
            after_failure=after_failure
            or (execution is not None and execution.trigger.after_failure),
            result_of=None
            if execution is None or step_id is None
            else (execution.execution_id, step_id),
            failure=failure,
            state=state,
            for_flow=for_flow,
            hidden=hidden,
        )
        self.events.append(event)
        if not hidden:
            self.fresh.append(event)
        return event

    def decide(
        self,
        event: Event,
        flow: FlowDefinition,
        step: str,
        outcome: Outcome,
        reason: str,
        detail: str = "",
        *,
        execution: Execution | None = None,
    ) -> None:
        self.decisions.append(
            Decision(
                event_id=event.event_id,
                flow=flow.name,
                step=step,
                outcome=outcome,
                reason=reason,
                detail=detail,
                execution_id=None if execution is None else execution.execution_id,
            )
        )

    def add_task(
        self,
        kind: str,
        execution_id: str | None,
        subject: str = "",
        *,
        start: Start | None = None,
        event: Event | None = None,
        arguments: dict[str, JsonValue] | None = None,
    ) -> None:
        self.tasks.append(
            Task(
                number=self.number(),
                kind=kind,
                execution_id=execution_id,
                subject=subject,
                start=start,
                event=event,
                arguments=arguments or {},
            )
        )

    def add_timer(
        self,
        kind: str,
        due_at: datetime,
        execution_id: str | None = None,
        subject: str = "",
        *,
        attempt: int = 0,
        length: timedelta | None = None,
    ) -> None:
        self.timers.append(
            Timer(
                number=self.number(),
                due_at=due_at,
                kind=kind,
                execution_id=execution_id,
                subject=subject,
                attempt=attempt,
                length=length,
            )
        )

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
        digest = blake2b(text, key=self.seed[:64], digest_size=16).digest()
        return Random(digest)  # noqa: S311 - templates use it, nothing else
