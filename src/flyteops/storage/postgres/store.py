"""The PostgreSQL store: any number of servers on one database.

Every verb is one statement or one transaction.
"""

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
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from flyteops.background import BackgroundLoop
from flyteops.errors import BusyError, NotFoundError, StoreError, UnavailableError
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
from flyteops.storage.conninfo import Conninfo, parse_conninfo
from flyteops.storage.finish import FinishRequest
from flyteops.storage.pending import PendingWork
from flyteops.storage.postgres import actions, catalog, dump, queries, retention, timer
from flyteops.storage.postgres.batch import Batcher
from flyteops.storage.postgres.connector import Connector
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.identity import check_identity, check_tables, read_identity
from flyteops.storage.postgres.notify import Notifier
from flyteops.storage.postgres.pool import Pool
from flyteops.storage.postgres.queries import SQL
from flyteops.storage.postgres.recent import RecentActions
from flyteops.storage.postgres.schema import migrate
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
    readable,
)
from flyteops.storage.record import Checkpoint, Stored
from flyteops.storage.row import (
    current_of,
    decode_declaration,
    decode_flow,
    item_of,
    name_of,
    pack_of,
    to_instant,
)
from flyteops.storage.rules import (
    TimerBatch,
    available_actions,
    check_timetables,
    closed,
    missing,
)
from flyteops.storage.undelivered import GIVING_BACK, ClaimTokens, Undelivered, still_claimed
from flyteops.transition import LateResult, ScheduleEntry

LOGGER = logging.getLogger("flyte.store")

T = TypeVar("T")

CHANNEL_BINDING = (
    "The URL of the database says channel_binding=require, which the driver cannot do; use"
    " sslmode=verify-full as well, so that nobody can pose as the database."
)

FASTER = 50
"""The number of times a result is decided again because others changed its execution meanwhile."""


def _conninfo(url: str) -> Conninfo:
    try:
        return parse_conninfo(url)
    except ValueError as error:
        raise StoreError(f"The URL of the PostgreSQL database {error}.") from None


