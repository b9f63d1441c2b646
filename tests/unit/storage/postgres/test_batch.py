"""Requests of one key share batches, and no request is left waiting."""

import asyncio
from collections.abc import Sequence

from flyteops.storage.postgres.batch import CONCURRENT_BATCHES, Batcher


class Process:
    """A process that keeps its batches, and answers each request with itself when it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def run(self, requests: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(requests))
        await self.may_answer.wait()
        return requests

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


async def test_callers_that_come_back_one_after_the_other_share_a_batch_again() -> None:
    process = Process()
    batcher = Batcher[str, str](process.run, limit=100)
    await asyncio.gather(*(batcher.submit("first") for _ in range(10)))
    answers = []
    for number in range(10):
        answers.append(batcher.submit(f"{number}"))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*answers) == [f"{number}" for number in range(10)]
    assert process.sizes == [10, 10]


async def test_a_caller_that_comes_alone_after_a_crowd_gets_an_answer() -> None:
    process = Process()
    batcher = Batcher[str, str](process.run, limit=100)
    await asyncio.gather(*(batcher.submit("first") for _ in range(10)))
    async with asyncio.timeout(20):
        assert await batcher.submit("alone") == "alone"
    assert process.sizes == [10, 1]


async def test_those_who_come_during_a_batch_share_the_next_one_of_their_key() -> None:
    process = Process()
    batcher = Batcher[str, str](process.run, limit=100, batch_key=lambda request: request)
    process.may_answer.clear()
    answers = [batcher.submit("a")]
    await asyncio.sleep(0)
    answers += [batcher.submit(request) for request in "abab"]
    await asyncio.sleep(0)
    assert process.batches == [["a"], ["b", "b"]]
    process.may_answer.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*answers)
    assert process.batches[2:] == [["a", "a"]]


async def test_a_request_that_comes_while_all_batches_end_is_not_left_waiting() -> None:
    process = Process()
    batcher = Batcher[str, str](process.run, limit=100, batch_key=lambda request: request)
    process.may_answer.clear()
    answers = [batcher.submit(f"{number}") for number in range(CONCURRENT_BATCHES)]
    await asyncio.sleep(0)
    assert process.sizes == [1] * CONCURRENT_BATCHES
    process.may_answer.set()
    late: list[asyncio.Future[str]] = []
    asyncio.get_running_loop().call_soon(lambda: late.append(batcher.submit("late")))
    async with asyncio.timeout(20):
        await asyncio.gather(*answers)
        assert await late[0] == "late"
