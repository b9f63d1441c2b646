"""The working copy of a document while one change is applied, and all that follows from it."""

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw

from flyteops.definition import StepState
from flyteops.document import decode_json
from flyteops.engine.edition2.advancecontext import AdvanceContext
from flyteops.engine.edition2.document import (
    EventHead,
    ExecutionDocument,
    Occurrence,
    Readiness,
    StepRecord,
    UnansweredFailure,
    raw,
)
from flyteops.engine.edition2.outcome import Advance, AttachedValue, EventDecision
from flyteops.engine.edition2.plan import Plan, PlannedStep
from flyteops.engine.edition2.rendering import StepRenderer
from flyteops.engine.edition2.view import Deferred, LazyView, StepsView, VarsView, event_view
from flyteops.model import SERVER, Decision, Event, JsonValue, PackRef

if TYPE_CHECKING:
    from datetime import datetime

    from flyteops.engine.edition2.outcome import (
        ActionEnd,
        ActionRetry,
        NewTask,
        NewTimer,
        NewWait,
        PlannedAction,
    )

SERVER_PACK = PackRef(SERVER, SERVER)

UNTOUCHED = Readiness()


class Result(NamedTuple):
    """The result of a step."""

    step_id: str
    event: EventHead
    state: StepState
    is_lost: bool = False


