"""Batching of concurrent requests: one statement, and one commit, for many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from flyteops.errors import ConflictError, FlyteError, InputError
from flyteops.storage import rules

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 100
"""The maximum size of a batch."""

CONCURRENT_BATCHES = 4
"""The number of concurrent batches, each with another key.

With one key there is one at a time: requests that arrive meanwhile become a single larger batch,
which costs less than two smaller ones.
"""


class PendingRequest(NamedTuple, Generic[Q, A]):
    """A request that waits for its answer."""

    request: Q
    batch_key: Hashable
    future: "asyncio.Future[A]"


class Batcher(Generic[Q, A]):
    """Answers requests; several with one `batch_key` together if they arrive faster than answers.

    `process` answers them all in order, with an exception for a request that has no answer; an
    exception that it raises holds for all. `limit` bounds the number of waiting requests.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        limit: int,
        batch_key: Callable[[Q], Hashable] = lambda _: None,
    ) -> None:
        self._process = process
        self._limit = limit
        self._batch_key = batch_key
        self._waiting: deque[PendingRequest[Q, A]] = deque()
        self._under_way: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, request: Q) -> "asyncio.Future[A]":
        """Return the answer, when it is there.

        The request is carried out even if the answer is cancelled.
        """
        rules.require_capacity(len(self._waiting), self._limit)
        try:
            batch_key = self._batch_key(request)
        except UnicodeError as error:
            raise InputError(f"The store cannot look for that: {error}.") from error
        waiting: PendingRequest[Q, A] = PendingRequest(
            request, batch_key, asyncio.get_running_loop().create_future()
        )
        self._waiting.append(waiting)
        if len(self._tasks) < CONCURRENT_BATCHES and batch_key not in self._under_way:
            task = asyncio.ensure_future(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return waiting.future

    async def stop(self) -> None:
        """Return when all requests are carried out."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while part := self._next():
            batch_key = part[0].batch_key
            self._under_way.add(batch_key)
            try:
                answers = await self._answers([each.request for each in part])
            finally:
                self._under_way.discard(batch_key)
            for each, answer in zip(part, answers, strict=True):
                if each.future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    each.future.set_exception(answer)
                else:
                    each.future.set_result(answer)

    def _next(self) -> "Sequence[PendingRequest[Q, A]]":
        """Remove and return the next batch: requests with one batch key, in order.

        The key is that of the oldest request of which no batch is under way. Empty without any.
        """
        part: list[PendingRequest[Q, A]] = []
        others: list[PendingRequest[Q, A]] = []
        batch_key: Hashable = None
        while self._waiting and len(part) < MAX_BATCH:
            each = self._waiting.popleft()
            if not part and each.batch_key not in self._under_way:
                batch_key = each.batch_key
                part.append(each)
            elif part and each.batch_key == batch_key:
                part.append(each)
            else:
                others.append(each)
        self._waiting.extendleft(reversed(others))
        return part

    async def _answers(self, requests: Sequence[Q]) -> Sequence[A | Exception]:
        try:
            return await self._process(requests)
        except (ConflictError, InputError) as error:
            if len(requests) == 1:
                return [error]
            # One of them is at fault: nothing was done, and the others must not suffer for it.
            return [(await self._answers([request]))[0] for request in requests]
        except FlyteError as error:
            return [type(error)(error.message) for _ in requests]
        # The error goes to the callers, and the batches go on.
        except Exception as error:  # noqa: BLE001
            return [error for _ in requests]
