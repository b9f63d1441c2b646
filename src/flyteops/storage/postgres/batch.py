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
"""The number of concurrent batches."""

CONCURRENT_OF_KEY = 2
"""The number of those with one key.

The second one begins when it is as large as the first: while the database writes one to the disk,
it executes the other, and still a batch that waits becomes larger, which costs less than two.
"""


NO_KEY = object()


class PendingRequest(NamedTuple, Generic[Q, A]):
    """A request that waits for its answer."""

    request: Q
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
        self._waiting: dict[Hashable, deque[PendingRequest[Q, A]]] = {}
        self._count = 0
        self._under_way: dict[Hashable, list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, request: Q) -> "asyncio.Future[A]":
        """Return the answer, when it is there.

        The request is carried out even if the answer is cancelled.
        """
        rules.require_capacity(self._count, self._limit)
        try:
            batch_key = self._batch_key(request)
        except UnicodeError as error:
            raise InputError(f"The store cannot look for that: {error}.") from error
        waiting: PendingRequest[Q, A] = PendingRequest(
            request, asyncio.get_running_loop().create_future()
        )
        self._waiting.setdefault(batch_key, deque()).append(waiting)
        self._count += 1
        if len(self._tasks) < CONCURRENT_BATCHES and self._is_ready(batch_key):
            task = asyncio.ensure_future(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return waiting.future

    def _is_ready(self, batch_key: Hashable) -> bool:
        """Return whether the next batch of a key may begin."""
        sizes = self._under_way.get(batch_key, ())
        return not sizes or (
            len(sizes) < CONCURRENT_OF_KEY and len(self._waiting[batch_key]) >= min(sizes)
        )

    async def stop(self) -> None:
        """Return when all requests are carried out."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while (batch_key := self._ready_key()) is not NO_KEY:
            part = self._next(batch_key)
            sizes = self._under_way.setdefault(batch_key, [])
            sizes.append(len(part))
            try:
                answers = await self._answers([each.request for each in part])
            finally:
                sizes.remove(len(part))
                if not sizes:
                    del self._under_way[batch_key]
            for each, answer in zip(part, answers, strict=True):
                if each.future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    each.future.set_exception(answer)
                else:
                    each.future.set_result(answer)

    def _ready_key(self) -> Hashable:
        """Return the first key of which a batch may begin, `NO_KEY` if there is none."""
        return next((key for key in self._waiting if self._is_ready(key)), NO_KEY)

    def _next(self, batch_key: Hashable) -> "Sequence[PendingRequest[Q, A]]":
        """Remove and return the next batch of a key, in order; the rest queues up behind others."""
        waiting = self._waiting.pop(batch_key)
        part = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
        if waiting:
            self._waiting[batch_key] = waiting
        self._count -= len(part)
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
