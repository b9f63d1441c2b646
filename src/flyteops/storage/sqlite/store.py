"""SQLite: one file, one server, nothing to set up. Writes go through one thread (`writer`), reads through a few others."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from flyteops.errors import BusyError, FlyteError, InputError, StoreError, UnavailableError
from flyteops.model import Action, Address, DataItem, Event, EventRecord, Execution, FlowVersion, Note, Outcome, Pack, PackRef
from flyteops.ruling import Timetable
from flyteops.storage.base import (
    ActionFilter,
    ActionStatus,
    Advanced,
    Check,
    Claimed,
    Decide,
    EventFilter,
    ExecutionFilter,
    Page,
    Purged,
    Retention,
    Rules,
    Store,
    Surroundings,
)
from flyteops.storage.portable import Checkpoint, Stored
from flyteops.storage.sqlite import growth, timer, transfer
from flyteops.storage.sqlite.audit import Audit
from flyteops.storage.sqlite.catalog import Catalog
from flyteops.storage.sqlite.ledger import Ledger
from flyteops.storage.sqlite.schema import UNSTORABLE, Lock, connect, prepare, refusal
from flyteops.storage.sqlite.writer import Writer

T = TypeVar("T")

RECORD, FINISH, CLAIM, OTHER = range(4)
"""The order within a batch: what creates actions before what takes them, and what needs the ledger flushed at the end."""


GIVE_BACK_AGAIN = 0.5
"""After how many seconds it is tried again to give back what could not be just now."""

PURGE_STEP = 100
"""How many executions and events are removed in one transaction, which is as long as others may have to wait."""


class SqliteStore(Store):
    """A store in one SQLite file. `limit` is how many writes may wait at a time, `readers` how many reads run at a time."""

    def __init__(self, path: str | Path, *, limit: int = 5000, readers: int = 4) -> None:
        self.path = Path(path)
        self._limit = limit
        self._lock = Lock(self.path)
        self._writer: Writer | None = None
        self._tell: Callable[[Sequence[Address]], None] = lambda _: None
        self._readers = Readers(self.path, readers)

    async def open(self) -> None:
        if self._writer is not None:
            raise StoreError("The store is open already.")
        ledger = await asyncio.to_thread(self._prepare)
        self._writer = Writer(ledger, self.path, limit=self._limit)
        self._readers.open()

    async def close(self) -> None:
        with suppress(FlyteError):
            await self._write(OTHER, lambda _: None)  # claims before it that nobody waits for are on their way back then
        writer, self._writer = self._writer, None
        if writer is None:
            return
        await writer.stop()
        await asyncio.to_thread(self._readers.close)
        writer.ledger.connection.close()
        self._lock.release()

    def _prepare(self) -> Ledger:
        # Only the last level is created: a whole tree that is missing is rather a mistyped path, or a disk that is not mounted.
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(exist_ok=True)
                sync_directory(self.path.parent.parent)
        except OSError as error:
            raise StoreError(f"Cannot create the directory {str(self.path.parent)!r}: {error.strerror}.") from error
        self._lock.acquire()
        try:
            return Ledger(prepare(self.path))
        except BaseException as error:  # whatever it is, the file is let go
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise refusal(error, self.path) from error
            raise

    def _write(self, rank: int, run: Callable[[Ledger], T], undo: Callable[[T], None] | None = None) -> "asyncio.Future[T]":
        if self._writer is None:
            raise UnavailableError("The store is closed.")
        return self._writer.submit(rank, run, undo)

    async def _change(self, run: Callable[[Catalog], T]) -> T:
        return await self._write(OTHER, lambda ledger: run(Catalog(ledger.connection)))

    async def _read(self, run: Callable[[Audit], T]) -> T:
        if self._writer is None:
            raise UnavailableError("The store is closed.")
        return await self._readers.read(run)

    def listen(self, tell: Callable[[Sequence[Address]], None]) -> None:
        self._tell = tell

    async def look_around(self) -> Surroundings:
        return Surroundings(is_loading=await self._read(Audit.is_loading))  # nobody else is here

    async def ping(self) -> None:
        await self._change(Catalog.ping)
        await self._read(Audit.find_nothing)

    # ------------------------------------------------------------------------------------------------------------ packs

    async def save_pack(self, pack: Pack) -> None:
        await self._change(lambda catalog: catalog.save_pack(pack))

    async def find_pack(self, pack_id: str) -> Pack | None:
        return await self._read(lambda audit: audit.find_pack(pack_id))

    async def list_packs(self) -> Sequence[Pack]:
        return await self._read(Audit.list_packs)

    async def delete_pack(self, pack_id: str, *, unless_seen_since: datetime | None = None) -> None:
        await self._change(lambda catalog: catalog.delete_pack(pack_id, unless_seen_since))

    async def touch_packs(self, seen: Mapping[str, datetime]) -> None:
        await self._change(lambda catalog: catalog.touch_packs(seen))

    # ------------------------------------------------------------------------------------------------------------ flows

    async def save_flow(self, version: FlowVersion, timetables: Sequence[Timetable] = ()) -> None:
        await self._change(lambda catalog: catalog.save_flow(version, timetables))

    async def list_flows(self) -> Sequence[FlowVersion]:
        return await self._read(Audit.list_flows)

    async def list_current(self) -> Mapping[str, str]:
        return await self._read(Audit.list_current)

    async def delete_flow(self, name: str) -> None:
        await self._change(lambda catalog: catalog.delete_flow(name))

    async def get_flow_version(self, uuid: str) -> FlowVersion:
        return await self._read(lambda audit: audit.get_flow_version(uuid))

    # -------------------------------------------------------------------------------------------------------- datastore

    async def save_item(self, item: DataItem) -> bool:
        return await self._change(lambda catalog: catalog.save_item(item))

    async def list_items(self) -> Sequence[DataItem]:
        return await self._read(Audit.list_items)

    async def delete_item(self, key: str) -> None:
        await self._change(lambda catalog: catalog.delete_item(key))

    # ------------------------------------------------------------------------------------------------------------ notes

    async def save_note(self, note: Note, *, replaces: bool = True) -> None:
        await self._change(lambda catalog: catalog.save_note(note, replaces=replaces))

    async def list_notes(
        self, kind: str, *, after: str | None = None, limit: int | None = None, backwards: bool = False
    ) -> Sequence[Note]:
        return await self._read(lambda audit: audit.list_notes(kind, after, limit, backwards=backwards))

    async def delete_note(self, kind: str, key: str) -> None:
        await self._change(lambda catalog: catalog.delete_note(kind, key))

    # --------------------------------------------------------------------------------------------- the life of an event

    async def record(self, event: Event, outcome: Outcome, *, key: str | None = None) -> str:
        return await self._write(RECORD, lambda ledger: ledger.record(event, outcome, key))

    async def claim(
        self, pack: PackRef, at: datetime, *, action_name: str | None = None, limit: int = 1, seed: bytes = b""
    ) -> Sequence[Claimed]:
        # A poll that finds nothing, by far the most frequent, must cost neither a transaction nor a thread.
        if self._writer is not None and not self._writer.ledger.may_wait(pack, action_name):
            return ()
        # What nobody is left to be told of goes back as soon as it is there, or at once when it was on its way already.
        claiming = self._write(
            CLAIM,
            lambda ledger: ledger.claim(pack, at, action_name, limit, seed),
            lambda claimed: self._give_back(claimed, at),
        )
        try:
            return await claiming
        except asyncio.CancelledError:
            if not claiming.cancelled() and claiming.exception() is None:
                self._give_back(claiming.result(), at)
            raise

    def _give_back(self, claimed: Sequence[Claimed], at: datetime) -> None:
        for each in claimed:
            release = partial(timer.release, action_id=each.action_id, at=at, check=lambda _: None, counts=False)
            try:
                self._write(OTHER, release).add_done_callback(partial(self._tell_of, claimed=each, at=at))
            except UnavailableError:
                self._give_back_later(each, at)

    def _tell_of(self, released: "asyncio.Future[Address]", claimed: Claimed, at: datetime) -> None:
        if released.cancelled():
            return
        if released.exception() is None:
            self._tell([released.result()])
        elif isinstance(released.exception(), UnavailableError):
            self._give_back_later(claimed, at)

    def _give_back_later(self, claimed: Claimed, at: datetime) -> None:
        """Try it again, unless the store is closed by then: the disk may be full for a while, or there is too much to do."""
        if self._writer is not None:
            asyncio.get_running_loop().call_later(GIVE_BACK_AGAIN, self._give_back, [claimed], at)

    async def finish(self, action_id: str, result: Event, decide: Decide) -> bool:
        return await self._write(FINISH, lambda ledger: ledger.finish(action_id, result, decide))

    async def extend(self, action_id: str, at: datetime, check: Check) -> datetime | None:
        return await self._write(OTHER, lambda ledger: timer.extend(ledger, action_id, at, check))

    async def release(self, action_id: str, at: datetime, check: Check, *, counts: bool) -> Address:
        return await self._write(OTHER, lambda ledger: timer.release(ledger, action_id, at, check, counts=counts))

    async def advance(self, at: datetime, rules: Rules, *, limit: int = 100, shift: timedelta | None = None) -> Advanced:
        return await self._write(OTHER, lambda ledger: timer.advance(ledger, at, rules, limit, shift))

    # ------------------------------------------------------------------------------------------------------------ audit

    async def list_executions(self, which: ExecutionFilter, start: int, limit: int) -> Page[Execution]:
        return await self._read(lambda audit: audit.list_executions(which, start, limit))

    async def get_execution(self, correlation_id: str) -> Execution:
        return await self._read(lambda audit: audit.get_execution(correlation_id))

    async def get_action(self, action_id: str) -> Action:
        return await self._read(lambda audit: audit.get_action(action_id))

    async def list_actions(self, which: ActionFilter, start: int, limit: int) -> Sequence[ActionStatus]:
        return await self._read(lambda audit: audit.list_actions(which, start, limit))

    async def list_events(self, which: EventFilter, start: int, limit: int) -> Page[EventRecord]:
        return await self._read(lambda audit: audit.list_events(which, start, limit))

    async def get_event(self, event_id: str) -> EventRecord:
        return await self._read(lambda audit: audit.get_event(event_id))

    # ---------------------------------------------------------------------------------------------------------- growth

    async def purge(self, what: Retention, *, limit: int = 1000) -> Purged:
        # A step at a time, each in a transaction of its own, so that others get their turn in between.
        executions = events = 0
        more = True
        while more and executions < limit and events < limit:
            most = min(PURGE_STEP, limit - executions, limit - events)
            step = await self._write(OTHER, partial(growth.purge, what=what, limit=most))
            executions, events, more = executions + step.executions, events + step.events, step.more
        await self._vacuum()
        return Purged(executions, events, more)

    async def _vacuum(self) -> None:
        left = await self._write(OTHER, growth.vacuum)
        while left:
            before_step, left = left, await self._write(OTHER, growth.vacuum)
            if left >= before_step:
                break

    # ------------------------------------------------------------------------------------------------- moving and backup

    async def export(self, *, partly: bool = False) -> AsyncGenerator[Sequence[Stored], None]:
        # A snapshot of its own, as long as it takes: no thread of those that answer requests is kept from them.
        parts = transfer.export(self.path, partly=partly)
        with ThreadPoolExecutor(1, thread_name_prefix="flyte-sqlite-export") as thread:
            run = partial(asyncio.get_running_loop().run_in_executor, thread)
            try:
                while part := await run(next, parts, ()):
                    yield part
            finally:
                await run(parts.close)

    async def begin_load(self) -> Checkpoint:
        return await self._write(OTHER, transfer.begin)

    async def load(self, records: Sequence[Stored], checkpoint: Checkpoint) -> None:
        await self._write(OTHER, partial(transfer.load, records=records, checkpoint=checkpoint))

    async def end_load(self) -> None:
        await self._write(OTHER, transfer.end)


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory: a new one may be gone after a power failure otherwise, with all that is in it."""
    with suppress(OSError):  # some file systems cannot, and some users may write there but not read
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Readers:
    """A few threads, each with a connection that cannot write. Every read sees one snapshot."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._count = count
        self._limit = 250 * count
        self._under_way = 0
        self._connections: list[sqlite3.Connection] = []
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Be ready to read; the threads start when there is something to read."""
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="flyte-sqlite-reader")

    def close(self) -> None:
        """Wait for the reads under way, then let go."""
        if self._pool is not None:
            self._pool.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def read(self, run: Callable[[Audit], T]) -> T:
        """Run a function in a reading thread."""
        if self._under_way >= self._limit:
            raise BusyError
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, run)
        finally:
            self._under_way -= 1

    def _read(self, run: Callable[[Audit], T]) -> T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return run(Audit(connection))
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise refusal(error, self._path) from error
        except UNSTORABLE as error:
            raise InputError(f"The store cannot look for that: {error}.") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = connect(self._path, query_only=True)
            self._own.connection = connection
            self._connections.append(connection)
        return connection
