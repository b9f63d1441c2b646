"""The model of edition 2: the verbs of people, packs and time, and the state that they change."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from flyteops.definition import FlowDefinition
from flyteops.errors import ConflictError, InputError
from flyteops.model import SERVER, JsonValue, PackDeclaration, has_labels
from flyteops.simulator import control, result
from flyteops.simulator.dispatch import end_commit, fire, run_task
from flyteops.simulator.record import (
    Action,
    Decision,
    Event,
    Execution,
    Question,
    Start,
    StepRun,
    Task,
    Timer,
)
from flyteops.simulator.starting import publish
from flyteops.simulator.world import BODY_LENGTH, MAX_CHAIN, Setting, Validate, World

Choose = Callable[[Sequence[Task]], int]
"""Choose one of the tasks that could be carried out next, by its place."""

GRACE = timedelta(minutes=1)
"""The most that a wait or a question still has after a time without servers."""


def first(tasks: Sequence[Task]) -> int:
    """Choose the oldest task."""
    return 0


class Simulator:
    """A naive implementation of edition 2, with a clock that its caller sets forward.

    Every verb is a commit. The tasks that follow are carried out at once, oldest first; with
    `hold_tasks` only by `run_tasks`, in any order that the caller chooses. `failure_names` are
    names of results that mean failure, beside those that `packs` declare. `protected` are the items
    that flows may not change, and `validate` checks a payload by a JSON Schema.
    """

    def __init__(  # noqa: PLR0913 - these are all circumstances of a simulation; they are named
        self,
        flows: Iterable[FlowDefinition],
        *,
        now: datetime,
        seed: bytes = b"",
        datastore: Mapping[str, JsonValue] | None = None,
        packs: Iterable[PackDeclaration] = (),
        failure_names: Collection[str] = (),
        protected: Collection[str] = (),
        max_chain: int = MAX_CHAIN,
        body_length: int = BODY_LENGTH,
        validate: Validate | None = None,
        hold_tasks: bool = False,
    ) -> None:
        setting = Setting(
            now=now,
            seed=seed,
            datastore=datastore or {},
            packs=tuple(packs),
            failure_names=failure_names,
            protected=protected,
            max_chain=max_chain,
            body_length=body_length,
            validate=validate,
        )
        self._world = World(setting)
        self._hold_tasks = hold_tasks
        for flow in flows:
            control.save(self._world, flow)

    # ------------------------------------------------------------------------------------ packs

    def send(  # noqa: PLR0913 - an event has these parts; all but two are named
        self,
        pack: str,
        name: str,
        payload: JsonValue = None,
        *,
        labels: Mapping[str, str] | None = None,
        key: str | None = None,
        working_for: str | None = None,
    ) -> str:
        """Send an event and return its id; with the key of an earlier one, nothing happens.

        `working_for` is the action that the pack works for: its chain goes on.
        """
        world = self._world
        if pack == SERVER:
            raise InputError(f"Events of the pack {SERVER} come from the server alone.")
        for event in world.events:
            if key is not None and (event.pack, event.key) == (pack, key):
                return event.event_id
        action = None if working_for is None else world.action(working_for)
        event = world.record(
            Event(pack=pack, name=name, payload=payload, labels=dict(labels or {}), key=key),
            execution=None if action is None else world.execution(action.execution_id),
        )
        publish(world, event)
        self._end_verb()
        return event.event_id

    def take(
        self, pack: str, command: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Action | None:
        """Hand out the oldest action that is due for a pack with these labels, if there is one."""
        if pack == SERVER:
            raise InputError(f"Only the server executes the commands of the pack {SERVER}.")
        for action in self._world.actions:
            if (
                action.state == "NEW"
                and action.pack == pack
                and command in {None, action.name}
                and action.due_at <= self.now
                and has_labels(labels or {}, action.labels)
            ):
                result.take(self._world, action)
                return action
        return None

    def heartbeat(self, action_id: str, *, lease: str | None = None) -> None:
        """Report that a pack works on an action; raise `ConflictError` if it shall stop."""
        result.heartbeat(self._world, self._world.action(action_id), lease)

    def complete(
        self,
        action_id: str,
        name: str,
        payload: JsonValue = None,
        *,
        failure: bool = False,
        lease: str | None = None,
    ) -> str:
        """Send the result of an action and return the id of its event.

        Without a lease, it is that of the last attempt, except for commands with `retry`.
        """
        action = self._world.action(action_id)
        if action.for_server:
            raise ConflictError(f"Only the server executes the commands of the pack {SERVER}.")
        given = Event(
            pack=action.pack, name=name, payload=payload, labels=action.labels, failure=failure
        )
        event = result.complete(self._world, action, given, lease)
        self._end_verb()
        return event.event_id

    def report(self, name: Literal["PackSilent", "PackBack"], payload: JsonValue = None) -> str:
        """Send an event of the server about a pack, and return its id."""
        event = self._world.record(Event(pack=SERVER, name=name, payload=payload))
        publish(self._world, event)
        self._end_verb()
        return event.event_id

    # ------------------------------------------------------------------------------------ people

    def save(self, flow: FlowDefinition) -> None:
        """Save a flow, or another version of it."""
        control.save(self._world, flow)

    def delete(self, name: str) -> None:
        """Delete a flow with all that is held and queued for it."""
        control.delete(self._world, name)
        self._end_verb()

    def pause(self, name: str) -> None:
        """Pause a flow: it starts nothing."""
        self._world.flow(name)
        self._world.paused.add(name)

    def resume(self, name: str) -> None:
        """End the pause of a flow."""
        control.resume_flow(self._world, name)

    def run(self, name: str, payload: JsonValue = None) -> str:
        """Start a flow by hand and return the id of the event."""
        event = control.run(self._world, name, payload)
        self._end_verb()
        return event.event_id

    def cancel(self, execution_id: str) -> None:
        """Cancel an execution."""
        control.cancel(self._world, self._world.execution(execution_id))
        self._end_verb()

    def rerun(
        self, execution_id: str, *, from_step: str | None = None, replacement: JsonValue = None
    ) -> str:
        """Run an execution again and return the id of the new one.

        `replacement` is the payload of its trigger, with `from_step` the input of that step.
        """
        old = self._world.execution(execution_id)
        execution = control.rerun(self._world, old, from_step, replacement)
        self._end_verb()
        return execution.execution_id

    def release(self, start_id: str) -> None:
        """Let a parked start go on."""
        control.release(self._world, start_id)
        self._end_verb()

    def drop_parked(self, start_id: str) -> None:
        """Drop a parked start."""
        control.drop_parked(self._world, start_id)

    def answer(
        self, question_id: str, option: str, person: str, comment: str | None = None
    ) -> None:
        """Answer a question."""
        control.answer(self._world, question_id, option, person, comment)
        self._end_verb()

    # -------------------------------------------------------------------------------------- time

    def advance(self, by: timedelta) -> None:
        """Let time pass: all that falls due happens in the order of time.

        Tasks that follow are carried out at once, before the next timer, unless they are held.
        """
        end = self.now + by
        while (timer := self._next_timer(end)) is not None:
            self._world.now = max(self.now, timer.due_at)
            fire(self._world, timer)
            self._end_verb()
        self._world.now = end

    def stop_for(self, by: timedelta) -> None:
        """Let time pass while no server runs; then all that fell due happens.

        Waits and questions that ran out get a minute more, or their own length if it is shorter.
        """
        world = self._world
        world.now += by
        for timer in world.timers:
            if timer.length is not None and timer.due_at <= world.now:
                timer.due_at = world.now + min(timer.length, GRACE)
        self.advance(timedelta())

    def _next_timer(self, end: datetime) -> Timer | None:
        due = [timer for timer in self._world.timers if timer.due_at <= end]
        return min(due, key=lambda timer: (timer.due_at, timer.number), default=None)

    def run_tasks(self, choose: Choose = first) -> None:
        """Carry out all tasks: those of one execution in order, between others as chosen."""
        while tasks := self._world.tasks:
            ready = [task for task in tasks if _is_first(task, tasks)]
            run_task(self._world, ready[choose(ready)])

    def _end_verb(self) -> None:
        end_commit(self._world)
        if not self._hold_tasks:
            self.run_tasks()

    # ------------------------------------------------------------------------------------- state

    @property
    def now(self) -> datetime:
        """The time."""
        return self._world.now

    @property
    def events(self) -> Sequence[Event]:
        """All events, in the order of their commits."""
        return tuple(self._world.events)

    @property
    def executions(self) -> Sequence[Execution]:
        """All executions, oldest first."""
        return tuple(self._world.executions)

    @property
    def decisions(self) -> Sequence[Decision]:
        """All decisions, oldest first."""
        return tuple(self._world.decisions)

    @property
    def open_actions(self) -> Sequence[Action]:
        """The actions that have no result yet."""
        return tuple(action for action in self._world.actions if action.is_open)

    @property
    def waits(self) -> Sequence[StepRun]:
        """The steps that wait for an event."""
        return tuple(
            run
            for execution in self._world.executions
            for run in execution.steps.values()
            if run.waits
        )

    @property
    def questions(self) -> Sequence[Question]:
        """The open questions."""
        return tuple(question for question in self._world.questions if question.open)

    @property
    def parked(self) -> Sequence[Start]:
        """The starts beyond the longest chain."""
        return tuple(self._world.parked)

    @property
    def queued(self) -> Sequence[Start]:
        """The starts in the queues of `concurrency`, in order."""
        return tuple(self._world.queue)

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks that are left."""
        return tuple(self._world.tasks)

    @property
    def datastore(self) -> Mapping[str, JsonValue]:
        """The values of the datastore that have not expired."""
        world = self._world
        return {key: world.read_item(key) for key in world.items if world.item(key) is not None}


def _is_first(task: Task, tasks: Sequence[Task]) -> bool:
    return task.execution_id is None or task is next(
        each for each in tasks if each.execution_id == task.execution_id
    )
