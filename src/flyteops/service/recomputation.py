"""Decisions that are not stored with an event, computed again from its basis."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from flyteops.engine.compiled import trigger_steps
from flyteops.engine.context import DatastoreSnapshot, EvaluationContext, OutputLimits
from flyteops.engine.evaluation import evaluate_triggers
from flyteops.errors import NotFoundError, UnreadableError
from flyteops.model import Basis, Decision, EventRecord
from flyteops.service.basis import BasisContent, BasisRegistry
from flyteops.service.flow import FlowRegistry
from flyteops.storage.query import Page

PAGE_DECISIONS = 20_000
"""The number of decisions after which a page of events ends; the caller asks for the next one."""

PAGE_SECONDS = 5.0
"""The time after which a page of events ends in the same way."""

TURN = 200
"""The number of flows after which other tasks of the event loop get their turn."""

Former = tuple[BasisContent, DatastoreSnapshot]
"""The flow versions of a basis, and the datastore items as templates saw them."""


_NOT_AGAIN = "this decision cannot be computed again"


class Recomputation:
    """Completes events with the decisions that are not stored.

    These are decisions to skip a step with which an event could have begun an execution. They
    depend on nothing but the event, its basis and its seed, and so are the same at any time.
    """

    def __init__(
        self, bases: BasisRegistry, flows: FlowRegistry, monotonic: Callable[[], float]
    ) -> None:
        self._bases = bases
        self._flows = flows
        self._monotonic = monotonic

    async def complete_page(
        self, records: Page[EventRecord], flow_name: str | None
    ) -> Page[EventRecord]:
        """Return a page of events with all decisions, of one flow if it is named.

        It is cut when it has very many, or they take long to compute.
        """
        whole: list[EventRecord] = []
        room, ends_at = PAGE_DECISIONS, self._monotonic() + PAGE_SECONDS
        former: dict[int, Former] = {}
        for record in records:
            if whole and self._monotonic() > ends_at:
                return Page(whole, is_cut=True)
            completed = await self._complete(record, flow_name, former)
            room -= len(completed.decisions)
            if room < 0 and whole:
                return Page(whole, is_cut=True)
            whole.append(completed)
            await asyncio.sleep(0)
        return Page(whole, is_cut=records.is_cut)

    async def complete(self, record: EventRecord, flow_name: str | None = None) -> EventRecord:
        """Return an event with all decisions about it, of one flow if it is named."""
        return await self._complete(record, flow_name, {})

    async def _complete(
        self, record: EventRecord, flow_name: str | None, former: dict[int, Former]
    ) -> EventRecord:
        """Complete an event; `former` are the bases that were read for others."""
        basis = record.basis
        if basis is None:
            return record
        try:
            content, datastore = former.get(basis.number) or await self._read(basis)
        except NotFoundError as error:
            lost = Decision(
                flow_name or "", "", "", 0, "failed", "error", f"{_NOT_AGAIN}: {error.message}"
            )
            return replace(record, decisions=(*record.decisions, lost), basis=None)
        former[basis.number] = content, datastore
        begun = {
            (each.flow_uuid, each.step_index): each for each in record.decisions[: basis.begun]
        }
        decisions: list[Decision] = []
        names = sorted(content.flows) if flow_name is None else [flow_name]
        for turn, name in enumerate(names, 1):
            if name in content.flows:
                ctx = self._context(record, basis, datastore)
                decisions += await self._decide(record, name, content.flows[name], ctx, begun)
            if turn % TURN == 0:
                await asyncio.sleep(0)
        return replace(record, decisions=(*decisions, *record.decisions[basis.begun :]), basis=None)

    async def _read(self, basis: Basis) -> Former:
        try:
            content = self._bases.content(basis.number)
        except NotFoundError:
            await self._bases.refresh()
            content = self._bases.content(basis.number)
        return content, await self._bases.snapshot(content)

    def _context(
        self, record: EventRecord, basis: Basis, datastore: DatastoreSnapshot
    ) -> EvaluationContext:
        return EvaluationContext(
            now=record.event.received_at,
            seed=basis.seed,
            datastore=datastore,
            monotonic=self._monotonic,
            allowance=OutputLimits.for_bodies(basis.body_length),
        )

    async def _decide(
        self,
        record: EventRecord,
        name: str,
        uuid: str,
        ctx: EvaluationContext,
        begun: dict[tuple[str, int], Decision],
    ) -> list[Decision]:
        """Return the decisions about one flow: as stored, or else as they are computed again."""
        try:
            flow = await self._flows.load_version(name, uuid)
        except (NotFoundError, UnreadableError) as error:
            detail = f"{_NOT_AGAIN}: {error.message}"
            return [Decision(name, uuid, "", 0, "failed", "error", detail)]
        basis = record.basis
        event = replace(record.event, created_nanosecond=0 if basis is None else basis.nanosecond)
        known = [begun.get((uuid, step.position)) for step in trigger_steps(flow, event)]
        if None not in known:
            return [each for each in known if each is not None]
        computed = evaluate_triggers(event, flow, ctx)
        return [
            _of_then(now, is_late=now.step_index in ctx.late_steps) if stored is None else stored
            for stored, now in zip(known, computed, strict=True)
        ]


def _of_then(decision: Decision, *, is_late: bool) -> Decision:
    """Return a decision computed again, which says so if it is not that of the time of the event.

    Then, the step did not run.
    """
    if decision.outcome == "skipped":
        return decision
    if decision.outcome == "ran":
        return Decision(
            decision.flow_name,
            decision.flow_uuid,
            decision.step_id,
            decision.step_index,
            "failed",
            "error",
            "the step did not run, and would run now: this version of Flyte decides otherwise",
        )
    if is_late:
        return replace(decision, detail=f"{decision.detail} (while the decision was repeated)")
    return decision
