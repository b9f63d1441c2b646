"""The service: one object with all use cases.

Flows, packs and datastore items are kept in memory as well, so that an event is evaluated without
reading the store; changes reach the memory after the store has them and before the caller gets its
answer.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from flyteops.background import SEE_LOG, BackgroundLoops
from flyteops.change import SERVER, Author, Change, State, Thing, thing
from flyteops.engine import evaluate, evaluate_result, prepare, timetables
from flyteops.engine.context import Allowance, Moment
from flyteops.engine.failure import is_failure
from flyteops.errors import (
    ConflictError,
    LateError,
    OutcomeUnknownError,
    StoreError,
    UnavailableError,
    UnreadableError,
)
from flyteops.model import (
    FATAL,
    Action,
    ActionState,
    DataItem,
    Event,
    EventRecord,
    Execution,
    Flow,
    FlowVersion,
    Happening,
    Outcome,
    Pack,
    PackDeclaration,
    PackRef,
    Progress,
    pack_id,
)
from flyteops.name import check, name_problems, short_key
from flyteops.ruling import Late
from flyteops.service import mask
from flyteops.service.aside import READ, VERSION, Aside, HealthProblem
from flyteops.service.changelog import ChangeFilter, ChangeLog
from flyteops.service.flow import FlowBook
from flyteops.service.handback import HandBack
from flyteops.service.hook.book import HookBook
from flyteops.service.hook.reception import Reception
from flyteops.service.housekeeping import Housekeeping, do_all
from flyteops.service.item import ItemBook
from flyteops.service.pack import PackRoll
from flyteops.service.retention import RetentionTask
from flyteops.service.seed import Seeds, utc_now
from flyteops.service.state import of_action, of_resolution
from flyteops.service.timekeeper import Timekeeper
from flyteops.service.timer import ClockWatch
from flyteops.service.token import TokenBook
from flyteops.service.vault import Vault
from flyteops.service.verdict import Resolution, accept, check_may_complete, is_open, rule_on_result, shown_lease
from flyteops.service.waiting import WaitingRoom
from flyteops.storage.base import ActionFilter, ActionStatus, Claimed, EventFilter, ExecutionFilter, Page, Store, Surroundings

if TYPE_CHECKING:  # cryptography takes long to load, and few servers have secrets
    from flyteops.service.seal import Seals

LOGGER = logging.getLogger("flyte.service")

T = TypeVar("T")

RESOLVED = "Resolved"
"""The default event by which a person reports that a command has succeeded."""

HEALTH_SECONDS = 2.0
"""The time for the store to answer; a health check does not wait longer."""


def _event(sender: PackRef, told: Happening, moment: Moment) -> Event:
    check("The event", name_problems({"event": told.name}))
    return Event(moment.new_id(), told.name, sender, told.payload, moment.now, told.created_at, told.created_nanosecond)


class Service:
    """Flyte's use cases on one store, for one event loop. Call `start` before anything else."""

    def __init__(  # noqa: PLR0913 - all that is not pure comes from outside
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        seeds: Callable[[], bytes] | None = None,
        housekeeping: Housekeeping | None = None,
        seals: "Seals | None" = None,
        longest_body: int = 10 * 1024 * 1024,
    ) -> None:
        self._allowance = Allowance.for_bodies(longest_body)
        self._store = store
        watch = ClockWatch(clock, monotonic)
        self._clock = clock = watch.now
        self._monotonic = monotonic
        self._seeds = seeds or Seeds(os.urandom(32))
        self._housekeeping = housekeeping or Housekeeping()
        self._aside = Aside(clock, monotonic)
        self._changes = ChangeLog(store, clock, self._catch_up, self._states, self._aside.is_unreadable)
        self._packs = PackRoll(store, self._changes, self._aside)
        self.tokens = TokenBook(store, clock, self._changes, self._aside)
        self.hooks = HookBook(store, clock, self._changes, self._packs, self._aside, seals)
        self.reception = Reception(self.hooks, self._accept, clock, store.get_event)
        self._flows = FlowBook(store, self._changes, self._aside)
        self._vault = Vault(store, self._changes, self._aside, seals)
        self._items = ItemBook(store, self._vault, self._changes, self._aside)
        self._room = WaitingRoom()
        store.listen(self._room.announce)
        self._hand_back = HandBack(store, clock, self._room.announce)
        self._is_stopping = False
        self.loops = store.loops = BackgroundLoops(monotonic)
        self._retention = RetentionTask(store, self._changes, self._housekeeping, self.loops.loop)
        self._time = Timekeeper(store, watch, self._flows, self._aside, self._moment)
        self._time.announce = self._room.announce
        self._around = Surroundings()
        self._awaits = "The server has not started yet."

    async def start(self) -> None:
        """Load the data kept in memory; raise `StoreError` if the store is not ready for use."""
        self._around = await self._store.look_around()
        if self._around.is_loading:
            raise StoreError(
                "The store is only partly loaded. Wait for `flyte move` or `flyte restore` to finish, or run it again."
            )
        await self._packs.refresh()
        self._packs.served_since = self._clock()
        self._flows.load(await self._store.list_flows())
        await self._items.refresh()
        await self._vault.load()
        await self.tokens.refresh()
        await self.hooks.refresh()
        await self._changes.start()
        await self._vault.renew()
        await self.hooks.start()
        await self._time.note_presence()
        self._awaits = ""

    def wait_for_store(self, reason: str) -> None:
        """Record the reason why `start` is not possible yet."""
        self._awaits = reason

    @property
    def is_started(self) -> bool:
        return not self._awaits

    def check_started(self) -> None:
        """Raise `UnavailableError` before the data is loaded."""
        if self._awaits:
            raise UnavailableError(self._awaits)

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of flows and packs in memory."""
        return len(self._flows), len(self._packs)

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use the store, so that `refresh` must be called regularly."""
        return self._store.is_shared

    async def refresh(self) -> None:
        """Load changes that other servers made, and compare the clock with the store's."""
        # Not during changes made here: data read before them would undo them.
        async with self._changes.lock:
            await self._catch_up()
            self._time.check_clock(self._around.now)

    async def _catch_up(self) -> None:
        around = await self._store.look_around()
        before, self._around = self._around, around
        try:
            if around.packs != before.packs:
                await self._packs.refresh()
            if around.flows != before.flows:
                await self._flows.refresh()
            if around.items != before.items:
                await self._items.refresh()
            if around.notes != before.notes:
                await self._vault.load()
                await self.tokens.refresh()
                await self.hooks.refresh()
        except BaseException:  # on any failure, everything is checked again next time
            self._around = Surroundings(-1, -1, -1, -1)
            raise

    def _states(self) -> Mapping[Thing, State]:
        """Return the states of all resources that the change log covers."""
        books = (self._flows, self._items, self._vault, self._packs, self.tokens, self.hooks)
        return {thing: state for book in books for thing, state in book.states.items()}

    def now(self) -> datetime:
        """Return the time of the clock that timestamps come from."""
        return self._clock()

    async def check_health(self) -> None:
        """Return if the store answers; raise `UnavailableError` if it fails or takes too long."""
        self.check_started()
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await self._store.ping()
        except TimeoutError as error:
            raise UnavailableError(f"The store has not answered within {HEALTH_SECONDS:g} s.") from error

    def announce_stop(self) -> None:
        """Announce the coming stop: the server is no longer ready, but does all its work."""
        self._is_stopping = True

    def stop_taking(self) -> None:
        """Begin to stop: release callers that wait for actions; the server is no longer ready."""
        self._is_stopping = True
        self._room.close()

    async def why_not_ready(self, *, details: bool = True) -> Sequence[str]:
        """Return the reasons why the server is not ready, in general terms without `details`."""
        if self._is_stopping:
            return ["The server is stopping."]
        if self._time.clock_fault:
            return [self._time.clock_fault]
        try:
            await self.check_health()
        except (UnavailableError, StoreError) as error:
            return [error.message if details else f"The store cannot be used now{SEE_LOG}"]
        return self.loops.problems(essential=True, details=details)

    def warnings(self, *, details: bool = True) -> Sequence[str]:
        """Return warnings although the server does its work, in general terms without `details`."""
        aside = self._aside.warnings if details else self._aside.summary
        store = [*self._store.warnings(), *self._retention.warnings()]
        if store and not details:
            store = [f"The store needs attention{SEE_LOG}"]
        return [*store, *self.loops.problems(essential=False, details=details), *aside]

    def problems(self) -> Sequence[HealthProblem]:
        """Return the set-aside entries: data that cannot be processed while all else goes on."""
        return self._aside.problems

    async def _retry_reading(self) -> None:
        """Read unreadable data again if its next try is due."""
        if any(not self._aside.waits(key) for key in self._aside.keys(READ) if key.kind != VERSION):
            async with self._changes.lock:
                self._around = Surroundings(-1, -1, -1, -1)
                await self._catch_up()

    # ------------------------------------------------------------------------------------------------------------ packs

    async def register_pack(self, declaration: PackDeclaration, by: Author = SERVER, *, takes_over: bool = True) -> Pack:
        """Create the pack, or replace the one with the same id; see `PackRoll.register`."""
        return await self._packs.register(declaration, self._clock(), by, takes_over=takes_over)

    async def list_packs(self) -> Sequence[Pack]:
        """Return all packs by name and then id, each with the latest time at which it was seen."""
        return await self._packs.list()

    async def get_pack(self, pack_id: str) -> Pack:
        self.check_started()  # the gate calls this before any other request does
        return await self._packs.get(pack_id)

    async def reads_item(self, pack_id: str, key: str) -> bool:
        """Return whether a pack declares that it reads a datastore item."""
        return await self._packs.reads(pack_id, key)

    async def report_presence(self, pack_id: str, instance: str, *, stops: bool) -> int:
        """Record that an instance of a pack is connected, or stops; return the number of others."""
        return await self._packs.report(pack_id, instance, self._clock(), stops=stops)

    async def delete_pack(self, pack_id: str, by: Author = SERVER) -> None:
        """Delete the pack; its events and actions stay in the audit."""
        await self._packs.delete(pack_id, by)

    # -------------------------------------------------------------------------------------------- events and actions

    async def accept_event(self, pack_id: str, told: Happening, *, key: str | None = None) -> str:
        """Accept an event of a pack; on return, the event and all its consequences are durable.

        An event with a `key` that the pack has sent within the last day already is the same one:
        nothing happens, and the id is that of the first.
        """
        return (await self._accept(pack_id, told, key))[0]

    async def _accept(self, pack_id: str, told: Happening, key: str | None) -> tuple[str, bool]:
        """Accept an event; return its id, and whether it is new."""
        moment = self._moment()
        event = _event(await self._packs.sender(pack_id, moment.now), told, moment)
        outcome = evaluate(event, self._flows.index, moment)
        with self._followed(outcome):
            event_id = await self._store.record(event, outcome, key=None if key is None else short_key(f"{key}\n{pack_id}"))
        return event_id, event_id == event.event_id

    @contextmanager
    def _followed(self, outcome: Outcome) -> Iterator[None]:
        """Follow the outcome stored inside, also if that is unknown: it may be stored."""
        try:
            yield
        except OutcomeUnknownError:
            self._follow(outcome)
            raise
        self._follow(outcome)

    def _follow(self, outcome: Outcome) -> None:
        """Notify waiting callers of new actions, and the timer of new due times."""
        if outcome.actions:
            self._room.announce(action.address for action in outcome.actions if action.not_before is None)
            self._time.expect(action.not_before for action in outcome.actions if action.not_before is not None)

    async def take(
        self, pack_id: str, action_name: str | None = None, *, limit: int = 1, wait: timedelta = timedelta(0)
    ) -> Sequence[Claimed]:
        """Claim the oldest actions available to the pack, at most `limit`, for this caller alone.

        Without any, wait for the first. May be cancelled at any time: actions about to be delivered
        go to other callers.
        """
        sender = await self._packs.sender(pack_id, self._clock())
        if not wait:
            return await self._claim(sender, action_name, limit)
        until = self._monotonic() + wait.total_seconds()
        waiter = self._room.enter(sender, action_name)
        try:
            while True:
                with waiter.looking():
                    claimed = await self._claim(sender, action_name, limit)
                if claimed or not await waiter.wait(until - self._monotonic()):
                    return claimed
        finally:
            self._room.leave(waiter)

    @property
    def waiting_count(self) -> int:
        """The number of callers waiting for actions."""
        return len(self._room)

    async def _claim(self, sender: PackRef, action_name: str | None, limit: int) -> Sequence[Claimed]:
        claimed = await self._store.claim(sender, self._clock(), action_name=action_name, limit=limit, seed=self._seeds())
        self._time.expect(each.expires_at for each in claimed if each.expires_at is not None)
        try:
            return [revealed for each in claimed if (revealed := await self._reveal(each)) is not None]
        except BaseException:  # on any failure, also a cancelled caller, they are not delivered
            await asyncio.shield(self.hand_back(claimed))
            raise

    async def _reveal(self, claimed: Claimed) -> Claimed | None:
        """Return a command with its secrets; None if a secret is gone, which ends the action."""
        try:
            text = self._vault.reveal(claimed.input)
        except UnavailableError as error:
            payload = msgspec.json.encode(error.message)
            await self._resolve(await self._store.get_action(claimed.action_id), "failed", None, payload)
            return None
        return claimed if text is claimed.input else msgspec.structs.replace(claimed, input=text)

    async def hand_back(self, claimed: Iterable[Claimed]) -> None:
        """Take back undelivered actions, now or later; lost or completed ones stay as they are."""
        with suppress(UnavailableError):
            await self._hand_back.give(claimed)

    async def complete(self, pack_id: str, action_id: str, told: Happening, *, lease: str | None = None) -> None:
        """Accept the result of an action: an event, and the continuation of its execution.

        The same result again changes nothing. Raise `ConflictError` if the action is not pending or
        not this pack's, and `LateError` if it was lost before; then the result is kept, but not
        applied.
        """
        moment = self._moment()
        sender = await self._packs.sender(pack_id, moment.now)
        failure = is_failure(told, await self._packs.known(pack_id))
        event = msgspec.structs.replace(_event(sender, told, moment), failure=failure)
        await self._finish(action_id, event, moment, lambda progress: rule_on_result(event, progress, lease))

    async def _finish(self, action_id: str, event: Event, moment: Moment, rule: Callable[[Progress], Late | bool]) -> None:
        ruling: Outcome | Late | None = None

        def decide(progress: Progress) -> Outcome | Late | None:
            nonlocal ruling
            ruled = rule(progress)
            if isinstance(ruled, Late):
                ruling = ruled
            elif ruled:
                flow = self._flows.version(progress.flow_name, progress.flow_uuid)
                ruling = (
                    evaluate(event, self._flows.index, moment)
                    if flow is None
                    else evaluate_result(event, self._flows.index, flow, progress, moment)
                )
            else:
                ruling = None
            return ruling

        try:
            await self._flows.with_versions(lambda: self._store.finish(action_id, event, decide))
        except OutcomeUnknownError:
            if isinstance(ruling, Outcome):
                self._follow(ruling)
            raise
        except UnreadableError as error:
            raise UnavailableError(f"{error.message} Nothing was changed; send the result again later.") from error
        if isinstance(ruling, Late):
            raise LateError
        if ruling is not None:
            self._follow(ruling)

    async def heartbeat(self, pack_id: str, action_id: str, lease: str | None = None) -> datetime | None:
        """Extend the lease of a pack on an action; return its new end, None if there is no limit.

        Raise `ConflictError` if the action no longer belongs to this attempt.
        """
        now = self._clock()
        sender = await self._packs.sender(pack_id, now)

        def check(progress: Progress) -> None:
            check_may_complete(sender, progress)
            if progress.timeout is not None and shown_lease(progress, lease).number != progress.attempt:
                raise ConflictError(f"Action {action_id!r} was lost and handed out again.")

        return await self._store.extend(action_id, now, check)

    async def give_back(self, pack_id: str, action_id: str, lease: str | None, revision: int) -> None:
        """Return an action that a pack has claimed but not begun, as if it had not been handed out.

        The `lease`, or for an action without a time limit the `revision`, is that of the claim. Raise
        `ConflictError` if the action is not pending, or was claimed again since.
        """
        now = self._clock()
        sender = await self._packs.sender(pack_id, now)

        def check(progress: Progress) -> None:
            check_may_complete(sender, progress)
            if progress.state is not ActionState.PENDING:
                raise ConflictError(f"Action {action_id!r} is {progress.state}; only a PENDING action can be given back.")
            if progress.timeout is None:
                is_current = revision == progress.revision
            else:
                is_current = bool(lease) and shown_lease(progress, lease).number == progress.attempt
            if not is_current:
                raise ConflictError(f"Action {action_id!r} was given back or lost, and handed out again.")

        self._room.announce([await self._store.release(action_id, now, check, counts=False)])

    async def resolve_action(
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
        async with self._changes.turn():
            action = await self._store.get_action(action_id)
            is_open(action)
            after = of_resolution(resolution, name, payload)
            async with self._changes.recorded(by, thing("action", action_id), of_action(action), after, "resolved"):
                await self._resolve(action, resolution, name, payload)

    async def _resolve(self, action: Action, resolution: Resolution, name: str | None, payload: bytes | None) -> None:
        if resolution == "retry":
            self._room.announce([await self._store.release(action.action_id, self._clock(), accept, counts=True)])
            return
        moment = self._moment()
        sender = PackRef(pack_id(action.pack_name, action.pack_labels), action.pack_name, action.pack_labels)
        event = Event(
            event_id=moment.new_id(),
            name=FATAL if resolution == "failed" else name or RESOLVED,
            pack=sender,
            payload=msgspec.json.encode({"resolution": resolution}) if payload is None else payload,
            received_at=moment.now,
            failure=resolution == "failed",
        )
        await self._finish(action.action_id, event, moment, is_open)

    async def list_actions(self, which: ActionFilter, start: int = 0, limit: int = 50) -> Sequence[ActionStatus]:
        """Return actions, oldest first."""
        return await self._store.list_actions(which, start, limit)

    # ------------------------------------------------------------------------------------------------------------- time

    async def advance(self) -> datetime | None:
        """Process due timers: retry or end actions, run scheduled steps; return the next time."""
        return await self._time.advance()

    async def keep_time(self) -> None:
        """Process timers when they are due, until cancelled; failures are retried."""
        await self._time.keep(self.loops.loop("Processing due timers", LOGGER, is_essential=True))

    def _moment(self) -> Moment:
        return Moment(
            now=self._clock(),
            seed=self._seeds(),
            datastore=self._items.snapshot,
            monotonic=self._monotonic,
            secret=self._vault.refer,
            allowance=self._allowance,
        )

    # ------------------------------------------------------------------------------------------------------------ flows

    async def save_flow(self, flow: Flow, by: Author = SERVER) -> FlowVersion:
        """Make this the current version of the flow of its name; running executions keep theirs.

        A flow that is the current version already is not stored again. Two servers that save the
        same change at the same moment may store a version each.
        """
        version = FlowVersion(uuid=self._moment().new_id(), flow=flow, saved_at=self._clock())
        prepared = prepare(version)
        tables = timetables(prepared, version.saved_at)
        saved = await self._flows.save(prepared, tables, by)
        self._time.expect(table.next_at for table in tables if table.next_at is not None)
        return saved

    async def list_flows(self) -> Sequence[Flow]:
        """Return all flows by name."""
        return self._flows.list()

    async def get_flow(self, name: str) -> Flow:
        return self._flows.get(name)

    async def get_flow_version(self, uuid: str) -> Flow:
        """Return a version of a flow, even one that has been replaced or deleted."""
        return await self._flows.get_version(uuid)

    async def delete_flow(self, name: str, by: Author = SERVER) -> None:
        """Delete the flow; its running executions go on with their version."""
        await self._flows.delete(name, by)

    # -------------------------------------------------------------------------------------------------------- datastore

    async def save_item(self, item: DataItem, by: Author = SERVER, *, keeps_description: bool = False) -> bool:
        """Create or replace a datastore item as `ItemBook.save` does; return True if it is new."""
        return await self._items.save(item, by, keeps_description=keeps_description)

    async def list_items(self) -> Sequence[DataItem]:
        """Return all datastore items by key; secret ones have no value."""
        return self._items.list()

    async def get_item(self, key: str) -> DataItem:
        return self._items.get(key)

    async def delete_item(self, key: str, by: Author = SERVER) -> None:
        await self._items.delete(key, by)

    # ------------------------------------------------------------------------------------------------------------ audit

    async def list_changes(self, which: ChangeFilter, start: int = 0, limit: int = 50) -> Page[Change]:
        """Return entries of the change log, newest first."""
        return mask.changes(self._vault, await self._changes.find(which, start, limit))

    async def get_change(self, seq: int) -> Change:
        return mask.change(self._vault, await self._changes.get(seq))

    async def list_executions(self, which: ExecutionFilter, start: int = 0, limit: int = 50) -> Page[Execution]:
        """Return executions in which one action matches the whole filter, latest activity first."""
        return mask.executions(self._vault, await self._store.list_executions(which, start, limit))

    async def get_execution(self, correlation_id: str) -> Execution:
        return mask.execution(self._vault, await self._store.get_execution(correlation_id))

    async def list_events(self, which: EventFilter, start: int = 0, limit: int = 50) -> Page[EventRecord]:
        """Return events with the decisions on each step, newest first."""
        return mask.records(self._vault, await self._store.list_events(which, start, limit))

    async def get_event(self, event_id: str) -> EventRecord:
        return mask.record(self._vault, await self._store.get_event(event_id))

    # ----------------------------------------------------------------------------------------------------- housekeeping

    async def sweep(self) -> None:
        """Do periodic work, for every few seconds: last-seen times, dead packs, retention."""
        now = self._clock()
        await do_all(
            self._retry_reading,
            self._hand_back.retry,
            self._packs.store_seen,
            self.tokens.store_uses,
            self._changes.sweep,
            self.hooks.calls.store,
            partial(self._packs.delete_dead, now, self._housekeeping),
            partial(self._retention.run, now),
        )
