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
"""The number of concurrent batches, each with another key."""

GATHERING = 0.003
"""The maximum number of seconds for which a batch waits to become as large as the usual ones."""

GLANCE = 0.001
"""The seconds in which another request must arrive for a batch to wait longer."""

FEW = 2
"""The maximum usual size of batches that begin without waiting."""

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
        self._usual_size = 0
        self._under_way: set[Hashable] = set()
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
        if len(self._under_way) < CONCURRENT_BATCHES and batch_key not in self._under_way:
            self._under_way.add(batch_key)
            task = asyncio.ensure_future(self._run(batch_key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return waiting.future

    async def stop(self) -> None:
        """Return when all requests are carried out."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, batch_key: Hashable) -> None:
        """Process the batches of a key, and of others whose turn has come meanwhile."""
        while batch_key is not NO_KEY:
            try:
                await self._gather(batch_key)
                part = self._next(batch_key)
                answers = await self._answers([each.request for each in part])
            finally:
                self._under_way.remove(batch_key)
            for each, answer in zip(part, answers, strict=True):
                if each.future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    each.future.set_exception(answer)
                else:
                    each.future.set_result(answer)
            batch_key = self._begin_next()

    def _begin_next(self) -> Hashable:
        """Reserve and return the first key without a batch under way, `NO_KEY` if none waits."""
        for batch_key in self._waiting:
            if batch_key not in self._under_way:
                self._under_way.add(batch_key)
                return batch_key
        return NO_KEY

    async def _gather(self, batch_key: Hashable) -> None:
        """Wait while requests arrive, until there are as many as usual.

        Callers that were answered together come back one after the other: without waiting, the
        first of them would get a batch of its own, and delay all others by it.
        """
        if self._usual_size <= FEW:
            return
        waiting, before = self._waiting[batch_key], 0
        until = asyncio.get_running_loop().time() + GATHERING
        while before < len(waiting) < self._usual_size:
            if asyncio.get_running_loop().time() >= until:
                break
            before = len(waiting)
            await asyncio.sleep(GLANCE)

    def _next(self, batch_key: Hashable) -> "Sequence[PendingRequest[Q, A]]":
        """Remove and return the next batch of a key, in order; the rest queues up behind others."""
        waiting = self._waiting.pop(batch_key)
        part = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
        if waiting:
            self._waiting[batch_key] = waiting
        self._count -= len(part)
        self._usual_size = max(len(part), self._usual_size // 2)
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