class PostgresStore(Store):
    """A store in a PostgreSQL database.

    `size` bounds the concurrent statements, `limit` the waiting verbs. `name` is the database's
    name in messages. Behind a proxy that gives each transaction another connection, `direct_url` is
    the database's own address, or that of a proxy that does not.
    """

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        direct_url: str | None = None,
        name: str = "The database",
        size: int = 10,
        limit: int = 5000,
    ) -> None:
        self._direct_url = direct_url
        self._conninfo = _conninfo(url)
        connector = Connector(self._conninfo, pools_transactions=direct_url is not None)
        self._pool = Pool(connector, name, size=size, limit=limit, prepares=direct_url is None)
        self._shown = name
        self._identity: int | None = None
        self._is_open = False
        self._tell: Callable[[Sequence[RoutingKey]], None] = lambda _: None
        self._pending = PendingWork()
        self._name = secrets.token_hex(6)
        connector = Connector(_conninfo(direct_url or url))
        self._notifier = Notifier(self._pool, connector, self._name, self._pass_on, self._loop)
        self._claims = itertools.count(1)
        self._undelivered = Undelivered(self._find_claimed, self._return, self._loop)
        self._recent = RecentActions()
        self._records: Batcher[actions.EventInsert, str] = Batcher(
            self._together(self._record), limit=limit
        )
        self._claiming: Batcher[actions.ClaimRequest, list[Claimed]] = Batcher(
            self._together(partial(actions.claim, recent=self._recent)),
            limit=limit,
            batch_key=lambda request: request.batch_key,
        )
        self._results: Batcher[FinishRequest, bool] = Batcher(
            self._together(partial(actions.finish, recent=self._recent)), limit=limit
        )

    async def open(self) -> None:
        if self._is_open:
            raise StoreError("The store is open already.")
        if self._conninfo.binds_channel and not self._conninfo.verifies_host:
            LOGGER.warning("%s", CHANNEL_BINDING)
        await self._pool.open(self._prepare)
        if self._direct_url is not None:
            await self._check_direct_url()
        self._is_open = True
        self._notifier.start()
        self._undelivered.start()

    async def _prepare(self, connection: Connection) -> None:
        await migrate(connection)
        self._identity = self._notifier.store = await read_identity(connection)

    async def _check_identity(self) -> None:
        """Raise `UnavailableError` if the tables are not those that the store was opened on."""
        rows = await self._pool.rows(SQL.store_number)
        check_identity(rows[0][0] if rows else None, self._identity, self._shown)

    async def _check_direct_url(self) -> None:
        """Raise `StoreError` when notifications from here do not arrive there.

        Ignore an address that does not answer.
        """
        try:
            await self._notifier.check()
        except UnavailableError:
            return  # the loop that listens reports it, and tries again
        except BaseException:  # on any error, release the connections
            await self._pool.close()
            raise

    async def close(self) -> None:
        self._is_open = False
        await self._notifier.stop()
        await self._pending.wait()
        for batcher in (self._records, self._claiming, self._results):
            await batcher.stop()
        await self._undelivered.stop()
        await self._pool.close()

    def _loop(self, name: str) -> BackgroundLoop:
        return self.loops.loop(name, LOGGER)

    def _pass_on(self, addresses: Sequence[RoutingKey]) -> None:
        self._tell(addresses)

    def listen(self, tell: Callable[[Sequence[RoutingKey]], None]) -> None:
        self._tell = tell

    async def read_change_counters(self) -> ChangeCounters:
        rows = await self._pool.rows(SQL.change_counters)
        numbers = {name: value for name, value, *_ in rows}
        check_identity(numbers.pop("store", None), self._identity, self._shown)
        return ChangeCounters(**numbers, now=rows[0][2], is_loading=rows[0][3])

    async def ping(self) -> None:
        async def write(connection: Connection, _again: bool) -> None:
            await connection.execute(SQL.write_nothing)
            check_identity(await read_identity(connection), self._identity, self._shown)
            await check_tables(connection)

        await self._whole(self._pool.repeat(write, changes=False))

    async def _get(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Read a record by its name."""
        try:
            return await self._pool.read(work)
        except NotFoundError:
            await self._check_identity()
            raise

    def _require_open(self) -> None:
        """Raise `UnavailableError` when the store is closed."""
        if not self._is_open:
            raise closed()

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Complete the work even if the caller goes away meanwhile."""
        if not self._is_open:
            work.close()
            raise closed()
        try:
            return await self._pending.complete(work)
        except NotFoundError:
            await self._check_identity()
            raise

    # ---------------------------------------------------------------------------------------- packs

    async def save_pack(self, pack: Pack) -> None:
        await self._whole(self._pool.transaction(partial(catalog.save_pack, pack=pack)))

    async def find_pack(self, pack_id: str) -> Pack | None:
        rows = await self._pool.rows(SQL.pack, pack_id)
        return next(
            (decode_declaration(declaration).seen(to_instant(at)) for declaration, at in rows), None
        )

    async def list_packs(self) -> Rows[Pack]:
        return Rows.read(await self._pool.rows(SQL.packs), name_of, pack_of)

    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        delete = partial(catalog.delete_pack, pack_id=pack_id, unless_seen_since=unless_seen_since)
        await self._whole(self._pool.transaction_once(delete))

    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        await self._whole(self._pool.repeat(partial(catalog.touch_packs, seen=seen)))

    # ---------------------------------------------------------------------------------------- flows

    async def save_flow(
        self, version: FlowVersion, timetables: Sequence[ScheduleEntry] = ()
    ) -> None:
        check_timetables(version, timetables)
        save = partial(catalog.save_flow, version=version, timetables=timetables)
        await self._whole(self._pool.transaction_once(save))

    async def list_flows(self) -> Rows[FlowVersion]:
        return Rows.read(await self._pool.rows(SQL.flows), name_of, current_of)

    async def list_current(self) -> Mapping[str, str]:
        return dict(map(tuple, await self._pool.rows(SQL.current_versions)))

    async def delete_flow(self, name: str) -> None:
        await self._whole(self._pool.transaction_once(partial(catalog.delete_flow, name=name)))

    async def get_flow_version(self, uuid: str) -> FlowVersion:
        for encoded, at in await self._pool.rows(SQL.flow_version, uuid):
            with readable(f"The flow version {uuid!r}"):
                return FlowVersion(uuid, decode_flow(encoded), to_instant(at))
        await self._check_identity()
        raise missing("flow version", uuid)

    # ------------------------------------------------------------------------------------ datastore

    async def save_item(self, item: DataItem) -> bool:
        return await self._whole(self._pool.transaction(partial(catalog.save_item, item=item)))

    async def list_items(self) -> Rows[DataItem]:
        return Rows.read(await self._pool.rows(SQL.items), name_of, item_of)

    async def delete_item(self, key: str) -> None:
        await self._whole(self._pool.transaction_once(partial(catalog.delete_item, key=key)))

    # ---------------------------------------------------------------------------------------- notes

    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        save = partial(catalog.save_note, note=note, replaces=replaces)
        await self._whole(self._pool.transaction_once(save))

    async def list_notes(
        self,
        kind: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Sequence[Note]:
        if after is None:
            statement = SQL.notes_backwards if backwards else SQL.notes
            rows = await self._pool.rows(statement, kind, limit)
        else:
            statement = SQL.notes_before if backwards else SQL.notes_after
            rows = await self._pool.rows(statement, kind, limit, after)
        return [Note(kind, *row) for row in rows]

    async def delete_note(self, kind: str, key: str) -> None:
        delete = partial(catalog.delete_note, kind=kind, key=key)
        await self._whole(self._pool.transaction_once(delete))

    async def delete_notes(self, kind: str, *, until: str, limit: int) -> int:
        delete = partial(catalog.delete_notes, kind=kind, until=until, limit=limit)
        return await self._whole(self._pool.repeat(delete))

    # ------------------------------------------------------------------------- the life of an event

    async def record(self, event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        self._require_open()
        event_id = await self._records.submit(actions.EventInsert(event, outcome, key))
        self._announce(outcome)
        return event_id

    async def _record(
        self, connection: Connection, entries: Sequence[actions.EventInsert], *, is_again: bool
    ) -> Sequence[str]:
        event_ids = await actions.record(
            connection, entries, store=self._identity, is_again=is_again
        )
        for entry, event_id in zip(entries, event_ids, strict=True):
            if event_id == entry.event.event_id:
                self._recent.create(entry.outcome.actions)
        stored = [event_id for event_id in event_ids if event_id is not None]
        if len(stored) < len(entries):
            check_identity(await read_identity(connection), self._identity, self._shown)
            raise BusyError  # the key that an event came with was removed just now
        return stored

    def _together(
        self, verb: Callable[..., Awaitable[Sequence[T]]]
    ) -> Callable[[Sequence[Any]], Awaitable[Sequence[T]]]:
        """Return a function that runs a verb for many callers, and detects earlier runs."""

        async def work(questions: Sequence[Any]) -> Sequence[T]:
            async def write(connection: Connection, again: bool) -> Sequence[T]:
                return await verb(connection, questions, is_again=again)

            return await self._pool.repeat(write)

        return work

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
        asked = actions.ClaimRequest(pack, at, action_name, limit, seed, tokens)
        self._require_open()
        claiming = self._claiming.submit(asked)
        try:
            return await self._claimed(asked, asyncio.shield(claiming))
        except asyncio.CancelledError:
            # A claim without a caller is returned before the caller is gone, if the server answers
            # soon, or else later.
            giving_back = self._undelivered.give_back(self._claimed(asked, claiming), at)
            await asyncio.wait([self._pending.start(giving_back)], timeout=GIVING_BACK)
            raise

    async def _claimed(
        self, asked: actions.ClaimRequest, claiming: Awaitable[list[Claimed]]
    ) -> list[Claimed]:
        """Return the answer to a claim; have those returned that nobody will get."""
        try:
            claimed = await claiming
        except UnavailableError:
            self._undelivered.look_for(asked.tokens.all, asked.at)
            raise
        self._undelivered.look_for(asked.tokens.unanswered, asked.at)
        return claimed

    async def _find_claimed(self, tokens: Sequence[str]) -> Sequence[tuple[str, int]]:
        return [(row[0], row[1]) for row in await self._pool.rows(actions.CLAIMED_WITH, tokens)]

    async def _return(self, action_id: str, revision: int, at: datetime) -> None:
        """Make an undelivered action available again."""
        release = partial(
            timer.release, action_id=action_id, at=at, check=still_claimed(revision), counts=False
        )
        address = await self._pool.transaction(release)
        self._tell([address])
        self._notifier.announce([address])

    async def finish(
        self, action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        self._require_open()
        try:
            decision = await self._finish(FinishRequest(action_id, result, decide))
        except NotFoundError:
            await self._check_identity()
            raise
        if isinstance(decision, Evaluation):
            self._announce(decision)
        return decision

    async def _finish(self, request: FinishRequest) -> Evaluation | LateResult | None:
        for tried in range(FASTER):
            if await self._results.submit(request):
                return request.decision
            await asyncio.sleep(0.001 * tried)
        raise BusyError

    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        return await self._whole(
            self._pool.transaction(partial(timer.extend, action_id=action_id, at=at, check=check))
        )

    async def release(
        self, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey:
        release = partial(timer.release, action_id=action_id, at=at, check=check, counts=counts)
        address = await self._whole(self._pool.transaction(release))
        self._notifier.announce([address])
        return address

    async def process_due(
        self,
        at: datetime,
        rules: TimerRules,
        *,
        limit: int = 100,
        shift: timedelta | None = None,
        leave_out: Collection[TimerKey] = (),
    ) -> ProcessedTimers:
        async def process(connection: Connection) -> ProcessedTimers:
            return await timer.process_due(
                connection, at, TimerBatch(rules, limit, leave_out, timer.concerns_all), shift
            )

        advanced = await self._whole(self._pool.transaction(process))
        self._notifier.announce(advanced.arrived)
        return advanced

    async def renew_leases(
        self, at: datetime, *, if_unattended_for: timedelta | None = None
    ) -> bool:
        renew = partial(timer.renew, at=at, if_unattended_for=if_unattended_for)
        return await self._whole(self._pool.transaction(renew))

    # ---------------------------------------------------------------------------------------- audit

    async def list_executions(
        self, which: ExecutionFilter, start: int, limit: int
    ) -> Page[Execution]:
        return await self._pool.read(
            partial(queries.list_executions, which=which, start=start, limit=limit)
        )

    async def get_execution(self, correlation_id: str) -> Execution:
        return await self._get(partial(queries.get_execution, correlation_id=correlation_id))

    async def get_action(self, action_id: str) -> Action:
        return await self._get(partial(queries.get_action, action_id=action_id))

    async def list_actions(
        self, which: ActionFilter, start: int, limit: int
    ) -> Sequence[ActionStatus]:
        return await self._pool.read(
            partial(queries.list_actions, which=which, start=start, limit=limit)
        )

    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        return await self._pool.read(
            partial(queries.list_events, which=which, start=start, limit=limit)
        )

    async def get_event(self, event_id: str) -> EventRecord:
        return await self._get(partial(queries.get_event, event_id=event_id))

    async def find_unused_bases(self, numbers: Collection[int]) -> Collection[int]:
        return await self._get(partial(queries.find_unused_bases, numbers=numbers))

    # --------------------------------------------------------------------------------------- growth

    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        return await self._whole(
            self._pool.transaction(partial(retention.purge, what=what, limit=limit))
        )

    async def purge_versions(self, what: VersionBound, *, limit: int = 100) -> PurgedVersions:
        return await self._whole(
            self._pool.transaction(partial(retention.purge_versions, what=what, limit=limit))
        )

    # ---------------------------------------------------------------------------- moving and backup

    async def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        async with self._pool.snapshot() as connection:
            async for part in dump.export(connection, partly=partly):
                yield part

    async def begin_load(self) -> Checkpoint:
        return await self._whole(self._pool.transaction(dump.begin))

    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        await self._whole(
            self._pool.transaction(partial(dump.load, records=records, checkpoint=checkpoint))
        )

    async def end_load(self) -> None:
        await self._whole(self._pool.transaction(dump.end))
