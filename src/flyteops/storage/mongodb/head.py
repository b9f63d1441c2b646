"""The actions of the original by execution, read in batches: their heads, where those suffice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from flyteops.storage.mongodb.driver import Cursor, Database, Document, MongoCollection
from flyteops.storage.mongodb.legacy import HEAD, OPEN, ExecutionActions, run_of

AT_ONCE = 250
"""The number of executions in a batch."""

READ_AT_ONCE = 500
"""The number of actions read together."""

BY_EXECUTION = [("correlationId", 1)]


async def read_groups(
    database: Database, which: Document
) -> AsyncGenerator[ExecutionActions, None]:
    """Yield the heads of actions by execution, from both collections side by side.

    Copies have the identifying fields only.
    """
    live = _Stream(_by_execution(database.action.find(which, HEAD)))
    copies = _Stream(_by_execution(database.audit.find(which, {"correlationId": 1, "state": 1})))
    try:
        for stream in (live, copies):
            await stream.advance()
        while heads := [
            run_of(stream.head) for stream in (live, copies) if stream.head is not None
        ]:
            run = min(heads)
            yield ExecutionActions(run, await live.take(run), await copies.take(run))
    finally:
        for stream in (live, copies):
            await stream.close()


def _by_execution(cursor: Cursor) -> Cursor:
    return cursor.sort(BY_EXECUTION).hint(BY_EXECUTION).batch_size(READ_AT_ONCE)


class _Stream:
    """Documents in the order of their executions; the next part is prefetched."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._part: Sequence[Document] = ()
        self._next = 0
        self._coming: asyncio.Task[Sequence[Document]] | None = asyncio.ensure_future(self._read())
        self.head: Document | None = None

    async def _read(self) -> Sequence[Document]:
        part: Sequence[Document] = await self._cursor.to_list(READ_AT_ONCE)
        return part

    async def advance(self) -> None:
        """Advance to the next document."""
        while self._next == len(self._part):
            if self._coming is None:
                self.head = None
                return
            self._part, self._next = await self._coming, 0
            self._coming = asyncio.ensure_future(self._read()) if self._cursor.alive else None
        self.head = self._part[self._next]
        self._next += 1

    async def close(self) -> None:
        """Stop reading."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        await self._cursor.close()

    async def take(self, run: str) -> list[Document]:
        """Return the next documents of this execution."""
        taken = []
        while self.head is not None and run_of(self.head) == run:
            taken.append(self.head)
            await self.advance()
        return taken


async def batches(groups: AsyncIterator[ExecutionActions]) -> AsyncIterator[list[ExecutionActions]]:
    """Yield executions in batches."""
    batch: list[ExecutionActions] = []
    async for group in groups:
        batch.append(group)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


async def completed(
    database: Database, batch: Sequence[ExecutionActions]
) -> list[ExecutionActions]:
    """Return a batch: heads of copies without an action, and the whole of unfinished actions."""
    return await _with_open_actions(database, await _with_copies(database, batch))


async def _with_copies(
    database: Database, batch: Sequence[ExecutionActions]
) -> list[ExecutionActions]:
    alone: list[str] = []
    for group in batch:
        known = {each["_id"] for each in group.live}
        alone += [each["_id"] for each in group.copies if each["_id"] not in known]
    found = await _by_id(database.audit, alone, HEAD)
    return (
        [ExecutionActions(each.run, each.live, _replaced(each.copies, found)) for each in batch]
        if found
        else list(batch)
    )


async def _with_open_actions(
    database: Database, batch: Sequence[ExecutionActions]
) -> list[ExecutionActions]:
    still_open = {
        group.run: group for group in batch if any(map(_is_open, (*group.live, *group.copies)))
    }
    for run, group in still_open.items():
        live = await _by_id(database.action, [each["_id"] for each in group.live])
        copies = await _by_id(database.audit, [each["_id"] for each in group.copies])
        still_open[run] = ExecutionActions(
            run, _replaced(group.live, live), _replaced(group.copies, copies)
        )
    return [still_open.get(group.run, group) for group in batch]


def _is_open(document: Document) -> bool:
    state = document.get("state")
    return isinstance(state, dict) and state.get("value") in OPEN


async def _by_id(
    collection: MongoCollection, keys: Sequence[str], fields: Document | None = None
) -> dict[str, Document]:
    if not keys:
        return {}
    return {
        each["_id"]: each async for each in collection.find({"_id": {"$in": list(keys)}}, fields)
    }


def _replaced(documents: Sequence[Document], found: Mapping[str, Document]) -> list[Document]:
    return [found.get(each["_id"], each) for each in documents]
