"""The MongoDB store: any number of servers on one database, maybe of an existing installation."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from flyteops.background import BackgroundLoop
from flyteops.errors import (
    BusyError,
    ConflictError,
    FlyteError,
    NotFoundError,
    OutcomeUnknownError,
    StoreError,
)
from flyteops.model import (
    Action,
    DataItem,
    Evaluation,
    Event,
    EventRecord,
    Execution,
    FlowVersion,
    Note,
    Pack,
    PackRef,
    RoutingKey,
)
from flyteops.storage.base import (
    ChangeCounters,
    Check,
    Claimed,
    Decide,
    ProcessedTimers,
    Store,
    TimerKey,
    TimerRules,
)
from flyteops.storage.finish import FinishRequest
from flyteops.storage.mongodb import dump, flow, queries, retention
from flyteops.storage.mongodb.actions import ActionCollection
from flyteops.storage.mongodb.client import DatabaseClient
from flyteops.storage.mongodb.conversion import Conversion
from flyteops.storage.mongodb.driver import Database
from flyteops.storage.mongodb.identity import Identity
from flyteops.storage.mongodb.item import delete_item, list_items, save_item
from flyteops.storage.mongodb.later import WRITING, store_results, update_copies
from flyteops.storage.mongodb.legacy import look_again
from flyteops.storage.mongodb.note import delete_note, delete_notes, list_notes, save_note
from flyteops.storage.mongodb.notify import Notifier
from flyteops.storage.mongodb.pack import delete_pack, find_pack, list_packs, save_pack, touch_packs
from flyteops.storage.mongodb.queue import ClaimRequest, claimed_with
from flyteops.storage.mongodb.schema import make_indexes, prepare
from flyteops.storage.mongodb.timer import Timer, concerns_all, renew
from flyteops.storage.pending import PendingWork
from flyteops.storage.query import (
    ActionFilter,
    ActionStatus,
    EventFilter,
    ExecutionFilter,
    Page,
    Purged,
    PurgedVersions,
    Retention,
    Rows,
    VersionBound,
)
from flyteops.storage.record import Checkpoint, Stored
from flyteops.storage.rules import TimerBatch, available_actions, check_timetables, closed
from flyteops.storage.undelivered import GIVING_BACK, ClaimTokens, Undelivered, still_claimed
from flyteops.transition import LateResult, ScheduleEntry

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.store")

FASTER = 200
"""The number of times a decision is repeated because others changed the execution meanwhile."""

YEAR = timedelta(seconds=31_557_600)


class MongoStore(Store):
    """A store in a MongoDB database.

    `keep_for` is the maximum time for which the server itself keeps actions. `name` is the
    database's name in messages, `limit` bounds the concurrent verbs.
    """

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        keep_for: timedelta | None = None,
        name: str = "The database",
        limit: int = 5000,
    ) -> None:
        self._url, self._shown = url, name
        self._client = DatabaseClient(url, name, limit=limit)
        self._notifier = Notifier(self._client, self._pass_on, self._loop)
        self._identity = Identity(self._client, name, self._notifier.announcing)
        self._client.gate = self._identity.check
        self._keep_for = keep_for or YEAR
        self._actions = ActionCollection()
        self._timer = Timer(self._actions)
        self._is_open = False
        self._tell: Callable[[Sequence[RoutingKey]], None] = lambda _: None
        self._pending = PendingWork()
        self._name = secrets.token_hex(6)
        self._claims = itertools.count(1)
        self._conversion = Conversion(
            self._client, self._actions.queues, self._name, self._make_indexes
        )
        self._undelivered = Undelivered(self._find_claimed, self._return, self._loop)
        self._is_stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self._is_open:
            raise StoreError("The store is open already.")
        await self._client.open()
        try:
            self._identity.forget()
            await self._client.run(self._prepare)
        except BaseException:  # on any error, release the connections
            await self._client.close()
            raise
        self._is_open = True
        self._notifier.start()
        self._is_stopping.clear()
        self._writing = asyncio.ensure_future(
            self._actions.later.run(self._client, self._loop(WRITING), self._is_stopping)
        )
        self._undelivered.start()
        self._conversion.start(self._loop("Taking over the executions of an earlier server"))

    async def _prepare(self, database: Database) -> None:
        await self._conversion.look(database)
        await prepare(database, self._keep_for, is_large=not self._conversion.is_done)
        has_marked = await self._identity.has_marked_queues(database)
        if not has_marked and await queries.has_open_executions(database):
            await self._actions.queues.restore(database)
        await self._identity.begin(database)
        await self._actions.continue_numbers(database)
        await self._actions.complete_pending(database, patience=0)
        if self._conversion.is_done:
            await self._actions.queues.add_routes(database)
            await update_copies(database)
        await look_again(database, self._actions.queues)

    async def _make_indexes(self, database: Database) -> None:
        await make_indexes(database, self._keep_for)

    def warnings(self) -> Sequence[str]:
        return [
            *([self._client.warning] if self._client.warning else []),
            *self._conversion.warnings(),
        ]

    async def close(self) -> None:
        await self._conversion.stop()
        await self._undelivered.stop()
        self._is_open = False
        await self._notifier.stop()
        await self._pending.wait()
        await self._stop_writing()
        await self._client.close()

    async def _stop_writing(self) -> None:
        """Carry out the deferred writes; the next server carries out those that fail."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        self._is_stopping.set()
        await writing
        with suppress(FlyteError):
            await self._write_deferred()

    async def _write_deferred(self) -> None:
        """Carry out the writes that were deferred until now."""
        if not self._actions.later.is_empty:
            await self._client.run(self._actions.later.write)

    def _loop(self, name: str) -> BackgroundLoop:
        return self.loops.loop(name, LOGGER)

    def _pass_on(self, addresses: Sequence[RoutingKey]) -> None:
        self._tell(addresses)

    def listen(self, tell: Callable[[Sequence[RoutingKey]], None]) -> None:
        self._tell = tell

    async def read_change_counters(self) -> ChangeCounters:
        async def look(database: Database) -> ChangeCounters:
            around = await queries.read_change_counters(database)
            await self._identity.look_at_all(database)
            return around

        return await self._client.read(look)

    async def ping(self) -> None:
        await self._write(
            lambda database: database.flyte_number.update_one(
                {"_id": "ping"}, {"$inc": {"value": 1}}, upsert=True
            )
        )

    async def _write(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Run work that may be repeated."""
        return await self._whole(self._client.read(work))

    async def _repeat(self, work: Callable[[Database, bool], Awaitable[T]]) -> T:
        """Run work that can detect whether it was done before."""
        return await self._whole(self._client.repeat(work))

    async def _get(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Read a record by its name."""
        try:
            return await self._client.read(work)
        except NotFoundError:
            await self._identity.confirm()
            raise

    async def _whole(
        self, work: Coroutine[Any, Any, T], *, may_be_lost: Callable[[], bool] = lambda: True
    ) -> T:
        """Complete the work even if the caller goes away meanwhile.

        Return only if it was done in the database that the store was opened on; unless it may have
        been done in another one (`may_be_lost`, called when it is done), that need not be checked.
        """
        if not self._is_open:
            work.close()
            raise closed()
        return await self._pending.complete(self._confirmed(work, may_be_lost))

    async def _confirmed(self, work: Coroutine[Any, Any, T], may_be_lost: Callable[[], bool]) -> T:
        try:
            done = await work
        except (NotFoundError, ConflictError):
            await self._identity.confirm()
            raise
        if not may_be_lost():
            return done
        try:
            await self._identity.confirm()
        except FlyteError as error:
            raise OutcomeUnknownError(
                f"It is unknown whether the change is kept. {error.message}"
            ) from error
        return done

    async def _until_done(
        self,
        work: Callable[[Database, bool], Awaitable[T | None]],
        fills_queues: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run work on an action until no other server was faster.

        `fills_queues` then returns whether it created others. Otherwise it has changed an existing
        document, and need not be confirmed.
        """

        async def run() -> T:
            for tried in range(FASTER):
                done = await self._client.repeat(work)
                if done is not None:
                    return done
                await asyncio.sleep(0.0005 * tried)
            raise BusyError

        return await self._whole(run(), may_be_lost=fills_queues)

    # ---------------------------------------------------------------------------------------- packs

    async def save_pack(self, pack: Pack) -> None:
        await self._write(partial(save_pack, pack=pack))

    async def find_pack(self, pack_id: str) -> Pack | None:
        return await self._client.read(partial(find_pack, pack_id=pack_id))

    async def list_packs(self) -> Rows[Pack]:
        return await self._client.read(list_packs)

    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        delete = partial(delete_pack, pack_id=pack_id, unless_seen_since=unless_seen_since)
        await self._repeat(delete)

    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        await self._write(partial(touch_packs, seen=seen))

    # ---------------------------------------------------------------------------------------- flows

    async def save_flow(
        self, version: FlowVersion, timetables: Sequence[ScheduleEntry] = ()
    ) -> None:
        check_timetables(version, timetables)
        await self._repeat(partial(flow.save_flow, version=version, timetables=timetables))

    async def list_flows(self) -> Rows[FlowVersion]:
        return await self._client.read(flow.list_flows)

    async def list_current(self) -> Mapping[str, str]:
        return await self._client.read(flow.list_current)

    async def delete_flow(self, name: str) -> None:
        await self._repeat(partial(flow.delete_flow, name=name))

    async def get_flow_version(self, uuid: str) -> FlowVersion:
        return await self._get(partial(flow.get_version, uuid=uuid))

    # ------------------------------------------------------------------------------------ datastore

    async def save_item(self, item: DataItem) -> bool:
        return await self._write(partial(save_item, item=item))

    async def list_items(self) -> Rows[DataItem]:
        return await self._client.read(list_items)

    async def delete_item(self, key: str) -> None:
        await self._repeat(partial(delete_item, key=key))

    # ---------------------------------------------------------------------------------------- notes

    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        await self._repeat(partial(save_note, note=note, replaces=replaces))

    async def list_notes(
        self,
        kind: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Sequence[Note]:
        return await self._client.read(
            partial(list_notes, kind=kind, after=after, limit=limit, backwards=backwards)
        )

    async def delete_note(self, kind: str, key: str) -> None:
        await self._repeat(partial(delete_note, kind=kind, key=key))

    async def delete_notes(self, kind: str, *, until: str, limit: int) -> int:
        return await self._write(partial(delete_notes, kind=kind, until=until, limit=limit))

    # ------------------------------------------------------------------------- the life of an event

    async def record(self, event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        async def write(database: Database, again: bool) -> str:
            event_id = await self._actions.record(database, event, outcome, key, is_again=again)
            self._announce(outcome)
            return event_id

        return await self._repeat(write)

    def _announce(self, outcome: Evaluation) -> None:
        self._notifier.announce(available_actions(outcome))

    async def claim(
        self,
        pack: PackRef,
        at: datetime,
        *,
        action_name: str | None = None,
        limit: int = 1,
        seed: bytes = b"",
    ) -> Sequence[Claimed]:
        tokens = ClaimTokens(f"{self._name}-{next(self._claims)}")
        claiming = asyncio.ensure_future(
            self._claim(ClaimRequest(pack, at, action_name, limit, seed, tokens))
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # A claim without a caller is returned before the caller is gone, if the server answers
            # soon, or else later.
            giving_back = self._undelivered.give_back(claiming, at)
            await asyncio.wait([self._pending.start(giving_back)], timeout=GIVING_BACK)
            raise

    async def _claim(self, asked: ClaimRequest) -> list[Claimed]:
        async def write(database: Database, again: bool) -> list[Claimed]:
            await self._conversion.for_claim(database, asked.pack, asked.command, asked.limit)
            return await self._actions.queues.claim(database, asked, is_again=again)

        try:
            # Actions that were handed out existed: only an empty answer might be wrong, which
            # `read_change_counters` detects.
            claimed = await self._whole(self._client.repeat(write), may_be_lost=lambda: False)
        except FlyteError:  # some may have been taken before the error
            self._undelivered.look_for(asked.tokens.all, asked.at)
            raise
        self._undelivered.look_for(asked.tokens.unanswered, asked.at)
        return claimed

    async def _find_claimed(self, tokens: Sequence[str]) -> Sequence[tuple[str, int]]:
        return await self._client.read(partial(claimed_with, tokens=tokens))

    async def _return(self, action_id: str, revision: int, at: datetime) -> None:
        """Make an undelivered action available again."""
        address = await self._release(action_id, at, still_claimed(revision), counts=False)
        self._tell([address])
        self._notifier.announce([address])

    async def finish(
        self, action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        request = FinishRequest(action_id, result, decide)

        async def write(database: Database, again: bool) -> bool | None:
            is_done = await self._actions.finish(database, request, is_again=again)
            if is_done and isinstance(request.decision, Evaluation):
                self._announce(request.decision)
            return is_done or None

        await self._until_done(write, lambda: bool(request.actions))
        return request.decision

    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        async def write(database: Database, _again: bool) -> tuple[datetime | None] | None:
            return await self._timer.extend(database, action_id, at, check)

        return (await self._until_done(write))[0]

    async def release(
        self, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey:
        address = await self._release(action_id, at, check, counts=counts)
        self._notifier.announce([address])
        return address

    async def _release(
        self, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey:
        async def write(database: Database, _again: bool) -> RoutingKey | None:
            return await self._timer.release(database, action_id, at, check, counts=counts)

        return await self._until_done(write)

    async def process_due(
        self,
        at: datetime,
        rules: TimerRules,
        *,
        limit: int = 100,
        shift: timedelta | None = None,
        leave_out: Collection[TimerKey] = (),
    ) -> ProcessedTimers:
        async def work(database: Database) -> ProcessedTimers:
            return await self._timer.process_due(
                database, at, TimerBatch(rules, limit, leave_out, concerns_all), shift
            )

        advanced = await self._whole(self._client.run(work))
        self._notifier.announce(advanced.arrived)
        return advanced

    async def renew_leases(
        self, at: datetime, *, if_unattended_for: timedelta | None = None
    ) -> bool:
        async def work(database: Database) -> bool:
            return await renew(database, at, if_unattended_for)

        return await self._write(work)

    # ---------------------------------------------------------------------------------------- audit

    async def list_executions(
        self, which: ExecutionFilter, start: int, limit: int
    ) -> Page[Execution]:
        await self._write_deferred()

        async def read(database: Database) -> Page[Execution]:
            await self._conversion.for_executions(database, which, start + limit)
            page = await queries.list_executions(database, which, start, limit)
            if self._conversion.is_done:
                return page
            await self._conversion.for_each(database, [run.correlation_id for run in page])
            return await queries.list_executions(database, which, start, limit)

        return await self._client.read(read)

    async def get_execution(self, correlation_id: str) -> Execution:
        async def read(database: Database) -> Execution:
            await self._conversion.for_each(database, [correlation_id])
            return await queries.get_execution(database, correlation_id)

        return await self._get(read)

    async def get_action(self, action_id: str) -> Action:
        async def read(database: Database) -> Action:
            await self._conversion.for_action(database, action_id)
            return await queries.get_action(database, action_id)

        return await self._get(read)

    async def list_actions(
        self, which: ActionFilter, start: int, limit: int
    ) -> Sequence[ActionStatus]:
        async def read(database: Database) -> Sequence[ActionStatus]:
            await self._conversion.for_actions(database, which, start + limit)
            has_foreign = self._conversion.has_foreign
            return await queries.list_actions(
                database, which, start, limit, has_foreign=has_foreign
            )

        return await self._client.read(read)

    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        await self._write_deferred()

        async def read(database: Database) -> Page[EventRecord]:
            await store_results(database)
            return await queries.list_events(database, which, start, limit)

        return await self._client.read(read)

    async def get_event(self, event_id: str) -> EventRecord:
        await self._write_deferred()
        look = partial(queries.get_event, event_id=event_id)
        with suppress(NotFoundError):
            return await self._client.read(look)
        await self._client.read(store_results)
        return await self._get(look)

    async def find_unused_bases(self, numbers: Collection[int]) -> Collection[int]:
        return await self._get(partial(queries.find_unused_bases, numbers=numbers))

    # --------------------------------------------------------------------------------------- growth

    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        async def work(database: Database) -> Purged:
            await self._actions.complete_pending(database)
            if self._conversion.is_done:
                await self._actions.queues.add_routes(database)
            if not self._conversion.is_done:  # the oldest ones may not be known yet
                return Purged(0, 0, more=False)
            await self._actions.queues.remove_unused(database)
            return await retention.purge(database, what, limit)

        return await self._write(work)

    async def purge_versions(self, what: VersionBound, *, limit: int = 100) -> PurgedVersions:
        async def work(database: Database) -> PurgedVersions:
            # Unconverted executions refer to versions, too.
            if not await self._conversion.is_complete(database):
                return PurgedVersions(0, 0)
            return await retention.purge_versions(database, what, limit)

        return await self._write(work)

    # ------------------------------------------------------------------------------ dump and backup

    async def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        if self._is_open:
            await self._write_deferred()
        client = DatabaseClient(self._url, self._shown, limit=1)  # the store need not be open
        await client.open()
        try:
            conversion = Conversion(
                client, ActionCollection().queues, self._name, self._make_indexes
            )
            async for part in client.stream(
                partial(dump.export, conversion=conversion, partly=partly)
            ):
                yield part
        finally:
            await client.close()

    async def begin_load(self) -> Checkpoint:
        return await self._write(dump.begin)

    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        await self._write(
            partial(dump.load, actions=self._actions, records=records, checkpoint=checkpoint)
        )

    async def end_load(self) -> None:
        await self._write(dump.end)
