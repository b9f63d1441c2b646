"""Batching of concurrent requests: one statement, and one commit, for many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from flyteops.errors import BusyError, ConflictError, FlyteError, InputError

Q = TypeVar("Q")
A = TypeVar("A")

MOST = 100
"""The maximum size of a batch."""

AT_ONCE = 2
"""The number of concurrent batches: while the database runs one, the next is prepared."""


class Waiting(NamedTuple, Generic[Q, A]):
    """A request that waits for its answer."""

    question: Q
    kind: Hashable
    answer: "asyncio.Future[A]"


class Batcher(Generic[Q, A]):
    """Answers requests, several of one `kind` together when they arrive faster than answered.

    `work` answers them all in order, with an exception for a request that has no answer; an
    exception that it raises holds for all. `limit` bounds the number of waiting requests.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        limit: int,
        kind: Callable[[Q], Hashable] = lambda _: None,
    ) -> None:
        self._work = work
        self._limit = limit
        self._kind = kind
        self._waiting: deque[Waiting[Q, A]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """Return the answer, or raise it if it is an exception."""
        if len(self._waiting) >= self._limit:
            raise BusyError
        try:
            kind = self._kind(question)
        except UnicodeError as error:
            raise InputError(f"The store cannot look for that: {error}.") from error
        waiting: Waiting[Q, A] = Waiting(question, kind, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._tasks) < AT_ONCE:
            task = asyncio.ensure_future(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _run(self) -> None:
        while self._waiting:
            part = self._next()
            answers = await self._answers([each.question for each in part])
            for each, answer in zip(part, answers, strict=True):
                if each.answer.cancelled():
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)

    def _next(self) -> "Sequence[Waiting[Q, A]]":
        """Remove and return the next batch: the requests of the first one's kind, in order."""
        kind = self._waiting[0].kind
        part: list[Waiting[Q, A]] = []
        others: list[Waiting[Q, A]] = []
        while self._waiting and len(part) < MOST:
            each = self._waiting.popleft()
            (part if each.kind == kind else others).append(each)
        self._waiting.extendleft(reversed(others))
        return part

    async def _answers(self, questions: Sequence[Q]) -> Sequence[A | Exception]:
        try:
            return await self._work(questions)
        except (ConflictError, InputError) as error:
            if len(questions) == 1:
                return [error]
            # One of them is at fault: nothing was done, and the others must not suffer for it.
            return [(await self._answers([question]))[0] for question in questions]
        except FlyteError as error:
            return [type(error)(error.message) for _ in questions]
        except Exception as error:  # the error goes to the callers, and the batches go on
            return [error for _ in questions]
