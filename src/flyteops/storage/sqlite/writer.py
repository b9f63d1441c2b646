"""The writer: one thread that runs waiting jobs in one transaction, and answers after the commit.

A commit costs a disk sync regardless of its size, so jobs that wait at the same time share one
(group commit). The order among these jobs is unspecified, so they run kind by kind, which allows
writing rows in bulk.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from flyteops.background import BackgroundLoops
from flyteops.errors import FlyteError, InputError, OutcomeUnknownError, UnavailableError
from flyteops.storage import rules
from flyteops.storage.sqlite.actions import ActionTable
from flyteops.storage.sqlite.foreign import ForeignWrites
from flyteops.storage.sqlite.guard import Fault, FileGuard
from flyteops.storage.sqlite.log import MAX_BYTES, WriteAheadLog
from flyteops.storage.sqlite.schema import UNSTORABLE, is_damage, unavailable

LOGGER = logging.getLogger("flyte.store")

T = TypeVar("T")

BATCH = 500
"""The maximum number of jobs in a commit, which bounds their waiting time for each other."""

GATHERING = 0.0003
"""Seconds to wait for more jobs after a batch of several: fewer commits, a freer event loop."""

IDLE = 1.0
"""Seconds between two checks of the files while there is nothing to write."""

GLANCE = 0.005
"""The maximum age in seconds of the file check before a batch: under load, the last one is
enough.
"""

UNKNOWN = (
    "Whether it was stored is not known; repeat it with the same Idempotency-Key once the store can"
    " be used."
)

UNCONFIRMED = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC")
"""Errors of a commit that was written as a whole, but not confirmed to be on the disk."""

OWN_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""SQLite's errors about a statement and its values.

All other errors concern the whole transaction.
"""


class UncertainCommitError(sqlite3.OperationalError):
    """The disk failed in the middle of a commit."""


