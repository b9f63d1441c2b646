"""The SQLite store: one file, one server, no setup.

Writes use one thread (`writer`), reads a few others.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from flyteops.errors import FlyteError, StoreError, UnavailableError
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
    ClaimOrder,
    Decide,
    ProcessedTimers,
    Store,
    TimerKey,
    TimerRules,
)
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
from flyteops.storage.rules import TimerBatch, check_timetables, require_open
from flyteops.storage.sqlite import dump, retention, timer
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.sqlite.catalog import Catalog
from flyteops.storage.sqlite.diskspace import PROBE, check_free_space
from flyteops.storage.sqlite.guard import LOOK_EVERY, FileGuard
from flyteops.storage.sqlite.lock import Lock
from flyteops.storage.sqlite.log import MAX_BYTES
from flyteops.storage.sqlite.queries import Queries
from flyteops.storage.sqlite.queues import PREFETCH
from flyteops.storage.sqlite.readers import Readers
from flyteops.storage.sqlite.schema import (
    prepare,
    refusal,
)
from flyteops.storage.sqlite.writer import Writer, concerns_all
from flyteops.storage.undelivered import PAUSE, RETURNING, still_claimed
from flyteops.transition import LateResult, ScheduleEntry

T = TypeVar("T")

LOGGER = logging.getLogger("flyte.store")

RECORD, FINISH, CLAIM, OTHER = range(4)
"""The order within a batch: creating actions, then taking them, then jobs that need a flush."""


PURGE_STEP = 100
"""Executions and events removed per transaction, which other requests may have to wait for."""


class SqliteStore(Store):
    """A store in one SQLite file.

    `limit` bounds the waiting writes, `readers` the concurrent reads. `max_log_bytes` bounds the
    write-ahead log while a reader uses an old state; beyond it all writes are refused. `scratch` is
    the directory for the copy that a backup reads while another process has the database open.
    `prefetch` is the number of actions that are read from a queue at a time.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        path: str | Path,
        *,
        limit: int = 5000,
        readers: int = 4,
        max_log_bytes: int = MAX_BYTES,
        scratch: Path | None = None,
        prefetch: int = PREFETCH,
    ) -> None:
        self._prefetch = prefetch
        self.path = Path(path)
        self._limit = limit
        self._max_log_bytes = max_log_bytes
        self._scratch = scratch
        self._lock = Lock(self.path)
        self._guard = FileGuard(self.path, self._lock)
        self._writer: Writer | None = None
        self._attended_at: float | None = None
        self._tell: Callable[[Sequence[RoutingKey]], None] = lambda _: None
        self._readers = Readers(self.path, self._guard, readers)

    async def open(self) -> None:
        if self._writer is not None:
            raise StoreError("The store is open already.")
        table = await asyncio.to_thread(self._prepare)
        self._attended_at = None
        self._writer = Writer(
            table,
            self.path,
            self._guard,
            limit=self._limit,
            max_log_bytes=self._max_log_bytes,
            loops=lambda: self.loops,
        )

    async def close(self) -> None:
        with suppress(FlyteError):
            # Abandoned claims before it are then on their way back.
            await self._write(OTHER, lambda _: None)
        writer, self._writer = self._writer, None
        if writer is None:
            return
        await writer.stop()
        with suppress(UnavailableError):  # SQLite then does not copy the log at the end
            await asyncio.to_thread(self._guard.check, closely=True)
        await asyncio.to_thread(self._readers.close)
        writer.table.connection.close()
        writer.log.close()
        self._lock.release()

    def _prepare(self) -> ActionTable:
        # Only the last level is created: a whole tree that is missing is more likely a mistyped
        # path, or a disk that is not mounted.
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(exist_ok=True)
                sync_directory(self.path.parent.parent)
        except OSError as error:
            raise StoreError(
                f"Cannot create the directory {str(self.path.parent)!r}: {error.strerror}."
            ) from error
        self._lock.acquire()
        connection = None
        try:
            connection = prepare(self._lock.file)
            self._lock.make_private()
            self._guard = self._readers.guard = FileGuard(self.path, self._lock)
            self._guard.watch(connection)
            self._readers.open(self._lock.file)
            return ActionTable(connection, prefetch=self._prefetch)
        except BaseException as error:  # on any error, release the file
            self._readers.close()
            if connection is not None:
                connection.close()
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise refusal(error, self.path) from error
            raise

    def _write(
        self, rank: int, run: Callable[[ActionTable], T], undo: Callable[[T], None] | None = None
    ) -> "asyncio.Future[T]":
        return require_open(self._writer).submit(rank, run, undo)

    async def _change(self, run: Callable[[Catalog], T]) -> T:
        return await self._write(OTHER, lambda table: run(Catalog(table.connection)))

    async def _read(self, run: Callable[[Queries], T]) -> T:
        require_open(self._writer)
        return await self._readers.read(run)

    def listen(self, tell: Callable[[Sequence[RoutingKey]], None]) -> None:
        self._tell = tell

    async def read_change_counters(self) -> ChangeCounters:
        # No other server uses it.
        return ChangeCounters(is_loading=await self._read(Queries.is_loading))

    async def ping(self) -> None:
        await self._change(Catalog.ping)
        await asyncio.to_thread(check_free_space, self._lock.file.parent)
        if self._writer is not None and self._writer.has_failed:
            await self.save_note(PROBE)
            await self.delete_note(PROBE.kind, PROBE.key)
            self._writer.has_failed = False
        await self._read(Queries.find_nothing)

    def warnings(self) -> Sequence[str]:
        return (
            []
            if self._writer is None or not self._writer.log.warning
            else [self._writer.log.warning]
        )

    # ---------------------------------------------------------------------------------------- packs

    async def save_pack(self, pack: Pack) -> None:
        await self._change(lambda catalog: catalog.save_pack(pack))

    async def find_pack(self, pack_id: str) -> Pack | None:
        return await self._read(lambda queries: queries.find_pack(pack_id))

    async def list_packs(self) -> Rows[Pack]:
        return await self._read(Queries.list_packs)

    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        await self._change(lambda catalog: catalog.delete_pack(pack_id, unless_seen_since))

    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        await self._change(lambda catalog: catalog.touch_packs(seen))

    # ---------------------------------------------------------------------------------------- flows

    async def save_flow(
        self, version: FlowVersion, timetables: Sequence[ScheduleEntry] = ()
    ) -> None:
        check_timetables(version, timetables)
        await self._change(lambda catalog: catalog.save_flow(version, timetables))

    async def list_flows(self) -> Rows[FlowVersion]:
        return await self._read(Queries.list_flows)

    async def list_current(self) -> Mapping[str, str]:
        return await self._read(Queries.list_current)

    async def delete_flow(self, name: str) -> None:
        await self._change(lambda catalog: catalog.delete_flow(name))

    async def get_flow_version(self, uuid: str) -> FlowVersion:
        return await self._read(lambda queries: queries.get_flow_version(uuid))

    # ------------------------------------------------------------------------------------ datastore

    async def save_item(self, item: DataItem) -> bool:
        return await self._change(lambda catalog: catalog.save_item(item))

    async def list_items(self) -> Rows[DataItem]:
        return await self._read(Queries.list_items)

    async def delete_item(self, key: str) -> None:
        await self._change(lambda catalog: catalog.delete_item(key))

    # ---------------------------------------------------------------------------------------- notes

    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        await self._change(lambda catalog: catalog.save_note(note, replaces=replaces))

    async def list_notes(
        self,
        kind: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Sequence[Note]:
        return await self._read(
            lambda queries: queries.list_notes(kind, after, limit, backwards=backwards)
        )

    async def delete_note(self, kind: str, key: str) -> None:
        await self._change(lambda catalog: catalog.delete_note(kind, key))

    async def delete_notes(self, kind: str, *, until: str, limit: int) -> int:
        return await self._change(lambda catalog: catalog.delete_notes(kind, until, limit))

    # ------------------------------------------------------------------------- the life of an event

    async def record(self, event: Event, outcome: Evaluation, *, key: str | None = None) -> str:
        return await self._write(RECORD, lambda table: table.record(event, outcome, key))

    async def claim(
        self,
        pack: PackRef,
        at: datetime,
        *,
        action_name: str | None = None,
        limit: int = 1,
        seed: bytes = b"",
    ) -> Sequence[Claimed]:
        # A poll that finds nothing, by far the most frequent, must cost neither a transaction nor a
        # thread.
        self._guard.check(max_age=LOOK_EVERY)
        if self._writer is not None and not self._writer.table.queues.may_have_actions(
            pack, action_name
        ):
            return ()
        claiming = self._submit_claim(ClaimOrder(pack, at, limit, seed), action_name)
        return await self._claimed(claiming, at)

    def _submit_claim(
        self, order: ClaimOrder, action_name: str | None = None
    ) -> "asyncio.Future[Sequence[Claimed]]":
        return self._write(
            CLAIM,
            lambda table: table.claim(order.pack, order.at, action_name, order.limit, order.seed),
            lambda claimed: self._give_back(claimed, order.at),
        )

    async def _claimed(
        self, claiming: "asyncio.Future[Sequence[Claimed]]", at: datetime
    ) -> Sequence[Claimed]:
        try:
            return await claiming
        except asyncio.CancelledError:
            self._abandon(claiming, at)
            raise

    def _abandon(self, claiming: "asyncio.Future[Sequence[Claimed]]", at: datetime) -> None:
        """Return the actions of a claim whose caller has gone, now or once it is made."""
        claiming.cancel()
        if not claiming.cancelled() and claiming.exception() is None:
            self._give_back(claiming.result(), at)

    def _give_back(self, claimed: Sequence[Claimed], at: datetime) -> None:
        for each in claimed:
            self._return(each.action_id, each.revision, at)

    def _return(self, action_id: str, revision: int, at: datetime) -> None:
        """Make an undelivered action available again; retry until done or the store is closed."""
        release = partial(
            timer.release, action_id=action_id, at=at, check=still_claimed(revision), counts=False
        )

        def end(released: "asyncio.Future[RoutingKey]") -> None:
            if not isinstance(released.exception(), UnavailableError):
                self.loops.loop(RETURNING, LOGGER).succeeded()
                self._tell_of(released)
            else:
                later(released.exception())

        def later(error: BaseException | None) -> None:
            if self._writer is not None and isinstance(error, UnavailableError):
                self.loops.loop(RETURNING, LOGGER).failed(error)
                asyncio.get_running_loop().call_later(PAUSE, self._return, action_id, revision, at)

        try:
            self._write(OTHER, release).add_done_callback(end)
        except UnavailableError as error:
            later(error)

    def _tell_of(self, released: "asyncio.Future[RoutingKey]") -> None:
        if released.exception() is None:
            self._tell([released.result()])

    async def finish(
        self, action_id: str, result: Event, decide: Decide
    ) -> Evaluation | LateResult | None:
        return await self._write(FINISH, lambda table: table.finish(action_id, result, decide))

    async def finish_and_claim(
        self, action_id: str, result: Event, decide: Decide, claim: ClaimOrder
    ) -> tuple[Evaluation | LateResult | None, Sequence[Claimed]]:
        # Submitted at once, they mostly share a commit, in which results come before claims.
        finishing = self._write(FINISH, lambda table: table.finish(action_id, result, decide))
        try:
            claiming = self._submit_claim(claim)
        except UnavailableError:  # there are too many already
            return await finishing, ()
        try:
            ruling = await finishing
        except BaseException:  # after any failure, nothing is handed out
            self._abandon(claiming, claim.at)
            raise
        try:
            return ruling, await self._claimed(claiming, claim.at)
        except UnavailableError:
            return ruling, ()

    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        return await self._write(OTHER, lambda table: timer.extend(table, action_id, at, check))

    async def release(
        self, action_id: str, at: datetime, check: Check, *, counts: bool
    ) -> RoutingKey:
        return await self._write(
            OTHER, lambda table: timer.release(table, action_id, at, check, counts=counts)
        )

    async def process_due(
        self,
        at: datetime,
        rules: TimerRules,
        *,
        limit: int = 100,
        shift: timedelta | None = None,
        leave_out: Collection[TimerKey] = (),
    ) -> ProcessedTimers:
        def run(table: ActionTable) -> ProcessedTimers:
            return timer.process_due(
                table, at, TimerBatch(rules, limit, leave_out, concerns_all), shift
            )

        return await self._write(OTHER, run)

    async def renew_leases(
        self, at: datetime, *, if_unattended_for: timedelta | None = None
    ) -> bool:
        now = time.monotonic()
        before, self._attended_at = self._attended_at, now
        if (
            if_unattended_for is not None
            and before is not None
            and now - before <= if_unattended_for.total_seconds()
        ):
            return False
        try:
            await self._write(OTHER, partial(timer.renew, at=at))
        except BaseException:  # after any error, they have not been restarted
            self._attended_at = before
            raise
        return True

    # ---------------------------------------------------------------------------------------- audit

    async def list_executions(
        self, which: ExecutionFilter, start: int, limit: int
    ) -> Page[Execution]:
        return await self._read(lambda queries: queries.list_executions(which, start, limit))

    async def get_execution(self, correlation_id: str) -> Execution:
        return await self._read(lambda queries: queries.get_execution(correlation_id))

    async def get_action(self, action_id: str) -> Action:
        return await self._read(lambda queries: queries.get_action(action_id))

    async def list_actions(
        self, which: ActionFilter, start: int, limit: int
    ) -> Sequence[ActionStatus]:
        return await self._read(lambda queries: queries.list_actions(which, start, limit))

    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        return await self._read(lambda queries: queries.list_events(which, start, limit))

    async def get_event(self, event_id: str) -> EventRecord:
        return await self._read(lambda queries: queries.get_event(event_id))

    async def find_unused_bases(self, numbers: Collection[int]) -> Collection[int]:
        return await self._read(lambda queries: queries.find_unused_bases(numbers))

    # --------------------------------------------------------------------------------------- growth

    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        # One step at a time, each in a transaction of its own, so that other requests get their
        # turn in between.
        executions = events = over = 0
        more = True
        while more and executions < limit and events < limit:
            most = min(PURGE_STEP, limit - executions, limit - events)
            step = await self._write(OTHER, partial(retention.purge, what=what, limit=most))
            executions, events, more = executions + step.executions, events + step.events, step.more
            over = step.over_bytes
        await self._vacuum()
        return Purged(executions, events, more, over)

    async def purge_versions(self, what: VersionBound, *, limit: int = 100) -> PurgedVersions:
        purged = await self._write(OTHER, partial(retention.purge_versions, what=what, limit=limit))
        await self._vacuum()
        return purged

    async def _vacuum(self) -> None:
        left = await self._write(OTHER, retention.vacuum)
        while left:
            before_step, left = left, await self._write(OTHER, retention.vacuum)
            if left >= before_step:
                break

    # ---------------------------------------------------------------------------- moving and backup

    async def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        # A snapshot of its own, for any duration: it occupies no thread that answers requests.
        scratch = self._scratch if self._writer is None else None
        parts = dump.export(self.path, partly=partly, scratch=scratch)
        with ThreadPoolExecutor(1, thread_name_prefix="flyte-sqlite-export") as thread:
            run = partial(asyncio.get_running_loop().run_in_executor, thread)
            try:
                while part := await run(next, parts, ()):
                    yield part
            finally:
                await run(parts.close)

    async def begin_load(self) -> Checkpoint:
        return await self._write(OTHER, dump.begin)

    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        await self._write(OTHER, partial(dump.load, records=records, checkpoint=checkpoint))

    async def end_load(self) -> None:
        await self._write(OTHER, dump.end)


def sync_directory(path: Path) -> None:
    """Sync a directory's entries: a power failure may lose a new one, with all its contents."""
    with suppress(OSError):  # some file systems cannot, and some users may write there but not read
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
