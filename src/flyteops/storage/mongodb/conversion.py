"""The background conversion: executions of the original are taken over while servers work.

Requested ones come first. A pass reads actions in the order of their executions, from `action` and
`audit` side by side, and enters a batch of executions with one insert. Its progress is kept in
`flyte_number`, so that the next server resumes there. One server at a time does this, holding a
lease. Its work may be repeated without harm by another server that considered it dead.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from math import inf
from typing import Any, NamedTuple

from pymongo.errors import DuplicateKeyError

from flyteops.background import BackgroundLoop
from flyteops.errors import UnavailableError
from flyteops.model import PackRef, has_labels
from flyteops.storage.mongodb.client import DatabaseClient, ask_server
from flyteops.storage.mongodb.document import labels_of, microseconds_of, state_of
from flyteops.storage.mongodb.driver import Cursor, Database, Document
from flyteops.storage.mongodb.head import AT_ONCE, batches, completed, read_groups
from flyteops.storage.mongodb.legacy import (
    CREATED,
    FOREIGN,
    OPEN,
    ExecutionActions,
    Flows,
    adopt,
    began_at,
    enter,
    run_of,
)
from flyteops.storage.mongodb.queue import Queues
from flyteops.storage.query import ActionFilter, ExecutionFilter
from flyteops.storage.row import to_instant, to_microseconds

LOGGER = logging.getLogger("flyte.store")

NOTE = "takeover"
"""The document of `flyte_number` with the progress of the conversion."""

WAITING_AT_ONCE = 500
"""The number of waiting actions to examine when a pack polls for one."""

MAX_FLOWS = 1000
"""The number of flow versions kept in memory during the conversion."""

LEASE = 15.0
"""The seconds after which another server resumes the conversion."""

RENEW_EVERY = 1.0

REPORT_EVERY = 5.0

BEGIN_AFTER = 0.5
"""Seconds before the first read, which may load a small server: time to load flows and listen."""

RETRY_AFTER = 1.0

STOPPING = 2.0
"""The seconds for which the conversion may continue when it is to stop."""

PATIENCE = 20.0
"""The seconds that one request may spend on converting its subject."""

OVERLAP = 86_400_000_000
"""The maximum difference in microseconds between the clocks of the original's servers."""

LATEST = ("state.time", -1)

Actions = dict[str, list[Document]]
"""Actions by execution."""


