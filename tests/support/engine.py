"""A store in memory around the engine of edition 2, with the verbs of the model.

Documents are kept as bytes, and everything that an `Advance` names is applied as a store would.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flyteops.definition import FlowDefinition, StepState
from flyteops.engine.context import EvaluationContext
from flyteops.engine.edition2 import (
    ActionResult,
    Advance,
    AdvanceContext,
    Cancelled,
    CommandExpired,
    CommandLost,
    DelayOver,
    EventArrived,
    ExecutionDocument,
    ExecutionStopped,
    FlowTimeout,
    Occurrence,
    OpenAction,
    Plan,
    StepTimeout,
    TaskDone,
    advance,
    compile_plan,
    decode_document,
    encode_document,
    event_keys,
    passing_triggers,
    start,
)
from flyteops.engine.edition2.outcome import NewTask, NewTimer, NewWait, PlannedAction
from flyteops.errors import ConflictError, LateError
from flyteops.model import SERVER, Decision, Event, PackRef, has_labels, pack_id


@dataclass(frozen=True)
class Version:
    uuid: str
    flow: FlowDefinition
    saved_at: datetime


class Context(EvaluationContext):
    """A context without jitter, with ids that are unique in a world."""

    def __init__(self, world: "World") -> None:
        super().__init__(
            now=world.now,
            seed=world.seed(),
            datastore=world.data.__getitem__,
            monotonic=lambda: 0.0,
            secret=lambda name, form: f"<{name}>",
        )
        self.steps = 0

    def jitter(self) -> float:
        return 1.0

    def begin_step(self, step: bytes, context: Mapping[str, str]) -> None:
        self.steps += 1
        super().begin_step(step, context)


@dataclass
class Row:
    """An action, as its row has it."""

    action: PlannedAction
    execution_id: str
    number: int
    due_at: datetime
    state: str = "NEW"
    outcome: StepState | None = None
    attempts: list["Try"] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.state in {"NEW", "PENDING", "UNKNOWN"}

    @property
    def view(self) -> OpenAction:
        action = self.action
        labels = action.pack_labels
        return OpenAction(
            action_id=action.action_id,
            step_id=action.step_id,
            attempt=len(self.attempts),
            pack=PackRef(pack_id(action.pack_name, labels), action.pack_name, dict(labels)),
            created_at=action.created_at,
            input=action.input,
            index=action.index,
        )


@dataclass
class Try:
    """One hand-out of an action."""

    lease: str
    lost_at: datetime | None = None
    lost: bool = False
    result: tuple[str, Any] | None = None


@dataclass
class Timer:
    """A timer of an execution or of an action."""

    due_at: datetime
    number: int
    kind: str
    execution_id: str
    step_id: str
    action_id: str | None = None
    attempt: int = 0


@dataclass
class Wait:
    execution_id: str
    number: int
    wait: NewWait


@dataclass
class Task:
    kind: str
    execution_id: str
    subject: str = ""
    new: NewTask | None = None
    event: Occurrence | None = None
    timer: Timer | None = None


@dataclass
class Recorded:
    occurrence: Occurrence
    number: int
    is_seen: bool


class World:
    """The store, with a clock that its caller sets forward."""

    def __init__(
        self,
        flows: Sequence[FlowDefinition],
        now: datetime,
        data: Mapping[str, Any] | None = None,
        failure_names: Sequence[str] = (),
        *,
        hold_tasks: bool = False,
    ) -> None:
        self.now = now
        self.data = dict(data or {})
        self.plans = {
            flow.name: compile_plan(Version(f"{flow.name} 1", flow, now)) for flow in flows
        }
        self.failure_names = frozenset(failure_names)
        self.hold_tasks = hold_tasks
        self.documents: dict[str, bytes] = {}
        self.begun_at: dict[str, int] = {}
        self.events: dict[str, Recorded] = {}
        self.rows: dict[str, Row] = {}
        self.timers: list[Timer] = []
        self.waits: list[Wait] = []
        self.tasks: list[Task] = []
        self.attachments: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.decisions: list[tuple[str, Decision]] = []
        self.fresh: list[Recorded] = []
        self.evaluated = 0
        self._made = 0
        self._seeds = 0

    def seed(self) -> bytes:
        self._seeds += 1
        return f"seed {self._seeds}".encode()

    def _number(self) -> int:
        self._made += 1
        return self._made

    # -------------------------------------------------------------------------------- the engine

    def document(self, execution_id: str) -> ExecutionDocument:
        return decode_document(self.documents[execution_id])

    def plan(self, execution_id: str) -> Plan:
        return self.plans[self.document(execution_id).flow_name]

    def _context(self, execution_id: str = "") -> AdvanceContext:
        return AdvanceContext(
            Context(self),
            payload=lambda event_id: self.events[event_id].occurrence.event.payload,
            attachment=lambda key: self.attachments[execution_id, key][1],
            is_failure=lambda pack, name: name in self.failure_names,
            has_tasks=any(task.execution_id == execution_id for task in self.tasks),
        )

    def change(self, execution_id: str, change: Any) -> Advance:
        """Apply a change: compute it, then let others see its events, then commit its rows."""
        document = self.document(execution_id)
        before = encode_document(document)
        ctx = self._context(execution_id)
        outcome = advance(document, self.plan(execution_id), change, ctx)
        assert encode_document(document) == before
        self.evaluated += ctx.evaluation.steps
        self._commit(execution_id, outcome)
        return outcome

    def _commit(self, execution_id: str, outcome: Advance) -> None:
        data = encode_document(outcome.document)
        assert encode_document(decode_document(data)) == data
        assert decode_document(data) == outcome.document
        for occurrence in outcome.unseen:
            self._record(occurrence, is_seen=False)
        for occurrence in outcome.published:
            self._record(occurrence, is_seen=True)
            self._publish(occurrence)
        self.documents[execution_id] = data
        self._end_rows(execution_id, outcome)
        self._add_rows(execution_id, outcome)
        self.decisions += [(each.event_id, each.decision) for each in outcome.decisions]

    def _end_rows(self, execution_id: str, outcome: Advance) -> None:
        is_over = outcome.document.is_over
        for each in outcome.ends:
            row = self.rows[each.action_id]
            event = self.events[each.event_id].occurrence.event
            row.state = "FATAL" if event.name == "FATAL" else "SUCCESS"
            row.outcome = each.outcome
        for action_id in outcome.unknown:
            self.rows[action_id].state = "UNKNOWN"
        for row in self.rows.values():
            is_closed = is_over or row.action.step_id in outcome.closed
            if row.execution_id == execution_id and row.is_open and is_closed:
                row.state = "CANCELLED"
        gone = {*outcome.closed, *outcome.resumed}
        self.waits = [
            each
            for each in self.waits
            if each.execution_id != execution_id or not (is_over or each.wait.step_id in gone)
        ]
        self.timers = [
            each
            for each in self.timers
            if each.execution_id != execution_id
            or not (
                is_over
                or each.step_id in outcome.closed
                or (each.kind == "waitTimeout" and each.step_id in outcome.resumed)
            )
        ]
        self.attachments = {
            key: (step, value)
            for key, (step, value) in self.attachments.items()
            if key[0] != execution_id or not (is_over or step in outcome.closed)
        }

    def _add_rows(self, execution_id: str, outcome: Advance) -> None:
        for action in outcome.actions:
            due_at = action.not_before or self.now
            row = Row(action, execution_id, self._number(), due_at)
            self.rows[action.action_id] = row
            self._watch_expiry(row, action.expires_at)
        for each in outcome.retries:
            row = self.rows[each.action_id]
            row.state, row.due_at = "NEW", each.not_before
            if row.action.expires is not None:
                self._watch_expiry(row, each.not_before + row.action.expires)
        for each in outcome.attachments:
            self.attachments[execution_id, each.key] = each.step_id, each.value
        if not outcome.document.is_over:
            self._add_timers(execution_id, outcome)
        for task in outcome.tasks:
            self.tasks.append(Task(task.kind, task.execution_id, task.subject, task))

    def _add_timers(self, execution_id: str, outcome: Advance) -> None:
        for each in outcome.timers:
            self._add_timer(execution_id, each)
        for each in outcome.waits:
            wait = Wait(execution_id, self._number(), each)
            self.waits.append(wait)
            if each.since is not None:
                for recorded in list(self.events.values()):
                    is_after = recorded.number > self.begun_at[execution_id]
                    since = recorded.occurrence.event.received_at >= each.since
                    if is_after and since and recorded.is_seen:
                        self._offer(recorded, wait)

    def _add_timer(self, execution_id: str, each: NewTimer) -> None:
        self.timers.append(
            Timer(
                each.due_at, self._number(), each.kind, execution_id, each.step_id, each.action_id
            )
        )

    def _watch_expiry(self, row: Row, at: datetime | None) -> None:
        if at is not None:
            action = row.action
            self.timers.append(
                Timer(
                    at,
                    self._number(),
                    "expires",
                    row.execution_id,
                    action.step_id,
                    action.action_id,
                    len(row.attempts),
                )
            )

    # -------------------------------------------------------------------------------- the events

    def _record(self, occurrence: Occurrence, *, is_seen: bool) -> None:
        recorded = Recorded(occurrence, self._number(), is_seen)
        self.events[occurrence.event.event_id] = recorded
        if is_seen:
            self.fresh.append(recorded)

    def _publish(self, occurrence: Occurrence) -> None:
        """Let an event begin executions, by name of the flow."""
        if occurrence.event.pack.name == SERVER and occurrence.step_id is not None:
            return
        for name in sorted(self.plans):
            plan = self.plans[name]
            passed = passing_triggers(occurrence, plan, Context(self))
            self.decisions += [(each.event_id, each.decision) for each in passed.decisions]
            if passed.steps:
                self._start(occurrence, plan, passed.steps)

    def _start(self, occurrence: Occurrence, plan: Plan, steps: Sequence[str]) -> None:
        ctx = self._context()
        outcome = start(occurrence, plan, steps, ctx)
        self.evaluated += ctx.evaluation.steps
        self.begun_at[outcome.document.execution_id] = self._number()
        self._commit(outcome.document.execution_id, outcome)

    def _offer(self, recorded: Recorded, wait: Wait) -> None:
        step = self.plan(wait.execution_id).by_id[wait.wait.step_id]
        if recorded.occurrence.execution_id == wait.execution_id and recorded.occurrence.step_id:
            return
        if wait.wait.key in event_keys(recorded.occurrence, step, Context(self)):
            task = Task("resume", wait.execution_id, step.id, event=recorded.occurrence)
            self.tasks.append(task)

    def _end_commit(self) -> None:
        order = list(self.begun_at)
        for recorded in self.fresh:
            waits = sorted(
                self.waits, key=lambda each: (order.index(each.execution_id), each.number)
            )
            for wait in waits:
                if wait.number < recorded.number:
                    self._offer(recorded, wait)
        self.fresh = []

    def _end_verb(self) -> None:
        self._end_commit()
        if not self.hold_tasks:
            self.run_tasks(lambda tasks: 0)

    # ------------------------------------------------------------------------------------- verbs

    def send(self, pack: str, name: str, payload: Any, labels: Mapping[str, str]) -> None:
        ref = PackRef(pack_id(pack, labels), pack, dict(labels))
        occurrence = Occurrence(self._event(ref, name, payload))
        self._record(occurrence, is_seen=True)
        self._publish(occurrence)
        self._end_verb()

    def _event(self, pack: PackRef, name: str, payload: Any, *, failure: bool = False) -> Event:
        return Event(
            event_id=Context(self).new_id(),
            name=name,
            pack=pack,
            payload=msgspec.json.encode(payload),
            received_at=self.now,
            failure=failure,
        )

    def take(self, pack: str, labels: Mapping[str, str]) -> Row | None:
        for row in self.rows.values():
            action = row.action
            if (
                row.state == "NEW"
                and action.pack_name == pack
                and row.due_at <= self.now
                and has_labels(labels, action.pack_labels)
            ):
                self._hand_out(row)
                return row
        return None

    def _hand_out(self, row: Row) -> None:
        attempt = Try(f"{row.action.action_id} {len(row.attempts) + 1}")
        row.attempts.append(attempt)
        row.state = "PENDING"
        if row.action.timeout is not None and row.action.pack_name != SERVER:
            attempt.lost_at = self.now + row.action.timeout
            self._watch_silence(row, attempt.lost_at)

    def _watch_silence(self, row: Row, at: datetime) -> None:
        action = row.action
        self.timers.append(
            Timer(
                at,
                self._number(),
                "lost",
                row.execution_id,
                action.step_id,
                action.action_id,
                len(row.attempts),
            )
        )

    def complete(
        self, row: Row, name: str, payload: Any, *, failure: bool, attempt_number: int | None
    ) -> None:
        """Send a result; `attempt_number` is that of the lease, None if there is none."""
        attempt = self._attempt(row, attempt_number)
        if attempt.result is not None:
            if attempt.result != (name, payload):
                raise ConflictError("another result")
            return
        event = self._event(row.view.pack, name, payload, failure=failure)
        attempt.result = name, payload
        self.events[event.event_id] = Recorded(Occurrence(event), self._number(), is_seen=False)
        is_late = attempt.lost or not row.is_open
        self.change(row.execution_id, ActionResult(row.view, Occurrence(event), is_late))
        if attempt.lost:
            raise LateError
        self._end_verb()

    def _attempt(self, row: Row, number: int | None) -> Try:
        if not row.attempts:
            raise ConflictError("not taken")
        if number is None:
            if row.action.needs_lease:
                raise ConflictError("lease")
            return row.attempts[-1]
        return row.attempts[number]

    def cancel(self, execution_id: str) -> None:
        if self.document(execution_id).is_over:
            raise ConflictError("over")
        self.change(execution_id, Cancelled())
        self._end_verb()

    # -------------------------------------------------------------------------------------- time

    def advance(self, by: timedelta) -> None:
        end = self.now + by
        while (timer := self._next_timer(end)) is not None:
            self.now = max(self.now, timer.due_at)
            self.timers.remove(timer)
            if not self._matters(timer):
                continue
            if any(task.execution_id == timer.execution_id for task in self.tasks):
                self.tasks.append(Task("timer", timer.execution_id, timer=timer))
            else:
                self._fire(timer)
            self._end_verb()
        self.now = end

    def _next_timer(self, end: datetime) -> Timer | None:
        due = [timer for timer in self.timers if timer.due_at <= end]
        return min(due, key=lambda timer: (timer.due_at, timer.number), default=None)

    def _matters(self, timer: Timer) -> bool:
        """Return whether a timer of an action still has a point; a store clears those at a take."""
        if timer.kind not in ("expires", "lost"):
            return True
        row, wanted = self.rows[timer.action_id or ""], "PENDING" if timer.kind == "lost" else "NEW"
        return row.state == wanted and len(row.attempts) == timer.attempt

    def _fire(self, timer: Timer) -> None:
        if timer.kind in ("expires", "lost"):
            self._fire_for_action(timer, self.rows[timer.action_id or ""])
        elif timer.kind == "command":
            if not self.document(timer.execution_id).is_over:
                self.tasks.append(Task("command", timer.execution_id, timer.action_id or ""))
        else:
            changes: Mapping[str, Any] = {
                "delay": DelayOver(timer.step_id),
                "stepTimeout": StepTimeout(timer.step_id),
                "waitTimeout": StepTimeout(timer.step_id, is_wait=True),
                "flowTimeout": FlowTimeout(),
            }
            self.change(timer.execution_id, changes[timer.kind])

    def _fire_for_action(self, timer: Timer, row: Row) -> None:
        if len(row.attempts) != timer.attempt:
            return
        if timer.kind == "expires" and row.state == "NEW":
            self.change(row.execution_id, CommandExpired(row.view))
        elif timer.kind == "lost" and row.state == "PENDING":
            attempt = row.attempts[-1]
            outcome = self.change(row.execution_id, CommandLost(row.view))
            attempt.lost = not outcome.unknown

    # ------------------------------------------------------------------------------------- tasks

    def run_tasks(self, choose: Callable[[Sequence[Task]], int]) -> None:
        while self.tasks:
            ready = [task for task in self.tasks if self._is_first(task)]
            task = ready[choose(ready)]
            self.tasks.remove(task)
            self._carry_out(task)
            self._end_commit()

    def _is_first(self, task: Task) -> bool:
        return task is next(t for t in self.tasks if t.execution_id == task.execution_id)

    def _carry_out(self, task: Task) -> None:
        if task.kind == "resume":
            assert task.event is not None
            self.change(task.execution_id, EventArrived(task.subject, task.event))
        elif task.kind == "command":
            self._execute(self.rows[task.subject])
        elif task.kind == "timer":
            assert task.timer is not None
            self._fire(task.timer)
        elif task.kind == "stepFailed":
            self._send_step_failed(task)
        self.change(task.execution_id, TaskDone())

    def _send_step_failed(self, task: Task) -> None:
        assert task.new is not None
        document = self.document(task.execution_id)
        new, about = task.new, None
        if new.event_id is not None:
            about = self.events[new.event_id].occurrence.event
        payload = None if about is None else msgspec.json.decode(about.payload)
        message = payload.get("message") if isinstance(payload, dict) else None
        report = {
            "flow": document.flow_name,
            "step": new.subject or None,
            "execution": task.execution_id,
            "reason": new.reason,
            "event": None if about is None else about.name,
            "payload": payload,
            "message": new.message or message,
            "link": f"/executions/{task.execution_id}",
        }
        event = self._event(PackRef(SERVER, SERVER), "StepFailed", report)
        occurrence = Occurrence(event, depth=document.depth, after_failure=True)
        self._record(occurrence, is_seen=True)
        self._publish(occurrence)

    def _execute(self, row: Row) -> None:
        if row.state != "NEW":
            return
        self._hand_out(row)
        value = msgspec.json.decode(row.action.input)
        if row.action.name == "Return":
            self.change(row.execution_id, ExecutionStopped(row.view, "SUCCEEDED"))
            return
        if row.action.name == "Fail" and isinstance(value, dict) and list(value) == ["message"]:
            self.change(row.execution_id, ExecutionStopped(row.view, "FAILED"))
            return
        name, payload = self._executed(row.action.name, value)
        event = self._event(PackRef(SERVER, SERVER), name, payload, failure=name == "FATAL")
        self.change(row.execution_id, ActionResult(row.view, Occurrence(event)))

    def _executed(self, command: str, value: Any) -> tuple[str, Any]:
        """Carry out `SetData`; other input does not fit."""
        if command == "SetData" and isinstance(value, dict) and set(value) == {"key", "value"}:
            key, new = value["key"], value["value"]
            if isinstance(key, str) and key:
                old = self.data.get(key)
                self.data[key] = new
                return "DataSet", {"key": key, "old": old, "new": new}
        return "FATAL", {"message": "The input of SetData lacks 'value'."}
