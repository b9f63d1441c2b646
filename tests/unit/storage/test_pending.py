"""Work goes on when its caller is gone, and a store that closes waits for it."""

import asyncio
import gc

import pytest

from flyteops.storage.pending import PendingWork


async def test_work_is_completed_although_its_caller_was_cancelled() -> None:
    pending, done = PendingWork(), []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.append(True)

    caller = asyncio.ensure_future(pending.complete(work()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == []
    go_on.set()
    await pending.wait()
    assert done == [True]


async def test_the_error_of_work_without_a_caller_is_not_reported_as_forgotten() -> None:
    pending = PendingWork()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, found: reported.append(found))

    async def fail() -> None:
        raise ValueError

    task = pending.start(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    assert reported == []