class ConversionState(NamedTuple):
    """The progress of the conversion, in actions and their copies."""

    done: int
    total: int

    def __str__(self) -> str:
        share = min(self.done * 100 // max(self.total, 1), 99)
        return f"{self.done:,} of about {self.total:,} actions and copies ({share} %)"


class Conversion:
    """Converts the data of the original.

    `prepare` runs before the first pass, for example to create indexes.
    """

    def __init__(
        self,
        client: DatabaseClient,
        queues: Queues,
        name: str,
        prepare: Callable[[Database], Any] | None = None,
    ) -> None:
        self._client, self._queues, self._name, self._prepare = client, queues, name, prepare
        self._progress: ConversionState | None = None
        self._entered = 0
        self._flows: Flows = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.is_done = True
        self.has_foreign = False

    async def look(self, database: Database) -> None:
        """Determine whether data of the original exists, and whether it must be converted."""
        found = [
            await each.find_one(FOREIGN, {"_id": 1}) for each in (database.action, database.audit)
        ]
        self.has_foreign = any(found)
        self.is_done = not self.has_foreign or await _is_up_to_date(database)
        self._queues.is_converting = not self.is_done

    async def is_complete(self, database: Database) -> bool:
        """Return whether all executions are converted, including later ones of the original."""
        if not self.is_done:
            return False
        found = [
            await each.find_one(FOREIGN, {"_id": 1}) for each in (database.action, database.audit)
        ]
        return not any(found) or await _is_up_to_date(database)

    # ----------------------------------------------------------------------------------- background

    def start(self, loop: BackgroundLoop) -> None:
        """Start converting in the background."""
        self._stopping.clear()
        if not self.is_done:
            self._task = asyncio.ensure_future(self._run(loop))

    async def stop(self) -> None:
        """Stop after the present batch; the next server resumes from there."""
        task, self._task = self._task, None
        self._stopping.set()
        if task is None:
            return
        await asyncio.wait([task], timeout=STOPPING)
        # The driver may take a cancellation for a lost connection, and go on.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)

    def warnings(self) -> Sequence[str]:
        """Return a warning while the conversion is in progress."""
        if self.is_done:
            return ()
        progress = "" if self._progress is None else f" {self._progress} so far."
        return [
            (
                f"The executions of an earlier server are being taken over.{progress} Everything"
                " can be used meanwhile, and what is asked for is taken over first; old executions"
                " are removed only afterwards."
            )
        ]

    async def _run(self, loop: BackgroundLoop) -> None:
        await self._rest(BEGIN_AFTER)
        while not self.is_done and not self._stopping.is_set():
            try:
                await self._client.run(self.finish)
                loop.succeeded()
            # After any error it is retried; the loop reports it.
            except Exception as error:  # noqa: BLE001
                loop.failed(error)
                await self._rest(RETRY_AFTER)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def finish(self, database: Database) -> None:
        """Convert everything, or wait until another server has; then nothing is left to do."""
        if self._prepare is not None:
            await self._prepare(database)
        while not await self._has_lease(database):
            if self._stopping.is_set():
                return
            if await _is_up_to_date(database):
                break
            await self._rest(RETRY_AFTER)
        else:
            if not await self._convert(database):
                return
        self.is_done = True
        self._queues.is_converting = False
        self._flows.clear()
        if self._entered:
            LOGGER.info("%d executions of an earlier server were taken over", self._entered)

    async def _convert(self, database: Database) -> bool:
        """Convert everything; return False when it was stopped."""
        try:
            note = await _note(database)
            if "newest" not in note:
                since = _resumed_since(note)
                newest = await self._pass(database, note, since)
                if self._stopping.is_set():
                    return False
                if since is not None:
                    newest = max(newest, await self._catch_up(database, since))
            else:
                newest = await self._catch_up(database, note["newest"])
            done = {
                "$set": {"newest": newest},
                "$unset": {"after": 1, "seen": 1, "read": 1, "since": 1},
            }
            await database.flyte_number.update_one({"_id": NOTE}, done)
        finally:
            release = database.flyte_number.update_one(
                {"_id": NOTE, "owner": self._name}, {"$set": {"until": 0}}
            )
            await asyncio.gather(asyncio.shield(release), return_exceptions=True)
        return True

    async def _has_lease(self, database: Database, **fields: Any) -> bool:
        """Acquire or keep the lease, and note the progress.

        Return False when another server has it.
        """
        now = to_microseconds((await ask_server(database))["localTime"])
        which = {
            "_id": NOTE,
            "$or": [{"until": None}, {"until": {"$lt": now}}, {"owner": self._name}],
        }
        change = {"$set": {"owner": self._name, "until": now + int(LEASE * 1_000_000), **fields}}
        try:
            await database.flyte_number.update_one(which, change, upsert=True)
        except DuplicateKeyError:
            return False
        return True

    async def _pass(self, database: Database, note: Mapping[str, Any], since: int | None) -> int:
        """Convert everything, in the order of executions, from the end of an earlier pass.

        Return the time of the latest change. `since` is kept until the conversion has ended.
        """
        total = sum(
            [await each.estimated_document_count() for each in (database.action, database.audit)]
        )
        after, newest, read = note.get("after"), int(note.get("seen", 0)), int(note.get("read", 0))
        which = {**FOREIGN, **({} if after is None else {"correlationId": {"$gt": after}})}
        clock = _Clock()
        async with aclosing(read_groups(database, which)) as groups:
            async for batch in batches(groups):
                documents = [each for group in batch for each in (*group.live, *group.copies)]
                read, newest = read + len(documents), max(newest, *map(_changed_at, documents))
                await self._enter(database, await completed(database, batch))
                self._progress = ConversionState(read, total)
                self._report(clock)
                is_last = self._stopping.is_set()
                how_far = {"after": batch[-1].run, "seen": newest, "read": read, "since": since}
                is_noted = is_last or clock.is_due("lease", RENEW_EVERY)
                if is_noted and not await self._has_lease(database, **how_far):
                    raise UnavailableError(
                        "Another server has gone on with taking over executions."
                    )
                if is_last:
                    break
        return newest

    def _report(self, clock: "_Clock") -> None:
        if clock.is_due("report", REPORT_EVERY):
            LOGGER.info(
                "Taking over the executions of an earlier server: %s, %d executions a second",
                self._progress,
                self._entered / clock.passed(),
            )

    async def _enter(self, database: Database, batch: Sequence[ExecutionActions]) -> None:
        if len(self._flows) > MAX_FLOWS:
            self._flows.clear()
        entered, again = await enter(database, self._queues, batch, self._flows, is_partial=True)
        self._entered += entered
        if again:
            await self._adopt(database, again, patience=inf)

    async def _catch_up(self, database: Database, newest: int) -> int:
        """Convert changes by the original since the last conversion.

        Return the time of the latest change.
        """
        runs: dict[str, None] = {}
        for collection in (database.action, database.audit):
            async for each in collection.find(
                _since(newest - OVERLAP), {"correlationId": 1, "state": 1}
            ):
                newest = max(newest, _changed_at(each))
                runs[run_of(each)] = None
        await self._adopt(database, list(runs), patience=inf)
        return newest

    # ------------------------------------------------------------------------- conversion on demand

    async def _adopt(
        self, database: Database, runs: Collection[str], *, patience: float = PATIENCE
    ) -> None:
        """Convert these executions first; raise `UnavailableError` when that takes longer."""
        until, waiting = time.monotonic() + patience, list(runs)
        for start in range(0, len(waiting), AT_ONCE):
            if time.monotonic() > until:
                raise UnavailableError(
                    "That is about more executions of an earlier server than can be taken over at"
                    " once; they are being taken"
                    f" over{'' if self._progress is None else f', {self._progress} so far'}. Ask"
                    " again in a while."
                )
            entered = await adopt(database, self._queues, waiting[start : start + AT_ONCE])
            self._entered += entered  # on a line of its own, as others count meanwhile

    async def for_each(self, database: Database, runs: Sequence[str]) -> None:
        """Convert these executions."""
        if not self.is_done:
            await self._adopt(database, runs)

    async def for_action(self, database: Database, action_id: str) -> None:
        """Convert the execution of an action."""
        if self.is_done:
            return
        for collection in (database.action, database.audit):
            found = await collection.find_one({"_id": action_id}, {"correlationId": 1})
            if found is not None:
                await self._adopt(database, [run_of(found)])
                return

    async def for_claim(
        self, database: Database, pack: PackRef, command: str | None, limit: int
    ) -> None:
        """Convert the oldest actions that a pack may take."""
        if self.is_done:
            return
        which = {
            "packName": pack.name,
            "state.value": "NEW",
            **FOREIGN,
            **({} if command is None else {"name": command}),
        }
        fields = {"correlationId": 1, "packLabels": 1}
        reach, runs = max(limit, WAITING_AT_ONCE), dict[str, None]()
        while True:
            oldest = await database.action.find(which, fields).sort(CREATED).limit(reach).to_list()
            runs.update(
                dict.fromkeys(
                    run_of(each) for each in oldest if has_labels(pack.labels, labels_of(each))
                )
            )
            if len(runs) >= limit or len(oldest) < reach:
                break
            reach *= 10
        await self._adopt(database, list(runs)[: max(limit, AT_ONCE)])

    async def for_actions(self, database: Database, which: ActionFilter, count: int) -> None:
        """Convert the oldest actions that a list requests."""
        if self.is_done or count <= 0:
            return
        query: Document = {**FOREIGN}
        if which.states is not None:
            query["state.value"] = {"$in": [state.value for state in which.states]}
        for field, value in (("flowName", which.flow_name), ("packName", which.pack_name)):
            if value is not None:
                query[field] = value
        if which.overdue_since is not None:
            query["$and"] = [
                {"state.value": "PENDING"},
                {"state.time": {"$lt": which.overdue_since}},
            ]
        fields = {"correlationId": 1, "state.value": 1, "states": {"$slice": 1}}
        async with database.action.find(query, fields).sort(CREATED).allow_disk_use(True) as cursor:
            found = await _first(cursor, count, began_at)
        await self._adopt(database, await _lacking(database, found.actions))

    async def for_executions(self, database: Database, which: ExecutionFilter, count: int) -> None:
        """Convert the executions with the latest activity that a list requests."""
        if self.is_done or count <= 0:
            return
        wanted = {
            "flowName": which.flow_name,
            "stepId": which.step_id,
            "name": which.action_name,
            "packName": which.action_pack_name,
        }
        query = {
            **FOREIGN,
            **{field: value for field, value in wanted.items() if value is not None},
        }
        labels = which.action_pack_labels or {}
        fields = {"correlationId": 1, "state": 1, "packLabels": 1}
        actions: Actions = {}
        since: list[int] = []
        for collection in (database.action, database.audit):
            async with collection.find(query, fields).sort([LATEST]).allow_disk_use(True) as cursor:
                found = await _first(cursor, count, _changed_at, labels)
            for run, some in found.actions.items():
                actions.setdefault(run, []).extend(some)
            since += [] if found.last is None else [found.last]
        if since and (labels or set(query) - {"flowName", *FOREIGN}):
            # Another action may make its execution one of the latest.
            later = {**FOREIGN, "state.time": {"$gte": to_instant(min(since))}}
            for collection in (database.action, database.audit):
                async for each in collection.find(later, {"correlationId": 1}):
                    actions.setdefault(run_of(each), [])
        await self._adopt(database, await _lacking(database, actions))


class _Clock:
    """Schedules repeated work."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last: dict[str, float] = {}

    def passed(self) -> float:
        return max(time.monotonic() - self._began, 0.001)

    def is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, self._began) < every:
            return False
        self._last[what] = now
        return True


async def _note(database: Database) -> Document:
    return await database.flyte_number.find_one({"_id": NOTE}) or {}


def _resumed_since(note: Mapping[str, Any]) -> int | None:
    """Return the time of the latest change known when a pass was first interrupted, or None.

    The original may have run after the interruption, and may have changed executions that the pass
    had already converted.
    """
    if "after" not in note:
        return None
    since = note.get("since")
    return int(note.get("seen", 0) if since is None else since)


def _since(at: int) -> Document:
    """Return the filter of actions without a `flyte` field changed since a time.

    It has an index.
    """
    return {**FOREIGN, "states.time": {"$gt": to_instant(at)}}


async def _is_up_to_date(database: Database) -> bool:
    """Return whether everything was converted, and the original has changed nothing since."""
    note = await _note(database)
    if "newest" not in note:
        return False
    later = [
        await each.find_one(_since(note["newest"]), {"_id": 1})
        for each in (database.action, database.audit)
    ]
    return not any(later)


class _First(NamedTuple):
    """The first actions by execution, and the time of the last one; None when those were all."""

    actions: Actions
    last: int | None


async def _first(
    cursor: Cursor,
    count: int,
    time_of: Callable[[Document], int],
    labels: Mapping[str, str] | None = None,
) -> _First:
    """Return the actions of a cursor's first executions, in the order of time.

    All that are as late as the last are included.
    """
    actions: Actions = {}
    last: int | None = None
    async for each in cursor:
        if labels and not has_labels(labels_of(each), labels):
            continue
        at = time_of(each)
        if last is not None and at != last:
            return _First(actions, last)
        actions.setdefault(run_of(each), []).append(each)
        if len(actions) >= count:
            last = at
    return _First(actions, None)


def _changed_at(document: Document) -> int:
    state = document.get("state")
    return microseconds_of(state.get("time")) if isinstance(state, dict) else 0


async def _lacking(database: Database, actions: Actions) -> list[str]:
    """Return executions that are unknown, lack one of these actions, or have an unfinished one."""
    runs, known = list(actions), dict[str, set[str]]()
    for start in range(0, len(runs), AT_ONCE):
        which = {"_id": {"$in": runs[start : start + AT_ONCE]}}
        async for run in database.flyte_execution.find(which, {"actions.id": 1}):
            known[run["_id"]] = {member["id"] for member in run.get("actions", ())}
    return [run for run in runs if _is_lacking(known.get(run), actions[run])]


def _is_lacking(known: Collection[str] | None, actions: Sequence[Document]) -> bool:
    return known is None or any(
        each["_id"] not in known or state_of(each) in OPEN for each in actions
    )