class Job:
    """A job for a transaction.

    `rank` is the order within a batch; equal ranks keep their order of arrival. `undo` receives the
    result if the caller has gone before it was ready.
    """

    __slots__ = ("error", "future", "rank", "result", "run", "undo")

    def __init__(
        self,
        rank: int,
        run: Callable[[ActionTable], Any],
        future: "asyncio.Future[Any]",
        undo: Callable[[Any], None] | None = None,
    ) -> None:
        self.rank = rank
        self.run = run
        self.future = future
        self.undo = undo
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        """Resolve the future unless it was cancelled."""
        if self.future.done():
            if self.undo is not None and self.error is None:
                self.undo(self.result)
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """A thread with the action table to itself.

    `submit` and `stop` belong to the event loop that the writer was made in. `has_failed` if a
    transaction has failed as a whole since the store was last found usable.
    """

    def __init__(  # noqa: PLR0913 - dependencies passed on by the store
        self,
        table: ActionTable,
        path: Path,
        guard: FileGuard,
        *,
        limit: int,
        max_log_bytes: int = MAX_BYTES,
        loops: Callable[[], BackgroundLoops] = BackgroundLoops,
    ) -> None:
        self._loops = loops
        self.table = table
        self.log = WriteAheadLog(table.connection, guard, max_log_bytes)
        self.has_failed = False
        self._connection = table.connection
        self._foreign = ForeignWrites(table.connection)
        self._path = path
        self._guard = guard
        self._saved_for: Fault | None = None
        self._limit = limit
        self._is_shared = False
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="flyte-sqlite-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        rank: int,
        run: "Callable[[ActionTable], T]",
        undo: "Callable[[T], None] | None" = None,
    ) -> "asyncio.Future[T]":
        """Submit a job; its future is resolved once it is durable, or has failed without a change.

        If the future was cancelled in the meantime, the result is passed to `undo`.
        """
        rules.require_capacity(self._waiting.qsize(), self._limit)
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(Job(rank, run, future, undo))
        return future

    async def stop(self) -> None:
        """Return when all submitted jobs are done and the thread has ended.

        Nothing may be submitted after it.
        """
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._take()
            batch.sort(key=attrgetter("rank"))
            try:
                self._do_guarded(batch)
            # The worker loop: the thread survives any error of a job.
            except BaseException as error:  # noqa: BLE001
                fail(batch, error, self._path)
            try:
                self._loop.call_soon_threadsafe(answer, batch)
            except RuntimeError:  # the loop is closed: nothing waits for an answer
                continue
            self._look_after_files()

    def _do_guarded(self, batch: Sequence[Job]) -> None:
        self._guard.check(max_age=GLANCE)
        if self.log.problem:
            raise UnavailableError(f"{self.log.problem} Nothing was changed.")
        self._do(batch)
        try:
            # Commits count only if they are in the file that the next server opens.
            self._guard.check()
        except UnavailableError as error:
            unknown = OutcomeUnknownError(f"{error.message} {UNKNOWN}")
            fail([job for job in batch if job.error is None], unknown, self._path)

    def _look_after_files(self) -> None:
        if self._guard.fault is not None:
            self._save_log()
        else:
            self._saved_for = None
            self._bound_log()

    def _bound_log(self) -> None:
        loop = self._loops().loop("Bounding the write-ahead log", LOGGER)
        try:
            self.log.bound()
            loop.succeeded()
        except UnavailableError:  # the guard has logged it, and requests are answered with it
            return
        except sqlite3.Error as error:  # it is retried after the next batch
            loop.failed(unavailable(error, self._path))

    def _look_again(self) -> None:
        with suppress(UnavailableError):  # it was logged, and requests are answered with it
            self._guard.check()
        self._look_after_files()

    def _save_log(self) -> None:
        """Copy acknowledged commits into the open file, even a moved one; once for each fault."""
        fault = self._guard.fault
        if fault is None or fault == self._saved_for or not fault.has_own_file:
            return
        self._saved_for = fault
        try:
            self.log.save()
        except sqlite3.Error as error:
            LOGGER.error("The log of the database cannot be copied into it: %s", error)

    def _next(self) -> Job | None:
        while True:
            due_in = self.log.due_in
            try:
                return self._waiting.get(timeout=IDLE if due_in is None else min(due_in, IDLE))
            except queue.Empty:
                self._look_again()

    def _take(self) -> tuple[list[Job], bool]:
        batch: list[Job] = []
        job = self._next()
        if self._is_shared:
            time.sleep(GATHERING)
        while job is not None:
            batch.append(job)
            if len(batch) == BATCH:
                break
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
        self._is_shared = len(batch) > 2
        return batch, job is not None

    def _do(self, batch: Sequence[Job]) -> None:
        try:
            if not self._do_together(batch):
                self.table.check_existing_executions = True
                self._do_one_by_one(batch)
        except sqlite3.Error as error:
            self.has_failed = True
            if is_damage(error):
                self._guard.note_damage(error)
            self._undo()
            fail(batch, error, self._path)
        except BaseException:  # nothing of the batch may stay
            self._undo()
            raise
        finally:
            self.table.check_existing_executions = False

    def _begin(self) -> None:
        """Begin a transaction.

        Raise `UnavailableError` if another program has removed tables since the last one.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        if not self._foreign.have_happened():
            return
        missing = self._foreign.missing()
        if missing:
            self._guard.note_missing(missing)
            self._guard.check()
        self.table.reload()  # its data in memory may be outdated

    def _do_together(self, batch: Sequence[Job]) -> bool:
        """Run all jobs as one.

        Return False, with nothing changed, when a single one of them must be undone.
        """
        table = self.table
        self._begin()
        for job in batch:
            before = table.mark
            try:
                job.result = job.run(table)
            except Exception as error:  # the worker loop: the error goes to the caller
                if concerns_all(error):
                    raise
                if table.mark != before:
                    self._undo()
                    return False
                job.error = own_fault(error)
        try:
            table.flush()
        except Exception as error:  # it may be one job's fault
            if concerns_all(error):
                raise
            self._undo()
            return False
        self._commit()
        table.on_commit()
        return True

    def _do_one_by_one(self, batch: Sequence[Job]) -> None:
        self._begin()
        for job in batch:
            job.error = None
            self._connection.execute("SAVEPOINT job")
            try:
                job.result = job.run(self.table)
                self.table.flush()
            except Exception as error:  # the worker loop: the error goes to the caller
                if concerns_all(error):
                    raise
                self._connection.execute("ROLLBACK TO job")
                self.table.on_rollback()
                job.error = own_fault(error)
            self._connection.execute("RELEASE job")
        self._commit()
        self.table.on_commit()

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith(UNCONFIRMED):
                # Its written part may count after a crash, if the disk has kept it.
                raise UncertainCommitError(str(error)) from error
            raise

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        finally:
            # Else no more work is done.
            if self._guard.fault is None or not self._guard.fault.is_final:
                self.table.on_rollback()


def answer(batch: Sequence[Job]) -> None:
    """Resolve all futures of a batch; runs in the event loop."""
    for job in batch:
        job.answer()


def fail(batch: Sequence[Job], error: BaseException, path: Path) -> None:
    """Give every job an error of its own, since each is raised in another task."""
    for job in batch:
        job.error = _fault(error, path)
        job.error.__cause__ = error


def _fault(error: BaseException, path: Path) -> FlyteError:
    if isinstance(error, UncertainCommitError):
        return OutcomeUnknownError(
            f"It is unknown whether the change was made: the disk of {str(path)!r} has failed"
            f" ({error}). Repeat the request; an event that comes with the same Idempotency-Key is"
            " stored once."
        )
    if isinstance(error, sqlite3.Error):
        return unavailable(error, path)
    # One of its own for each job, as each is raised in another task.
    if isinstance(error, UnavailableError):
        return type(error)(error.message)
    return FlyteError(f"{type(error).__name__}: {error}")


def concerns_all(error: Exception) -> bool:
    """Return whether an error is about the transaction, and so about every job in it."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, OWN_FAULTS)


def own_fault(error: Exception) -> Exception:
    """Translate an error that one job alone caused."""
    if isinstance(error, sqlite3.IntegrityError):
        translated: FlyteError = rules.exists_already(error)
    elif isinstance(error, UNSTORABLE):
        translated = InputError(f"The store cannot keep that: {error}.")
    else:
        return error
    translated.__cause__ = error
    return translated
