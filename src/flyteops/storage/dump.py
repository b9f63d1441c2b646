"""Transfer between stores of any kind: record by record, with a checksum to agree on."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from flyteops.errors import ConflictError, StoreError
from flyteops.storage.base import Store
from flyteops.storage.record import Checkpoint, Stored, Tally, encode_record, kind_of

Parts = AsyncGenerator[Sequence[Stored], None]

Report = Callable[[str, Tally], None]
"""Called from time to time with the current activity and its progress."""


async def move(source: Store, target: Store, report: Report) -> Tally:
    """Copy all data of an open store into another one, as `load_all` does.

    Raise `ConflictError` also when the source has changed meanwhile.
    """
    moved = await _load(source.export(), target, report)
    # A store that is not shared has no server now: it would not have opened.
    if (
        source.is_shared
        and (await read_all(source.export(), "checking", report)).checkpoint != moved.checkpoint
    ):
        raise ConflictError(
            "The source has changed meanwhile: stop the servers that use it, empty the target, and"
            " begin again."
        )
    await target.end_load()
    return moved


async def load_all(parts: Parts, target: Store, report: Report) -> Tally:
    """Load records into an open store that is empty, or resume such a load; return their tally.

    Servers may use it only when all records have arrived. Raise `ConflictError` when it holds
    anything else.
    """
    loaded = await _load(parts, target, report)
    await target.end_load()
    return loaded


async def _load(parts: Parts, target: Store, report: Report) -> Tally:
    begun = await target.begin_load()
    tally = Tally()
    async with aclosing(parts):
        async for part in parts:
            missing = [record for record in part if _is_missing(record, tally, begun)]
            if missing:
                await target.load(missing, tally.checkpoint)
            report("loading", tally)
    if tally.checkpoint.records < begun.records:
        raise _other(begun)
    arrived = await read_all(target.export(partly=True), "verifying", report)
    if arrived.checkpoint != tally.checkpoint:
        raise StoreError(
            "What has arrived is not what was sent; empty the target, and begin again."
        )
    return tally


def _is_missing(record: Stored, tally: Tally, begun: Checkpoint) -> bool:
    before = tally.checkpoint.records
    tally.add(kind_of(record), encode_record(record))
    if before + 1 == begun.records and tally.checkpoint != begun:
        raise _other(begun)
    return before >= begun.records


def _other(begun: Checkpoint) -> ConflictError:
    return ConflictError(
        f"The target holds the beginning of something else ({begun.records} records), or the source"
        " has changed since that. Empty it, and begin again."
    )


async def read_all(parts: Parts, doing: str, report: Report) -> Tally:
    """Read all records; return their tally."""
    tally = Tally()
    async with aclosing(parts):
        async for part in parts:
            for record in part:
                tally.add(kind_of(record), encode_record(record))
            report(doing, tally)
    return tally
