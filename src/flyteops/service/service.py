"""The service: the use cases that join its registries, the evaluator and the store."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from flyteops.background import BackgroundLoops
from flyteops.engine.completion import (
    RESOLVED,
    Resolution,
    accept,
    check_may_extend,
    check_may_return,
    is_open,
    result_of,
    rule_on_result,
)
from flyteops.engine.context import EvaluationContext, OutputLimits
from flyteops.engine.evaluation import evaluate
from flyteops.engine.failure import is_failure
from flyteops.errors import (
    LateError,
    OutcomeUnknownError,
    UnavailableError,
    UnreadableError,
)
from flyteops.model import (
    Action,
    ActionSnapshot,
    Evaluation,
    Event,
    NewEvent,
    PackRef,
)
from flyteops.name import check, fault_of, name_problems, short_key
from flyteops.service.aside import SetAsideEntries
from flyteops.service.audit import Audit
from flyteops.service.auditlog.entry import SERVER, Author, resource_key
from flyteops.service.auditlog.snapshot import action_state, resolution_state
from flyteops.service.basis import NotStoredError
from flyteops.service.decider import Decider
from flyteops.service.health import ServiceHealth
from flyteops.service.hook.receiver import HookReceiver
from flyteops.service.longpoll import LongPolls
from flyteops.service.maintenance import MaintenanceSettings, run_all
from flyteops.service.recomputation import Recomputation
from flyteops.service.registries import Registries
from flyteops.service.release import ClaimReleaser
from flyteops.service.retention import RetentionTask
from flyteops.service.scheduler import Scheduler
from flyteops.service.seed import SeedSource, utc_now
from flyteops.service.timer import ClockMonitor, WakeupTimer
from flyteops.storage.base import Claimed, ClaimOrder, Store
from flyteops.transition import LateResult

if TYPE_CHECKING:  # cryptography takes long to load, and few servers have secrets
    from flyteops.service.encryption import Encryptor

LOGGER = logging.getLogger("flyte.service")

T = TypeVar("T")


def _event(sender: PackRef, new_event: NewEvent, ctx: EvaluationContext) -> Event:
    if fault_of(new_event.name) is not None:
        check("The event", name_problems({"event": new_event.name}))
    return Event(
        ctx.new_id(),
        new_event.name,
        sender,
        new_event.payload,
        ctx.now,
        new_event.created_at,
        new_event.created_nanosecond,
    )


class Service:
    """Flyte's use cases on one store, for one event loop. Call `start` before anything else."""

    def __init__(  # noqa: PLR0913 - all that is not pure comes from outside
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        seeds: Callable[[], bytes] | None = None,
        maintenance: MaintenanceSettings | None = None,
        encryptor: "Encryptor | None" = None,
        longest_body: int = 10 * 1024 * 1024,
    ) -> None:
        self._allowance = OutputLimits.for_bodies(longest_body)
        self._store = store
        watch = ClockMonitor(clock, monotonic)
        self._clock = clock = watch.now
        self._monotonic = monotonic
        self._seeds = seeds or SeedSource(os.urandom(32))
        self._maintenance = maintenance or MaintenanceSettings()
        self.loops = store.loops = BackgroundLoops(monotonic)
        aside = SetAsideEntries(clock, monotonic)
        self._timer = WakeupTimer(clock)
        self._registries = registries = Registries(
            store, clock, aside, encryptor, self._new_id, self._timer.expect
        )
        self.flows = registries.flows
        self.packs = registries.packs
        self.data = registries.data
        self.tokens = registries.tokens
        self.hooks = registries.hooks
        recomputation = Recomputation(registries.bases, registries.flows, monotonic)
        self.audit = Audit(store, registries.log, registries.vault, registries.bases, recomputation)
        self.hook_receiver = HookReceiver(self.hooks, self._accept, clock, store.get_event)
        self._vault = registries.vault
        self._long_polls = LongPolls()
        store.listen(self._long_polls.notify)
        self._claim_releaser = ClaimReleaser(store, clock, self._long_polls.notify)
        self._decider = Decider(self.flows, self._new_context)
        self._scheduler = Scheduler(
            store, watch, self._timer, self.flows, self._decider, aside, self._long_polls.notify
        )
        self._retention = RetentionTask(
            store, registries.log, registries.bases, self._maintenance, self.loops.loop
        )
        self.health = ServiceHealth(store, self.loops, self._scheduler, self._retention, aside)

    # ------------------------------------------------------------------------------------ lifecycle

    async def start(self) -> None:
        """Load the data kept in memory; raise `StoreError` if the store is not ready for use."""
        await self._registries.load()
        await self._scheduler.note_presence()
        self.health.awaits = ""

    def wait_for_store(self, reason: str) -> None:
        """Record the reason why `start` is not possible yet."""
        self.health.awaits = reason

    @property
    def is_started(self) -> bool:
        return not self.health.awaits

    def check_started(self) -> None:
        """Raise `UnavailableError` before the data is loaded."""
        self.health.check_started()

    def announce_stop(self) -> None:
        """Announce the coming stop: the server is no longer ready, but does all its work."""
        self.health.is_stopping = True

    def end_long_polls(self) -> None:
        """Begin to stop: release callers that wait for actions; the server is no longer ready."""
        self.health.is_stopping = True
        self._long_polls.close()

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use the store, so that `refresh` must be called regularly."""
        return self._store.is_shared

    async def refresh(self) -> None:
        """Load changes that other servers made, and compare the clock with the store's."""
        self._scheduler.check_clock(await self._registries.refresh())

    def now(self) -> datetime:
        """Return the time of the clock that timestamps come from."""
        return self._clock()

    # --------------------------------------------------------------------------- events and actions

    async def accept_event(
        self, pack_id: str, new_event: NewEvent, *, key: str | None = None
    ) -> str:
        """Accept an event of a pack; on return, the event and all its consequences are durable.

        An event with a `key` that the pack has sent within the last day already is the same one:
        nothing happens, and the id is that of the first.
        """
        return (await self._accept(pack_id, new_event, key))[0]

    async def _accept(self, pack_id: str, new_event: NewEvent, key: str | None) -> tuple[str, bool]:
        """Accept an event; return its id, and whether it is new."""
        while True:
            ctx = self._new_context()
            event = _event(await self.packs.sender(pack_id, ctx.now), new_event, ctx)
            try:
                outcome = evaluate(event, self.flows.index, ctx)
            except NotStoredError as missing:
                await self._registries.bases.store(missing)
                continue
            break
        try:
            event_id = await self._store.record(
                event, outcome, key=None if key is None else short_key(f"{key}\n{pack_id}")
            )
        except OutcomeUnknownError:  # it may be stored
            self._follow(outcome)
            raise
        self._follow(outcome)
        return event_id, event_id == event.event_id

    def _follow(self, outcome: Evaluation, claimed: Sequence[Claimed] = ()) -> None:
        """Notify waiting callers of new actions but those claimed, and the timer of due times."""
        if outcome.actions:
            gone = {each.action_id for each in claimed}
            self._long_polls.notify(
                action.routing_key
                for action in outcome.actions
                if action.not_before is None and action.action_id not in gone
            )
            self._timer.expect(
                action.not_before for action in outcome.actions if action.not_before is not None
            )

    async def take(
        self,
        pack_id: str,
        action_name: str | None = None,
        *,
        limit: int = 1,
        wait: timedelta = timedelta(0),
    ) -> Sequence[Claimed]:
        """Claim the oldest actions available to the pack, at most `limit`, for this caller alone.

        Without any, wait for the first. May be cancelled at any time: actions about to be delivered
        go to other callers.
        """
        now = self._clock()
        sender = await self.packs.sender(pack_id, now)
        if not wait:
            return await self._claim(sender, action_name, limit, now)
        until = self._monotonic() + wait.total_seconds()
        subscriber = self._long_polls.subscribe(sender, action_name)
        try:
            while True:
                with subscriber.polling():
                    claimed = await self._claim(sender, action_name, limit, self._clock())
                if claimed or not await subscriber.wait(until - self._monotonic()):
                    return claimed
        finally:
            self._long_polls.unsubscribe(subscriber)

    @property
    def waiting_count(self) -> int:
        """The number of callers waiting for actions."""
        return len(self._long_polls)

    async def _claim(
        self, sender: PackRef, action_name: str | None, limit: int, now: datetime
    ) -> Sequence[Claimed]:
        claimed = await self._store.claim(
            sender, now, action_name=action_name, limit=limit, seed=self._seeds()
        )
        return await self._hand_out(claimed)

    async def _hand_out(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Return claimed actions with their secrets; on any failure, take them back."""
        if not claimed:
            return []
        self._timer.expect(each.expires_at for each in claimed if each.expires_at is not None)
        try:
            return [
                revealed for each in claimed if (revealed := await self._reveal(each)) is not None
            ]
        except BaseException:  # on any failure, also a cancelled caller, they are not delivered
            await asyncio.shield(self.release_claims(claimed))
            raise

    async def _reveal(self, claimed: Claimed) -> Claimed | None:
        """Return a command with its secrets; None if a secret is gone, which ends the action."""
        try:
            text = self._vault.reveal(claimed.input)
        except UnavailableError as error:
            payload = msgspec.json.encode(error.message)
            await self._resolve(
                await self._store.get_action(claimed.action_id), "failed", None, payload
            )
            return None
        return claimed if text is claimed.input else msgspec.structs.replace(claimed, input=text)

    async def release_claims(self, claimed: Iterable[Claimed]) -> None:
        """Take back undelivered actions, now or later; lost or completed ones stay as they are."""
        with suppress(UnavailableError):
            await self._claim_releaser.release(claimed)

    async def complete(
        self,
        pack_id: str,
        action_id: str,
        new_event: NewEvent,
        *,
        lease: str | None = None,
        take: int = 0,
    ) -> Sequence[Claimed]:
        """Accept the result of an action: an event, and the continuation of its execution.

        The same result again changes nothing. Raise `ConflictError` if the action is not pending or
        not this pack's, and `LateError` if it was lost before; then the result is kept, but not
        applied. With `take`, claim up to so many actions for the caller afterwards, as `take` does
        without waiting; the result is accepted even if that fails.
        """
        ctx = self._new_context()
        sender = await self.packs.sender(pack_id, ctx.now)
        failure = is_failure(new_event, await self.packs.known(pack_id))
        event = msgspec.structs.replace(_event(sender, new_event, ctx), failure=failure)
        claim = ClaimOrder(sender, ctx.now, take, self._seeds()) if take else None
        claimed = await self._finish(
            action_id, event, ctx, lambda snapshot: rule_on_result(event, snapshot, lease), claim
        )
        try:
            return await self._hand_out(claimed)
        except UnavailableError:
            return ()

    async def _finish(
        self,
        action_id: str,
        event: Event,
        ctx: EvaluationContext,
        rule: Callable[[ActionSnapshot], LateResult | bool],
        claim: ClaimOrder | None = None,
    ) -> Sequence[Claimed]:
        decide = self._decider.on_result(event, ctx, rule)

        async def finish() -> tuple[Evaluation | LateResult | None, Sequence[Claimed]]:
            if claim is None:
                return await self._store.finish(action_id, event, decide), ()
            return await self._store.finish_and_claim(action_id, event, decide, claim)

        try:
            decision, claimed = await self.flows.with_versions(finish)
        except OutcomeUnknownError:
            self._long_polls.notify_all()
            self._timer.expect([self._clock()])
            raise
        except UnreadableError as error:
            raise UnavailableError(
                f"{error.message} Nothing was changed; send the result again later."
            ) from error
        if isinstance(decision, LateResult):
            await self.release_claims(claimed)
            raise LateError
        if decision is not None:
            self._follow(decision, claimed)
        return claimed

    async def heartbeat(
        self, pack_id: str, action_id: str, lease: str | None = None
    ) -> datetime | None:
        """Extend the lease of a pack on an action; return its new end, None if there is no limit.

        Raise `ConflictError` if the action no longer belongs to this attempt.
        """
        now = self._clock()
        sender = await self.packs.sender(pack_id, now)
        return await self._store.extend(
            action_id, now, lambda snapshot: check_may_extend(sender, snapshot, lease)
        )

    async def return_action(
        self, pack_id: str, action_id: str, lease: str | None, revision: int
    ) -> None:
        """Return an action that a pack has claimed but not begun, as if it had not been handed out.

        The `lease`, or for an action without a time limit the `revision`, is that of the claim.
        Raise `ConflictError` if the action is not pending, or was claimed again since.
        """
        now = self._clock()
        sender = await self.packs.sender(pack_id, now)
        address = await self._store.release(
            action_id,
            now,
            lambda snapshot: check_may_return(sender, snapshot, lease, revision),
            counts=False,
        )
        self._long_polls.notify([address])

    async def resolve(
        self,
        action_id: str,
        resolution: Resolution,
        *,
        name: str | None = None,
        payload: bytes | None = None,
        by: Author = SERVER,
    ) -> None:
        """Resolve an action whose pack reports no result: as succeeded or failed, or for a retry.

        The first two make an event of the given name (Resolved, or FATAL for a failure) in the name
        of the action's pack, which is its result. Raise `ConflictError` unless the action is
        PENDING or UNKNOWN.
        """
        check("The event", name_problems({"event": name or RESOLVED}))
        async with self._registries.log.exclusive():
            action = await self._store.get_action(action_id)
            is_open(action)
            after = resolution_state(resolution, name, payload)
            async with self._registries.log.record_change(
                by, resource_key("action", action_id), action_state(action), after, "resolved"
            ):
                await self._resolve(action, resolution, name, payload)

    async def _resolve(
        self, action: Action, resolution: Resolution, name: str | None, payload: bytes | None
    ) -> None:
        if resolution == "retry":
            self._long_polls.notify(
                [await self._store.release(action.action_id, self._clock(), accept, counts=True)]
            )
            return
        ctx = self._new_context()
        event = result_of(resolution, action, name, payload, ctx)
        await self._finish(action.action_id, event, ctx, is_open)

    # ----------------------------------------------------------------------------------------- time

    async def process_due(self) -> datetime | None:
        """Process due timers: retry or end actions, run scheduled steps; return the next time."""
        return await self._scheduler.process_due()

    async def run_scheduler(self) -> None:
        """Process timers when they are due, until cancelled; failures are retried."""
        await self._scheduler.run(
            self.loops.loop("Processing due timers", LOGGER, is_essential=True)
        )

    def _new_context(self, now: datetime | None = None) -> EvaluationContext:
        datastore = self.data.snapshot
        return EvaluationContext(
            now=now or self._clock(),
            seed=self._seeds(),
            datastore=datastore,
            monotonic=self._monotonic,
            secret=self._vault.placeholder_for,
            allowance=self._allowance,
            basis_number=partial(self._registries.bases.number, datastore),
        )

    def _new_id(self) -> str:
        return self._new_context().new_id()

    # ---------------------------------------------------------------------------------- maintenance

    async def run_maintenance(self) -> None:
        """Do periodic work, for every few seconds: last-seen times, dead packs, retention."""
        now = self._clock()
        await run_all(
            self._registries.retry_reading,
            self._claim_releaser.retry,
            self.packs.store_seen,
            self.tokens.store_uses,
            self._registries.log.run_maintenance,
            self.hooks.calls.store,
            partial(self.packs.delete_dead, self._maintenance),
            partial(self._retention.run, now),
        )