class Draft:
    """A document that is being changed. The document and the plan stay as they are.

    `results` are the results that were not continued yet, in their order, and `uncontinued` their
    steps.
    """

    def __init__(self, document: ExecutionDocument, plan: Plan, ctx: AdvanceContext) -> None:
        ctx.evaluation.begin_event()
        self.plan = plan
        self.ctx = ctx
        self.now: datetime = ctx.evaluation.now
        self.fields: dict[str, Any] = {}
        self._document = document
        self.steps: dict[str, StepRecord] = dict(document.steps)
        self.readiness: dict[str, Readiness] = dict(document.readiness)
        self.failures: dict[str, UnansweredFailure] = dict(document.failures)
        self.unreachable: list[str] = list(document.unreachable)
        self.made = document.made
        self.open = document.open
        self.results: deque[Result] = deque()
        self.uncontinued: set[str] = set()
        self.is_accepted = True
        self.actions: list[PlannedAction] = []
        self.retries: list[ActionRetry] = []
        self.ends: list[ActionEnd] = []
        self.unknown: list[str] = []
        self.closed: list[str] = []
        self.resumed: list[str] = []
        self.timers: list[NewTimer] = []
        self.waits: list[NewWait] = []
        self.tasks: list[NewTask] = []
        self.published: list[Occurrence] = []
        self.unseen: list[Occurrence] = []
        self.decisions: list[EventDecision] = []
        self.attachments: dict[str, AttachedValue] = {}
        self._payloads: dict[str, bytes] = {}

    # ----------------------------------------------------------------------------------- reading

    @property
    def document(self) -> ExecutionDocument:
        """The document with the fields that were set so far, but those of its steps."""
        if self.fields:
            self._document = msgspec.structs.replace(self._document, **self.fields)
            self.fields = {}
        return self._document

    def planned(self, step_id: str) -> PlannedStep:
        return self.plan.by_id[step_id]

    def payload(self, event_id: str) -> bytes:
        """Return the payload of an event of this change, or of a recorded one."""
        found = self._payloads.get(event_id)
        return self.ctx.payload(event_id) if found is None else found

    def attachment(self, key: str) -> bytes:
        """Return an attachment, of this change or of an earlier one."""
        found = self.attachments.get(key)
        return self.ctx.attachment(key) if found is None else found.value

    def view(self, head: EventHead) -> LazyView:
        """Return an event as templates see it."""
        return event_view(head, partial(self.payload, head.event_id))

    def renderer(
        self, step_id: str, event: EventHead, context: Mapping[str, object], *parts: object
    ) -> StepRenderer:
        """Return the renderer of the templates of a step for an event."""
        key = "\0".join([self.plan.version.uuid, step_id, event.event_id, *map(str, parts)])
        renderer = StepRenderer(self.ctx.evaluation, key)
        renderer.scope.update(
            Event=self.view(event),
            Vars=VarsView(self.plan, renderer),
            Trigger=self.view(self._document.trigger),
            Context=context,
            Steps=StepsView(self.steps),
            Execution=self._execution_view(),
        )
        return renderer

    def _execution_view(self) -> LazyView:
        document = self.document
        return LazyView(
            {
                "Id": lambda: document.execution_id,
                "Flow": lambda: document.flow_name,
                "StartedAt": lambda: document.started_at,
                "Link": lambda: self.ctx.link(document.execution_id),
                "FailedSteps": lambda: list(document.failed_steps),
            }
        )

    # ---------------------------------------------------------------------------------- changing

    def number(self) -> int:
        """Return the next number, which gives the order of runs and results."""
        self.made += 1
        return self.made

    def learn(self, event: Event) -> EventHead:
        """Keep the payload of an event at hand and return the rest of it."""
        self._payloads[event.event_id] = event.payload
        return EventHead.of(event)

    def change(self, step_id: str, **fields: object) -> StepRecord:
        """Change the record of a step."""
        changed = msgspec.structs.replace(self.steps[step_id], **fields)
        self.steps[step_id] = changed
        return changed

    def record(self, step_id: str, name: str, payload: JsonValue, state: StepState) -> EventHead:
        """Make a result of the server for a step, to be recorded and published."""
        occurrence = self.occurrence(step_id, name, payload, SERVER_PACK, state)
        self.published.append(occurrence)
        return self.learn(occurrence.event)

    def occurrence(
        self, step_id: str, name: str, payload: JsonValue, pack: PackRef, state: StepState
    ) -> Occurrence:
        """Make a result of a step."""
        document = self.document
        event = Event(
            event_id=self.ctx.evaluation.new_id(),
            name=name,
            pack=pack,
            payload=msgspec.json.encode(payload),
            received_at=self.now,
            failure=state == "FAILED",
        )
        return Occurrence(
            event=event,
            depth=document.depth,
            after_failure=document.after_failure,
            execution_id=document.execution_id,
            flow_name=document.flow_name,
            step_id=step_id,
            state=state,
        )

    def attach(self, step_id: str, key: str, value: JsonValue) -> None:
        """Write an attachment."""
        self.attachments[key] = AttachedValue(step_id, key, msgspec.json.encode(value))

    def attached(self, key: str) -> JsonValue:
        """Return the value of an attachment."""
        return decode_json(self.attachment(key))

    def finish(
        self, step_id: str, result: EventHead, state: StepState, *, is_lost: bool = False
    ) -> None:
        """Give a step its result; the steps that depend on it are tried afterwards."""
        old = self.steps[step_id]
        keeps = self.plan.keeps(step_id, "Payload")
        if old.open or old.is_waiting or old.has_timer or old.group is not None:
            self.closed.append(step_id)
        self.change(
            step_id,
            event=None,
            not_before=None,
            is_waiting=False,
            has_timer=False,
            open=0,
            group=None,
            state=state,
            order=self.number(),
            result_id=result.event_id,
            result_name=result.name,
            payload=Raw(self.payload(result.event_id)) if keeps else msgspec.UNSET,
            finished_at=self.now,
        )
        self.open -= 1
        if state == "FAILED":
            self.fields["failed_steps"] = (*self.document.failed_steps, step_id)
        self.results.append(Result(step_id, result, state, is_lost))
        self.uncontinued.add(step_id)

    def decide(
        self,
        event_id: str,
        step: PlannedStep,
        outcome: str,
        reason: str,
        detail: str,
        **more: object,
    ) -> None:
        """Note a decision on a step."""
        document = self._document
        decision = Decision(
            flow_name=document.flow_name,
            flow_uuid=document.flow_uuid,
            step_id=step.id,
            step_index=step.position,
            outcome=outcome,  # type: ignore[arg-type]
            reason=reason,  # type: ignore[arg-type]
            detail=detail,
            correlation_id=document.execution_id,
            **more,  # type: ignore[arg-type]
        )
        self.decisions.append(EventDecision(event_id, decision))

    def set_context(self, step_id: str, context: Mapping[str, JsonValue]) -> None:
        """Store the context of a step."""
        self.change(step_id, context=raw(context))

    # ------------------------------------------------------------------------------------ the end

    def outcome(self) -> Advance:
        """Return all that follows from the change."""
        document = msgspec.structs.replace(
            self.document,
            made=self.made,
            open=self.open,
            steps=self.steps,
            readiness=self.readiness,
            failures=self.failures,
            unreachable=tuple(self.unreachable),
        )
        return Advance(
            document=document,
            is_accepted=self.is_accepted,
            actions=tuple(self.actions),
            retries=tuple(self.retries),
            ends=tuple(self.ends),
            unknown=tuple(self.unknown),
            closed=tuple(self.closed),
            resumed=tuple(self.resumed),
            timers=tuple(self.timers),
            waits=tuple(self.waits),
            tasks=tuple(self.tasks),
            published=tuple(self.published),
            unseen=tuple(self.unseen),
            decisions=tuple(self.decisions),
            attachments=tuple(
                each for each in self.attachments.values() if each.step_id not in self.closed
            ),
        )


def context_of(record: StepRecord) -> Mapping[str, object]:
    """Return the context of a step; it is parsed when it is read."""
    return Deferred(lambda: decode_json(bytes(record.context)))
